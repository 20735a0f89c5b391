"""The one function that executes a run. Pages, the command line and the worker all go through it.

The same request on the same machine is the same run: its fingerprint finds a finished one again instead of computing
it twice.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import Cancelled, FoveaError
from fovea.engine.method import Job, Result
from fovea.engine.progress import Progress, Tell
from fovea.engine.run.estimate import expect, in_words
from fovea.engine.run.machine import device_limit, versions
from fovea.engine.run.record import Request, RunRecord, Status, now, plain
from fovea.engine.run.resolve import Plan, finished_runs, full_plan, new_record, quick_plan, resolve
from fovea.engine.store import Store
from fovea.engine.store.live import LiveRun
from fovea.engine.store.lock import Lock

if TYPE_CHECKING:
    from fovea.models.card import Card
    from fovea.models.network import Network

RANDOM_WARNING = "random weights: the network is untrained, so nothing it shows was learned"

Listener = Callable[[float, str, NDArray[np.uint8] | None, Mapping[str, float] | None], None]
"""Told what `Job.progress` is told: fraction, message, preview, losses by term."""


def execute(
    request: Request,
    store: Store,
    run_id: str | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    announce: Callable[[str], None] | None = None,
) -> RunRecord:
    """Run a request in this process and save it; returns the record, whose status tells how it ended.

    A finished run of the same fingerprint is returned instead, unless `fresh`. `run_id` is the queued run
    that this is. Without one, a request that cannot start raises FoveaError and leaves nothing behind; where it
    goes over a data set, `announce` is told before it starts what it will take.
    """
    if run_id is not None:
        return _execute_queued(request, store, run_id, fresh, listener)
    resolved = resolve(request)
    quick = None if fresh else quick_plan(resolved, store)
    done = store.find_done(quick.fingerprint) if quick is not None else None
    if done is None:
        plan = full_plan(resolved, store, quick)
        done = None if fresh or plan is quick else store.find_done(plan.fingerprint)
    if done is not None:
        return store.run(done).record
    if announce is not None and plan.images:
        expected = expect(store, plan.method.name, request.network, plan.options, plan.images)
        announce(in_words(expected, plan.images))
    with store.begin(_planned(new_record(request), plan)) as live:
        return _run(plan, store, live, fresh, listener)


def _execute_queued(request: Request, store: Store, run_id: str, fresh: bool, listener: Listener | None) -> RunRecord:
    """The same for a run that was queued: its id leads to a finished twin, and whatever goes wrong is kept with it."""
    with store.begin(store.run(run_id).record) as live:
        try:
            plan = full_plan(resolve(request), store)
        except Exception as error:
            return _finish_failed(live, live.record, error)
        done = None if fresh else store.find_done(plan.fingerprint)
        if done is not None:
            store.alias(run_id, done)
            return store.run(done).record
        live.update(_planned(live.record, plan))
        return _run(plan, store, live, fresh, listener)


def _run(plan: Plan, store: Store, live: LiveRun, fresh: bool, listener: Listener | None) -> RunRecord:
    """Call the method under its live run and save however it ends."""
    from fovea.models.zoo import load

    started = time.monotonic()
    frame: NDArray[np.uint8] | None = None
    job: Job[Any] | None = None
    tell = _reporter(live, listener)
    try:
        tell(0.0, "loading the network")
        with _checkpoints(store, plan, fresh) as checkpoints:
            network = load(plan.request.network)
            job = _job(plan, network, checkpoints, Progress(tell), store)
            if job.photo is not None:
                if note := job.photo.info.get("note"):
                    job.warn(f"The photo was changed: {note}.")
                frame = job.frame
                live.save_photo(frame)
            if network.card != plan.card:  # its files have changed since the plan was made
                plan.method.verify(network.card, plan.options)
            _seed_torch(plan.request.seed)
            loaded = time.monotonic()
            result = plan.method.run(job)
            live.raise_if_cancelled()
            record = live.save(_done(live.record, job, result, started, loaded), result, frame)
        shutil.rmtree(_checkpoint_folder(store, plan), ignore_errors=True)
        return record
    except KeyboardInterrupt:
        live.finish(
            _ended(live.record, job, "interrupted", started), "the run was stopped by Ctrl-C: repeat it to go on"
        )
        raise
    except Cancelled:
        return live.finish(_ended(live.record, job, "cancelled", started))
    except Exception as error:
        limit = device_limit(plan.device, error)
        return _finish_failed(live, _ended(live.record, job, "failed", started), limit or error)


def _finish_failed(live: LiveRun, record: RunRecord, error: Exception) -> RunRecord:
    """Keep a failed run: a mistake of the user's is one line, anything else also leaves its traceback."""
    record = record.model_copy(update={"status": "failed", "finished": now()})
    if isinstance(error, FoveaError):
        return live.finish(record, str(error))
    line = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    if len(line) > 500:
        line = line[:499] + "…"
    return live.finish(record, line, "".join(traceback.format_exception(error)))


