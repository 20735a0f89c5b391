"""The two lanes of the queue, each served by a process of its own, and which of them a run goes to."""

from __future__ import annotations

from typing import Literal

from fovea.engine.run.estimate import estimate_seconds
from fovea.engine.run.resolve import Resolved
from fovea.engine.store import Store

Lane = Literal["interactive", "long"]
LANES: tuple[Lane, ...] = ("interactive", "long")

LONG_SECONDS = 90.0
"""A run that is estimated to take longer goes into the long lane."""


def lane_of(resolved: Resolved, store: Store) -> Lane:
    """The lane of a run that is about to be queued."""
    method = resolved.method
    if method.long:
        return "long"
    seconds = estimate_seconds(store, method.name, resolved.request.network, resolved.options)
    return "long" if seconds is not None and seconds > LONG_SECONDS else "interactive"
