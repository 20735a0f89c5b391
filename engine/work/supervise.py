"""The server's side of the workers: it starts a process for each lane, restarts those that die, and ends them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import fovea
from fovea.engine.errors import FoveaError
from fovea.engine.store import Store
from fovea.engine.work.first_runs import seed_library
from fovea.engine.work.lanes import LANES, Lane
from fovea.engine.work.queue import is_immediate
from fovea.engine.work.threads import in_thread
from fovea.engine.work.worker import CANCEL_SECONDS
from fovea.models.home import home

_WORK = "import sys; sys.path.append(sys.argv.pop(1)); from fovea.engine.cli.main import main; main()"
WORKER_COMMAND = (sys.executable, "-P", "-c", _WORK, str(Path(fovea.__file__).resolve().parents[1]), "worker")
"""`python -m fovea.engine worker`, for any working folder: the folder that holds our package comes last on the path,
behind everything installed, because in a checkout it also holds folders called `models`, `engine` and `pages`."""


class Workers:
    """The worker processes of a server: started, restarted when they die, ended with it."""

    def __init__(self, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._command = command
        self._processes: dict[Lane, subprocess.Popen[bytes]] = {}
        self._started: dict[Lane, float] = {}
        self._failures: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Close what a dead worker left, start one process a lane, and watch them from a thread."""
        Store().sweep()
        for lane in LANES:
            self._spawn(lane)
        self._thread = in_thread(self._watch)

    def stop(self) -> None:
        """End the processes; what they were running becomes interrupted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        for process in self._processes.values():
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        Store().sweep()

    def pids(self) -> dict[str, int]:
        """The process of each lane."""
        return {lane: process.pid for lane, process in self._processes.items()}

    def _spawn(self, lane: Lane) -> None:
        command = [*self._command, "--lane", lane, "--supervised"]
        environment = os.environ | {"FOVEA_HOME": str(home()), "ORT_DISABLE_TELEMETRY": "1"}
        with _log(lane) as log:
            self._processes[lane] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        self._started[lane] = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            for lane in LANES:
                process = self._processes[lane]
                if process.poll() is None:
                    self._kill_if_stuck(process, lane)
                    continue
                if time.monotonic() - self._started[lane] > 60:
                    self._failures[lane] = 0
                if time.monotonic() - self._started[lane] < min(2.0 ** self._failures[lane] - 1, 60):
                    continue  # it dies again and again: wait a little longer each time
                self._failures[lane] += 1
                if process.stdin is not None:
                    process.stdin.close()
                with contextlib.suppress(FoveaError):
                    Store().sweep()
                self._spawn(lane)

    def _kill_if_stuck(self, process: subprocess.Popen[bytes], lane: Lane) -> None:
        """A worker that cannot even replace itself (it holds the interpreter's lock) is killed."""
        with contextlib.suppress(OSError, ValueError, KeyError, FoveaError):
            state = json.loads((home() / "workers" / f"{lane}.json").read_text(encoding="utf-8"))
            for run_id in state["runs"] if state["pid"] == process.pid else []:
                if Store().live_runs.seconds_since_cancel(run_id) > CANCEL_SECONDS + 5:
                    process.kill()


def _log(lane: str) -> IO[bytes]:
    """The file that a worker's output goes to, started anew when it has grown."""
    path = home() / "workers" / f"{lane}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = path.exists() and path.stat().st_size < 1 << 20
    return open(path, "ab" if small else "wb")


_workers: Workers | None = None
_workers_lock = threading.Lock()


def start_workers() -> None:
    """Start this home's workers, for the server's lifespan, and queue the first-start runs once.

    Does nothing in immediate mode.
    """
    global _workers
    with _workers_lock:
        if _workers is None and not is_immediate():
            _workers = Workers()
            _workers.start()
            seed_library()


def stop_workers() -> None:
    """End what `start_workers` began."""
    global _workers
    with _workers_lock:
        if _workers is not None:
            _workers.stop()
            _workers = None
