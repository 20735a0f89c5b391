"""Labels and classes, accuracy against counting by hand, parity, and the run that `networks check` is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.engine.look.checking.accuracy import match_labels
from fovea.engine.look.checking.parity import parity
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.store import Store
from fovea.models import registry, zoo
from tests.networks.tiny import tiny_network

CLASSES = ("red cup", "green_cup", "blue cup", "grey cup", "black cup", "white cup")
COLOURS = {"red cup": (220, 30, 30), "green cup": (30, 220, 30), "blue cup": (30, 30, 220)}

SOURCE = '''
from torch import nn


class Colours(nn.Module):
    """Six scores from the mean colour."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 6, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.mix(x)).flatten(1)
'''


@pytest.fixture(scope="module")
def colours(fovea_home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registered network that knows red from green from blue, but calls what is blue grey."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "colours.py").write_text(SOURCE)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    weights = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [-1, -1, 2], [-9, -9, -9], [-8, -8, -8]])
    save_file(
        {"mix.weight": weights.float().reshape(6, 3, 1, 1), "mix.bias": torch.zeros(6)}, folder / "colours.safetensors"
    )
    registry.register(
        "colours",
        architecture=f"{folder / 'colours.py'}:Colours",
        weights=str(folder / "colours.safetensors"),
        classes=str(folder / "classes.txt"),
        input={"size": [16, 16], "resize": 16, "mean": [0.0] * 3, "std": [1.0] * 3},
    )
    return "colours"


@pytest.fixture(scope="module")
def cups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of red, green, blue cups and of something else; one red cup is broken."""
    root = tmp_path_factory.mktemp("cups")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for index in range(3):
            Image.new("RGB", (20, 20), colour).save(root / name / f"{index}.png")
    (root / "red cup" / "broken.png").write_text("no picture")
    (root / "saucer").mkdir()
    Image.new("RGB", (20, 20)).save(root / "saucer" / "0.png")
    return root


def check(network: str, **options: Any) -> Any:
    """The finished run of `check`."""
    store = Store()
    record = execute(Request(method="check", network=network, options=options, provider="cpu"), store)
    assert record.status == "done", record.error
    return store.run(record.id)


def test_parity_names_every_layer_in_forward_order(colours: str) -> None:
    found = parity(zoo.load(colours))
    assert list(found) == ["mix", "pool", "output"]
    assert max(gap.difference for gap in found.values()) < 1e-5
    assert all(gap.agrees for gap in found.values())


def test_parity_finds_the_layer_that_is_wrong(colours: str) -> None:
    """A torch network whose weights are changed after the export disagrees, and says where."""
    network = zoo.load(colours)
    network.graph()
    mix = network.module("cpu").get_submodule("mix")
    assert isinstance(mix, nn.Conv2d)
    before = mix.weight.clone()
    try:
        mix.weight.data *= 1.5
        found = parity(network)["mix"]
        assert found.difference > 0.1
        assert not found.agrees
        run = check(colours, images=1)
        assert run.record.summary["agrees"] is False
        assert "mix" in run.record.warnings[0]
    finally:
        mix.weight.data.copy_(before)


def test_accuracy_is_what_counting_by_hand_gives(colours: str, cups: Path) -> None:
    run = check(colours, dataset=str(cups))
    summary = run.record.summary
    assert summary["images"] == 9
    assert summary["top-1 (%)"] == pytest.approx(66.67, abs=0.01)
    assert summary["top-5 (%)"] == 100
    assert summary["unreadable"] == 1
    assert run.table("unreadable")["image"][0] == "red cup/broken.png"
    assert any("saucer" in line for line in run.record.warnings)
    table = run.table("accuracy").set_index("label")
    assert table.loc["blue cup", "top-1 (%)"] == 0
    assert table.loc["green cup", "class"] == "green_cup"
    assert run.table("mistakes").to_numpy().tolist() == [["blue cup", "grey cup", 3]]


def test_integer_labels_of_a_list_are_class_indices(colours: str, cups: Path, tmp_path: Path) -> None:
    rows = [(cups / label / f"{index}.png", number) for number, label in enumerate(COLOURS) for index in range(3)]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    assert match_labels(open_dataset(tmp_path / "list.csv"), zoo.load(colours).card).how == "indices"
    run = check(colours, dataset=str(tmp_path / "list.csv"), images=6)
    assert run.record.summary["images"] == 6
    assert run.record.summary["labels read as"] == "class indices"


def test_a_name_that_two_classes_share_counts_for_both(cups: Path) -> None:
    card = tiny_network("twins", nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())).card
    card = card.model_copy(update={"classes": ("red cup", "saucer", "Red_Cup")})
    assert match_labels(open_dataset(cups), card).classes["red cup"] == (0, 2)


def test_what_does_not_go_together_is_one_line(colours: str, cups: Path, tmp_path: Path) -> None:
    (tmp_path / "plates").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "plates" / "0.png")
    card = zoo.load(colours).card
    with pytest.raises(DatasetError, match=r"no label of data set .*\(plates\).* of colours \(red cup.*") as caught:
        match_labels(open_dataset(tmp_path), card)
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="has no labels"):
        match_labels(open_dataset(tmp_path / "plates"), card)
    with pytest.raises(UnsupportedError, match="has no classes"):
        match_labels(open_dataset(cups), card.model_copy(update={"classes": ()}))


def test_an_onnx_file_has_no_torch_twin_and_yet_an_accuracy(colours: str, cups: Path, tmp_path: Path) -> None:
    import onnx

    from fovea.models.card import OUTPUT

    path = tmp_path / "colours.onnx"
    onnx.save(zoo.load(colours).graph().cut([OUTPUT]), str(path))
    registry.register(
        "colours-onnx",
        architecture=f"onnx:{path}",
        classes=str(tmp_path / "classes.txt") if (tmp_path / "classes.txt").write_text("\n".join(CLASSES)) else "",
        input={"size": [16, 16], "resize": 16, "mean": [0.0] * 3, "std": [1.0] * 3},
    )
    try:
        with pytest.raises(UnsupportedError, match="no torch twin"):
            parity(zoo.load("colours-onnx"))
        run = check("colours-onnx", dataset=str(cups))
        assert run.record.summary["top-1 (%)"] == pytest.approx(66.67, abs=0.01)
        assert "parity" not in [getattr(panel, "table", "") for panel in run.record.panels]
    finally:
        registry.unregister("colours-onnx")


def test_real_weights_on_real_photos(data: Path, tmp_path: Path, own_home: Path) -> None:
    """SqueezeNet on photos whose class indices a list names: far above chance, far below perfect."""
    files = {path.stem: path for path in (data / "photos").iterdir()}
    with (data / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = [(files[row["key"]], row["imagenet_class"]) for row in csv.DictReader(file)][:40]
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    weights = data / "weights" / "squeezenet1_1_caffe.safetensors"
    registry.register("squeezenet", architecture="torchvision:squeezenet1_1", weights=str(weights))
    summary = check("squeezenet", dataset=str(tmp_path / "photos.csv")).record.summary
    assert 25 < summary["top-1 (%)"] < 70
    assert summary["top-1 (%)"] < summary["top-5 (%)"]
    assert np.isfinite(summary["largest difference"])
