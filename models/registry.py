"""The networks that a user registered: `$FOVEA_HOME/networks.toml`, read and edited.

The file is the user's own: what an edit does not concern, comments and layout included, stays byte for byte.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.models import bundled
from fovea.models.entry import IMAGENET, check_entry, resolve, written_names
from fovea.models.errors import NetworkError, WeightsError, unknown
from fovea.models.home import home, write_whole


def registered() -> dict[str, dict[str, Any]]:
    """The entries of `$FOVEA_HOME/networks.toml` by name. Raises NetworkError if the file is not valid."""
    entries = _parse(_text()).get("networks", {})
    for name, entry in entries.items():
        check_entry(name, entry)
    return dict(entries)


def register(name: str, **fields: Any) -> None:
    """Write `[networks.NAME]` to networks.toml: architecture, and weights, weights_key, random, trust, classes, input,
    output, output_name, arguments, title.

    Paths may be relative to the folder of networks.toml. Replaces an entry of the same name: what it says anew is
    changed where it stands. Raises NetworkError.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == bundled.NAME:
        raise NetworkError(
            f"{name!r} cannot be the name of a network: use letters, digits, '_', '.' and '-', begin with a letter or "
            f"a digit, and do not take {bundled.NAME!r}, which is Fovea's own network"
        )
    entry: dict[str, Any] = _plain(fields)
    check_entry(name, entry)
    for key in ("weights", "classes"):
        if key in entry and entry[key] != IMAGENET and not resolve(entry[key]).is_file():
            if key == "classes" and written_names(entry[key]):
                continue
            raise WeightsError(f"{name}: there is no file at {resolve(entry[key])}, which {key} names")
    entries = registered()
    _edit(name, entry, entries | {name: entry}, [_change, _replace] if name in entries else [_append])


def unregister(name: str) -> None:
    """Take a network out of networks.toml; its files stay. Raises UnknownNameError."""
    entries = registered()
    if name not in entries:
        raise unknown("registered network", name, entries)
    del entries[name]
    _edit(name, {}, entries, [_remove])


_Edit = Callable[[str, str, Mapping[str, Any]], str]
"""The text of networks.toml, the name and the fields of an entry, to the new text."""


def _path() -> Path:
    return home() / "networks.toml"


def _text() -> str:
    """What networks.toml holds, its line ends as they are."""
    path = _path()
    try:
        return path.read_bytes().decode("utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise NetworkError(f"{path} is not valid TOML: {error}") from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NetworkError(f"{_path()} is not valid TOML: {error}") from None


def _plain(value: Any) -> Any:
    """`value` as TOML has it: no None, lists for tuples, text for what it has no type for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _edit(name: str, entry: Mapping[str, Any], wanted: Mapping[str, Any], edits: Sequence[_Edit]) -> None:
    """Write what the first of `edits` makes of the file that then says `wanted`, and all else as before.

    tomlkit loses its way in files where one table is written in several places: its text is not trusted unread.
    """
    text = _text()
    before = _parse(text)
    for edit in edits:
        try:
            edited = edit(text, name, entry)
            after = tomllib.loads(edited)
        except Exception:
            continue
        if after.pop("networks", {}) == wanted and after == {k: v for k, v in before.items() if k != "networks"}:
            write_whole(_path(), edited.encode("utf-8"))
            return
    raise NetworkError(f"{_path()} is written in a way that cannot be edited here: edit [networks.{name}] by hand")


def _append(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """The entry as a new table at the file's end."""
    import tomlkit

    end = "\r\n" if "\r\n" in text else "\n"
    table = tomlkit.dumps({"networks": {name: entry}}).replace("\n", end)
    gap = "" if not text else end if text.endswith("\n") else end * 2
    return f"{text}{gap}{table}"


def _change(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """What the entry says anew is changed where it stands."""
    import tomlkit

    def put(table: Any, fields: Mapping[str, Any]) -> None:
        for key in [key for key in table if key not in fields]:
            del table[key]
        for key, value in fields.items():
            old = table.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                put(old, value)
            elif old is None or repr(old.unwrap()) != repr(value):
                table[key] = value

    document = tomlkit.parse(text)
    networks: Any = document["networks"]
    put(networks[name], entry)
    return tomlkit.dumps(document)


def _replace(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """The entry as a new table at the file's end, and the old one gone."""
    return _append(_remove(text, name, entry), name, entry)


def _remove(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """The text without the entry of that name. tomlkit takes the comments that follow a table for its own; those stay
    that stand below its last line."""
    import tomlkit

    document = tomlkit.parse(text)
    networks: Any = document["networks"]
    del networks[name]
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
