"""The network's best classes for a photo: the forward pass itself, the reading that every other view explains.

Probabilities are the softmax of the logits; a network that returns probabilities is taken at its word.
"""

from __future__ import annotations

from typing import Any

from fovea.engine.errors import UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import Options, option
from fovea.engine.panels import BarsPanel, ImagePanel
from fovea.models.card import OUTPUT, Card


class ClassifyOptions(Options):
    """Options of `classify`."""

    top: int = option(5, "How many of the best classes are listed.", ge=1, le=100)


def _check(card: Card, options: Any) -> None:
    if not card.classes:
        raise UnsupportedError(f"{card.name} has no classes: look at the units of a layer instead, e.g. with patches")


def _run(job: Job) -> Result:
    import numpy as np
    import pandas as pd

    from fovea.engine.look.probing.probe import filled
    from fovea.models.graph.sessions import Session

    job.progress(0.0, "reading the network")
    graph = job.network.graph()
    session = Session(graph.cut([OUTPUT]), job.provider)
    job.progress(0.5, "looking at the photo")
    scores = np.asarray(session.run({graph.input: filled(job.input, graph.batch)})[0][0], np.float64).reshape(-1)
    job.record(provider=session.provider)
    if job.card.output == "probabilities":
        probabilities, logits = scores, np.log(np.maximum(scores, 1e-12))
    else:
        exponentials = np.exp(scores - scores.max())
        probabilities, logits = exponentials / exponentials.sum(), scores
    best = np.argsort(-probabilities, kind="stable")[: min(job.options.top, len(job.card.classes))]
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(best) + 1),
            "class": [job.card.classes[index] for index in best],
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
                help="The network's probability for each class: the softmax of its logits.",
                table="classes",
                x="class",
                y=("probability",),
            ),
            ImagePanel(title="What the network sees", help="The photo after resize and crop.", image="photo"),
        ],
        summary={"class": str(table["class"][0]), "probability": float(table["probability"][0])},
        preview=job.frame,
    )


def _work(card: Card, options: Any, images: int) -> float:
    return 1.0


METHOD = Method(
    name="classify",
    title="Classes",
    verb="look",
    family="Classes",
    question="What does it see?",
    summary="One forward pass: the network's best classes for the photo, with their probabilities and logits.",
    options=ClassifyOptions,
    compute=_run,
    work=_work,
    check=_check,
    tells_classes=True,
)
