"""Weights or statistics with NaN or infinity: told when the network is brought, refused in one sentence by methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.store import Store
from fovea.models import registry, zoo
from tests.cases.odd_nets import Odd, pooled, seeded

CODE = """
from tests.cases.odd_nets import Odd, pooled


def build():
    return Odd(lambda network, maps: network.fc(pooled(maps)))
"""


def spoil_weight(module: nn.Module) -> None:
    module.get_parameter("fc.weight")[0, 0] = float("nan")


def spoil_statistics(module: nn.Module) -> None:
    module.get_buffer("bn.running_var")[2] = float("nan")


def overflow(module: nn.Module) -> None:
    module.get_parameter("conv1.weight")[0] = float("inf")


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_statistics, overflow])
@pytest.mark.parametrize(
    "method", ["classify", "occlusion", "saliency", "gradcam", "neighbors", "adversarial", "compare", "trust"]
)
def test_methods_refuse_in_one_sentence(
    spoil: Callable[[nn.Module], None], method: str, tmp_path: Path, own_home: Path
) -> None:
    module = seeded(Odd(lambda network, maps: network.fc(pooled(maps))))
    spoil(module)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    (tmp_path / "net.py").write_text(CODE)
    fields = {"weights": str(tmp_path / "w.pth"), "input": {"size": 16, "resize": 16}}
    registry.register("mine", architecture=f"{tmp_path / 'net.py'}:build", **fields)
    card = zoo.load("mine").card
    assert any("NaN or infinity" in note for note in card.notes)
    options = {"occlusion": {"window": 8, "stride": 8}, "neighbors": {"dataset": "sample"}}.get(method, {})
    record = execute(
        Request(method=method, network="mine", image="sample:cat", options=options), Store(own_home), fresh=True
    )
    zoo.forget()
    assert record.status == "failed"
    assert "is not finite: the network overflows on this input, or its weights hold NaN or infinity" in record.error
