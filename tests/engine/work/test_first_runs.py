"""A new home's library begins with one run of each method."""

from __future__ import annotations

import pytest

from fovea.engine.store import Store
from fovea.engine.work import first_runs
from tests.engine import fakes


def test_the_library_begins_with_one_run_of_each_method(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    first_runs.seed_library()
    rows = store.list()
    assert sorted(row.method for row in rows) == ["count", "deaf", "lengthy", "watch"]
    assert {row.status for row in rows} == {"done"}
    first_runs.seed_library()
    assert store.count() == 4


def test_first_runs_take_fewer_steps_where_they_would_take_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_runs, "estimate_seconds", lambda *_: 600.0)
    options = fakes.CountOptions(steps=1000)
    assert first_runs.fewer_steps(store, fakes.METHODS["count"], options) == fakes.CountOptions(steps=100)
