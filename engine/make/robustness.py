"""Robustness: how a network's accuracy on a data set falls as attacks may change more.

FGSM (Goodfellow et al. 2015) and PGD (Madry et al. 2018, section 5: accuracy against epsilon), with Wilson's interval
for each share. Pictures are rounded to 8 bits within their ball before they count. Departure: a photo that PGD fools
at one epsilon is fooled at all larger ones, since the same picture lies in their balls; it is not attacked again.
"""

from __future__ import annotations

import dataclasses
import io
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.engine.make.attack.choices import ATTACKS, as_fraction, attacked_frames, fraction
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, Options, option, parts_of
from fovea.engine.panels import CurvePanel, GalleryPanel, TablePanel
from fovea.engine.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.models.card import Card

MOST_EPSILONS = 16
BATCH = 8
CHECKPOINT_SECONDS = 5.0
LISTED = 100_000
"""At most so many photos are listed in the table."""
TILE = 128

PHOTO = np.dtype(
    [
        ("index", "i8"),
        ("truth", "i4"),
        ("clean", "i4"),
        ("probability", "f4"),
        ("right", "?"),
        ("fgsm", "?", (MOST_EPSILONS,)),
        ("fooled_at", "i2"),
        ("becomes", "i4"),
        ("left", "f4"),
    ]
)
"""What is kept of a photo: `fgsm` where it stays right against FGSM at each epsilon; `fooled_at` the place of the first
epsilon at which PGD fools it (their number if none); `left` the probability of its class after the last PGD."""


class RobustnessOptions(Options):
    """Which photos, and how far the attacks may go."""

    dataset: str = option("sample", "The data set whose photos are attacked, a name or a folder", kind=DatasetKind())
    epsilons: str = option(
        "1/255, 2/255, 4/255, 8/255", "Largest changes in L-infinity, with commas (Madry 2018: up to 8/255)"
    )
    truth: Literal["auto", "labels", "prediction"] = option(
        "auto",
        "What counts as right: the data set's labels, or the clean prediction; auto: labels where most are classes",
    )
    limit: int = option(50, "At most so many photos, evenly spread (0: all)", ge=0)
    steps: int = option(10, "Steps of PGD, each a quarter of epsilon (Madry 2018)", ge=1, le=1000, unit="steps")
    examples: int = option(12, "Photos in each gallery", ge=1, le=200, advanced=True)

    @field_validator("epsilons")
    @classmethod
    def _radii(cls, value: str) -> str:
        radii(value)
        return value


def radii(text: str) -> list[float]:
    """The radii of a comma list, each once, the smallest first. Raises ValueError."""
    told = f"expected 1 to {MOST_EPSILONS} numbers such as 2/255, 8/255"
    try:
        found = sorted({float(fraction(part)) for part in parts_of(text)})
    except ValueError:
        raise ValueError(told) from None
    if not found or len(found) > MOST_EPSILONS:
        raise ValueError(told)
    if not all(1 / 255 - 1e-9 <= radius <= 1 for radius in found):
        raise ValueError("expected numbers from 1/255, one grey level, to 1")
    return found


