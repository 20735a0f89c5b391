"""Options that name a data set, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fovea.engine.options.base import Kind


@dataclass(frozen=True)
class DatasetKind(Kind):
    """A data set, by its registered name, or a folder or list file."""

    name: ClassVar[str] = "dataset"
    widget: ClassVar[str] = "dataset"
    input: ClassVar[str] = "dataset"


@dataclass(frozen=True)
class LabelKind(Kind):
    """A label of the chosen data set."""

    name: ClassVar[str] = "label"
    widget: ClassVar[str] = "label"


@dataclass(frozen=True)
class ItemKind(Kind):
    """An image of the chosen data set, by its key."""

    name: ClassVar[str] = "item"
