"""Activation maps equal torch's, for every kind of axes, and lie where their receptive fields lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.errors import UnknownNameError, UnsupportedError
from fovea.engine.look.activation_maps.cells import map_cells
from fovea.engine.look.activation_maps.glance import COLUMNS, TILE
from fovea.engine.look.activation_maps.pairs import gap_between, pair_up
from fovea.engine.look.activations import METHOD
from fovea.engine.look.probing.layers import layer_or_middle
from fovea.engine.method import Job, Result
from fovea.engine.panels.sheet import Sheet, map_tiles
from fovea.models.card import Layer, ReceptiveField
from fovea.models.torch_net import forward_taps
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_reducers import maps_of


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(32, 40))


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
    network = exported_network(tmp_path_factory.mktemp("tokens"), TinyTokens(classes=5), size=(32, 40), classes=5)
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
    job, result = activate(network, layer="second", second="1", glance=False)
    preprocessing = network.card.preprocessing
    wanted = torch_maps(network, preprocessing.normalise(preprocessing.frame(photo(1)))[None], "second")
    np.testing.assert_allclose(result.arrays["second"], wanted, atol=1e-4)
    pair, shown = result.arrays["pair"], result.images["pair"]
    np.testing.assert_array_equal(pair[..., :10], result.arrays["activations"])
    np.testing.assert_array_equal(pair[..., -10:], result.arrays["second"])
    np.testing.assert_array_equal(shown[:, :40], job.frame)
    np.testing.assert_array_equal(shown[:, -40:], preprocessing.frame(photo(1)))
    # The cells of the second map lie in the second photo as those of the first in the first.
    (xs, step), columns = map_cells(network.card.layer("second"), (32, 40))[1], pair.shape[2]
    assert xs[0] + (columns - 10) * step - (shown.shape[1] - 40) == pytest.approx(xs[0], abs=0.5)


def test_another_network_beside(network: TinyNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = exported_network(tmp_path, TinyTokens(classes=5), size=(24, 40), classes=5)
    monkeypatch.setattr("fovea.models.zoo.load", {"same": network, "other": other}.__getitem__)
    _, result = activate(network, layer="second", beside="same", glance=False)
    np.testing.assert_array_equal(result.arrays["beside"], result.arrays["activations"])
    table = result.tables["pair_beside"]
    np.testing.assert_array_equal(table["unit"], table["second unit"])
    job, result = activate(network, layer="second", beside="other", beside_layer="block", glance=False)
    inputs = other.card.preprocessing.normalise(other.card.preprocessing.frame(photo(0)))[None]
    np.testing.assert_allclose(result.arrays["beside"], torch_maps(other, inputs, "block"), atol=1e-4)
    table = result.tables["pair_beside"]
    assert len(table) == min(len(result.arrays["beside"]), len(result.arrays["activations"]))
    assert (np.diff(table["maximum"]) <= 0).all()
    assert (np.diff(table["second maximum"]) <= 1e-6).all()
    assert result.images["pair_beside"].shape[0] == job.frame.shape[0]
    with pytest.raises(UnknownNameError, match="no-such"):
        activate(network, beside="same", beside_layer="no-such")


def test_maps_of_another_size_are_brought_to_the_first(network: TinyNetwork) -> None:
    one, other = np.zeros((2, 4, 4), np.float32), np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    pair = pair_up(one, other, np.arange(2), 1, alike=False)
    np.testing.assert_array_equal(pair.others, [1, 0])
    np.testing.assert_array_equal(pair.maps[0, :, 5:], [[4, 4, 5, 5], [4, 4, 5, 5], [6, 6, 7, 7], [6, 6, 7, 7]])
    gap, pixels = gap_between(network.card.layer("second"), (32, 40))
    assert gap >= 1
    assert pixels >= 4


def test_whole_network_at_a_glance(network: TinyNetwork) -> None:
    job, result = activate(network)
    table = result.tables["layers"].set_index("layer")
    assert list(table.index) == [layer.name for layer in network.card.layers if layer.axes != "none"]
    for tap in ("relu", "norm", "head"):
        maps = torch_maps(network, job.input, tap)
        assert table.loc[tap, "maximum"] == pytest.approx(maps.max(), rel=1e-4)
        assert table.loc[tap, "mean"] == pytest.approx(maps.mean(), rel=1e-3, abs=1e-5)
        assert table.loc[tap, "sparsity"] == pytest.approx((maps <= 0).mean(), abs=1e-3)
        if network.card.layer(tap).spatial:
            drawn = result.tables["strongest"].set_index("layer").loc[[tap]]
            assert list(drawn["unit"]) == list(np.argsort(-maps.max((1, 2)), kind="stable")[: len(drawn)])
            tile = Sheet(TILE, COLUMNS).cut(result.images["strongest"], int(drawn["tile"].iloc[0]))
            np.testing.assert_array_equal(tile[..., 0], map_tiles(maps[[drawn["unit"].iloc[0]]], TILE)[0])
        assert table.loc[tap, "strongest units"].startswith(f"{maps.max((1, 2)).argmax()} ")


def test_cells_lie_about_the_middles_of_receptive_fields() -> None:
    field = ReceptiveField(size=(11, 7), stride=(4, 2), offset=(-5, -3))
    layer = Layer(name="", kind="", shape=(1, 3, 4), axes="NCHW", units=1, grid=(3, 4), receptive_field=field)
    (ys, height), (xs, width) = map_cells(layer, (12, 8))
    assert (height, width) == (4, 2)
    np.testing.assert_allclose(ys + height / 2, [0.5, 4.5, 8.5])
    np.testing.assert_allclose(xs + width / 2, [0.5, 2.5, 4.5, 6.5])
    whole = layer.model_copy(update={"receptive_field": None})
    (ys, height), (xs, width) = map_cells(whole, (12, 8))
    np.testing.assert_allclose(ys, [0, 4, 8])
    assert (height, width) == (4, 2)


def test_default_layer_and_layers_that_cannot_be_shown(network: TinyNetwork) -> None:
    assert layer_or_middle(network.card, "").name == "pool"
    with pytest.raises(UnknownNameError, match="second"):
        layer_or_middle(network.card, "secnd")
    vectors = tuple(layer for layer in network.card.layers if layer.axes == "vector")
    with pytest.raises(UnsupportedError, match="name a layer such as head"):
        layer_or_middle(network.card.model_copy(update={"layers": vectors}), "")
