"""Radii as people write them, and the smallest one that works."""

from __future__ import annotations

import pytest

from fovea.engine.make.attack.shared.radius import fraction, smallest_radius


def test_the_smallest_radius_is_found_by_bisection() -> None:
    found, trials = smallest_radius(lambda radius: radius * 255 > 4.5, 8 / 255, levels=True, largest=1.0)
    assert found == pytest.approx(5 / 255)
    assert {trial.works for trial in trials} == {True, False}
    found, _ = smallest_radius(lambda radius: radius > 3.3, 1.0, levels=False, largest=100.0)
    assert found == pytest.approx(3.3, rel=0.03)
    found, trials = smallest_radius(lambda radius: False, 0.1, levels=True, largest=1.0)
    assert found is None
    assert trials[-1].epsilon == 1.0


@pytest.mark.parametrize(
    ("first", "above", "found", "tried"),
    [
        (8.5, 7.6, 8, [8, 4, 6, 7]),
        (1.5, 0.9, 1, [1]),
        (1.5, 1.2, 2, [1, 2]),
        (8.5, 8.2, 9, [8, 16, 12, 10, 9]),
        (0.2, 0.5, 1, [1]),
        (200, 254.5, 255, [200, 255, 227, 241, 248, 251, 253, 254]),
    ],
)
def test_the_smallest_radius_is_whole_grey_levels(first: float, above: float, found: int, tried: list[int]) -> None:
    smallest, trials = smallest_radius(lambda radius: radius * 255 > above, first / 255, levels=True, largest=1.0)
    assert smallest == found / 255
    assert [trial.epsilon * 255 for trial in trials] == pytest.approx(tried)


def test_fractions() -> None:
    assert fraction("8/255") == 8 / 255
    assert fraction(0.5) == 0.5
    with pytest.raises(ValueError, match="fraction"):
        fraction("8/0")
