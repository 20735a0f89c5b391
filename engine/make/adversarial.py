"""Adversarial examples: the smallest change that a person does not see and the network falls for.

Each attack is one file in engine/make/attack/, which names its paper (FGSM, Goodfellow et al. 2015, to a few pixels, Su
et al. 2019). All act on the input frame in pixel values from 0 to 1, with the network's normalisation inside.
Departure: success counts only after the picture has been rounded to 8 bits, saved and read back, so a change is rounded
within its ball, and one without a ball is lengthened until its rounded form fools.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from fovea.engine.errors import OptionsError, UnsupportedError, needs_photo
from fovea.engine.make.attack.outcome.findings import AttackedPhoto, Attempt, Findings, Watch
from fovea.engine.make.attack.shared.attack import Attack, attacks, check_one_class, find_attack
from fovea.engine.make.attack.shared.options import by_attack, listed, own_options, with_attacks
from fovea.engine.make.attack.shared.radius import as_fraction, fraction
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, CommaList, NetworksKind, Options, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.progress import Progress
    from fovea.models.card import Card

GROWTH = 1.02
LONGEST = 160
"""A change without a ball is lengthened by this factor at a time, at most so often (to 23 times its length)."""


class AdversarialOptions(Options):
    """What every attack can be told; each attack adds its own options."""

    attack: str = option("pgd", "The attack that changes the photo.")
    epsilon: float | None = option(
        None,
        "The largest change: of any pixel value, from 0 to 1, or of all together in Euclidean length for an attack in "
        "L2. A fraction such as 8/255 can be written so. Left empty it is "
        f"{by_attack(lambda attack: as_fraction(attack.epsilon) if attack.bounded else '')}. 8/255 is the radius of "
        "Madry et al. 2018. The other attacks look for a small change themselves and take none.",
        gt=0,
        le=100,
        empty="the attack's own radius",
    )
    target: str = option(
        "",
        "The class that the network is to see in the changed photo. Left empty, any class but the one that it sees now "
        "is a success.",
        kind=ClassKind(),
        coerce_numbers_to_str=True,
        empty="any other class",
    )
    smallest: bool = option(
        False,
        "Look for the smallest epsilon at which the attack works, by bisection from the one given. It takes about "
        "eight times as long.",
    )
    networks: CommaList = option(
        "",
        "Other networks that are shown the result, to see whether it fools them, too.",
        kind=NetworksKind(),
        empty="none",
    )
    label: str = option(
        "",
        "The class that the photo really shows. If the network is wrong about the photo already, this is told and not "
        "counted as fooled.",
        kind=ClassKind(),
        advanced=True,
        coerce_numbers_to_str=True,
        empty="what the network sees now",
    )
    steps: int | None = option(
        None,
        "How many steps the attack takes at most. Left empty it is "
        f"{by_attack(lambda attack: str(attack.steps))}. Raise it where an attack fails.",
        ge=1,
        le=10000,
        unit="steps",
        advanced=True,
        empty="the attack's own number",
    )
    step_size: float | None = option(
        None,
        "The size of a step, in pixel values from 0 to 1. Left empty it is a part of epsilon: "
        f"{by_attack(lambda attack: f'{attack.step:g}' if attack.bounded else '')}. The other attacks find it "
        "themselves and take none.",
        gt=0,
        le=100,
        advanced=True,
        empty="the attack's own part of epsilon",
    )

    @field_validator("epsilon", "step_size", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        return fraction(value)


def _alike(**facts: Any) -> str:
    """The attacks that have these facts, as choices: "fgsm, pgd or bim"."""
    return listed([a.name for a in attacks().values() if all(getattr(a, f) == v for f, v in facts.items())], "or")


def check(card: Card, options: AdversarialOptions) -> None:
    """Raise in one line where there is no class to fool, or an option does not go with the attack."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes, so there is no prediction to change.")
    check_one_class(card)
    attack, name, epsilon = find_attack(options.attack), options.attack, options.epsilon
    if not attack.bounded:
        with_ball = f"choose {_alike(bounded=True)}, which stay within one."
        if epsilon is not None:
            how = "looks for the smallest change" if attack.norm else "is bounded by its number of pixels"
            raise OptionsError(f"{name} {how} and takes no epsilon: leave it empty, or {with_ball}")
        if options.smallest:
            raise OptionsError(f"{name} has no epsilon to be searched: leave smallest out, or {with_ball}")
        if options.step_size is not None:
            raise OptionsError(f"{name} finds the size of its steps itself: leave step_size empty.")
    elif attack.norm == math.inf and epsilon is not None:
        if epsilon > 1:
            levels = epsilon.is_integer()
            hint = f"for grey levels write {epsilon:g}/255" if levels else "1 is all the way from black to white"
            raise OptionsError(f"epsilon is of pixel values from 0 to 1, not {epsilon:g}: {hint}.")
        if epsilon < 1 / 255 - 1e-9:
            raise OptionsError(f"epsilon {epsilon:g} is under one grey level (1/255): no 8-bit picture is so near.")
    if not attack.targeted and options.target:
        raise OptionsError(
            f"{name} goes to the nearest class and takes no target: choose {_alike(targeted=True)}, which take one."
        )