def _reporter(live: LiveRun, listener: Listener | None) -> Tell:
    """What a job's progress is told: keeps the live folder up to date, tells the listener, raises if cancelled."""

    def tell(
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        live.raise_if_cancelled()
        fraction = min(max(float(fraction), 0.0), 1.0)
        live.report(fraction, message, preview, curve)
        if listener is not None:
            listener(fraction, message, preview, curve)

    return tell


def _job(plan: Plan, network: Network, checkpoints: Path, progress: Progress, store: Store) -> Job[Any]:
    photo = next((read.reference for read in plan.inputs if read.name == "image"), None)
    return Job(
        network=network,
        options=plan.options,
        seed=plan.request.seed,
        device=plan.device,
        provider=plan.request.provider,
        photo=plan.opened.picture(photo) if photo else None,
        checkpoints=checkpoints,
        progress=progress,
        open_dataset=plan.opened.dataset,
        open_photo=plan.opened.picture,
        find_runs=lambda method: finished_runs(store, method, plan.network),
        warnings=_warnings(network.card),
    )


def _warnings(card: Card) -> list[str]:
    """What every run on this network says."""
    warnings = [RANDOM_WARNING] if card.random else []
    if card.varies:
        warnings.append(
            "The network answers differently each time, because it draws random numbers even in evaluation mode or "
            "keeps a state: with another seed this result is another one."
        )
    return warnings


def _planned(record: RunRecord, plan: Plan) -> RunRecord:
    """The record with all that the plan tells."""
    return record.model_copy(
        update={
            "method_version": plan.method.version,
            "network": plan.network,
            "inputs": list(plan.inputs),
            "options": plan.options.model_dump(mode="json"),
            "device": plan.device,
            "work": plan.work,
            "fingerprint": plan.fingerprint,
            "versions": versions(),
            "machine": platform.machine() + " " + platform.system(),
            "warnings": [RANDOM_WARNING] if plan.network.random else [],
            "started": now(),
        }
    )


def _ended(record: RunRecord, job: Job[Any] | None, status: Status, started: float) -> RunRecord:
    seconds = round(time.monotonic() - started, 3)
    update: dict[str, Any] = {"status": status, "finished": now(), "seconds": seconds}
    if job is not None:
        update |= {
            "warnings": list(job.warnings),
            "ran": dict(job.ran),
            "provider": job.ran.get("provider", ""),
            "precision": job.ran.get("precision", "fp32"),
        }
    return record.model_copy(update=update)


def _done(record: RunRecord, job: Job[Any], result: Result, started: float, loaded: float) -> RunRecord:
    update = {
        "summary": plain(result.summary),
        "panels": list(result.panels),
        "load_seconds": round(loaded - started, 3),
    }
    return _ended(record, job, "done", started).model_copy(update=update)


def _seed_torch(seed: int) -> None:
    """Methods seed their own generators; this catches what a network does by itself."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
    outputs = sys.modules.get("fovea.models.torch_output")
    if outputs is not None:
        outputs.seed_noise(seed)


def _checkpoint_folder(store: Store, plan: Plan) -> Path:
    return store.home / "checkpoints" / plan.fingerprint


@contextlib.contextmanager
def _checkpoints(store: Store, plan: Plan, fresh: bool) -> Iterator[Path]:
    """The folder that the same request finds again, emptied if `fresh`; a twin running now gets one of its own."""
    folder = _checkpoint_folder(store, plan)
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / ".lock")
    if lock.acquire():
        try:
            if fresh:
                for path in folder.iterdir():
                    if path.name != ".lock":
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield folder
        finally:
            lock.release()
    else:
        with tempfile.TemporaryDirectory(prefix="twin-", dir=folder.parent) as own:
            yield Path(own)
