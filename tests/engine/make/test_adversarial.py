"""Attacks: their formulas, their balls in whole grey levels, and success only on the saved pixels."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fovea.engine.data.photos import open_photo
from fovea.engine.errors import FoveaError, NetworkError, OptionsError, UnknownNameError, UnsupportedError, WeightsError
from fovea.engine.make import adversarial
from fovea.engine.make.attack.outcome import findings
from fovea.engine.make.attack.outcome.survival import transfer
from fovea.engine.make.attack.shared.attack import attacks, find_attack
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("adversarial").run(job)


def classes_of(net: TinyNetwork, pixels: np.ndarray) -> np.ndarray:
    frame = pixels.reshape(*net.card.preprocessing.size, -1)
    x = torch.from_numpy(net.card.preprocessing.normalise(frame)[None])
    values: np.ndarray = net.torch_module(x)[0].softmax(0).numpy()
    return values


@pytest.fixture(scope="module")
def fovea() -> Any:
    """The bundled network."""
    from fovea.models.bundled.net import WEIGHTS
    from fovea.models.zoo import load

    if not WEIGHTS.is_file():
        pytest.skip("the bundled network's weights are not there")
    return load("fovea")


SMALL: dict[str, dict[str, Any]] = {
    "carlini_wagner": {"steps": 20, "searches": 3, "constant": 1.0},
    "few_pixel": {"population": 8, "steps": 3},
}


@pytest.mark.parametrize("attack", [name for name, attack in attacks().items() if attack.gradients])
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
    if find_attack(attack).norm == 2 and find_attack(attack).bounded:
        assert np.linalg.norm(levels / 255) <= 1.0 + 1e-6
    elif find_attack(attack).bounded:
        assert np.abs(levels).max() <= 8
    assert state_of(tiny.torch_module) == before
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


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("pgd", {"steps": 20}),
        ("pgd_l2", {"epsilon": 2.0}),
        ("carlini_wagner", {"steps": 20, "searches": 2, "constant": 10.0}),
    ],
)
def test_a_targeted_attack_reaches_its_target_on_the_bundled_network(
    attack: str, options: dict[str, Any], fovea: Any, make_job: Make
) -> None:
    job = make_job("adversarial", fovea, photo=open_photo("sample:cat"), attack=attack, target="sunflower", **options)
    result = run(job)
    pixels = np.asarray(result.images["adversarial"])
    scores = fovea.module()(torch.from_numpy(job.card.preprocessing.normalise(pixels[None])))[0]
    assert job.card.classes[int(scores.argmax())] == "sunflower"
    assert result.summary["after"] == result.summary["target"] == "sunflower"
    assert result.summary["fooled"]
    change = (pixels.astype(int) - job.frame) / 255
    if attack == "pgd":
        assert np.abs(change).max() <= 8 / 255
    elif attack == "pgd_l2":
        assert np.linalg.norm(change) <= 2.0


@pytest.mark.parametrize(("photo", "pixels", "fooled"), [("motorcycle", 3, False), ("flower", 300, True)])
def test_few_pixels_of_the_photo_are_changed(photo: str, pixels: int, fooled: bool, fovea: Any, make_job: Make) -> None:
    options: dict[str, Any] = {"attack": "few_pixel", "pixels": pixels, "population": 6, "steps": 2}
    job = make_job("adversarial", fovea, photo=open_photo(f"sample:{photo}"), **options)
    result = run(job)
    picture = np.asarray(result.images["adversarial"])
    changed = int(np.any(picture != job.frame, axis=-1).sum())
    assert 0 < changed <= pixels
    assert result.summary["pixels"] == changed
    inputs = np.stack([job.card.preprocessing.normalise(frame) for frame in (job.frame, picture)])
    before, after = fovea.module()(torch.from_numpy(inputs)).argmax(1).tolist()
    assert result.summary["fooled"] is (before != after) is fooled
    assert any(line.startswith("The attack did not fool") for line in job.warnings) is not fooled
    again = run(make_job("adversarial", fovea, photo=open_photo(f"sample:{photo}"), **options))
    np.testing.assert_array_equal(np.asarray(again.images["adversarial"]), picture)


@pytest.mark.parametrize("attack", ["pgd", "deepfool", "few_pixel"])
def test_a_network_that_overflows_is_told_in_one_line(
    attack: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["residual"]
    module = copy.deepcopy(net.torch_module)
    module.get_parameter("fc.bias").data.fill_(torch.nan)
    with pytest.raises(NetworkError, match="is not finite") as caught:
        run(make_job("adversarial", TinyNetwork(net.card, module), attack=attack, **SMALL.get(attack, {})))
    assert "\n" not in str(caught.value)


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
    from fovea.models import zoo

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


def colours(*classes: str, turned: int = 0) -> TinyNetwork:
    """A network that sees the strongest colour: its classes stand for red, green and blue, or `turned` so far."""

    class Colours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x).flatten(1).roll(turned, 1)

    return tiny_network("-".join(classes), Colours(), classes=classes)


OTHERS = {
    "same": colours("cat", "dog", "cup"),
    "reordered": colours("dog", "cup", "cat", turned=2),
    "spelled": colours("cat", " Dog", "cup"),
    "elsewhere": colours("cat", "cup", "dog"),
    "without": colours("one", "two", "three"),
}
"""Networks that are shown a red frame and a green attacked picture."""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of networks that can be loaded."""
    from fovea.models import zoo

    monkeypatch.setattr(zoo, "load", OTHERS.__getitem__)
    monkeypatch.setattr(zoo, "cached_card", lambda name: OTHERS[name].card)
    return list(OTHERS)


