"""Mining equals a brute-force sort, whatever the batch size, the shards, the order, or a kill in between."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.engine.errors import Cancelled, DatasetError, UnknownNameError, UnsupportedError
from fovea.engine.look.mining import checkpoints, miner, sheets
from fovea.engine.look.mining.merge import merge, to_bytes
from fovea.engine.look.mining.sheets import BACKGROUND, crop_within
from fovea.engine.look.patches import METHOD, chosen_layers
from fovea.engine.method import Job, Result
from fovea.engine.progress import Progress
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_patches import MemoryDataset, patches_by_sorting

COLUMNS = ["layer", "unit", "rank", "score", "image", "y", "x", "box_x0", "box_y0", "box_x1", "box_y1"]
ROOT = Path(__file__).resolve().parents[3]
LAYERS = ["relu", "second", "head"]


def pictures(count: int = 40, size: tuple[int, int] = (48, 40)) -> dict[str, Image.Image | None]:
    """Pictures with few grey levels, some of them twice, so that scores tie between and within images."""
    rng = np.random.default_rng(0)
    found: dict[str, Image.Image | None] = {}
    for index in range(count):
        small = rng.integers(0, 3, (4, 5, 3), dtype=np.uint8) * 100
        found[f"p{(index * 7) % count:03d}.png"] = Image.fromarray(small).resize(size, Image.Resampling.NEAREST)
    keys = sorted(found)
    found[keys[5]] = found[keys[20]] = found[keys[30]]
    found["zz-grey.png"] = Image.new("RGB", size, (120, 120, 120))
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(32, 40))


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return MemoryDataset(pictures())


@pytest.fixture(scope="module")
def sorted_patches(network: TinyNetwork, dataset: MemoryDataset) -> pd.DataFrame:
    return patches_by_sorting(network, dataset, LAYERS, 6)


def job_for(network: Any, dataset: MemoryDataset, checkpoints: Path | None = None, **options: Any) -> Job:
    parsed = METHOD.options.parse({"layers": ",".join(LAYERS), "top": 6} | options)
    METHOD.verify(network.card, parsed)
    return Job(
        network=network, options=parsed, provider="cpu", checkpoints=checkpoints, open_dataset=lambda name: dataset
    )


def mine(network: Any, dataset: MemoryDataset, checkpoints: Path | None = None, **options: Any) -> Result:
    return METHOD.run(job_for(network, dataset, checkpoints, **options))


def miner_for(job: Job) -> miner.Miner:
    return miner.Miner(job, chosen_layers(job.card, job.options.layers))


def check_equal(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """The same places in the same order; scores to what ONNX and torch agree to."""
    assert list(found.columns) == COLUMNS
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-4, atol=1e-5)
    for column in ("layer", "unit", "rank", "image", "y", "x"):
        assert found[column].tolist() == wanted[column].tolist(), column


def check_identical(one: Result, other: Result) -> None:
    for name in one.tables:
        pd.testing.assert_frame_equal(one.tables[name], other.tables[name], check_exact=True)
    for name in one.arrays:
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    for name in one.images:
        np.testing.assert_array_equal(one.images[name], other.images[name])


def test_equals_a_brute_force_sort(network: TinyNetwork, dataset: MemoryDataset, sorted_patches: pd.DataFrame) -> None:
    check_equal(mine(network, dataset).tables["patches"], sorted_patches)


def test_ranks_by_the_mean_of_the_map_too(network: TinyNetwork, dataset: MemoryDataset) -> None:
    by_mean = mine(network, dataset, rank="mean")
    check_equal(by_mean.tables["patches"], patches_by_sorting(network, dataset, LAYERS, 6, by="mean"))
    by_maximum = mine(network, dataset)
    assert not by_mean.tables["patches"].equals(by_maximum.tables["patches"])
    # What is told of the units is told of their maxima in both.
    pd.testing.assert_frame_equal(by_mean.tables["units"], by_maximum.tables["units"])
    np.testing.assert_array_equal(by_mean.arrays["histograms"], by_maximum.arrays["histograms"])


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("shard", [7, 1000])
def test_batch_size_and_shards_change_nothing(
    network: TinyNetwork,
    dataset: MemoryDataset,
    sorted_patches: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    shard: int,
) -> None:
    monkeypatch.setattr(miner, "SHARD", shard)
    check_equal(mine(network, dataset, batch=batch).tables["patches"], sorted_patches)


def test_order_of_the_images_changes_nothing(
    network: TinyNetwork, sorted_patches: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list(pictures().items())
    random.Random(3).shuffle(items)
    monkeypatch.setattr(miner, "SHARD", 11)
    check_equal(mine(network, MemoryDataset(dict(items))).tables["patches"], sorted_patches)


def test_shards_mined_in_any_order_merge_to_the_same(
    network: TinyNetwork, dataset: MemoryDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miner, "SHARD", 9)
    way = miner_for(job_for(network, dataset))
    whole = to_bytes(way.mine(), "")
    parts = [way.mine_shard(shard) for shard in reversed(range(way.shards))]
    assert to_bytes(merge([*parts, parts[1]]), "") == whole


@pytest.mark.parametrize("killed_after", [1, 12, 25, 40])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    network: TinyNetwork,
    dataset: MemoryDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_after: int,
) -> None:
    monkeypatch.setattr(miner, "SHARD", 8)
    monkeypatch.setattr(checkpoints, "LOOSE", 2)
    wanted = mine(network, dataset, batch=3)
    job = job_for(network, dataset, tmp_path, batch=3)

    def killer(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        if message.startswith("image") and int(message.split()[1]) >= killed_after:
            raise Cancelled("stopped")

    job.progress = Progress(killer)
    with pytest.raises(Cancelled):
        METHOD.run(job)
    before = dataset.asked
    check_identical(mine(network, dataset, tmp_path, batch=3), wanted)
    read_again = dataset.asked - before - wanted.tables["patches"]["image"].nunique()
    assert read_again <= len(dataset) - (killed_after - 1) // 8 * 8


def test_a_shard_that_lies_there_twice_counts_once(
    network: TinyNetwork, dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the parts were put together and before the single ones were gone."""
    monkeypatch.setattr(miner, "SHARD", 8)
    monkeypatch.setattr(checkpoints, "LOOSE", 4)
    wanted = mine(network, dataset, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"shards.npz", "shard-00000004.npz", "shard-00000005.npz"}
    job = job_for(network, dataset)
    part = miner_for(job).mine_shard(2)
    signature = miner_for(job_for(network, dataset, tmp_path)).checkpoints.signature
    (tmp_path / "shard-00000002.npz").write_bytes(to_bytes(part, signature))
    before = dataset.asked
    check_identical(mine(network, dataset, tmp_path), wanted)
    assert dataset.asked - before == wanted.tables["patches"]["image"].nunique()


