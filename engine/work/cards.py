"""Networks' cards that go through the queue: a page asks, a worker reads the network, the page polls how it stands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import FoveaError
from fovea.engine.run.estimate import forward_times, remember_forward
from fovea.engine.run.machine import resolve_device
from fovea.engine.work.queue import enqueue
from fovea.models.home import home, write_whole

if TYPE_CHECKING:
    from fovea.models.network import Network


@dataclass(frozen=True)
class CardStatus:
    """Whether a network's card can be read: "ready", "pending", "error" with its line, or "unknown" (not asked)."""

    state: Literal["ready", "pending", "error", "unknown"]
    error: str = ""


def request_card(name: str) -> CardStatus:
    """Have a worker read a network and cache its card; returns how it stands."""
    status = card_status(name)
    if status.state in ("ready", "pending"):
        return status
    with contextlib.suppress(FoveaError):
        _note(name, "pending")
        enqueue("cards", read_card, name)
    return card_status(name)


def card_status(name: str) -> CardStatus:
    """How a network's card stands, without loading anything."""
    from fovea.models.zoo import cached_card

    try:
        if cached_card(name) is not None:
            return CardStatus("ready")
    except FoveaError as error:
        return CardStatus("error", str(error))
    try:
        state = json.loads(_state_file(name).read_text(encoding="utf-8"))
        if state["state"] in ("pending", "error"):
            return CardStatus(state["state"], str(state["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return CardStatus("unknown")


def pending_cards() -> Iterator[str]:
    """The networks whose cards were asked for and have not been read."""
    for path in _states().glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["state"] == "pending":
                yield state["name"]


def read_card(name: str) -> None:
    """Load a network, which caches its card, and time one forward pass."""
    from fovea.models.zoo import load

    try:
        network = load(name)
        _note(name, "ready")
    except FoveaError as error:
        _note(name, "error", str(error))
        return
    except Exception as error:
        _note(name, "error", f"{name} cannot be loaded: {type(error).__name__}: {str(error)[:200]}")
        return
    with contextlib.suppress(Exception):
        time_forward(network)


def time_forward(network: Network) -> None:
    """Measure one forward pass of one picture, for estimates before anything has run."""
    import torch

    if network.name in forward_times() or not network.card.has_module:
        return
    device = resolve_device("auto")
    module = network.module(device)
    preprocessing = network.card.preprocessing
    picture = torch.zeros((1, preprocessing.channels, *preprocessing.size), device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            started = time.perf_counter()
            module(picture)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    remember_forward(network.name, min(seconds), network.card.parameters)


def _states() -> Path:
    return home() / "cards" / "state"


def _state_file(name: str) -> Path:
    return _states() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _note(name: str, state: str, error: str = "") -> None:
    _states().mkdir(parents=True, exist_ok=True)
    write_whole(_state_file(name), json.dumps({"name": name, "state": state, "error": error}).encode("utf-8"))