def test_a_targeted_attack_transfers_where_the_other_sees_the_target(others: list[str], make_job: Make) -> None:
    red, green = (Image.new("RGB", (32, 32), colour) for colour in ("red", "lime"))
    job = make_job("adversarial", OTHERS["same"], photo=red)
    table = transfer(job, np.asarray(green), others, 1).set_index("network")
    assert table["fools"].to_dict() == {name: name in ("same", "reordered", "spelled") for name in others}
    assert table["changed"].all()
    assert table["attacked"].to_dict() == dict(zip(others, ["dog", "dog", " Dog", "cup", "two"], strict=True))
    for name, place in (("same", 1), ("reordered", 0), ("spelled", 1), ("elsewhere", 2)):
        expected = classes_of(OTHERS[name], np.asarray(green))[place]
        assert table["target_probability"][name] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(table["target_probability"]["without"])
    assert job.warnings == ["without has no class dog, so it cannot be driven to it."]
    still = transfer(job, np.asarray(red), others, 1)
    assert not still["fools"].any()
    assert not still["changed"].any()
    already = make_job("adversarial", OTHERS["same"], photo=green)
    kept = transfer(already, np.asarray(green), ["same"], 1)
    assert not kept["fools"].any()


def test_an_untargeted_attack_transfers_where_the_class_is_gone(others: list[str], make_job: Make) -> None:
    red, green = (Image.new("RGB", (32, 32), colour) for colour in ("red", "lime"))
    job = make_job("adversarial", OTHERS["same"], photo=red)
    table = transfer(job, np.asarray(green), others)
    assert table["fools"].all()
    assert table["changed"].all()
    assert "target_probability" not in table
    assert job.warnings == []
    assert not transfer(job, np.asarray(red), others)["fools"].any()


@pytest.mark.parametrize(("target", "count", "help_ends"), [("dog", 3, "sees dog instead."), ("", 5, "frame is gone.")])
def test_the_panel_tells_whom_the_attack_fools(
    target: str, count: int, help_ends: str, others: list[str], make_job: Make
) -> None:
    photo = Image.new("RGB", (32, 32), (200, 150, 0))
    networks = ",".join(others)
    options: dict[str, Any] = {"epsilon": "32/255", "target": target, "networks": networks}
    result = run(make_job("adversarial", OTHERS["same"], photo=photo, **options))
    assert result.summary["after"] == "dog"
    assert result.summary["transfers"] == f"{count} of 5"
    (panel,) = (panel for panel in result.panels if getattr(panel, "table", "") == "transfer")
    assert panel.help.endswith(help_ends)


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


def test_steps_keep_their_numbers_where_some_are_left_out(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"attack": "bim", "steps": 10}
    whole = run(make_job("adversarial", tiny_networks["residual"], **options)).tables["steps"]
    assert whole["step"].tolist() == list(range(11))
    monkeypatch.setattr(findings, "STEP_ROWS", 4)
    some = run(make_job("adversarial", tiny_networks["residual"], **options)).tables["steps"]
    assert some["step"].tolist() == [0, 3, 5, 8, 10]  # where each quarter begins, and the end
    assert some.equals(whole.iloc[some["step"]].reset_index(drop=True))


FAILED = "The attack did not fool the network: the photo is cat, still its first class. Raise epsilon or steps."


@pytest.mark.parametrize(
    ("raw_class", "now", "lengthened", "says"),
    [
        (1, 0, 1.0, "The picture is dog to the network only before it is rounded to 8 bits; as it is saved it is cat."),
        (1, 2, 1.5, "Rounded to 8 bits the change fools only when it is made 1.50 times as long, so this was done."),
        (
            0,
            0,
            1.0,
            FAILED,
        ),
        (
            None,
            0,
            1.0,
            FAILED,
        ),
        (1, 2, 1.0, ""),
    ],
)
def test_what_rounding_did_is_told(
    raw_class: int | None, now: int, lengthened: float, says: str, make_job: Make
) -> None:
    job = make_job("adversarial", OTHERS["same"], photo=Image.new("RGB", (32, 32), "red"))
    photo = adversarial.asked_photo(job)
    watch = findings.Watch(photo, job.progress)
    attempt = findings.Attempt(job.frame, raw_class, watch, lengthened=lengthened)
    adversarial.warn_of_failure(job, find_attack("pgd"), photo, attempt, now)
    assert job.warnings == ([says] if says else [])


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"target": "kat"}, UnknownNameError, "cat"),
        ({"epsilon": 8}, OptionsError, "8/255"),
        ({"epsilon": "300/255"}, OptionsError, "black to white"),
        ({"attack": "few_pixel", "epsilon": 0.1}, OptionsError, "number of pixels"),
        ({"epsilon": 0.001}, OptionsError, "one grey level"),
        ({"epsilon": "a/b"}, OptionsError, "fraction"),
        ({"epsilon": "nan"}, OptionsError, "epsilon must be"),
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