KILLED = """
import os, signal, sys
from pathlib import Path
from fovea.engine.look import patches
from fovea.engine.look.mining import miner
from fovea.engine.method import Job
from fovea.engine.progress import Progress
from tests.engine.look.test_patches import pictures
from tests.networks.modules import Tiny
from tests.networks.tiny import exported_network
from tests.oracles.look_patches import MemoryDataset

def progress(fraction, message, preview=None, curve=None):
    if message == "image 20 of 41":
        os.kill(os.getpid(), signal.SIGKILL)

miner.SHARD = 8
folder = Path(sys.argv[1])
job = Job(
    network=exported_network(folder, Tiny(), size=(32, 40)), provider="cpu", checkpoints=folder / "checkpoints",
    options=patches.METHOD.options.parse({"layers": "relu,second,head", "top": 6, "batch": 4}),
    open_dataset=lambda name: MemoryDataset(pictures()), progress=Progress(progress),
)
patches.METHOD.run(job)
"""


def test_a_process_killed_on_the_spot_leaves_a_checkpoint_that_is_whole(
    network: TinyNetwork, dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miner, "SHARD", 8)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = dataset.asked
    resumed = mine(network, dataset, tmp_path / "checkpoints", batch=4)
    mined = dataset.asked - before - resumed.tables["patches"]["image"].nunique()
    assert mined <= len(dataset) - 16
    check_identical(resumed, mine(network, dataset, batch=4))


def test_a_checkpoint_of_other_options_or_a_damaged_one_is_not_used(
    network: TinyNetwork, dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miner, "SHARD", 8)
    wanted = mine(network, dataset, layers="relu")
    mine(network, dataset, tmp_path, layers="second")
    check_identical(mine(network, dataset, tmp_path, layers="relu"), wanted)
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(b"PK\x03\x04 half of it")
    check_identical(mine(network, dataset, tmp_path, layers="relu"), wanted)


