"""Torch and ONNX agree at every tap of an exported graph, and a cut holds what its taps need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fovea.models import builders, torch_net
from fovea.models.card import OUTPUT, Preprocessing
from fovea.models.errors import ParityError, UnknownNameError
from fovea.models.graph import export
from fovea.models.graph.parity import PARITY_TOLERANCE, check_parity, compare
from fovea.models.graph.sessions import Session, check_providers
from fovea.models.network import Network, TorchNetwork
from tests.networks.modules import FunctionalResidual, SliceWriter, TupleOutput, Twice

ARCHITECTURES = ("resnet18", "squeezenet1_1", "mobilenet_v2")


def own(module: nn.Module, side: int = 24) -> Network:
    """A `Network` of a module of the tests' own."""
    torch_net.randomise(module)
    return builders.finish(
        type(module).__name__, builders.Built(module, "", "tests", Preprocessing(size=(side, side)), (), "random"), None
    )


def parity(network: Network, batch: int) -> dict[str, float]:
    graph = network.graph()
    return check_parity(
        network.module(), graph.path, graph.taps, graph.input, graph.input_shape, network.name, batch=batch
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parity_at_every_tap(architecture: str, small: Callable[..., Network]) -> None:
    network = small(architecture)
    for batch in (2, 3):
        assert set(parity(network, batch)) == {layer.name for layer in network.card.layers} | {OUTPUT}


def test_parity_of_vgg11_with_a_light_head(fovea_home: Path) -> None:
    module = builders.torchvision_builder("vgg11")(num_classes=4)
    # Its own head is half a gigabyte of weights, and the pooling before it does not divide these sizes.
    module.classifier = nn.Sequential(nn.Dropout(), nn.Linear(512 * 7 * 7, 4))
    assert "features.20" in parity(own(module, 64), 3)


@pytest.mark.parametrize("module", [FunctionalResidual, Twice, TupleOutput, SliceWriter])
def test_parity_of_functional_repeated_and_tuple_code(module: Callable[[], nn.Module], fovea_home: Path) -> None:
    network = own(module())
    assert set(parity(network, 2)) == {layer.name for layer in network.card.layers} | {OUTPUT}


def test_names_of_one_tensor_are_aliases(fovea_home: Path) -> None:
    graph = own(Twice()).graph()
    assert graph.taps["conv"] == graph.taps["drop"] == graph.taps["same"]
    model = graph.cut(["drop", "conv", "conv#2"])
    assert [o.name for o in model.graph.output] == [graph.taps["conv"], graph.taps["conv#2"]]


def test_a_cut_holds_what_its_taps_need_and_no_more(small: Callable[..., Network]) -> None:
    network = small("resnet18")
    graph, x = network.graph(), torch.randn(3, 3, 64, 64)
    model = graph.cut(["layer1.0.relu#2"])
    assert not any(t.name.startswith("layer2") for t in model.graph.initializer)
    (found,) = Session(model, "cpu").run({graph.input: x.numpy()})
    with torch.inference_mode():
        wanted = torch_net.forward_taps(network.module(), x, ["layer1.0.relu#2"])["layer1.0.relu#2"].numpy()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    # The caller may add a reduction to what it got: the next cut is not touched by it.
    del model.graph.output[:]
    assert len(graph.cut(["layer1.0.relu#2"]).graph.output) == 1


def test_an_unknown_tap(small: Callable[..., Network]) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*layer1\.0\.conv1"):
        small("resnet18").graph().cut(["layer1.0.conv9"])


def test_the_export_is_kept(small: Callable[..., Network], monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("squeezenet1_1")
    path = network.graph().path
    monkeypatch.setattr(export, "export", lambda *_: pytest.fail("exported again"))
    assert TorchNetwork(network.name, network.card, network.module()).graph().path == path


def test_a_graph_that_disagrees_is_refused_at_its_first_layer(small: Callable[..., Network]) -> None:
    network = small("squeezenet1_1")
    graph = network.graph()
    model = onnx.load(str(graph.path))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("features.3.expand1x1.weight"):
            values = onnx.numpy_helper.to_array(tensor) * 1.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    with pytest.raises(ParityError, match=r"disagree at layer features\.3\.expand1x1 by"):
        check_parity(network.module(), model, graph.taps, graph.input, graph.input_shape, "it")


class _Step(nn.Module):
    """So steep a sigmoid that float32 decides by its rounding which side of it a value is on."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.gate, self.head = nn.Conv2d(3, 256, 5), nn.Sigmoid(), nn.Linear(8, 2)
        self.narrow = nn.Conv2d(256, 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.narrow(self.wide(x)) * 3e3).mean((2, 3)))


def test_where_torch_itself_is_no_nearer_to_float64_onnx_agrees(fovea_home: Path) -> None:
    network = own(_Step(), 32)
    graph = network.graph()
    found = compare(network.module(), graph.path, graph.taps, graph.input, graph.input_shape, "it", 2)
    assert found["gate"].difference > PARITY_TOLERANCE
    assert all(gap.agrees for gap in found.values())
    model = onnx.load(str(graph.path))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("narrow.weight"):
            values = onnx.numpy_helper.to_array(tensor) * 1.001
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    found = compare(network.module(), model, graph.taps, graph.input, graph.input_shape, "it", 2)
    assert not found["narrow"].agrees


def test_what_cannot_be_exported_is_one_line(fovea_home: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.linalg.svdvals(x[:, :, :3, :3]).mean(1))

    network = own(Odd())
    graph = network.graph()
    assert graph.reason == "it cannot be exported to ONNX (the exporter cannot write the operator aten::linalg_svdvals)"
    assert network.card.notes[-1].endswith(f"because {graph.reason}.")


def test_a_batch_size_that_stuck_is_found(fovea_home: Path) -> None:
    class Stuck(FunctionalResidual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).reshape(int(x.shape[0]), -1)

    assert "batch of 1" in own(Stuck()).graph().reason


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(small: Callable[..., Network]) -> None:
    rows = {row["name"]: row for row in check_providers()}
    if not rows["cuda"]["works"]:
        pytest.skip(f"CUDA does not run here: {rows['cuda']['reason']}")
    graph, x = small("resnet18").graph(), np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)
    model = graph.cut(["layer3", OUTPUT])
    for cpu, gpu in zip(*(Session(model, p).run({graph.input: x}) for p in ("cpu", "cuda")), strict=True):
        assert np.abs(cpu - gpu).max() < 1e-3 * np.abs(cpu).max()
