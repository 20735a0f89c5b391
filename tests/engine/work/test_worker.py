"""The queue: runs computed in other processes, which die, are cancelled, and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fovea.engine.errors import OptionsError, UnknownNameError
from fovea.engine.store.store import Lock, Store
from fovea.engine.work import worker
from tests.engine import fakes

COMMAND = (sys.executable, str(Path(fakes.__file__)))
PATIENCE = 90.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Poll until it holds; a machine under load may take its time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    fakes.install(monkeypatch.setattr)
    monkeypatch.delenv("FOVEA_IMMEDIATE", raising=False)
    return Store()


@pytest.fixture
def workers(store: Store) -> Iterator[worker.Workers]:
    running = worker.Workers(COMMAND)
    running.start()
    yield running
    running.stop()


def status(store: Store, run_id: str) -> str:
    store.live(run_id)
    return store.row(run_id).status


def test_runs_are_computed_elsewhere(store: Store, workers: worker.Workers) -> None:
    short = worker.submit(fakes.request(options={"steps": 3}))
    lengthy = worker.submit(fakes.request("lengthy", options={"steps": 4}))
    assert (store.row(short).lane, store.row(lengthy).lane) == ("interactive", "long")
    for run_id in (short, lengthy):
        wait_for(lambda one=run_id: status(store, one) == "done", "both runs")
    assert store.run(short).record.summary["steps"] == 3
    assert worker.submit(fakes.request(options={"steps": 3})) == short
    again = worker.submit(fakes.request(options={"steps": 3}), fresh=True)
    assert again != short
    wait_for(lambda: status(store, again) == "done", "the fresh run")


def test_a_killed_worker_leaves_an_interrupted_run_that_goes_on(store: Store, workers: worker.Workers) -> None:
    request = fakes.request(options={"steps": 60, "wait": 0.1})
    run_id = worker.submit(request)

    def fraction() -> float:
        live = store.live(run_id)
        return live.fraction if live else 1.0

    wait_for(lambda: fraction() > 0.05, "a few steps")
    before = workers.pids()["interactive"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: status(store, run_id) == "interrupted", "the run to be marked")
    assert not (store.runs / run_id / "arrays.npz").exists()
    second = worker.repeat(run_id)
    wait_for(lambda: status(store, second) == "done", "the second run")
    assert workers.pids()["interactive"] != before
    assert store.run(second).record.summary["begun"] > 0


def test_a_cancel_ends_a_run_that_listens(store: Store, workers: worker.Workers) -> None:
    run_id = worker.submit(fakes.request(options={"steps": 1000, "wait": 0.1}))
    wait_for(lambda: status(store, run_id) == "running", "the run to start")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")


def test_a_worker_whose_run_is_deaf_is_replaced(store: Store, workers: worker.Workers) -> None:
    run_id = worker.submit(fakes.request("deaf", options={"wait": 1000}))
    wait_for(lambda: status(store, run_id) == "running", "the run to start")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")
    after = worker.submit(fakes.request())
    wait_for(lambda: status(store, after) == "done", "the next run")


def test_workers_end_with_their_server_and_what_waits_is_kept(store: Store) -> None:
    first = worker.Workers(COMMAND)
    first.start()
    running = worker.submit(fakes.request(options={"steps": 1000, "wait": 0.1}))
    waiting = worker.submit(fakes.request(seed=2))
    wait_for(lambda: status(store, running) == "running", "the run to start")
    pids = first.pids().values()
    first.stop()
    assert (status(store, running), status(store, waiting)) == ("interrupted", "queued")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    second = worker.Workers(COMMAND)
    second.start()
    try:
        wait_for(lambda: status(store, waiting) == "done", "the run that waited")
    finally:
        second.stop()


def test_a_killed_server_takes_its_workers_along(store: Store) -> None:
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; sys.path.insert(0, sys.argv[1])\n"
            "from fovea.engine.work import worker\n"
            "workers = worker.Workers(tuple(sys.argv[2:])); workers.start()\n"
            "time.sleep(1000)",
            str(Path(worker.__file__).parents[2]),
            *COMMAND,
        ]
    )
    lock = Lock(store.home / "workers" / "interactive.lock")
    try:
        wait_for(lock.held_elsewhere, "the worker")
    finally:
        server.kill()
        server.wait()
    wait_for(lambda: not lock.held_elsewhere(), "the worker's end")


def test_a_run_that_was_taken_but_never_started_is_queued_again(store: Store) -> None:
    run_id = worker.submit(fakes.request())
    queue = worker._queue(store.home, "interactive", False)
    queue.dequeue()  # a worker that died right here
    worker._take_over("interactive")
    assert [task.args[0] for task in queue.pending()] == [run_id]
    worker._take_over("interactive")
    assert len(queue.pending()) == 1


def test_one_click_too_many_queues_nothing_twice(store: Store) -> None:
    assert worker.submit(fakes.request()) == worker.submit(fakes.request())
    assert store.count() == 1


def test_a_wrong_request_is_not_queued(store: Store) -> None:
    with pytest.raises(OptionsError):
        worker.submit(fakes.request(options={"steps": 0}))
    with pytest.raises(UnknownNameError):
        worker.submit(fakes.request("coutn"))
    assert store.count() == 0


def test_immediate_mode_needs_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    worker.start_workers()
    assert worker._workers is None
    run_id = worker.submit(fakes.request())
    assert store.row(run_id).status == "done"
    failed = worker.submit(fakes.request("crash"))
    assert store.row(failed).status == "failed"
    repeated = worker.repeat(run_id)
    assert repeated != run_id
    assert store.row(repeated).status == "done"


def test_a_threads_run_can_be_watched_in_immediate_mode(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "thread")
    run_id = worker.submit(fakes.request(options={"steps": 1000, "wait": 0.05}))
    wait_for(lambda: status(store, run_id) == "running", "the thread")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")


def test_cards_are_read_by_the_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.models.zoo

    cards: dict[str, object] = {}

    def load(name: str) -> object:
        if name == "broken":
            raise OptionsError("it is broken: mend it")
        cards[name] = fakes.CARD
        return fakes.FakeNetwork()

    monkeypatch.setattr(fovea.models.zoo, "cached_card", cards.get)
    monkeypatch.setattr(fovea.models.zoo, "load", load)
    assert worker.card_status("new").state == "unknown"
    assert worker.request_card("new").state == "pending"
    assert worker.request_card("new").state == "pending"
    assert len(worker._queue(store.home, "cards", False).pending()) == 1
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    assert worker.request_card("newer").state == "ready"
    assert worker.request_card("broken") == worker.CardStatus("error", "it is broken: mend it")


def test_the_library_begins_with_one_run_of_each_method(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    worker.seed_library()
    rows = store.list()
    assert sorted(row.method for row in rows) == ["count", "deaf", "lengthy", "watch"]
    assert {row.status for row in rows} == {"done"}
    worker.seed_library()
    assert store.count() == 4


def test_first_runs_take_fewer_steps_where_they_would_take_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.engine.run.estimate

    monkeypatch.setattr(fovea.engine.run.estimate, "estimate_seconds", lambda *_: 600.0)
    options = fakes.CountOptions(steps=1000)
    assert worker._smaller(fakes.METHODS["count"], fakes.CARD, options) == fakes.CountOptions(steps=100)


def test_workers_want_no_torch_to_be_queued_for() -> None:
    code = (
        "import sys; from fovea.engine.work import worker; "
        "assert not {'torch', 'onnxruntime', 'pandas', 'huey'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(worker.__file__).parents[2])
