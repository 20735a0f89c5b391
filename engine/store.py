"""Where runs live: one folder for each finished run, a live folder for each unfinished one, and an index of both.

    $FOVEA_HOME/runs/ID/        run.json arrays.npz tables/*.parquet images/* inputs/photo.png preview.png
    $FOVEA_HOME/.live/ID/       run.json progress.json preview.png curve.jsonl, a lock that its executor holds
    $FOVEA_HOME/index.sqlite    what lists show; rebuilt from the folders whenever it is missing or of another version

A reader never sees half a run: a folder is written under another name and renamed. A run whose lock nobody
holds is dead, however its process ended.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
import shutil
import sqlite3
import stat
import struct
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from fovea.engine.errors import Cancelled, FoveaError, StoreError, UnknownNameError, unknown
from fovea.engine.method import Result
from fovea.engine.run import SCHEMA, UNFINISHED, NetworkRef, Request, RunRecord, Status, now
from fovea.models.home import whole, write_whole

if TYPE_CHECKING:
    import pandas as pd

INDEX_VERSION = 1
PREVIEW = 640
"""The longest side of preview.png, in pixels."""

ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]+(?:[-_][a-z0-9]+)*-[0-9a-f]{6}")
NAME = r"[A-Za-z0-9_][A-Za-z0-9_@#+-]*(?:\.[A-Za-z0-9_@#+-]+)*"
ARTIFACT = re.compile(
    rf"run\.json|error\.txt|arrays\.npz|preview\.png|tables/{NAME}\.parquet"
    rf"|images/{NAME}\.(?:png|jpg|jpeg|gif|webp)|inputs/{NAME}\.(?:png|jpg|jpeg|webp)"
)
"""The names that a run's folder may hold; nothing else is served, exported or imported."""

IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".webp": "WEBP"}
IMPORT_FILES = 2000
IMPORT_FILE_BYTES = 1 << 30
IMPORT_BYTES = 2 << 30
IMPORT_PIXELS = 200_000_000

_COLUMNS = (
    "id, method, network, status, name, note, pinned, created, seconds, load_seconds, work, device, image, subject, "
    "summary, error, fingerprint, preview, random, imported, lane, search"
)


class Lock:
    """An advisory lock on a file that the system releases when its process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def acquire(self) -> bool:
        """Take it if it is free; whether it was."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "a+b")  # noqa: SIM115 - held open as long as the lock is
        try:
            _lock(file)
        except OSError as error:
            file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def held_elsewhere(self) -> bool:
        """Whether somebody (this process included) holds it now."""
        if not self.path.exists():
            return False
        probe = Lock(self.path)
        if probe.acquire():
            probe.release()
            return False
        return True


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True)
class RunRow:
    """What a list shows of a run, from the index alone. `preview` is the path of its picture, or None."""

    id: str
    method: str
    network: str
    status: Status
    name: str
    note: str
    pinned: bool
    created: str
    seconds: float
    device: str
    image: str | None
    subject: str
    summary: dict[str, Any]
    error: str
    fingerprint: str
    random: bool
    imported: str
    lane: str
    preview: Path | None