def check(card: Card, options: RobustnessOptions) -> None:
    """Raise in one line where there is no class to lose."""
    if not card.classes or card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes, so it has no accuracy to lose")


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (1927) of a share, `z` 1.96 for 95 %: (low, high) in [0, 1]."""
    if not count:
        return 0.0, 1.0
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


class _Survey:
    """One request's way through the data set, batch by batch."""

    def __init__(self, job: Job) -> None:
        from fovea.engine.data.dataset import spread
        from fovea.engine.make.judge.classifier import TorchClassifier

        self.job, self.options = job, job.options
        self.dataset: Dataset = job.dataset(self.options.dataset)
        self.epsilons = radii(self.options.epsilons)
        self.ask = TorchClassifier(job)
        self.by_label, self.truth = self._labels()
        known = range(len(self.dataset))
        wanted = [n for n in known if self.dataset.label(n) in self.by_label] if self.by_label else known
        self.wanted = [wanted[place] for place in spread(len(wanted), self.options.limit or None)]
        self.unreadable: list[Any] = []
        self.kept: list[NDArray[Any]] = []
        self._saved = time.monotonic()

    def _labels(self) -> tuple[dict[str, tuple[int, ...]], str]:
        """What each label stands for, and in words what counts as right."""
        from fovea.engine.look.checking.accuracy import match_labels

        if self.options.truth != "prediction":
            try:
                labels = match_labels(self.dataset, self.job.card)
                if self.options.truth == "labels" or len(labels.unmatched) <= len(labels.classes):
                    return dict(labels.classes), "labels"
            except DatasetError:
                if self.options.truth == "labels":
                    raise
        return {}, "clean prediction"

    def run(self) -> NDArray[Any]:
        """All photos, going on from the checkpoint."""
        self._read_checkpoint()
        done = {int(index) for part in self.kept for index in part["index"]}
        left = [index for index in self.wanted if index not in done]
        count = len(done)
        for indices, frames in self._batches(left):
            self._told = (count, len(self.wanted))
            self.kept.append(self._attack(indices, frames))
            count += len(indices)
            self.job.progress(0.97 * count / len(self.wanted), f"photo {count} of {len(self.wanted)}")
            self._write_checkpoint()
        if not self.kept:
            raise DatasetError(f"data set {self.dataset.name} has no photo that can be read and is of a known class")
        found = np.concatenate(self.kept)
        return found[np.argsort(found["index"], kind="stable")]

    def _batches(self, indices: list[int]) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        batch: list[int] = []
        frames: list[NDArray[np.uint8]] = []
        preprocessing = self.job.card.preprocessing
        for index, frame in self.dataset.frames(preprocessing, indices, unreadable=self.unreadable):
            batch.append(index)
            frames.append(frame)
            if len(batch) == BATCH:
                yield batch, np.stack(frames)
                batch, frames = [], []
        if batch:
            yield batch, np.stack(frames)

    def _attack(self, indices: list[int], frames: NDArray[np.uint8]) -> NDArray[Any]:
        """The rows of a batch."""
        rows = np.zeros(len(indices), PHOTO)
        clean = self.ask(frames)
        first = clean.argmax(1)
        rows["index"], rows["clean"], rows["becomes"] = indices, first, first
        rows["probability"] = rows["left"] = clean.max(1)
        for place, index in enumerate(indices):
            truth = self._truth(index, int(first[place]))
            rows["right"][place] = first[place] in truth
            rows["truth"][place] = truth[0]
        rows["fooled_at"] = np.where(rows["right"], len(self.epsilons), 0)
        active = np.nonzero(rows["right"])[0]
        if len(active):
            self._one_step(rows, active, frames)
            for place in range(len(self.epsilons)):
                active = self._pgd(rows, active, frames, place)
        return rows

    def _truth(self, index: int, clean: int) -> tuple[int, ...]:
        return self.by_label[self.dataset.label(index)] if self.by_label else (clean,)

    def _job(self) -> Job:
        """A job whose every step is a word on how far the whole is, and a chance to stop."""
        done, count = self._told

        def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
            self.job.progress(0.97 * done / count, f"photo {done + 1} of {count}")

        return dataclasses.replace(self.job, progress=Progress(progress))

    def _run(
        self, name: str, frames: NDArray[np.uint8], classes: NDArray[Any], epsilon: float, seeds: list[int]
    ) -> NDArray[np.uint8]:
        """The attacked frames, rounded within their ball."""
        import torch

        from fovea.engine.make.attack.gradient import ball_attack
        from fovea.engine.make.optimise.canvas import to_picture

        attack = ATTACKS[name]
        clean = to_picture(frames, self.job.device)
        labels = torch.from_numpy(classes.astype(np.int64)).to(self.job.device)
        steps = self.options.steps if attack.random_start else attack.steps
        made = ball_attack(self._job(), clean, labels, attack, epsilon, steps=steps, seeds=seeds)
        change = (made.picture - clean).double().cpu().numpy()
        attacked: NDArray[np.uint8] = attacked_frames(frames, change, attack, epsilon)
        return attacked

    def _seeds(self, rows: NDArray[Any]) -> list[int]:
        """A seed of its own for each photo, so that a result does not depend on its batch."""
        return [(self.job.seed * 1_000_003 + int(index)) % 2**63 for index in rows["index"]]

    def _one_step(self, rows: NDArray[Any], active: NDArray[Any], frames: NDArray[np.uint8]) -> None:
        """FGSM at every epsilon: one gradient serves them all."""
        some = rows[active]
        largest = self.epsilons[-1]
        attacked = self._run("fgsm", frames[active], some["clean"], largest, self._seeds(some))
        signs = np.sign(attacked.astype(int) - frames[active])
        for place, epsilon in enumerate(self.epsilons):
            levels = math.floor(epsilon * 255 + 1e-6)
            pictures = np.clip(frames[active] + levels * signs, 0, 255).astype(np.uint8)
            rows["fgsm"][active, place] = self._still_right(some, self.ask(pictures).argmax(1))

    def _still_right(self, rows: NDArray[Any], found: NDArray[Any]) -> NDArray[np.bool_]:
        truths = [self._truth(int(row["index"]), int(row["clean"])) for row in rows]
        return np.array([int(one) in truth for one, truth in zip(found, truths, strict=True)], bool)

    def _pgd(self, rows: NDArray[Any], active: NDArray[Any], frames: NDArray[np.uint8], place: int) -> NDArray[Any]:
        """Attack those that are still right; returns those that still are."""
        if not len(active):
            return active
        some = rows[active]
        attacked = self._run("pgd", frames[active], some["clean"], self.epsilons[place], self._seeds(some))
        found = self.ask(attacked)
        still = self._still_right(some, found.argmax(1))
        rows["left"][active] = found[np.arange(len(active)), some["clean"]]
        rows["becomes"][active] = found.argmax(1)
        rows["fooled_at"][active[~still]] = place
        return active[still]

    # --- checkpoints

    def _read_checkpoint(self) -> None:
        path = None if self.job.checkpoints is None else self.job.checkpoints / "robustness.npz"
        if path is not None and path.is_file():
            with np.load(path, allow_pickle=False) as saved:
                self.kept.append(saved["rows"])

    def _write_checkpoint(self) -> None:
        from fovea.models.home import write_whole

        if self.job.checkpoints is None or time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        self.kept = [np.concatenate(self.kept)]
        data = io.BytesIO()
        np.savez(data, rows=self.kept[0])
        self.job.checkpoints.mkdir(parents=True, exist_ok=True)
        write_whole(self.job.checkpoints / "robustness.npz", data.getvalue())
        self._saved = time.monotonic()


