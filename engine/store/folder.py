"""A run's folder: written under another name and renamed, so that nobody ever sees half a run; and read lazily.

$FOVEA_HOME/runs/ID/        run.json arrays.npz tables/*.parquet images/* inputs/photo.png preview.png
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from fovea.engine.errors import StoreError, UnknownNameError, unknown
from fovea.engine.method import Result
from fovea.engine.run.record import SCHEMA, RunRecord
from fovea.engine.store.names import ARTIFACT, IMAGE_FORMATS, check_name
from fovea.engine.store.pictures import as_picture, small_picture
from fovea.models.home import home

if TYPE_CHECKING:
    import pandas as pd


_SAVEZ_ARGUMENTS = ("file", "allow_pickle")


class StoredRun:
    """One run as its folder tells it. Reading is lazy; a name that is not there raises UnknownNameError."""

    def __init__(self, record: RunRecord, folder: Path) -> None:
        self.record, self.folder = record, folder

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def preview(self) -> Path | None:
        """The path of its small picture (longest side at most 640 px), or None."""
        path = self.folder / "preview.png"
        return path if path.is_file() else None

    @property
    def arrays(self) -> list[str]:
        """The names of its arrays."""
        path = self.folder / "arrays.npz"
        if not path.is_file():
            return []
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]

    @property
    def tables(self) -> list[str]:
        """The names of its tables."""
        return sorted(path.stem for path in self.folder.glob("tables/*.parquet"))

    @property
    def images(self) -> list[str]:
        """The file names of its pictures."""
        return sorted(path.name for path in self.folder.glob("images/*"))

    @property
    def artifacts(self) -> list[str]:
        """The names that `Store.artifact` knows of this run."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        names = (path.relative_to(self.folder).as_posix() for path in paths)
        return sorted(name for name in names if ARTIFACT.fullmatch(name))

    def array(self, name: str) -> NDArray[Any]:
        """The array of that name."""
        if name not in self.arrays:
            raise unknown("array", name, self.arrays, self.id)
        with _reading(self.id), np.load(self.folder / "arrays.npz", allow_pickle=False) as archive:
            return cast(NDArray[Any], archive[name])

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name."""
        import pandas as pd

        path = self.folder / "tables" / f"{name}.parquet"
        if name not in self.tables:
            raise unknown("table", name, self.tables, self.id)
        with _reading(self.id):
            return pd.read_parquet(path)

    def image(self, name: str) -> Image.Image:
        """The picture of that name, with or without ".png"; "photo" is the photo as the network got it."""
        path = self.image_path(name)
        with _reading(self.id), Image.open(path) as picture:
            if getattr(picture, "is_animated", False):  # a copy would keep the first frame alone
                return Image.open(io.BytesIO(path.read_bytes()))
            return picture.copy()

    def image_path(self, name: str) -> Path:
        """The file of that picture."""
        if name == "photo":
            path = self.folder / "inputs" / "photo.png"
            if path.is_file():
                return path
            raise UnknownNameError(f"run {self.id} has no photo")
        for known in self.images:
            if name in (known, known.removesuffix(".png")):
                return self.folder / "images" / known
        raise unknown("image", name, self.images, self.id)


def read_record(folder: Path, run_id: str) -> RunRecord:
    """The record in a run's folder, finished or live. Raises OSError if there is none, StoreError if it is damaged."""
    return parse_record((folder / "run.json").read_text(encoding="utf-8"), run_id)


def parse_record(text: str, run_id: str) -> RunRecord:
    """A run.json as a record of that id. Raises StoreError if it does not parse or a newer Fovea wrote it."""
    try:
        record = RunRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"run {run_id} has a damaged run.json ({where}: {first['msg']})") from None
    if record.schema_version > SCHEMA:
        raise StoreError(f"run {run_id} was saved by a newer Fovea (schema {record.schema_version}, not {SCHEMA})")
    return record.model_copy(update={"id": run_id})


