"""Runs that are submitted: queued once, refused when wrong, computed at once in immediate mode."""

from __future__ import annotations

import pytest

from fovea.engine.errors import OptionsError, UnknownNameError
from fovea.engine.store import Store
from fovea.engine.work import supervise
from fovea.engine.work.runs import repeat, submit
from tests.engine import fakes
from tests.engine.fakes import status, wait_for


def test_one_click_too_many_queues_nothing_twice(store: Store) -> None:
    assert submit(fakes.request()) == submit(fakes.request())
    assert store.count() == 1


def test_a_wrong_request_is_not_queued(store: Store) -> None:
    with pytest.raises(OptionsError):
        submit(fakes.request(options={"steps": 0}))
    with pytest.raises(UnknownNameError):
        submit(fakes.request("coutn"))
    assert store.count() == 0


def test_immediate_mode_needs_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    supervise.start_workers()
    assert supervise._workers is None
    run_id = submit(fakes.request())
    assert store.row(run_id).status == "done"
    failed = submit(fakes.request("crash"))
    assert store.row(failed).status == "failed"
    repeated = repeat(run_id)
    assert repeated != run_id
    assert store.row(repeated).status == "done"


def test_a_threads_run_can_be_watched_in_immediate_mode(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "thread")
    run_id = submit(fakes.request(options={"steps": 1000, "wait": 0.05}))
    wait_for(lambda: status(store, run_id) == "running", "the thread")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")
