"""From what is seen of an output, how the network ends and which values come out, to what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import Preprocessing
from fovea.models.errors import NetworkError
from fovea.models.output import MEANINGS, OutputKind, declared_kind
from fovea.models.output_end import End

SUMS, ROUGH_SUMS = 1e-4, 2e-2
"""Probabilities of classes sum to 1 up to this; in half precision, where a softmax is seen, up to that."""


@dataclass(frozen=True)
class Stance:
    """Which values came out for a handful of images: whether there were any, whether all lie in [0, 1], whether each
    image's sum to 1, or roughly, and whether their exponentials do."""

    some: bool
    shares: bool = False
    sums: bool = False
    rough_sums: bool = False
    log_sums: bool = False

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.float64]]) -> Stance:
        """From the outputs (units,) of some images."""
        if not rows or any(not row.size for row in rows):
            return cls(False)
        shares = all(row.min() >= -1e-6 and row.max() <= 1 + 1e-6 for row in rows)
        furthest = max(abs(row.sum() - 1) for row in rows)
        log_sums = all(row.max() <= 1e-6 and abs(np.exp(row).sum() - 1) <= SUMS for row in rows)
        return cls(True, shares, shares and furthest <= SUMS, shares and furthest <= ROUGH_SUMS, log_sums)


@dataclass(frozen=True)
class Seen:
    """How a network ends, which values came out, and how many there are for a photo."""

    end: End
    stance: Stance
    units: int