@contextlib.contextmanager
def new_folder(runs: Path, run_id: str) -> Iterator[Path]:
    """A temporary folder that becomes the run's when the block ends well, and is removed when it does not."""
    temporary = runs / f".tmp-{run_id}-{secrets.token_hex(3)}"
    try:
        with saving():
            temporary.mkdir()
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                _fsync(path)
            temporary.rename(runs / run_id)
            _fsync(runs)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_result(folder: Path, record: RunRecord, result: Result, frame: NDArray[np.uint8] | None) -> bool:
    """Fill a run's new folder with what came of it; whether it has a preview. `frame` is the network's photo."""
    pictures = _write_images(folder / "images", result)
    _write_arrays(folder / "arrays.npz", result.arrays)
    _write_tables(folder / "tables", result.tables)
    if frame is not None:
        (folder / "inputs").mkdir()
        as_picture(frame).save(folder / "inputs" / "photo.png", compress_level=3)
    preview = _preview(result, pictures, frame)
    if preview is not None:
        preview.save(folder / "preview.png", compress_level=6)
    (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
    return preview is not None


def write_ending(folder: Path, record: RunRecord, live_folder: Path, details: str) -> bool:
    """Fill the new folder of a run that did not end well with what its live folder shows; whether it has a preview."""
    (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
    if details:
        (folder / "error.txt").write_text(details, encoding="utf-8")
    if (live_folder / "photo.png").is_file():
        (folder / "inputs").mkdir()
        shutil.copyfile(live_folder / "photo.png", folder / "inputs" / "photo.png")
    for name in ("preview.png", "photo.png"):
        if (live_folder / name).is_file():
            shutil.copyfile(live_folder / name, folder / "preview.png")
            return True
    return False


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    values = {check_name("array", name): np.asarray(value) for name, value in arrays.items()}
    for name, value in values.items():
        if name in _SAVEZ_ARGUMENTS:
            raise StoreError(f"an array cannot be called {name}: NumPy's file format takes that name for itself")
        if value.dtype.hasobject:
            raise StoreError(f"array {name} holds Python objects: give it a numeric or text dtype")
    if values:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **values)


def _write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    if tables:
        folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{check_name('table', name)}.parquet", index=False)


def _write_images(folder: Path, result: Result) -> dict[str, Path]:
    """Write the pictures; their names (as the method gave them) to their files."""
    if result.images:
        folder.mkdir()
    written: dict[str, Path] = {}
    for name, content in result.images.items():
        suffix = PurePosixPath(name).suffix.lower()
        path = folder / (check_name("image", name) if suffix in IMAGE_FORMATS else f"{check_name('image', name)}.png")
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix.lower() in (".jpg", ".jpeg"):
            as_picture(content).convert("RGB").save(path, quality=92)
        elif path.suffix.lower() == ".png":
            as_picture(content).save(path, compress_level=4)
        else:
            as_picture(content).save(path)
        written[name] = path
    return written


def _preview(result: Result, pictures: Mapping[str, Path], frame: NDArray[np.uint8] | None) -> Image.Image | None:
    if not isinstance(result.preview, str):
        return small_picture(result.preview)
    path = pictures.get(result.preview) or (next(iter(pictures.values()), None) if not result.preview else None)
    if path is not None:
        with Image.open(path) as picture:
            return small_picture(picture.convert("RGB"))
    return None if frame is None else small_picture(frame)


def disk_full(where: Path) -> str:
    """The line for a disk without room."""
    return f"the disk is full: nothing was saved in {where}; make room there, or set FOVEA_HOME to another disk"


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """What the system refuses while saving becomes one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(disk_full(home())) from None
        raise StoreError(f"the run cannot be saved: {error.strerror or error} ({error.filename or home()})") from None


@contextlib.contextmanager
def _reading(run_id: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, zipfile.BadZipFile, SyntaxError) as error:
        raise StoreError(f"run {run_id} has a damaged file: {' '.join(str(error).split())[:200]}") from None


def _fsync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
