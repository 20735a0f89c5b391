"""The animation of a run and the memory that it is told to need."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import OptionsError
from fovea.engine.make.optimise import loop, memory, optimisers
from fovea.engine.make.optimise.animation import Animation
from fovea.engine.make.optimise.canvas import PixelCanvas, to_picture
from fovea.engine.make.optimise.growth import Growth
from fovea.engine.make.optimise.losses import ClassScore, ascend
from fovea.engine.method import Job
from fovea.engine.panels.data_uri import data_uri
from fovea.models.card import OUTPUT
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]


def filmed(job: Job, steps: int, frames: int = 5) -> bytes:
    animation = Animation(steps, frames=frames, side=24)
    canvas = PixelCanvas(to_picture(job.frame))
    terms = [ascend("logit", ClassScore(1))]
    growth = Growth(job.progress, animation=animation)
    loop.optimise(job, canvas, terms, steps=steps, optimiser=optimisers.adam(0.05), callback=growth)
    assert len(animation.kept) <= frames
    return animation.gif(job.frame)


def test_an_animation_is_short_small_and_the_same_for_the_same_run(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    job = make_job("ascent", tiny_networks["wide"])
    data = filmed(job, 12)
    assert data == filmed(job, 12)
    with Image.open(io.BytesIO(data)) as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 5  # steps 1, 4, 7 and 10, and the end
        assert gif.size == (24, 16)
        assert data_uri(gif).startswith("data:image/gif;base64,")
    animation = Animation(100_000)
    for _ in range(100_000):
        if animation.due():
            animation.add(np.zeros((64, 600, 3), np.uint8))
    assert len(animation.kept) == 32
    assert animation.kept[0].size == (224, 24)


def test_what_does_not_fit_is_told_with_what_does(
    tiny_networks: Mapping[str, TinyNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tiny_networks["functional"].card
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": 100_000_000)
    memory.check_memory(card, [OUTPUT], 100, 200)
    with pytest.raises(OptionsError, match=r"4000 x 3000 pixels needs about \d+\.\d GB, and 0\.1 GB are free") as told:
        memory.check_memory(card, [OUTPUT], 3000, 4000)
    longest = int(str(told.value).split()[-2])
    memory.check_memory(card, [OUTPUT], longest * 3 // 4, longest)
    with pytest.raises(OptionsError):
        memory.check_memory(card, [OUTPUT], longest * 9 // 10, longest * 12 // 10)
    assert memory.step_bytes(card, ["conv1"], 64, 64) < memory.step_bytes(card, [OUTPUT], 64, 64)
    assert memory.step_bytes(card, [OUTPUT], 64, 64, 4) == 4 * memory.step_bytes(card, [OUTPUT], 64, 64)


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 10_000_000 < memory.free_bytes() <= 1 << 62
