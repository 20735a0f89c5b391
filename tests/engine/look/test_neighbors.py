"""Neighbours: the features of the right layer, the exact nearest images, computed once."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.look.feature_space.plane import plane
from fovea.engine.look.features import METHOD as FEATURES
from fovea.engine.look.neighbors import METHOD
from fovea.engine.method import Job, Result
from fovea.engine.progress import Progress
from fovea.models.torch_net import forward_taps
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_patches import MemoryDataset


def photos() -> dict[str, Image.Image | None]:
    rng = np.random.default_rng(0)
    found: dict[str, Image.Image | None] = {}
    for index in range(24):
        base = (60, 160) if index % 2 else (120, 255)
        pixels = rng.integers(*base, (6, 8, 3), dtype=np.uint8)
        found[f"p{index:02d}"] = Image.fromarray(pixels).resize((48, 36))
    found["broken"] = None
    return found


class IndexedDataset(MemoryDataset):
    def index_of(self, key: str) -> int:
        return self.keys.index(key)

    def label(self, index: int) -> str:
        return self.labels[index] if self.labels else ""


@pytest.fixture
def dataset() -> IndexedDataset:
    labels = {key: "" if key == "broken" else ("dark" if int(key[1:]) % 2 else "light") for key in photos()}
    return IndexedDataset(photos(), labels)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(32, 40))


def search(network: Any, dataset: Any, photo: str = "p05", **options: Any) -> tuple[Job, Result]:
    parsed = METHOD.options.parse(options)
    METHOD.verify(network.card, parsed)
    picture = photos()[photo]
    job = Job(network=network, options=parsed, photo=picture, provider="cpu", open_dataset=lambda name: dataset)
    return job, METHOD.run(job)


def distances_by_hand(network: Any, dataset: Any, job: Job, layer: str, metric: str) -> dict[str, float]:
    def feature(inputs: np.ndarray) -> np.ndarray:
        maps = forward_taps(network.module(), torch.from_numpy(inputs), [layer])[layer].double()
        return (maps.mean((2, 3)) if maps.dim() == 4 else maps)[0].numpy()

    query, found = feature(job.input), {}
    for index, key in enumerate(dataset.keys):
        if key != "broken":
            preprocessing = network.card.preprocessing
            one = feature(preprocessing.normalise(preprocessing.frame(dataset.photo(index)))[None])
            if metric == "l2":
                found[key] = float(np.linalg.norm(one - query))
            else:
                found[key] = 1 - float(one @ query / np.linalg.norm(one) / np.linalg.norm(query))
    return found


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_equals_sorting_by_hand(network: TinyNetwork, dataset: IndexedDataset, own_home: Path, metric: str) -> None:
    job, result = search(network, dataset, layer="relu", metric=metric, k=6)
    table = result.tables["neighbors"]
    assert list(table.columns[:4]) == ["rank", "image", "label", "distance"]
    wanted = distances_by_hand(network, dataset, job, "relu", metric)
    assert table["image"].tolist() == sorted(wanted, key=lambda key: (wanted[key], key))[:6]
    np.testing.assert_allclose(table["distance"], [wanted[key] for key in table["image"]], atol=1e-4)
    assert table["image"][0] == result.tables["pixel_neighbors"]["image"][0] == "p05"
    assert result.summary["images"] == 24
    assert "1 of 25 images could not be read" in job.warnings[0]
    assert result.images["neighbors"].shape[1] == 6 * 128


def test_default_features_are_what_the_last_weights_read(
    network: TinyNetwork, dataset: IndexedDataset, tmp_path: Path, own_home: Path
) -> None:
    tokens = exported_network(tmp_path, TinyTokens(), size=(32, 40), classes=5)
    tokens.card = tokens.card.model_copy(update={"sha256": "1" * 64})
    for one in (network, tokens):
        read: list[torch.Tensor] = []
        handle = one.module().head.register_forward_pre_hook(lambda module, inputs, read=read: read.append(inputs[0]))
        job, result = search(one, dataset, map="none")
        assert result.summary["layer"] == "input of head"
        with torch.no_grad():
            one.module()(torch.from_numpy(job.input))
        handle.remove()
        np.testing.assert_allclose(result.arrays["query"], read[0][0].numpy(), atol=1e-5)
    with pytest.raises(UnsupportedError, match="no layer of weights"):
        METHOD.verify(network.card.model_copy(update={"layers": ()}), METHOD.options.parse({}))


def test_features_are_computed_once(network: TinyNetwork, dataset: IndexedDataset, own_home: Path) -> None:
    _, first = search(network, dataset, map="none")
    asked = dataset.asked
    _, second = search(network, dataset, photo="p07", map="none")
    assert dataset.asked - asked < len(dataset) * 2
    _, again = search(network, dataset, map="none")
    assert again.tables["neighbors"].equals(first.tables["neighbors"])
    assert second.tables["neighbors"]["image"][0] == "p07"
    for file in (own_home / "features").glob("*/*"):
        file.write_bytes(b"not what it was")
    _, repaired = search(network, dataset, map="none")
    assert repaired.tables["neighbors"].equals(first.tables["neighbors"])


def test_item_and_label_restrict_the_search(network: TinyNetwork, dataset: IndexedDataset, own_home: Path) -> None:
    job, result = search(network, dataset, photo="p01", item="p05", k=50, map="none")
    found = result.tables["neighbors"]["image"].tolist()
    assert "p05" not in found
    assert len(found) == 23
    assert "There are only 23 images to choose from, fewer than the 50 that k asks for." in job.warnings
    _, result = search(network, dataset, label="light", k=50, map="none")
    assert set(result.tables["neighbors"]["label"]) == {"light"}
    with pytest.raises(UnknownNameError, match="light"):
        search(network, dataset, label="ligth")
    alone = IndexedDataset({"p05": photos()["p05"]})
    with pytest.raises(OptionsError, match="no other image"):
        search(network, alone, item="p05")


def test_labels_are_told_by_neighbours_in_both_spaces(
    network: TinyNetwork, dataset: IndexedDataset, own_home: Path
) -> None:
    _, result = search(network, dataset)
    table = result.tables["accuracy"]
    assert table["k"].tolist() == list(range(1, 11))
    # Dark and light pictures differ in nothing else: pixels tell them apart.
    assert table["pixels"][0] == 1
    assert ((table[["features", "pixels"]] >= 0) & (table[["features", "pixels"]] <= 1)).all(axis=None)
    assert set(result.tables["map"]["neighbours"]) <= {"dark", "light", ""}
    assert len(result.tables["map"]) == 24


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_the_map_keeps_groups_apart_and_is_always_the_same(how: str) -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(20, 8)), rng.normal(size=(20, 8)) + 20]).astype(np.float32)
    points = plane(vectors, how, 0)
    assert points.shape == (40, 2)
    np.testing.assert_array_equal(points, plane(vectors, how, 0))
    apart = np.linalg.norm(points[:20].mean(0) - points[20:].mean(0))
    assert apart > 2 * points[:20].std()
    assert plane(vectors[:, :1], "pca", 0).shape == (40, 2)


def test_an_interrupted_data_set_goes_on_where_it_was(
    network: TinyNetwork, dataset: IndexedDataset, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.engine.look.feature_space.store.SAVED", 8)
    _, whole = search(network, dataset, layer="relu")
    shutil.rmtree(own_home / "features")

    parsed = METHOD.options.parse({"layer": "relu"})
    job = Job(network=network, options=parsed, photo=photos()["p05"], provider="cpu", open_dataset=lambda name: dataset)
    told: list[str] = []

    def stop(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        told.append(message)
        if message.startswith("image 16"):
            raise KeyboardInterrupt

    job.progress = Progress(stop)
    with pytest.raises(KeyboardInterrupt):
        METHOD.run(job)
    before = dataset.asked
    _, again = search(network, dataset, layer="relu")
    assert again.tables["map"].equals(whole.tables["map"])
    assert again.tables["neighbors"].equals(whole.tables["neighbors"])
    assert dataset.asked - before < len(dataset) + 24


def test_a_whole_data_set_is_kept_for_the_questions_that_follow(
    network: TinyNetwork, dataset: IndexedDataset, own_home: Path
) -> None:
    parsed = FEATURES.options.parse({"layer": "relu", "map": "pca"})
    job = Job(network=network, options=parsed, provider="cpu", open_dataset=lambda name: dataset)
    result = FEATURES.run(job)
    assert result.arrays["features"].shape == (24, 6)
    table = result.tables["map"]
    assert set(table["prediction"]) <= set(network.card.classes)
    wrong = table["label"] != table["neighbours"]
    assert (wrong == (table["error"] == "wrong")).all()
    assert result.images["map.jpg"].shape[1] == 5 * 64
    asked = dataset.asked
    search(network, dataset, layer="relu", map="none")
    # Only the twelve of each gallery are read again.
    assert dataset.asked - asked == 24


def test_errors_are_the_networks_own_where_labels_are_its_classes(network: TinyNetwork, own_home: Path) -> None:
    names = ("Class_1", "class 2")
    dataset = IndexedDataset(photos(), {key: names[place % 2] for place, key in enumerate(photos())})
    _, result = search(network, dataset, layer="relu")
    table = result.tables["map"]
    right = table["label"].str.lower().str.replace("_", " ") == table["prediction"]
    assert (right == (table["error"] == "right")).all()


def test_no_room_on_the_disk_is_one_line(
    network: TinyNetwork, dataset: IndexedDataset, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OptionsError, match="make room, name a layer with fewer units"):
        search(network, dataset)


def test_features_that_were_dropped_are_computed_again(
    network: TinyNetwork, dataset: IndexedDataset, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea.engine.look.feature_space import cache as feature_cache

    search(network, dataset, layer="relu", map="none")
    monkeypatch.setattr(feature_cache, "IN_USE_SECONDS", -1.0)
    monkeypatch.setattr(feature_cache, "KEPT_BYTES", 0)
    search(network, dataset, layer="second", map="none")
    (left,) = (path for path in (own_home / "features").iterdir() if path.is_dir())
    asked = dataset.asked
    _, again = search(network, dataset, layer="relu", map="none")
    assert dataset.asked > asked
    assert again.summary["images"] == 24
    assert not left.exists()
