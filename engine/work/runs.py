"""Runs that go through the queue: submitted by the server, executed by a worker."""

from __future__ import annotations

import contextlib

from fovea.engine.errors import Cancelled, StoreError
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import new_record, portable, quick_plan, resolve
from fovea.engine.store import Store
from fovea.engine.work.lanes import Lane, lane_of
from fovea.engine.work.queue import enqueue

EXECUTING: set[str] = set()
"""The ids of the runs that this process executes now, for the watch on cancels that are ignored."""


def submit(request: Request, *, fresh: bool = False, lane: Lane | None = None) -> str:
    """Queue a run and return its id at once; the id of a finished or waiting twin, unless `fresh`.

    Raises FoveaError, one line, if the request can be seen to be wrong.
    """
    store = Store()
    resolved = resolve(request)
    plan = quick_plan(resolved, store)
    fingerprint = plan.fingerprint if plan is not None else ""
    if not fresh:
        twin = store.find_done(fingerprint) or store.find_unfinished(fingerprint)
        if twin is not None:
            return twin
    lane = lane or lane_of(resolved, store)
    run_id = store.submit(new_record(portable(resolved), lane, fingerprint))
    enqueue(lane, execute_queued, run_id, fresh)
    return run_id


def repeat(run_id: str) -> str:
    """Queue a run again as its record tells it: a finished one is computed anew, an interrupted one goes on."""
    record = Store().run(run_id).record
    return submit(record.request(), fresh=record.status == "done")


def execute_queued(run_id: str, fresh: bool = False) -> None:
    """Execute a queued run; one that was cancelled or deleted meanwhile is skipped."""
    from fovea.engine.run.execute import execute

    store = Store()
    with contextlib.suppress(StoreError, Cancelled):
        record = store.run(run_id).record
        if record.status == "queued":
            EXECUTING.add(run_id)
            try:
                execute(record.request(), store, run_id, fresh=fresh)
            finally:
                EXECUTING.discard(run_id)
