"""Adversarial examples: the smallest change that a person does not see and the network falls for.

FGSM, Goodfellow et al. 2015, section 4; basic iterative method, Kurakin et al. 2017, section 2.1; PGD, Madry et al.
2018, section 2.1 (8/255, steps of 2/255, 10 steps, random start); DeepFool, Moosavi-Dezfooli et al. 2016, algorithm 2.
All act on the input frame in pixel values from 0 to 1, with the network's normalisation inside. Departure: success
counts only after the picture has been rounded to 8 bits, so the change is rounded within the ball, and DeepFool's is
lengthened until its rounded form fools.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from engine.errors import OptionsError, UnsupportedError
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.make.loop import Made
    from models.card import Card


@dataclass(frozen=True)
class Attack:
    """What an attack's name stands for. `step` is a part of epsilon; `norm` inf or 2; `bounded` by a ball."""

    norm: float
    epsilon: float
    step: float
    steps: int
    random_start: bool
    bounded: bool = True


ATTACKS = {
    "fgsm": Attack(math.inf, 8 / 255, 1.0, 1, False),
    "bim": Attack(math.inf, 8 / 255, 0.125, 10, False),
    "pgd": Attack(math.inf, 8 / 255, 0.25, 10, True),
    "pgd_l2": Attack(2.0, 1.0, 0.2, 10, True),
    "deepfool": Attack(2.0, math.inf, 0.0, 50, False, bounded=False),
}
"""bim: steps of 1/255 at 8/255. pgd and pgd_l2: 2/255 at 8/255 and 0.2 at 1.0. deepfool has no ball."""


