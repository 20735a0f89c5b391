"""Runs that have not finished: how their executor reports, how others watch and cancel, and how the dead are closed.

    $FOVEA_HOME/.live/ID/       run.json progress.json preview.png curve.jsonl, a lock that its executor holds

A run whose lock nobody holds is dead, however its process ended.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import Cancelled, StoreError
from fovea.engine.method import Result
from fovea.engine.run.record import UNFINISHED, RunRecord, Status, now
from fovea.engine.store.folder import new_folder, read_record, saving, write_ending, write_result
from fovea.engine.store.index import Index
from fovea.engine.store.lock import Lock
from fovea.engine.store.names import no_run
from fovea.engine.store.pictures import as_picture, png_bytes, small_picture
from fovea.models.home import write_whole


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
    """The executor's side of a running run: it holds the lock, reports progress, sees the cancel flag and saves."""

    folder: Path
    record: RunRecord
    lock: Lock
    live_runs: LiveRuns
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
            self._show()
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

    def _show(self) -> None:
        """Write the latest preview, if there is a new one."""
        preview, self._preview = self._preview, None
        if preview is not None:
            with contextlib.suppress(OSError):
                write_whole(self.folder / "preview.png", png_bytes(small_picture(preview), 1))

    def save_photo(self, frame: NDArray[np.uint8]) -> None:
        """Keep the network's frame uint8 (H, W, C), so that a run that ends early still shows its photo."""
        with contextlib.suppress(OSError):
            write_whole(self.folder / "photo.png", png_bytes(as_picture(frame), 1))

    def update(self, record: RunRecord) -> None:
        """Replace what is recorded of the run while it runs."""
        self.record = record.model_copy(update={"status": "running"})
        self.live_runs.write(self.record)

    def save(self, record: RunRecord, result: Result, frame: NDArray[np.uint8] | None) -> RunRecord:
        """Write the finished run's folder in one step; returns its record. Raises StoreError, nothing half written."""
        record = self.live_runs.index.keep_edits(record)
        with new_folder(self.live_runs.runs, record.id) as folder:
            preview = write_result(folder, record, result, frame)
        self.record = record
        self.live_runs.index.put(record, preview)
        return record

    def finish(self, record: RunRecord, error: str = "", details: str = "") -> RunRecord:
        """Keep a run that did not end well: its record, its photo, the last picture that it showed."""
        self._show()
        self.record = self.live_runs.close(record.model_copy(update={"error": error}), details)
        return self.record


