"""The network's best classes for a photo: the forward pass itself, the reading that every other view explains.

How scores become probabilities is the network's own: a softmax, a sigmoid of each, or nothing where it returns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.engine.errors import UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import Options, option
from fovea.engine.panels import BarsPanel, ImagePanel
from fovea.models.card import OUTPUT, Card

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from fovea.engine.look.probing.reducers import Editor


class ClassifyOptions(Options):
    """Options of `classify`."""

    top: int = option(5, "How many of the best classes are listed.", ge=1, le=100)


def check(card: Card, options: ClassifyOptions) -> None:
    """Raises UnsupportedError for a network without classes."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes: look at the units of a layer instead, e.g. with patches")


@dataclass(frozen=True)
class Findings:
    """What the network says of the photo: `probabilities` and `logits`, float64 (classes,)."""

    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64]


def compute(job: Job[ClassifyOptions]) -> Findings:
    """One forward pass; logits of a network that returns probabilities are their logarithms."""
    import numpy as np

    from fovea.engine.look.probing.probe import Probe

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        editor.answer(editor.float32(tensors[OUTPUT]), "scores")

    job.progress(0.0, "reading the network")
    probe = Probe(job, [OUTPUT], build)
    job.progress(0.5, "looking at the photo")
    feed = job.network.graph().input
    scores = np.asarray(probe.run({feed: job.input}, batched=(feed,))["scores"][0], np.float64).reshape(-1)
    meaning = job.card.meaning
    return Findings(probabilities=meaning.probabilities(scores), logits=meaning.logits(scores))


def report(job: Job[ClassifyOptions], findings: Findings) -> Result:
    """Arrays `probabilities`, `logits` (classes,); table `classes`: rank (from 1), class, index, probability, logit."""
    import numpy as np
    import pandas as pd

    probabilities, logits, classes = findings.probabilities, findings.logits, job.card.classes
    best = np.argsort(-probabilities, kind="stable")[: min(job.options.top, len(classes))]
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(best) + 1),
            "class": [classes[index] for index in best],
            "index": best,
            "probability": probabilities[best],
            "logit": logits[best],
        }
    )
    return Result(
        arrays={"probabilities": probabilities.astype(np.float32), "logits": logits.astype(np.float32)},
        tables={"classes": table},
        panels=[
            BarsPanel(
                title="Best classes",
                help=f"Each bar is the network's probability for a class: {job.card.meaning.made_by}.",
                table="classes",
                x="class",
                y=("probability",),
            ),
            ImagePanel(
                title="What the network sees",
                help="This is the photo after the network's own resizing and cropping.",
                image="photo",
            ),
        ],
        summary={"class": str(table["class"][0]), "probability": float(table["probability"][0])},
        preview=job.frame,
    )


def work(card: Card, options: ClassifyOptions, images: int) -> float:
    """One forward pass."""
    return 1.0


METHOD = Method(
    name="classify",
    title="Classes",
    verb="look",
    family="Classes",
    question="What does it see?",
    summary="Lists the network's best classes for the photo, with their probabilities and logits, by one forward pass.",
    options=ClassifyOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
    tells_classes=True,
)
