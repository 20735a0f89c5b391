"""What a run will take, said before it starts: time, by the method's work times seconds per forward as measured here;
and memory and files, where the method tells them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.engine.options import Options
from fovea.models.home import home, write_whole

if TYPE_CHECKING:
    from fovea.engine.store import Store

TELLING = 32
"""Another method's run tells of forward passes only if it made this many; a shorter one is mostly its start."""


class Expected(NamedTuple):
    """What a run will take; None is not known. `memory` and `files` are in bytes."""

    seconds: float | None
    memory: int | None
    files: int | None


def expect(store: Store, method: str, network: str, options: Options | Mapping[str, Any], images: int = 0) -> Expected:
    """What this run will take on this machine, without loading the network.

    `store` tells what earlier runs took; `images` is the size of the run's data set.
    """
    from fovea.models.zoo import cached_card

    seconds = estimate_seconds(store, method, network, options, images)
    card, chosen = cached_card(network), find_method(method)
    if card is None or chosen.needs is None:
        return Expected(seconds, None, None)
    try:
        parsed = options if isinstance(options, Options) else chosen.options.parse(options)
        return Expected(seconds, *chosen.needs(card, parsed, images))
    except FoveaError:
        return Expected(seconds, None, None)


def in_words(expected: Expected, images: int = 0) -> str:
    """It in plain words: "It takes about 3 min over 1,000 images, 0.7 GB of memory and 14 MB of files."."""
    over = f" over {images:,} images" if images else ""
    known = expected.memory is not None and expected.files is not None
    room = f"{amount(expected.memory or 0)} of memory and {amount(expected.files or 0)} of files" if known else ""
    if expected.seconds is None:
        told = f"This is the first run here{over}, so its time cannot be estimated yet."
        return f"{told} It takes {room}." if room else told
    return f"It takes about {duration(expected.seconds)}{over}{f', {room}' if room else ''}."


def duration(seconds: float | None) -> str:
    """A time that is read at a glance: "0.4 s", "12 s", "3 min", "2 h 10 min"."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def amount(count: int) -> str:
    """Bytes that are read at a glance: "80 KB", "14 MB", "1.2 GB"."""
    if count < 1e6:
        return f"{max(1, round(count / 1e3))} KB"
    return f"{count / 1e6:.0f} MB" if count < 995e6 else f"{count / 1e9:.1f} GB"


def estimate_seconds(
    store: Store, method: str, network: str, options: Options | Mapping[str, Any], images: int = 0
) -> float | None:
    """Seconds that this run will take on this machine, without loading the network; None if nothing is known.

    `images`: the size of the chosen data set. Measured runs count first (of this method on this network, then of
    any method on it), then its timed forward pass, then other networks' scaled by the number of parameters.
    """
    from fovea.models.zoo import cached_card

    card = cached_card(network)
    if card is None:
        return None
    chosen = find_method(method)
    try:
        parsed = options if isinstance(options, Options) else chosen.options.parse(options)
        work = chosen.work(card, parsed, images)
    except FoveaError:
        return None
    rate = _seconds_per_forward(store, method, network, card.parameters)
    return None if rate is None else max(work * rate, 0.1)


def _seconds_per_forward(store: Store, method: str, network: str, parameters: int) -> float | None:
    """The best known figure for one forward pass of one picture by this method on this network."""
    for rates in (_rates(store, method, network), _rates(store, None, network, least=TELLING)):
        if rates:
            return statistics.median(rates)
    forwards = forward_times()
    if network in forwards:
        return forwards[network][0]
    scaled = [seconds / max(count, 1) for seconds, count in forwards.values()]
    return statistics.median(scaled) * parameters if scaled else None


def _rates(store: Store, method: str | None, network: str, least: float = 0) -> list[float]:
    return [max(seconds, 0.0) / work for seconds, work, _ in store.measured(method, network) if work >= least]


def forward_times() -> dict[str, tuple[float, int]]:
    """Seconds for one forward pass of each network that was timed, and its number of parameters."""
    try:
        stored = json.loads((home() / "forward.json").read_text(encoding="utf-8"))
        return {str(name): (float(seconds), int(count)) for name, (seconds, count) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember_forward(network: str, seconds: float, parameters: int) -> None:
    """Keep the time of one forward pass; the worker measures it when it reads a network's card."""
    times = forward_times() | {network: (seconds, parameters)}
    write_whole(home() / "forward.json", json.dumps(times).encode("utf-8"))
