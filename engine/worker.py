"""The queue that computes runs outside the server: two lanes of worker processes, kept alive by the server.

The server queues and watches; a worker loads torch once and executes. A run's cancel flag is polled by its own
progress; a worker whose run ignores it for five seconds replaces itself. A worker dies with its server, and what
it was running becomes interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from fovea.engine import method as registry
from fovea.engine.errors import Cancelled, FoveaError, StoreError
from fovea.engine.method import Method
from fovea.engine.options import Options, declared
from fovea.engine.run import Request, execute, plan, portable, resolve_device, validate
from fovea.engine.store import Lock, Store
from fovea.models.home import home, write_whole

Lane = Literal["interactive", "long"]
LANES: tuple[Lane, ...] = ("interactive", "long")
CANCEL_SECONDS = 5.0
"""How long a cancelled run may go on before its process is replaced."""

LONG_SECONDS = 90.0
"""A run that is estimated to take longer goes into the long lane."""

SEED_SECONDS = 60.0
SEED_STEPS = 32
FEW_CORES = 4
BUNDLED = "fovea"
USER, BACKGROUND = 10, 0
"""Priorities in the queue: what somebody waits for, and first-start runs."""


@dataclass(frozen=True)
class CardStatus:
    """Whether a network's card can be read: "ready", "pending", "error" with its line, or "unknown" (not asked)."""

    state: Literal["ready", "pending", "error", "unknown"]
    error: str = ""


# Queueing --------------------------------------------------------------------------------------------------


def is_immediate() -> bool:
    """Whether work is done at once in this process, as tests of pages want it.

    FOVEA_IMMEDIATE=1: before `submit` returns; FOVEA_IMMEDIATE=thread: in a thread of its own.
    """
    return os.environ.get("FOVEA_IMMEDIATE", "") not in ("", "0")


def submit(request: Request, *, fresh: bool = False, lane: Lane | None = None) -> str:
    """Queue a run and return its id at once; the id of a finished or waiting twin, unless `fresh`.

    Raises FoveaError, one line, if the request can be seen to be wrong.
    """
    request = portable(request)
    method, options = validate(request)
    store = Store()
    planned = plan(request, quick=True)
    fingerprint = planned.fingerprint if planned is not None else ""
    if not fresh:
        twin = store.find_done(fingerprint) or store.find_unfinished(fingerprint)
        if twin is not None:
            return twin
    lane = lane or _lane(method, options, request.network)
    run_id = store.submit(request, lane, fingerprint)
    _enqueue(lane, "run", run_id, fresh)
    return run_id


def repeat(run_id: str) -> str:
    """Queue a run again as its record tells it: a finished one is computed anew, an interrupted one goes on."""
    record = Store().run(run_id).record
    return submit(record.request(), fresh=record.status == "done")


def request_card(name: str) -> CardStatus:
    """Have a worker read a network and cache its card; returns how it stands."""
    status = card_status(name)
    if status.state in ("ready", "pending"):
        return status
    with contextlib.suppress(FoveaError):
        _write_card_state(name, "pending")
        _enqueue("cards", "card", name)
    return card_status(name)


