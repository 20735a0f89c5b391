"""Estimates: measured runs first, then a timed forward pass, then other networks' scaled."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import estimate
from engine.run import NetworkRef
from engine.store import Store
from tests.engine import fakes


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    fakes.install(monkeypatch.setattr)
    return Store()


def finished(store: Store, method: str, network: str, seconds: float, load: float, work: float) -> None:
    record = store.new_record(fakes.request(method)).model_copy(
        update={
            "status": "done",
            "network": NetworkRef(name=network),
            "seconds": seconds,
            "load_seconds": load,
            "work": work,
        }
    )
    store._index(record)


def test_nothing_known_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import models.zoo

    assert estimate.estimate_seconds("count", "fake", {}) is None
    monkeypatch.setattr(models.zoo, "cached_card", lambda name: None)
    estimate.remember_forward("other", 1.0, 10)
    assert estimate.estimate_seconds("count", "fake", {}) is None


def test_the_median_of_measured_runs_counts_first(store: Store) -> None:
    estimate.remember_forward("fake", 100.0, 10)
    finished(store, "lengthy", "fake", 90.0, 0.0, 1.0)  # too short to tell anything of other methods
    finished(store, "lengthy", "fake", 5000.0, 0.0, 100.0)
    assert estimate.estimate_seconds("count", "fake", {"steps": 7}) == pytest.approx(7 * 50.0)
    for seconds in (11.0, 21.0, 1001.0):
        finished(store, "count", "fake", seconds, 1.0, 10.0)
    assert estimate.estimate_seconds("count", "fake", {"steps": 7}) == pytest.approx(7 * 2.0)
    assert estimate.estimate_seconds("count", "fake", fakes.CountOptions(steps=70)) == pytest.approx(70 * 2.0)


def test_a_forward_pass_is_scaled_by_parameters(store: Store) -> None:
    estimate.remember_forward("other", 2.0, 40)
    assert estimate.estimate_seconds("count", "fake", {"steps": 6}) == pytest.approx(6 * 2.0 / 40 * 10)
    estimate.remember_forward("fake", 0.5, 10)
    assert estimate.estimate_seconds("count", "fake", {"steps": 6}) == pytest.approx(6 * 0.5)
    assert estimate.forward_times() == {"other": (2.0, 40), "fake": (0.5, 10)}


def test_options_that_do_not_parse_have_no_estimate(store: Store) -> None:
    estimate.remember_forward("fake", 0.5, 10)
    assert estimate.estimate_seconds("count", "fake", {"steps": 0}) is None


def test_a_damaged_file_is_no_knowledge(store: Store) -> None:
    (store.home / "forward.json").write_text("[1]")
    assert estimate.forward_times() == {}