def curves(rows: NDArray[Any], epsilons: list[float]) -> pd.DataFrame:
    """Accuracy by epsilon: columns epsilon, grey levels, FGSM, PGD, each with low and high of its 95 % interval."""
    import pandas as pd

    count, table = len(rows), []
    for place in range(-1, len(epsilons)):
        if place < 0:
            right = {"FGSM": int(rows["right"].sum()), "PGD": int(rows["right"].sum())}
        else:
            right = {
                "FGSM": int((rows["right"] & rows["fgsm"][:, place]).sum()),
                "PGD": int((rows["right"] & (rows["fooled_at"] > place)).sum()),
            }
        epsilon = epsilons[place] if place >= 0 else 0.0
        row: dict[str, Any] = {
            "epsilon": as_fraction(epsilon) if epsilon else "0",
            "grey levels": round(epsilon * 255, 3),
        }
        for name, number in right.items():
            low, high = wilson(number, count)
            row |= {name: number / count, f"{name} low": low, f"{name} high": high}
        table.append(row)
    return pd.DataFrame(table)


def _photos(survey: _Survey, rows: NDArray[Any]) -> pd.DataFrame:
    """The photos that were right at first, the most fragile first."""
    import pandas as pd

    names, dataset = survey.job.card.classes, survey.dataset
    right = rows[rows["right"]]
    right = right[np.lexsort((right["index"], right["left"], right["fooled_at"]))]
    radius = [*(as_fraction(epsilon) for epsilon in survey.epsilons), "none"]
    return pd.DataFrame(
        {
            "image": [dataset.keys[index] for index in right["index"]],
            "class": [names[index] for index in right["clean"]],
            "probability": right["probability"].astype(float),
            "fooled at": [radius[place] for place in right["fooled_at"]],
            "becomes": [names[index] for index in right["becomes"]],
            "probability left": right["left"].astype(float),
            "index": right["index"],
        }
    )