def card_status(name: str) -> CardStatus:
    """How a network's card stands, without loading anything."""
    from fovea.models.zoo import cached_card

    try:
        if cached_card(name) is not None:
            return CardStatus("ready")
    except FoveaError as error:
        return CardStatus("error", str(error))
    try:
        state = json.loads(_card_state(name).read_text(encoding="utf-8"))
        if state["state"] in ("pending", "error"):
            return CardStatus(state["state"], str(state["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return CardStatus("unknown")


def seed_library() -> None:
    """On the very first start, queue one run of each method on the bundled network, in the background."""
    if not (home() / "seeded").exists():
        (home() / "seeded").touch()
        _enqueue("long", "seed", priority=BACKGROUND)


def _lane(method: Method, options: Options, network: str) -> Lane:
    from fovea.engine.estimate import estimate_seconds

    if method.long:
        return "long"
    seconds = estimate_seconds(method.name, network, options)
    return "long" if seconds is not None and seconds > LONG_SECONDS else "interactive"


def _card_state(name: str) -> Path:
    return home() / "cards" / "state" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _write_card_state(name: str, state: str, error: str = "") -> None:
    path = _card_state(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"name": name, "state": state, "error": error}).encode("utf-8"))


# The queue ---------------------------------------------------------------------------------------------------


@functools.cache
def _queue(root: Path, lane: str, immediate: bool) -> Any:
    """The lane's huey with its tasks; `root` is the home. "cards" is a lane of its own in the interactive worker."""
    from huey import SqliteHuey

    huey = SqliteHuey(
        name=f"fovea-{lane}", filename=str(root / "queue.sqlite"), results=False, immediate=immediate, timeout=30
    )
    huey.task(name="run")(_run_task)
    huey.task(name="card")(_card_task)
    huey.task(name="seed")(_seed_task)
    huey.task(name="seed_method")(_seed_method_task)
    return huey


def _enqueue(lane: str, task: str, *arguments: Any, priority: int = USER) -> None:
    import sqlite3

    huey = _queue(home(), lane, is_immediate())
    kind = next(cls for name, cls in huey._registry._registry.items() if name.rpartition(".")[2] == task)
    if os.environ.get("FOVEA_IMMEDIATE") == "thread":
        _thread(huey.enqueue, kind(args=arguments, priority=priority))
        return
    try:
        huey.enqueue(kind(args=arguments, priority=priority))
    except sqlite3.Error as error:
        raise StoreError(f"the queue {home() / 'queue.sqlite'} cannot be used: {error}") from None


def _run_task(run_id: str, fresh: bool = False) -> None:
    """Execute a queued run; one that was cancelled or deleted meanwhile is skipped."""
    store = Store()
    with contextlib.suppress(StoreError, Cancelled):
        record = store.run(run_id).record
        if record.status == "queued":
            with _current(run_id):
                execute(record.request(), store, run_id, fresh=fresh)


def _card_task(name: str) -> None:
    """Load a network, which caches its card, and time one forward pass."""
    from fovea.models.zoo import load

    try:
        network = load(name)
        _write_card_state(name, "ready")
    except FoveaError as error:
        _write_card_state(name, "error", str(error))
        return
    except Exception as error:
        _write_card_state(name, "error", f"{name} cannot be loaded: {type(error).__name__}: {str(error)[:200]}")
        return
    with contextlib.suppress(Exception):
        _time_forward(network)


def _time_forward(network: Any) -> None:
    """Measure one forward pass of one picture, for estimates before anything has run."""
    import torch

    from fovea.engine.estimate import forward_times, remember_forward

    if network.name in forward_times() or not network.card.gradients:
        return
    device = resolve_device("auto")
    module = network.module(device)
    preprocessing = network.card.preprocessing
    picture = torch.zeros((1, preprocessing.channels, *preprocessing.size), device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            started = time.perf_counter()
            module(picture)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    remember_forward(network.name, min(seconds), network.card.parameters)


def _seed_task() -> None:
    """Queue one first run of each method; without the bundled network, leave it to the next start."""
    from fovea.models.zoo import load

    try:
        load(BUNDLED)
    except Exception:
        (home() / "seeded").unlink(missing_ok=True)
        return
    for name in registry.methods():
        _enqueue("long", "seed_method", name, priority=BACKGROUND)


def _seed_method_task(name: str) -> None:
    """Compute a method's first run with its defaults, made small; keep nothing that does not work."""
    from fovea.models.zoo import load

    store = Store()
    method = registry.methods()[name]
    if store.list(method=name, status="done", limit=1):
        return
    with contextlib.suppress(FoveaError):
        card = load(BUNDLED).card
        options = method.options.parse({})
        method.verify(card, options)
        small = _smaller(method, card, options)
        image = _seed_photo() if method.takes_photo else None
        request = Request(method=name, network=BUNDLED, image=image, options=small.model_dump(exclude_unset=True))
        validate(request)
        run_id = store.submit(request, "long")
        with _current(run_id):
            record = execute(request, store, run_id)
        if record.status == "failed":
            store.delete(record.id)


def _seed_photo() -> str:
    from fovea.engine.data.samples import SAMPLES

    return f"sample:{'motorcycle' if 'motorcycle' in SAMPLES else next(iter(SAMPLES))}"


def _smaller(method: Method, card: Any, options: Options) -> Options:
    """The same options with fewer steps, if the method would take long; only options counted in steps change."""
    from fovea.engine.estimate import estimate_seconds

    seconds = estimate_seconds(method.name, BUNDLED, options)
    if seconds is None or seconds <= SEED_SECONDS:
        return options
    changed = {}
    for name, info in method.options.model_fields.items():
        value = getattr(options, name)
        if declared(info).unit == "steps" and isinstance(value, int) and value > SEED_STEPS:
            changed[name] = max(int(value * SEED_SECONDS / seconds), SEED_STEPS)
    fewer: Options = method.options.parse(changed)
    return fewer


# A worker process --------------------------------------------------------------------------------------------

_running: set[str] = set()


@contextlib.contextmanager
def _current(run_id: str) -> Iterator[None]:
    """Note what this process runs, for the watch on ignored cancels."""
    _running.add(run_id)
    try:
        yield
    finally:
        _running.discard(run_id)


def work(lane: Lane, supervised: bool = False) -> None:
    """Be a worker of a lane until told to stop; returns only through the end of the process.

    `supervised`: the server holds our standard input; when it closes, or our parent changes, we exit.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else lambda *_: stop.set())
    if supervised:
        _thread(_exit_with_server, os.getppid())
    lock = Lock(home() / "workers" / f"{lane}.lock")
    while not lock.acquire():  # another server on this home has its worker; stand by
        if stop.wait(1.0):
            return
    _thread(_heartbeat, lane)
    _thread(_watch_cancels)
    if lane == "long" and (os.cpu_count() or 1) <= FEW_CORES:
        os.nice(10)
    if lane == "interactive":
        _warm_up()
    consumers = [_consumer(queue) for queue in (("interactive", "cards") if lane == "interactive" else ("long",))]
    _take_over(lane)
    for consumer in consumers:
        consumer.start()
    stop.wait()
    os._exit(0)  # a run that is going on is marked interrupted by whoever looks next


def _consumer(lane: str) -> Any:
    from huey.consumer import Consumer

    class QuietConsumer(Consumer):  # type: ignore[misc]
        """The process's own signals stay: a worker has two consumers and one way to stop."""

        def _set_signal_handlers(self) -> None:
            return

    huey = _queue(home(), lane, False)
    return QuietConsumer(huey, workers=1, periodic=False, initial_delay=0.05, max_delay=0.1, backoff=1)


def _take_over(lane: Lane) -> None:
    """Close what a dead worker left running, and queue again what it had taken without starting."""
    store = Store()
    store.sweep()
    waiting = {task.args[0] for task in _queue(home(), lane, False).pending() if task.args}
    for row in reversed(store.list(status="queued", limit=1000)):
        if row.lane == lane and row.id not in waiting:
            _enqueue(lane, "run", row.id, False)
    if lane == "interactive":
        asked = {task.args[0] for task in _queue(home(), "cards", False).pending() if task.args}
        for path in (home() / "cards" / "state").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                state = json.loads(path.read_text(encoding="utf-8"))
                if state["state"] == "pending" and state["name"] not in asked:
                    _enqueue("cards", "card", state["name"])


def _warm_up() -> None:
    """Import torch, load and export the bundled network, so that the first run starts at once."""
    with contextlib.suppress(Exception):
        resolve_device("auto")
    with contextlib.suppress(Exception):
        from fovea.models.zoo import load

        network = load(BUNDLED)
        _time_forward(network)
        network.graph()


def _thread(target: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, daemon=True, name=target.__name__).start()


def _heartbeat(lane: Lane) -> None:
    """Say every other second that this worker lives; `doctor` and the server read it."""
    path = home() / "workers" / f"{lane}.json"
    started = time.time()
    while True:
        with contextlib.suppress(OSError):
            state = {"pid": os.getpid(), "lane": lane, "started": started, "at": time.time(), "runs": sorted(_running)}
            write_whole(path, json.dumps(state).encode("utf-8"))
        time.sleep(2.0)


def _watch_cancels() -> None:
    """Replace this process when its run has ignored a cancel for too long; its run is closed as cancelled."""
    live = Store().live_root
    while True:
        for run_id in list(_running):
            with contextlib.suppress(OSError):
                if time.time() - (live / run_id / "cancel").stat().st_mtime > CANCEL_SECONDS:
                    sys.stdout.flush()
                    os.execv(sys.executable, sys.orig_argv)
        time.sleep(0.25)


def _exit_with_server(parent: int) -> None:
    """End this process when the server's end of our standard input closes, or it is no longer our parent."""
    _thread(_exit_at_end_of_input)
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _exit_at_end_of_input() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(0)


# The server's side -------------------------------------------------------------------------------------------


class Workers:
    """The worker processes of a server: started, restarted when they die, ended with it."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "fovea.engine", "worker")) -> None:
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
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch workers")
        self._thread.start()

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
        root = Path(__file__).resolve().parents[1]
        with _log(lane) as log:
            self._processes[lane] = subprocess.Popen(
                command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
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
                flag = Store().live_root / run_id / "cancel"
                if flag.exists() and time.time() - flag.stat().st_mtime > CANCEL_SECONDS + 5:
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