class AdversarialOptions(Options):
    """What an attack can be told."""

    attack: Literal["fgsm", "bim", "pgd", "pgd_l2", "deepfool"] = option(
        "pgd",
        "fgsm: one step (Goodfellow 2015); bim: small steps (Kurakin 2017); pgd: and a random start (Madry 2018); "
        "pgd_l2: in Euclidean length; deepfool: to the nearest border (Moosavi-Dezfooli 2016)",
    )
    epsilon: float | None = option(
        None,
        "Largest change, of pixel values from 0 to 1; 8/255 may be written so. Empty: 8/255, or a length of 1 for "
        "pgd_l2",
        gt=0,
        le=100,
    )
    target: str = option(
        "", "Class to reach; empty: away from the clean prediction", kind="class", coerce_numbers_to_str=True
    )
    steps: int | None = option(None, "Steps; empty: the attack's own", ge=1, le=10000, unit="steps", advanced=True)
    step_size: float | None = option(
        None, "Size of a step in pixel values; empty: the attack's own part of epsilon", gt=0, le=100, advanced=True
    )
    overshoot: float = option(0.02, "How far DeepFool goes beyond the border", ge=0, le=1, advanced=True)

    @field_validator("epsilon", "step_size", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        """A fraction such as "8/255" as its number."""
        if isinstance(value, str) and value.count("/") == 1:
            above, below = value.split("/")
            try:
                return float(above) / float(below)
            except (ValueError, ZeroDivisionError):
                raise ValueError("expected a number or a fraction such as 8/255") from None
        return value


def check(card: Card, options: AdversarialOptions) -> None:
    """Raise in one line where there is no class to fool, or an option does not go with the attack."""
    if not card.classes or card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes, so there is no prediction to change")
    attack = ATTACKS[options.attack]
    if attack.bounded and attack.norm == math.inf and options.epsilon is not None and options.epsilon > 1:
        raise OptionsError(
            f"epsilon is of pixel values from 0 to 1, not {options.epsilon:g}: for grey levels write "
            f"{options.epsilon:g}/255"
        )
    if attack.bounded and attack.norm == math.inf and options.epsilon is not None and options.epsilon < 1 / 255 - 1e-9:
        raise OptionsError(f"epsilon {options.epsilon:g} is under one grey level (1/255): no 8-bit picture is so near")
    if not attack.bounded and options.epsilon is not None:
        raise OptionsError("deepfool looks for the smallest change and takes no epsilon: choose pgd_l2 to bound it")
    if not attack.bounded and options.target:
        raise OptionsError("deepfool goes to the nearest class and takes no target: choose pgd or pgd_l2")


def rounded_change(change: NDArray[Any], attack: Attack, epsilon: float) -> NDArray[Any]:
    """A change (C, H, W) of pixel values as whole grey levels, int, that stay in the ball.

    In L-infinity no level is above epsilon·255. In L2 the levels are rounded, and towards zero if that is too long.
    """
    import numpy as np

    levels: NDArray[Any] = np.rint(change * 255).astype(int)
    if attack.bounded and attack.norm == math.inf:
        most = math.floor(epsilon * 255 + 1e-6)
        levels = levels.clip(-most, most)
    elif attack.bounded and float(np.linalg.norm(levels / 255)) > epsilon:
        levels = np.fix(change * 255).astype(int)
    return levels


def _ball_attack(job: Job, clean: Tensor, attack: Attack, epsilon: float, label: int, target: int | None) -> Made:
    """The one loop under an epsilon-ball: down with the clean class's log probability, or up with the target's."""
    import torch

    from engine.make.canvas import PixelCanvas
    from engine.make.loop import gradient_steps, optimise
    from engine.make.losses import ClassScore, Term, ascend
    from engine.make.projection import Ball

    options: AdversarialOptions = job.options
    probabilities = job.card.output == "probabilities"
    names = job.card.classes
    if target is None:
        term = Term(f"log probability of {names[label]}", ClassScore(label, "log_probability", probabilities))
    else:
        term = ascend(f"log probability of {names[target]}", ClassScore(target, "log_probability", probabilities))
    ball = Ball(clean, epsilon, attack.norm)
    start = clean
    if attack.random_start:
        generator = torch.Generator().manual_seed(job.seed)
        if attack.norm == math.inf:
            noise = (2 * torch.rand(clean.shape, generator=generator) - 1) * epsilon
        else:
            noise = torch.randn(clean.shape, generator=generator)
            noise *= epsilon * float(torch.rand(1, generator=generator)) / noise.norm()
        start = (clean + noise.to(clean)).clamp(0, 1)
    return optimise(
        job,
        PixelCanvas(start),
        [term],
        steps=options.steps or attack.steps,
        optimiser=gradient_steps(
            options.step_size or attack.step * epsilon, "sign" if attack.norm == math.inf else "l2"
        ),
        projection=ball,
    )


def deepfool_step(logits: Tensor, gradients: Tensor, label: int) -> Tensor:
    """The shortest step (C, H, W) to the nearest border of a network that were linear.

    `logits` (k,) and their `gradients` (k, C, H, W) of the classes that are tried, the label's among them at place
    `label`. Moosavi-Dezfooli et al. 2016, eq. 8 and 9: |f_l| / ‖w_l‖² · w_l of the l with the least |f_l| / ‖w_l‖.
    """
    differences = logits - logits[label]
    directions = gradients - gradients[label]
    lengths = directions.flatten(1).norm(dim=1).clamp_min(1e-12)
    distances = differences.abs() / lengths
    distances[label] = math.inf
    nearest = int(distances.argmin())
    step: Tensor = (differences[nearest].abs() + 1e-4) / lengths[nearest] ** 2 * directions[nearest]
    return step


def _deepfool(job: Job, clean: Tensor, label: int, steps: int, tried: int = 10) -> Made:
    """DeepFool over the `tried` best classes of the clean photo, in pixel values, without the box until the end."""
    import pandas as pd
    import torch

    from engine.make.canvas import Normalise, to_preview
    from engine.make.loop import Made
    from models.card import OUTPUT
    from models.torch_net import forward_taps

    module, normalise = job.network.module(job.device), Normalise(job.card.preprocessing, job.device)
    change = torch.zeros_like(clean)
    rows: list[dict[str, float]] = []
    classes: Tensor | None = None
    stretch = 1 + job.options.overshoot
    for step in range(steps):
        picture = (clean + stretch * change).clamp(0, 1).requires_grad_(True)
        with torch.enable_grad():
            output = forward_taps(module, normalise(picture), [OUTPUT])[OUTPUT][0]
            scores = output.clamp_min(1e-12).log() if job.card.output == "probabilities" else output
            if classes is None:
                best = scores.detach().argsort(descending=True, stable=True)[: min(tried, len(scores))]
                classes = torch.cat([torch.tensor([label], device=best.device), best[best != label]])
            margin = float((scores[classes[1:]].max() - scores[label]).detach())
            size = float((stretch * change).norm())
            rows.append({"step": step, "loss": -margin, "margin": -margin, "length": size})
            if int(scores.detach().argmax()) != label and step > 0:
                break
            gradients = [
                torch.autograd.grad(scores[c], picture, retain_graph=i < len(classes) - 1)[0][0]
                for i, c in enumerate(classes)
            ]
        change = change + deepfool_step(scores.detach()[classes], torch.stack(gradients), 0)
        curve = {"margin": -margin, "length": size}
        job.progress((step + 1) / steps, f"step {step + 1} of at most {steps}", to_preview(picture), curve)
    return Made(_lengthened(job, clean, stretch * change, label), pd.DataFrame(rows))


def _lengthened(job: Job, clean: Tensor, change: Tensor, label: int, growth: float = 1.1, most: int = 40) -> Tensor:
    """The picture with the least multiple of the change that still fools when it is rounded to 8 bits.

    DeepFool ends so near to the border that rounding undoes it: a change under half a grey level is none.
    """
    from engine.make.canvas import to_pixels
    from engine.make.verdict import probabilities_of

    for power in range(most):
        picture = (clean + growth**power * change).clamp(0, 1).detach()
        if int(probabilities_of(job, to_pixels(picture)[0]).argmax()) != label:
            return picture
    return (clean + change).clamp(0, 1).detach()


def survival(job: Job, adversarial: NDArray[Any], label: int) -> pd.DataFrame:
    """What becomes of the attack when the picture is handled: treatment, fools, clean_photo_kept.

    `clean_photo_kept`: whether the same treatment leaves the unattacked photo its class, or changes that as well.
    """
    import io

    import numpy as np
    import pandas as pd
    from PIL import Image

    from engine.make.canvas import to_image
    from engine.make.verdict import probabilities_of

    preprocessing = job.card.preprocessing

    def jpeg(quality: int) -> Any:
        def treat(pixels: NDArray[Any]) -> NDArray[Any]:
            data = io.BytesIO()
            Image.fromarray(to_image(pixels)).save(data, "JPEG", quality=quality)
            return np.asarray(Image.open(data)).reshape(pixels.shape)

        return treat

    treatments: dict[str, Any] = {
        "as saved, PNG": lambda pixels: pixels,
        "the network's resize and crop": lambda pixels: preprocessing.frame(Image.fromarray(to_image(pixels))),
        "shifted by one pixel": lambda pixels: np.roll(pixels, (1, 1), (0, 1)),
    }
    if preprocessing.channels != 4:
        treatments |= {f"JPEG at quality {quality}": jpeg(quality) for quality in (95, 75, 50)}
    rows = []
    for name, treat in treatments.items():
        attacked = int(probabilities_of(job, treat(adversarial)).argmax())
        clean = int(probabilities_of(job, treat(job.frame)).argmax())
        rows.append(
            {
                "treatment": name,
                "fools": attacked != label,
                "class": job.card.classes[attacked],
                "clean_photo_kept": clean == label,
            }
        )
    return pd.DataFrame(rows)


def _magnified(levels: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """A change in grey levels (C, H, W) as a picture about grey, uint8 (H, W, 3), and how much it was magnified."""
    import numpy as np

    from engine.explain.pictures import as_colour

    largest = max(1, int(np.abs(levels).max()))
    picture = np.rint(np.moveaxis(levels, 0, -1) * (127 / largest) + 128).astype(np.uint8)
    return as_colour(picture), 127 / largest


def adversarial(job: Job) -> Result:
    """Images `adversarial` (8-bit, input-sized), `perturbation` (magnified); array `delta` (C, H, W) in pixel values.

    Tables `before_after` (class, photo, adversarial: probabilities), `survival`, `norms`, `losses` by step.
    """
    import numpy as np
    import pandas as pd

    from engine.make.canvas import to_image, to_picture
    from engine.make.verdict import probabilities_of

    options: AdversarialOptions = job.options
    if job.photo is None:
        raise OptionsError("an attack needs a photo: give --image PATH or --image sample:cat")
    attack, card = ATTACKS[options.attack], job.card
    epsilon = options.epsilon or attack.epsilon
    before = probabilities_of(job, job.frame)
    label = int(before.argmax())
    target = card.class_index(options.target) if options.target else None
    if target == label:
        raise OptionsError(f"the photo is {card.classes[label]} to {card.name} already: choose another target")
    clean = to_picture(job.frame, job.device)
    if attack.bounded:
        made = _ball_attack(job, clean, attack, epsilon, label, target)
    else:
        made = _deepfool(job, clean, label, options.steps or attack.steps)
    change = (made.picture - clean)[0].cpu().numpy().astype(np.float64)
    levels = rounded_change(change, attack, epsilon)
    frame = np.moveaxis(job.frame.astype(int), -1, 0)
    attacked = np.clip(frame + levels, 0, 255)
    levels = attacked - frame
    pixels = np.ascontiguousarray(np.moveaxis(attacked, 0, -1).astype(np.uint8))

    after = probabilities_of(job, pixels)
    now = int(after.argmax())
    fooled = now == target if target is not None else now != label
    kept = survival(job, pixels, label)
    _tell(job, made, fooled, label, target, now)
    delta = (levels / 255).astype(np.float32)
    norms = {
        "L0 (pixels changed)": float(np.any(levels != 0, axis=0).sum()),
        "L2": float(np.linalg.norm(delta)),
        "L∞": float(np.abs(delta).max()),
        "L∞ (grey levels)": float(np.abs(levels).max()),
    }
    picture, scale = _magnified(levels)
    shown = sorted({*np.argsort(-before)[:3].tolist(), *np.argsort(-after)[:3].tolist()}, key=lambda c: -after[c])
    job.record(provider="torch", precision="fp32")
    aim = f"towards {card.classes[target]}" if target is not None else f"away from {card.classes[label]}"
    return Result(
        arrays={"delta": delta, "loss": made.losses["loss"].to_numpy()},
        tables={
            "before_after": pd.DataFrame(
                {
                    "class": [card.classes[c] for c in shown],
                    "photo": [float(before[c]) for c in shown],
                    "adversarial": [float(after[c]) for c in shown],
                }
            ),
            "survival": kept,
            "norms": pd.DataFrame({"norm": list(norms), "value": list(norms.values())}),
            "losses": made.losses,
        },
        images={"adversarial": to_image(pixels), "perturbation": picture},
        summary={
            "fooled": bool(fooled),
            "before": card.classes[label],
            "before_probability": float(before[label]),
            "after": card.classes[now],
            "after_probability": float(after[now]),
            "linf": norms["L∞"],
            "linf_levels": int(norms["L∞ (grey levels)"]),
            "l2": norms["L2"],
            **({} if target is None else {"target": card.classes[target]}),
            "survives": int(kept["fools"].sum()),
            "treatments": len(kept),
        },
        panels=[
            Panel(
                kind="image",
                title=f"{card.classes[now]}, {after[now]:.0%}",
                help=f"The attacked photo as 8-bit pixels, driven {aim}. Before: {card.classes[label]}, "
                f"{before[label]:.0%}.",
                image="adversarial",
            ),
            Panel(kind="image", title="The photo", help="What the network sees of it.", image="photo"),
            Panel(
                kind="image",
                title="What was changed",
                help=f"The difference, magnified {scale:.0f} times; grey is no change.",
                image="perturbation",
            ),
            Panel(
                kind="bars",
                title="What it says after",
                help="Probabilities of the attacked 8-bit picture.",
                table="before_after",
                x="class",
                y=("adversarial",),
            ),
            Panel(
                kind="bars",
                title="What it said before",
                help="Probabilities of the photo, for the same classes.",
                table="before_after",
                x="class",
                y=("photo",),
            ),
            Panel(
                kind="curve",
                title="How it went",
                help="What each step was moved by, before rounding.",
                table="losses",
                x="step",
                y=tuple(column for column in made.losses.columns if column not in ("step", "loss")),
            ),
            Panel(
                kind="table",
                title="Does it survive?",
                help="The attacked picture handled as pictures are. Where the unattacked photo loses its class as "
                "well, the attack proves nothing.",
                table="survival",
            ),
            Panel(kind="table", title="How large it is", help="Of pixel values from 0 to 1.", table="norms"),
        ],
        preview="adversarial",
    )


def _tell(job: Job, made: Made, fooled: bool, label: int, target: int | None, now: int) -> None:
    """Say when it failed, or when only the picture before rounding fools."""
    import torch

    from engine.make.sizes import features_of
    from models.card import OUTPUT

    if fooled:
        return
    raw = int(features_of(job, made.picture, [OUTPUT])[OUTPUT][0].argmax())
    raw_fools = raw == target if target is not None else raw != label
    classes = job.card.classes
    if raw_fools:
        job.warn(f"only the picture before rounding to 8 bits is {classes[raw]}; as saved it is {classes[now]}")
    else:
        wanted = f"not {classes[target]}" if target is not None else "still its first class"
        job.warn(f"it did not fool the network: it is {classes[now]}, {wanted}; raise epsilon or steps")
    assert torch.isfinite(made.picture).all(), "the loop keeps the last good picture"


def work(card: Card, options: AdversarialOptions, images: int) -> float:
    """Forward passes: a step is a forward and a backward, ten backwards for DeepFool."""
    attack = ATTACKS[options.attack]
    steps = options.steps or attack.steps
    return 15.0 + (3.0 * steps if attack.bounded else 21.0 * min(steps, 8))


METHOD = Method(
    name="adversarial",
    title="Adversarial example",
    verb="make",
    family="Fooling images",
    question="How little does it take to fool it?",
    summary="A change too small to see that changes the answer (FGSM, PGD, DeepFool), checked on the saved pixels.",
    options=AdversarialOptions,
    run=adversarial,
    work=work,
    gradients=True,
    check=check,
)
