"""Public sets: laid out as torchvision lays them out they get their labels; no connection is one line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fovea.models.torchvision_compat  # noqa: F401 - before torchvision
from fovea.engine.data.catalogue import known_datasets, open_dataset
from fovea.engine.data.downloads import DOWNLOADS, download_dataset
from fovea.engine.errors import DatasetError, UnknownNameError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fetch fails; the addresses that were asked for are listed."""
    from torchvision.datasets import caltech, dtd, flowers102, imagenette, oxford_iiit_pet

    asked: list[str] = []

    def fails(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    for module in (caltech, dtd, flowers102, imagenette, oxford_iiit_pet):
        monkeypatch.setattr(module, "download_and_extract_archive", fails)
    return asked


@pytest.mark.parametrize("name", DOWNLOADS)
def test_without_a_connection(name: str, tmp_path: Path, own_home: Path, no_connection: list[str]) -> None:
    with pytest.raises(DatasetError, match=r"could not be fetched into .*Name or service not known.*: try again"):
        download_dataset(name, tmp_path)
    assert len(no_connection) == 1
    assert list(known_datasets()) == ["sample"]


def test_an_unknown_set() -> None:
    with pytest.raises(UnknownNameError, match="no public data set named 'imagenet': did you mean imagenette"):
        download_dataset("imagenet")


def test_folders_are_registered_with_their_labels(tmp_path: Path, own_home: Path, no_connection: list[str]) -> None:
    picture(tmp_path / "caltech101" / "101_ObjectCategories" / "anchor" / "image_0001.jpg")
    picture(tmp_path / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google" / "image_0001.jpg")
    assert download_dataset("caltech101", tmp_path).labels == ["BACKGROUND_Google", "anchor"]
    for split in ("train", "val", "test"):
        (tmp_path / "dtd" / "dtd" / "labels").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("banded/banded_01.jpg\n")
    picture(tmp_path / "dtd" / "dtd" / "images" / "banded" / "banded_01.jpg")
    assert download_dataset("textures", tmp_path).classes == ["banded"]
    assert not no_connection
    assert open_dataset("textures").keys == ["banded/banded_01.jpg"]


def test_lists_are_written_with_names_for_labels(tmp_path: Path, own_home: Path, no_connection: list[str]) -> None:
    for split in ("train", "val"):
        picture(tmp_path / "imagenette2-320" / split / "n01440764" / f"{split}.jpeg")
        picture(tmp_path / "imagenette2-320" / split / "n03394916" / f"{split}.jpeg")
    found = download_dataset("imagenette", tmp_path)
    assert found.labels == ["tench", "French horn"] * 2
    assert found.keys[0] == "imagenette2-320/train/n01440764/train.jpeg"
    pets = tmp_path / "oxford-iiit-pet"
    (pets / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        (pets / "annotations" / f"{split}.txt").write_text(f"Abyssinian_{split} 1 1 1\ngreat_dane_{split} 2 2 1\n")
        for name in ("Abyssinian", "great_dane"):
            picture(pets / "images" / f"{name}_{split}.jpg")
    assert download_dataset("pets", tmp_path).classes == ["Abyssinian", "Great Dane"]
    with open(tmp_path / "pets.csv") as file:
        assert next(csv.reader(file)) == ["path", "label"]
    assert list(known_datasets()) == ["sample", "imagenette", "pets"]


@pytest.mark.parametrize("download", DOWNLOADS.values(), ids=lambda one: one.name)
def test_every_set_says_what_it_is(download: Any) -> None:
    assert download.licence
    assert download.images > 1000
    assert download.megabytes > 50
    assert download.home.startswith("https://")