class WithNaN(nn.Module):
    """A map that is NaN where the convolution is below 2, on some pictures everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.root = Root()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.root(self.conv(x)).mean((2, 3))


class Root(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x - 2)


def test_nan_is_dropped(tmp_path: Path, dataset: MemoryDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.models.graph import export

    monkeypatch.setattr(export, "check_parity", lambda *args, **facts: {})
    network = exported_network(tmp_path, WithNaN(), size=(32, 40), classes=4)
    found = mine(network, dataset, layers="root", top=50).tables["patches"]
    wanted = patches_by_sorting(network, dataset, ["root"], 50)
    assert len(wanted) < 4 * len(dataset)
    check_equal(found, wanted)


def test_dead_units_have_their_rows_too(network: TinyNetwork, dataset: MemoryDataset, tmp_path: Path) -> None:
    module = Tiny()
    network = exported_network(tmp_path, module, size=(32, 40))
    with torch.no_grad():
        module.first.weight[2] = 0
        module.first.bias[2] = -1
    network.export(tmp_path)
    result = mine(network, dataset, layers="relu", top=9)
    units = result.tables["units"]
    assert units.loc[2, "dead"]
    assert units.loc[2, "silent"] == 1
    assert result.summary["dead units"] == units["dead"].sum()
    rows = result.tables["patches"][result.tables["patches"].unit == 2]
    assert rows["image"].tolist() == sorted(dataset.keys)[:9]
    assert (rows[["score", "y", "x"]] == 0).all(axis=None)
    assert (result.tables["patches"].groupby("unit").size() == 9).all()
    few = MemoryDataset(dict(list(pictures().items())[:4]))
    assert (mine(network, few, layers="relu", top=9).tables["patches"].groupby("unit").size() == 4).all()


def test_unreadable_images_are_listed_and_left_out(network: TinyNetwork) -> None:
    photos = pictures()
    photos["broken-b.jpg"] = photos["broken-a.jpg"] = None
    result = mine(network, MemoryDataset(photos))
    good = MemoryDataset({key: photo for key, photo in photos.items() if photo is not None})
    check_equal(result.tables["patches"], patches_by_sorting(network, good, LAYERS, 6))
    assert result.tables["unreadable"]["image"].tolist() == ["broken-a.jpg", "broken-b.jpg"]
    assert "not an image" in result.tables["unreadable"]["error"][0]
    assert result.summary["unreadable"] == 2
    with pytest.raises(DatasetError, match="no readable image"):
        mine(network, MemoryDataset({"a.jpg": None}))


def test_units_tell_their_statistics_and_labels(network: TinyNetwork) -> None:
    photos = pictures()
    labels = {key: ("even" if index % 2 == 0 else "odd") if index else "" for index, key in enumerate(photos)}
    result = mine(network, MemoryDataset(photos, labels), layers="second", top=len(photos))
    table = result.tables["patches"]
    for unit, row in result.tables["units"].iterrows():
        scores = table[table.unit == unit].set_index("image")["score"].astype(float)
        assert row["maximum"] == scores.max()
        assert row["mean"] == pytest.approx(scores.mean(), abs=1e-4)
        assert row["silent"] == pytest.approx((scores <= 0).mean())
        means = {name: scores[[key for key in photos if labels[key] == name]].mean() for name in ("even", "odd")}
        assert row["labels"].startswith(max(means, key=lambda name: means[name]))
        assert result.arrays["histograms"][unit].sum() == len(photos)
    assert set(result.tables["gallery"]["label"]) == {"", "even", "odd"}


def test_tokens_and_vectors_are_mined_too(tmp_path: Path, dataset: MemoryDataset) -> None:
    network = exported_network(tmp_path, TinyTokens(classes=5), size=(32, 40), classes=5)
    result = mine(network, dataset, layers="block,patches,head", top=4)
    check_equal(result.tables["patches"], patches_by_sorting(network, dataset, ["block", "patches", "head"], 4))


def test_one_channel_pictures(tmp_path: Path, dataset: MemoryDataset) -> None:
    network = exported_network(tmp_path, Tiny(channels=1), size=(32, 40), channels=1)
    result = mine(network, dataset, layers="second")
    check_equal(result.tables["patches"], patches_by_sorting(network, dataset, ["second"], 6))


def test_boxes_are_receptive_fields_inside_the_frame(network: TinyNetwork, dataset: MemoryDataset) -> None:
    table = mine(network, dataset, layers="second").tables["patches"]
    field = network.card.layer("second").receptive_field
    assert field is not None
    for row in table.sample(20, random_state=0).itertuples():
        assert (row.box_x0, row.box_y0, row.box_x1, row.box_y1) == field.box(row.y, row.x, (32, 40))


def test_the_sheet_shows_every_patch_at_its_tile(network: TinyNetwork, dataset: MemoryDataset) -> None:
    result = mine(network, dataset, layers="second")
    (panel,) = (panel for panel in result.panels if panel.kind == "gallery")
    sheet, gallery = result.images[panel.image], result.tables[panel.table]
    assert sheet.shape[1] == panel.tile * panel.columns
    assert len(gallery) == len(result.tables["patches"])
    for number in (0, 17, len(gallery) - 1):
        row, patch = gallery.iloc[number], result.tables["patches"].iloc[number]
        frame = network.card.preprocessing.frame(dataset.photo(dataset.keys.index(patch["image"])))
        x0, y0, x1, y1 = (int(patch[side]) for side in ("box_x0", "box_y0", "box_x1", "box_y1"))
        seen = frame[y0:y1, x0:x1]
        scale = panel.tile / max(seen.shape[:2])
        size = round(seen.shape[1] * scale), round(seen.shape[0] * scale)
        wanted = Image.new("RGB", (panel.tile, panel.tile), (BACKGROUND,) * 3)
        place = (panel.tile - size[0]) // 2, (panel.tile - size[1]) // 2
        wanted.paste(Image.fromarray(seen).resize(size, Image.Resampling.NEAREST), place)
        top, left = (place * panel.tile for place in divmod(int(row["tile"]), panel.columns))
        np.testing.assert_array_equal(sheet[top : top + panel.tile, left : left + panel.tile], np.asarray(wanted))


def test_a_large_field_is_averaged_into_its_tile() -> None:
    grid = np.indices((200, 240)).sum(axis=0)
    picture = np.stack([grid % 256, 255 - grid // 2, np.full_like(grid, 7)], axis=-1).astype(np.uint8)
    crop = crop_within(picture, (10, 20, 220, 190), 64)
    plain = Image.fromarray(picture).crop((10, 20, 220, 190)).resize((64, 52), Image.Resampling.BILINEAR)
    assert crop.shape == (52, 64, 3)
    assert np.abs(crop[..., 1:].astype(int) - np.asarray(plain)[..., 1:]).max() <= 2


def test_default_layers_are_the_last_of_each_resolution(network: TinyNetwork) -> None:
    assert [layer.name for layer in chosen_layers(network.card, "")] == ["relu", "pool", "norm"]
    assert [layer.name for layer in chosen_layers(network.card, " second, relu ,second")] == ["second", "relu"]
    with pytest.raises(UnknownNameError, match="second"):
        METHOD.verify(network.card, METHOD.options.parse({"layers": "secnd"}))
    vectors = [layer for layer in network.card.layers if layer.axes == "vector"]
    with pytest.raises(UnsupportedError, match="name layers"):
        chosen_layers(network.card.model_copy(update={"layers": tuple(vectors)}), "")


def test_a_sheet_stays_within_bounds() -> None:
    for units, top in [(64, 9), (2048, 9), (2048, 100), (100_000, 9)]:
        tile, shown = sheets.tile_plan(units, top)
        assert 1 <= shown <= top
        assert units * shown * tile * tile <= max(sheets.SHEET_PIXELS, units * tile * tile)


def test_real_network_on_real_photos(data: Path, tmp_path: Path) -> None:
    from fovea.engine.data.catalogue import open_dataset
    from tests.networks.large import real_squeezenet

    photos = sorted((data / "photos").glob("*.jpg"))[:100]
    listed = tmp_path / "photos.txt"
    listed.write_text("".join(f"{photo}\n" for photo in photos))
    network = real_squeezenet(data, tmp_path, size=(96, 96))
    layers = ["features.4", "features.7", "features.12"]
    options = METHOD.options.parse({"dataset": str(listed), "layers": ",".join(layers)})
    found = METHOD.run(Job(network=network, options=options, provider="cpu", open_dataset=open_dataset))
    table = found.tables["patches"]
    wanted = patches_by_sorting(network, open_dataset(str(listed)), layers, 9)
    assert len(table) == (128 + 256 + 512) * 9
    np.testing.assert_allclose(table["score"], wanted["score"], rtol=1e-4, atol=1e-3)
    # Torch and ONNX agree to about 1e-6: where two scores are closer than that, they may change places.
    same = table[["layer", "unit", "rank", "image", "y", "x"]] == wanted[["layer", "unit", "rank", "image", "y", "x"]]
    assert same.all(axis=1).mean() > 0.995
