"""A network as attacks run it: its own answers and gradients but for rounding, however many pictures there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fovea.engine.make.attack.shared.parallel import ParallelModule
from tests.networks.tiny import TinyNetwork, state_of


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads that torch may use."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 5])
def test_it_answers_as_the_network_does(tiny: TinyNetwork, count: int, threads: int) -> None:
    before = state_of(tiny.torch_module)
    shape = (count, tiny.card.preprocessing.channels, *tiny.card.preprocessing.size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    module = ParallelModule(tiny.torch_module)
    plain = tiny.torch_module(x)
    above = torch.randn(plain.shape, generator=torch.Generator().manual_seed(2))
    (expected,) = torch.autograd.grad(plain, x, above)
    for _ in range(2):  # the first pass is watched
        fast = module(x)
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
        for _ in range(2):  # DeepFool asks for several gradients of one pass
            (found,) = torch.autograd.grad(fast, x, above, retain_graph=True)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        assert not module(x).requires_grad
    assert state_of(tiny.torch_module) == before
    assert torch.get_num_threads() == threads
