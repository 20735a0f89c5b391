"""The workers as their server sees them: runs computed in other processes, which die, are cancelled, and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fovea.engine.store import Store
from fovea.engine.store.lock import Lock
from fovea.engine.work.runs import repeat, submit
from fovea.engine.work.supervise import WORKER_COMMAND, Workers
from tests.engine import fakes
from tests.engine.fakes import status, wait_for

COMMAND = (sys.executable, str(Path(fakes.__file__)))
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def workers(store: Store) -> Iterator[Workers]:
    running = Workers(COMMAND)
    running.start()
    yield running
    running.stop()


def test_runs_are_computed_elsewhere(store: Store, workers: Workers) -> None:
    short = submit(fakes.request(options={"steps": 3}))
    lengthy = submit(fakes.request("lengthy", options={"steps": 4}))
    assert (store.row(short).lane, store.row(lengthy).lane) == ("interactive", "long")
    for run_id in (short, lengthy):
        wait_for(lambda one=run_id: status(store, one) == "done", "both runs")
    assert store.run(short).record.summary["steps"] == 3
    assert submit(fakes.request(options={"steps": 3})) == short
    again = submit(fakes.request(options={"steps": 3}), fresh=True)
    assert again != short
    wait_for(lambda: status(store, again) == "done", "the fresh run")


def test_a_killed_worker_leaves_an_interrupted_run_that_goes_on(store: Store, workers: Workers) -> None:
    request = fakes.request(options={"steps": 60, "wait": 0.1})
    run_id = submit(request)

    def fraction() -> float:
        live = store.live(run_id)
        return live.fraction if live else 1.0

    wait_for(lambda: fraction() > 0.05, "a few steps")
    before = workers.pids()["interactive"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: status(store, run_id) == "interrupted", "the run to be marked")
    assert not (store.runs / run_id / "arrays.npz").exists()
    second = repeat(run_id)
    wait_for(lambda: status(store, second) == "done", "the second run")
    assert workers.pids()["interactive"] != before
    assert store.run(second).record.summary["begun"] > 0


def test_a_cancel_ends_a_run_that_listens(store: Store, workers: Workers) -> None:
    run_id = submit(fakes.request(options={"steps": 1000, "wait": 0.1}))
    wait_for(lambda: status(store, run_id) == "running", "the run to start")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")


def test_a_worker_whose_run_is_deaf_is_replaced(store: Store, workers: Workers) -> None:
    run_id = submit(fakes.request("deaf", options={"wait": 1000}))
    wait_for(lambda: status(store, run_id) == "running", "the run to start")
    store.cancel(run_id)
    wait_for(lambda: status(store, run_id) == "cancelled", "the cancel")
    after = submit(fakes.request())
    wait_for(lambda: status(store, after) == "done", "the next run")


def test_workers_end_with_their_server_and_what_waits_is_kept(store: Store) -> None:
    first = Workers(COMMAND)
    first.start()
    running = submit(fakes.request(options={"steps": 1000, "wait": 0.1}))
    waiting = submit(fakes.request(seed=2))
    wait_for(lambda: status(store, running) == "running", "the run to start")
    pids = first.pids().values()
    first.stop()
    assert (status(store, running), status(store, waiting)) == ("interrupted", "queued")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    second = Workers(COMMAND)
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
            "from fovea.engine.work.supervise import Workers\n"
            "workers = Workers(tuple(sys.argv[2:])); workers.start()\n"
            "time.sleep(1000)",
            str(ROOT),
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


def test_a_worker_starts_from_any_folder_and_shadows_nobodys_packages(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be started anywhere, also beside packages called as folders of ours are."""
    for name in ("models", "engine", "fovea"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run([*WORKER_COMMAND, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Serve a queue" in done.stdout
