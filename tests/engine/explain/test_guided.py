"""Guided backpropagation as a method: the chain rule's values, pictures of the right size, honest notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import nn

from fovea.engine.errors import FoveaError, OptionsError, UnsupportedError
from fovea.engine.explain.maps.pictures import crop_tile, signed_picture
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("guided").run(job)


@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
def test_the_array_is_the_rule_written_out(rule: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    job = make_job("guided", net, layer="conv2", unit=3, position="4,6", rule=rule, units=0)
    result = run(job)
    x = torch.from_numpy(job.input).requires_grad_(True)
    before = net.torch_module.conv1(x)
    out = net.torch_module.conv2(torch.relu(before))
    (above,) = torch.autograd.grad(out[0, 3, 4, 6], before, retain_graph=True)
    if rule != "gradient":
        inner = torch.relu(before.detach()).requires_grad_(True)
        (above,) = torch.autograd.grad(net.torch_module.conv2(inner)[0, 3, 4, 6], inner)
        above = above.clamp_min(0) * (1 if rule == "deconvnet" else (before.detach() > 0))
    (expected,) = torch.autograd.grad(before, x, above)
    np.testing.assert_allclose(result.arrays["guided"], expected[0].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.arrays[f"rule_{rule}"], result.arrays["guided"])
    assert result.summary["activation"] == pytest.approx(float(out[0, 3, 4, 6].detach()), abs=1e-5)


def test_every_network_gives_its_figure_and_is_left_as_it_was(tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("guided", tiny, units=4)
    result = run(job)
    channels = tiny.card.preprocessing.channels
    height, width = tiny.card.preprocessing.size
    assert result.arrays["guided"].shape == (channels, height, width)
    assert np.isfinite(result.arrays["guided"]).all()
    assert np.asarray(result.images["guided"]).shape == (height, width, 3)
    units = result.tables["units"]
    assert units["activation"].is_monotonic_decreasing
    assert len(result.tables["strongest"]) == 2 * len(units)
    assert state_of(tiny.torch_module) == before


def test_the_strongest_units_are_the_ones_asked_one_by_one(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["residual"]
    table = run(make_job("guided", net, layer="relu#2", units=3)).tables["units"]
    for row in table.itertuples():
        alone = run(make_job("guided", net, layer="relu#2", unit=int(row.unit), units=0))
        assert alone.summary["activation"] == pytest.approx(row.activation, abs=1e-6)
        assert alone.summary["position"] == f"{row.row},{row.column}"


def test_a_network_without_relus_says_that_guided_is_the_gradient(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    job = make_job("guided", tiny_networks["smooth"], units=0)
    result = run(job)
    assert any("no ReLU" in warning for warning in job.warnings)
    np.testing.assert_array_equal(result.arrays["rule_guided"], result.arrays["rule_gradient"])


def test_wrong_options_get_one_line(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    for given, says in (({"layer": "conv7"}, "conv1"), ({"unit": 99}, "0 to"), ({"position": "up"}, "row,column")):
        with pytest.raises(FoveaError, match=says):
            run(make_job("guided", net, **given))
    with pytest.raises(OptionsError, match="outside"):
        run(make_job("guided", net, layer="conv1", position="16,0"))
    flat = tiny_network("flat", nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)))
    with pytest.raises(UnsupportedError, match="no layer with maps"):
        make_job("guided", flat)


def test_pictures_of_signed_values() -> None:
    values = np.array([[[-2.0, 0.0, 2.0]]])
    assert signed_picture(values, 100)[0, :, 0].tolist() == [0, 128, 255]
    assert signed_picture(np.zeros((3, 2, 2))).tolist() == np.full((2, 2, 3), 128).tolist()
    tile = crop_tile(np.zeros((10, 20, 3), np.uint8), (0, 0, 20, 10), 8)
    assert tile.shape == (8, 8, 3)
    assert tile[0, 0, 0] == 128
    assert tile[4, 4, 0] == 0
