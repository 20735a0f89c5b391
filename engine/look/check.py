"""Checking a network: torch against ONNX at every layer, and top-1 and top-5 accuracy on labelled images.

Every other view trusts what is checked here: that the graph which answers is the network that was trained, and that
photos are prepared as they were in training (a wrong value range shows as a poor accuracy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fovea.engine.errors import UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, Options, option
from fovea.engine.panels import TablePanel, TextPanel
from fovea.models.card import Card

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.look.checking.measure import Accuracy

PARITY_WORK = 40.0
"""What comparing every layer costs, in forward passes: both run unfused, and everything is kept."""

MOST_MISTAKES = 50


class CheckOptions(Options):
    """Options of `check`."""

    dataset: str = option(
        "", "Labelled images, for the accuracy; none: only torch and ONNX are compared.", kind=DatasetKind()
    )
    images: int = option(0, "At most so many images, evenly spread (0: all).", ge=0)


def _check(card: Card, options: Any) -> None:
    if options.dataset and not card.classes:
        raise UnsupportedError(f"{card.name} has no classes, so it has no accuracy: check it without a data set")


def _run(job: Job) -> Result:
    from fovea.engine.look.checking.measure import match_labels, measure_accuracy

    result = Result()
    dataset = job.dataset(job.options.dataset) if job.options.dataset else None
    if dataset is not None:
        match_labels(dataset, job.card)  # before anything that takes long
    job.progress(0.02, "exporting the network" if job.card.gradients else "reading the network")
    job.network.graph()
    _compare(job, result)
    if dataset is not None:
        accuracy = measure_accuracy(job, dataset, job.options.images, begin=0.2)
        _report(job, accuracy, result)
    return result


def _compare(job: Job, result: Result) -> None:
    """Torch against ONNX at every layer; of an ONNX file, that there is nothing to compare."""
    import numpy as np
    import pandas as pd

    from fovea.engine.look.checking.measure import BATCHES, parity
    from fovea.models.graph.parity import PARITY_TOLERANCE

    if not job.card.gradients:
        result.summary |= {"torch twin": "none: an ONNX file"}
        told = "This network is an ONNX file: it is what it computes, and no torch network is there to compare it with."
        result.panels.append(TextPanel(title="Torch and ONNX", help=told))
        result.preview = _bars(np.zeros(0))
        return
    job.progress(0.1, "comparing torch with ONNX at every layer")
    gaps = parity(job.network)
    layers = {layer.name: layer for layer in job.card.layers}
    table = pd.DataFrame(
        {
            "depth": range(len(gaps)),
            "layer": list(gaps),
            "kind": [layers[tap].kind if tap in layers else "" for tap in gaps],
            "shape": ["×".join(map(str, layers[tap].shape)) if tap in layers else "" for tap in gaps],
            "difference": [gap.difference for gap in gaps.values()],
            "agrees": [gap.agrees for gap in gaps.values()],
        }
    )
    wrong = [tap for tap, gap in gaps.items() if not gap.agrees]
    if wrong:
        first = gaps[wrong[0]].difference
        job.warn(f"torch and ONNX disagree at {len(wrong)} layers, first at {wrong[0]} ({first:.1e})")
    worst = max(gaps, key=lambda tap: gaps[tap].difference)
    result.tables["parity"] = table
    result.summary |= {
        "agrees": not wrong,
        "compared": len(gaps),
        "largest difference": gaps[worst].difference,
        "at": worst,
    }
    result.panels.append(
        TablePanel(
            title="Torch and ONNX, layer by layer",
            help=(
                f"The largest difference of batches of {' and '.join(map(str, BATCHES))}, as a share of the layer's "
                f"largest value. Up to {PARITY_TOLERANCE:.0e} agrees; more where torch itself is no nearer to float64."
            ),
            table="parity",
        )
    )
    result.preview = _bars(np.array([gap.difference for gap in gaps.values()]))


def _report(job: Job, accuracy: Accuracy, result: Result) -> None:
    """The figures, by label and as a whole, and what is taken for what."""
    import pandas as pd

    top1, top5 = accuracy.share(accuracy.right1), accuracy.share(accuracy.right5)
    result.summary |= {"top-1 (%)": round(top1, 2), "top-5 (%)": round(top5, 2), "images": accuracy.count}
    result.summary |= {"labels read as": f"class {accuracy.labels.how}", "unreadable": len(accuracy.unreadable)}
    if accuracy.left_out:
        some = f" ({', '.join(accuracy.labels.unmatched[:3])} …)" if accuracy.labels.unmatched else ""
        job.warn(f"{accuracy.left_out:,} images were left out: their label is no class of the network{some}")
    if accuracy.unreadable:
        job.warn(f"{len(accuracy.unreadable):,} images could not be read: see the table unreadable")
        result.tables["unreadable"] = pd.DataFrame(accuracy.unreadable, columns=["image", "error"])
    result.tables["accuracy"] = _by_label(job.card, accuracy)
    result.tables["mistakes"] = _mistakes(job.card, accuracy)
    panels = [
        TablePanel(
            title=f"Right in {top1:.1f} %, among the best five in {top5:.1f} %",
            help="By label, the worst first: the share of its images whose class is the network's best, or among five.",
            table="accuracy",
        ),
        TablePanel(title="What is taken for what", help="The commonest mistakes.", table="mistakes"),
    ]
    if accuracy.unreadable:
        panels.append(TablePanel(title="Images that could not be read", table="unreadable"))
    result.panels[:0] = panels


def _by_label(card: Card, accuracy: Accuracy) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for label, count in accuracy.images.items():
        shares = [round(100 * right[label] / count, 1) for right in (accuracy.right1, accuracy.right5)]
        rows.append((label, card.classes[accuracy.labels.classes[label][0]], count, *shares))
    table = pd.DataFrame(rows, columns=["label", "class", "images", "top-1 (%)", "top-5 (%)"])
    return table.sort_values(["top-1 (%)", "top-5 (%)", "label"], ignore_index=True, kind="stable")


def _mistakes(card: Card, accuracy: Accuracy) -> pd.DataFrame:
    import pandas as pd

    ordered = sorted(accuracy.taken_for.items(), key=lambda item: (-item[1], item[0]))[:MOST_MISTAKES]
    rows = [(label, card.classes[index], count) for (label, index), count in ordered]
    return pd.DataFrame(rows, columns=["label", "taken for", "images"])


def _bars(differences: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture for lists of runs: one bar a layer, as high as torch and ONNX agree in digits (up to ten)."""
    import numpy as np

    height, width = 240, 320
    picture = np.full((height, width, 3), (243, 239, 230), np.uint8)
    if len(differences):
        digits = np.clip(-np.log10(np.maximum(differences, 1e-10)), 0, 10)
        for column in range(width):
            high = int(digits[column * len(digits) // width] / 10 * (height - 20))
            picture[height - high :, column] = (181, 109, 14)
    return picture


def _work(card: Card, options: Any, images: int) -> float:
    parity = PARITY_WORK if card.gradients else 1.0
    if options.images:
        images = min(images, options.images)
    return parity + images


METHOD = Method(
    name="check",
    title="Check",
    verb="look",
    family="Check",
    question="Does it compute what it should?",
    summary=(
        "Compares torch with ONNX at every layer and, given labelled images, measures top-1 and top-5 accuracy: "
        "a wrong value range or a mixed-up class list shows at once."
    ),
    options=CheckOptions,
    compute=_run,
    work=_work,
    photo=False,
    check=_check,
)
