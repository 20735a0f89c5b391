"""A worker that starts: what it takes over, and what it needs to be queued for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fovea.engine.store import Store
from fovea.engine.work import cards, queue, worker
from fovea.engine.work.lanes import LANES
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


def test_cards_are_read_in_the_long_lane(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a large network takes seconds and all cores, and whoever classifies beside it must not wait for it."""
    served: dict[str, list[str]] = {}
    for lane in LANES:
        taken = served[lane] = []
        consumer = type("Consumer", (), {"start": lambda self: None})

        def noted(name: str, taken: list[str] = taken, consumer: type = consumer) -> object:
            taken.append(name)
            return consumer()

        monkeypatch.setattr(worker, "consumer", noted)
        monkeypatch.setattr(worker, "in_thread", lambda *_: None)
        monkeypatch.setattr(worker, "warm_up", lambda: None)
        monkeypatch.setattr(worker.os, "nice", lambda _: 0)
        monkeypatch.setattr(worker.threading.Event, "wait", lambda *_: True)
        monkeypatch.setattr(worker.os, "_exit", lambda _: None)
        monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
        worker.work(lane)
    assert served == {"interactive": ["interactive"], "long": ["long", "cards"]}


def test_a_card_that_was_asked_for_is_read_after_a_restart(own_home: Path) -> None:
    store = Store()
    cards.request_card("torchvision:vit_h_14")
    huey, _ = queue._huey(store.home, "cards", False)
    huey.dequeue()
    worker.take_over("interactive")
    assert queue.waiting("cards") == []
    worker.take_over("long")
    assert queue.waiting("cards") == [("torchvision:vit_h_14",)]


def test_workers_want_no_torch_to_be_queued_for() -> None:
    code = (
        "import sys; from fovea.engine.work import runs, supervise, worker; "
        "assert not {'torch', 'onnxruntime', 'pandas', 'huey'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
