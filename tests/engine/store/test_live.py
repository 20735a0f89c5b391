"""Unfinished runs: watched, counted, cancelled, and closed when their process dies."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.engine.errors import Cancelled, StoreError
from fovea.engine.method import Result
from fovea.engine.run.execute import execute
from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from tests.engine import fakes


def test_a_queued_run_is_cancelled_at_once(store: Store) -> None:
    run_id = store.submit(new_record(fakes.request(), "interactive"))
    live = store.live(run_id)
    assert live is not None
    assert (live.status, live.ahead) == ("queued", 0)
    store.cancel(run_id)
    assert store.live(run_id) is None
    assert store.run(run_id).record.status == "cancelled"
    with pytest.raises(Cancelled):
        execute(fakes.request(), store, run_id)


def test_the_queue_is_counted(store: Store) -> None:
    ids = [store.submit(new_record(fakes.request(seed=seed), "long")) for seed in range(3)]
    live = store.live(ids[2])
    assert live is not None
    assert live.ahead == 2


def test_progress_can_be_watched(store: Store) -> None:
    record = new_record(fakes.request())
    with store.begin(record) as live_run:
        live_run.started -= 30
        live_run.report(0.25, "loaded")
        live_run.started -= 10
        live_run.report(0.5, "half", np.zeros((9, 9, 3), np.uint8), {"loss": 2.0})
        live = Store().live(record.id)
        assert live is not None
        assert (live.fraction, live.message, live.curve) == (0.5, "half", [{"step": 0, "loss": 2.0}])
        assert live.preview is not None
        assert live.seconds_left == pytest.approx(2 * (live.seconds - 30), abs=0.5)
        assert store.artifact(record.id, "preview.png") == live.preview


def test_a_run_whose_process_died_is_interrupted(store: Store) -> None:
    record = new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    live.report(0.5, "half", np.zeros((9, 9, 3), np.uint8))
    assert store.sweep() == []
    live.lock.release()  # as the system does when a process dies
    assert store.live(record.id) is None
    run = store.run(record.id)
    assert (run.record.status, run.preview is not None) == ("interrupted", True)
    assert not list(store.live_runs.root.iterdir())


def test_a_run_that_died_while_cancelled_is_cancelled(store: Store) -> None:
    record = new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    store.cancel(record.id)
    live.lock.release()
    assert store.sweep() == [record.id]
    assert store.row(record.id).status == "cancelled"


def test_a_run_that_died_after_its_rename_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    with monkeypatch.context() as dying:
        dying.setattr(store.index, "put", lambda *_: None)
        live.save(record.model_copy(update={"status": "done"}), Result(), None)
    live.lock.release()
    store.sweep()
    assert store.row(record.id).status == "done"


def test_only_one_process_runs_a_run(store: Store) -> None:
    record = new_record(fakes.request())
    with store.begin(record), pytest.raises(StoreError, match="already running"), store.begin(record):
        pass
