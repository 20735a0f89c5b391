"""Data sets: stable keys, labels, broken images listed and never fatal, frames in order with bounded memory."""

from __future__ import annotations

import importlib
import itertools
import os
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.engine.data import source
from fovea.engine.data.catalogue import known_datasets, open_dataset, register_dataset, unregister_dataset
from fovea.engine.data.dataset import Dataset, Unreadable, spread
from fovea.engine.data.photos import open_photo
from fovea.engine.data.survey import inspect_dataset, mean_image
from fovea.engine.errors import DatasetError, ImageError, UnknownNameError
from fovea.models.card import Preprocessing

SMALL = Preprocessing(size=(8, 8), resize=8)


def picture(path: Path, level: int, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels, one nested deeper, one image at the root, one broken, and files that are no images."""
    root = tmp_path / "pets"
    picture(root / "dog" / "b.png", 20)
    picture(root / "dog" / "a.JPG", 10)
    picture(root / "cat" / "long" / "c.png", 30)
    picture(root / "stray.png", 40)
    (root / "dog" / "broken.jpg").write_text("not a picture")
    (root / "dog" / "notes.txt").write_text("not an image of the set")
    picture(root / ".hidden" / "x.png", 0)
    picture(root / "dog" / "._a.png", 0)
    return root


def test_a_folder_has_sorted_keys_and_first_folder_labels(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.keys == ["cat/long/c.png", "dog/a.JPG", "dog/b.png", "dog/broken.jpg", "stray.png"]
    assert dataset.labels == ["cat", "dog", "dog", "dog", ""]
    assert dataset.classes == ["cat", "dog"]
    assert (len(dataset), dataset.name, dataset.label(0)) == (5, "pets", "cat")
    assert dataset.photo(2).getpixel((0, 0)) == (20, 20, 20)
    assert dataset.index_of("dog/b.png") == 2
    assert dataset.thumbnail(2, 6).size == (6, 5)
    assert "simplejpeg" in dataset.decoder
    with pytest.raises(UnknownNameError, match=r"no image named 'dog/z\.png'"):
        dataset.index_of("dog/z.png")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 1)
    assert open_dataset(tmp_path).labels is None


def test_frames_come_in_order_and_list_what_is_broken(folder: Path) -> None:
    unreadable: list[Unreadable] = []
    dataset = open_dataset(folder)
    frames = list(dataset.frames(SMALL, [4, 3, 0, 2], threads=3, unreadable=unreadable))
    assert [index for index, _ in frames] == [4, 0, 2]
    assert [int(frame[0, 0, 0]) for _, frame in frames] == [40, 30, 20]
    assert all(frame.shape == (8, 8, 3) and frame.dtype == np.uint8 for _, frame in frames)
    assert [one.key for one in unreadable] == ["dog/broken.jpg"]
    assert unreadable[0].reason.startswith("broken.jpg is text, not an image")


def test_frames_are_decoded_only_a_few_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is flat: however many images are asked for, no more than a few wait to be taken."""
    dataset = open_dataset(folder)
    lock, decoded = threading.Lock(), itertools.count()
    newest = 0

    def frame(index: int, preprocessing: Preprocessing) -> np.ndarray:
        nonlocal newest
        with lock:
            newest = next(decoded) + 1
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(dataset, "frame", frame)
    asked = 0

    def endless() -> itertools.count[int]:
        nonlocal asked
        for _ in itertools.count():
            asked += 1
            yield 0

    frames = dataset.frames(SMALL, endless(), threads=2)
    for taken, _ in zip(range(50), frames, strict=False):
        assert asked <= taken + 1 + 8
    frames.close()
    assert newest <= 50 + 8


def test_an_error_that_is_no_image_error_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(folder)

    def fails(index: int, preprocessing: Preprocessing) -> np.ndarray:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(dataset, "frame", fails)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        list(dataset.frames(SMALL, [0, 1]))


def test_the_manifest_follows_the_content(folder: Path) -> None:
    before = open_dataset(folder).manifest_sha256()
    assert open_dataset(folder).manifest_sha256() == before
    os.utime(folder / "stray.png", ns=(1, 1))
    touched = open_dataset(folder).manifest_sha256()
    (folder / "stray.png").rename(folder / "stray2.png")
    assert len({before, touched, open_dataset(folder).manifest_sha256()}) == 3


def test_a_link_to_its_own_folder_ends(folder: Path) -> None:
    (folder / "dog" / "again").symlink_to(folder, target_is_directory=True)
    assert len(open_dataset(folder)) == 5


def test_empty_and_broken_sets_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="data set empty has no images"):
        open_dataset(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    for name in "ab":
        (tmp_path / "broken" / f"{name}.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"data set broken: none of its 2 images can be read; the first: a\.png"):
        open_dataset(tmp_path / "broken")
    assert len(open_dataset(tmp_path / "broken", check=False)) == 2
    (tmp_path / "nothing.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"data set nothing\.txt has no images"):
        open_dataset(tmp_path / "nothing.txt")


def test_wrong_names_get_one_line(tmp_path: Path, own_home: Path) -> None:
    with pytest.raises(UnknownNameError, match="no data set named 'sampel': did you mean sample"):
        open_dataset("sampel")
    with pytest.raises(DatasetError, match="no folder or list file at"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="got nothing"):
        open_dataset("")
    picture(tmp_path / "one.png", 1)
    with pytest.raises(DatasetError, match=r"one\.png is not a data set: give a folder of images, or a list"):
        open_dataset(tmp_path / "one.png")


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("list.txt", "# pets\ndog/a.JPG\n\nstray.png\n", None),
        ("list.txt", "dog/a.JPG\tdog\nstray.png\tnobody's\n", ["dog", "nobody's"]),
        ("list.csv", "dog/a.JPG,dog\nstray.png,cat\n", ["dog", "cat"]),
        ("list.csv", 'label,path\ndog,dog/a.JPG\n"cat, old",stray.png\n', ["dog", "cat, old"]),
        ("list.csv", "path,author\ndog/a.JPG,me\nstray.png,you\n", None),
        ("list.tsv", "\ufeffimage\tclass\ndog/a.JPG\t1\nstray.png\t2\n", ["1", "2"]),
    ],
)
def test_lists(folder: Path, name: str, text: str, labels: list[str] | None) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    dataset = open_dataset(folder / name)
    assert dataset.keys == ["dog/a.JPG", "stray.png"]
    assert dataset.labels == labels
    assert dataset.photo(1).size == (12, 10)


def test_a_list_may_repeat_an_image_and_name_missing_ones(folder: Path) -> None:
    (folder / "list.txt").write_text(f"stray.png\nstray.png\n{folder / 'dog' / 'b.png'}\ngone.png\n")
    dataset = open_dataset(folder / "list.txt")
    assert dataset.keys == ["stray.png", "stray.png#2", str(folder / "dog" / "b.png"), "gone.png"]
    unreadable: list[Unreadable] = []
    assert len(list(dataset.frames(SMALL, range(4), unreadable=unreadable))) == 3
    assert "no photo at" in unreadable[0].reason


def test_registered_names(folder: Path, own_home: Path) -> None:
    assert list(known_datasets()) == ["sample"]
    named = register_dataset("my-pets", folder)
    assert named.reference(2) == "item:my-pets/dog/b.png"
    assert open_photo("item:my-pets/dog/b.png").getpixel((0, 0)) == (20, 20, 20)
    assert known_datasets() == {"sample": "crops of the sample photos", "my-pets": str(folder)}
    opened = open_dataset("my-pets")
    assert (opened.name, len(opened)) == ("my-pets", 5)
    unregister_dataset("my-pets")
    assert list(known_datasets()) == ["sample"]
    with pytest.raises(UnknownNameError, match="no data set named 'my-pets'"):
        unregister_dataset("my-pets")


@pytest.mark.parametrize("name", ["sample", "", "a/b", "../x", "a b", "-x", 'q"]', "x\n"])
def test_bad_names_are_refused(folder: Path, own_home: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="a data set's name has letters"):
        register_dataset(name, folder)
    assert not (own_home / "datasets.toml").exists()


def test_a_strange_path_survives_the_registry(tmp_path: Path, own_home: Path) -> None:
    strange = tmp_path / 'a "quoted" \\ back\tslash é'
    picture(strange / "one.png", 1)
    register_dataset("strange", strange)
    assert len(open_dataset("strange")) == 1


def test_a_broken_registry_is_one_line(own_home: Path) -> None:
    own_home.mkdir()
    for text in ("not toml [", "[datasets.x]\nroot = 1\n", "datasets = 3\n"):
        (own_home / "datasets.toml").write_text(text)
        with pytest.raises(DatasetError, match="cannot be read") as caught:
            open_dataset("anything")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["../secret.png", "/etc/passwd", "dog/../../secret.png", "", "dog", "nothing.png"])