@dataclass(frozen=True)
class Live:
    """How far an unfinished run is. `fraction` in [0, 1]; `seconds` since it began, `seconds_left` a guess or None.

    `ahead`: how many queued runs of its lane come first. `curve`: one mapping for each report, with "step".
    """

    status: Status
    fraction: float
    message: str
    seconds: float
    seconds_left: float | None
    preview: Path | None
    ahead: int
    cancelling: bool
    folder: Path

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Losses by term, oldest first."""
        try:
            lines = (self.folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        rows = []
        for line in lines:
            with contextlib.suppress(ValueError):  # a last line that is only half written
                rows.append(json.loads(line))
        return rows


@dataclass
class LiveRun:
    """The executor's side of a running run: it holds the lock, reports progress and sees the cancel flag."""

    folder: Path
    record: RunRecord
    lock: Lock
    started: float = field(default_factory=time.monotonic)
    _last: float = -1.0
    _last_preview: float = -1.0
    _preview: NDArray[np.uint8] | None = None
    _curve: list[str] = field(default_factory=list)
    _steps: int = 0
    _begun: tuple[float, float] | None = None

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled once somebody has asked for it."""
        if (self.folder / "cancel").exists():
            raise Cancelled("the run was cancelled")

    def report(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        """Keep the live folder up to date, at most a few times a second. A full disk does not stop the run here."""
        if curve is not None:
            self._curve.append(json.dumps({"step": self._steps, **{k: float(v) for k, v in curve.items()}}))
            self._steps += 1
        if preview is not None:
            self._preview = preview
        elapsed = time.monotonic() - self.started
        if elapsed - self._last < 0.2 and fraction < 1:
            return
        self._last = elapsed
        if elapsed - self._last_preview >= 0.4:
            self._last_preview = elapsed
            self.show()
        with contextlib.suppress(OSError):
            if self._curve:
                with open(self.folder / "curve.jsonl", "a", encoding="utf-8") as file:
                    file.write("\n".join(self._curve) + "\n")
                self._curve.clear()
            if self._begun is None and fraction > 0:
                self._begun = (fraction, elapsed)
            state: dict[str, Any] = {"fraction": fraction, "message": message, "at": time.time()}
            state |= {"seconds": round(elapsed, 3), "begun": self._begun}
            write_whole(self.folder / "progress.json", json.dumps(state).encode())

    def show(self) -> None:
        """Write the latest preview, if there is a new one."""
        preview, self._preview = self._preview, None
        if preview is not None:
            with contextlib.suppress(OSError):
                write_whole(self.folder / "preview.png", _png(_thumbnail(preview), 1))

    def save_photo(self, frame: NDArray[np.uint8]) -> None:
        """Keep the network's frame uint8 (H, W, C), so that a run that ends early still shows its photo."""
        with contextlib.suppress(OSError):
            write_whole(self.folder / "photo.png", _png(_picture(frame), 1))


class StoredRun:
    """One run as its folder tells it. Reading is lazy; a name that is not there raises UnknownNameError."""

    def __init__(self, store: Store, record: RunRecord, folder: Path) -> None:
        self.store, self.record, self.folder = store, record, folder

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


Rows = list[RunRow]
Names = list[str]
Measures = list[tuple[float, float, str]]
Found = list[tuple[RunRecord, bool]]


