"""Networks that lose or fix their batch axis: what torch gives for one photo alone is right, in every method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fovea.models.builders import Built, finish
from fovea.models.card import OUTPUT, Preprocessing
from fovea.models.network import TorchNetwork
from fovea.models.torch_net import forward_taps
from tests.cases.odd_nets import FIX_THE_BATCH, LOSE_THE_BATCH, SQUEEZED, Odd, pooled, seeded

ONE_BY_ONE = FIX_THE_BATCH | LOSE_THE_BATCH


def brought(module: nn.Module) -> TorchNetwork:
    preprocessing = Preprocessing(size=(16, 16), resize=16)
    return finish("mine", Built(module, "mine", "tests", preprocessing, (), "w.pth"), None)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("make", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
@pytest.mark.usefixtures("own_home")
def test_a_batch_gives_what_each_photo_gives_alone(make: Callable[[], nn.Module]) -> None:
    module, x = seeded(make()), images(3)
    alone = torch.stack([module(image[None]).reshape(5) for image in x])
    network = brought(module)
    assert network.card.batch in (1, 2)
    assert any("photo" in note for note in network.card.notes)
    assert len(network.card.classes) == 5
    for count in (1, 2, 3):
        torch.testing.assert_close(network.module()(x[:count]), alone[:count], atol=1e-4, rtol=1e-4)
    graph = network.graph()
    assert not graph.reason
    assert graph.batch == network.card.batch
    session = graph.session(graph.question([OUTPUT, "conv1"]), "cpu")
    repeated = np.repeat(x[:1].numpy(), graph.batch or 1, axis=0)
    scores, maps = session.run({graph.input: repeated})
    np.testing.assert_allclose(scores[:1], alone[:1].numpy(), atol=1e-4)
    assert maps.shape[:2] == (graph.batch, 8)


@pytest.mark.parametrize("make", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
@pytest.mark.usefixtures("own_home")
def test_gradients_reach_taps_and_photos(make: Callable[[], nn.Module]) -> None:
    module, x = seeded(make()), images(2)
    wanted = []
    for image in x:
        single = image[None].clone().requires_grad_(True)
        wanted.append(torch.autograd.grad(module(single).reshape(5)[2], single)[0][0])
    network = brought(module)
    batch = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network.module()(batch)[:, 2].sum(), batch)
    torch.testing.assert_close(gradient, torch.stack(wanted), atol=1e-5, rtol=1e-3)
    one = x[:1].clone().requires_grad_(True)
    taps = forward_taps(network.module(), one, ["conv1", OUTPUT])
    assert taps["conv1"].shape[:2] == (1, 8)
    (of_maps,) = torch.autograd.grad(taps[OUTPUT][0, 2], taps["conv1"])
    assert bool(of_maps.any())


@pytest.mark.usefixtures("own_home")
def test_a_larger_batch_that_is_built_in_is_filled() -> None:
    module = seeded(Odd(lambda network, maps: network.flat(maps.reshape(4, -1))))
    x = images(5)
    expected = torch.stack([module(image.expand(4, -1, -1, -1))[0] for image in x])
    network = brought(module)
    assert network.card.batch == 4
    torch.testing.assert_close(network.module()(x), expected, atol=1e-4, rtol=1e-4)
    assert network.graph().batch == 4


@pytest.mark.parametrize("make", SQUEEZED.values(), ids=SQUEEZED)
@pytest.mark.usefixtures("own_home")
def test_axes_of_length_one_are_taken_off_scores(make: Callable[[], nn.Module]) -> None:
    module, x = seeded(make()), images(3)
    expected = module(x).reshape(3, 5)
    network = brought(module)
    assert (network.card.squeezed, network.card.batch, len(network.card.classes)) == (True, None, 5)
    torch.testing.assert_close(network.module()(x), expected)
    graph = network.graph()
    (scores,) = graph.session(graph.cut([OUTPUT]), "cpu").run({graph.input: x.numpy()})
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


@pytest.mark.usefixtures("own_home")
def test_a_network_that_takes_any_batch_is_left_as_it_is() -> None:
    network = brought(seeded(Odd(lambda network, maps: network.fc(pooled(maps)))))
    assert (network.card.batch, network.card.squeezed, network.card.notes) == (None, False, ())
    assert "forward" not in vars(network.module())


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32(kind: torch.dtype) -> None:
    module = seeded(Odd(lambda network, maps: network.fc(pooled(maps))))
    expected = module(images(2))
    network = brought(module.to(kind))
    assert any("is computed in float32" in note for note in network.card.notes)
    torch.testing.assert_close(network.module()(images(2)), expected, atol=0.05, rtol=0.05)
    assert not network.graph().reason


@pytest.mark.usefixtures("own_home")
def test_code_that_asks_for_half_precision_keeps_it() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv1(x.half()).mean((2, 3))

    network = brought(seeded(Half()).half())
    assert any("its code asks for that" in note for note in network.card.notes)
    assert network.module()(images(2)).shape == (2, 5)