def test_an_item_cannot_leave_its_data_set(folder: Path, own_home: Path, key: str) -> None:
    picture(folder.parent / "secret.png", 9)
    register_dataset("pets", folder)
    with pytest.raises(ImageError):
        open_photo(f"item:pets/{key}")


def test_items_of_sample_and_of_unknown_sets(own_home: Path) -> None:
    sample = open_dataset("sample")
    assert open_photo(sample.reference(3)).tobytes() == sample.photo(3).tobytes()
    with pytest.raises(ImageError, match="no data set named 'samples': did you mean sample"):
        open_photo("item:samples/cat")
    with pytest.raises(ImageError, match="no image named 'cat/nothing' in data set sample"):
        open_photo("item:sample/cat/nothing")


def test_the_sample_crops_never_overlap() -> None:
    sample = open_dataset("sample")
    assert 200 <= len(sample) <= 500
    assert sample.labels is not None
    assert len(set(sample.keys)) == len(sample)
    assert len(sample.classes) >= 12
    taken: dict[str, np.ndarray] = {}
    sides = set()
    for index, (picture_name, (left, top, right, bottom)) in enumerate(sample._boxes):  # type: ignore[attr-defined]
        used = taken.setdefault(picture_name, np.zeros((1500, 1500), bool))
        assert not used[top:bottom, left:right].any(), sample.keys[index]
        used[top:bottom, left:right] = True
        sides.add(right - left)
        assert sample.label(index) == picture_name
    assert len(sides) > 8
    assert min(sides) >= 64
    assert sample.photo(0).size[0] in sides
    assert sample.manifest_sha256() == open_dataset("sample").manifest_sha256()


