"""A run as one zip: written here, and taken in from elsewhere, where every byte of it is looked at first."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from fovea.engine.data.photos import keep_photo, photo_path
from fovea.engine.errors import FoveaError, StoreError
from fovea.engine.run.record import UNFINISHED, RunRecord, now
from fovea.engine.store.folder import StoredRun, new_folder, parse_record, saving
from fovea.engine.store.names import ARTIFACT, ID, IMAGE_FORMATS, NAME, check_id
from fovea.models.home import whole

IMPORT_FILES = 2000
IMPORT_FILE_BYTES = 1 << 30
IMPORT_BYTES = 2 << 30
IMPORT_RECORD_BYTES = 8 << 20
IMPORT_PIXELS = 200_000_000

NO_RUN = "not a run exported by Fovea"


# Out -----------------------------------------------------------------------------------------------------


def zip_bytes(run: StoredRun) -> bytes:
    """A finished run as one zip that `Store.import_zip` reads, with its photos as they were given, so that it repeats.

    Raises StoreError if the run has not finished.
    """
    buffer = io.BytesIO()
    _write(run, buffer)
    return buffer.getvalue()


def write_zip(run: StoredRun, path: Path) -> Path:
    """The same as a file. Raises StoreError."""
    with saving(), whole(path) as part, part.open("wb") as file:
        _write(run, file)
    return path


def _write(run: StoredRun, file: BinaryIO | io.BytesIO) -> None:
    if run.record.status in UNFINISHED:
        raise StoreError(f"run {run.id} is {run.record.status}: export it when it has finished")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in run.artifacts:
            if name == "run.json" and run.record.owner:  # who asked for it is the team's own business
                told = run.record.model_copy(update={"owner": ""}).to_json()
                archive.writestr(f"{run.id}/{name}", told, zipfile.ZIP_DEFLATED)
                continue
            packed = name.endswith((".npz", ".json", ".txt"))  # pictures and tables are packed already
            kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            archive.write(run.folder / name, f"{run.id}/{name}", kind)
        for name, content in _original_photos(run.record):
            if f"inputs/{name}" not in run.artifacts:
                archive.writestr(f"{run.id}/inputs/{name}", content, zipfile.ZIP_STORED)


def _original_photos(record: RunRecord) -> Iterator[tuple[str, bytes]]:
    """The photos that were kept by content, as (file name, bytes), so that an imported run can be repeated."""
    for read in record.inputs:
        if read.kind == "photo" and read.reference.startswith("photo:"):
            with contextlib.suppress(FoveaError, OSError):
                path = photo_path(read.reference)
                if path.suffix.lower() in IMAGE_FORMATS:
                    yield f"original-{read.name}{path.suffix.lower()}", path.read_bytes()


# In ------------------------------------------------------------------------------------------------------


class Arrival:
    """A zip from elsewhere, whose names, sizes and record have been looked at. Raises StoreError if it is no run.

    Nothing of it is unpacked before `unpack`; use it in a `with` block.
    """

    def __init__(self, source: Path | str | bytes | BinaryIO) -> None:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with _reading_zip():
            self._archive = zipfile.ZipFile(opened)
            try:
                self._members = _checked_members(self._archive)
                self.record = _record(self._archive, self._members)
            except BaseException:
                self._archive.close()
                raise

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def unpack(self, runs: Path, run_id: str, owner: str = "") -> RunRecord:
        """Write it as `owner`'s run below `runs` and return its record. Raises StoreError, nothing half written.

        Every file is what its name says; the photos that it brought are kept by content.
        """
        record = self.record.model_copy(update={"id": run_id, "imported": now(), "lane": "", "turn": 0, "owner": owner})
        with _reading_zip(), new_folder(runs, run_id) as folder:
            room = IMPORT_BYTES
            for name, info in self._members.items():
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                room -= _extract(self._archive, info, path, room)
                _check_file(path, name)
            (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
            for path in list((folder / "inputs").glob("original-*")):
                keep_photo(path.read_bytes())
                path.unlink()
        return record


@contextlib.contextmanager
def _reading_zip() -> Iterator[None]:
    """What zipfile raises over a file that is damaged or made to harm becomes one line."""
    try:
        yield
    except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, RuntimeError, zipfile.LargeZipFile):
        raise StoreError(f"{NO_RUN}: the zip file is damaged, or is no zip file") from None
    except OSError as error:
        raise StoreError(f"the zip file cannot be imported: {error.strerror or error}") from None


def _checked_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an export by their name in the run's folder. Raises StoreError if anything else is in it."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > IMPORT_FILES:
        raise StoreError(f"the zip file holds {len(infos)} files: a run has at most {IMPORT_FILES}")
    if sum(info.file_size for info in infos) > IMPORT_BYTES:
        raise StoreError(f"the zip file unpacks to more than {IMPORT_BYTES >> 30} GB: it is not imported")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        prefix, _, inner = info.filename.partition("/")
        name = inner if ID.fullmatch(prefix) else info.filename
        if not ARTIFACT.fullmatch(name) or name in members:
            raise StoreError(f"the zip file holds {info.filename[:80]!r}, which no run has: it is not imported")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            raise StoreError(f"the zip file holds a link or an encrypted file, {name}: it is not imported")
        if info.file_size > IMPORT_FILE_BYTES:
            raise StoreError(f"the zip file holds {name} of more than {IMPORT_FILE_BYTES >> 30} GB: it is not imported")
        members[name] = info
    return members


def _record(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> RunRecord:
    info = members.get("run.json")
    if info is None or info.file_size > IMPORT_RECORD_BYTES:
        raise StoreError(f"{NO_RUN}: the zip file has no run.json")
    with archive.open(info) as file:
        content = file.read(IMPORT_RECORD_BYTES + 1)
    prefix = info.filename.partition("/")[0]
    try:
        text = content.decode("utf-8")
        run_id = prefix if ID.fullmatch(prefix) else str(json.loads(text)["id"])
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, RecursionError):
        raise StoreError(f"{NO_RUN}: its run.json does not parse") from None
    check_id(run_id)
    record = parse_record(text, run_id)
    if record.status in UNFINISHED:
        raise StoreError(f"the exported run is {record.status}: export it again when it has finished")
    return record


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, room: int) -> int:
    """Unpack one member, counting what really comes out: a header's size may lie."""
    written, limit = 0, min(info.file_size, room)
    with archive.open(info) as source, open(path, "wb") as target:
        while chunk := source.read(1 << 20):
            written += len(chunk)
            if written > limit:
                raise StoreError("the zip file unpacks to more than it says: it is not imported")
            target.write(chunk)
    return written


