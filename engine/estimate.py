"""How long a run will take, said before it starts: the method's work times seconds per forward, as measured here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import Any

from engine.errors import FoveaError
from engine.method import Options, find_method
from engine.store import Store
from models.home import home, write_whole

TELLING = 32
"""Another method's run tells of forward passes only if it made this many; a shorter one is mostly its start."""


def estimate_seconds(
    method: str, network: str, options: Options | Mapping[str, Any], images: int = 0, store: Store | None = None
) -> float | None:
    """Seconds that this run will take on this machine, without loading the network; None if nothing is known.

    `images`: the size of the chosen data set. Measured runs count first (of this method on this network, then of
    any method on it), then its timed forward pass, then other networks' scaled by the number of parameters.
    """
    from models.zoo import cached_card

    card = cached_card(network)
    if card is None:
        return None
    chosen = find_method(method)
    try:
        parsed = options if isinstance(options, Options) else chosen.options.parse(options)
        work = chosen.work(card, parsed, images)
    except FoveaError:
        return None
    rate = _seconds_per_forward(store or Store(), method, network, card.parameters)
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
