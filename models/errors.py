"""Errors that are about networks; `fovea.engine.errors` draws the whole tree.

Every message is one line: what was expected, what came, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NO_GRADIENT = (
    "No gradient reaches the photo: the network's code switches autograd off on the way (no_grad, inference_mode, "
    "detach or a detour through NumPy), so methods that need gradients cannot be used; those that only look can."
)
"""What is said, wherever a gradient is asked for, of a network through which none goes."""


class FoveaError(Exception):
    """A mistake that the user can mend; its text is the one line that is shown."""


class NetworkError(FoveaError):
    """A network cannot be found, built, loaded or exported."""


class UnknownNameError(FoveaError):
    """A network, layer, unit, class, method, data set or sample does not exist."""


class WeightsError(NetworkError):
    """Weights are missing, unreadable, unsafe, or belong to another architecture."""


class ParityError(NetworkError):
    """The exported ONNX graph and the torch network disagree."""


class ProviderError(FoveaError):
    """A device or ONNX Runtime provider was asked for that does not work here."""


def unknown(kind: str, name: str, valid: Iterable[str], where: str = "") -> UnknownNameError:
    """The error for a name that is not in a table, with near matches from that table.

    `kind` is what was looked for ("layer"), `where` where it was looked for ("resnet18"), and
    `valid` the names that exist; up to five near matches, or else the first five names, are offered.
    """
    names = [str(v) for v in valid]
    lowered = {n.lower(): n for n in names}
    near = [lowered[n] for n in difflib.get_close_matches(str(name).lower(), lowered, n=5, cutoff=0.5)]
    if not near:
        near = [n for n in names if str(name).lower() in n.lower()][:5]
    hint = (
        f"did you mean {', '.join(near)}?"
        if near
        else f"there are {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
    )
    place = f" in {where}" if where else ""
    return UnknownNameError(f"no {kind} named {name!r}{place}: {hint}")
