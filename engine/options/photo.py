"""Options that name a second photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fovea.engine.options.base import Kind


@dataclass(frozen=True)
class PhotoKind(Kind):
    """A photo: a path, `sample:NAME`, or `photo:` and the content's sha256."""

    name: ClassVar[str] = "photo"
    widget: ClassVar[str] = "photo"
    input: ClassVar[str] = "photo"
