"""The object cut out of a photo by a map: found where its colours are, told where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from fovea.engine.errors import OptionsError
from fovea.engine.explain.maps.segment import cut_out, segment
from fovea.engine.method import Job, find_method
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red disc and a red speck on noisy green; its mask; a map that flickers, higher on part of the disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 45) ** 2 < 18**2
    frame = np.where(disc[..., None], (180, 40, 30), (40, 120, 50)) + rng.integers(-12, 12, (60, 80, 3))
    frame[4:7, 4:7] = (180, 40, 30)
    strength = rng.random((60, 80)) * (0.05 + 0.95 * np.exp(-((y - 28) ** 2 + (x - 42) ** 2) / 120))
    return frame.clip(0, 255).astype(np.uint8), disc, strength


def test_the_object_is_found_whole_from_a_map_of_a_part() -> None:
    frame, disc, strength = scene()
    mask = segment(frame, strength)
    assert mask is not None
    assert (mask & disc).sum() / (mask | disc).sum() > 0.95
    assert not mask[5, 5], "only the largest part is the object"
    np.testing.assert_array_equal(mask, segment(frame, strength))
    cut = cut_out(frame, mask)
    np.testing.assert_array_equal(cut[..., 3] == 255, mask)
    np.testing.assert_array_equal(cut[..., :3], frame)


def test_a_flat_map_or_photo_has_no_object() -> None:
    frame, _, strength = scene()
    assert segment(frame, np.zeros_like(strength)) is None
    assert segment(np.full_like(frame, 90), strength) is None


def test_saliency_saves_mask_and_cutout(tiny: TinyNetwork, make_job: Make) -> None:
    job = make_job("saliency", tiny, segment=True)
    result = find_method("saliency").run(job)
    height, width = tiny.card.preprocessing.size
    if "mask" not in result.images:
        assert "no object" in job.warnings[0]
        return
    mask = np.asarray(result.images["mask"])
    assert mask.shape == (height, width)
    assert np.asarray(result.images["cutout"]).shape == (height, width, 4)
    assert result.summary["object_share"] == pytest.approx((mask == 255).mean())


def test_quantiles_in_the_wrong_order_are_refused(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    with pytest.raises(OptionsError, match="above background"):
        make_job("saliency", tiny_networks["wide"], segment=True, foreground=0.2)
