"""Estimates: measured runs first, then a timed forward pass, then other networks' scaled."""

from __future__ import annotations

from pathlib import Path

import pytest

from fovea.engine.run import estimate
from fovea.engine.run.record import NetworkRef
from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from tests.engine import fakes


def finished(store: Store, method: str, network: str, seconds: float, load: float, work: float) -> None:
    record = new_record(fakes.request(method)).model_copy(
        update={
            "status": "done",
            "network": NetworkRef(name=network),
            "seconds": seconds,
            "load_seconds": load,
            "work": work,
        }
    )
    store.index.put(record)


def test_nothing_known_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.models.zoo

    assert estimate.estimate_seconds(store, "count", "fake", {}) is None
    monkeypatch.setattr(fovea.models.zoo, "cached_card", lambda name: None)
    estimate.remember_forward("other", 1.0, 10)
    assert estimate.estimate_seconds(store, "count", "fake", {}) is None


def test_the_median_of_measured_runs_counts_first(store: Store) -> None:
    estimate.remember_forward("fake", 100.0, 10)
    finished(store, "lengthy", "fake", 90.0, 0.0, 1.0)  # too short to tell anything of other methods
    finished(store, "lengthy", "fake", 5000.0, 0.0, 100.0)
    assert estimate.estimate_seconds(store, "count", "fake", {"steps": 7}) == pytest.approx(7 * 50.0)
    for seconds in (11.0, 21.0, 1001.0):
        finished(store, "count", "fake", seconds, 1.0, 10.0)
    assert estimate.estimate_seconds(store, "count", "fake", {"steps": 7}) == pytest.approx(7 * 2.0)
    assert estimate.estimate_seconds(store, "count", "fake", fakes.CountOptions(steps=70)) == pytest.approx(70 * 2.0)


def test_a_forward_pass_is_scaled_by_parameters(store: Store) -> None:
    estimate.remember_forward("other", 2.0, 40)
    assert estimate.estimate_seconds(store, "count", "fake", {"steps": 6}) == pytest.approx(6 * 2.0 / 40 * 10)
    estimate.remember_forward("fake", 0.5, 10)
    assert estimate.estimate_seconds(store, "count", "fake", {"steps": 6}) == pytest.approx(6 * 0.5)
    assert estimate.forward_times() == {"other": (2.0, 40), "fake": (0.5, 10)}


def test_options_that_do_not_parse_have_no_estimate(store: Store) -> None:
    estimate.remember_forward("fake", 0.5, 10)
    assert estimate.estimate_seconds(store, "count", "fake", {"steps": 0}) is None


def test_a_damaged_file_is_no_knowledge(store: Store) -> None:
    (store.home / "forward.json").write_text("[1]")
    assert estimate.forward_times() == {}


def test_memory_and_files_are_told_where_the_method_knows_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told = estimate.expect(store, "count", "fake", {})
    assert told == (None, None, None)
    assert (
        estimate.in_words(told, 5) == "This is the first run here over 5 images, so its time cannot be estimated yet."
    )
    assert estimate.in_words(estimate.Expected(0.25, None, None)) == "It takes about 0.2 s."
    large = estimate.Expected(8000.0, 1_240_000_000, 90_400_000)
    assert (
        estimate.in_words(large, 10**6)
        == "It takes about 2 h 13 min over 1,000,000 images, 1.2 GB of memory and 90 MB of files."
    )
    assert [estimate.amount(count) for count in (10, 2_000, 999_000_000)] == ["1 KB", "2 KB", "1.0 GB"]


def test_mining_a_million_images_takes_little_more_memory_than_mining_thousands(own_home: Path) -> None:
    from fovea.engine.look.patches import METHOD
    from fovea.models.zoo import load

    card = load("torchvision:squeezenet1_1@random").card
    options = METHOD.options.parse({"layers": "features.4,features.7,features.12"})
    assert METHOD.needs is not None
    few, many, million = (METHOD.needs(card, options, count) for count in (200, 10_000, 10**6))
    assert 500e6 < few.memory < many.memory < 1.3e9
    assert million.memory < many.memory + 310e6
    assert few.files == many.files == million.files
    fewer = METHOD.needs(card, METHOD.options.parse({"layers": "features.4,features.7", "top": 3}), 200)
    assert fewer.memory < few.memory
    assert fewer.files < few.files / 3
