"""What is recorded of a run: the request that was made, how it went, what it read. Pure data; `run.json` holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fovea.engine.panels import AnyPanel

SCHEMA = 1
"""The version of run.json."""

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
UNFINISHED: tuple[Status, ...] = ("queued", "running")


class Request(BaseModel):
    """What a user asks for. `image` is a path, `sample:NAME` or `photo:SHA256`; `name` is the run's title."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: str
    network: str = "fovea"
    image: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    provider: str = "auto"
    name: str = ""


class NetworkRef(BaseModel):
    """The network of a run. `sha256` is that of its weights; `card` that of all that shapes its answers."""

    name: str
    sha256: str = ""
    card: str = ""
    random: bool = False


class Input(BaseModel):
    """One thing that a run read. `name` is "image" or the option that names it; `title` is for people."""

    name: str
    kind: Literal["photo", "dataset", "network"]
    reference: str
    sha256: str = ""
    title: str = ""
    images: int = 0


class RunRecord(BaseModel):
    """`run.json`: everything that is known of a run. Times are ISO 8601 in UTC, `seconds` is wall time,
    `load_seconds` the part of it before the method began.

    `provider` and `precision` are what really ran, `requested_*` what was asked. `work` is the method's
    number of forward passes, from which estimates are made. `imported`: when it came from another machine.
    `owner`: who asked for it where visitors log in; `turn`: its place in its lane, those of one turn by time.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    schema_version: int = Field(default=SCHEMA, alias="schema")
    id: str
    method: str
    method_version: int = 1
    status: Status = "queued"
    name: str = ""
    note: str = ""
    pinned: bool = False
    network: NetworkRef
    inputs: list[Input] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    requested_device: str = "auto"
    requested_provider: str = "auto"
    device: str = ""
    provider: str = ""
    precision: str = ""
    ran: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""
    created: str = ""
    started: str = ""
    finished: str = ""
    seconds: float = 0.0
    load_seconds: float = 0.0
    work: float = 0.0
    summary: dict[str, Any] = Field(default_factory=dict)
    panels: list[AnyPanel] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: str = ""
    fingerprint: str = ""
    lane: str = ""
    turn: int = 0
    owner: str = ""
    imported: str = ""

    @property
    def subject(self) -> str:
        """What the run looked at: its photo's or data set's title, or ""."""
        return next((read.title or read.reference for read in self.inputs if read.kind != "network"), "")

    @property
    def image(self) -> str | None:
        """The reference of the photo, or None."""
        return next((read.reference for read in self.inputs if read.name == "image"), None)

    def request(self) -> Request:
        """The request that gives this run again."""
        return Request(
            method=self.method,
            network=self.network.name,
            image=self.image,
            options=self.options,
            seed=self.seed,
            device=self.requested_device,
            provider=self.requested_provider,
            name=self.name,
        )

    def to_json(self) -> str:
        """The text of run.json."""
        return self.model_dump_json(by_alias=True, indent=1)


def now() -> str:
    """The time, ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy scalars and arrays become Python's, what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
