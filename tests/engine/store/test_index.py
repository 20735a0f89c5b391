"""The index: one for many processes and threads, made again from the folders when it is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest

from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from tests.engine import fakes
from tests.engine.fakes import make


def test_lists_filter_and_page_from_the_index_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [make(store, seed=seed, name=f"Number {'zyxw'[seed] * 3}").id for seed in range(4)]
    failed = make(store, method="fail").id
    store.edit(ids[1], pinned=True)
    store.edit(ids[2], note="with 100% of care")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("a list read a file"))
    assert [row.id for row in store.list()] == [failed, *reversed(ids)]
    assert [row.id for row in store.list(limit=2, offset=1)] == [ids[3], ids[2]]
    assert [row.id for row in store.list(pinned=True)] == [ids[1]]
    assert [row.id for row in store.list(status="failed")] == [failed]
    assert [row.id for row in store.list(method="count", text="WWW number")] == [ids[3]]
    assert [row.id for row in store.list(text="100% care")] == [ids[2]]
    assert store.list(network="other") == []
    assert store.list(since="2100-01-01") == []
    assert (store.count(), store.count(method="count")) == (5, 4)
    assert store.networks() == ["fake"]
    row = store.row(ids[0])
    assert (row.summary["steps"], row.status, row.preview is not None) == (5, "done", True)


def test_two_processes_share_one_index(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_submit_some, args=(str(store.home),)) for _ in range(2)]
    for child in children:
        child.start()
    mine = _submit_some(str(store.home))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert store.count() == 30
    assert {row.id for row in store.list()} >= set(mine)


def _submit_some(home: str) -> list[str]:
    store = Store(home)
    return [store.submit(new_record(fakes.request(seed=seed))) for seed in range(10)]


def test_many_threads_share_one_store(store: Store) -> None:
    threads = [threading.Thread(target=_submit_some, args=(str(store.home),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 40


def test_the_index_is_rebuilt_from_the_folders(store: Store) -> None:
    record = make(store)
    store.edit(record.id, name="Mine", note="A note", pinned=True)
    queued = store.submit(new_record(fakes.request(seed=7)))
    before = store.list()
    for path in store.home.glob("index.sqlite*"):
        path.unlink()
    assert Store().list() == before
    assert {row.id for row in before} == {record.id, queued}


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_damaged_index_is_made_again(store: Store, content: bytes) -> None:
    record = make(store)
    for path in store.home.glob("index.sqlite*"):
        path.unlink()
    (store.home / "index.sqlite").write_bytes(content)
    assert [row.id for row in Store().list()] == [record.id]


def test_an_index_of_another_version_is_made_again(store: Store) -> None:
    record = make(store)
    db = sqlite3.connect(store.home / "index.sqlite")
    db.execute("DROP TABLE runs")
    db.execute("CREATE TABLE runs (id TEXT)")
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    assert [row.id for row in Store().list()] == [record.id]
