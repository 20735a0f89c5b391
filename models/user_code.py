"""Loading a user's own Python: the class or function that `/path/net.py:Net` or `package.module:callable` names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.entry import resolve
from fovea.models.errors import NetworkError, unknown
from fovea.models.home import stamp

if TYPE_CHECKING:
    from torch import nn


def code_file(architecture: str) -> Path | None:
    """The file that `/path/net.py:Net` names; None for what is imported by its module's name."""
    place = architecture.rpartition(":")[0]
    return resolve(place) if place.endswith(".py") else None


def user_builder(architecture: str) -> Callable[..., nn.Module]:
    """The callable that a user's `/path/net.py:Net` or `package.module:callable` names."""
    from torch import nn

    place, _, attribute = architecture.rpartition(":")
    try:
        module = _private_module(resolve(place)) if place.endswith(".py") else importlib.import_module(place)
    except NetworkError:
        raise
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        raise NetworkError(f"{place} cannot be imported: {type(error).__name__}: {text}") from error
    if not hasattr(module, attribute):
        raise unknown("callable", attribute, [n for n in vars(module) if not n.startswith("_")], place)
    make = getattr(module, attribute)

    def build(**arguments: Any) -> nn.Module:
        result = make(**arguments)
        if not isinstance(result, nn.Module):
            raise NetworkError(
                f"{architecture} returned an object of type {type(result).__name__}: it must return a torch.nn.Module"
            )
        return result

    return build


def _private_module(path: Path) -> Any:
    """A user's file under a name of its own: users' code often lives in a package called `models`, as ours does."""
    if not path.is_file():
        raise NetworkError(f"there is no Python file at {path}")
    tag = hashlib.sha256(f"{path.resolve()}:{stamp(path)}".encode()).hexdigest()[:16]
    private = f"_fovea_user_{tag}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise NetworkError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module
