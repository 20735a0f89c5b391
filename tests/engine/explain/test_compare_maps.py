"""Compare: a grid for each class or network, the table of trust, and what it says where nothing can be compared."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import FoveaError, UnsupportedError
from fovea.engine.explain.maps.family import family
from fovea.engine.explain.maps.map_tiles import TILE, map_tile, scale_of
from fovea.engine.method import Job, Result, find_method
from tests.networks.modules import Tiny
from tests.networks.tiny import TinyNetwork, exported_network, state_of

SMALL = {"steps": 3, "stages": 1, "random_orders": 1}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("compare"), Tiny(), size=(24, 36))


def compare(network: Any, **options: Any) -> tuple[Job, Result]:
    method = find_method("compare")
    parsed = method.options.parse(SMALL | options)
    method.verify(network.card, parsed)
    pixels = np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8)
    job = Job(network=network, options=parsed, photo=Image.fromarray(pixels), provider="cpu")
    return job, method.run(job)


def test_one_class_has_every_map_its_figures_and_the_baselines(network: TinyNetwork) -> None:
    before = state_of(network.module())
    _, result = compare(network, target="3")
    assert state_of(network.module()) == before
    titles = [member.title for member in family().values()]
    table = result.tables["trust"]
    assert list(table["map"]) == [*titles, "(random order)", "(centre blob)"]
    assert {"deletion", "insertion", "gain", "rank correlation", "SSIM", "agreement", "verdict"} <= set(table)
    np.testing.assert_allclose(table["gain"], table["insertion"] - table["deletion"], atol=2e-3)
    assert list(result.tables["maps_0"]["map"]) == ["photo", *titles]
    assert [result.arrays[f"map_0_{name.replace('+', 'p')}"].shape for name in family()] == [(24, 36)] * len(titles)
    assert [panel.kind for panel in result.panels] == ["text", "gallery", "table", "text", "table"]
    assert result.summary["target"] == "class 3"


def test_its_figures_are_those_of_trust(network: TinyNetwork) -> None:
    _, result = compare(network, target="3", random_orders=2)
    method = find_method("trust")
    parsed = method.options.parse(
        {"map": "gradient", "target": "3", "steps": 3, "stages": 1, "random_orders": 2, "agreement": False}
    )
    job, _ = compare(network, target="3")
    alone = method.run(dataclasses.replace(job, options=parsed))
    row = result.tables["trust"].set_index("map").loc["Gradient"]
    np.testing.assert_allclose(row["deletion"], alone.summary["deletion"], atol=1e-3)
    np.testing.assert_allclose(row["insertion"], alone.summary["insertion"], atol=1e-3)
    np.testing.assert_allclose(
        row["rank correlation"], alone.tables["randomisation"]["rank correlation"].iloc[1], atol=1e-3
    )


def test_a_second_class_stands_beside_and_against_the_first(network: TinyNetwork) -> None:
    _, result = compare(network, target="3", second_class="class 5", stages=0)
    table = result.tables["trust"]
    assert set(table["of"]) == {"class 3", "class 5"}
    assert table["rank correlation"].isna().all()
    assert {"maps_0", "maps_1", "difference"} <= set(result.images)
    assert any(panel.title == "Why class 3, and not class 5" for panel in result.panels)
    alone = compare(network, target="5", stages=0)[1]
    np.testing.assert_array_equal(result.arrays["map_1_gradient"], alone.arrays["map_0_gradient"])


def test_a_second_network_explains_the_class_of_that_name(
    network: TinyNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = exported_network(tmp_path, Tiny(1, 4), size=(32, 32), channels=1, classes=4)
    names = ("class 9", "class 3", "class 8", "class 7")
    other.card = other.card.model_copy(update={"name": "other", "classes": names})
    monkeypatch.setattr("fovea.models.zoo.load", lambda name: other)
    job, result = compare(network, target="3", second_network="other", stages=0)
    assert set(result.tables["trust"]["of"]) == {"class 3 · tiny", "class 3 · other"}
    assert result.arrays["map_1_gradient"].shape == (32, 32)
    assert "difference" not in result.images
    assert any("random weights" in line for line in job.warnings)
    job, result = compare(network, target="2", second_network="other", stages=0)
    assert any("has no class class 2" in line for line in job.warnings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "3", "second_class": "class 3"}, "is the first class"),
        ({"second_network": "tiny"}, "is the first network"),
        ({"second_class": "no such"}, "no such"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], says: str, network: TinyNetwork) -> None:
    with pytest.raises(FoveaError, match=says) as caught:
        compare(network, **options)
    assert "\n" not in str(caught.value)


def test_networks_without_classes_or_gradients_are_told(network: TinyNetwork) -> None:
    features = dataclasses.replace(network, card=network.card.model_copy(update={"output": "features", "classes": ()}))
    with pytest.raises(UnsupportedError, match="no classes"):
        compare(features)
    file = dataclasses.replace(network, card=network.card.model_copy(update={"gradients": False}))
    job, result = compare(file, target="3")
    assert result.tables["trust"]["map"].iloc[0] == "Occlusion"
    assert any("only maps that need no gradients" in line for line in job.warnings)


def test_tiles_show_for_and_against_on_one_scale() -> None:
    frame = np.full((10, 20, 1), 200, np.uint8)
    values = np.zeros((10, 20))
    values[4:6, 2:4], values[4:6, 16:18] = 1.0, -1.0
    tile = map_tile(frame, values, scale_of(values))
    assert tile.shape == (TILE, TILE, 3)
    middle = tile[TILE // 2]
    for_it, against = middle[int(TILE * 3 / 20)].astype(int), middle[int(TILE * 17 / 20)].astype(int)
    assert for_it[0] > for_it[2] + 60
    assert against[2] > against[0] + 60
    assert scale_of(np.zeros((3, 3))) == 1
    assert np.array_equal(map_tile(frame, values, 1e6), map_tile(frame, np.zeros((10, 20)), 1.0))


def test_maps_are_listed_by_what_the_network_allows() -> None:
    card = types.SimpleNamespace(preprocessing=types.SimpleNamespace(size=(28, 28)))
    quick = family()["occlusion"].quick(card)  # type: ignore[arg-type]
    assert quick == {"window": 7, "stride": 3}
