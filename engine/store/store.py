"""The front of a home's runs: what pages, the command line and the worker ask for, each answered by the room beside it.

Folders hold the runs, finished (`folder`) or not (`live`); the `index` makes lists fast; `archive` takes them in.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Unpack

from fovea.engine.errors import StoreError
from fovea.engine.run.record import RunRecord
from fovea.engine.store.archive import Arrival
from fovea.engine.store.folder import StoredRun, read_record, saving
from fovea.engine.store.index import Filter, Index, RunRow
from fovea.engine.store.live import Live, LiveRun, LiveRuns
from fovea.engine.store.names import ARTIFACT, ID, another_id, check_id, no_run
from fovea.models.home import home as default_home
from fovea.models.home import write_whole

Rows = list[RunRow]
Ids = list[str]
Turns = list[tuple[str, int]]
Measures = list[tuple[float, float, str]]


class Store:
    """All runs of one home. Cheap to make; safe to use from many threads and processes."""

    def __init__(self, home: Path | str | None = None) -> None:
        self.home = Path(home) if home is not None else default_home()
        self.runs = self.home / "runs"
        self.runs.mkdir(parents=True, exist_ok=True)
        self.index = Index(self.home / "index.sqlite", self.runs)
        self.live_runs = LiveRuns(self.home / ".live", self.runs, self.index)
        if self.index.prepare():
            self.rebuild()

    # Making runs -----------------------------------------------------------------------------------------

    def submit(self, record: RunRecord) -> str:
        """Record a queued run and return its id; `fovea.engine.work.runs.submit` also sees to it that it runs."""
        self.live_runs.write(record)
        return record.id

    def begin(self, record: RunRecord) -> AbstractContextManager[LiveRun]:
        """Run this record in this process: takes its lock and marks it running until the block ends.

        Raises Cancelled if it was cancelled while queued, StoreError if somebody else runs it.
        """
        return self.live_runs.begin(record)

    def alias(self, run_id: str, target: str) -> None:
        """A queued run turned out to be one that is done: its id leads there from now on."""
        check_id(run_id)
        self.index.alias(run_id, target)
        self.live_runs.remove(run_id)

    # Reading ---------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> StoredRun:
        """The run of that id, finished or not. Raises StoreError."""
        run_id = self._target(run_id)
        finished = self.runs / run_id
        for folder in (finished, self.live_runs.folder(run_id), finished):  # it may finish between two looks
            with contextlib.suppress(OSError):
                return StoredRun(read_record(folder, run_id), folder)
        raise no_run(run_id)

    def row(self, run_id: str) -> RunRow:
        """What the index knows of one run. Raises StoreError."""
        run_id = self._target(run_id)
        row = self.index.row(run_id)
        if row is None:
            raise no_run(run_id)
        return row

    def list(self, limit: int = 50, offset: int = 0, **wanted: Unpack[Filter]) -> Rows:
        """Runs, newest first, from the index alone."""
        return self.index.rows(wanted, limit, offset)

    def count(self, **wanted: Unpack[Filter]) -> int:
        """How many runs `list` would give without a limit."""
        return self.index.count(wanted)

    def networks(self) -> Ids:
        """The networks that have runs, by name."""
        return self.index.networks()

    def find_done(self, fingerprint: str) -> str | None:
        """The id of a finished run of this machine with that fingerprint, or None."""
        ids = self.index.done(fingerprint) if fingerprint else []
        return next((run_id for run_id in ids if (self.runs / run_id / "run.json").is_file()), None)

    def find_unfinished(self, fingerprint: str) -> str | None:
        """The id of a queued or running run with that fingerprint, or None."""
        self.sweep()
        ids = self.index.unfinished(fingerprint) if fingerprint else []
        return next((run_id for run_id in ids if (self.live_runs.folder(run_id) / "run.json").is_file()), None)

    def measured(self, method: str | None, network: str | None, limit: int = 20) -> Measures:
        """(seconds without loading, work, device) of the last finished runs, for estimates."""
        return self.index.measured(method, network, limit)

    def turns(self, lane: str) -> Turns:
        """The owner and the turn of each run that waits in a lane."""
        return self.index.turns(lane)

    def stored_bytes(self, owner: str) -> int:
        """How many bytes the runs of an owner take."""
        folders = (self.runs / run_id for run_id in self.index.owned(owner))
        return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())

    def artifact(self, run_id: str, name: str) -> Path:
        """The file of that name in a run's folder ("images/heatmap.png"). Raises StoreError for any other name."""
        run_id = self._target(run_id)
        if not ARTIFACT.fullmatch(name):
            raise StoreError(f"no file {name!r} in run {run_id}: names are such as arrays.npz or images/heatmap.png")
        for folder in (self.runs / run_id, self.live_runs.folder(run_id)):
            path = folder / name
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
        raise StoreError(f"no file {name!r} in run {run_id}")

    def live(self, run_id: str) -> Live | None:
        """How far an unfinished run is; None once it has finished. A run whose process died becomes interrupted."""
        return self.live_runs.state(self._target(run_id))

    # Changing --------------------------------------------------------------------------------------------

    def cancel(self, run_id: str) -> None:
        """Stop a run: at once if it waits, at its next step if it runs; no effect on a finished one."""
        self.live_runs.cancel(self._target(run_id))

    def edit(
        self, run_id: str, *, name: str | None = None, note: str | None = None, pinned: bool | None = None
    ) -> None:
        """Give a run a title of its own ("" takes it back) or a note, or pin it; what is None stays as it is."""
        run = self.run(run_id)
        given = {
            "name": name if name is None else name.strip()[:200],
            "note": note if note is None else note.strip()[:10_000],
            "pinned": pinned,
        }
        changed: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        record = run.record.model_copy(update=changed)
        with saving():
            write_whole(run.folder / "run.json", record.to_json().encode())
        self.index.edit(record, changed)

    def delete(self, run_id: str) -> None:
        """Delete a finished run. Raises StoreError while it runs or if it is not there."""
        run_id = self._target(run_id)
        status = self.index.status(run_id)
        if status == "running" and not self.live_runs.reap(run_id):
            raise StoreError(f"run {run_id} is running: cancel it first")
        if status == "queued":
            self.cancel(run_id)
        folder = self.runs / run_id
        if status is None and not folder.is_dir():
            raise no_run(run_id)
        self.index.remove(run_id)
        if folder.is_dir():
            away = self.runs / f".deleted-{run_id}-{secrets.token_hex(3)}"
            with contextlib.suppress(OSError):
                folder.rename(away)
            shutil.rmtree(away if away.exists() else folder, ignore_errors=True)

    def sweep(self) -> Ids:
        """Mark the runs whose process died: cancelled if that was asked for, else interrupted. Returns their ids."""
        return self.live_runs.sweep()

    def import_zip(self, source: Path | str | bytes | BinaryIO, owner: str = "") -> str:
        """Take in a run that `archive.write_zip` wrote, and return its id (a new one if that id is taken).

        `owner`: who takes it in, where visitors log in; whom the zip names has no say here.

        Raises StoreError, one line and nothing changed, for anything else: names or sizes out of bounds,
        links, encrypted members, pickled arrays, a record that does not parse.
        """
        with Arrival(source) as arrival:
            record = arrival.record
            run_id = record.id
            if self.index.status(run_id) is not None or (self.runs / run_id).exists():
                here = self.run(run_id).record
                if (here.fingerprint, here.finished, here.created) == (
                    record.fingerprint,
                    record.finished,
                    record.created,
                ):
                    return run_id
                run_id = another_id(run_id)
            record = arrival.unpack(self.runs, run_id, owner)
        self.index.put(record, (self.runs / run_id / "preview.png").is_file())
        return run_id

    def rebuild(self) -> int:
        """Make the index again from the folders; returns how many runs there are. Unreadable folders are left out."""
        records: list[tuple[RunRecord, bool]] = []
        for root in (self.live_runs.root, self.runs):
            for folder in sorted(root.iterdir()):
                if ID.fullmatch(folder.name):
                    with contextlib.suppress(OSError, StoreError):
                        preview = root == self.runs and (folder / "preview.png").is_file()
                        records.append((read_record(folder, folder.name), preview))
        self.index.fill(records)
        self.sweep()
        return len(records)

    def _target(self, run_id: str) -> str:
        """The id that really holds the run. Raises StoreError if it is no id."""
        check_id(run_id)
        return self.index.target(run_id)
