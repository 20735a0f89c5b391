"""What the figures of a map say, in plain words: does it find what the score needs, and does it depend on learning?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fovea.engine.explain.maps.family import RECIPES

if TYPE_CHECKING:
    from fovea.engine.explain.faithfulness.trial import Changed, Curves, CurveTest

MARGIN = 0.05
"""A difference of areas counts from this share of the score's fall between the photo and nothing of it."""

FORGETS, KEEPS = 0.4, 0.6
"""Mean rank correlations with re-initialised layers: below the first a map depends on them, above the second not."""


@dataclass(frozen=True)
class Verdict:
    """`word` names the outcome for tables, `title` and `text` tell it with its numbers, `warning` is "" or a line.

    `gain` is insertion minus deletion area; `kept` the mean rank correlation over the stages, NaN if not tested.
    """

    word: str
    title: str
    text: str
    warning: str
    gain: float
    kept: float


def judge(name: str, test: CurveTest, curves: Curves | None, changed: Sequence[Changed]) -> Verdict:
    """The verdict on one map of the family from its curves and its randomised versions (none: not tested)."""
    title = RECIPES[name].title
    if curves is None:
        text = (
            f"The map has the same value everywhere, so it ranks no pixel above another: the score of "
            f"{test.subject.words} does not change with any pixel here. There is nothing to test, and nothing to trust."
        )
        return Verdict("no order", f"{title} says nothing here", text, f"{title} is constant: {NO_ORDER}", _NAN, _NAN)
    gain = curves.insertion_area - curves.deletion_area
    found, told = _finding(test, curves, gain)
    kept = mean_rank(changed)
    learned, told_learned = _learning(kept, changed)
    word = _word(found, learned)
    warning = ""
    if learned == "no":
        known = RECIPES[name].known
        warning = f"{title} hardly changes when the network forgets (rank correlation {kept:.2f}): " + (
            f"{known}" if known else "it says little about what was learned"
        )
    return Verdict(word, f"{title}: {_TITLES[word]}", f"{told} {told_learned}".strip(), warning, gain, kept)


_NAN = math.nan
NO_ORDER = "it ranks no pixel above another, so its curves would be those of chance"

_TITLES = {
    "holds up": "holds up in these tests",
    "with care": "read it with care",
    "photo, not network": "shows the photo more than the network",
    "misses": "does not find what the score needs",
}
"""How a verdict is headed, by its word."""


def _word(found: str, learned: str) -> str:
    if learned == "no":
        return "photo, not network"
    if found == "no":
        return "misses"
    return "holds up" if found == "yes" and learned in ("yes", "") else "with care"


def _finding(test: CurveTest, curves: Curves, gain: float) -> tuple[str, str]:
    """Whether the map's first pixels are those that the score needs: "yes", "blob" (no more than a
    plain blob), "half" (in one of the two curves), "no"."""
    chance = test.random_insertion - test.random_deletion
    blob = test.centre.insertion_area - test.centre.deletion_area
    margin = MARGIN * test.span
    sooner = _clear(test.random_deletion - curves.deletion_area, [one.deletion_area for one in test.random])
    later = _clear(curves.insertion_area - test.random_insertion, [one.insertion_area for one in test.random])
    if gain <= chance + margin and sooner:
        found, words = "half", "Taken away, its pixels matter more than a random order's; put back, they do not"
    elif gain <= chance + margin and later:
        found, words = "half", "Put back, its pixels matter more than a random order's; taken away, they do not"
    elif gain <= chance + margin:
        found, words = "no", "Its pixels matter no more than a random order's"
    elif gain <= blob + margin:
        found, words = (
            "blob",
            "Its pixels matter more than a random order's, but no more than a plain blob's in the centre",
        )
    else:
        found, words = "yes", "The pixels that it ranks first matter, more than a random order's or a centre blob's"
    spread = float(np.std([one.deletion_area for one in test.random]))
    return found, (
        f"{words}: deletion area {curves.deletion_area:.3g} (random {test.random_deletion:.3g} ± {spread:.2g}, "
        f"centre {test.centre.deletion_area:.3g}; less is better), insertion area {curves.insertion_area:.3g} "
        f"(random {test.random_insertion:.3g}, centre {test.centre.insertion_area:.3g}; more is better)."
    )


def _clear(difference: float, areas: Sequence[float]) -> bool:
    """Whether a difference from random orders stands out: over twice their deviation and a tenth of their mean."""
    return difference > max(2 * float(np.std(areas)), 0.1 * abs(float(np.mean(areas))))


def _learning(kept: float, changed: Sequence[Changed]) -> tuple[str, str]:
    """Whether the map depends on what the network learned: "yes", "partly", "no", or "" where it was not tested."""
    if not changed:
        return "", ""
    last = changed[-1]
    words = {
        "yes": "It depends on what the network learned",
        "partly": "It depends in part on what the network learned",
        "no": "It hardly depends on what the network learned",
    }
    learned = "yes" if kept < FORGETS else "partly" if kept < KEEPS else "no"
    end = "the map is constant" if math.isnan(last.rank) else f"{last.rank:.2f}, SSIM {last.ssim:.2f}"
    return learned, (
        f"{words[learned]}: re-initialised from the top, layer after layer, its mean rank correlation with the "
        f"original is {kept:.2f} (with {last.layers} of {last.of} layers: {end})."
    )


def telling(changed: Sequence[Changed]) -> list[Changed]:
    """The stages that tell: those where the first layer still stands, if there are such.

    Without any layer the photo's edges are gone, too, so that every map changes, also one that draws edges alone.
    """
    return [one for one in changed if one.layers < one.of] or list(changed)


def mean_rank(changed: Sequence[Changed]) -> float:
    """The mean rank correlation over the telling stages, NaN where there is none; a constant map counts as 0."""
    found = [0.0 if math.isnan(one.rank) else one.rank for one in telling(changed)]
    return float(np.mean(found)) if found else math.nan


def mean_ssim(changed: Sequence[Changed]) -> float:
    """The mean SSIM over the telling stages, NaN where there is none."""
    return float(np.mean([one.ssim for one in telling(changed)])) if changed else math.nan


def told_of_score(test: CurveTest) -> str:
    """What a reader must know of the score itself: saturated, or nearly nothing; "" if it is neither."""
    if test.subject.layer or test.score != "probability":
        return ""
    words = f"the probability of {test.subject.words} is {test.clean:.5g} on this photo"
    if test.clean > 0.9999:
        return f"{words}, saturated: it stays flat while much is deleted; score logit shows more"
    if test.clean < 0.02:
        return f"{words}, so there is little to delete: these areas say little, score logit says more"
    return ""
