"""Guided backpropagation on a unit's mined best patches: the right patches, the right gradients, or mine first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.data.dataset import Dataset
from fovea.engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.look.mining.mined import MINING
from fovea.engine.method import Job, Result, find_method
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.store import Store
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small photos of coloured noise."""
    folder = tmp_path_factory.mktemp("mined")
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def mined(net: TinyNetwork, dataset: Dataset, layer: str, top: int) -> pd.DataFrame:
    """The best patches by brute force, in the columns of a mining run."""
    found: list[dict[str, Any]] = []
    for key, index in zip(dataset.keys, range(len(dataset)), strict=True):
        frame = net.card.preprocessing.frame(dataset.photo(index))
        x = torch.from_numpy(net.card.preprocessing.normalise(frame))[None]
        maps = torch.relu(net.torch_module.conv1(x))[0]  # type: ignore[operator]
        assert layer == "conv1"
        for unit in range(len(maps)):
            y, column = divmod(int(maps[unit].argmax()), maps.shape[2])
            found.append({"layer": layer, "unit": unit, "score": float(maps[unit].max()), "image": key, "y": y})
            found[-1]["x"] = column
    table = pd.DataFrame(found).sort_values(["unit", "score"], ascending=[True, False])
    table["rank"] = table.groupby("unit").cumcount()
    return table[table["rank"] < top].reset_index(drop=True)


def with_runs(job: Job, dataset: Dataset, *tables: pd.DataFrame, rank: str = "maximum") -> Job:
    """The job, with finished mining runs of these tables in its store."""

    def find(method: str) -> Iterator[Any]:
        assert method == MINING
        for table in tables:
            inputs = [SimpleNamespace(kind="dataset", sha256=dataset.manifest_sha256())]
            record = SimpleNamespace(inputs=inputs, options={"top": int(table["rank"].max()) + 1, "rank": rank})
            yield SimpleNamespace(record=record, table=lambda name, table=table: table)

    job.find_runs, job.open_dataset = find, lambda name: dataset
    return job


def run(job: Job) -> Result:
    return find_method("guided").run(job)


def test_each_patch_stands_beside_what_excites_the_unit_there(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, photos: Path
) -> None:
    from fovea.engine.explain.maps.pictures import as_colour, crop_signed, crop_tile, seen_box

    net, dataset = tiny_networks["functional"], open_dataset(str(photos))
    table = mined(net, dataset, "conv1", 4)
    job = make_job("guided", net, layer="conv1", dataset=str(photos), rows="5,2", patches=3, units=2)
    result = run(with_runs(job, dataset, table))
    found = result.tables["best_patches"]
    assert list(zip(found["unit"], found["rank"], strict=True)) == [(5, 0), (5, 1), (5, 2), (2, 0), (2, 1), (2, 2)]
    figure = np.asarray(result.images["best_patches"])
    layer = net.card.layer("conv1")
    for place, row in enumerate(found.itertuples()):
        frame = net.card.preprocessing.frame(dataset.photo(dataset.keys.index(row.image)))
        x = torch.from_numpy(net.card.preprocessing.normalise(frame))[None].requires_grad_(True)
        value = net.torch_module.conv1(x)[0, row.unit, row.y, row.x]  # type: ignore[operator]
        assert float(value.detach()) == pytest.approx(row.score, abs=1e-5)
        (gradient,) = torch.autograd.grad(value, x)
        box = seen_box(layer, (row.y, row.x), (32, 32))
        pair = crop_tile(as_colour(frame), box, 128), crop_signed(gradient[0].numpy(), box, 128)
        top = (place // 3) * (128 + 10)
        strip = figure[top : top + 128]
        for tile in pair:
            assert any(
                np.abs(strip[:, x0 : x0 + 128].astype(int) - tile).max() <= 1 for x0 in range(strip.shape[1] - 127)
            ), f"patch {place} is not in its row"


def test_without_rows_the_units_are_this_one_and_the_strongest(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, photos: Path
) -> None:
    net, dataset = tiny_networks["functional"], open_dataset(str(photos))
    job = make_job("guided", net, layer="conv1", unit=7, dataset=str(photos), patches=2, units=3)
    result = run(with_runs(job, dataset, mined(net, dataset, "conv1", 2)))
    rows = list(dict.fromkeys(result.tables["best_patches"]["unit"]))
    assert rows == list(dict.fromkeys([7, *result.tables["units"]["unit"]]))[:3]
    assert result.panels[0].image == "best_patches"


def test_what_was_not_mined_is_one_line(tiny_networks: Mapping[str, TinyNetwork], make_job: Make, photos: Path) -> None:
    net, dataset = tiny_networks["functional"], open_dataset(str(photos))
    table = mined(net, dataset, "conv1", 2)

    def line(error: type[FoveaError], *tables: pd.DataFrame, **options: Any) -> str:
        job = make_job("guided", net, dataset=str(photos), **options)
        with pytest.raises(error) as caught:
            run(with_runs(job, dataset, *tables))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"patches with dataset {photos} and layers conv2 first" in line(UnsupportedError, layer="conv2")
    assert "(only conv1)" in line(UnsupportedError, table, layer="conv2", patches=2)
    assert "at most 2 patches" in line(OptionsError, table, layer="conv1", patches=3)
    assert "0 to 7" in line(UnknownNameError, table, rows="3,8", patches=2)
    assert run(with_runs(make_job("guided", net, dataset=str(photos), patches=2), dataset, table)).panels
    with pytest.raises(OptionsError, match="units with commas"):
        make_job("guided", net, layer="conv1", dataset=str(photos), rows="3;4")
    with pytest.raises(OptionsError, match="choose a dataset"):
        make_job("guided", net, layer="conv1", rows="3,4")


def test_patches_ranked_by_the_mean_of_a_map_are_not_taken_for_the_strongest_places(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, photos: Path
) -> None:
    net, dataset = tiny_networks["functional"], open_dataset(str(photos))
    job = make_job("guided", net, layer="conv1", dataset=str(photos), patches=2)
    with pytest.raises(UnsupportedError, match="has not been mined"):
        run(with_runs(job, dataset, mined(net, dataset, "conv1", 2), rank="mean"))
    ranks = find_method(MINING).options.model_fields["rank"]
    assert ranks.default == "maximum"


def test_a_finished_mining_run_is_found_in_the_store(own_home: Path, photos: Path, tmp_path: Path) -> None:
    from fovea.models.registry import register

    source = tmp_path / "small.py"
    source.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Small(nn.Module):\n"
        "    def __init__(self, num_classes=3):\n        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n        self.fc = nn.Linear(4, num_classes)\n\n"
        "    def forward(self, x):\n        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))\n"
    )
    settings = {"size": [24, 24], "resize": 24, "mean": [0.5] * 3, "std": [0.2] * 3, "channels": 3}
    register("small", architecture=f"{source}:Small", input=settings)
    store = Store()
    image = str(photos / "0.png")
    options = {"dataset": str(photos), "layer": "conv", "patches": 2, "units": 1}
    asked = Request(method="guided", network="small", image=image, options=options, device="cpu")
    assert "has not been mined" in execute(asked, store).error
    settled = {"dataset": str(photos), "layers": "conv", "top": 2}
    mining = execute(Request(method="patches", network="small", options=settled, provider="cpu"), store)
    assert mining.status == "done", mining.error
    record = execute(asked, store)
    assert record.status == "done", record.error
    found = store.run(record.id).table("best_patches")
    assert found["score"].is_monotonic_decreasing
    assert len(found) == 2
