"""What the figures of a map say, in plain words: does it find what the score needs, and does it depend on learning?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fovea.engine.explain.maps.family import family

if TYPE_CHECKING:
    from fovea.engine.explain.faithfulness.map_tests import Changed, Curves, CurveTest

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
    member = family()[name]
    title = member.title
    if curves is None:
        text = (
            f"The map has the same value everywhere, so it ranks no pixel above another: the score of "
            f"{test.explained.words} does not change with any pixel here. There is nothing to test, and nothing to "
            f"trust."
        )
        return Verdict("no order", f"{title} says nothing here", text, f"{title} is constant: {NO_ORDER}", _NAN, _NAN)
    gain = curves.insertion_area - curves.deletion_area
    finds, sentence = _finding(test, curves, gain)
    kept = mean_rank(changed)
    learned, sentence_learned = _learning(kept, changed)
    word = _word(finds, learned)
    warning = ""
    if learned == "no":
        why = member.map.known or "it says little about what was learned"
        warning = f"{title} hardly changes when the network forgets (rank correlation {kept:.2f}): {why}"
    return Verdict(word, f"{title} {_TITLES[word]}", f"{sentence} {sentence_learned}".strip(), warning, gain, kept)


_NAN = math.nan
NO_ORDER = "it ranks no pixel above another, so its curves would be those of chance"

_TITLES = {
    "holds up": "holds up in these tests",
    "with care": "should be read with care",
    "photo, not network": "shows the photo more than the network",
    "misses": "does not find what the score needs",
}
"""How a verdict is headed after the map's title, by its word."""


def _word(finds: str, learned: str) -> str:
    if learned == "no":
        return "photo, not network"
    if finds == "no":
        return "misses"
    return "holds up" if finds == "yes" and learned in ("yes", "") else "with care"


def _finding(test: CurveTest, curves: Curves, gain: float) -> tuple[str, str]:
    """Whether the map's first pixels are those that the score needs, in a word and in a sentence.

    The word: "yes", "blob" (no more than a plain blob), "half" (in one of the two curves), "no".
    """
    chance = test.random_insertion - test.random_deletion
    blob = test.centre.insertion_area - test.centre.deletion_area
    margin = MARGIN * test.span
    sooner = _clear(test.random_deletion - curves.deletion_area, test.random_deletions)
    later = _clear(curves.insertion_area - test.random_insertion, test.random_insertions)
    if gain <= chance + margin and sooner:
        word = "half"
        words = "When they are taken away, its first pixels matter more than those of a random order; when they are "
        words += "put back, they do not"
    elif gain <= chance + margin and later:
        word = "half"
        words = "When they are put back, its first pixels matter more than those of a random order; when they are "
        words += "taken away, they do not"
    elif gain <= chance + margin:
        word, words = "no", "Its first pixels matter no more than those of a random order"
    elif gain <= blob + margin:
        word = "blob"
        words = "Its first pixels matter more than those of a random order, but no more than those of a plain blob in "
        words += "the centre"
    else:
        word = "yes"
        words = "The pixels that it ranks first matter more than those of a random order or of a blob in the centre"
    spread = float(np.std(test.random_deletions))
    return word, (
        f"{words}. Its deletion area is {curves.deletion_area:.3g}, where less is better (a random order has "
        f"{test.random_deletion:.3g} ± {spread:.2g}, the blob {test.centre.deletion_area:.3g}); its insertion area is "
        f"{curves.insertion_area:.3g}, where more is better (a random order has {test.random_insertion:.3g}, the blob "
        f"{test.centre.insertion_area:.3g})."
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
    end = "the map is constant" if math.isnan(last.rank) else f"it is {last.rank:.2f}, the SSIM {last.ssim:.2f}"
    return learned, (
        f"{words[learned]}: as layers are re-initialised from the top, the mean rank correlation with the original map "
        f"is {kept:.2f}; with {last.layers} of {last.of} layers re-initialised {end}."
    )


def telling(changed: Sequence[Changed]) -> list[Changed]:
    """The stages that tell: those where the first layer still stands, if there are such.

    Without any layer the photo's edges are gone, too, so that every map changes, also one that draws edges alone.
    """
    return [stage for stage in changed if stage.layers < stage.of] or list(changed)


def mean_rank(changed: Sequence[Changed]) -> float:
    """The mean rank correlation over the telling stages, NaN where there is none; a constant map counts as 0."""
    ranks = [0.0 if math.isnan(stage.rank) else stage.rank for stage in telling(changed)]
    return float(np.mean(ranks)) if ranks else math.nan


def mean_ssim(changed: Sequence[Changed]) -> float:
    """The mean SSIM over the telling stages, NaN where there is none."""
    return float(np.mean([stage.ssim for stage in telling(changed)])) if changed else math.nan


def caveat_of_score(test: CurveTest) -> str:
    """What a reader must know of the score itself: saturated, or nearly nothing; "" if it is neither."""
    if test.explained.layer or test.score != "probability":
        return ""
    words = f"the probability of {test.explained.words} is {test.clean:.5g} on this photo"
    if test.clean > 0.9999:
        return f"{words}, which is saturated: it stays flat while much is deleted; score logit shows more"
    if test.clean < 0.02:
        return f"{words}, so there is little to delete and these areas say little; score logit says more"
    return ""
