"""Checking a network: torch against ONNX at every layer, and top-1 and top-5 accuracy on labelled images.

Every other view trusts what is checked here: that the graph which answers is the network that was trained, and that
photos are prepared as they were in training (a wrong value range shows as a poor accuracy).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.engine.look.checking.accuracy import demand_classes
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, Options, option
from fovea.engine.panels import TablePanel, TextPanel
from fovea.models.card import Card

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.look.checking.accuracy import Accuracy
    from fovea.models.graph.parity import Gap

PARITY_WORK = 40.0
"""What comparing every layer costs, in forward passes: both run unfused, and everything is kept."""
MOST_MISTAKES = 50
"""So many mistakes are listed, the commonest first."""


class CheckOptions(Options):
    """Options of `check`."""

    dataset: str = option(
        "",
        "The labelled images on which accuracy is measured: a data set's name, or a folder with one sub-folder for "
        "each class.",
        kind=DatasetKind(),
        empty="only torch and ONNX are compared",
    )
    images: int = option(
        0, "How many images are classified at most, evenly spread over the data set. With 0 it is all of them.", ge=0
    )


def check(card: Card, options: CheckOptions) -> None:
    """Raises UnsupportedError if accuracy is asked of a network without classes."""
    if options.dataset:
        demand_classes(card)


@dataclass(frozen=True)
class Findings:
    """How far torch and ONNX differ at each tap, None where only one of them is there; `reason`: why there is no ONNX
    graph, "" where there is one; and the accuracy, None without a data set."""

    gaps: Mapping[str, Gap] | None
    reason: str
    accuracy: Accuracy | None


def compute(job: Job[CheckOptions]) -> Findings:
    """Run both networks on the same noise and compare every layer; classify the labelled images."""
    from fovea.engine.look.checking.accuracy import match_labels, measure_accuracy
    from fovea.engine.look.checking.parity import parity

    dataset = job.dataset(job.options.dataset) if job.options.dataset else None
    if dataset is not None:
        match_labels(dataset, job.card)  # before anything that takes long
    job.progress(0.02, "exporting the network" if job.card.has_module else "reading the network")
    reason = job.network.graph().reason
    gaps, accuracy = None, None
    if job.card.has_module and not reason:
        job.progress(0.1, "comparing torch with ONNX at every layer")
        gaps = parity(job.network)
    if dataset is not None:
        accuracy = measure_accuracy(job, dataset, job.options.images, job.progress.span(0.2, 1.0))
    return Findings(gaps, reason, accuracy)


def report(job: Job[CheckOptions], findings: Findings) -> Result:
    """Table `parity`: depth, layer, kind, shape, difference, agrees. With a data set tables `accuracy` (by label, the
    worst first), `mistakes` (label, taken for, images), and `unreadable` where images could not be read."""
    result = Result()
    if findings.gaps is None:
        _tell_of_no_twin(findings.reason, result)
    else:
        _add_parity(job, findings.gaps, result)
    if findings.accuracy is not None:
        _add_accuracy(job, findings.accuracy, result)
    return result


def _tell_of_no_twin(reason: str, result: Result) -> None:
    """An ONNX file has no torch network to compare with; a network without an ONNX graph, for a `reason`, the other
    way round."""
    if reason:
        result.summary["ONNX graph"] = f"none: {reason}"
        told = (
            f"This network has no ONNX graph, because {reason}. Every method computes it in PyTorch, so there is "
            "nothing to compare it with."
        )
    else:
        result.summary["torch twin"] = "none: an ONNX file"
        told = "This network is an ONNX file: it is what it computes, and no torch network is there to compare it with."
    result.panels.append(TextPanel(title="Torch and ONNX", help=told))
    result.preview = _bars([])


def _add_parity(job: Job[CheckOptions], gaps: Mapping[str, Gap], result: Result) -> None:
    """Torch against ONNX at every layer."""
    import pandas as pd

    from fovea.engine.look.checking.parity import BATCHES
    from fovea.models.graph.parity import PARITY_TOLERANCE

    layers = {layer.name: layer for layer in job.card.layers}
    wrong = [tap for tap, gap in gaps.items() if not gap.agrees]
    if wrong:
        first = gaps[wrong[0]].difference
        job.warn(f"Torch and ONNX disagree at {len(wrong)} layers, first at {wrong[0]}, by {first:.1e}.")
    worst = max(gaps, key=lambda tap: gaps[tap].difference)
    differences = [gap.difference for gap in gaps.values()]
    result.tables["parity"] = pd.DataFrame(
        {
            "depth": range(len(gaps)),
            "layer": list(gaps),
            "kind": [layers[tap].kind if tap in layers else "" for tap in gaps],
            "shape": ["×".join(map(str, layers[tap].shape)) if tap in layers else "" for tap in gaps],
            "difference": differences,
            "agrees": [gap.agrees for gap in gaps.values()],
        }
    )
    result.summary |= {
        "agrees": not wrong,
        "compared": len(gaps),
        "largest difference": gaps[worst].difference,
        "at": worst,
    }
    result.panels.append(
        TablePanel(
            title="Torch and ONNX, layer by layer",
            help=f"Each row is a layer. Its difference is the largest of batches of {' and '.join(map(str, BATCHES))}, "
            f"as a share of the layer's largest value. Up to {PARITY_TOLERANCE:.0e} both agree; a larger difference "
            "counts as agreement only where torch itself is no nearer to the exact result (in float64).",
            table="parity",
        )
    )
    result.preview = _bars(differences)


def _add_accuracy(job: Job[CheckOptions], accuracy: Accuracy, result: Result) -> None:
    """The figures, by label and as a whole, and what is taken for what."""
    import pandas as pd

    top1, top5 = accuracy.share(accuracy.right1), accuracy.share(accuracy.right5)
    result.summary |= {"top-1 (%)": round(top1, 2), "top-5 (%)": round(top5, 2), "images": accuracy.count}
    result.summary |= {"labels read as": f"class {accuracy.labels.how}", "unreadable": len(accuracy.unreadable)}
    if accuracy.left_out:
        some = f" ({', '.join(accuracy.labels.unmatched[:3])} …)" if accuracy.labels.unmatched else ""
        job.warn(f"{accuracy.left_out:,} images were left out: their label is no class of the network{some}.")
    if accuracy.unreadable:
        job.warn(f"{len(accuracy.unreadable):,} images could not be read: see the table unreadable.")
        result.tables["unreadable"] = pd.DataFrame(accuracy.unreadable, columns=["image", "error"])
    result.tables["accuracy"] = _by_label(job.card, accuracy)
    result.tables["mistakes"] = _mistakes(job.card, accuracy)
    panels = [
        TablePanel(
            title=f"Right in {top1:.1f} %, among the best five in {top5:.1f} %",
            help="Each row is a label, the worst first: the share of its images whose class is the network's best, and "
            "the share whose class is among its best five.",
            table="accuracy",
        ),
        TablePanel(
            title="What is taken for what", help="These are the mistakes, the commonest first.", table="mistakes"
        ),
    ]
    if accuracy.unreadable:
        panels.append(
            TablePanel(title="Images that could not be read", help="These images were left out.", table="unreadable")
        )
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


def _bars(differences: Sequence[float]) -> NDArray[np.uint8]:
    """A picture for lists of runs: one bar a layer, as high as torch and ONNX agree in digits (up to ten)."""
    import numpy as np

    height, width = 240, 320
    picture = np.full((height, width, 3), (243, 239, 230), np.uint8)
    digits = np.clip(-np.log10(np.maximum(np.array(differences), 1e-10)), 0, 10)
    for column in range(width if len(digits) else 0):
        high = int(digits[column * len(digits) // width] / 10 * (height - 20))
        picture[height - high :, column] = (181, 109, 14)
    return picture


def work(card: Card, options: CheckOptions, images: int) -> float:
    """Forward passes: those of the comparison, and one an image."""
    parity = PARITY_WORK if card.has_module else 1.0
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
    compute=compute,
    report=report,
    work=work,
    photo=False,
    check=check,
)
