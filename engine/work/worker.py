"""A worker: the process that serves a lane of the queue. It loads torch once and executes one run after another.

A run's cancel flag is polled by its own progress; a worker whose run ignores it for five seconds replaces itself. A
worker dies with its server, and what it was running becomes interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

from fovea.engine.run.machine import resolve_device
from fovea.engine.store import Store
from fovea.engine.store.lock import Lock
from fovea.engine.work.cards import pending_cards, read_card, time_forward
from fovea.engine.work.first_runs import BUNDLED
from fovea.engine.work.lanes import Lane
from fovea.engine.work.queue import Queue, consumer, enqueue, waiting
from fovea.engine.work.runs import EXECUTING, enqueue_run
from fovea.engine.work.threads import in_thread
from fovea.models.home import home, write_whole

CANCEL_SECONDS = 5.0
"""How long a cancelled run may go on before its process is replaced."""

FEW_CORES = 4
"""With no more than these, the long lane's worker gives way to everything else."""


def work(lane: Lane, supervised: bool = False) -> None:
    """Be a worker of a lane until told to stop; returns only through the end of the process.

    `supervised`: the server holds our standard input; when it closes, or our parent changes, we exit.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else lambda *_: stop.set())
    if supervised:
        in_thread(_exit_with_server, os.getppid())
    lock = Lock(home() / "workers" / f"{lane}.lock")
    while not lock.acquire():  # another server on this home has its worker; stand by
        if stop.wait(1.0):
            return
    in_thread(_heartbeat, lane)
    in_thread(_watch_cancels)
    if lane == "long" and (os.cpu_count() or 1) <= FEW_CORES:
        os.nice(10)
    if lane == "interactive":
        warm_up()
    queues: tuple[Queue, ...] = ("long", "cards") if lane == "long" else ("interactive",)
    consumers = [consumer(queue) for queue in queues]
    take_over(lane)
    for each in consumers:
        each.start()
    stop.wait()
    os._exit(0)  # a run that is going on is marked interrupted by whoever looks next


def take_over(lane: Lane) -> None:
    """Close what a dead worker left running, and queue again what it had taken without starting."""
    store = Store()
    store.sweep()
    queued = {arguments[0] for arguments in waiting(lane) if arguments}
    for row in reversed(store.list(status="queued", limit=1000)):
        if row.lane == lane and row.id not in queued:
            enqueue_run(row, lane)
    if lane == "long":
        asked = {arguments[0] for arguments in waiting("cards")}
        for name in pending_cards():
            if name not in asked:
                enqueue("cards", read_card, name)


def warm_up() -> None:
    """Import torch, load and export the bundled network, so that the first run starts at once."""
    with contextlib.suppress(Exception):
        resolve_device("auto")
    with contextlib.suppress(Exception):
        from fovea.models.zoo import load

        network = load(BUNDLED)
        time_forward(network)
        network.graph()


def _heartbeat(lane: Lane) -> None:
    """Say every other second that this worker lives; `doctor` and the server read it."""
    path = home() / "workers" / f"{lane}.json"
    started = time.time()
    while True:
        with contextlib.suppress(OSError):
            state = {"pid": os.getpid(), "lane": lane, "started": started, "at": time.time(), "runs": sorted(EXECUTING)}
            write_whole(path, json.dumps(state).encode("utf-8"))
        time.sleep(2.0)


def _watch_cancels() -> None:
    """Replace this process when its run has ignored a cancel for too long; its run is closed as cancelled."""
    live_runs = Store().live_runs
    while True:
        for run_id in list(EXECUTING):
            if live_runs.seconds_since_cancel(run_id) > CANCEL_SECONDS:
                sys.stdout.flush()
                with contextlib.suppress(OSError):
                    os.execv(sys.executable, sys.orig_argv)
        time.sleep(0.25)


def _exit_with_server(parent: int) -> None:
    """End this process when the server's end of our standard input closes, or it is no longer our parent."""
    in_thread(_exit_at_end_of_input)
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _exit_at_end_of_input() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(0)
