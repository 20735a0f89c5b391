"""What the network is worth: accuracy on held-out photos, class by class, and which of its units are dead.

`python -m fovea.models.bundled.evaluate --data FOLDER` prints the tables of the model card for the shipped weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fovea.models.bundled import data
from fovea.models.bundled.net import WEIGHTS, class_names, load, normalise


@dataclass(frozen=True)
class Score:
    """Figures on a set of labelled photos.

    Attributes:
        top1: share of photos whose class has the highest logit.
        mean_class: mean over classes of that share within the class.
        per_class: (classes,) that share; nan for a class without photos.
        dead: for each ReLU's name, how many of its units no photo excites, and how many it has.
        logits: (N, classes).
    """

    top1: float
    mean_class: float
    per_class: NDArray[np.float64]
    dead: dict[str, tuple[int, int]]
    logits: Tensor

    @property
    def dead_share(self) -> float:
        """Share of dead units among all."""
        return sum(dead for dead, _ in self.dead.values()) / sum(units for _, units in self.dead.values())


@torch.inference_mode()
def evaluate(
    net: nn.Module, photos: NDArray[np.uint8], labels: NDArray[np.int64], device: str = "cpu", batch: int = 128
) -> Score:
    """Score `net` on uint8 photos (N, H, W, 3) with classes (N,), in float32."""
    peaks: dict[str, Tensor] = {}

    def watch(name: str) -> object:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            peak = output.amax(dim=(0, 2, 3))
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

        return hook

    handles = [
        module.register_forward_hook(watch(name))  # type: ignore[arg-type]
        for name, module in net.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        parts = [
            net(normalise(torch.from_numpy(photos[start : start + batch]).to(device).permute(0, 3, 1, 2)))
            for start in range(0, len(photos), batch)
        ]
    finally:
        for handle in handles:
            handle.remove()
    logits = torch.cat(parts).float().cpu()
    right = (logits.argmax(1).numpy() == labels).astype(np.float64)
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=right, minlength=classes)
    per_class = np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)
    dead = {name: (int((peak <= 0).sum()), peak.numel()) for name, peak in peaks.items()}
    return Score(float(right.mean()), float(np.nanmean(per_class)), per_class, dead, logits)


def tables(score: Score, labels: NDArray[np.int64], names: Sequence[str]) -> str:
    """Return the score as Markdown: the figures over all, dead units by stage, and a table of the classes."""
    error = (score.top1 * (1 - score.top1) / len(labels)) ** 0.5
    lines = [
        f"Held-out photos: {len(labels)}",
        "",
        f"- top-1: {score.top1:.1%} (standard error {error:.1%})",
        f"- mean over classes: {score.mean_class:.1%}",
        f"- dead units: {score.dead_share:.1%}",
        "",
        "| layer | units | dead |",
        "|---|---:|---:|",
        *(f"| `{name}` | {units} | {dead} |" for name, (dead, units) in score.dead.items()),
        "",
        "| class | held out | right | most often mistaken for |",
        "|---|---:|---:|---|",
    ]
    guesses = score.logits.argmax(1).numpy()
    for label, name in enumerate(names):
        mine = guesses[labels == label]
        wrong = np.bincount(mine[mine != label], minlength=len(names))
        mistaken = f"{names[int(wrong.argmax())]} ({wrong.max()})" if wrong.any() else ""
        lines.append(f"| {name} | {len(mine)} | {score.per_class[label]:.0%} | {mistaken} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the tables from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fovea.models.bundled.evaluate", description="Score the network.")
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders that it was trained on")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0, help="of the held-out split")
    args = parser.parse_args(argv)
    _, held_out = data.split(args.data, args.seed)
    labels = np.array([photo.label for photo in held_out])
    names = class_names(args.weights.with_name("classes.txt"))
    score = evaluate(load(args.weights), data.centre_crops(held_out), labels)
    sys.stdout.write(tables(score, labels, names) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
