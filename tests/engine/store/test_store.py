"""The store: what a user writes stays with the run, what is deleted is gone, a twin leads to the finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fovea.engine.errors import StoreError
from fovea.engine.run.execute import execute
from fovea.engine.run.resolve import new_record
from fovea.engine.run.title import run_title
from fovea.engine.store import Store
from fovea.engine.store.names import ID
from tests.engine import fakes
from tests.engine.fakes import make


def test_ids_tell_time_and_method(store: Store) -> None:
    assert ID.fullmatch(make(store).id)
    assert "-count-" in make(store).id


def test_what_a_user_writes_stays_with_the_run(store: Store) -> None:
    record = make(store)
    store.edit(record.id, name="  Snout  ")
    store.edit(record.id, note="look again")
    store.edit(record.id, pinned=True)
    row = store.row(record.id)
    assert (row.name, row.note, row.pinned) == ("Snout", "look again", True)
    kept = store.run(record.id).record
    assert (kept.name, run_title(kept), kept.pinned) == ("Snout", "Snout", True)


def test_a_title_given_while_it_runs_is_kept(store: Store) -> None:
    def rename(fraction: float, message: str, preview: object, curve: object) -> None:
        if message == "step 2":
            store.edit(store.list(status="running")[0].id, name="Early")

    assert execute(fakes.request(), store, listener=rename).name == "Early"


def test_delete_removes_the_folder(store: Store) -> None:
    record = make(store)
    store.delete(record.id)
    assert not list(store.runs.iterdir())
    for gone in (store.run, store.row, store.delete):
        with pytest.raises(StoreError, match="no run"):
            gone(record.id)
    assert store.find_done(record.fingerprint) is None


def test_a_running_run_is_not_deleted(store: Store) -> None:
    record = new_record(fakes.request())
    with store.begin(record), pytest.raises(StoreError, match="cancel it first"):
        store.delete(record.id)


def test_a_queued_twin_leads_to_the_finished_run(store: Store) -> None:
    done = make(store)
    queued = store.submit(new_record(fakes.request()))
    assert execute(fakes.request(), store, queued).id == done.id
    assert store.run(queued).id == store.row(queued).id == done.id
    assert store.count() == 1


def test_a_home_that_was_copied_still_works(store: Store, tmp_path: Path) -> None:
    record = make(store)
    shutil.copytree(store.home, tmp_path / "copy")
    assert Store(tmp_path / "copy").run(record.id).record == record
