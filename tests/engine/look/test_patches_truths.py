"""Mining on what people have: a data set with broken files, and boxes that hold all that a unit sees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.look.patches import METHOD
from fovea.engine.method import Job, Result
from fovea.models.torch_net import forward_taps
from tests.networks.modules import Tiny
from tests.networks.tiny import TinyNetwork, exported_network

SIZE = (32, 40)


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def broken_files() -> dict[str, bytes]:
    """Twelve kinds of files that are no images, or none any more."""
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    huge = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    huge[18:26] = (40_000).to_bytes(4, "little") * 2
    return {
        "empty.jpg": b"",
        "text.png": b"not a picture at all",
        "page.jpg": b"<!doctype html><title>404</title>",
        "half.jpg": encoded(picture, "JPEG")[: len(encoded(picture, "JPEG")) // 2],
        "half.png": encoded(picture, "PNG")[:-200],
        "half.gif": encoded(picture.quantize(), "GIF")[:300],
        "half.webp": encoded(picture, "WEBP")[:80],
        "half.tif": encoded(picture, "TIFF")[:900],
        "head.bmp": encoded(picture, "BMP")[:30],
        "huge.bmp": bytes(huge),
        "film.webp": b"\x00\x00\x00\x20ftypisom" + bytes(64),
        "zip.tiff": b"PK\x03\x04" + bytes(64),
    }


def mine(network: TinyNetwork, folder: Path, **options: Any) -> Result:
    parsed = METHOD.options.parse({"dataset": str(folder)} | options)
    return METHOD.run(Job(network=network, options=parsed, provider="cpu", open_dataset=open_dataset))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=SIZE)


def test_a_data_set_with_broken_files_of_twelve_kinds_finishes_and_lists_each(
    network: TinyNetwork, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(228):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        folder = tmp_path / f"label{index % 3}"
        folder.mkdir(exist_ok=True)
        small.resize((48, 40)).save(folder / f"{index:03d}.jpg")
    whole = mine(network, tmp_path, layers="relu,second", top=5)
    for index, (name, content) in enumerate(broken_files().items()):
        (tmp_path / f"label{index % 3}" / name).write_bytes(content)

    result = mine(network, tmp_path, layers="relu,second", top=5)
    listed = result.tables["unreadable"]
    assert sorted(Path(key).name for key in listed["image"]) == sorted(broken_files())
    assert all("\n" not in reason and Path(key).name in reason for key, reason in listed.itertuples(index=False))
    assert result.summary["images"] == 228
    assert result.summary["unreadable"] == 12 == 0.05 * 240
    # What is broken changes nothing in what is found.
    for name in ("patches", "units"):
        assert result.tables[name].equals(whole.tables[name])
    assert any(getattr(panel, "table", "") == "unreadable" for panel in result.panels)


@pytest.mark.parametrize("architecture", ["tiny", "torchvision:squeezenet1_1@random", "torchvision:resnet18@random"])
def test_the_box_of_a_patch_holds_all_that_can_change_its_score(
    architecture: str, network: TinyNetwork, tmp_path: Path
) -> None:
    """A pixel outside of the box has no gradient at the unit's place, whatever the picture is."""
    from fovea.models.zoo import load

    looked_at: Any = network if architecture == "tiny" else load(architecture)
    layers = {
        "tiny": "first,relu,pool,second",
        "torchvision:squeezenet1_1@random": "features.1,features.7",
        "torchvision:resnet18@random": "relu,layer1",
    }[architecture]
    rng = np.random.default_rng(2)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    table = mine(looked_at, tmp_path, layers=layers, top=2).tables["patches"]
    preprocessing = looked_at.card.preprocessing
    inside = 0
    for row in table.groupby("layer").sample(4, random_state=0).itertuples():
        frame = preprocessing.frame(Image.open(tmp_path / row.image))
        pixels = torch.from_numpy(preprocessing.normalise(frame)[None]).requires_grad_()
        maps = forward_taps(looked_at.module(), pixels, [row.layer])[row.layer]
        (gradient,) = torch.autograd.grad(maps[0, row.unit, row.y, row.x], pixels)
        reached = (gradient[0] != 0).any(0).numpy()
        box = np.zeros_like(reached)
        box[row.box_y0 : row.box_y1, row.box_x0 : row.box_x1] = True
        assert not (reached & ~box).any(), row
        inside += int(reached.any())
    assert inside > 0
