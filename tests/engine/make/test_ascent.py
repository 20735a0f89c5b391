"""Ascent: every preset excites what was asked on every kind of network, and says so of the saved pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fovea.engine.errors import FoveaError, OptionsError, UnknownNameError
from fovea.engine.make.excite.options import AscentOptions
from fovea.engine.make.excite.presets import PRESETS, settings_of
from fovea.engine.make.judge.verdict import SecondOpinion
from fovea.engine.make.optimise import losses
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("ascent").run(job)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_excites_the_class(preset: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("ascent", tiny, target="cup", preset=preset, start="noise", l2=0.0, steps=20, photo=None)
    result = run(job)
    frame = np.asarray(result.images["ascent"])
    height, width = tiny.card.preprocessing.size
    assert frame.shape[:2] == (height, width)
    assert frame.dtype == np.uint8
    curve = result.tables["losses"]
    assert curve["activation"].iloc[-4:].mean() > curve["activation"].iloc[0]
    assert result.arrays["loss"].tolist() == curve["loss"].tolist()
    logits = tiny.torch_module(
        torch.from_numpy(tiny.card.preprocessing.normalise(frame.reshape(height, width, -1))[None])
    )
    assert result.summary["activation"] == pytest.approx(float(logits[0, 2]), abs=1e-5)
    assert result.summary["probability"] == pytest.approx(float(logits.softmax(1)[0, 2]), abs=1e-5)
    assert result.tables["classes"]["probability"].is_monotonic_decreasing
    assert state_of(tiny.torch_module) == before


@pytest.mark.parametrize("position", ["sum", "centre", "3,2"])
def test_a_unit_at_a_position(position: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["wide"]
    job = make_job("ascent", net, layer="conv2", unit=5, position=position, steps=30)
    result = run(job)
    curve = result.tables["losses"]["activation"]
    assert curve.iloc[-4:].mean() > curve.iloc[0]
    assert "activation_on_photo" in result.summary
    assert (result.summary["layer"], result.summary["unit"]) == ("conv2", 5)


@pytest.mark.parametrize("canvas", ["pixels", "fourier", "pyramid"])
@pytest.mark.parametrize("start", ["zero", "noise", "photo"])
def test_every_start_on_every_canvas(
    canvas: str, start: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    job = make_job("ascent", tiny_networks["residual"], target="cat", canvas=canvas, start=start, steps=1)
    made = np.asarray(run(job).images["ascent"]).astype(int)
    if start == "photo":
        assert np.abs(made - job.frame).mean() < 12
    else:
        assert np.abs(made - job.frame).mean() > 12


def test_same_seed_same_bytes(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    def made(seed: int) -> bytes:
        image = run(make_job("ascent", tiny_networks["branching"], target="cup", steps=4, seed=seed)).images["ascent"]
        return np.asarray(image).tobytes()

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_without_a_target_it_takes_the_photos_class(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    job = make_job("ascent", net, steps=1)
    top = int(net.torch_module(torch.from_numpy(job.input)).argmax())
    assert run(job).summary["target"] == net.card.classes[top]
    assert run(make_job("ascent", net, steps=1, photo=None)).summary["target"] == "cat"


@pytest.mark.parametrize("canvas", ["pixels", "fourier"])
def test_a_free_range_is_rescaled_and_told(
    canvas: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    given: dict[str, Any] = {"target": "cat", "preset": "none", "canvas": canvas, "learning_rate": 0.5, "steps": 5}
    job = make_job("ascent", tiny_networks["residual"], free_range=True, **given)
    result = run(job)
    frame = np.asarray(result.images["ascent"])
    assert (frame.min(), frame.max()) == (0, 255)
    assert result.summary["lowest"] < 0 or result.summary["highest"] > 1
    assert result.summary["range"].startswith("free")
    assert "rescaled" in job.warnings[0]
    boxed = run(make_job("ascent", tiny_networks["residual"], **given))
    assert boxed.summary["range"] == "within real pixel values"


def test_many_units_in_one_batch_are_what_each_is_alone(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["functional"]
    given: dict[str, Any] = {"layer": "conv2", "start": "zero", "preset": "none", "steps": 6}
    grid = run(make_job("ascent", net, units="1-2,6", **given))
    assert grid.tables["pictures"]["picture"].tolist() == ["conv2 unit 1", "conv2 unit 2", "conv2 unit 6"]
    assert list(grid.tables["grown"].columns) == ["step", "conv2 unit 1", "conv2 unit 2", "conv2 unit 6"]
    assert [panel.kind for panel in grid.panels][:2] == ["gallery", "image"]
    for place, unit in enumerate((1, 2, 6)):
        alone = run(make_job("ascent", net, unit=unit, **given))
        made = np.asarray(grid.images[f"picture_{place + 1:02d}"]).astype(int)
        assert np.abs(made - np.asarray(alone.images["ascent"])).max() <= 1
    assert np.array_equal(grid.images["ascent"], grid.images["picture_01"])
    classes = run(make_job("ascent", net, units="cat,2", steps=1))
    assert classes.tables["pictures"]["picture"].tolist() == ["cat", "cup"]


def test_diversity_makes_the_pictures_less_alike(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    def likeness(weight: float) -> float:
        job = make_job(
            "ascent", tiny_networks["branching"], layer="stem", unit=1, diversity=3, diversity_weight=weight, steps=15
        )
        result = run(job)
        assert len(result.tables["pictures"]) == 3
        from fovea.engine.make.optimise.canvas import to_picture
        from fovea.engine.make.optimise.losses import Diversity, View
        from fovea.models.torch_net import forward_taps

        frames = np.stack([np.asarray(result.images[f"picture_{i:02d}"]) for i in (1, 2, 3)])
        x = torch.from_numpy(job.card.preprocessing.normalise(frames))
        features = forward_taps(job.network.module(), x, ["stem"])
        return float(Diversity(job.card.layer("stem"))(View(to_picture(frames), x, features)).mean())

    assert likeness(3.0) < 0.98 * likeness(0.0)


def test_a_joint_excites_both_and_stands_between_them(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["residual"]
    result = run(make_job("ascent", net, target="cat", joint="cup", steps=30))
    assert result.tables["pictures"]["picture"].tolist() == ["cat", "cat + cup", "cup"]
    assert result.summary["joint"] == "cup"
    assert np.array_equal(result.images["ascent"], result.images["picture_02"])
    grown = result.tables["grown"]["cat + cup"]
    assert grown.iloc[-4:].mean() > grown.iloc[0]


@pytest.mark.parametrize("direction", ["3:1,5:-0.5", "photo"])
def test_a_direction_grows(direction: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    result = run(make_job("ascent", tiny_networks["branching"], layer="stem", direction=direction, steps=25))
    curve = result.tables["losses"]["activation"]
    assert curve.iloc[-4:].mean() > curve.iloc[0]
    assert result.summary["direction"] == direction


def test_presets_side_by_side_and_another_networks_word(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea.models import zoo

    monkeypatch.setattr(zoo, "load", lambda name: tiny_networks["wide"])
    job = make_job("ascent", tiny_networks["grey"], target="boat", preset="side-by-side", steps=6, second_network="x")
    result = run(job)
    table = result.tables["pictures"]
    assert table["picture"].tolist() == ["none", "simonyan", "yosinski", "lucid"]
    assert {"second_sees", "probability"} <= set(table.columns)
    assert {"second_network", "second_probability", "second_probability_without_regulariser"} <= set(result.summary)
    assert "without a regulariser" in result.panels[0].help
    assert len(result.tables["losses"]) == 24
    assert set(result.tables["losses"]["preset"]) == set(table["picture"])
    again = run(make_job("ascent", tiny_networks["grey"], target="boat", preset="side-by-side", steps=6))
    assert again.images["ascent.gif"] == result.images["ascent.gif"]


def test_a_size_of_its_own(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    result = run(make_job("ascent", tiny_networks["wide"], target="cup", size=96, steps=2))
    assert np.asarray(result.images["ascent"]).shape == (64, 96, 3)


def test_it_is_measured_on_the_best_patch_of_a_finished_mining_run(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea.engine.look.mining.mined import BestPhoto
    from fovea.engine.make.excite import report

    net = tiny_networks["functional"]
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    asked: list[tuple[str, int]] = []

    def best(job: Job, layer: str, unit: int) -> BestPhoto:
        asked.append((layer, unit))
        return BestPhoto(frame, "a.jpg", "sample", "run")

    monkeypatch.setattr(report, "best_photo", best)
    result = run(make_job("ascent", net, layer="conv2", unit=3, steps=2))
    assert asked == [("conv2", 3)]
    table = result.tables["activations"].set_index("picture")["activation"]
    assert list(table.index) == ["made", "best of sample", "the photo"]
    x = torch.from_numpy(net.card.preprocessing.normalise(frame[None]))
    from fovea.models.torch_net import forward_taps

    expected = float(forward_taps(net.torch_module, x, ["conv2"])["conv2"][0, 3].mean())
    assert table["best of sample"] == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(result.images["mined"], frame)


@pytest.mark.parametrize(("strength", "warns"), [(1.0, False), (-1.0, True)])
def test_a_picture_is_held_against_its_own_start(strength: float, warns: bool, make_job: Make) -> None:
    """And not against the mean over pictures, which a strong unit raises far above a weak one's end."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        module[0].weight[1] = 100.0  # type: ignore[union-attr, index]
        module[0].bias[1] = 1e4  # type: ignore[union-attr, index]
    net = tiny_network("uneven", module, output="features", classes=())
    job = make_job("ascent", net, layer="0", units="0,1", steps=4, preset="none", learning_rate=0.02)
    with pytest.MonkeyPatch.context() as patch:
        if warns:
            patch.setattr(losses, "ascend", lambda name, loss: losses.Term(name, loss, 1.0))
        run(job)
    assert any("did not grow" in line for line in job.warnings) is warns


