"""What the loop's callback tells: every step, a picture now and then, the frames that an animation wants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fovea.engine.make.optimise import growth
from fovea.engine.make.optimise.animation import Animation
from fovea.engine.make.optimise.canvas import PixelCanvas
from fovea.engine.make.optimise.growth import Growth, Iterate
from fovea.engine.progress import Progress


def test_every_step_is_told_within_its_span_and_pictures_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, str, bool, Mapping[str, float]]] = []

    def tell(
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        told.append((fraction, message, preview is not None, curve or {}))

    clock = iter([100.0, 100.1, 100.2, 100.4])
    monkeypatch.setattr(growth.time, "monotonic", lambda: next(clock))
    picture, animation = torch.zeros(1, 3, 8, 8), Animation(4, frames=2)
    callback = Growth(Progress(tell).span(0.5, 1.0), "layer, step", animation=animation)
    for step in range(1, 5):
        assert not callback(Iterate(step, 4, picture, {"loss": float(step)}, PixelCanvas(picture)))
    assert [fraction for fraction, *_ in told] == [0.625, 0.75, 0.875, 1.0]
    assert told[0][1] == "layer, step 1 of 4"
    assert [shown for _, _, shown, _ in told] == [True, False, False, True]
    assert told[2][3] == {"loss": 3.0}
    assert len(animation.kept) == 2
