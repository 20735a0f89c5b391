"""How far a run is: a fraction, a few words, a picture and the losses; a part of a run tells within its span."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Tell(Protocol):
    """Is told how far a run is."""

    def __call__(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        """`fraction` in [0, 1]; `message` a few words; `preview` uint8 (H, W, 3); `curve` losses by term now.

        Raises Cancelled if the user stopped the run.
        """


class Progress:
    """A run's progress, or that of a part of it: fractions of the part become fractions of the run."""

    def __init__(self, tell: Tell | None = None, start: float = 0.0, end: float = 1.0) -> None:
        self._tell, self._start, self._end = tell, start, end
        self._heading = self._message = ""

    def __call__(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        """As `Tell`, with the fraction of this part. Raises Cancelled."""
        if self._tell is None:
            return
        if self._message:
            message, preview, curve = self._message, None, None
        if self._heading:
            message = f"{self._heading}: {message}"
        self._tell(self._start + (self._end - self._start) * fraction, message, preview, curve)

    def span(self, start: float, end: float) -> Progress:
        """The progress of a part that goes from `start` to `end` of this one, both in [0, 1]."""
        part, length = copy.copy(self), self._end - self._start
        part._start, part._end = self._start + length * start, self._start + length * end
        return part

    def under(self, heading: str) -> Progress:
        """The same progress, each message after `heading` and a colon."""
        part = copy.copy(self)
        part._heading = heading
        return part

    def saying(self, message: str) -> Progress:
        """The same progress, of which only `message` and the fraction are told: of a method that is part of another."""
        part = copy.copy(self)
        part._message = message
        return part


SILENT = Progress()
"""The progress of what nobody watches."""