class LiveRuns:
    """All unfinished runs of a home: `root` holds their folders, `runs` those that they become."""

    def __init__(self, root: Path, runs: Path, index: Index) -> None:
        self.root, self.runs, self.index = root, runs, index
        root.mkdir(parents=True, exist_ok=True)

    def folder(self, run_id: str) -> Path:
        """Where an unfinished run lies."""
        return self.root / run_id

    def write(self, record: RunRecord) -> None:
        """Write an unfinished run's record into its folder and the index. Raises StoreError."""
        with saving():
            self.folder(record.id).mkdir(parents=True, exist_ok=True)
            write_whole(self.folder(record.id) / "run.json", record.to_json().encode())
            self.index.put(record)

    @contextlib.contextmanager
    def begin(self, record: RunRecord) -> Iterator[LiveRun]:
        """As `Store.begin`."""
        folder = self.folder(record.id)
        lock = Lock(folder / "lock")
        for _ in range(20):  # somebody may be probing the lock this very moment
            if lock.acquire():
                break
            time.sleep(0.02)
        else:
            raise StoreError(f"run {record.id} is already running in another process")
        running = record.model_copy(update={"status": "running", "started": record.started or now()})
        try:
            if self.index.status(record.id) not in (None, "queued"):
                raise Cancelled(f"run {record.id} is not waiting any more")
            self.write(running)
            yield LiveRun(folder, running, lock, self)
        finally:
            lock.release()
            if self.index.status(record.id) not in UNFINISHED:
                self.remove(record.id)

    def remove(self, run_id: str) -> None:
        """Remove an unfinished run's folder."""
        shutil.rmtree(self.folder(run_id), ignore_errors=True)

    def close(self, record: RunRecord, details: str = "") -> RunRecord:
        """Keep what a live folder holds as a run that has ended; a full disk still lets the index know of its end."""
        record = self.index.keep_edits(record)
        preview = False
        with contextlib.suppress(StoreError), new_folder(self.runs, record.id) as folder:
            preview = write_ending(folder, record, self.folder(record.id), details)
        self.index.put(record, preview and (self.runs / record.id).is_dir())
        return record

    def state(self, run_id: str) -> Live | None:
        """As `Store.live`."""
        status = self.index.status(run_id)
        if status == "running" and self.reap(run_id):
            return None
        if status not in UNFINISHED:
            return None
        folder = self.folder(run_id)
        told = self._told(run_id)
        fraction, seconds = float(told.get("fraction", 0.0)), float(told.get("seconds", 0.0))
        if told:
            seconds += max(time.time() - float(told["at"]), 0.0)
        begun, begun_at = told.get("begun") or (0.0, 0.0)  # loading the network is not part of the pace
        done = fraction - begun
        preview = folder / "preview.png"
        return Live(
            status=status,
            fraction=fraction,
            message=str(told.get("message", "waiting for its turn" if status == "queued" else "starting")),
            seconds=seconds,
            seconds_left=max(seconds - begun_at, 0.0) * (1 - fraction) / done if done > 0.02 else None,
            preview=preview if preview.is_file() else None,
            ahead=self.index.ahead(run_id) if status == "queued" else 0,
            cancelling=(folder / "cancel").exists(),
            folder=folder,
        )

    def cancel(self, run_id: str) -> None:
        """As `Store.cancel`."""
        folder = self.folder(run_id)
        if self.index.cancel_waiting(run_id):
            try:
                record = read_record(folder, run_id)
            except OSError:
                raise no_run(run_id) from None
            self.close(record.model_copy(update={"status": "cancelled", "finished": now()}))
            self.remove(run_id)
        elif self.index.status(run_id) == "running" and folder.is_dir():
            with contextlib.suppress(OSError):
                (folder / "cancel").touch()
            self.reap(run_id)

    def sweep(self) -> list[str]:
        """As `Store.sweep`."""
        return [run_id for run_id in self.index.running() if self.reap(run_id)]

    def reap(self, run_id: str) -> bool:
        """Close a running run whose lock nobody holds; whether it is finished now."""
        folder = self.folder(run_id)
        lock = Lock(folder / "lock")
        if folder.is_dir() and not lock.acquire():
            return False
        try:
            if self.index.status(run_id) != "running":
                return True  # its executor finished it just now
            finished = self.runs / run_id
            if (finished / "run.json").is_file():  # it died between the rename and the index
                self.index.put(read_record(finished, run_id), (finished / "preview.png").is_file())
            elif (folder / "run.json").is_file():
                self.close(self._dead_record(run_id))
            else:
                self.index.remove(run_id)
            return True
        finally:
            lock.release()
            self.remove(run_id)

    def _dead_record(self, run_id: str) -> RunRecord:
        record = read_record(self.folder(run_id), run_id)
        seconds = self._told(run_id).get("seconds", 0.0)
        update: dict[str, Any] = {"status": "cancelled", "finished": now(), "seconds": seconds}
        if not (self.folder(run_id) / "cancel").exists():
            update |= {
                "status": "interrupted",
                "error": "the process ended before the run did: repeat the run to go on",
            }
        return record.model_copy(update=update)

    def _told(self, run_id: str) -> dict[str, Any]:
        """What the executor reported last, or nothing."""
        with contextlib.suppress(OSError, ValueError):
            told: dict[str, Any] = json.loads((self.folder(run_id) / "progress.json").read_text(encoding="utf-8"))
            return told
        return {}

    def seconds_since_cancel(self, run_id: str) -> float:
        """How long ago somebody asked an unfinished run to stop; 0 if nobody did."""
        with contextlib.suppress(OSError):
            return time.time() - (self.folder(run_id) / "cancel").stat().st_mtime
        return 0.0
