"""Filters are the layer's weights; their stripes, likeness and effective filters are what they should be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.look.filters import METHOD
from fovea.engine.look.kernels import drawing
from fovea.engine.look.kernels.drawing import colour_tiles, grey_levels
from fovea.engine.look.kernels.effective import mean_picture
from fovea.engine.look.kernels.measures import duplicates, likeness_order, stripes
from fovea.engine.look.kernels.weights import input_layers, layer_weights, same_units, weighted_layers
from fovea.engine.method import Job, Result
from fovea.engine.panels import GalleryPanel
from fovea.models.torch_net import forward_taps
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network


class Mixed(nn.Module):
    """A grouped, a depthwise and a 1 × 1 convolution, and a linear layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.point = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        return self.head(torch.relu(self.point(self.depthwise(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("mixed"), Mixed(), size=(24, 32), classes=4)


def filters(network: Any, photo: bool = False, **options: Any) -> Result:
    parsed = METHOD.options.parse(options)
    METHOD.verify(network.card, parsed)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return METHOD.run(Job(network=network, options=parsed, provider="cpu", photo=picture if photo else None))


@pytest.mark.parametrize("layer", ["stem", "grouped", "depthwise", "point", "head"])
def test_weights_are_the_modules_own(network: TinyNetwork, layer: str) -> None:
    module = network.module().get_submodule(layer)
    found = layer_weights(network, layer)
    wanted = module.weight.detach().numpy()
    np.testing.assert_array_equal(found.values, wanted.reshape(*wanted.shape[:2], *(wanted.shape[2:] or (1, 1))))
    assert found.groups == getattr(module, "groups", 1)
    assert found.on_picture == (layer == "stem")
    assert found.depthwise == (layer == "depthwise")
    result = filters(network, layer=layer)
    np.testing.assert_array_equal(result.arrays["weights"], found.values)
    assert result.images["filters"].dtype == np.uint8
    norms = result.tables["units"].sort_values("unit")["norm"]
    np.testing.assert_allclose(norms, np.sqrt((found.values**2).sum((1, 2, 3))), rtol=1e-5)


@pytest.mark.parametrize(("size", "channels"), [((10, 14), 3), ((9, 8), 1), ((1, 1), 3)])
def test_a_linear_layer_on_the_pixels_is_drawn_as_pictures(
    tmp_path: Path, size: tuple[int, int], channels: int
) -> None:
    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(channels * size[0] * size[1], 5)
            self.head = nn.Linear(5, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.hidden(x.flatten(1))))

    network = exported_network(tmp_path, Perceptron(), size=size, channels=channels)
    weights = layer_weights(network, "hidden")
    assert weights.colours
    wanted = network.module().get_submodule("hidden").weight.detach().numpy()
    np.testing.assert_array_equal(weights.values, wanted.reshape(5, channels, *size))
    result = filters(network)
    assert result.summary["filter"] == f"{size[0]} × {size[1]} of {channels}"
    assert "pixels" in next(panel for panel in result.panels if panel.kind == "gallery").help
    one = filters(network, unit=3)
    assert one.images["filters"].max() > one.images["filters"].min()
    assert not layer_weights(network, "head").on_picture
    assert input_layers(network, "hidden") == []


def test_filters_as_large_as_the_picture_are_drawn_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SHEET_PIXELS", 5 * 100 * 100)
    sheet, pixels = drawing.filters_sheet(np.zeros((5, 190, 160, 3), np.uint8))
    assert sheet.tile == 100
    assert pixels.shape[:2] == (sheet.tile * -(-5 // sheet.columns), sheet.tile * sheet.columns)


def test_default_layer_is_the_first_and_layers_without_weights_are_refused(network: TinyNetwork) -> None:
    assert weighted_layers(network.card) == ["stem", "grouped", "depthwise", "point", "head"]
    assert filters(network).summary["layer"] == "stem"
    tiny = network.card.model_copy(update={"layers": ()})
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        METHOD.verify(tiny, METHOD.options.parse({}))
    with pytest.raises(UnknownNameError, match="unit 9"):
        METHOD.verify(network.card, METHOD.options.parse({"layer": "stem", "unit": 9}))


def test_a_layer_without_weights_names_some_that_have_them(tmp_path: Path) -> None:
    network = exported_network(tmp_path, Tiny())
    with pytest.raises(UnsupportedError, match="choose one such as first, second"):
        METHOD.verify(network.card, METHOD.options.parse({"layer": "pool"}))
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        layer_weights(network, "relu")


def test_patch_embedding_and_one_channel(tmp_path: Path) -> None:
    tokens = exported_network(tmp_path, TinyTokens(), size=(24, 40), classes=5)
    assert layer_weights(tokens, "patches").colours
    assert filters(tokens).arrays["weights"].shape == (8, 3, 8, 8)
    grey = exported_network(tmp_path, Tiny(channels=1), size=(24, 32), channels=1)
    assert layer_weights(grey, "first").colours
    assert filters(grey).images["filters"].shape[2] == 3


def test_unit_alone_lists_its_inputs_by_norm(network: TinyNetwork) -> None:
    result = filters(network, layer="grouped", unit=7)
    table, values = result.tables["inputs"], result.arrays["weights"][7]
    # The second group of six units reads the second half of the eight channels.
    assert sorted(table["input"]) == [4, 5, 6, 7]
    norms = np.sqrt((values**2).sum((1, 2)))
    np.testing.assert_allclose(table["norm"], np.sort(norms)[::-1], rtol=1e-5)
    assert table["input"][0] == 4 + norms.argmax()


def test_effective_filter_of_the_first_layer_is_its_filter(network: TinyNetwork) -> None:
    result = filters(network, layer="stem", unit=3)
    np.testing.assert_allclose(result.arrays["effective"], result.arrays["weights"][3], rtol=1e-5)


def test_effective_filter_equals_finite_differences(network: TinyNetwork) -> None:
    result = filters(network, layer="point", unit=2)
    layer = network.card.layer("point")
    row, column = layer.grid[0] // 2, layer.grid[1] // 2
    x0, y0, x1, y1 = layer.receptive_field.box(row, column, (24, 32))
    assert result.arrays["effective"].shape == (3, y1 - y0, x1 - x0)

    def value(picture: torch.Tensor) -> float:
        return float(forward_taps(network.module(), picture, ["point"])["point"][0, 2, row, column])

    for channel, y, x in [(0, 5, 6), (2, 3, 4)]:
        ends = []
        for step in (1e-2, -1e-2):
            picture = torch.zeros(1, 3, 24, 32)
            picture[0, channel, y0 + y, x0 + x] = step
            ends.append(value(picture))
        assert result.arrays["effective"][channel, y, x] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-3)


def test_stripes_tell_orientation_and_frequency() -> None:
    y, x = np.mgrid[:16, :16]
    made = []
    for degrees in (0, 30, 90, 135):
        # Stripes at that angle: the wave goes across them; y grows downwards.
        across = np.deg2rad(degrees + 90)
        made.append(np.cos(2 * np.pi * 0.25 * (np.cos(across) * x - np.sin(across) * y)))
    flat = np.ones((1, 1, 16, 16))
    orientation, frequency = stripes(np.concatenate([np.stack(made)[:, None], flat]).astype(np.float32))
    for found, wanted in zip(orientation, (0, 30, 90, 135), strict=False):
        assert min(abs(found - wanted), 180 - abs(found - wanted)) < 4
    np.testing.assert_allclose(frequency[:4], 0.25, atol=0.02)
    assert np.isnan(orientation[4])
    assert np.isnan(frequency[4])
    assert np.isnan(stripes(np.ones((2, 3, 1, 1), np.float32))[0]).all()


def test_dead_and_duplicate_filters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
    made[3] = 2 * made[1]
    made[4] = 0
    assert duplicates(made).tolist() == [-1, -1, -1, 1, -1]


def test_alike_lie_beside_alike() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 3, 5, 5))
    made = np.concatenate([kinds[n % 3][None] * (-1) ** n + 0.05 * rng.normal(size=(1, 3, 5, 5)) for n in range(12)])
    order = likeness_order(made.astype(np.float32)) % 3
    assert (np.diff(order) != 0).sum() == 2


@pytest.mark.parametrize("order", ["index", "norm", "activation", "likeness"])
def test_orders_keep_every_unit(network: TinyNetwork, order: str) -> None:
    table = filters(network, photo=True, order=order).tables["units"]
    assert sorted(table["unit"]) == list(range(8))
    if order in ("norm", "activation"):
        assert (np.diff(table[order]) <= 0).all()


def test_order_by_activation_needs_a_photo(network: TinyNetwork) -> None:
    with pytest.raises(OptionsError, match="order by activation needs a photo"):
        filters(network, order="activation")


def test_grey_levels_of_each_scaling() -> None:
    values = np.array([[-1.0, 0, 3], [0, 0.5, 1]], np.float32)[:, None, None, :]
    assert grey_levels(values, "filter", (1, 2, 3)).ravel().tolist() == [0, 64, 255, 0, 128, 255]
    assert grey_levels(values, "all", (1, 2, 3)).ravel().tolist() == [0, 64, 255, 64, 96, 128]
    assert grey_levels(values, "zero", (1, 2, 3)).ravel().tolist() == [85, 128, 255, 128, 191, 255]
    assert colour_tiles(np.zeros((2, 4, 5, 6), np.float32), "zero").shape == (2, 5, 6, 3)


class MinedRun:
    """A finished mining run of one layer: a sheet of 4 × 4 tiles whose colour tells unit and rank."""

    def __init__(self, layer: str, units: int) -> None:
        panel = GalleryPanel(title="", image="sheet", table="gallery", tile=4, columns=2, where={"layer": layer})
        self.record = SimpleNamespace(panels=[panel], subject="some photos")
        sheet = np.zeros((4 * units, 8, 3), np.uint8)
        rows = []
        for unit in range(units):
            for rank in range(2):
                sheet[4 * unit : 4 * unit + 4, 4 * rank : 4 * rank + 4] = (10 + unit, 100 * rank, 7)
                rows.append({"layer": layer, "unit": unit, "rank": rank, "score": 1.0, "image": "a", "tile": len(rows)})
        self._sheet, self._table = Image.fromarray(sheet), pd.DataFrame(rows)

    def table(self, name: str) -> pd.DataFrame:
        return self._table

    def image(self, name: str) -> Image.Image:
        return self._sheet


def test_layers_of_the_same_units_are_found_through_what_keeps_them(network: TinyNetwork, tmp_path: Path) -> None:
    assert input_layers(network, "grouped") == ["stem"]  # the ReLU between them is a function, no layer
    assert input_layers(network, "point") == ["depthwise"]
    assert input_layers(network, "stem") == []
    tiny = exported_network(tmp_path, Tiny())
    assert same_units(tiny, "first") == ["first", "relu", "pool"]
    assert input_layers(tiny, "second") == ["pool", "relu", "first"]


def test_the_best_patch_stands_beside_each_input(tmp_path: Path) -> None:
    tiny = exported_network(tmp_path, Tiny(), size=(24, 32))
    parsed = METHOD.options.parse({"layer": "second", "unit": 4})
    job = Job(network=tiny, options=parsed, provider="cpu", find_runs=lambda method: iter([MinedRun("relu", 6)]))
    result = METHOD.run(job)
    table, sheet = result.tables["inputs_shown"], result.images["inputs"]
    assert table["input"].tolist() == np.repeat(result.tables["inputs"]["input"], 2).tolist()
    panel = next(panel for panel in result.panels if getattr(panel, "table", "") == "inputs_shown")
    for row in table[table["shows"] == "best patch"].itertuples():
        y, x = divmod(row.tile, panel.columns)
        middle = sheet[y * panel.tile + panel.tile // 2, x * panel.tile + panel.tile // 2]
        assert middle.tolist() == [10 + row.input, 0, 7]
    without = METHOD.run(Job(network=tiny, options=parsed, provider="cpu"))
    assert any("--layers pool" in panel.help for panel in without.panels)
    assert any("hard to read" in panel.title for panel in without.panels)


def test_a_filter_opens_with_its_map_and_its_patches(tmp_path: Path) -> None:
    tiny = exported_network(tmp_path, Tiny(), size=(24, 32))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    parsed = METHOD.options.parse({})
    job = Job(
        network=tiny,
        options=parsed,
        provider="cpu",
        photo=picture,
        find_runs=lambda method: iter([MinedRun("pool", 6)]),
    )
    result = METHOD.run(job)
    panel = next(panel for panel in result.panels if panel.image == "tiles")
    assert panel.key == "unit"
    assert [inner.kind for inner in panel.opens] == ["channels", "gallery"]
    maps = forward_taps(tiny.module(), torch.from_numpy(job.input), ["first"])["first"][0].detach().numpy()
    np.testing.assert_allclose(result.arrays["activations"], maps, atol=1e-5)
    np.testing.assert_allclose(result.tables["units"]["activation"], maps.mean((1, 2)), atol=1e-5)
    assert (result.tables["mined"]["unit"].value_counts() == 2).all()


def test_a_stem_in_groups_is_drawn_in_its_own_colours(tmp_path: Path) -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 3, groups=3)
            self.head = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.stem(x).mean((2, 3)))

    grouped = exported_network(tmp_path, Grouped(), classes=2)
    weights = layer_weights(grouped, "stem")
    assert weights.colours
    assert weights.pictures.shape == (6, 3, 3, 3)
    np.testing.assert_array_equal(weights.pictures[3, 1], weights.values[3, 0])
    assert not weights.pictures[3, [0, 2]].any()
    assert filters(grouped, unit=3).images["filters"].shape[2] == 3


