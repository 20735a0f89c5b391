"""Attacks: their formulas, their balls in whole grey levels, and success only on the saved pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError
from engine.make.adversarial import ATTACKS, deepfool_step, rounded_change
from engine.method import Job, Result, find_method
from tests.engine.conftest import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("adversarial").run(job)


def classes_of(net: TinyNetwork, pixels: np.ndarray) -> np.ndarray:
    frame = pixels.reshape(*net.card.preprocessing.size, -1)
    x = torch.from_numpy(net.card.preprocessing.normalise(frame)[None])
    values: np.ndarray = net.torch_module(x)[0].softmax(0).numpy()
    return values


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_stays_in_its_ball_and_says_the_truth(attack: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("adversarial", tiny, attack=attack)
    result = run(job)
    png = io.BytesIO()
    Image.fromarray(np.asarray(result.images["adversarial"])).save(png, "PNG")
    pixels = np.asarray(Image.open(png))
    levels = pixels.reshape(job.frame.shape).astype(int) - job.frame
    np.testing.assert_allclose(result.arrays["delta"], np.moveaxis(levels, -1, 0) / 255, atol=1e-7)
    clean, now = int(classes_of(tiny, job.frame).argmax()), classes_of(tiny, pixels)
    assert result.summary["fooled"] is bool(now.argmax() != clean)
    assert result.summary["after_probability"] == pytest.approx(float(now.max()), abs=1e-5)
    assert result.summary["fooled"] or job.warnings
    if ATTACKS[attack].norm == 2 and ATTACKS[attack].bounded:
        assert np.linalg.norm(levels / 255) <= 1.0 + 1e-6
    elif ATTACKS[attack].bounded:
        assert np.abs(levels).max() <= 8
    assert state_of(tiny.torch_module) == before
    again = run(make_job("adversarial", tiny, attack=attack))
    assert np.asarray(again.images["adversarial"]).tobytes() == np.asarray(result.images["adversarial"]).tobytes()


def test_fgsm_is_its_formula_to_the_bit(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    for name in ("residual", "functional", "grey", "wide"):
        net = tiny_networks[name]
        job = make_job("adversarial", net, attack="fgsm", epsilon="4/255")
        x = torch.from_numpy(job.input).requires_grad_(True)
        output = net.torch_module(x)
        loss = nn.functional.cross_entropy(output, output.detach().argmax(1))
        (gradient,) = torch.autograd.grad(loss, x)
        # The normalisation is a positive scale, so the sign in pixel values is that in normalised values.
        expected = np.clip(job.frame + 4 * np.moveaxis(gradient[0].sign().numpy(), 0, -1), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(run(job).images["adversarial"]).reshape(expected.shape), expected)


def test_a_targeted_attack_ends_in_the_target(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["residual"]
    clean = int(classes_of(net, make_job("adversarial", net).frame).argmax())
    for target in range(5):
        options: dict[str, Any] = {"attack": "pgd", "target": str(target), "epsilon": 0.9, "steps": 60}
        if target == clean:
            with pytest.raises(OptionsError, match="already"):
                run(make_job("adversarial", net, **options))
            continue
        job = make_job("adversarial", net, **options)
        result = run(job)
        reached = int(classes_of(net, np.asarray(result.images["adversarial"])).argmax())
        assert result.summary["fooled"] is (reached == target)
        before = classes_of(net, job.frame)[target]
        assert classes_of(net, np.asarray(result.images["adversarial"]))[target] > before


class Linear(nn.Module):
    """Logits that are linear in the input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.flatten(1))
        return out


def test_deepfool_on_a_linear_network_is_the_closed_form() -> None:
    torch.manual_seed(2)
    weights, offsets = torch.randn(5, 3, 4, 4), torch.randn(5)
    x = torch.rand(3, 4, 4)
    logits = (weights * x).sum((1, 2, 3)) + offsets
    label = int(logits.argmax())
    step = deepfool_step(logits, weights, label)
    best = min(
        float((logits[label] - logits[k]) / (weights[k] - weights[label]).norm()) for k in range(5) if k != label
    )
    assert float(step.norm()) == pytest.approx(best, rel=1e-3)
    moved = (weights * (x + 1.0001 * step)).sum((1, 2, 3)) + offsets
    assert int(moved.argmax()) != label


def test_deepfool_finds_a_smaller_change_than_pgd(make_job: Make) -> None:
    torch.manual_seed(0)
    net = tiny_network("linear", Linear(), (8, 8))
    deepfool = run(make_job("adversarial", net, attack="deepfool"))
    pgd = run(make_job("adversarial", net, attack="pgd_l2", epsilon=5.0))
    assert deepfool.summary["fooled"]
    assert deepfool.summary["l2"] < pgd.summary["l2"]


def test_rounding_never_leaves_the_ball() -> None:
    rng = np.random.default_rng(0)
    change = rng.uniform(-1, 1, (3, 8, 8)) * 2.6 / 255
    assert np.abs(rounded_change(change, ATTACKS["pgd"], 2.55 / 255)).max() == 2
    for length in (0.05, 0.2, 1.0):
        change *= length / np.linalg.norm(change)
        levels = rounded_change(change, ATTACKS["pgd_l2"], length)
        assert np.linalg.norm(levels / 255) <= length + 1e-9


def test_survival_is_told_beside_the_clean_photo(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    table = run(make_job("adversarial", tiny_networks["wide"])).tables["survival"]
    assert table["treatment"].iloc[0] == "as saved, PNG"
    assert bool(table["clean_photo_kept"].iloc[0])
    assert {"JPEG at quality 50", "shifted by one pixel"} <= set(table["treatment"])


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"target": "kat"}, UnknownNameError, "cat"),
        ({"epsilon": 8}, OptionsError, "8/255"),
        ({"epsilon": 0.001}, OptionsError, "one grey level"),
        ({"epsilon": "a/b"}, OptionsError, "fraction"),
        ({"attack": "deepfool", "epsilon": 0.1}, OptionsError, "no epsilon"),
        ({"attack": "deepfool", "target": "cat"}, OptionsError, "no target"),
        ({"attack": "magic"}, OptionsError, "fgsm"),
        ({"photo": None}, OptionsError, "photo"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make_job("adversarial", tiny_networks["functional"], **given))
    assert "\n" not in str(caught.value)


def test_a_network_without_classes_is_refused(make_job: Make) -> None:
    features = tiny_network("features", nn.Sequential(nn.Conv2d(3, 4, 3)), output="features", classes=())
    with pytest.raises(UnsupportedError, match="no classes"):
        make_job("adversarial", features)