# Compute -------------------------------------------------------------------------------------------------


def compute(job: Job[AdversarialOptions]) -> Findings:
    """Attack the photo, save it, and ask what became of it: this network, others, after handling, in depth."""
    from fovea.engine.make.attack.outcome.survival import norms, saved_and_read, survival, transfer
    from fovea.engine.make.attack.outcome.twins import twins_of

    options, attack = job.options, find_attack(job.options.attack)
    photo = asked_photo(job)
    whole = job.progress.span(0, 0.9)
    first = options.epsilon or attack.epsilon
    attempt = (
        smallest(job, attack, photo, first, whole) if options.smallest else attempted(job, attack, photo, first, whole)
    )
    pixels = saved_and_read(attempt.frame)
    after = photo.ask(pixels[None])[0]
    job.progress(0.92, "handling the picture")
    survived = survival(job, photo.ask, pixels, photo.label, photo.target)
    transferred = None
    if options.networks:
        job.progress(0.94, "asking other networks")
        transferred = transfer(job, pixels, options.networks, photo.target)
    twins = None
    if job.card.gradients:
        job.progress(0.96, "explaining both")
        twins = twins_of(job, pixels, photo.label, int(after.argmax()))
    if attack.gradients:
        job.record(provider="torch", precision="fp32")
    return Findings(attack, photo, attempt, pixels, after, norms(job.frame, pixels), survived, transferred, twins)


def asked_photo(job: Job[AdversarialOptions]) -> AttackedPhoto:
    """Ask the network for the photo. Raises OptionsError, or NetworkError without an answer."""
    from fovea.engine.make.judge.classifier import classifier, finite_probabilities

    options, card = job.options, job.card
    if job.photo is None:
        raise needs_photo("an attack")
    ask = classifier(job)
    before = finite_probabilities(ask, job.frame[None])[0]
    label = int(before.argmax())
    target = card.class_index(options.target) if options.target else None
    truth = card.class_index(options.label) if options.label else None
    if target == label:
        raise OptionsError(f"The photo is {card.classes[label]} to {card.name} already: choose another target.")
    return AttackedPhoto(job.frame, tuple(card.classes), ask, before, label, target, truth)


def attempted(
    job: Job[AdversarialOptions], attack: Attack[Any], photo: AttackedPhoto, epsilon: float, progress: Progress
) -> Attempt:
    """One attack, its change rounded within its ball; one without a ball lengthened until the rounded one fools."""
    import torch

    from fovea.engine.make.attack.shared.rounding import attacked_frames
    from fovea.engine.make.attack.shared.scores import scores_of
    from fovea.engine.make.optimise.canvas import to_picture, to_pixels

    options, watch = job.options, Watch(photo, progress)
    clean = to_picture(job.frame, job.device)
    batch = attack.batch(
        job,
        clean,
        torch.tensor([photo.label if photo.target is None else photo.target], device=job.device),
        options=own_options(attack, options),
        targeted=photo.target is not None,
        epsilon=epsilon,
        step_size=options.step_size,
        steps=options.steps,
        told=watch,
    )
    picture = attack.run(batch)
    change, lengthened = picture - clean, 1.0
    if attack.bounded:
        frame = attacked_frames(job.frame[None], change.double().cpu().numpy(), attack.norm, epsilon)[0]
    elif attack.whole_levels:
        frame = to_pixels(picture)[0]
    else:
        frame, lengthened = _lengthened(photo, clean, change)
    raw_class = None
    if attack.gradients:
        with torch.no_grad():
            raw_class = int(scores_of(job)(picture)[0].argmax())
    return Attempt(frame, raw_class, watch, epsilon, lengthened)


def _lengthened(photo: AttackedPhoto, clean: Tensor, change: Tensor) -> tuple[NDArray[np.uint8], float]:
    """The frame with the least multiple of the change that fools when it is rounded, and that multiple.

    The shortest change ends so near to the border that rounding undoes it: one under half a grey level is none.
    """
    import torch

    from fovea.engine.make.optimise.canvas import to_pixels

    for first in range(0, LONGEST, 8):
        factors = [GROWTH**power for power in range(first, first + 8)]
        frames = to_pixels(torch.cat([clean + factor * change for factor in factors]))
        for factor, frame, index in zip(factors, frames, photo.ask(frames).argmax(1), strict=True):
            if photo.fools(int(index)):
                return frame, factor
    return to_pixels(clean + change)[0], 1.0


