"""How far a run is: a fraction, a few words, a picture and the losses; a part of a run tells within its span."""

from __future__ import annotations

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

    def __init__(self, tell: Tell | None = None, start: float = 0.0, end: float = 1.0, message: str = "") -> None:
        self._tell, self._start, self._end, self._message = tell, start, end, message

    def __call__(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        """As `Tell`, with the fraction of this part. Raises Cancelled."""
        if self._tell is not None:
            if self._message:
                message, preview, curve = self._message, None, None
            self._tell(self._start + (self._end - self._start) * fraction, message, preview, curve)

    def span(self, start: float, end: float) -> Progress:
        """The progress of a part that goes from `start` to `end` of this one, both in [0, 1]."""
        length = self._end - self._start
        return Progress(self._tell, self._start + length * start, self._start + length * end, self._message)

    def saying(self, message: str) -> Progress:
        """The same progress, of which only `message` and the fraction are told: for a method run as a part of another."""
        return Progress(self._tell, self._start, self._end, message)


SILENT = Progress()
"""The progress of what nobody watches."""
