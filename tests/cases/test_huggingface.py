"""Folders that `save_pretrained` of transformers and `save_for_hf` of timm write: their own answer is the right one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fovea
from fovea.engine.errors import FoveaError
from fovea.models.zoo import load

importlib.import_module("fovea.models.torchvision_compat")
transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
NAMES = {0: "cat", 1: "dog", 2: "cow"}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A smooth picture of 80 x 60 pixels."""
    y, x = np.mgrid[:60, :80]
    Image.fromarray(np.stack([4 * y, 3 * x, x + y], -1).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def resnet(folder: Path) -> Any:
    torch.manual_seed(0)
    facts = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**facts, id2label=NAMES, label2id={name: i for i, name in NAMES.items()})
    model = transformers.ResNetForImageClassification(config).eval()
    for value in model.buffers():
        if value.dtype.is_floating_point:
            value.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    return model


def vit(folder: Path) -> Any:
    torch.manual_seed(1)
    facts = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(**facts, image_size=64, patch_size=16, num_labels=3)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    return model


PROCESSORS = {
    "crop": {"size": {"shortest_edge": 72}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
    "stretched": {"size": {"height": 64, "width": 64}, "resample": 3},
    "by share": {"size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3},
    "flipped": {"size": {"height": 64, "width": 64}, "do_flip_channel_order": True, "do_normalize": False},
    "not rescaled": {
        "size": {"height": 64, "width": 64},
        "do_rescale": False,
        "image_mean": [99.0] * 3,
        "image_std": [50.0] * 3,
    },
}


def prepared(photo: Path, facts: dict[str, Any]) -> torch.Tensor:
    """The input written out by hand, as its documentation has it: resize, crop, rescale, normalise, flip."""
    picture = Image.open(photo).convert("RGB")
    how = Image.Resampling(facts.get("resample", 2))
    size = facts["size"]
    if "height" in size:
        picture = picture.resize((size["width"], size["height"]), how)
    else:
        edge = int(size["shortest_edge"] / facts["crop_pct"]) if "crop_pct" in facts else size["shortest_edge"]
        wide, high = picture.size
        short = min(wide, high)
        picture = picture.resize((int(edge * wide / short), int(edge * high / short)), how)
        left, top = round((picture.width - 64) / 2), round((picture.height - 64) / 2)
        picture = picture.crop((left, top, left + 64, top + 64))
    values = np.asarray(picture, np.float32)
    if facts.get("do_rescale", True):
        values = values / 255
    if facts.get("do_normalize", True):
        values = (values - np.float32(facts.get("image_mean", 0.5))) / np.float32(facts.get("image_std", 0.5))
    if facts.get("do_flip_channel_order"):
        values = values[..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("build", [resnet, vit])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_what_transformers_saved(tmp_path: Path, photo: Path, fovea_home: Path, build: Any, processor: str) -> None:
    folder = tmp_path / "model"
    model = build(folder)
    facts = PROCESSORS[processor]
    written = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2} | facts
    (folder / "preprocessor_config.json").write_text(json.dumps(written))
    with torch.no_grad():
        right = model(prepared(photo, facts)).logits.softmax(1)[0].numpy()
    network = fovea.open(f"hf:{folder}")
    assert network.card.classes == (("cat", "dog", "cow") if build is resnet else ("class 0", "class 1", "class 2"))
    table = network.classify(photo, top=3, device="cpu", provider="cpu").tables["classes"]
    assert dict(zip(table["class"], table["probability"], strict=True)) == pytest.approx(
        dict(zip(network.card.classes, right, strict=True)), abs=1e-3
    )
    if build is vit:
        assert network.saliency(photo, device="cpu").arrays["saliency"].max() > 0


@pytest.mark.parametrize("names", [None, ["cat", "dog", "cow"]])
def test_what_timm_saved(tmp_path: Path, photo: Path, fovea_home: Path, names: list[str] | None) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3).eval()
    timm.models.save_for_hf(model, tmp_path / "model", model_config={"label_names": names} if names else None)
    network = load(f"hf:{tmp_path / 'model'}")
    assert network.card.classes == tuple(names or ("class 0", "class 1", "class 2"))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        right = model(transform(Image.open(photo).convert("RGB"))[None]).softmax(1)[0].max().item()
    run = fovea.open(f"hf:{tmp_path / 'model'}").classify(photo, device="cpu", provider="cpu")
    assert run.summary["probability"] == pytest.approx(right, abs=1e-3)


def test_what_is_no_such_folder_is_one_line(tmp_path: Path, fovea_home: Path) -> None:
    resnet(tmp_path / "model")
    cases = {"missing": "no folder", "empty": "no config.json", "code": "code of its own", "weights": "no weights"}
    (tmp_path / "empty").mkdir()
    for name in ("code", "weights"):
        (tmp_path / name).mkdir()
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        more = {"auto_map": {"AutoModelForImageClassification": "evil.Net"}} if name == "code" else {}
        (tmp_path / name / "config.json").write_text(json.dumps(config | more))
    for name, line in cases.items():
        with pytest.raises(FoveaError, match=line) as caught:
            load(f"hf:{tmp_path / name}")
        assert "\n" not in str(caught.value)


def test_a_folder_is_registered(tmp_path: Path, photo: Path, own_home: Path) -> None:
    from fovea.models.registry import register

    resnet(tmp_path / "model")
    register("mine", architecture=f"hf:{tmp_path / 'model'}", input={"size": 64, "resize": 64})
    card = load("mine").card
    assert card.classes == ("cat", "dog", "cow")
    assert card.preprocessing.size == (64, 64)
    assert any("config.json" in note for note in card.notes)
