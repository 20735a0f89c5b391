"""The network that ships: its definition, its weights, and that it is as good as its card says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fovea.models.bundled import data as photos
from fovea.models.bundled import net as bundled
from fovea.models.bundled.evaluate import evaluate

CARD = Path(bundled.__file__).with_name("CARD.md")


@pytest.fixture(scope="module")
def network() -> bundled.FoveaNet:
    return bundled.load()


def test_weights_are_those_of_the_card() -> None:
    assert hashlib.sha256(bundled.WEIGHTS.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")
    assert bundled.WEIGHTS.stat().st_size < 10_000_000


def test_weights_fit_the_definition(network: bundled.FoveaNet) -> None:
    stored = load_file(bundled.WEIGHTS)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert all(value.isfinite().all() for value in stored.values())
    state = network.state_dict()
    for name, value in stored.items():
        assert torch.equal(state[name], value.float()), name
    assert not {name for name in state if not name.endswith("num_batches_tracked")} - set(stored)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert 3_300_000 <= parameters <= 4_500_000
    assert f"{parameters:,}" in CARD.read_text(encoding="utf-8")


def test_every_step_is_a_named_module(network: bundled.FoveaNet) -> None:
    leaves = [name for name, module in network.named_modules() if not list(module.children())]
    assert leaves[:4] == ["stem.conv", "stem.bn", "stem.relu", "pool0"]
    assert leaves[-3:] == ["avgpool", "flatten", "fc"]
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == 9
    assert not any(relu.inplace for relu in relus)


def test_class_names_are_readable_and_one_for_each_logit(network: bundled.FoveaNet) -> None:
    names = bundled.class_names()
    assert len(names) == len(set(names)) == network.fc.out_features == 102
    assert {"wild cat", "motorbike", "pagoda", "sunflower", "cup", "face"} <= set(names)
    assert not any("_" in name or name != name.strip() for name in names)


@pytest.mark.parametrize("size", [(128, 128), (97, 160), (300, 224), (16, 16)])
def test_any_size_of_input_gives_finite_logits(network: bundled.FoveaNet, size: tuple[int, int]) -> None:
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 102)
    assert logits.isfinite().all()


def test_normalise_is_the_plain_formula() -> None:
    pixels = torch.randint(0, 256, (1, 3, 4, 5), dtype=torch.uint8)
    out = bundled.normalise(pixels)
    for channel in range(3):
        expected = (pixels[0, channel].double() / 255 - bundled.MEAN[channel]) / bundled.STD[channel]
        assert torch.allclose(out[0, channel].double(), expected, atol=1e-6)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = load_file(bundled.WEIGHTS)
    state["stem.conv.weight"] = torch.zeros(2, 3, 7, 7)
    save_file(state, str(tmp_path / "odd.safetensors"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        bundled.load(tmp_path / "odd.safetensors")


def test_held_out_accuracy_is_what_the_card_says(network: bundled.FoveaNet, data: Path) -> None:
    folder = data / "caltech101"
    if not folder.is_dir():
        pytest.skip("Caltech-101 is not beside the checkout (../shared/data/caltech101)")
    stated = re.search(r"top-1\D*([\d.]+) ?%", CARD.read_text(encoding="utf-8"))
    assert stated is not None
    expected = float(stated[1]) / 100
    _, held_out = photos.split(folder)
    sample = held_out[::4]
    score = evaluate(network, photos.centre_crops(sample), np.array([photo.label for photo in sample]))
    error = (expected * (1 - expected) / len(sample)) ** 0.5
    assert abs(score.top1 - expected) < 3 * error
    assert score.dead_share < 0.05