class Store:
    """All runs of one home. Cheap to make; safe to use from many threads and processes."""

    def __init__(self, home: Path | str | None = None) -> None:
        from fovea.models.home import home as default_home

        self.home = Path(home) if home is not None else default_home()
        self.runs = self.home / "runs"
        self.live_root = self.home / ".live"
        for folder in (self.runs, self.live_root):
            folder.mkdir(parents=True, exist_ok=True)
        self._prepare_index()

    # Making runs -----------------------------------------------------------------------------------------

    def new_record(self, request: Request, lane: str = "") -> RunRecord:
        """A fresh record of this request, with an id of its own; nothing is written."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        method = re.sub(r"[^a-z0-9]+", "-", request.method.lower()).strip("-") or "run"
        return RunRecord(
            id=f"{stamp}-{method}-{secrets.token_hex(3)}",
            method=request.method,
            network=NetworkRef(name=request.network),
            inputs=_request_inputs(request),
            options=dict(request.options),
            seed=request.seed,
            requested_device=request.device,
            requested_provider=request.provider,
            name=request.name,
            created=now(),
            lane=lane,
        )

    def submit(self, request: Request, lane: str = "", fingerprint: str = "") -> str:
        """Record a queued run and return its id; `fovea.engine.worker.submit` also sees to it that it runs."""
        record = self.new_record(request, lane)
        record.fingerprint = fingerprint
        with _saving():
            self._write_live(record)
            self._index(record)
        return record.id

    @contextlib.contextmanager
    def begin(self, record: RunRecord) -> Iterator[LiveRun]:
        """Run this record in this process: takes its lock and marks it running until the block ends.

        Raises Cancelled if it was cancelled while queued, StoreError if somebody else runs it.
        """
        folder = self._live_folder(record.id)
        lock = Lock(folder / "lock")
        for _ in range(20):  # somebody may be probing the lock this very moment
            if lock.acquire():
                break
            time.sleep(0.02)
        else:
            raise StoreError(f"run {record.id} is already running in another process")
        live = LiveRun(
            folder, record.model_copy(update={"status": "running", "started": record.started or now()}), lock
        )
        try:
            if self._status(record.id) not in (None, "queued"):
                raise Cancelled(f"run {record.id} is not waiting any more")
            with _saving():
                self._write_live(live.record)
                self._index(live.record)
            yield live
        finally:
            lock.release()
            if self._status(record.id) not in UNFINISHED:
                shutil.rmtree(folder, ignore_errors=True)

    def update(self, live: LiveRun, record: RunRecord) -> None:
        """Replace what is recorded of a running run."""
        live.record = record.model_copy(update={"status": "running"})
        with _saving():
            self._write_live(live.record)
            self._index(live.record)

    def save(self, record: RunRecord, result: Result, frame: NDArray[np.uint8] | None, live: LiveRun) -> RunRecord:
        """Write a finished run's folder in one step and return its record. Raises StoreError, nothing half written."""
        record = self._keep_edits(record)
        with self._new_folder(record.id) as folder:
            pictures = _save_images(folder / "images", result)
            _save_arrays(folder / "arrays.npz", result.arrays)
            _save_tables(folder / "tables", result.tables)
            if frame is not None:
                (folder / "inputs").mkdir()
                _picture(frame).save(folder / "inputs" / "photo.png", compress_level=3)
            preview = _preview(result, pictures, frame)
            if preview is not None:
                preview.save(folder / "preview.png", compress_level=6)
            (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
        live.record = record
        self._index(record, preview is not None)
        return record

    def finish(self, record: RunRecord, live: LiveRun, error: str = "", details: str = "") -> RunRecord:
        """Keep a run that did not end well: its record, its photo, the last picture that it showed."""
        live.show()
        record = self._keep_edits(record.model_copy(update={"error": error}))
        self._close(record, live.folder, details)
        live.record = record
        return record

    def _close(self, record: RunRecord, live_folder: Path, details: str = "") -> None:
        """Move what a live folder holds into the run's own and index it; a full disk leaves the index alone."""
        preview = False
        try:
            with self._new_folder(record.id) as folder:
                (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
                if details:
                    (folder / "error.txt").write_text(details, encoding="utf-8")
                if (live_folder / "photo.png").is_file():
                    (folder / "inputs").mkdir()
                    shutil.copyfile(live_folder / "photo.png", folder / "inputs" / "photo.png")
                for name in ("preview.png", "photo.png"):
                    if (live_folder / name).is_file() and not preview:
                        shutil.copyfile(live_folder / name, folder / "preview.png")
                        preview = True
        except StoreError:
            preview = False
        self._index(record, preview)

    def alias(self, run_id: str, target: str) -> None:
        """A queued run turned out to be one that is done: its id leads there from now on."""
        _check_id(run_id)
        with self._database() as db:
            db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (run_id, target))
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        shutil.rmtree(self._live_folder(run_id), ignore_errors=True)

    # Reading ---------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> StoredRun:
        """The run of that id, finished or not. Raises StoreError."""
        run_id = self.resolve(run_id)
        for folder in (self.runs / run_id, self._live_folder(run_id), self.runs / run_id):
            try:
                text = (folder / "run.json").read_text(encoding="utf-8")
            except OSError:
                continue
            return StoredRun(self, _parse_record(text, run_id), folder)
        raise StoreError(f"no run {run_id}: it was deleted, or belongs to another home")

    def resolve(self, run_id: str) -> str:
        """The id that really holds the run. Raises StoreError if it is no id."""
        _check_id(run_id)
        with self._database() as db:
            row = db.execute("SELECT target FROM aliases WHERE id = ?", (run_id,)).fetchone()
        return str(row[0]) if row else run_id

    def row(self, run_id: str) -> RunRow:
        """What the index knows of one run. Raises StoreError."""
        run_id = self.resolve(run_id)
        with self._database() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise StoreError(f"no run {run_id}: it was deleted, or belongs to another home")
        return self._row(row)

    def list(
        self,
        method: str | None = None,
        network: str | None = None,
        text: str | None = None,
        since: str | None = None,
        status: str | None = None,
        pinned: bool | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Rows:
        """Runs, newest first, from the index alone. `since` is an ISO date or time; `text` any words in its record."""
        where, values = _filters(method, network, text, since, status, pinned)
        with self._database() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM runs {where} ORDER BY created DESC, id DESC LIMIT ? OFFSET ?",
                (*values, limit, offset),
            ).fetchall()
        return [self._row(row) for row in rows]

    def count(
        self,
        method: str | None = None,
        network: str | None = None,
        text: str | None = None,
        since: str | None = None,
        status: str | None = None,
        pinned: bool | None = None,
    ) -> int:
        """How many runs `list` would give without a limit."""
        where, values = _filters(method, network, text, since, status, pinned)
        with self._database() as db:
            return int(db.execute(f"SELECT COUNT(*) FROM runs {where}", values).fetchone()[0])

    def networks(self) -> Names:
        """The networks that have runs, by name."""
        with self._database() as db:
            return [str(row[0]) for row in db.execute("SELECT DISTINCT network FROM runs ORDER BY network")]

    def find_done(self, fingerprint: str) -> str | None:
        """The id of a finished run of this machine with that fingerprint, or None."""
        return self._find(fingerprint, "status = 'done' AND imported = ''", lambda run_id: self.runs / run_id)

    def find_unfinished(self, fingerprint: str) -> str | None:
        """The id of a queued or running run with that fingerprint, or None."""
        self.sweep()
        return self._find(fingerprint, "status IN ('queued', 'running')", self._live_folder)

    def _find(self, fingerprint: str, condition: str, folder: Any) -> str | None:
        if not fingerprint:
            return None
        with self._database() as db:
            rows = db.execute(
                f"SELECT id FROM runs WHERE fingerprint = ? AND {condition} ORDER BY created DESC", (fingerprint,)
            ).fetchall()
        return next((str(row[0]) for row in rows if (folder(str(row[0])) / "run.json").is_file()), None)

    def measured(self, method: str | None, network: str | None, limit: int = 20) -> Measures:
        """(seconds without loading, work, device) of the last finished runs, for estimates."""
        where, values = _filters(method, network, None, None, "done", None)
        with self._database() as db:
            rows = db.execute(
                f"SELECT seconds - load_seconds, work, device FROM runs {where} AND work > 0 AND imported = '' "
                "ORDER BY created DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [(float(row[0]), float(row[1]), str(row[2])) for row in rows]

    def artifact(self, run_id: str, name: str) -> Path:
        """The file of that name in a run's folder ("images/heatmap.png"). Raises StoreError for any other name."""
        run_id = self.resolve(run_id)
        if not ARTIFACT.fullmatch(name):
            raise StoreError(f"no file {name!r} in run {run_id}: names are such as arrays.npz or images/heatmap.png")
        for folder in (self.runs / run_id, self._live_folder(run_id)):
            path = folder / name
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
        raise StoreError(f"no file {name!r} in run {run_id}")

    def live(self, run_id: str) -> Live | None:
        """How far an unfinished run is; None once it has finished. A run whose process died becomes interrupted."""
        run_id = self.resolve(run_id)
        status = self._status(run_id)
        if status == "running" and self._reap(run_id):
            return None
        if status not in UNFINISHED:
            return None
        folder = self._live_folder(run_id)
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        fraction = float(state.get("fraction", 0.0))
        seconds = float(state.get("seconds", 0.0))
        if state:
            seconds += max(time.time() - float(state["at"]), 0.0)
        begun, begun_at = state.get("begun") or (0.0, 0.0)  # loading the network is not part of the pace
        done = fraction - begun
        left = max(seconds - begun_at, 0.0) * (1 - fraction) / done if done > 0.02 else None
        preview = folder / "preview.png"
        return Live(
            status=status,
            fraction=fraction,
            message=str(state.get("message", "waiting for its turn" if status == "queued" else "starting")),
            seconds=seconds,
            seconds_left=left,
            preview=preview if preview.is_file() else None,
            ahead=self._ahead(run_id) if status == "queued" else 0,
            cancelling=(folder / "cancel").exists(),
            folder=folder,
        )

    def _ahead(self, run_id: str) -> int:
        with self._database() as db:
            row = db.execute(
                "SELECT COUNT(*) FROM runs AS other, runs AS this WHERE this.id = ? AND other.lane = this.lane "
                "AND other.created < this.created AND other.status IN ('queued', 'running')",
                (run_id,),
            ).fetchone()
        return int(row[0])

    # Changing --------------------------------------------------------------------------------------------

    def cancel(self, run_id: str) -> None:
        """Stop a run: at once if it waits, at its next step if it runs; no effect on a finished one."""
        run_id = self.resolve(run_id)
        with self._database() as db:
            waited = db.execute(
                "UPDATE runs SET status = 'cancelled' WHERE id = ? AND status = 'queued'", (run_id,)
            ).rowcount
        folder = self._live_folder(run_id)
        if waited:
            record = self.run(run_id).record.model_copy(update={"status": "cancelled", "finished": now()})
            self._close(record, folder)
            shutil.rmtree(folder, ignore_errors=True)
        elif self._status(run_id) == "running" and folder.is_dir():
            with contextlib.suppress(OSError):
                (folder / "cancel").touch()
            self._reap(run_id)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run a title of its own; "" takes it back."""
        self._edit(run_id, name=name.strip()[:200])

    def note(self, run_id: str, note: str) -> None:
        """Keep a note with a run."""
        self._edit(run_id, note=note.strip()[:10_000])

    def pin(self, run_id: str, pinned: bool = True) -> None:
        """Pin a run to the top of what people look for, or unpin it."""
        self._edit(run_id, pinned=pinned)

    def _edit(self, run_id: str, **changes: Any) -> None:
        run = self.run(run_id)
        record = run.record.model_copy(update=changes)
        with _saving():
            write_whole(run.folder / "run.json", record.to_json().encode())
        columns = ", ".join(f"{name} = ?" for name in changes)
        with self._database() as db:
            db.execute(
                f"UPDATE runs SET {columns}, search = ? WHERE id = ?", (*changes.values(), _search(record), record.id)
            )

    def _keep_edits(self, record: RunRecord) -> RunRecord:
        """The record with the name, note and pin that a user gave the run while it ran."""
        with self._database() as db:
            row = db.execute("SELECT name, note, pinned FROM runs WHERE id = ?", (record.id,)).fetchone()
        if row is None:
            return record
        return record.model_copy(update={"name": row[0], "note": row[1], "pinned": bool(row[2])})

    def delete(self, run_id: str) -> None:
        """Delete a finished run. Raises StoreError while it runs or if it is not there."""
        run_id = self.resolve(run_id)
        status = self._status(run_id)
        if status == "running" and not self._reap(run_id):
            raise StoreError(f"run {run_id} is running: cancel it first")
        if status == "queued":
            self.cancel(run_id)
        folder = self.runs / run_id
        if status is None and not folder.is_dir():
            raise StoreError(f"no run {run_id}: it was deleted, or belongs to another home")
        with self._database() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            db.execute("DELETE FROM aliases WHERE target = ?", (run_id,))
        if folder.is_dir():
            away = self.runs / f".deleted-{run_id}-{secrets.token_hex(3)}"
            with contextlib.suppress(OSError):
                folder.rename(away)
            shutil.rmtree(away if away.exists() else folder, ignore_errors=True)

    def sweep(self) -> Names:
        """Mark the runs whose process died: cancelled if that was asked for, else interrupted. Returns their ids."""
        with self._database() as db:
            rows = db.execute("SELECT id FROM runs WHERE status = 'running'").fetchall()
        return [str(row[0]) for row in rows if self._reap(str(row[0]))]

    def _reap(self, run_id: str) -> bool:
        """Close a running run whose lock nobody holds; whether it is finished now."""
        folder = self._live_folder(run_id)
        lock = Lock(folder / "lock")
        if folder.is_dir() and not lock.acquire():
            return False
        try:
            if self._status(run_id) != "running":
                return True  # its executor finished it just now
            finished = self.runs / run_id / "run.json"
            if finished.is_file():  # it died between the rename and the index
                record = _parse_record(finished.read_text(encoding="utf-8"), run_id)
                self._index(record, (self.runs / run_id / "preview.png").is_file())
            elif (folder / "run.json").is_file():
                self._close(self._dead_record(run_id, folder), folder)
            else:
                with self._database() as db:
                    db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            return True
        finally:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)

    def _dead_record(self, run_id: str, folder: Path) -> RunRecord:
        record = self._keep_edits(_parse_record((folder / "run.json").read_text(encoding="utf-8"), run_id))
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        update: dict[str, Any] = {"status": "cancelled", "finished": now(), "seconds": state.get("seconds", 0.0)}
        if not (folder / "cancel").exists():
            update |= {"status": "interrupted", "error": "its process ended before the run did; repeat it to go on"}
        return record.model_copy(update=update)

    # Sharing ---------------------------------------------------------------------------------------------

    def export_zip(self, run_id: str) -> bytes:
        """A finished run as one zip that `import_zip` reads, with the photo as it was given, so that it repeats."""
        buffer = io.BytesIO()
        self._zip(run_id, buffer)
        return buffer.getvalue()

    def write_zip(self, run_id: str, path: Path) -> Path:
        """The same as a file. Raises StoreError."""
        with _saving(), whole(path) as part, part.open("wb") as file:
            self._zip(run_id, file)
        return path

    def _zip(self, run_id: str, file: Any) -> None:
        run = self.run(run_id)
        if run.record.status in UNFINISHED:
            raise StoreError(f"run {run.id} is {run.record.status}: export it when it has finished")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name in run.artifacts:
                stored = not name.endswith((".npz", ".json", ".txt"))
                archive.write(
                    run.folder / name, f"{run.id}/{name}", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                )
            for name, content in _original_photos(run.record):
                if f"inputs/{name}" not in run.artifacts:
                    archive.writestr(f"{run.id}/inputs/{name}", content, zipfile.ZIP_STORED)

    def import_zip(self, source: Path | str | bytes | BinaryIO) -> str:
        """Take in a run that `export_zip` wrote, and return its id (a new one if that id is taken).

        Raises StoreError, one line and nothing changed, for anything else: names or sizes out of bounds,
        links, encrypted members, pickled arrays, a record that does not parse.
        """
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            with zipfile.ZipFile(opened) as archive:
                members = _checked_members(archive)
                record = _imported_record(archive, members)
                return self._take_in(archive, members, record)
        except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, RuntimeError, zipfile.LargeZipFile):
            raise StoreError("not a run exported by Fovea: the zip file is damaged, or is no zip file") from None
        except OSError as error:
            raise StoreError(f"the zip file cannot be imported: {error.strerror or error}") from None

    def _take_in(self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], record: RunRecord) -> str:
        taken = self._status(record.id) is not None or (self.runs / record.id).exists()
        if taken:
            old = self.run(record.id).record
            if (old.fingerprint, old.finished, old.created) == (record.fingerprint, record.finished, record.created):
                return record.id
            record.id = f"{record.id[:-6]}{secrets.token_hex(3)}"
        record = record.model_copy(update={"imported": now(), "lane": ""})
        with self._new_folder(record.id) as folder:
            total = 0
            for name, info in members.items():
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                total += _extract(archive, info, path, IMPORT_BYTES - total)
                _check_file(path, name)
            (folder / "run.json").write_text(record.to_json(), encoding="utf-8")
            photos = [path for path in (folder / "inputs").glob("original-*") if path.is_file()]
            for path in photos:
                _keep_imported_photo(path)
        self._index(record, (self.runs / record.id / "preview.png").is_file())
        return record.id

    # The index -------------------------------------------------------------------------------------------

    def rebuild(self) -> int:
        """Make the index again from the folders; returns how many runs there are. Unreadable folders are left out."""
        found: Found = []
        for root in (self.live_root, self.runs):
            for folder in sorted(root.iterdir()):
                if not ID.fullmatch(folder.name):
                    continue
                with contextlib.suppress(OSError, StoreError):
                    record = _parse_record((folder / "run.json").read_text(encoding="utf-8"), folder.name)
                    found.append((record, root == self.runs and (folder / "preview.png").is_file()))
        with self._database() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM runs")
            for record, preview in found:
                db.execute(_INSERT, _values(record, preview))
            db.execute("COMMIT")
        self.sweep()
        return len(found)

    def _prepare_index(self) -> None:
        path = self.home / "index.sqlite"
        try:
            with self._database() as db:
                if db.execute("PRAGMA user_version").fetchone()[0] == INDEX_VERSION:
                    return
        except StoreError:
            if not path.exists() or not _is_damaged(path):
                raise
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    path.with_name(path.name + suffix).unlink()
        with _INDEX_LOCK, self._database() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] == INDEX_VERSION:
                db.execute("COMMIT")
                return
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {INDEX_VERSION}")
            db.execute("COMMIT")
        self.rebuild()

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, in autocommit; what SQLite refuses becomes a StoreError."""
        db = None
        try:
            db = sqlite3.connect(self.home / "index.sqlite", timeout=30, isolation_level=None)
            db.execute("PRAGMA synchronous = NORMAL")
            yield db
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise StoreError(_disk_full(self.home)) from None
            raise StoreError(f"the index of runs {self.home / 'index.sqlite'} cannot be used: {error}") from None
        finally:
            if db is not None:
                db.close()

    def _index(self, record: RunRecord, preview: bool = False) -> None:
        with self._database() as db:
            db.execute(_INSERT, _values(record, preview))

    def _status(self, run_id: str) -> str | None:
        with self._database() as db:
            row = db.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).fetchone()
        return str(row[0]) if row else None

    def _row(self, row: tuple[Any, ...]) -> RunRow:
        value = dict(zip(_COLUMNS.split(", "), row, strict=True))
        return RunRow(
            id=value["id"],
            method=value["method"],
            network=value["network"],
            status=value["status"],
            name=value["name"],
            note=value["note"],
            pinned=bool(value["pinned"]),
            created=value["created"],
            seconds=value["seconds"],
            device=value["device"],
            image=value["image"],
            subject=value["subject"],
            summary=json.loads(value["summary"]),
            error=value["error"],
            fingerprint=value["fingerprint"],
            random=bool(value["random"]),
            imported=value["imported"],
            lane=value["lane"],
            preview=self.runs / value["id"] / "preview.png" if value["preview"] else None,
        )

    # Folders ---------------------------------------------------------------------------------------------

    def _live_folder(self, run_id: str) -> Path:
        return self.live_root / run_id

    def _write_live(self, record: RunRecord) -> None:
        folder = self._live_folder(record.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "run.json", record.to_json().encode())

    @contextlib.contextmanager
    def _new_folder(self, run_id: str) -> Iterator[Path]:
        """A temporary folder that becomes the run's when the block ends well, and is removed when it does not."""
        temporary = self.runs / f".tmp-{run_id}-{secrets.token_hex(3)}"
        try:
            with _saving():
                temporary.mkdir()
                yield temporary
                for path in [*temporary.rglob("*"), temporary]:
                    _fsync(path)
                temporary.rename(self.runs / run_id)
                _fsync(self.runs)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


_INDEX_LOCK = threading.Lock()
_SCHEMA = (
    "DROP TABLE IF EXISTS runs",
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, method TEXT, network TEXT, status TEXT, name TEXT, note TEXT, pinned INTEGER,
        created TEXT, seconds REAL, load_seconds REAL, work REAL, device TEXT, image TEXT, subject TEXT, summary TEXT,
        error TEXT, fingerprint TEXT, preview INTEGER, random INTEGER, imported TEXT, lane TEXT, search TEXT)""",
    "CREATE INDEX runs_created ON runs (created)",
    "CREATE INDEX runs_fingerprint ON runs (fingerprint)",
    "CREATE INDEX runs_status ON runs (status)",
    "CREATE TABLE IF NOT EXISTS aliases (id TEXT PRIMARY KEY, target TEXT)",
)
_INSERT = f"INSERT OR REPLACE INTO runs ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(', ')))})"


def _values(record: RunRecord, preview: bool) -> tuple[Any, ...]:
    return (
        record.id,
        record.method,
        record.network.name,
        record.status,
        record.name,
        record.note,
        int(record.pinned),
        record.created,
        record.seconds,
        record.load_seconds,
        record.work,
        record.device,
        record.image,
        record.subject,
        json.dumps(record.summary),
        record.error,
        record.fingerprint,
        int(preview),
        int(record.network.random),
        record.imported,
        record.lane,
        _search(record),
    )


def _search(record: RunRecord) -> str:
    """What a text filter looks through, in lower case."""
    parts = [record.id, record.title, record.note, record.method, record.network.name, record.subject]
    parts += [f"{name}={value}" for name, value in record.options.items()]
    parts += [f"{name}={value}" for name, value in record.summary.items()]
    return "\n".join(str(part) for part in parts).lower()[:20_000]


def _filters(
    method: str | None,
    network: str | None,
    text: str | None,
    since: str | None,
    status: str | None,
    pinned: bool | None,
) -> tuple[str, list[Any]]:
    clauses, values = ["1"], []
    for column, value in (("method", method), ("network", network), ("status", status)):
        if value:
            clauses.append(f"{column} = ?")
            values.append(value)
    for word in (text or "").lower().split():
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        clauses.append("search LIKE ? ESCAPE '\\'")
        values.append(f"%{escaped}%")
    if since:
        clauses.append("created >= ?")
        values.append(str(since))
    if pinned is not None:
        clauses.append("pinned = ?")
        values.append(str(int(pinned)))
    return "WHERE " + " AND ".join(clauses), values


def _request_inputs(request: Request) -> list[Any]:
    from fovea.engine.run import Input

    if not request.image:
        return []
    return [Input(name="image", kind="photo", reference=request.image, title=_photo_title(request.image))]


def _photo_title(reference: str) -> str:
    with contextlib.suppress(FoveaError):
        from fovea.engine.data.photos import photo_name

        return photo_name(reference)
    return reference


def _check_id(run_id: str) -> None:
    if not ID.fullmatch(run_id):
        raise StoreError(f"no run {run_id[:80]!r}: an id is like 20261123-014501-occlusion-a1b2c3")


def _parse_record(text: str, run_id: str) -> RunRecord:
    try:
        record = RunRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"run {run_id} has a damaged run.json ({where}: {first['msg']})") from None
    if record.schema_version > SCHEMA:
        raise StoreError(f"run {run_id} was saved by a newer Fovea (schema {record.schema_version}, not {SCHEMA})")
    return record.model_copy(update={"id": run_id})


def _is_damaged(path: Path) -> bool:
    """Whether the file is no SQLite database at all, or one that cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return bool(db.execute("PRAGMA quick_check").fetchone()[0] != "ok")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


# Writing files -------------------------------------------------------------------------------------------


def _disk_full(where: Path) -> str:
    return f"the disk is full: nothing was saved in {where}; make room there, or set FOVEA_HOME to another disk"


@contextlib.contextmanager
def _saving() -> Iterator[None]:
    """What the system refuses while saving becomes one line."""
    try:
        yield
    except OSError as error:
        from fovea.models.home import home

        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(_disk_full(home())) from None
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


def _check_name(kind: str, name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise StoreError(f"{kind} {name!r} cannot be saved: a name has letters, digits, dots, dashes and underscores")
    return name


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    if not arrays:
        return
    values = {_check_name("array", name): np.asarray(value) for name, value in arrays.items()}
    for name, value in values.items():
        if value.dtype.hasobject:
            raise StoreError(f"array {name} holds Python objects: give it a numeric or text dtype")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in values.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, value, allow_pickle=False)


def _save_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    if tables:
        folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{_check_name('table', name)}.parquet", index=False)


def _save_images(folder: Path, result: Result) -> dict[str, Path]:
    """Write the pictures; their names (as the method gave them) to their files."""
    if result.images:
        folder.mkdir()
    written: dict[str, Path] = {}
    for name, picture in result.images.items():
        suffix = PurePosixPath(name).suffix.lower()
        path = folder / (_check_name("image", name) if suffix in IMAGE_FORMATS else f"{_check_name('image', name)}.png")
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            picture = _picture(picture)
            if path.suffix.lower() in (".jpg", ".jpeg"):
                picture.convert("RGB").save(path, quality=92)
            elif path.suffix.lower() == ".png":
                picture.save(path, compress_level=4)
            else:
                picture.save(path)
        written[name] = path
    return written


def _preview(result: Result, pictures: Mapping[str, Path], frame: NDArray[np.uint8] | None) -> Image.Image | None:
    chosen: Any = result.preview
    if isinstance(chosen, str):
        path = pictures.get(chosen) or (next(iter(pictures.values()), None) if not chosen else None)
        if path is not None:
            with Image.open(path) as picture:
                return _thumbnail(picture.convert("RGB"))
        if frame is None:
            return None
        chosen = frame
    return _thumbnail(chosen)


def _picture(pixels: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as Pillow's."""
    if isinstance(pixels, Image.Image):
        return pixels
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise StoreError(f"a picture must be uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _thumbnail(pixels: NDArray[np.uint8] | Image.Image) -> Image.Image:
    picture = _picture(pixels).copy()
    if picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    picture.thumbnail((PREVIEW, PREVIEW))
    return picture


def _png(picture: Image.Image, level: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


# Zips ----------------------------------------------------------------------------------------------------


def _original_photos(record: RunRecord) -> Iterator[tuple[str, bytes]]:
    """The photos that were kept by content, as (file name, bytes), so that an imported run can be repeated."""
    from fovea.engine.data.photos import photo_path

    for one in record.inputs:
        if one.kind == "photo" and one.reference.startswith("photo:"):
            with contextlib.suppress(FoveaError, OSError):
                path = photo_path(one.reference)
                if path.suffix.lower() in IMAGE_FORMATS:
                    yield f"original-{one.name}{path.suffix.lower()}", path.read_bytes()


def _keep_imported_photo(path: Path) -> None:
    from fovea.engine.data.photos import keep_photo

    keep_photo(path.read_bytes())
    path.unlink()


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


def _imported_record(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> RunRecord:
    info = members.get("run.json")
    if info is None or info.file_size > 8 << 20:
        raise StoreError("not a run exported by Fovea: the zip file has no run.json")
    with archive.open(info) as file:
        content = file.read((8 << 20) + 1)
    prefix = info.filename.partition("/")[0]
    try:
        text = content.decode("utf-8")
        run_id = prefix if ID.fullmatch(prefix) else str(json.loads(text)["id"])
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, RecursionError):
        raise StoreError("not a run exported by Fovea: its run.json does not parse") from None
    _check_id(run_id)
    record = _parse_record(text, run_id)
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
