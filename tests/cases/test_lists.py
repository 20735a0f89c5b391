"""Lists and folders of images as other tools write them: what is image and what label, and that a guess is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.errors import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures in a folder, one of them with a space in its name."""
    (tmp_path / "pictures").mkdir()
    for level, name in enumerate(("a.png", "my b.png")):
        Image.new("RGB", (8, 8), (level, 0, 0)).save(tmp_path / "pictures" / name)
    return tmp_path


A, B = "pictures/a.png", "pictures/my b.png"


@pytest.mark.parametrize(
    ("name", "text", "labels", "attributes"),
    [
        ("metadata.csv", f"file_name,text,label\n{A},a hello,cat\n{B},a yawn,dog\n", ["cat", "dog"], ["text"]),
        ("filepath.csv", f"filepath,class_name\n{A},cat\n{B},dog\n", ["cat", "dog"], []),
        ("ids.csv", f"filename,class_id\n{A},3\n{B},4\n", ["3", "4"], []),
        ("both.csv", f"class_id,Image Path,Class Name\n3,{A},cat\n4,{B},dog\n", ["cat", "dog"], ["class_id"]),
        ("last.csv", f"split,species,img\ntrain,cat,{A}\nval,dog,{B}\n", ["cat", "dog"], ["split"]),
        ("unnamed.csv", f"where it lies,label\n{A},cat\n{B},dog\n", ["cat", "dog"], []),
        ("bare.csv", f"{A},cat\n{B},dog\n", ["cat", "dog"], []),
        ("turned.csv", f"cat,{A}\ndog,{B}\n", ["cat", "dog"], []),
        ("quoted.csv", f'"path","label"\n"{A}","cat, old"\n"{B}","dog"\n', ["cat, old", "dog"], []),
        ("semicolon.csv", f"path;label\n{A};cat\n{B};dog\n", ["cat", "dog"], []),
        ("bare_semicolon.csv", f"{A};cat\n{B};dog\n", ["cat", "dog"], []),
        ("tabs.csv", f"path\tlabel\n{A}\tcat\n{B}\tdog\n", ["cat", "dog"], []),
        ("commas.tsv", f"path,label\n{A},cat\n{B},dog\n", ["cat", "dog"], []),
        ("windows.csv", f"path,label\r\n{A},cat\r\n{B},dog\r\n".replace("/", "\\"), ["cat", "dog"], []),
        ("caffe.txt", f"{A} 0\n{B} 1\n", ["0", "1"], []),
        ("caffe_windows.txt", f"{A} 0\n{B} 1\n".replace("/", "\\"), ["0", "1"], []),
        ("spaces.txt", f"{A}   tabby cat\n{B}   dog\n", ["tabby cat", "dog"], []),
        ("table.txt", f"path;label\n{A};cat\n{B};dog\n", ["cat", "dog"], []),
        ("commas.txt", f"{A},cat\n{B},dog\n", ["cat", "dog"], []),
        ("header.txt", f"filename label\n{A} cat\n{B} dog\n", ["cat", "dog"], []),
        ("turned.txt", f"0 {A}\n1 {B}\n", ["0", "1"], []),
        ("plain.txt", f"# pets\n{A}\n\n{B}\n", None, []),
        ("nothing.csv", f"path,author\n{A},me\n{B},you\n", None, ["author"]),
        ("one.csv", f"image\n{A}\n{B}\n", None, []),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_of_two(
    root: Path, name: str, text: str, labels: list[str] | None, attributes: list[str], encoding: str
) -> None:
    (root / name).write_bytes(text.encode(encoding))
    found = open_dataset(root / name)
    assert found.keys == [A, B]
    assert [found.photo(index).getpixel((0, 0)) for index in range(2)] == [(0, 0, 0), (1, 0, 0)]
    assert found.labels == labels
    assert sorted(found.attributes) == attributes
    assert all(len(values) == 2 for values in found.attributes.values())
    if (labels is None and "," in text) or attributes:
        assert any("attributes" in note or "none a label" in note for note in found.notes), found.notes


def test_what_is_guessed_is_told(root: Path) -> None:
    (root / "m.csv").write_text(f"file_name;text;label\n{A.replace('/', chr(92))};hello;cat\n")
    told = " · ".join(open_dataset(root / "m.csv").notes)
    for word in ("semicolons", "file_name is the image", "label the label", "attributes: text", "backslashes"):
        assert word in told
    (root / "plain.csv").write_text(f"path,label\n{A},cat\n")
    assert open_dataset(root / "plain.csv").notes == []


def test_columns_that_cannot_be_told_apart_are_asked_for(root: Path) -> None:
    (root / "two.csv").write_text(f"left,right,label\n{A},{B},cat\n{B},{A},dog\n")
    with pytest.raises(
        DatasetError, match="left and right of them hold image files: call the one that names the images"
    ):
        open_dataset(root / "two.csv")
    (root / "masks.csv").write_text(f"image,mask\n{A},{B}\n{B},{A}\n")
    assert open_dataset(root / "masks.csv").keys == [A, B]


def folder(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / path)
    return root


@pytest.mark.parametrize(
    "splits",
    [
        ("train", "val"),
        ("Training", "Validation", "Test"),
        ("train2017", "val2017"),
        ("train_set", "test-set"),
        ("dev",),
    ],
)
def test_splits_are_no_labels(tmp_path: Path, splits: tuple[str, ...]) -> None:
    root = folder(tmp_path / "set", *(f"{split}/{label}/{split}.png" for split in splits for label in ("cat", "dog")))
    found = open_dataset(root)
    assert found.classes == ["cat", "dog"]
    assert set(found.attributes["split"]) == set(splits)
    assert "splits" in found.notes[0]


def test_splits_without_labels(tmp_path: Path) -> None:
    found = open_dataset(folder(tmp_path / "set", "train/a.png", "val/b.png"))
    assert found.labels is None
    assert found.attributes["split"] == ["train", "val"]
    assert "no labels" in found.notes[0]


def test_a_folder_that_holds_everything_is_passed_through(tmp_path: Path) -> None:
    found = open_dataset(folder(tmp_path / "set", "data/train/cat/a.png", "data/val/dog/b.png"))
    assert found.classes == ["cat", "dog"]
    assert found.attributes["split"] == ["train", "val"]
    assert open_dataset(folder(tmp_path / "two", "images/cat/a.png", "images/dog/b.png")).classes == ["cat", "dog"]


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    found = open_dataset(folder(tmp_path / "set", "train/a.png", "plane/b.png"))
    assert found.classes == ["plane", "train"]
    assert found.notes == []
    assert open_dataset(folder(tmp_path / "one", "cat/long/a.png", "cat/b.png")).classes == ["cat"]
