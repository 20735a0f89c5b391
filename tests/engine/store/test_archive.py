"""Zips: a run goes from home to home, and nothing hostile gets in."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import StoreError
from fovea.engine.run.execute import execute
from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from fovea.engine.store.archive import write_zip, zip_bytes
from tests.engine import fakes
from tests.engine.fakes import make


def test_a_run_goes_from_home_to_home(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    record = make(store, method="watch", image=str(tmp_path / "mine.png"))
    path = write_zip(store.run(record.id), tmp_path / "run.zip")
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
    content = zip_bytes(store.run(record.id))
    content = _changed(content, "run.json", lambda text: text.replace(b'"seed": 0', b'"seed": 3'))
    content = _changed(content, "run.json", lambda text: text.replace(record.fingerprint.encode(), b"f" * 64))
    new = store.import_zip(content)
    assert new != record.id
    assert store.run(new).record.seed == 3
    assert store.run(record.id).record.seed == 0


def test_an_unfinished_run_is_not_exported(store: Store) -> None:
    with pytest.raises(StoreError, match="queued"):
        zip_bytes(store.run(store.submit(new_record(fakes.request()))))


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
    content = HOSTILE[case](zip_bytes(store.run(record.id)))
    store.delete(record.id)
    before = sorted(store.home.rglob("*"))
    with pytest.raises(StoreError) as caught:
        store.import_zip(content)
    assert "\n" not in str(caught.value)
    assert store.count() == 0
    assert sorted(store.home.rglob("*")) == before


def test_a_bomb_is_refused_by_what_it_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.engine.store.archive

    content = _added(zip_bytes(store.run(make(store).id)), "images/bomb.png", b"\0" * 2_000_000)
    monkeypatch.setattr(fovea.engine.store.archive, "IMPORT_BYTES", 1_000_000)
    with pytest.raises(StoreError, match="more than"):
        store.import_zip(content)
    monkeypatch.setattr(fovea.engine.store.archive, "IMPORT_BYTES", 2 << 30)
    monkeypatch.setattr(fovea.engine.store.archive, "IMPORT_FILE_BYTES", 1_000_000)
    with pytest.raises(StoreError, match=r"images/bomb\.png"):
        store.import_zip(content)
