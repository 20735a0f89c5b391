"""The colours of a map: which value gets which, and where a picture below shines through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.panels.look import DIVERGING, SEQUENTIAL

if TYPE_CHECKING:
    from fovea.engine.panels.look import Look, Scale

CUT_FROM = 10_000
"""A map of so many values is cut at their 99.9th percentile: a few extreme pixels would leave the rest in the dark."""


@dataclass(frozen=True)
class ColourScale:
    """`scale` says what the two ends are: "sequential" the smallest and the largest value, "diverging" one distance
    from zero to either side. `name` is Plotly's for the colours."""

    scale: Scale
    name: str

    @classmethod
    def of(cls, look: Look, own: Scale) -> ColourScale:
        """The scale that `look` chose, or else the panel's `own`."""
        scale = look.scale or own
        return cls(scale, look.colours or (SEQUENTIAL if scale == "sequential" else DIVERGING)[0])

    @property
    def brightness(self) -> float:
        """Of a grey picture under a map: bright colours stand out from a darker one."""
        return 0.6 if self.scale == "sequential" else 1.0

    def sampled(self, places: NDArray[Any]) -> NDArray[np.float64]:
        """The colours at places in [0, 1], red, green and blue in [0, 255], (n, 3)."""
        from plotly.colors import get_colorscale, sample_colorscale

        return np.array(sample_colorscale(get_colorscale(self.name), places.tolist(), colortype="tuple")) * 255

    def stops(self, fade: bool) -> list[tuple[float, str]]:
        """The colours as Plotly takes them; with `fade` what is near zero lets the picture through."""
        places = np.linspace(0, 1, 33)
        # The ends of a diverging scale are near black: over a photo its strong colours tell more.
        read = 0.5 + 0.8 * (places - 0.5) if self.scale == "diverging" else places
        drawn = []
        for place, (red, green, blue) in zip(places, self.sampled(read), strict=True):
            strength = abs(2 * place - 1) if self.scale == "diverging" else place
            alpha = min(1.0, 1.6 * strength) if fade else 1.0
            drawn.append((float(place), f"rgba({red:.0f},{green:.0f},{blue:.0f},{alpha:.3f})"))
        return drawn

    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """The values at the two ends of the scale."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return (-1.0, 1.0) if self.scale == "diverging" else (0.0, 1.0)
        if self.scale == "diverging":
            largest = float(np.abs(finite).max()) or 1.0
            if finite.size >= CUT_FROM:
                largest = float(np.quantile(np.abs(finite), 0.999)) or largest
            return -largest, largest
        low, high = float(finite.min()), float(finite.max())
        if finite.size >= CUT_FROM:
            most = float(np.quantile(finite, 0.999))
            high = most if most > low else high
        return (low, high) if high > low else (low, low + 1.0)