def smallest(
    job: Job[AdversarialOptions], attack: Attack[Any], photo: AttackedPhoto, first: float, progress: Progress
) -> Attempt:
    """The attack at the smallest epsilon that works; at the largest tried where none does."""
    from fovea.engine.make.attack.shared.radius import smallest_radius

    attempts: dict[float, Attempt] = {}

    def works(epsilon: float) -> bool:
        part = progress.span(1 - 0.8 ** len(attempts), 1 - 0.8 ** (len(attempts) + 1))
        attempts[epsilon] = attempted(job, attack, photo, epsilon, part)
        return photo.fools(int(photo.ask(attempts[epsilon].frame[None])[0].argmax()))

    infinity = attack.norm == math.inf
    largest = 1.0 if infinity else math.sqrt(photo.frame.size)
    radius, trials = smallest_radius(works, min(first, largest), levels=infinity, largest=largest)
    if radius is None:
        radius = trials[-1].epsilon
        job.warn(f"The attack does not work at any epsilon up to {as_fraction(radius)}.")
    return replace(attempts[radius], trials=sorted(trials, key=lambda trial: trial.epsilon))


# Report --------------------------------------------------------------------------------------------------


def report(job: Job[AdversarialOptions], findings: Findings) -> Result:
    """Images `adversarial` (8-bit, input-sized), `perturbation` (magnified); array `delta` (C, H, W) in pixel values.

    Tables `before_after` (class, photo, adversarial: probabilities), `steps` (step, probability of both classes),
    `norms`, `survival`, `transfer`, `depth` (distance of the activations by layer), `search`. Arrays `saliency_photo`,
    `saliency_adversarial`, `gradcam_photo`, `gradcam_adversarial` (H, W).
    """
    from fovea.engine.make.attack.outcome import panels

    result = Result(summary=_summary(findings), preview="adversarial")
    warn_of_failure(job, findings.attack, findings.photo, findings.attempt, findings.now)
    panels.add_pictures(findings, result)
    panels.add_probabilities(findings, result)
    panels.add_figures(findings, result)
    if findings.twins is not None:
        panels.add_twins(findings, findings.twins, result)
    return result


def _summary(findings: Findings) -> dict[str, Any]:
    attack, photo, attempt, sizes = findings.attack, findings.photo, findings.attempt, findings.sizes
    names, now = photo.names, findings.now
    summary = {
        "fooled": photo.fools(now) and not photo.errs,
        "before": names[photo.label],
        "before_probability": float(photo.before[photo.label]),
        "after": names[now],
        "after_probability": float(findings.after[now]),
        "pixels": int(sizes["L0 (pixels changed)"]),
        "linf": sizes["L∞"],
        "linf_levels": int(sizes["L∞ (grey levels)"]),
        "l2": sizes["L2"],
        "ssim": sizes["SSIM"],
    }
    if attempt.raw_class is not None:
        summary["fooled_before_rounding"] = photo.fools(attempt.raw_class)
    if photo.target is not None:
        summary["target"] = names[photo.target]
    if attack.bounded:
        summary["epsilon"] = attempt.epsilon
    elif not attack.whole_levels:
        summary["lengthened"] = attempt.lengthened
    if photo.truth is not None:
        summary |= {"label": names[photo.truth], "erred_already": photo.errs}
    return summary


def warn_of_failure(
    job: Job[AdversarialOptions], attack: Attack[Any], photo: AttackedPhoto, attempt: Attempt, now: int
) -> None:
    """Say when it failed, when only the picture before rounding fools, and when the network errs anyway."""
    names = photo.names
    if photo.errs:
        assert photo.truth is not None
        job.warn(
            f"{job.card.name} errs on the photo already: it says {names[photo.label]}, not {names[photo.truth]}. "
            f"This is not counted as fooled."
        )
    if photo.fools(now):
        if attempt.lengthened > 1:
            job.warn(
                f"Rounded to 8 bits the change fools only when it is made {attempt.lengthened:.2f} times as long, "
                f"so this was done."
            )
    elif attempt.raw_class is not None and photo.fools(attempt.raw_class):
        job.warn(
            f"The picture is {names[attempt.raw_class]} to the network only before it is rounded to 8 bits; "
            f"as it is saved it is {names[now]}."
        )
    else:
        wanted = "still its first class" if photo.target is None else f"not {names[photo.target]}"
        remedies = listed(attack.remedies, "or")
        job.warn(f"The attack did not fool the network: the photo is {names[now]}, {wanted}. Raise {remedies}.")


def work(card: Card, options: AdversarialOptions, images: int) -> float:
    """Forward passes: those of the attack, about eight times where epsilon is searched, and some fifty after it."""
    attack = find_attack(options.attack)
    passes = attack.work(options.steps or attack.steps, own_options(attack, options))
    return 50.0 + passes * (8 if options.smallest else 1)


METHOD = Method(
    name="adversarial",
    title="Adversarial example",
    verb="make",
    family="Adversarial examples",
    question="How little does it take to fool it?",
    summary="A change too small to see that changes the answer (FGSM, PGD, DeepFool, Carlini-Wagner, a few pixels), "
    "counted as success only on the saved 8-bit picture.",
    options=with_attacks(
        AdversarialOptions,
        "pgd",
        "The attack that changes the photo. pgd, the usual test of robustness, is taken unless another is chosen.",
    ),
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    gradient_free={"attack": tuple(attack.name for attack in attacks().values() if not attack.gradients)},
    version=3,
    check=check,
)
