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

from engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError, WeightsError
from engine.make.attacks import ATTACKS
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


SMALL: dict[str, dict[str, Any]] = {
    "carlini_wagner": {"steps": 20, "searches": 3, "constant": 1.0},
    "few_pixel": {"population": 8, "steps": 3},
}


@pytest.mark.parametrize("attack", [name for name, attack in ATTACKS.items() if attack.gradients])
def test_every_attack_stays_in_its_ball_and_says_the_truth(attack: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("adversarial", tiny, attack=attack, **SMALL.get(attack, {}))
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
    if attack not in ("pgd", "carlini_wagner"):
        return
    again = run(make_job("adversarial", tiny, attack=attack, **SMALL.get(attack, {})))
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


def test_deepfool_finds_a_smaller_change_than_pgd(make_job: Make) -> None:
    torch.manual_seed(0)
    net = tiny_network("linear", Linear(), (8, 8))
    deepfool = run(make_job("adversarial", net, attack="deepfool"))
    pgd = run(make_job("adversarial", net, attack="pgd_l2", epsilon=5.0))
    assert deepfool.summary["fooled"]
    assert deepfool.summary["l2"] < pgd.summary["l2"]


def test_survival_is_told_beside_the_clean_photo(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    table = run(make_job("adversarial", tiny_networks["wide"])).tables["survival"]
    assert table["treatment"].iloc[0] == "as saved, PNG"
    assert bool(table["photo_kept"].iloc[0])
    assert {"JPEG at quality 95", "JPEG at quality 50", "shifted by one pixel"} <= set(table["treatment"])
    assert (table["survives"] == (table["fools"] & table["photo_kept"])).all()


def test_a_second_network_that_cannot_be_had_loses_nothing(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import zoo

    load = zoo.load

    def offline(name: str) -> Any:
        if name == "torchvision:alexnet":
            raise WeightsError("alexnet-owt-7be5be79.pth is not here and there is no connection")
        return load(name)

    monkeypatch.setattr(zoo, "load", offline)
    job = make_job("adversarial", tiny_networks["residual"], networks="torchvision:alexnet, fovea")
    result = run(job)
    assert result.tables["transfer"]["network"].tolist() == ["fovea"]
    assert any(
        line.startswith("torchvision:alexnet is left out of the transfer table: alexnet-owt") for line in job.warnings
    )


def test_a_network_that_errs_already_is_told_and_not_counted(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["branching"]
    clean = int(classes_of(net, make_job("adversarial", net).frame).argmax())
    right = run(make_job("adversarial", net, epsilon=0.5, label=str(clean)))
    assert right.summary["fooled"]
    assert right.summary["erred_already"] is False
    job = make_job("adversarial", net, epsilon=0.5, label=str((clean + 1) % 5))
    wrong = run(job)
    assert wrong.summary["erred_already"] is True
    assert wrong.summary["fooled"] is False
    assert any("errs on the photo already" in line for line in job.warnings)


def test_the_smallest_epsilon_works_and_the_next_one_tried_does_not(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["branching"]
    result = run(make_job("adversarial", net, attack="bim", smallest=True, epsilon="1/255"))
    search = result.tables["search"]
    found = result.summary["epsilon"]
    assert search.loc[search["value"] == found, "fools"].all()
    smaller = search[search["value"] < found]
    assert len(smaller)
    assert not smaller["fools"].iloc[-1]
    assert result.summary["linf_levels"] <= round(found * 255)
    assert result.summary["fooled"]


def test_the_twins_are_explained_and_part_with_depth(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    job = make_job("adversarial", tiny_networks["functional"], epsilon=0.2)
    result = run(job)
    for name in ("saliency_photo", "saliency_adversarial", "gradcam_photo", "gradcam_adversarial"):
        assert result.arrays[name].shape == job.frame.shape[:2]
    depth = result.tables["depth"]
    assert depth["layer"].iloc[-1] == "output"
    assert (depth["the attack"] > 0).all()
    steps = result.tables["steps"]
    shown = [column for column in steps if column != "step"]
    assert len(shown) == 2
    assert steps[shown[0]].iloc[0] == pytest.approx(result.summary["before_probability"], abs=0.3)
    assert result.summary["ssim"] < 1


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"target": "kat"}, UnknownNameError, "cat"),
        ({"epsilon": 8}, OptionsError, "8/255"),
        ({"epsilon": "300/255"}, OptionsError, "black to white"),
        ({"attack": "few_pixel", "epsilon": 0.1}, OptionsError, "number of pixels"),
        ({"epsilon": 0.001}, OptionsError, "one grey level"),
        ({"epsilon": "a/b"}, OptionsError, "fraction"),
        ({"attack": "deepfool", "epsilon": 0.1}, OptionsError, "no epsilon"),
        ({"attack": "deepfool", "target": "cat"}, OptionsError, "no target"),
        ({"attack": "carlini_wagner", "smallest": True}, OptionsError, "no epsilon to be searched"),
        ({"attack": "few_pixel", "step_size": 0.1}, OptionsError, "step_size empty"),
        ({"label": "kat"}, UnknownNameError, "cat"),
        ({"networks": "torchvision:resnet19"}, UnknownNameError, "resnet18"),
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