def _check_file(path: Path, name: str) -> None:
    """Raise StoreError unless an imported file is what its name says, within bounds."""
    try:
        if name.endswith(".npz"):
            _check_arrays(path)
        elif name.endswith(".parquet"):
            import pyarrow.parquet

            metadata = pyarrow.parquet.read_metadata(path)
            if sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)) > IMPORT_FILE_BYTES:
                raise ValueError("it unpacks to too much")
        elif PurePosixPath(name).suffix in IMAGE_FORMATS:
            with Image.open(path, formats=[IMAGE_FORMATS[path.suffix]]) as picture:
                if picture.width * picture.height > IMPORT_PIXELS:
                    raise ValueError("it has too many pixels")
    except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise StoreError(
            f"{name} in the zip file is not what a run has: {' '.join(str(error).split())[:120]}"
        ) from None
    except Image.DecompressionBombError:
        raise StoreError(f"{name} in the zip file has too many pixels: it is not imported") from None


def _check_arrays(path: Path) -> None:
    """Read every array's header: no pickles, no member that unpacks to more than a run may hold."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > IMPORT_BYTES or len(archive.infolist()) > IMPORT_FILES:
            raise ValueError("it unpacks to too much")
        for info in archive.infolist():
            if not re.fullmatch(rf"{NAME}\.npy", info.filename):
                raise ValueError("it holds a file that is no array")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = reader(file)
                if dtype.hasobject:
                    raise ValueError("it holds pickled objects")
                if int(np.prod(shape, dtype=object)) * dtype.itemsize > info.file_size:
                    raise ValueError("an array is larger than its file")
