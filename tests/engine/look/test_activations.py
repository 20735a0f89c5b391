"""Activation maps equal torch's, for every kind of axes, and lie where their receptive fields lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UnknownNameError, UnsupportedError
from engine.look.activations import METHOD, cells, chosen_layer, side_by_side
from engine.method import Job, Result
from models.card import Layer, ReceptiveField
from models.torch_net import forward_taps
from tests.oracles.look_networks import Tiny, TinyNetwork, TinyTokens, tiny_network
from tests.oracles.look_reducers import maps_of


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return tiny_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(32, 40))


def activate(network: Any, **options: Any) -> tuple[Job, Result]:
    parsed = METHOD.options.parse(options)
    METHOD.verify(network.card, parsed)
    job = Job(network=network, options=parsed, photo=photo(0), provider="cpu", open_photo=lambda name: photo(int(name)))
    return job, METHOD.run(job)


def torch_maps(network: Any, inputs: np.ndarray, tap: str) -> np.ndarray:
    values = forward_taps(network.module(), torch.from_numpy(inputs), [tap])[tap].numpy()
    return maps_of(values, network.card.layer(tap))[0]


@pytest.mark.parametrize("tap", ["first", "second", "norm", "head"])
def test_equals_torch(network: TinyNetwork, tap: str) -> None:
    job, result = activate(network, layer=tap, glance=False)
    np.testing.assert_allclose(result.arrays["activations"], torch_maps(network, job.input, tap), atol=1e-4)
    assert "layers" not in result.tables


def test_tokens_become_maps(tmp_path_factory: pytest.TempPathFactory) -> None:
    network = tiny_network(tmp_path_factory.mktemp("tokens"), TinyTokens(classes=5), size=(32, 40), classes=5)
    job, result = activate(network, layer="block")
    assert result.arrays["activations"].shape == (8, 4, 5)
    np.testing.assert_allclose(result.arrays["activations"], torch_maps(network, job.input, "block"), atol=1e-4)


@pytest.mark.parametrize("order", ["index", "maximum", "mean"])
def test_units_in_order(network: TinyNetwork, order: str) -> None:
    _, result = activate(network, layer="second", order=order, glance=False)
    table, maps = result.tables["units"], result.arrays["activations"]
    for row in table.itertuples():
        one = maps[row.unit]
        assert row.maximum == one.max() == one[row.row, row.column]
        assert row.mean == pytest.approx(one.mean(), abs=1e-5)
        assert row.active == pytest.approx((one > 0).mean())
    values = table["unit"].to_numpy() if order == "index" else -table[order].to_numpy()
    assert (np.diff(values) >= 0).all()
    assert sorted(table["unit"]) == list(range(10))


def test_second_photo_shares_the_scale(network: TinyNetwork) -> None:
    _, result = activate(network, layer="second", second="1", glance=False)
    preprocessing = network.card.preprocessing
    wanted = torch_maps(network, preprocessing.normalise(preprocessing.frame(photo(1)))[None], "second")
    np.testing.assert_allclose(result.arrays["second"], wanted, atol=1e-4)
    pair = result.arrays["pair"]
    np.testing.assert_array_equal(pair, side_by_side(result.arrays["activations"], result.arrays["second"]))
    np.testing.assert_array_equal(pair[..., :10], result.arrays["activations"])
    np.testing.assert_array_equal(pair[..., -10:], result.arrays["second"])


def test_whole_network_at_a_glance(network: TinyNetwork) -> None:
    job, result = activate(network)
    table = result.tables["layers"].set_index("layer")
    assert list(table.index) == [layer.name for layer in network.card.layers if layer.axes != "none"]
    for tap in ("relu", "norm", "head"):
        maps = torch_maps(network, job.input, tap)
        assert table.loc[tap, "maximum"] == pytest.approx(maps.max(), rel=1e-4)
        assert table.loc[tap, "mean"] == pytest.approx(maps.mean(), rel=1e-3, abs=1e-5)
        assert table.loc[tap, "sparsity"] == pytest.approx((maps <= 0).mean(), abs=1e-3)
        assert table.loc[tap, "strongest units"].startswith(f"{maps.max((1, 2)).argmax()} ")


def test_cells_lie_about_the_middles_of_receptive_fields() -> None:
    field = ReceptiveField(size=(11, 7), stride=(4, 2), offset=(-5, -3))
    layer = Layer(name="", kind="", shape=(1, 3, 4), axes="NCHW", units=1, grid=(3, 4), receptive_field=field)
    (ys, height), (xs, width) = cells(layer, (12, 8))
    assert (height, width) == (4, 2)
    np.testing.assert_allclose(ys + height / 2, [0.5, 4.5, 8.5])
    np.testing.assert_allclose(xs + width / 2, [0.5, 2.5, 4.5, 6.5])
    whole = layer.model_copy(update={"receptive_field": None})
    (ys, height), (xs, width) = cells(whole, (12, 8))
    np.testing.assert_allclose(ys, [0, 4, 8])
    assert (height, width) == (4, 2)


def test_default_layer_and_layers_that_cannot_be_shown(network: TinyNetwork) -> None:
    assert chosen_layer(network.card, "").name == "pool"
    with pytest.raises(UnknownNameError, match="second"):
        chosen_layer(network.card, "secnd")
    vectors = tuple(layer for layer in network.card.layers if layer.axes == "vector")
    with pytest.raises(UnsupportedError, match="name a layer such as head"):
        chosen_layer(network.card.model_copy(update={"layers": vectors}), "")
