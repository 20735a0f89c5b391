"""What an attack is: its declaration, the photos that it gets, and the registry that finds all attacks.

An attack is one file in `engine/make/attack/` that ends in `ATTACK = Attack(…)`. The command line, the forms and the
methods read this registry; nobody asks for an attack by its name. No torch here or at the top of an attack's file:
whoever lists the attacks stays small.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fovea.engine.errors import UnsupportedError, unknown
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.engine.method import Job
    from fovea.models.card import Card

OptionsT = TypeVar("OptionsT", bound=Options)


class Told(Protocol):
    """Hears of each step of an attack."""

    def __call__(self, fraction: float, message: str, pictures: Tensor, probabilities: Tensor) -> None:
        """`fraction` of the attack that is done, in [0, 1]; `message` a few words.

        `pictures` (n, C, H, W) that are under way, and the class `probabilities` (n, classes) that the network gave
        last. Raises Cancelled if the user stopped the run.
        """


def silent(fraction: float, message: str, pictures: Tensor, probabilities: Tensor) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Batch(Generic[OptionsT]):
    """Photos that are attacked together, and how far the attack may go.

    `clean` (N, C, H, W) of pixel values from 0 to 1; `classes` (N,): the class that each photo is driven away from or,
    `targeted`, the one that it is to reach. `epsilon` is the radius of the ball (infinite without one) and `step_size`
    the length of a step, both of pixel values. `seeds`: one a photo, so that its result does not depend on which
    others share its batch. `job` gives network and device.
    """

    job: Job[Any]
    clean: Tensor
    classes: Tensor
    options: OptionsT
    targeted: bool
    epsilon: float
    step_size: float
    steps: int
    seeds: Sequence[int]
    told: Told = silent


def three_a_step(steps: int, options: Options) -> float:
    """The forward passes of an attack whose steps are one forward and one backward each."""
    return 3.0 * steps


@dataclass(frozen=True)
class Attack(Generic[OptionsT]):
    """One attack of the registry.

    `name` is its choice on the command line; `summary` goes on from the name ("takes one step …"); `paper` and its
    `year` say where it comes from. `norm` is that of its change: 0 (pixels), 2 or infinity. `run` gives the attacked
    pictures (N, C, H, W) of a batch; they need not be whole grey levels: whoever calls it rounds them and judges the
    rounded ones. `options` are those that it reads; several attacks may declare an option alike.

    An attack with a ball has a radius `epsilon`, used unless the user gives one, and a `step` as a part of it.
    `steps`: how many it takes unless told. `targeted`: it can be given a class to reach. `gradients`: it needs the
    torch network. `whole_levels`: its pictures are 8-bit already. `stronger`: options of its own that help where it
    failed.
    `work(steps, options)` is what it costs in forward passes of one picture (a backward counts as two).
    """

    name: str
    title: str
    summary: str
    paper: str
    year: int
    norm: float
    run: Callable[[Batch[OptionsT]], Tensor]
    options: type[OptionsT]
    steps: int
    epsilon: float = math.inf
    step: float = 0.0
    targeted: bool = True
    gradients: bool = True
    whole_levels: bool = False
    stronger: tuple[str, ...] = ()
    work: Callable[[int, Any], float] = three_a_step

    @property
    def bounded(self) -> bool:
        """Whether it stays in a ball."""
        return math.isfinite(self.epsilon)

    @property
    def remedies(self) -> tuple[str, ...]:
        """The options that are raised where it failed."""
        return (*(("epsilon",) if self.bounded else ()), *self.stronger, "steps")

    def batch(
        self,
        job: Job[Any],
        clean: Tensor,
        classes: Tensor,
        *,
        options: OptionsT | None = None,
        targeted: bool = False,
        epsilon: float | None = None,
        step_size: float | None = None,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        told: Told = silent,
    ) -> Batch[OptionsT]:
        """Photos for this attack; what is None is its own, and the seeds are the job's."""
        radius = epsilon or self.epsilon
        return Batch(
            job,
            clean,
            classes,
            options or self.options(),
            targeted,
            radius,
            step_size or (self.step * radius if self.bounded else 0.0),
            steps or self.steps,
            seeds or [job.seed] * len(clean),
            told,
        )


@functools.cache
def attacks() -> dict[str, Attack[Any]]:
    """All attacks by name: by norm, the largest first, those with a ball first, then as their papers appeared."""
    folder = importlib.import_module("fovea.engine.make.attack")
    files = [module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg]
    known: list[Attack[Any]] = [importlib.import_module(f"{folder.__name__}.{name}").ATTACK for name in files]
    known.sort(key=lambda attack: (-attack.norm, not attack.bounded, attack.year, attack.name))
    return {attack.name: attack for attack in known}


def find_attack(name: str) -> Attack[Any]:
    """The attack of that name. Raises UnknownNameError with near matches."""
    try:
        return attacks()[name]
    except KeyError:
        raise unknown("attack", name, attacks()) from None


def check_one_class(card: Card) -> None:
    """Raise UnsupportedError where a photo can have several labels: an attack changes the one class that it has."""
    if not card.meaning.exclusive:
        raise UnsupportedError(
            f"{card.name} gives each of its labels a probability of its own, so a photo has no one class that an "
            "attack could change: choose occlusion or saliency for one label, or fooling to make it appear."
        )
