"""Adversarial examples: the smallest change that a person does not see and the network falls for.

FGSM, Goodfellow et al. 2015, section 4; basic iterative method, Kurakin et al. 2017, section 2.1; momentum, Dong et al.
2018, algorithm 1; PGD, Madry et al. 2018, section 2.1; DeepFool, Moosavi-Dezfooli et al. 2016, algorithm 2;
Carlini-Wagner, 2017, section VI.A; a few pixels, Su et al. 2019. All act on the input frame in pixel values from 0 to
1, with the network's normalisation inside. Departure: success counts only after the picture has been rounded to 8
bits, saved and read back, so a change is rounded within its ball, and one without a ball is lengthened until its
rounded form fools.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.make.attack.shared.radius import ATTACKS, Attack, Trial, as_fraction, fraction
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, NetworksKind, Options, option, parts_of
from fovea.engine.panels import BarsPanel, CurvePanel, ImagePanel, OverlayPanel, TablePanel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.models.card import Card

STEP_ROWS = 400
"""At most so many steps are kept for the curve."""
GROWTH = 1.02
LONGEST = 160
"""A change without a ball is lengthened by this factor at a time, at most so often (to 23 times its length)."""


class AdversarialOptions(Options):
    """What an attack can be told."""

    attack: Literal["fgsm", "bim", "momentum", "pgd", "pgd_l2", "deepfool", "carlini_wagner", "few_pixel"] = option(
        "pgd",
        "fgsm: one step (Goodfellow 2015); bim: small steps (Kurakin 2017); momentum: gathered gradients (Dong 2018); "
        "pgd: a random start (Madry 2018); pgd_l2: in Euclidean length; deepfool: to the nearest border "
        "(Moosavi-Dezfooli 2016); carlini_wagner: the shortest change (2017); few_pixel: no gradients (Su 2019)",
    )
    epsilon: float | None = option(
        None,
        "Largest change, of pixel values from 0 to 1; 8/255 may be written so. Empty: 8/255 (Madry 2018), or a "
        "length of 1 for pgd_l2",
        gt=0,
        le=100,
    )
    target: str = option(
        "", "Class to reach; empty: away from the clean prediction", kind=ClassKind(), coerce_numbers_to_str=True
    )
    smallest: bool = option(False, "Look for the smallest epsilon that works, by bisection from the one given")
    networks: str = option("", "Other networks that are shown the result: does it fool them, too?", kind=NetworksKind())
    label: str = option(
        "",
        "What the photo really shows: a network that errs already is told, and not counted as fooled",
        kind=ClassKind(),
        advanced=True,
        coerce_numbers_to_str=True,
    )
    steps: int | None = option(
        None,
        "Steps, or generations of few_pixel; empty: the attack's own (1, 10, 50; 1000 a search for carlini_wagner, "
        "whose paper allows 10000; 100 for few_pixel)",
        ge=1,
        le=10000,
        unit="steps",
        advanced=True,
    )
    step_size: float | None = option(
        None, "Size of a step in pixel values; empty: the attack's own part of epsilon", gt=0, le=100, advanced=True
    )
    overshoot: float = option(
        0.02, "How far DeepFool goes beyond the border (Moosavi-Dezfooli 2016)", ge=0, le=1, advanced=True
    )
    searches: int = option(
        9, "Carlini-Wagner: steps of the binary search for its constant (their code)", ge=1, le=20, advanced=True
    )
    constant: float = option(
        1e-3, "Carlini-Wagner: the first constant, the weight of fooling (their code)", gt=0, le=1e6, advanced=True
    )
    rate: float = option(0.01, "Carlini-Wagner: Adam's learning rate (their code)", gt=0, le=1, advanced=True)
    confidence: float = option(
        0.0, "Carlini-Wagner: by how much another logit must lead (kappa, their code)", ge=0, le=1000, advanced=True
    )
    pixels: int = option(5, "few_pixel: pixels that may change (Su 2019: 1, 3 and 5)", ge=1, le=1000, advanced=True)
    population: int = option(400, "few_pixel: candidates of each generation (Su 2019)", ge=5, le=10000, advanced=True)

    @field_validator("epsilon", "step_size", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        return fraction(value)


def check(card: Card, options: AdversarialOptions) -> None:
    """Raise in one line where there is no class to fool, or an option does not go with the attack."""
    if not card.classes or card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes, so there is no prediction to change")
    attack, name, epsilon = ATTACKS[options.attack], options.attack, options.epsilon
    if not attack.bounded:
        if epsilon is not None:
            how = "looks for the smallest change" if attack.norm else "is bounded by its number of pixels"
            raise OptionsError(f"{name} {how} and takes no epsilon: choose pgd or pgd_l2 for a ball")
        if options.smallest:
            raise OptionsError(f"{name} has no epsilon to be searched: choose smallest with pgd or another with a ball")
        if options.step_size is not None:
            raise OptionsError(f"{name} finds the size of its steps itself: leave step_size empty")
    elif attack.norm == math.inf and epsilon is not None:
        if epsilon > 1:
            levels = epsilon.is_integer()
            hint = f"for grey levels write {epsilon:g}/255" if levels else "1 is all the way from black to white"
            raise OptionsError(f"epsilon is of pixel values from 0 to 1, not {epsilon:g}: {hint}")
        if epsilon < 1 / 255 - 1e-9:
            raise OptionsError(f"epsilon {epsilon:g} is under one grey level (1/255): no 8-bit picture is so near")
    if not attack.targeted and options.target:
        raise OptionsError(f"{name} goes to the nearest class and takes no target: choose pgd or carlini_wagner")


@dataclass
class _Case:
    """One photo under attack: what the network said of it (`before`), its class `label`, and where it is driven."""

    job: Job
    attack: Attack
    ask: Any
    before: NDArray[Any]
    label: int
    target: int | None
    truth: int | None

    def fools(self, index: int) -> bool:
        """Whether this class is a success."""
        return index == self.target if self.target is not None else index != self.label

    @property
    def errs(self) -> bool:
        """Whether the network is wrong about the photo before anything is done to it."""
        return self.truth is not None and self.truth != self.label


@dataclass
class _Outcome:
    """An attacked frame (H, W, C), 8-bit; the class of the picture before rounding, None where there is none.

    `history` of the way to it; `lengthened` by how much, for want of a ball.
    """

    frame: NDArray[Any]
    raw_class: int | None
    history: _History
    epsilon: float = math.inf
    lengthened: float = 1.0
    trials: list[Trial] = field(default_factory=list)


class _History:
    """What was kept of the class probabilities on the way.

    `rows` of them (classes,), and the `steps` that they were met at, from 0; `taken` counts the steps that were told.
    """

    def __init__(self, case: _Case) -> None:
        self._case, self._last, self._shown = case, -1, 0.0
        self.rows: list[NDArray[Any]] = []
        self.steps: list[int] = []
        self.taken = 0

    def add(self, fraction: float, probabilities: NDArray[Any]) -> dict[str, float]:
        """Keep these of the next step, unless many are there; the curve to show."""
        place = int(fraction * STEP_ROWS)
        if place != self._last:
            self.rows.append(probabilities)
            self.steps.append(self.taken)
            self._last = place
        self.taken += 1
        case = self._case
        names = case.job.card.classes
        shown = {f"probability of {names[case.label]}": float(probabilities[case.label])}
        if case.target is not None:
            shown[f"probability of {names[case.target]}"] = float(probabilities[case.target])
        return shown

    def due(self) -> bool:
        """Whether it is time for another preview."""
        now = time.monotonic()
        if now - self._shown < 0.3:
            return False
        self._shown = now
        return True


def _ball(case: _Case, epsilon: float, portion: tuple[float, float]) -> _Outcome:
    """One attack within a ball, rounded within it."""
    import torch

    from fovea.engine.make.attack.shared.ball import ball_attack, scores_of
    from fovea.engine.make.attack.shared.radius import attacked_frames
    from fovea.engine.make.optimise.canvas import to_picture

    job, attack, options = case.job, case.attack, case.job.options
    clean, history = to_picture(job.frame, job.device), _History(case)
    steps = options.steps or attack.steps
    made = ball_attack(
        job,
        clean,
        torch.tensor([case.label if case.target is None else case.target], device=job.device),
        attack,
        epsilon,
        targeted=case.target is not None,
        steps=steps,
        step_size=options.step_size,
        portion=portion,
        told=lambda found: history.add(history.taken / steps, found[0].cpu().numpy()),
    )
    change = (made.picture - clean).double().cpu().numpy()
    frame = attacked_frames(job.frame[None], change, attack, epsilon)[0]
    with torch.no_grad():
        raw = int(scores_of(job)(made.picture)[0].argmax())
    return _Outcome(frame, raw, history, epsilon)


def _smallest(case: _Case, first: float) -> _Outcome:
    """The attack at the smallest epsilon that works; at the largest tried where none does."""
    from fovea.engine.make.attack.shared.radius import smallest_radius

    outcomes: dict[float, _Outcome] = {}

    def works(epsilon: float) -> bool:
        tried = len(outcomes)
        portion = (1 - 0.8**tried, 1 - 0.8 ** (tried + 1))
        outcomes[epsilon] = _ball(case, epsilon, (0.9 * portion[0], 0.9 * portion[1]))
        return case.fools(int(case.ask(outcomes[epsilon].frame[None])[0].argmax()))

    infinity = case.attack.norm == math.inf
    largest = 1.0 if infinity else math.sqrt(case.job.frame.size)
    found, trials = smallest_radius(works, min(first, largest), levels=infinity, largest=largest)
    outcome = outcomes[found if found is not None else trials[-1].epsilon]
    outcome.trials = sorted(trials, key=lambda trial: trial.epsilon)
    if found is None:
        case.job.warn(f"it does not work at any epsilon up to {as_fraction(trials[-1].epsilon)}")
    return outcome


def _shortest(case: _Case) -> _Outcome:
    """DeepFool or Carlini-Wagner, lengthened until the rounded change fools as well."""
    import torch

    from fovea.engine.make.attack.shared.ball import carlini_wagner, deepfool, scores_of
    from fovea.engine.make.optimise.canvas import to_picture, to_preview

    job, options, history = case.job, case.job.options, _History(case)
    scores, clean = scores_of(job, quick=True), to_picture(job.frame, job.device)

    def told(fraction: float, pictures: Tensor, found: Tensor) -> None:
        curve = history.add(fraction, found[0].softmax(0).cpu().numpy())
        preview = to_preview(pictures) if history.due() else None
        job.progress(0.9 * fraction, options.attack.replace("_", "-"), preview, curve)

    steps = options.steps or case.attack.steps
    start = torch.tensor([case.label if case.target is None else case.target], device=job.device)
    if options.attack == "deepfool":
        picture = deepfool(scores, clean, start, steps=steps, overshoot=options.overshoot, told=told)
    else:
        picture = carlini_wagner(
            scores,
            clean,
            start,
            targeted=case.target is not None,
            steps=steps,
            searches=options.searches,
            rate=options.rate,
            constant=options.constant,
            confidence=options.confidence,
            told=told,
        )
    with torch.no_grad():
        raw = int(scores(picture)[0].argmax())
    frame, lengthened = _lengthened(case, clean, picture - clean)
    return _Outcome(frame, raw, history, lengthened=lengthened)


def _lengthened(case: _Case, clean: Tensor, change: Tensor) -> tuple[NDArray[Any], float]:
    """The frame with the least multiple of the change that fools when it is rounded, and that multiple.

    The shortest change ends so near to the border that rounding undoes it: one under half a grey level is none.
    """
    import torch

    from fovea.engine.make.optimise.canvas import to_pixels

    for first in range(0, LONGEST, 8):
        factors = [GROWTH**power for power in range(first, first + 8)]
        frames = to_pixels(torch.cat([clean + factor * change for factor in factors]))
        for factor, frame, found in zip(factors, frames, case.ask(frames).argmax(1), strict=True):
            if case.fools(int(found)):
                return frame, factor
    return to_pixels(clean + change)[0], 1.0


def _pixels(case: _Case) -> _Outcome:
    """A few pixels, by evolution; forwards by ONNX Runtime."""
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.attack.few_pixel import few_pixels
    from fovea.engine.make.judge.classifier import RuntimeClassifier

    job, options, history = case.job, case.job.options, _History(case)

    def told(fraction: float, frame: NDArray[Any], found: NDArray[Any]) -> None:
        curve = history.add(fraction, found)
        job.progress(0.9 * fraction, "generation", as_colour(frame) if history.due() else None, curve)

    frame = few_pixels(
        RuntimeClassifier(job),
        job.frame,
        case.label,
        target=case.target,
        pixels=options.pixels,
        population=options.population,
        generations=options.steps or case.attack.steps,
        seed=job.seed,
        told=told,
    )
    return _Outcome(frame, None, history)


def _attacked(case: _Case) -> _Outcome:
    options, attack = case.job.options, case.attack
    if not attack.gradients:
        return _pixels(case)
    if not attack.bounded:
        return _shortest(case)
    epsilon = options.epsilon or attack.epsilon
    return _smallest(case, epsilon) if options.smallest else _ball(case, epsilon, (0.0, 0.9))


def _case(job: Job) -> _Case:
    """Read the options and ask the network for the photo. Raises OptionsError, or NetworkError without an answer."""
    from fovea.engine.make.fool.evolution import finite_answers
    from fovea.engine.make.judge.classifier import classifier

    options, card = job.options, job.card
    if job.photo is None:
        raise OptionsError("an attack needs a photo: give --image PATH or --image sample:cat")
    ask = classifier(job)
    before = finite_answers(ask, job.frame[None])[0]
    label = int(before.argmax())
    target = card.class_index(options.target) if options.target else None
    truth = card.class_index(options.label) if options.label else None
    if target == label:
        raise OptionsError(f"the photo is {card.classes[label]} to {card.name} already: choose another target")
    return _Case(job, ATTACKS[options.attack], ask, before, label, target, truth)


def _magnified(levels: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """A change in grey levels (H, W, C) as a picture about grey, uint8 (H, W, 3), and how much it was magnified."""
    import numpy as np

    from fovea.engine.explain.maps.pictures import as_colour

    largest = max(1, int(np.abs(levels).max()))
    picture = np.rint(levels * (127 / largest) + 128).astype(np.uint8)
    return as_colour(picture), 127 / largest


def adversarial(job: Job) -> Result:
    """Images `adversarial` (8-bit, input-sized), `perturbation` (magnified); array `delta` (C, H, W) in pixel values.

    Tables `before_after` (class, photo, adversarial: probabilities), `steps` (step, probability of both classes),
    `norms`, `survival`, `transfer`, `depth` (distance of the activations by layer), `search`. Arrays `saliency_photo`,
    `saliency_adversarial`, `gradcam_photo`, `gradcam_adversarial` (H, W).
    """
    import numpy as np

    from fovea.engine.make.attack.outcome.survival import norms, saved_and_read
    from fovea.engine.make.optimise.canvas import to_image

    case = _case(job)
    outcome = _attacked(case)
    pixels = saved_and_read(outcome.frame)
    after = case.ask(pixels[None])[0]
    now = int(after.argmax())
    _tell(case, outcome, now)
    levels = pixels.astype(int) - job.frame
    picture, scale = _magnified(levels)
    sizes = norms(job.frame, pixels)
    result = Result(
        arrays={"delta": (np.moveaxis(levels, -1, 0) / 255).astype(np.float32)},
        images={"adversarial": to_image(pixels), "perturbation": picture},
        summary=_summary(case, outcome, after, sizes),
        preview="adversarial",
    )
    _add_pictures(case, outcome, after, scale, result)
    _add_probabilities(case, outcome, after, result)
    _add_figures(case, outcome, pixels, sizes, result)
    if job.card.gradients:
        _add_twins(case, pixels, now, result)
    if case.attack.gradients:
        job.record(provider="torch", precision="fp32")
    return result


def _summary(case: _Case, outcome: _Outcome, after: NDArray[Any], sizes: dict[str, float]) -> dict[str, Any]:
    names, now = case.job.card.classes, int(after.argmax())
    summary = {
        "fooled": case.fools(now) and not case.errs,
        "before": names[case.label],
        "before_probability": float(case.before[case.label]),
        "after": names[now],
        "after_probability": float(after[now]),
        "pixels": int(sizes["L0 (pixels changed)"]),
        "linf": sizes["L∞"],
        "linf_levels": int(sizes["L∞ (grey levels)"]),
        "l2": sizes["L2"],
        "ssim": sizes["SSIM"],
    }
    if outcome.raw_class is not None:
        summary["fooled_before_rounding"] = case.fools(outcome.raw_class)
    if case.target is not None:
        summary["target"] = names[case.target]
    if case.attack.bounded:
        summary["epsilon"] = outcome.epsilon
    elif case.attack.gradients:
        summary["lengthened"] = outcome.lengthened
    if case.truth is not None:
        summary |= {"label": names[case.truth], "erred_already": case.errs}
    return summary


def _tell(case: _Case, outcome: _Outcome, now: int) -> None:
    """Say when it failed, when only the picture before rounding fools, and when the network errs anyway."""
    job, names = case.job, case.job.card.classes
    if case.errs:
        assert case.truth is not None
        job.warn(
            f"{job.card.name} errs on the photo already: it says {names[case.label]}, not {names[case.truth]}; "
            f"this is not counted as fooled"
        )
    if case.fools(now):
        if outcome.lengthened > 1:
            job.warn(
                f"rounded to 8 bits the change fools only when it is made {outcome.lengthened:.2f} times as long: "
                f"so it was"
            )
        return
    if outcome.raw_class is not None and case.fools(outcome.raw_class):
        job.warn(
            f"only the picture before rounding to 8 bits is {names[outcome.raw_class]}; as saved it is {names[now]}"
        )
        return
    wanted = f"not {names[case.target]}" if case.target is not None else "still its first class"
    more = "epsilon or steps" if case.attack.bounded else "steps" if case.attack.gradients else "pixels or steps"
    job.warn(f"it did not fool the network: it is {names[now]}, {wanted}; raise {more}")


def _add_pictures(case: _Case, outcome: _Outcome, after: NDArray[Any], scale: float, result: Result) -> None:
    names, now = case.job.card.classes, int(after.argmax())
    aim = f"towards {names[case.target]}" if case.target is not None else f"away from {names[case.label]}"
    ball = f" within {as_fraction(outcome.epsilon)}" if case.attack.bounded else ""
    magnified = f"magnified {scale:.3g} times" if scale >= 1 else f"scaled by {scale:.2g}"
    result.panels += [
        ImagePanel(
            title=f"The photo: {names[case.label]}, {case.before[case.label]:.0%}",
            help="What the network sees of it.",
            image="photo",
        ),
        ImagePanel(
            title="What was changed",
            help=f"The difference with its sign, {magnified}: grey is no change, brighter is more of a colour.",
            image="perturbation",
            beside=True,
        ),
        ImagePanel(
            title=f"The result: {names[now]}, {after[now]:.0%}",
            help=f"Driven {aim}{ball}, as 8-bit pixels, saved and read back.",
            image="adversarial",
            beside=True,
        ),
    ]


def _add_probabilities(case: _Case, outcome: _Outcome, after: NDArray[Any], result: Result) -> None:
    import numpy as np
    import pandas as pd

    names, before = case.job.card.classes, case.before
    shown = sorted({*np.argsort(-before)[:3].tolist(), *np.argsort(-after)[:3].tolist()}, key=lambda c: -after[c])
    result.tables["before_after"] = pd.DataFrame(
        {
            "class": [names[c] for c in shown],
            "photo": [float(before[c]) for c in shown],
            "adversarial": [float(after[c]) for c in shown],
        }
    )
    other = case.target if case.target is not None else int(after.argmax())
    if other == case.label:
        other = int(np.argsort(-after, kind="stable")[1]) if len(after) > 1 else case.label
    history = outcome.history
    steps, found = [*history.steps, history.taken], np.stack([*history.rows, after])
    columns = [f"probability of {names[c]}" for c in dict.fromkeys((case.label, other))]
    values = [found[:, c].astype(float) for c in dict.fromkeys((case.label, other))]
    result.tables["steps"] = pd.DataFrame({"step": steps, **dict(zip(columns, values, strict=True))})
    for column, title in (("photo", "What it said of the photo"), ("adversarial", "What it says of the result")):
        result.panels.append(
            BarsPanel(
                title=title,
                help="Probabilities of the same classes before and after.",
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
            help="What the network thinks of the picture at each step; the last point, one further, is the saved 8-bit "
            "picture.",
            table="steps",
            x="step",
            y=tuple(columns),
            units="probability",
        )
    )


def _add_figures(case: _Case, outcome: _Outcome, pixels: NDArray[Any], sizes: dict[str, float], result: Result) -> None:
    import pandas as pd

    from fovea.engine.make.attack.outcome.survival import survival, transfer

    job = case.job
    result.tables["norms"] = pd.DataFrame({"norm": list(sizes), "value": list(sizes.values())})
    result.panels.append(
        TablePanel(
            title="How large it is",
            help="Of pixel values from 0 to 1; SSIM is 1 for equal pictures.",
            table="norms",
            beside=True,
        )
    )
    job.progress(0.92, "handling the picture")
    table = survival(job, case.ask, pixels, case.label, case.target)
    result.tables["survival"] = table
    result.summary |= {"survives": int(table["survives"].sum()), "treatments": len(table)}
    result.panels.append(
        TablePanel(
            title="Does it survive?",
            help="The result handled as pictures are. Where the same treatment takes the unattacked photo's class "
            "away as well, the attack proves nothing.",
            table="survival",
        )
    )
    if parts_of(job.options.networks):
        job.progress(0.94, "asking other networks")
        table = transfer(job, pixels, parts_of(job.options.networks), case.target)
        result.tables["transfer"] = table
        result.summary["transfers"] = f"{int(table['fools'].sum())} of {len(table)}"
        instead = "" if case.target is None else f" and it sees {job.card.classes[case.target]} instead"
        result.panels.append(
            TablePanel(
                title="Does it fool others?",
                help="Each network's class of the unattacked frame and of the result, both by its own preprocessing. "
                f"It is fooled where its class of the frame is gone{instead}.",
                table="transfer",
            )
        )
    if outcome.trials:
        rows = [(as_fraction(trial.epsilon), trial.epsilon, trial.works) for trial in outcome.trials]
        result.tables["search"] = pd.DataFrame(rows, columns=["epsilon", "value", "fools"])
        result.panels.append(
            TablePanel(
                title="The smallest epsilon that works",
                help="Every radius that was tried. The one found fools, the next smaller one tried does not.",
                table="search",
            )
        )


def _add_twins(case: _Case, pixels: NDArray[Any], now: int, result: Result) -> None:
    """Saliency and Grad-CAM of the photo and of its twin, and the depth at which the two part."""
    from fovea.engine.make.attack.outcome.twins import distances, gradcam_of, saliency_of, shuffled_change

    job, names = case.job, case.job.card.classes
    job.progress(0.96, "explaining both")
    twins = (("photo", job.frame, case.label), ("adversarial", pixels, now))
    views: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
        ("saliency", "Saliency", "Bright pixels change the class's logit most.", saliency_of),
        ("gradcam", "Grad-CAM", "What the last layer with maps contributes to the class.", gradcam_of),
    )
    for view, title, how, explained in views:
        for name, frame, label in twins:
            values = explained(job, frame, label)
            if values is None:
                continue
            result.arrays[f"{view}_{name}"] = values
            result.panels.append(
                OverlayPanel(
                    title=f"{title} of {names[label]}, {'the photo' if name == 'photo' else 'the result'}",
                    help=how,
                    image=name,
                    array=f"{view}_{name}",
                    beside=name == "adversarial",
                )
            )
    noise = "a shuffled change"
    attack = "the attack"
    mixed = shuffled_change(job.frame, pixels, job.seed)
    result.tables["depth"] = distances(job, job.frame, {attack: pixels, noise: mixed})
    result.panels.append(
        CurvePanel(
            title="Where in depth the two part",
            help="How far all activations of a layer are from the photo's, relative to their length: for the attack, "
            "and for the same change with its values shuffled.",
            table="depth",
            x="layer",
            y=(attack, noise),
            units="relative distance",
        )
    )


def work(card: Card, options: AdversarialOptions, images: int) -> float:
    """Forward passes: a step is a forward and a backward; what follows the attack costs some fifty."""
    attack = ATTACKS[options.attack]
    steps = options.steps or attack.steps
    if not attack.gradients:
        return 50.0 + options.population * min(steps, 20)
    if attack.bounded:
        return 50.0 + 3.0 * steps * (8 if options.smallest else 1)
    return 50.0 + (19.0 * min(steps, 8) if options.attack == "deepfool" else 3.0 * options.searches * min(steps, 500))


METHOD = Method(
    name="adversarial",
    title="Adversarial example",
    verb="make",
    family="Adversarial examples",
    question="How little does it take to fool it?",
    summary="A change too small to see that changes the answer (FGSM, PGD, DeepFool, Carlini-Wagner, a few pixels), "
    "counted as success only on the saved 8-bit picture.",
    options=AdversarialOptions,
    compute=adversarial,
    work=work,
    gradients=True,
    gradient_free={"attack": ("few_pixel",)},
    version=3,
    check=check,
)
