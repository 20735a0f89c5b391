"""What becomes of an attacked picture: how large its change is, whether it survives handling, whom else it fools."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.errors import NetworkError
from fovea.engine.make.judge.classifier import Ask, classifier
from fovea.engine.make.optimise.canvas import to_image

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.card import Card

Frame = NDArray[np.uint8]
JPEG = (95, 85, 75, 65, 50)
"""Qualities at which pictures are sent around."""


def saved_and_read(pixels: Frame, kind: str = "PNG", **how: Any) -> Frame:
    """An 8-bit picture (H, W, C) written to a file of that kind and read back, at its own size."""
    data = io.BytesIO()
    Image.fromarray(to_image(pixels)).save(data, kind, **how)
    return np.asarray(Image.open(data), np.uint8).reshape(pixels.shape)


def _shifted(pixels: Frame) -> Frame:
    """By one pixel to the right and down; the edge is repeated."""
    return np.pad(pixels, ((1, 0), (1, 0), (0, 0)), mode="edge")[:-1, :-1]


def _jpeg(quality: int) -> Callable[[Frame], Frame]:
    return lambda pixels: saved_and_read(pixels, "JPEG", quality=quality)


def treatments(job: Job[Any]) -> dict[str, Callable[[Frame], Frame]]:
    """What is done to pictures, by name; each takes and gives a frame."""
    preprocessing = job.card.preprocessing
    known: dict[str, Callable[[Frame], Frame]] = {
        "as saved, PNG": saved_and_read,
        "resize and crop": lambda pixels: preprocessing.frame(Image.fromarray(to_image(pixels))),
        "shifted by one pixel": _shifted,
    }
    if preprocessing.channels != 4:
        known |= {f"JPEG at quality {quality}": _jpeg(quality) for quality in JPEG}
    return known


def survival(job: Job[Any], ask: Ask, attacked: Frame, label: int, target: int | None) -> pd.DataFrame:
    """What becomes of the attack when the picture is handled, beside what becomes of the unattacked photo.

    Columns treatment, survives (it fools, and the treatment alone does not), result and photo (their classes after the
    treatment), fools, photo_kept (whether the treatment alone leaves the photo its class).
    """
    treats = treatments(job)
    frames = np.stack([treat(picture) for treat in treats.values() for picture in (attacked, job.frame)])
    classes = ask(frames).argmax(1).reshape(-1, 2)
    names, rows = job.card.classes, []
    for name, (now, clean) in zip(treats, classes.tolist(), strict=True):
        fools = now == target if target is not None else now != label
        kept = clean == label
        rows.append((name, fools and kept, names[now], names[clean], fools, kept))
    columns = ["treatment", "survives", "result", "photo", "fools", "photo_kept"]
    return pd.DataFrame(rows, columns=columns)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _classes_named(card: Card, name: str) -> list[int]:
    """The indices of the classes of that name (any case, spaces or underscores); names can occur twice."""
    return [index for index, other in enumerate(card.classes) if _plain(other) == _plain(name)]


def transfer(job: Job[Any], attacked: Frame, networks: Sequence[str], target: int | None = None) -> pd.DataFrame:
    """What other networks say of the attacked picture and of the unattacked frame, each by its own preprocessing.

    Columns network, fools (whether its own class of the photo is gone and, given the job's class `target`, whether it
    sees the class of that name instead), changed (whether its own class of the photo is gone), photo and attacked (its
    classes), photo_probability and attacked_probability (both of its class of the photo). With a `target` also
    target_probability (of the target in the attacked picture, NaN where it has no class of that name: it is warned of,
    and such a network is not fooled). A network that cannot be had, or has no classes, is left out with a warning.
    """
    from fovea.models.zoo import load

    rows: list[tuple[Any, ...]] = []
    for name in networks:
        try:
            network = load(name)
        except NetworkError as error:
            job.warn(f"{name} is left out of the transfer table: {error}")
            continue
        other = dataclasses.replace(job, network=network)
        card = network.card
        if not card.has_classes or not card.meaning.exclusive:
            lacks = "no one class of all for a photo" if card.has_classes else "no classes"
            job.warn(f"{name} has {lacks}, so it is left out of the transfer table.")
            continue
        pictures = (job.frame, attacked)
        frames = np.stack([card.preprocessing.frame(Image.fromarray(to_image(pixels))) for pixels in pictures])
        before, after = classifier(other)(frames)
        first, now = int(before.argmax()), int(after.argmax())
        names, probabilities = (card.classes[first], card.classes[now]), (float(before[first]), float(after[first]))
        if target is None:
            rows.append((name, first != now, first != now, *names, *probabilities))
            continue
        wanted = _classes_named(card, job.card.classes[target])
        if not wanted:
            job.warn(f"{name} has no class {job.card.classes[target]}, so it cannot be driven to it.")
        reached = float(after[wanted].sum()) if wanted else np.nan
        rows.append((name, first != now and now in wanted, first != now, *names, *probabilities, reached))
    columns = ["network", "fools", "changed", "photo", "attacked", "photo_probability", "attacked_probability"]
    return pd.DataFrame(rows, columns=columns if target is None else [*columns, "target_probability"])


def similarity(picture: Frame, other: Frame) -> float:
    """The structural similarity of two pictures (H, W, C), 1 where they are equal (Wang et al. 2004, their window)."""
    import skimage.metrics

    measure: Any = skimage.metrics.structural_similarity
    smallest = min(picture.shape[:2])
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    if smallest < 11:  # their Gaussian is 11 pixels wide
        settings = {"win_size": smallest - (smallest + 1) % 2}
    return float(measure(picture, other, channel_axis=-1, data_range=255, **settings))


def norms(frame: Frame, attacked: Frame) -> dict[str, float]:
    """How large the change is: pixels changed, L2 and L-infinity of pixel values from 0 to 1, SSIM."""
    levels = attacked.astype(int) - frame
    return {
        "L0 (pixels changed)": float(np.any(levels != 0, axis=-1).sum()),
        "L2": float(np.linalg.norm(levels / 255)),
        "L∞": float(np.abs(levels).max() / 255),
        "L∞ (grey levels)": float(np.abs(levels).max()),
        "SSIM": similarity(frame, attacked),
    }
