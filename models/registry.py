"""The networks that a user registered: `$FOVEA_HOME/networks.toml`."""

from __future__ import annotations

import re
from typing import Any

from fovea.models import bundled
from fovea.models.entry import IMAGENET, check_entry, resolve, written_names
from fovea.models.errors import NetworkError, WeightsError, unknown
from fovea.models.toml_tables import TomlTables, plain

_TABLES = TomlTables("networks.toml", "networks", NetworkError)


def registered() -> dict[str, dict[str, Any]]:
    """The entries of `$FOVEA_HOME/networks.toml` by name. Raises NetworkError if the file is not valid."""
    entries = _TABLES.read()
    for name, entry in entries.items():
        check_entry(name, entry)
    return entries


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
    entry: dict[str, Any] = plain(fields)
    check_entry(name, entry)
    for key in ("weights", "classes"):
        if key in entry and entry[key] != IMAGENET and not resolve(entry[key]).is_file():
            if key == "classes" and written_names(entry[key]):
                continue
            raise WeightsError(f"{name}: there is no file at {resolve(entry[key])}, which {key} names")
    registered()  # an entry that is wrong is told before anything is written
    _TABLES.put(name, entry)


def unregister(name: str) -> None:
    """Take a network out of networks.toml; its files stay. Raises UnknownNameError."""
    entries = registered()
    if name not in entries:
        raise unknown("registered network", name, entries)
    _TABLES.remove(name)
