"""The sample photos are in the packages, lie inside their pictures, and say whose they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fovea.engine.data.photos import open_photo, photo_name, photo_sha256
from fovea.engine.data.samples import SAMPLES, sample_pictures
from fovea.engine.errors import ImageError

NAMED = ["cat", "face", "coffee", "motorcycle", "temple", "flower", "rocket", "hubble", "tissue", "brick", "grass"]


def test_the_promised_names_are_there() -> None:
    assert set(NAMED) <= set(SAMPLES)
    assert {"cat-full", "temple-full"} <= set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_opens(name: str) -> None:
    sample = SAMPLES[name]
    photo = open_photo(f"sample:{name}")
    assert photo.mode == "RGB"
    assert min(photo.size) >= 224
    with Image.open(sample.path) as whole:
        if sample.box is None:
            assert photo.size == whole.size
        else:
            left, top, right, bottom = sample.box
            assert 0 <= left < right <= whole.width
            assert 0 <= top < bottom <= whole.height
            assert right - left == bottom - top
    assert sample.title
    assert sample.licence
    assert sample.credit


def test_each_picture_is_there_once() -> None:
    files = [sample.file for sample in sample_pictures().values()]
    assert len(files) == len(set(files)) >= 12


def test_names_and_content() -> None:
    assert photo_name("sample:cat") == "cat"
    assert photo_sha256("sample:cat") == photo_sha256("sample:cat") != photo_sha256("sample:cat-full")


def test_a_missing_picture_names_its_package() -> None:
    with pytest.raises(ImageError, match="which this installation lacks: reinstall scikit-image"):
        _ = replace(SAMPLES["cat"], file="nothing.png").path


def test_samples_import_neither_package() -> None:
    code = (
        "import sys; from fovea.engine.data.photos import open_photo; open_photo('sample:temple'); "
        "print([m for m in ('skimage', 'sklearn', 'torch') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
