"""A worker that starts: what it takes over, and what it needs to be queued for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fovea.engine.store import Store
from fovea.engine.work import queue, worker
from fovea.engine.work.runs import submit
from tests.engine import fakes

ROOT = Path(__file__).resolve().parents[3]


def test_a_run_that_was_taken_but_never_started_is_queued_again(store: Store) -> None:
    run_id = submit(fakes.request())
    huey, _ = queue._huey(store.home, "interactive", False)
    huey.dequeue()  # a worker that died right here
    worker.take_over("interactive")
    assert queue.waiting("interactive") == [(run_id, False)]
    worker.take_over("interactive")
    assert len(queue.waiting("interactive")) == 1


def test_workers_want_no_torch_to_be_queued_for() -> None:
    code = (
        "import sys; from fovea.engine.work import runs, supervise, worker; "
        "assert not {'torch', 'onnxruntime', 'pandas', 'huey'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
