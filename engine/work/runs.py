"""Runs that go through the queue: submitted by the server, executed by a worker."""

from __future__ import annotations

import contextlib

from fovea.engine.errors import Cancelled, StoreError
from fovea.engine.run.record import Request, RunRecord
from fovea.engine.run.resolve import new_record, portable, quick_plan, resolve
from fovea.engine.store import Store
from fovea.engine.store.index import RunRow
from fovea.engine.work.lanes import Lane, lane_of
from fovea.engine.work.queue import BACKGROUND, USER, enqueue

EXECUTING: set[str] = set()
"""The ids of the runs that this process executes now, for the watch on cancels that are ignored."""


def submit(request: Request, *, fresh: bool = False, lane: Lane | None = None, owner: str = "") -> str:
    """Queue a run and return its id at once; the id of a finished or waiting twin, unless `fresh`.

    `owner`: who asks, where visitors log in; the owners in a lane take turns.

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
    record = new_record(portable(resolved), lane, fingerprint)
    record = record.model_copy(update={"owner": owner, "turn": next_turn(store.turns(lane), owner)})
    run_id = store.submit(record)
    enqueue_run(record, lane, fresh)
    return run_id


def next_turn(waiting: list[tuple[str, int]], owner: str) -> int:
    """The turn of an owner's next run, from the owners and turns of those that wait: one after their last, or the first
    that is going on. So somebody who queued a hundred runs does not keep one who asks for a single run waiting."""
    own = [turn for other, turn in waiting if other == owner]
    return max(own) + 1 if own else min((turn for _, turn in waiting), default=0)


def enqueue_run(run: RunRecord | RunRow, lane: Lane, fresh: bool = False) -> None:
    """Put a recorded run into its lane at its turn. Raises StoreError."""
    enqueue(lane, execute_queued, run.id, fresh, priority=max(USER - run.turn, BACKGROUND + 1))


def repeat(run_id: str, owner: str = "") -> str:
    """Queue a run again as its record tells it: a finished one is computed anew, an interrupted one goes on."""
    record = Store().run(run_id).record
    return submit(record.request(), fresh=record.status == "done", owner=owner)


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
