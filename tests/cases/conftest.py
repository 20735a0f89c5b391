"""Networks, checkpoints and class lists as users bring them: small, made here from a seed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fovea.models import registry, zoo
from fovea.models.network import Network
from tests.cases.nets import Small, small

INPUT = {"size": 16, "resize": 16}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """`write("package/net.py", code)`: a file of a user's below the test's folder."""

    def put(name: str, code: str) -> Path:
        path = tmp_path / "user" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return path

    return put


@pytest.fixture
def bring(own_home: Path) -> Callable[..., Network]:
    """`bring(architecture=…, weights=…)`: registered under the name mine, and loaded."""

    def register(**fields: Any) -> Network:
        registry.register("mine", **{"input": INPUT, **{key: value for key, value in fields.items() if value}})
        return zoo.load("mine")

    return register


@pytest.fixture
def net_py(write: Callable[[str, str], Path]) -> Path:
    """A user's file that defines the class Small."""
    return write("net.py", (Path(__file__).with_name("nets.py")).read_text(encoding="utf-8"))


@pytest.fixture
def truth() -> Tensor:
    """What the trained network gives for `images`."""
    return answer(small())


def images() -> Tensor:
    """Three images (3, 3, 16, 16)."""
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def answer(module: torch.nn.Module) -> Tensor:
    """What a network gives for `images`, (3, classes)."""
    with torch.no_grad():
        scores: Tensor = module.eval()(images())
    return scores


def agrees(network: Network, truth: Tensor) -> bool:
    """Whether a registered network gives the scores `truth` for `images`."""
    return torch.allclose(answer(network.module()), truth, atol=1e-6)


__all__ = ["INPUT", "Small", "agrees", "answer", "images"]
