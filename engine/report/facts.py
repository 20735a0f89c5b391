"""What a report tells of a run beside its panels: its method, its options, where and how it ran."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fovea.engine.errors import UnknownNameError
from fovea.engine.method import find_method
from fovea.engine.panels.words import words

if TYPE_CHECKING:
    from fovea.engine.run.record import RunRecord

STATES = {"failed": "failed", "cancelled": "was cancelled", "interrupted": "was interrupted"}


def method_words(record: RunRecord) -> dict[str, str]:
    """Title, question and summary of the method; one that is not known here has only its name."""
    try:
        method = find_method(record.method)
    except UnknownNameError:
        return {"title": record.method, "question": "", "summary": ""}
    return {"title": method.title, "question": method.question, "summary": method.summary}


def started(record: RunRecord) -> str:
    """When it started, to the second."""
    return str(record.started or record.created).replace("T", " ").split(".")[0]


def state(record: RunRecord) -> str:
    """One sentence on a run that is not done."""
    if record.status == "done":
        return ""
    told = f"This run {STATES.get(record.status, f'is {record.status}')}"
    return f"{told}: {record.error}" if record.error else f"{told}."


def summary(record: RunRecord) -> list[tuple[str, str]]:
    """Name and value of what the method found most telling."""
    return [(name.replace("_", " "), words(value)) for name, value in record.summary.items()]


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """What is known of the run beside its options, as name and text."""
    network = record.network
    told = [
        ("Run", record.id),
        ("Method", f"{record.method}, version {record.method_version}"),
        ("Network", f"{network.name}{' (random weights)' if network.random else ''}"),
        ("Weights", f"sha256 {network.sha256}" if network.sha256 else ""),
        ("Seed", str(record.seed)),
        ("Device", record.device),
        ("Provider", record.provider),
        ("Precision", record.precision),
        *((name.capitalize(), value) for name, value in record.ran.items() if name not in ("provider", "precision")),
        ("Machine", record.machine),
        ("Started", record.started),
        ("Took", f"{record.seconds:.3g} s" if record.seconds else ""),
    ]
    return [(name, str(value)) for name, value in told if value]


def options(record: RunRecord) -> list[tuple[str, str, str]]:
    """(name, value, help) of every option."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(UnknownNameError):
        fields = dict(find_method(record.method).options.model_fields)
    return [
        (name, "none" if value is None else words(value), fields[name].description or "" if name in fields else "")
        for name, value in record.options.items()
    ]