def _add_gallery(survey: _Survey, name: str, title: str, how: str, photos: pd.DataFrame, result: Result) -> None:
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

    preprocessing = survey.job.card.preprocessing
    columns = square_columns(len(photos), 6)
    tiles = (fit_tile(as_colour(survey.dataset.frame(int(n), preprocessing)), TILE) for n in photos["index"])
    result.images[name] = Sheet(TILE, columns).compose(tiles)
    told = [
        f"{first} {'holds' if at == 'none' else f'→ {then} at ±{255 * float(fraction(at)):.3g}'}"
        for first, then, at in zip(photos["class"], photos["becomes"], photos["fooled at"], strict=True)
    ]
    result.tables[name] = photos.drop(columns="index").assign(told=told).reset_index(drop=True)
    result.panels.append(
        GalleryPanel(
            title=title,
            help=how,
            image=name,
            table=name,
            tile=TILE,
            columns=columns,
            caption=("told",),
        )
    )


def robustness(job: Job) -> Result:
    """Tables `accuracy` (by epsilon), `photos`, `most_fragile`, `least_fragile`, `unreadable`."""
    import pandas as pd

    survey = _Survey(job)
    rows = survey.run()
    table = curves(rows, survey.epsilons)
    photos = _photos(survey, rows)
    job.record(provider="torch", precision="fp32", decoder=survey.dataset.decoder)
    last = table.iloc[-1]
    result = Result(
        tables={
            "accuracy": table,
            "photos": photos.drop(columns="index").head(LISTED),
            "unreadable": pd.DataFrame(survey.unreadable, columns=["image", "reason"]),
        },
        summary={
            "photos": len(rows),
            "right is": survey.truth,
            "clean_accuracy": float(table["PGD"].iloc[0]),
            "fgsm_accuracy": float(last["FGSM"]),
            "pgd_accuracy": float(last["PGD"]),
            "epsilon": str(last["epsilon"]),
        },
        panels=[
            CurvePanel(
                title="Accuracy against the size of the change",
                help=f"Share of {len(rows)} photos that stay right ({survey.truth}) when every value may change by so "
                "many grey levels; the bands are 95 % intervals (Wilson).",
                table="accuracy",
                x="grey levels",
                y=("FGSM", "PGD"),
                low=("FGSM low", "PGD low"),
                high=("FGSM high", "PGD high"),
                units="accuracy",
            )
        ],
        preview="most_fragile",
    )
    if survey.unreadable:
        job.warn(f"{len(survey.unreadable)} photos cannot be read and are left out; see the table unreadable")
    if not len(photos):
        job.warn("no photo was right to begin with, so none could be fooled")
        result.preview = ""
        return result
    job.progress(0.98, "drawing the galleries")
    count = job.options.examples
    _add_gallery(
        survey,
        "most_fragile",
        "Most fragile",
        "Fooled by the smallest change (in grey levels), the surest first.",
        photos[:count],
        result,
    )
    _add_gallery(
        survey,
        "least_fragile",
        "Least fragile",
        "Fooled by the largest change alone (in grey levels), or by none that was tried.",
        photos[::-1][:count],
        result,
    )
    result.panels.append(TablePanel(title="The figures", help="By epsilon.", table="accuracy"))
    return result


def work(card: Card, options: RobustnessOptions, images: int) -> float:
    """Forward passes: PGD's steps at every epsilon, FGSM's one gradient, and a look at each picture."""
    count = len(radii(options.epsilons))
    photos = min(images, options.limit) if options.limit else images
    return photos * (4.0 + count + count * (3.0 * options.steps + 1))


METHOD = Method(
    name="robustness",
    title="Robustness",
    verb="make",
    family="Fooling images",
    question="How much does it take to fool it on many photos?",
    summary="Accuracy on a data set against the size of the change that FGSM and PGD may make (Madry et al. 2018).",
    options=RobustnessOptions,
    compute=robustness,
    work=work,
    photo=False,
    gradients=True,
    long=True,
    check=check,
)
