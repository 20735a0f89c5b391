"""The index of all runs, which lists are read from: one SQLite table, made again from the folders whenever it is
missing, damaged or of another version."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

from fovea.engine.errors import StoreError
from fovea.engine.run.record import UNFINISHED, RunRecord, Status
from fovea.engine.run.title import run_title
from fovea.engine.store.folder import disk_full

INDEX_VERSION = 2
SEARCHED = 20_000
"""Characters of a run that a text filter looks through."""


def search_text(record: RunRecord) -> str:
    """What a text filter looks through, in lower case."""
    parts = [record.id, run_title(record), record.note, record.method, record.network.name, record.subject]
    parts += [f"{name}={value}" for name, value in record.options.items()]
    parts += [f"{name}={value}" for name, value in record.summary.items()]
    return "\n".join(str(part) for part in parts).lower()[:SEARCHED]


class _From(NamedTuple):
    """Where a column's value comes from, if not from the record's field of the same name; `shown`: rows have it."""

    value: Callable[[RunRecord], Any]
    shown: bool = True


@dataclass(frozen=True)
class RunRow:
    """What a list shows of a run, from the index alone. `preview` is the path of its picture, or None.

    These fields are the table's columns, and the only place where they are declared: the schema, what is written and
    what is read follow from their names, their types and where their values come from.
    """

    id: str
    method: str
    network: Annotated[str, _From(attrgetter("network.name"))]
    status: Status
    name: str
    note: str
    pinned: bool
    created: str
    seconds: float
    load_seconds: float
    work: float
    device: str
    image: str | None
    subject: str
    summary: dict[str, Any]
    error: str
    fingerprint: str
    preview: Annotated[Path | None, _From(lambda record: None)]
    random: Annotated[bool, _From(attrgetter("network.random"))]
    imported: str
    lane: str
    turn: int
    owner: str
    search: Annotated[str, _From(search_text, shown=False)] = ""


class _Stored(NamedTuple):
    """How SQLite holds a type: its column type, how a value goes in and how it comes out."""

    type: str
    write: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda value: value


_STORED = {
    str: _Stored("TEXT"),
    str | None: _Stored("TEXT"),
    Status: _Stored("TEXT"),
    float: _Stored("REAL"),
    int: _Stored("INTEGER"),
    bool: _Stored("INTEGER", int, bool),
    dict[str, Any]: _Stored("TEXT", json.dumps, json.loads),
    Path | None: _Stored("INTEGER", bool),  # whether there is one: a home may be moved
}


class _Column(NamedTuple):
    name: str
    stored: _Stored
    value: Callable[[RunRecord], Any]
    shown: bool


def _declared_columns() -> list[_Column]:
    types, annotated = get_type_hints(RunRow), get_type_hints(RunRow, include_extras=True)
    columns = []
    for name, kind in types.items():
        told = getattr(annotated[name], "__metadata__", (_From(attrgetter(name)),))[0]
        columns.append(_Column(name, _STORED[kind], told.value, told.shown))
    return columns


_COLUMNS = _declared_columns()
_SHOWN = [column for column in _COLUMNS if column.shown]
_SELECT = f"SELECT {', '.join(column.name for column in _SHOWN)} FROM runs"
_INSERT = (
    f"INSERT OR REPLACE INTO runs ({', '.join(column.name for column in _COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_SCHEMA = (
    "DROP TABLE IF EXISTS runs",
    f"CREATE TABLE runs ({', '.join(f'{column.name} {column.stored.type}' for column in _COLUMNS)}, PRIMARY KEY (id))",
    "CREATE INDEX runs_created ON runs (created)",
    "CREATE INDEX runs_fingerprint ON runs (fingerprint)",
    "CREATE INDEX runs_status ON runs (status)",
    "CREATE TABLE IF NOT EXISTS aliases (id TEXT PRIMARY KEY, target TEXT)",
)
_SINCE_1 = ("ALTER TABLE runs ADD COLUMN turn INTEGER DEFAULT 0", "ALTER TABLE runs ADD COLUMN owner TEXT DEFAULT ''")
"""What an index of version 1 lacks, which needs no look into the folders."""

_PREPARING = threading.Lock()
_UNFINISHED = f"status IN ({', '.join(repr(status) for status in UNFINISHED)})"


class Filter(TypedDict, total=False):
    """Which runs a list shows; what is None or left out does not narrow it.

    `since` is an ISO date or time; `text` any words in a run's title, note, options or summary.
    """

    method: str | None
    network: str | None
    status: str | None
    text: str | None
    since: str | None
    pinned: bool | None
    owner: str | None


class Index:
    """The table of runs of one home; `runs` is where their folders lie. Safe to use from many threads and processes."""

    def __init__(self, path: Path, runs: Path) -> None:
        self.path, self._runs = path, runs

    def prepare(self) -> bool:
        """Make the table if it is missing, damaged or of another version; whether it has to be filled from folders."""
        try:
            with self._database() as db:
                if _version(db) == INDEX_VERSION:
                    return False
        except StoreError:
            if not self.path.exists() or not _is_damaged(self.path):
                raise
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self.path.with_name(self.path.name + suffix).unlink()
        with _PREPARING, self._database() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            version = _version(db)
            for statement in {INDEX_VERSION: (), 1: _SINCE_1}.get(version, _SCHEMA):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {INDEX_VERSION}")
            db.execute("COMMIT")
        return version not in (1, INDEX_VERSION)

    def fill(self, records: Iterable[tuple[RunRecord, bool]]) -> None:
        """Replace all rows by those of these records, each with whether it has a preview."""
        with self._database() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM runs")
            for record, preview in records:
                db.execute(_INSERT, _values(record, preview))
            db.execute("COMMIT")

    def put(self, record: RunRecord, preview: bool = False) -> None:
        """Write a run's row."""
        with self._database() as db:
            db.execute(_INSERT, _values(record, preview))

    def edit(self, record: RunRecord, changed: Iterable[str]) -> None:
        """Write these columns of a run's row, and the text that it is found by."""
        columns = [column for column in _COLUMNS if column.name in {*changed, "search"}]
        assignments = ", ".join(f"{column.name} = ?" for column in columns)
        values = [column.stored.write(column.value(record)) for column in columns]
        with self._database() as db:
            db.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*values, record.id))

    def remove(self, run_id: str) -> None:
        """Forget a run, and the names that led to it."""
        with self._database() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            db.execute("DELETE FROM aliases WHERE target = ?", (run_id,))

    def alias(self, run_id: str, target: str) -> None:
        """Let an id lead to another run from now on; its own row goes."""
        with self._database() as db:
            db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (run_id, target))
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))

    def target(self, run_id: str) -> str:
        """The id that an alias leads to; any other id is its own."""
        with self._database() as db:
            row = db.execute("SELECT target FROM aliases WHERE id = ?", (run_id,)).fetchone()
        return str(row[0]) if row else run_id

    def cancel_waiting(self, run_id: str) -> bool:
        """Mark a queued run cancelled; whether it was queued. Nobody can start it afterwards."""
        with self._database() as db:
            changed = db.execute("UPDATE runs SET status = 'cancelled' WHERE id = ? AND status = 'queued'", (run_id,))
            return bool(changed.rowcount)

    def keep_edits(self, record: RunRecord) -> RunRecord:
        """The record with the name, note and pin that a user gave the run while it ran."""
        row = self.row(record.id)
        if row is None:
            return record
        return record.model_copy(update={"name": row.name, "note": row.note, "pinned": row.pinned})

    def row(self, run_id: str) -> RunRow | None:
        """A run's row, or None."""
        return next(iter(self._rows("WHERE id = ?", (run_id,))), None)

    def status(self, run_id: str) -> str | None:
        """A run's status, or None where there is no such run."""
        with self._database() as db:
            row = db.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).fetchone()
        return str(row[0]) if row else None

    def rows(self, wanted: Filter, limit: int, offset: int) -> list[RunRow]:
        """The runs that pass, newest first."""
        where, values = _where(wanted)
        return self._rows(f"{where} ORDER BY created DESC, id DESC LIMIT ? OFFSET ?", (*values, limit, offset))

    def count(self, wanted: Filter) -> int:
        """How many runs pass."""
        where, values = _where(wanted)
        with self._database() as db:
            return int(db.execute(f"SELECT COUNT(*) FROM runs {where}", values).fetchone()[0])

    def networks(self) -> list[str]:
        """The networks that have runs, by name."""
        with self._database() as db:
            return [str(row[0]) for row in db.execute("SELECT DISTINCT network FROM runs ORDER BY network")]

    def running(self) -> list[str]:
        """The ids of the runs that are marked running."""
        return self._ids("status = 'running'")

    def done(self, fingerprint: str) -> list[str]:
        """The ids of this machine's finished runs with that fingerprint, newest first."""
        return self._ids("status = 'done' AND imported = '' AND fingerprint = ?", fingerprint)

    def unfinished(self, fingerprint: str) -> list[str]:
        """The ids of the queued and running runs with that fingerprint, newest first."""
        return self._ids(f"{_UNFINISHED} AND fingerprint = ?", fingerprint)

    def ahead(self, run_id: str) -> int:
        """How many unfinished runs of its lane come before a queued run: what runs, and what has an earlier turn."""
        with self._database() as db:
            row = db.execute(
                "SELECT COUNT(*) FROM runs AS other, runs AS this WHERE this.id = ? AND other.lane = this.lane "
                f"AND other.id != this.id AND other.{_UNFINISHED} "
                "AND (other.status = 'running' OR (other.turn, other.created) < (this.turn, this.created))",
                (run_id,),
            ).fetchone()
        return int(row[0])

    def turns(self, lane: str) -> list[tuple[str, int]]:
        """The owner and the turn of each run that waits in a lane."""
        with self._database() as db:
            rows = db.execute("SELECT owner, turn FROM runs WHERE status = 'queued' AND lane = ?", (lane,)).fetchall()
        return [(str(owner), int(turn)) for owner, turn in rows]

    def owned(self, owner: str) -> list[str]:
        """The ids of all runs of an owner, newest first."""
        return self._ids("owner = ?", owner)

    def measured(self, method: str | None, network: str | None, limit: int) -> list[tuple[float, float, str]]:
        """(seconds without loading, work, device) of the last finished runs of this machine, newest first."""
        where, values = _where({"method": method, "network": network, "status": "done"})
        condition = f"{where} AND work > 0 AND imported = '' ORDER BY created DESC LIMIT ?"
        return [
            (row.seconds - row.load_seconds, row.work, row.device) for row in self._rows(condition, (*values, limit))
        ]

    def _ids(self, condition: str, *values: str) -> list[str]:
        with self._database() as db:
            rows = db.execute(f"SELECT id FROM runs WHERE {condition} ORDER BY created DESC", values).fetchall()
        return [str(row[0]) for row in rows]

    def _rows(self, condition: str, values: Iterable[Any]) -> list[RunRow]:
        with self._database() as db:
            rows = db.execute(f"{_SELECT} {condition}", tuple(values)).fetchall()
        return [self._read(row) for row in rows]

    def _read(self, row: tuple[Any, ...]) -> RunRow:
        values = {column.name: column.stored.read(value) for column, value in zip(_SHOWN, row, strict=True)}
        values["preview"] = self._runs / values["id"] / "preview.png" if values["preview"] else None
        return RunRow(**values)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, in autocommit; what SQLite refuses becomes a StoreError."""
        db = None
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            db.execute("PRAGMA synchronous = NORMAL")
            yield db
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise StoreError(disk_full(self.path.parent)) from None
            raise StoreError(f"the index of runs {self.path} cannot be used: {error}") from None
        finally:
            if db is not None:
                db.close()


def _values(record: RunRecord, preview: bool) -> list[Any]:
    """A record as the table's row; whether it has a preview is known to its folder alone."""
    values = {column.name: column.stored.write(column.value(record)) for column in _COLUMNS}
    return list((values | {"preview": preview}).values())


def _where(wanted: Filter) -> tuple[str, list[Any]]:
    clauses, values = ["1"], []
    for column in ("method", "network", "status", "owner"):
        if wanted.get(column):
            clauses.append(f"{column} = ?")
            values.append(wanted.get(column))
    for word in (wanted.get("text") or "").lower().split():
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        clauses.append("search LIKE ? ESCAPE '\\'")
        values.append(f"%{escaped}%")
    if since := wanted.get("since"):
        clauses.append("created >= ?")
        values.append(str(since))
    if (pinned := wanted.get("pinned")) is not None:
        clauses.append("pinned = ?")
        values.append(str(int(pinned)))
    return "WHERE " + " AND ".join(clauses), values


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _is_damaged(path: Path) -> bool:
    """Whether the file is no SQLite database at all, or one that cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return bool(db.execute("PRAGMA quick_check").fetchone()[0] != "ok")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True
