"""The command that gives a run again."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

from fovea.engine.errors import UnknownNameError
from fovea.engine.method import find_method

if TYPE_CHECKING:
    from fovea.engine.run.record import RunRecord


def command_line(record: RunRecord) -> str:
    """What gives this run again: `python -m engine METHOD …`, with the options that are not the defaults."""
    parts = ["python", "-m", "engine", record.method, "--network", record.network.name]
    image = next((source.reference for source in record.inputs if source.name == "image"), None)
    if image:
        parts += ["--image", image]
    defaults: dict[str, Any] = {}
    with contextlib.suppress(UnknownNameError):
        defaults = find_method(record.method).options().model_dump(mode="json")
    for name, value in record.options.items():
        flag = "--" + name.replace("_", "-")
        if name in defaults and value == defaults[name]:
            continue
        if isinstance(value, bool):
            parts.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list | tuple):
            parts += [flag, ",".join(str(item) for item in value)]
        else:
            parts += [flag, "none" if value is None else str(value)]
    if record.seed:
        parts += ["--seed", str(record.seed)]
    for flag, asked in (("--device", record.requested_device), ("--provider", record.requested_provider)):
        if asked != "auto":
            parts += [flag, asked]
    return shlex.join(parts)


def only_here(record: RunRecord) -> bool:
    """Whether the command names a photo by its content, which only the machine that made the run can look up."""
    return any(str(source.reference).startswith("photo:") for source in record.inputs)
