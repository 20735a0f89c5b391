"""Robustness: how a network's accuracy on a data set falls as attacks may change more.

FGSM (Goodfellow et al. 2015) and PGD (Madry et al. 2018, section 5: accuracy against epsilon), with Wilson's interval
for each share. Pictures are rounded to 8 bits within their ball before they count. Departure: a photo that PGD fools
at one epsilon is fooled at all larger ones, since the same picture lies in their balls; it is not attacked again.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from fovea.engine.data.batches import batches
from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.engine.make.attack.fgsm import ATTACK as FGSM
from fovea.engine.make.attack.pgd import ATTACK as PGD
from fovea.engine.make.attack.shared.attack import Attack, check_one_class
from fovea.engine.make.attack.shared.radius import as_fraction, fraction
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, Options, option, parts_of
from fovea.engine.panels import CurvePanel, GalleryPanel, TablePanel

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

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

    dataset: str = option(
        "sample", "The data set whose photos are attacked: its name, or a folder.", kind=DatasetKind()
    )
    epsilons: str = option(
        "1/255, 2/255, 4/255, 8/255",
        "The radii at which the photos are attacked, with commas: how far any pixel value may change, from 0 to 1. "
        "Madry et al. 2018 go up to 8/255, which a person hardly sees.",
    )
    truth: Literal["auto", "labels", "prediction"] = option(
        "auto",
        "What counts as right: the data set's labels, or the prediction for the unattacked photo. With auto these are "
        "the labels if most of them are classes of the network, and the predictions otherwise.",
    )
    limit: int = option(
        50, "How many photos are attacked at most, evenly spread over the data set; 0 attacks all of them.", ge=0
    )
    steps: int = option(
        10,
        "How many steps PGD takes, each a quarter of epsilon long. Fewer are faster and make the network look more "
        "robust than it is.",
        ge=1,
        le=1000,
        unit="steps",
    )
    examples: int = option(12, "How many photos each gallery shows.", ge=1, le=200, advanced=True)

    @field_validator("epsilons")
    @classmethod
    def _radii(cls, value: str) -> str:
        radii(value)
        return value


def radii(text: str) -> list[float]:
    """The radii of a comma list, each once, the smallest first. Raises ValueError."""
    expected = f"expected 1 to {MOST_EPSILONS} numbers such as 2/255, 8/255"
    try:
        epsilons = sorted({float(fraction(part)) for part in parts_of(text)})
    except ValueError:
        raise ValueError(expected) from None
    if not epsilons or len(epsilons) > MOST_EPSILONS:
        raise ValueError(expected)
    if not all(1 / 255 - 1e-9 <= epsilon <= 1 for epsilon in epsilons):
        raise ValueError("expected numbers from 1/255, one grey level, to 1")
    return epsilons


def check(card: Card, options: RobustnessOptions) -> None:
    """Raise in one line where there is no class to lose."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes, so it has no accuracy to lose.")
    check_one_class(card)


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of the share `right` of `count`: (low, high) in [0, 1]."""
    from scipy.stats import binomtest

    if not count:
        return 0.0, 1.0
    interval = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


class Survey:
    """One request's way through the data set, batch by batch."""

    def __init__(self, job: Job[RobustnessOptions]) -> None:
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
        self._count = 0
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
        self._count = len(done)
        frames = self.dataset.frames(self.job.card.preprocessing, left, unreadable=self.unreadable)
        for batch in batches(frames, BATCH):
            self.kept.append(self._attack(*batch))
            self._count += len(batch.indices)
            self._tell(self._count)
            self._write_checkpoint()
        if not self.kept:
            raise DatasetError(f"Data set {self.dataset.name} has no photo that can be read and is of a known class.")
        rows = np.concatenate(self.kept)
        return rows[np.argsort(rows["index"], kind="stable")]

    def _tell(self, photo: int) -> None:
        """Say which photo it is at. Raises Cancelled."""
        self.job.progress(0.97 * self._count / len(self.wanted), f"photo {photo} of {len(self.wanted)}")

    def _tell_step(self, fraction: float, message: str, pictures: Tensor, probabilities: Tensor) -> None:
        """Every step is a word on how far the whole is, and a chance to stop."""
        self._tell(self._count + 1)

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
                active = self._search(rows, active, frames, place)
        return rows

    def _truth(self, index: int, clean: int) -> tuple[int, ...]:
        return self.by_label[self.dataset.label(index)] if self.by_label else (clean,)

    def _attacked(
        self,
        attack: Attack[Any],
        frames: NDArray[np.uint8],
        classes: NDArray[Any],
        epsilon: float,
        seeds: list[int],
        steps: int | None = None,
    ) -> NDArray[np.uint8]:
        """The attacked frames, rounded within their ball."""
        import torch

        from fovea.engine.make.attack.shared.rounding import attacked_frames
        from fovea.engine.make.optimise.canvas import to_picture

        job, clean = self.job, to_picture(frames, self.job.device)
        labels = torch.from_numpy(classes.astype(np.int64)).to(job.device)
        batch = attack.batch(job, clean, labels, epsilon=epsilon, steps=steps, seeds=seeds, told=self._tell_step)
        change = (attack.run(batch) - clean).double().cpu().numpy()
        return attacked_frames(frames, change, attack.norm, epsilon)

    def _seeds(self, rows: NDArray[Any]) -> list[int]:
        """A seed of its own for each photo, so that a result does not depend on its batch."""
        return [(self.job.seed * 1_000_003 + int(index)) % 2**63 for index in rows["index"]]

    def _one_step(self, rows: NDArray[Any], active: NDArray[Any], frames: NDArray[np.uint8]) -> None:
        """FGSM at every epsilon: one gradient serves them all."""
        some = rows[active]
        largest = self.epsilons[-1]
        attacked = self._attacked(FGSM, frames[active], some["clean"], largest, self._seeds(some))
        signs = np.sign(attacked.astype(int) - frames[active])
        for place, epsilon in enumerate(self.epsilons):
            levels = math.floor(epsilon * 255 + 1e-6)
            pictures = np.clip(frames[active] + levels * signs, 0, 255).astype(np.uint8)
            rows["fgsm"][active, place] = self._still_right(some, self.ask(pictures).argmax(1))

    def _still_right(self, rows: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.bool_]:
        truths = [self._truth(int(row["index"]), int(row["clean"])) for row in rows]
        return np.array([int(index) in truth for index, truth in zip(predictions, truths, strict=True)], bool)

    def _search(self, rows: NDArray[Any], active: NDArray[Any], frames: NDArray[np.uint8], place: int) -> NDArray[Any]:
        """Attack those that are still right; returns those that still are."""
        if not len(active):
            return active
        some = rows[active]
        steps, epsilon = self.options.steps, self.epsilons[place]
        attacked = self._attacked(PGD, frames[active], some["clean"], epsilon, self._seeds(some), steps)
        probabilities = self.ask(attacked)
        still = self._still_right(some, probabilities.argmax(1))
        rows["left"][active] = probabilities[np.arange(len(active)), some["clean"]]
        rows["becomes"][active] = probabilities.argmax(1)
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