def trial_images(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Seven inputs (7, C, H, W): weak and strong noise, and pictures of a slope, waves, patches, black and white."""
    height, width = preprocessing.size
    channels = preprocessing.channels
    rows, columns = np.mgrid[0:height, 0:width] / (height, width)[0]
    rng = np.random.default_rng(0)
    slope = np.stack([rows, columns, 1 - rows, columns * rows], -1)[..., :channels]
    waves = np.stack([np.sin(9 * columns + k) * np.cos(7 * rows + k) / 2 + 0.5 for k in range(channels)], -1)
    coarse = rng.random((4, 4, channels)).repeat(-(-height // 4), 0).repeat(-(-width // 4), 1)[:height, :width]
    pictures = [slope.clip(0, 1), waves, coarse, np.zeros_like(waves), np.ones_like(waves)]
    frames = np.stack([np.rint(picture * 255).astype(np.uint8) for picture in pictures])
    noise = rng.standard_normal((2, channels, height, width)).astype(np.float32)
    return np.concatenate([noise * np.array([1, 8], np.float32).reshape(2, 1, 1, 1), preprocessing.normalise(frames)])


_HOW: dict[End, str] = {
    "softmax": "it ends in a softmax",
    "log_softmax": "it ends in the logarithm of a softmax",
    "sigmoid": "it ends in a sigmoid",
    "log_sigmoid": "it ends in the logarithm of a sigmoid",
    "slice": "it ends in a part of a softmax",
    "": "no softmax or sigmoid is seen at its end",
}


def told_kind(seen: Seen, declared: OutputKind | None) -> tuple[OutputKind, str]:
    """What an output means and the note that says how that was seen, and which option says otherwise."""
    if declared is not None:
        kind = declared_kind(declared, seen.units)
        if declared == "binary" and seen.units == 1 and seen.end == "sigmoid" and seen.stance.shares:
            kind = "binary_probability"
            return kind, f"{_output(kind, seen.units)}: registered as binary, and it ends in a sigmoid."
        return kind, f"{_output(kind, seen.units)}, as registered."
    kind, how, certain = _one(seen) if seen.units == 1 else _several(seen)
    return kind, f"{_output(kind, seen.units)}: {how}{_otherwise(kind, certain)}."


def _output(kind: OutputKind, units: int) -> str:
    numbers = "number" if units == 1 else "numbers"
    return f"Output: {units} {numbers} a photo, read as {MEANINGS[kind].words}"


def _otherwise(kind: OutputKind, certain: bool) -> str:
    other = {
        "logits": "--output sigmoid_logits if a photo can have several labels",
        "probabilities": "--output logits if they are none",
        "sigmoid": "--output probabilities if a photo has one class of all",
        "binary": "--output binary_probability if it is a probability, features if it is a measure",
        "binary_probability": "--output binary if it is a logit, features if it is a measure",
    }.get(kind, "--output says otherwise")
    return f" ({other})" if certain else f". This is uncertain: register it with {other}"


def _one(seen: Seen) -> tuple[OutputKind, str, bool]:
    """The kind of a single number, how it was seen, and whether that is sure."""
    if seen.end in ("sigmoid", "slice") and (seen.stance.shares or not seen.stance.some):
        return "binary_probability", _HOW[seen.end], True
    if seen.end == "softmax":
        return "binary_probability", "it ends in a softmax, which over one number alone is always 1", False
    if seen.end in ("log_sigmoid", "log_softmax"):
        return "binary", f"{_HOW[seen.end]}, whose probability cannot be read", False
    if seen.end == "" and seen.stance.some and seen.stance.shares:
        how = "for noise and pictures, weak and strong, all of its values lie from 0 to 1"
        return "binary_probability", how, False
    how = "its values go beyond 0 to 1" if seen.stance.some and not seen.stance.shares else _HOW[""]
    return "binary", how, True


def _several(seen: Seen) -> tuple[OutputKind, str, bool]:
    """The kind of several numbers, how it was seen, and whether that is sure."""
    stance = seen.stance
    if seen.end == "log_softmax" or (stance.some and stance.log_sums):
        how = _HOW["log_softmax"] if seen.end else "the exponentials of its values sum to 1 for each image"
        return "logits", f"{how}, and the softmax of such logarithms is the probabilities", True
    if stance.some and (stance.sums or (stance.rough_sums and seen.end == "softmax")):
        how = _HOW["softmax"] if seen.end == "softmax" else "its values lie from 0 to 1 and sum to 1 for each image"
        return "probabilities", how, True
    if not stance.some and seen.end == "softmax":
        return "probabilities", _HOW["softmax"], True
    if seen.end in ("sigmoid", "slice") and (stance.shares or not stance.some):
        return "sigmoid", f"{_HOW[seen.end]}, and its values do not sum to 1", True
    if stance.some and stance.shares:
        how = "its values lie from 0 to 1, but do not sum to 1, and no sigmoid is seen at its end"
        return "logits", how, False
    if seen.end == "log_sigmoid":
        return "logits", f"{_HOW['log_sigmoid']}: let it return the logits themselves", False
    if seen.end:
        return "logits", f"{_HOW[seen.end]}, but its values are no probabilities", False
    return "logits", _HOW[""] + (" and its values are no probabilities" if stance.some else ""), True


def named_classes(name: str, kind: OutputKind, units: int, classes: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names of the classes, and the note of where they come from. Raises NetworkError where they do not fit."""
    sides = MEANINGS[kind].sides
    count = 2 if sides else units
    if sides and len(classes) == 1:
        return (
            f"not {classes[0]}",
            classes[0],
        ), f"Classes: {classes[0]} where the answer is yes, not {classes[0]} else."
    if classes and len(classes) != count:
        asked = "give the names of no and of yes" if sides else "give one name for each score"
        raise NetworkError(
            f"{name} gives {units} {'score' if units == 1 else 'scores'}, but {len(classes)} class names were given: "
            f"{asked}"
        )
    if classes:
        return (
            classes,
            f"Classes: {count}, with the names that were given ({', '.join(classes[:2])}{' …' * (count > 2)}).",
        )
    names = tuple(f"class {i}" for i in range(count))
    if sides:
        return names, "Classes: class 1 where the answer is yes, class 0 where it is no (--classes no,yes names them)."
    return names, f"Classes: {count}, without names ({names[0]} to {names[-1]}; --classes names them)."
