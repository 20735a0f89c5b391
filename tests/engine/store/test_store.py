"""The store: one index for many processes, a folder never half written, and nothing hostile let in or out."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import shutil
import sqlite3
import stat
import struct
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovea.engine.errors import Cancelled, StoreError, UnknownNameError
from fovea.engine.method import Result
from fovea.engine.run.execute import RunRecord, execute
from fovea.engine.store.store import ID, Lock, Store
from tests.engine import fakes


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    fakes.install(monkeypatch.setattr)
    return Store()


def make(store: Store, **more: Any) -> RunRecord:
    return execute(fakes.request(**more), store)


# Lists -----------------------------------------------------------------------------------------------------


def test_ids_tell_time_and_method(store: Store) -> None:
    assert ID.fullmatch(make(store).id)
    assert "-count-" in make(store).id


def test_lists_filter_and_page_from_the_index_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [make(store, seed=seed, name=f"Number {'zyxw'[seed] * 3}").id for seed in range(4)]
    failed = make(store, method="fail").id
    store.pin(ids[1])
    store.note(ids[2], "with 100% of care")
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
    return [store.submit(fakes.request(seed=seed)) for seed in range(10)]


def test_many_threads_share_one_store(store: Store) -> None:
    threads = [threading.Thread(target=_submit_some, args=(str(store.home),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 40


def test_the_index_is_rebuilt_from_the_folders(store: Store) -> None:
    record = make(store)
    store.rename(record.id, "Mine")
    store.note(record.id, "A note")
    store.pin(record.id)
    queued = store.submit(fakes.request(seed=7))
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


def test_a_damaged_run_is_left_out_and_named(store: Store) -> None:
    record = make(store)
    (store.runs / record.id / "run.json").write_text("{")
    assert store.rebuild() == 0
    with pytest.raises(StoreError, match="damaged"):
        store.run(record.id)


def test_a_run_of_a_newer_fovea_says_so(store: Store) -> None:
    record = make(store)
    path = store.runs / record.id / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(StoreError, match="newer Fovea"):
        store.run(record.id)


# Changing --------------------------------------------------------------------------------------------------


def test_what_a_user_writes_stays_with_the_run(store: Store) -> None:
    record = make(store)
    store.rename(record.id, "  Snout  ")
    store.note(record.id, "look again")
    store.pin(record.id)
    row = store.row(record.id)
    assert (row.name, row.note, row.pinned) == ("Snout", "look again", True)
    kept = store.run(record.id).record
    assert (kept.name, kept.title, kept.pinned) == ("Snout", "Snout", True)


def test_a_title_given_while_it_runs_is_kept(store: Store) -> None:
    def rename(fraction: float, message: str, preview: object, curve: object) -> None:
        if message == "step 2":
            store.rename(store.list(status="running")[0].id, "Early")

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
    record = store.new_record(fakes.request())
    with store.begin(record), pytest.raises(StoreError, match="cancel it first"):
        store.delete(record.id)


def test_a_queued_run_is_cancelled_at_once(store: Store) -> None:
    run_id = store.submit(fakes.request(), "interactive")
    live = store.live(run_id)
    assert live is not None
    assert (live.status, live.ahead) == ("queued", 0)
    store.cancel(run_id)
    assert store.live(run_id) is None
    assert store.run(run_id).record.status == "cancelled"
    with pytest.raises(Cancelled):
        execute(fakes.request(), store, run_id)


def test_the_queue_is_counted(store: Store) -> None:
    ids = [store.submit(fakes.request(seed=seed), "long") for seed in range(3)]
    live = store.live(ids[2])
    assert live is not None
    assert live.ahead == 2


def test_progress_can_be_watched(store: Store) -> None:
    record = store.new_record(fakes.request())
    with store.begin(record) as live_run:
        live_run.started -= 30
        live_run.report(0.25, "loaded")
        live_run.started -= 10
        live_run.report(0.5, "half", np.zeros((9, 9, 3), np.uint8), {"loss": 2.0})
        live = Store().live(record.id)
        assert live is not None
        assert (live.fraction, live.message, live.curve) == (0.5, "half", [{"step": 0, "loss": 2.0}])
        assert live.preview is not None
        assert live.seconds_left == pytest.approx(2 * (live.seconds - 30), abs=0.5)
        assert store.artifact(record.id, "preview.png") == live.preview


def test_a_run_whose_process_died_is_interrupted(store: Store) -> None:
    record = store.new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    live.report(0.5, "half", np.zeros((9, 9, 3), np.uint8))
    assert store.sweep() == []
    live.lock.release()  # as the system does when a process dies
    assert store.live(record.id) is None
    run = store.run(record.id)
    assert (run.record.status, run.preview is not None) == ("interrupted", True)
    assert not list(store.live_root.iterdir())


def test_a_run_that_died_while_cancelled_is_cancelled(store: Store) -> None:
    record = store.new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    store.cancel(record.id)
    live.lock.release()
    assert store.sweep() == [record.id]
    assert store.row(record.id).status == "cancelled"


def test_a_run_that_died_after_its_rename_is_done(store: Store) -> None:
    record = store.new_record(fakes.request())
    context = store.begin(record)
    live = context.__enter__()
    index, store._index = store._index, lambda *_: None  # type: ignore[method-assign]
    store.save(record.model_copy(update={"status": "done"}), Result(), None, live)
    store._index = index  # type: ignore[method-assign]
    live.lock.release()
    store.sweep()
    assert store.row(record.id).status == "done"


def test_only_one_process_runs_a_run(store: Store) -> None:
    record = store.new_record(fakes.request())
    with store.begin(record), pytest.raises(StoreError, match="already running"), store.begin(record):
        pass


def test_a_queued_twin_leads_to_the_finished_run(store: Store) -> None:
    done = make(store)
    queued = store.submit(fakes.request())
    assert execute(fakes.request(), store, queued).id == done.id
    assert store.run(queued).id == store.row(queued).id == done.id
    assert store.count() == 1


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "images/../run.json",
        "images/..%2frun.json",
        "%2e%2e/run.json",
        "/etc/passwd",
        "images/../../../../etc/passwd.png",
        "images\\..\\x.png",
        "run.json\x00.png",
        "run.json\n",
        "tables/losses.csv",
        "images/.hidden.png",
        "images/a..png",
        "lock",
        "",
        ".",
    ],
)
def test_names_cannot_escape(store: Store, name: str) -> None:
    record = make(store)
    with pytest.raises(StoreError, match="no file"):
        store.artifact(record.id, name)


def test_artifacts_are_found_by_name(store: Store) -> None:
    record = make(store)
    for name in store.run(record.id).artifacts:
        assert store.artifact(record.id, name).is_file()
    assert "tables/losses.parquet" in store.run(record.id).artifacts


def test_a_link_out_of_the_folder_is_not_followed(store: Store) -> None:
    record = make(store)
    (store.runs / record.id / "images" / "link.png").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="no file"):
        store.artifact(record.id, "images/link.png")


@pytest.mark.parametrize("run_id", ["..", "", "a/b", "20261123-014501-occlusion-a1b2c3/..", "%2e%2e", "x" * 10_000])
def test_ids_are_checked(store: Store, run_id: str) -> None:
    for call in (store.run, store.live, store.delete, store.cancel, lambda one: store.artifact(one, "run.json")):
        with pytest.raises(StoreError, match="no run") as caught:
            call(run_id)
        assert len(str(caught.value)) < 300


def test_unknown_parts_offer_near_ones(store: Store) -> None:
    run = store.run(make(store).id)
    for read in (run.array, run.table, run.image):
        with pytest.raises(UnknownNameError):
            read("valuess")


@pytest.mark.parametrize(
    "result",
    [
        Result(arrays={"../a": np.zeros(2)}),
        Result(arrays={"a": np.array([object()])}),
        Result(images={"a/b": np.zeros((2, 2), np.uint8)}),
        Result(images={"a": np.zeros((2, 2), np.float32)}),  # type: ignore[dict-item]
        Result(tables={"..": pd.DataFrame({"a": [1]})}),
    ],
)
def test_what_cannot_be_saved_leaves_nothing(store: Store, result: Result) -> None:
    record = store.new_record(fakes.request())
    with store.begin(record) as live:
        with pytest.raises(StoreError):
            store.save(record, result, None, live)
        assert not list(store.runs.iterdir())


def test_pictures_keep_the_suffix_that_names_them(store: Store) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "GIF")
    record = store.new_record(fakes.request()).model_copy(update={"status": "done"})
    big = np.zeros((1000, 2000, 3), np.uint8)
    images = {"a": big, "b.jpg": big[:9, :9], "c.gif": buffer.getvalue(), "d": Image.new("L", (3, 3))}
    with store.begin(record) as live:
        store.save(record, Result(images=images, preview="a"), None, live)
    run = store.run(record.id)
    assert run.images == ["a.png", "b.jpg", "c.gif", "d.png"]
    assert run.image("c.gif").size == (4, 4)
    assert run.preview is not None
    with Image.open(run.preview) as preview:
        assert preview.size == (640, 320)


def test_a_lock_is_held_or_free(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert not lock.held_elsewhere()
    assert lock.acquire()
    assert not other.acquire()
    assert other.held_elsewhere()
    lock.release()
    assert other.acquire()
    other.release()


# Zips ------------------------------------------------------------------------------------------------------


def test_a_run_goes_from_home_to_home(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    record = make(store, method="watch", image=str(tmp_path / "mine.png"))
    path = store.write_zip(record.id, tmp_path / "run.zip")
    monkeypatch.setenv("FOVEA_HOME", str(tmp_path / "other"))
    other = Store()
    assert other.import_zip(path) == record.id
    assert other.import_zip(path.read_bytes()) == record.id
    assert other.count() == 1
    run = other.run(record.id)
    assert run.record.imported
    assert run.artifacts == store.run(record.id).artifacts
    np.testing.assert_array_equal(run.array("values"), store.run(record.id).array("values"))
    assert other.find_done(record.fingerprint) is None, "a run from elsewhere does not answer for this machine"
    again = execute(run.record.request(), other)
    assert (again.status, again.fingerprint) == ("done", record.fingerprint)


def test_an_id_that_is_taken_by_another_run_is_replaced(store: Store) -> None:
    record = make(store)
    content = _changed(store.export_zip(record.id), "run.json", lambda text: text.replace(b'"seed": 0', b'"seed": 3'))
    content = _changed(content, "run.json", lambda text: text.replace(record.fingerprint.encode(), b"f" * 64))
    new = store.import_zip(content)
    assert new != record.id
    assert store.run(new).record.seed == 3
    assert store.run(record.id).record.seed == 0


def test_an_unfinished_run_is_not_exported(store: Store) -> None:
    with pytest.raises(StoreError, match="queued"):
        store.export_zip(store.submit(fakes.request()))


def _changed(content: bytes, name: str, change: Callable[[bytes], bytes | None], rename: str = "") -> bytes:
    """The zip with one member changed, renamed or (None) left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data: bytes | None = old.read(info)
            if info.filename.endswith("/" + name):
                assert data is not None
                data = change(data)
                info.filename = rename or info.filename
            if data is not None:
                new.writestr(info.filename, data)
    return out.getvalue()