def fragility(rows: NDArray[Any], epsilons: list[float], names: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """The photos that were right at first, the most fragile first; `names` of the classes, `keys` of the photos.

    Columns image, class, probability, fooled at, becomes, probability left, index.
    """
    import pandas as pd

    right = rows[rows["right"]]
    right = right[np.lexsort((right["index"], right["left"], right["fooled_at"]))]
    radius = [*(as_fraction(epsilon) for epsilon in epsilons), "none"]
    return pd.DataFrame(
        {
            "image": [keys[index] for index in right["index"]],
            "class": [names[index] for index in right["clean"]],
            "probability": right["probability"].astype(float),
            "fooled at": [radius[place] for place in right["fooled_at"]],
            "becomes": [names[index] for index in right["becomes"]],
            "probability left": right["left"].astype(float),
            "index": right["index"],
        }
    )


@dataclass(frozen=True)
class Findings:
    """What attacks on a data set found.

    `truth` says in words what counted as right. `accuracy` by epsilon (see `curves`), and the `photos` that were right
    at first of `count` (see `fragility`). `unreadable`: columns image and reason.
    """

    dataset: Dataset
    truth: str
    count: int
    accuracy: pd.DataFrame
    photos: pd.DataFrame
    unreadable: pd.DataFrame


def compute(job: Job[RobustnessOptions]) -> Findings:
    """Attack the photos at every epsilon, and count those that stay right."""
    import pandas as pd

    survey = Survey(job)
    rows = survey.run()
    job.record(provider="torch", precision="fp32", decoder=survey.dataset.decoder)
    return Findings(
        survey.dataset,
        survey.truth,
        len(rows),
        curves(rows, survey.epsilons),
        fragility(rows, survey.epsilons, job.card.classes, survey.dataset.keys),
        pd.DataFrame(survey.unreadable, columns=["image", "reason"]),
    )


def report(job: Job[RobustnessOptions], findings: Findings) -> Result:
    """Tables `accuracy` (by epsilon), `photos`, `most_fragile`, `least_fragile`, `unreadable`."""
    table, photos = findings.accuracy, findings.photos
    last = table.iloc[-1]
    result = Result(
        tables={
            "accuracy": table,
            "photos": photos.drop(columns="index").head(LISTED),
            "unreadable": findings.unreadable,
        },
        summary={
            "photos": findings.count,
            "right is": findings.truth,
            "clean_accuracy": float(table["PGD"].iloc[0]),
            "fgsm_accuracy": float(last["FGSM"]),
            "pgd_accuracy": float(last["PGD"]),
            "epsilon": str(last["epsilon"]),
        },
        panels=[
            CurvePanel(
                title="Accuracy against the size of the change",
                help=f"The curves show the share of {findings.count} photos that stay right ({findings.truth}) when "
                "every pixel value may change by so many grey levels. The bands are 95 % intervals (Wilson).",
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
    if len(findings.unreadable):
        job.warn(f"{len(findings.unreadable)} photos cannot be read and are left out; see the table unreadable.")
    if not len(photos):
        job.warn("No photo was right to begin with, so none could be fooled.")
        result.preview = ""
        return result
    job.progress(0.98, "drawing the galleries")
    count = job.options.examples
    _add_gallery(
        job,
        findings.dataset,
        "most_fragile",
        "Most fragile",
        "These photos were fooled by the smallest change (in grey levels). Among equals those come first whose class "
        "has the least probability left.",
        photos[:count],
        result,
    )
    _add_gallery(
        job,
        findings.dataset,
        "least_fragile",
        "Least fragile",
        "These photos were fooled by the largest change alone (in grey levels), or by none that was tried.",
        photos[::-1][:count],
        result,
    )
    result.panels.append(
        TablePanel(
            title="The figures",
            help="Each row is one epsilon: the accuracy against either attack, with its 95 % interval.",
            table="accuracy",
        )
    )
    return result


def _add_gallery(
    job: Job[RobustnessOptions],
    dataset: Dataset,
    name: str,
    title: str,
    help: str,
    photos: pd.DataFrame,
    result: Result,
) -> None:
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

    preprocessing = job.card.preprocessing
    columns = square_columns(len(photos), 6)
    tiles = (fit_tile(as_colour(dataset.frame(int(n), preprocessing)), TILE) for n in photos["index"])
    result.images[name] = Sheet(TILE, columns).compose(tiles)
    told = [
        f"{first} {'holds' if at == 'none' else f'→ {then} at ±{255 * float(fraction(at)):.3g}'}"
        for first, then, at in zip(photos["class"], photos["becomes"], photos["fooled at"], strict=True)
    ]
    result.tables[name] = photos.drop(columns="index").assign(told=told).reset_index(drop=True)
    result.panels.append(
        GalleryPanel(title=title, help=help, image=name, table=name, tile=TILE, columns=columns, caption=("told",))
    )


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
    compute=compute,
    report=report,
    work=work,
    photo=False,
    gradients=True,
    long=True,
    check=check,
)
