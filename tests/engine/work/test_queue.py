"""The queue: a function and its arguments, kept in a file."""

from __future__ import annotations

import pytest

from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from fovea.engine.work import queue, worker
from tests.engine import fakes

NOTED: list[str] = []


def note(text: str) -> None:
    NOTED.append(text)


def test_a_function_is_called_with_its_arguments_in_immediate_mode(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    queue.enqueue("long", note, "now")
    assert NOTED == ["now"]


def test_what_another_version_queued_is_left_out(store: Store) -> None:
    """Its tasks have names that this one does not know; the index, not the queue, says which runs wait."""
    from huey import SqliteHuey

    older = SqliteHuey(name="fovea-interactive", filename=str(store.home / "queue.sqlite"), results=False)
    older.enqueue(older.task(name="run")(note).s("an old run"))
    assert queue.waiting("interactive") == []
    run_id = store.submit(new_record(fakes.request(), "interactive"))
    worker.take_over("interactive")
    assert queue.waiting("interactive") == [(run_id, False)]