def _added(content: bytes, info: zipfile.ZipInfo | str, data: bytes) -> bytes:
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, data)
    return out.getvalue()


def _link(content: bytes) -> bytes:
    info = zipfile.ZipInfo("images/link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return _added(content, info, b"/etc/passwd")


def _pickled() -> bytes:
    out = io.BytesIO()
    np.savez(out, values=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


def _huge_header() -> bytes:
    out, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("values.npy", array.getvalue())
    return out.getvalue()


def _lying(content: bytes) -> bytes:
    """The zip with the size of arrays.npz understated in its directory."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = next(one for one in archive.infolist() if one.filename.endswith("arrays.npz"))
    size = struct.pack("<L", info.file_size)
    at = content.rindex(info.filename.encode()) - 46 + 24
    assert content[at : at + 4] == size
    return content[:at] + struct.pack("<L", 10) + content[at + 4 :]


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no zip": lambda content: b"hello",
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "no record": lambda content: _changed(content, "run.json", lambda data: None),
    "record no json": lambda content: _changed(content, "run.json", lambda data: b"{" * 10_000),
    "record no text": lambda content: _changed(content, "run.json", lambda data: b"\xff\xfe\x00"),
    "record of nothing": lambda content: _changed(content, "run.json", lambda data: b"{}"),
    "record running": lambda content: _changed(content, "run.json", lambda d: d.replace(b'"done"', b'"running"')),
    "climbs out": lambda content: _added(content, "../../evil.txt", b"x"),
    "climbs out inside": lambda content: _added(content, "images/../../evil.png", b"x"),
    "absolute": lambda content: _added(content, "/etc/evil.png", b"x"),
    "unknown name": lambda content: _added(content, "images/evil.html", b"<script>"),
    "link": _link,
    "pickle as array": lambda content: _changed(content, "arrays.npz", lambda data: _pickled()),
    "raw pickle": lambda content: _changed(content, "arrays.npz", lambda data: pickle.dumps([1])),
    "array larger than its file": lambda content: _changed(content, "arrays.npz", lambda data: _huge_header()),
    "no table": lambda content: _changed(content, "losses.parquet", lambda data: b"PAR1" + b"\x00" * 100),
    "html as picture": lambda content: _changed(content, "count.png", lambda data: b"<html>"),
    "jpeg as png": lambda content: _changed(content, "count.png", lambda data: b"\xff\xd8\xff\xe0" + b"\x00" * 50),
    "lying size": _lying,
    "too many files": lambda content: _many(content),
}


def _many(content: bytes) -> bytes:
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a") as archive:
        for index in range(2001):
            archive.writestr(f"images/{index}.png", b"")
    return out.getvalue()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_gets_one_line_and_changes_nothing(store: Store, case: str) -> None:
    record = make(store)
    content = HOSTILE[case](store.export_zip(record.id))
    store.delete(record.id)
    before = sorted(store.home.rglob("*"))
    with pytest.raises(StoreError) as caught:
        store.import_zip(content)
    assert "\n" not in str(caught.value)
    assert store.count() == 0
    assert sorted(store.home.rglob("*")) == before


def test_a_bomb_is_refused_by_what_it_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.engine.store.store

    content = _added(store.export_zip(make(store).id), "images/bomb.png", b"\0" * 2_000_000)
    monkeypatch.setattr(fovea.engine.store.store, "IMPORT_BYTES", 1_000_000)
    with pytest.raises(StoreError, match="more than"):
        store.import_zip(content)
    monkeypatch.setattr(fovea.engine.store.store, "IMPORT_BYTES", 2 << 30)
    monkeypatch.setattr(fovea.engine.store.store, "IMPORT_FILE_BYTES", 1_000_000)
    with pytest.raises(StoreError, match=r"images/bomb\.png"):
        store.import_zip(content)


def test_a_home_that_was_copied_still_works(store: Store, tmp_path: Path) -> None:
    record = make(store)
    shutil.copytree(store.home, tmp_path / "copy")
    assert Store(tmp_path / "copy").run(record.id).record == record