def test_inspection(folder: Path) -> None:
    report = inspect_dataset(open_dataset(folder))
    assert report.labels == {"cat": 1, "dog": 3, "": 1}
    assert report.sizes == {(12, 10): 4}
    assert [one.key for one in report.unreadable] == ["dog/broken.jpg"]
    assert report.summary() == {
        "images": 5,
        "labels": 2,
        "looked at": 5,
        "unreadable": 1,
        "smallest side": "10 px",
        "median size": "12 × 10 px",
    }
    assert list(spread(10, 3)) == [0, 3, 6]
    assert list(spread(2, 5)) == [0, 1]


def test_the_mean_leaves_broken_images_out(folder: Path) -> None:
    dataset = open_dataset(folder)
    mean = mean_image(dataset, SMALL)
    assert mean.shape == (8, 8, 3)
    assert mean.dtype == np.float32
    assert np.allclose(mean, 25, atol=0.6)
    assert np.allclose(mean_image(dataset, SMALL).mean((0, 1)), 25, atol=0.6)


def test_no_mean_of_nothing(folder: Path) -> None:
    broken = Dataset("broken", [], None)
    with pytest.raises(DatasetError, match="has no mean image"):
        mean_image(broken, SMALL)


def test_real_photos(data: Path) -> None:
    dataset = open_dataset(data / "caltech101")
    assert len(dataset) == 9144
    assert len(dataset.classes) == 102
    frames = list(dataset.frames(Preprocessing(), range(0, 9144, 1000), threads=2))
    assert len(frames) == 10
    assert frames[0][1].shape == (224, 224, 3)


