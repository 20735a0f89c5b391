"""What a person is shown of an attack: its pictures, probabilities, figures, and the photo beside its twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fovea.engine.explain.maps.pictures import as_colour
from fovea.engine.make.attack.outcome.findings import Findings
from fovea.engine.make.attack.outcome.twins import ATTACKED, SHUFFLED, Twins
from fovea.engine.make.attack.shared.radius import as_fraction
from fovea.engine.make.optimise.canvas import to_image
from fovea.engine.method import Result
from fovea.engine.panels import BarsPanel, CurvePanel, ImagePanel, OverlayPanel, TablePanel


def _magnified(levels: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
    """A change in grey levels (H, W, C) as a picture about grey, uint8 (H, W, 3), and how much it was magnified."""
    largest = max(1, int(np.abs(levels).max()))
    picture = np.rint(levels * (127 / largest) + 128).astype(np.uint8)
    return as_colour(picture), 127 / largest


def add_pictures(findings: Findings, result: Result) -> None:
    """The photo, the change and the attacked picture, side by side."""
    photo, attempt, names, now = findings.photo, findings.attempt, findings.photo.names, findings.now
    levels = findings.pixels.astype(int) - photo.frame
    picture, scale = _magnified(levels)
    result.arrays["delta"] = (np.moveaxis(levels, -1, 0) / 255).astype(np.float32)
    result.images |= {"adversarial": to_image(findings.pixels), "perturbation": picture}
    aim = f"towards {names[photo.target]}" if photo.target is not None else f"away from {names[photo.label]}"
    ball = f", within an epsilon of {as_fraction(attempt.epsilon)}" if findings.attack.bounded else ""
    magnified = f"magnified {scale:.3g} times" if scale >= 1 else f"scaled by {scale:.2g}"
    result.panels += [
        ImagePanel(
            title=f"The photo: {names[photo.label]}, {photo.before[photo.label]:.0%}",
            help="This is what the network sees of the photo.",
            image="photo",
        ),
        ImagePanel(
            title="What was changed",
            help=f"This is the difference with its sign, {magnified}: grey is no change, brighter is more of a colour.",
            image="perturbation",
            beside=True,
        ),
        ImagePanel(
            title=f"The result: {names[now]}, {findings.after[now]:.0%}",
            help=f"The photo was driven {aim}{ball}, rounded to 8-bit pixels, saved and read back.",
            image="adversarial",
            beside=True,
        ),
    ]


def add_probabilities(findings: Findings, result: Result) -> None:
    """The best classes before and after, and how both classes moved on the way."""
    photo, names, before, after = findings.photo, findings.photo.names, findings.photo.before, findings.after
    shown = sorted({*np.argsort(-before)[:3].tolist(), *np.argsort(-after)[:3].tolist()}, key=lambda c: -after[c])
    result.tables["before_after"] = pd.DataFrame(
        {
            "class": [names[c] for c in shown],
            "photo": [float(before[c]) for c in shown],
            "adversarial": [float(after[c]) for c in shown],
        }
    )
    other = photo.target if photo.target is not None else findings.now
    if other == photo.label:
        other = int(np.argsort(-after, kind="stable")[1]) if len(after) > 1 else photo.label
    watch = findings.attempt.watch
    steps, rows = [*watch.steps, watch.taken], np.stack([*watch.rows, after])
    columns = {f"probability of {names[c]}": rows[:, c].astype(float) for c in dict.fromkeys((photo.label, other))}
    result.tables["steps"] = pd.DataFrame({"step": steps, **columns})
    for column, title in (("photo", "What it said of the photo"), ("adversarial", "What it says of the result")):
        result.panels.append(
            BarsPanel(
                title=title,
                help="These are the probabilities of the same classes before and after the attack.",
                table="before_after",
                x="class",
                y=(column,),
                units="probability",
                beside=column == "adversarial",
            )
        )
    result.panels.append(
        CurvePanel(
            title="Both classes on the way",
            help="The curves show what the network thinks of the picture at each step. The last point, one further, is "
            "the saved 8-bit picture.",
            table="steps",
            x="step",
            y=tuple(columns),
            units="probability",
        )
    )


def add_figures(findings: Findings, result: Result) -> None:
    """The size of the change, what it survives, whom else it fools, and the radii that were tried."""
    sizes, photo = findings.sizes, findings.photo
    result.tables["norms"] = pd.DataFrame({"norm": list(sizes), "value": list(sizes.values())})
    result.panels.append(
        TablePanel(
            title="How large the change is",
            help="The norms are of pixel values from 0 to 1. SSIM, the structural similarity, is 1 for equal pictures.",
            table="norms",
            beside=True,
        )
    )
    survival = findings.survival
    result.tables["survival"] = survival
    result.summary |= {"survives": int(survival["survives"].sum()), "treatments": len(survival)}
    result.panels.append(
        TablePanel(
            title="Does it survive?",
            help="The result is handled as pictures are: saved, cropped, compressed. Where the same treatment takes "
            "the unattacked photo's class away as well, the attack proves nothing.",
            table="survival",
        )
    )
    if findings.transfer is not None:
        result.tables["transfer"] = findings.transfer
        result.summary["transfers"] = f"{int(findings.transfer['fools'].sum())} of {len(findings.transfer)}"
        instead = "" if photo.target is None else f" and it sees {photo.names[photo.target]} instead"
        result.panels.append(
            TablePanel(
                title="Does it fool others?",
                help="The table shows each network's class of the unattacked frame and of the result, both by its own "
                f"preprocessing. A network is fooled where its class of the frame is gone{instead}.",
                table="transfer",
            )
        )
    if findings.attempt.trials:
        rows = [(as_fraction(trial.epsilon), trial.epsilon, trial.works) for trial in findings.attempt.trials]
        result.tables["search"] = pd.DataFrame(rows, columns=["epsilon", "value", "fools"])
        result.panels.append(
            TablePanel(
                title="The smallest epsilon that works",
                help="The table lists every radius that was tried. The one that was found fools; the next smaller one "
                "that was tried does not.",
                table="search",
            )
        )


def add_twins(findings: Findings, twins: Twins, result: Result) -> None:
    """Saliency and Grad-CAM of the photo and of its attacked twin, and the depth at which the two part."""
    labels = {"photo": findings.photo.label, "adversarial": findings.now}
    for view, title, help in (
        ("saliency", "Saliency", "Bright pixels change the class's logit most."),
        ("gradcam", "Grad-CAM", "Bright places are what the last layer with maps contributes to the class."),
    ):
        for name, label in labels.items():
            values = twins.maps.get(f"{view}_{name}")
            if values is None:
                continue
            result.arrays[f"{view}_{name}"] = values
            result.panels.append(
                OverlayPanel(
                    title=f"{title} of {findings.photo.names[label]}, "
                    f"{'the photo' if name == 'photo' else 'the result'}",
                    help=help,
                    image=name,
                    array=f"{view}_{name}",
                    beside=name == "adversarial",
                )
            )
    result.tables["depth"] = twins.depth
    result.panels.append(
        CurvePanel(
            title="Where in depth the two part",
            help="The curves show how far all activations of a layer are from the photo's, relative to their length: "
            "for the attack, and for the same change with its values shuffled.",
            table="depth",
            x="layer",
            y=(ATTACKED, SHUFFLED),
            units="relative distance",
        )
    )
