"""Runs, zips and a home of the version before still open, repeat and are found again.

`tests/fixtures/before/README.md` tells how they were made and what identifies them.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.engine.data.catalogue import register_dataset
from fovea.engine.data.photos import keep_photo, open_photo
from fovea.engine.method import Method
from fovea.engine.report.report import report_html
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from fovea.engine.store.names import ID
from tests.engine.fakes import request as fake_request

BEFORE = Path(__file__).resolve().parents[1] / "fixtures" / "before"
TOLD: dict[str, Any] = json.loads((BEFORE / "requests.json").read_text(encoding="utf-8"))
RUNS: list[dict[str, Any]] = TOLD["runs"]
ZIPPED = [run for run in RUNS if run["zip"]]
CHANGED = 1_700_000_000
"""The time of change of the data set's files, which its manifest holds."""

REPEATED = (0, 2, 7, 11, 20, 33, 45)
"""Cheap ones of all three verbs."""


def called(run: dict[str, Any]) -> str:
    return f"{run['number']:02}-{run['request']['method']}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old home."""
    copy = Path(shutil.copytree(BEFORE / "home", tmp_path / "home"))
    monkeypatch.setenv("FOVEA_HOME", str(copy))
    return copy


@pytest.fixture
def tiny(home: Path, tmp_path: Path) -> Path:
    """The data set of these runs, registered, and its photos kept, as they were."""
    folder = Path(shutil.copytree(BEFORE / "tiny", tmp_path / "tiny"))
    for path in folder.rglob("*"):
        os.utime(path, (CHANGED, CHANGED))
    register_dataset("tiny", folder)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "broken.jpg":
            keep_photo(path)
            keep_photo(open_photo(f"item:tiny/{path.relative_to(folder).as_posix()}"))
    return folder


def test_an_old_home_opens_with_its_own_index(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "rebuild", lambda store: pytest.fail("the index was made again"))
    store = Store()
    rows = {row.id: row for row in store.list()}
    assert sorted(rows) == sorted(told["id"] for told in TOLD["home"])
    for told in TOLD["home"]:
        row, record = rows[told["id"]], store.run(told["id"]).record
        assert (row.status, row.fingerprint, row.summary) == (told["status"], told["fingerprint"], told["summary"])
        assert (row.method, row.network, row.name) == (record.method, record.network.name, record.name)
        assert (row.note, row.pinned, row.created) == (record.note, record.pinned, record.created)
        assert (row.seconds, row.image, row.subject) == (record.seconds, record.image, record.subject)
        assert row.preview is None or row.preview.is_file()
    assert [row.pinned for row in rows.values()].count(True) == 1
    store.submit(new_record(fake_request("classify")))
    assert store.count() == len(rows) + 1


def test_the_index_of_an_old_home_can_be_made_again(home: Path) -> None:
    before = Store().list()
    for path in home.glob("index.sqlite*"):
        path.unlink()
    assert Store().list() == before


def test_the_same_requests_find_the_old_runs(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request has the fingerprint that it had, and nothing is computed for it."""
    monkeypatch.setattr(Method, "run", lambda *_: pytest.fail("computed"))
    store = Store()
    missed = []
    for run in [*(told for told in TOLD["home"] if told["status"] == "done"), *RUNS]:
        folder = store.runs / run["id"]
        if not folder.is_dir():
            folder.mkdir()
            shutil.copyfile(BEFORE / run["record"], folder / "run.json")
            store.index.put(store.run(run["id"]).record)
        try:
            found = execute(Request.model_validate(run["request"]), store).id
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found != run["id"]:
            missed.append((called(run), found))
    assert not missed


@pytest.mark.parametrize("run", ZIPPED, ids=called)
def test_an_old_zip_imports_opens_and_asks_the_same_again(run: dict[str, Any], own_home: Path) -> None:
    store = Store()
    run_id = store.import_zip(BEFORE / run["zip"])
    assert run_id == run["id"]
    stored = store.run(run_id)
    assert (stored.record.status, stored.record.summary) == (run["status"], run["summary"])
    told = json.loads((BEFORE / run["record"]).read_text(encoding="utf-8"))
    assert [panel.title for panel in stored.record.panels] == [panel["title"] for panel in told["panels"]]
    assert stored.record.request().model_dump() == run["request"]
    with zipfile.ZipFile(BEFORE / run["zip"]) as archive:
        inside = {name.partition("/")[2] for name in archive.namelist()}
    assert set(stored.artifacts) == {name for name in inside if not name.startswith("inputs/original-")}
    for name in stored.arrays:
        assert stored.array(name).dtype != object
    for name in stored.tables:
        assert len(stored.table(name).columns)
    for name in stored.images:
        stored.image(name)
    assert stored.record.network.name in report_html(stored)


@pytest.mark.parametrize("run", [RUNS[number] for number in REPEATED], ids=called)
def test_an_old_run_repeats_with_the_same_arrays(run: dict[str, Any], home: Path, tiny: Path) -> None:
    store = Store()
    old = store.run(store.import_zip(BEFORE / run["zip"]))
    again = store.run(execute(old.record.request(), store, fresh=True).id)
    assert (again.record.status, again.record.error) == ("done", "")
    assert ID.fullmatch(again.id)
    assert (again.arrays, again.tables, again.images) == (old.arrays, old.tables, old.images)
    for name in old.arrays:
        np.testing.assert_allclose(again.array(name), old.array(name), rtol=1e-4, atol=1e-5, err_msg=name)