def test_a_users_comments_in_the_registry_stay(folder: Path, own_home: Path) -> None:
    own_home.mkdir()
    written = f'# My sets.\n[datasets.pets]  # the good ones\npath = "{folder}"  # do not move\n'
    (own_home / "datasets.toml").write_text(written)
    register_dataset("again", folder)
    assert (own_home / "datasets.toml").read_text().startswith(written)
    assert set(known_datasets()) == {"sample", "pets", "again"}
    unregister_dataset("again")
    assert (own_home / "datasets.toml").read_text().strip() == written.strip()


@pytest.mark.parametrize(
    "written",
    [
        '[datasets]\npets = {{ path = "{0}" }}  # in one line\n',
        '[datasets.pets]\r\npath = "{0}"\r\n# below\r\n',
        '[datasets.pets]\npath = "{0}"\n[other]\nkey = [1,\n 2]\n[datasets.more]\npath = "{0}"\n',
    ],
)
def test_however_the_registry_is_written_nothing_else_changes(folder: Path, own_home: Path, written: str) -> None:
    own_home.mkdir()
    file = own_home / "datasets.toml"
    file.write_bytes(written.format(folder).encode())
    before = tomllib.loads(file.read_bytes().decode())
    register_dataset("again", folder)
    after = tomllib.loads(file.read_bytes().decode())
    assert after.pop("datasets") == before.pop("datasets") | {"again": {"path": str(folder)}}
    assert after == before
    unregister_dataset("again")
    assert tomllib.loads(file.read_bytes().decode()) == tomllib.loads(written.format(folder))


def test_a_registry_that_cannot_be_edited_here_stays_as_it_is(folder: Path, own_home: Path) -> None:
    own_home.mkdir()
    written = f'datasets = {{ pets = {{ path = "{folder}" }} }}\n[other]\nkey = 1\n'
    (own_home / "datasets.toml").write_text(written)
    with pytest.raises(DatasetError, match=r"edit \[datasets\.again\] by hand"):
        register_dataset("again", folder)
    assert (own_home / "datasets.toml").read_text() == written


NEW_SOURCE = '''
"""Every page of a multi-page TIFF as an image."""

from pathlib import Path

from PIL import Image

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.source import Source


class Pages(Dataset):
    def __init__(self, file: Path, name: str) -> None:
        self.file = file
        with Image.open(file) as picture:
            super().__init__(name or file.name, [str(page) for page in range(picture.n_frames)], None)

    def path(self, index: int) -> None:
        return None

    def photo(self, index: int) -> Image.Image:
        with Image.open(self.file) as picture:
            picture.seek(index)
            return picture.convert("RGB")


SOURCE = Source(title="a TIFF of many pages", takes=lambda path: path.suffix == ".tiff", open=Pages)
'''


def test_a_new_source_is_one_new_file(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pages_of_tiff.py").write_text(NEW_SOURCE)
    folder = importlib.import_module("fovea.engine.data.sources")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    source.sources.cache_clear()
    try:
        pages = [Image.new("RGB", (9, 7), (level, 0, 0)) for level in (10, 20, 30)]
        pages[0].save(tmp_path / "scan.tiff", save_all=True, append_images=pages[1:])
        found = register_dataset("scan", tmp_path / "scan.tiff")
        assert found.keys == ["0", "1", "2"]
        assert open_dataset("scan").photo(2).getpixel((0, 0)) == (30, 0, 0)
        assert open_photo("item:scan/1").getpixel((0, 0)) == (20, 0, 0)
        assert [frame.shape for _, frame in found.frames(SMALL, range(3))] == [(8, 8, 3)] * 3
        with pytest.raises(DatasetError, match="or a TIFF of many pages"):
            open_dataset(tmp_path / "pages_of_tiff.py")
    finally:
        source.sources.cache_clear()