def test_margin_needs_other_classes(make_job: Make) -> None:
    torch.manual_seed(0)
    net = tiny_network("alone", nn.Sequential(nn.Conv2d(3, 1, 32), nn.Flatten()), classes=("cat",))
    with pytest.raises(OptionsError, match="margin"):
        run(make_job("ascent", net, target="cat", score="margin"))


def test_another_networks_class_is_known_by_name_or_by_an_equal_list(make_job: Make) -> None:
    """Not by number where the lists are of other things."""

    def asked(others: tuple[str, ...]) -> int | None:
        module = nn.Sequential(nn.Conv2d(3, len(others), 32), nn.Flatten())
        second = SecondOpinion(tiny_network("other", module, classes=others), "cpu")
        return second.class_like(card, 0)

    card = tiny_network("one", nn.Sequential(nn.Conv2d(3, 3, 32), nn.Flatten()), classes=("cat", "dog", "cup")).card
    assert asked(("oak", "cat", "elm")) == 1
    assert asked(("tabby", "dog, hound", "cup")) == 0
    assert asked(("oak", "elm", "ash")) is None
    assert asked(("oak", "dog", "cup", "ash")) is None


def test_options_replace_what_the_preset_says() -> None:
    assert settings_of(AscentOptions()) == PRESETS["lucid"]
    assert settings_of(AscentOptions(preset="simonyan", l2=0.0)).l2 == 0
    assert settings_of(AscentOptions(jitter=3)).jitter == 3
    assert settings_of(AscentOptions(transforms=False)).transforms is False
    switched = settings_of(AscentOptions(preset="yosinski", canvas="fourier"))
    assert (switched.blur, switched.learning_rate) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"start": "photo", "photo": None, "target": "cat"}, OptionsError, "there is none"),
        ({"layer": "conv1", "position": "max"}, OptionsError, "moves"),
        ({"layer": "conv1", "position": "40,0"}, OptionsError, "16 rows"),
        ({"layer": "conv1", "position": "30,0", "size": 48}, OptionsError, "24 rows"),
        ({"layer": "conv1", "unit": 99}, UnknownNameError, "0 to 7"),
        ({"layer": "conv1", "target": "cat"}, OptionsError, "not both"),
        ({"target": "dogg"}, UnknownNameError, "dog"),
        ({"units": "0-3", "target": "cat"}, OptionsError, "not both"),
        ({"units": "9"}, UnknownNameError, "0 to 4"),
        ({"layer": "conv1", "units": "3-1"}, OptionsError, "backwards"),
        ({"layer": "conv1", "units": "cat"}, OptionsError, "a number"),
        ({"units": ","}, OptionsError, "names 0"),
        ({"units": "0,1", "diversity": 3}, OptionsError, "do not go together"),
        ({"joint": "dogg"}, UnknownNameError, "dog"),
        ({"layer": "conv1", "joint": "conv2:99"}, UnknownNameError, "0 to 7"),
        ({"direction": "1:1"}, OptionsError, "which layer"),
        ({"layer": "conv1", "direction": "1:x"}, OptionsError, "no number"),
        ({"layer": "conv1", "direction": "1:0"}, OptionsError, "points nowhere"),
        ({"layer": "conv1", "direction": "photo", "photo": None}, OptionsError, "there is none"),
        ({"preset": "side-by-side", "diversity": 2}, OptionsError, "do not go together"),
        ({"blur": 1.0}, OptionsError, "pixels"),
        ({"steps": 0}, OptionsError, "steps"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make_job("ascent", tiny_networks["functional"], **given))
    assert "\n" not in str(caught.value)