def test_the_mean_picture_is_grey_where_no_mean_is_subtracted(tmp_path: Path) -> None:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    network = exported_network(tmp_path, Tiny(), preprocessing=plain)
    assert mean_picture(network.card).ravel().tolist() == [0.5, 0.5, 0.5]
    assert not mean_picture(exported_network(tmp_path, Tiny()).card).any()


def test_a_normalisation_has_no_filters(tmp_path: Path) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.BatchNorm2d(3)
            self.stem = nn.Conv2d(3, 4, 3)
            self.after = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.after(self.stem(self.before(x))).mean((2, 3))

    network = exported_network(tmp_path, Normed(), classes=4)
    assert weighted_layers(network.card) == ["stem"]
    assert filters(network).summary["layer"] == "stem"
    assert layer_weights(network, "stem").colours
    assert input_layers(network, "stem") == ["before"]


def test_another_network_stands_beside(network: TinyNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = exported_network(tmp_path, Tiny())
    monkeypatch.setattr("fovea.models.zoo.load", lambda name: other)
    result = filters(network, beside="tiny")
    panels = [panel for panel in result.panels if panel.kind == "gallery"]
    assert [panel.beside for panel in panels] == [False, True]
    assert "random" in panels[1].help
    assert len(result.tables["beside"]) == 6
