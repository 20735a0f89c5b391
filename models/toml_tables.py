"""A file of the user's own that holds one table for each name, read and edited: `networks.toml`, `datasets.toml`.

What an edit does not concern, comments and layout included, stays byte for byte.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.models.errors import FoveaError
from fovea.models.home import home, write_whole

_Edit = Callable[[str, str, str, Mapping[str, Any]], str]
"""The text of the file, the table's name, an entry's name and its fields, to the new text."""


@dataclass(frozen=True)
class TomlTables:
    """The entries `[TABLE.NAME]` of a file in `$FOVEA_HOME`; what is wrong with the file is raised as `error`."""

    file: str
    table: str
    error: type[FoveaError]

    @property
    def path(self) -> Path:
        """Where the file lies, or would lie."""
        return home() / self.file

    def read(self) -> dict[str, Any]:
        """The entries by name, as they are written. Raises `error` if the file cannot be read."""
        entries = self._parse(self._text()).get(self.table, {})
        if not isinstance(entries, dict):
            raise self.error(f"{self.path} cannot be read: {self.table} is no table, so write [{self.table}.NAME]")
        return entries

    def put(self, name: str, fields: Mapping[str, Any]) -> None:
        """Add an entry at the file's end, or change where it stands what it says anew. Raises `error`."""
        entry, entries = plain(fields), self.read()
        edits: Sequence[_Edit] = [_change, _replace] if name in entries else [_append]
        self._edit(name, entry, entries | {name: entry}, edits)

    def remove(self, name: str) -> None:
        """Take out an entry that is there. Raises `error`."""
        entries = self.read()
        del entries[name]
        self._edit(name, {}, entries, [_remove])

    def _text(self) -> str:
        """What the file holds, its line ends as they are."""
        try:
            return self.path.read_bytes().decode("utf-8") if self.path.is_file() else ""
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from None
        except OSError as error:
            raise self.error(f"{self.path} cannot be read ({error.strerror or error})") from None

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> FoveaError:
        return self.error(f"{self.path} is not valid TOML, so it cannot be read: {error}")

    def _edit(self, name: str, entry: Mapping[str, Any], wanted: Mapping[str, Any], edits: Sequence[_Edit]) -> None:
        """Write what the first of `edits` makes of the file that then says `wanted`, and all else as before.

        tomlkit loses its way in files where one table is written in several places: its text is not trusted unread.
        """
        text = self._text()
        before = self._parse(text)
        for edit in edits:
            try:
                edited = edit(text, self.table, name, entry)
                after = tomllib.loads(edited)
            except Exception:
                continue
            same = {key: value for key, value in before.items() if key != self.table}
            if after.pop(self.table, {}) == wanted and after == same:
                try:
                    write_whole(self.path, edited.encode("utf-8"))
                except OSError as error:
                    raise self.error(f"{self.path} cannot be written ({error.strerror or error})") from None
                return
        raise self.error(
            f"{self.path} is written in a way that cannot be edited here: edit [{self.table}.{name}] by hand"
        )


def plain(value: Any) -> Any:
    """`value` as TOML has it: no None, lists for tuples, text for what it has no type for."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _append(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    """The entry as a new table at the file's end."""
    import tomlkit

    end = "\r\n" if "\r\n" in text else "\n"
    written = tomlkit.dumps({table: {name: entry}}).replace("\n", end)
    gap = "" if not text else end if text.endswith("\n") else end * 2
    return f"{text}{gap}{written}"


def _change(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    """What the entry says anew is changed where it stands."""
    import tomlkit

    def put(held: Any, fields: Mapping[str, Any]) -> None:
        for key in [key for key in held if key not in fields]:
            del held[key]
        for key, value in fields.items():
            old = held.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                put(old, value)
            elif old is None or repr(old.unwrap()) != repr(value):
                held[key] = value

    document = tomlkit.parse(text)
    entries: Any = document[table]
    put(entries[name], entry)
    return tomlkit.dumps(document)


def _replace(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    """The entry as a new table at the file's end, and the old one gone."""
    return _append(_remove(text, table, name, entry), table, name, entry)


def _remove(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    """The text without the entry of that name. tomlkit takes the comments that follow a table for its own; those stay
    that stand below its last line."""
    import tomlkit

    document = tomlkit.parse(text)
    entries: Any = document[table]
    del entries[name]
    rest = tomlkit.dumps(document)
    same = next((i for i, (old, new) in enumerate(zip(text, rest, strict=False)) if old != new), len(rest))
    start = text.rfind("\n", 0, same) + 1  # what was removed began on a line of its own
    gone = text[start : len(text) - len(rest) + start]
    if text != rest[:start] + gone + rest[start:]:
        return rest  # it stood in several places
    below: list[str] = []
    for line in reversed(gone.splitlines(keepends=True)):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        below.insert(0, line)
    kept = "".join(below) if any(line.strip() for line in below) else ""
    return rest[:start] + kept + rest[start:]
