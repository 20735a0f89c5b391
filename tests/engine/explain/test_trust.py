"""Trust: its figures against written-out formulas, its tests on networks that hide nothing, what it says in words."""

from __future__ import annotations

import dataclasses
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.engine.errors import FoveaError, UnsupportedError
from fovea.engine.explain.faithfulness import metrics as trust_metrics
from fovea.engine.explain.faithfulness.curves import PixelCurves, cover
from fovea.engine.explain.faithfulness.map_tests import Changed, Curves
from fovea.engine.explain.faithfulness.randomise import cascade, layers_from_top, stage_ends
from fovea.engine.explain.faithfulness.verdict import caveat_of_score, judge
from fovea.engine.explain.maps.drawing import draw
from fovea.engine.explain.maps.family import family, map_names, usable
from fovea.engine.maps import ClassOrUnit
from fovea.engine.method import Job, Result, find_method, leads_of
from fovea.engine.options import declared
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network, state_of
from tests.oracles import explain_trust as oracle

SMALL = {"steps": 4, "stages": 2, "random_orders": 1, "agreement": False}
CLASS = ClassOrUnit(target="2", words="class 2")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("trust"), Tiny(), size=(24, 36))


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 120, (30, 44, 3), dtype=np.uint8)
    pixels[8:20, 12:26] += 100
    return Image.fromarray(pixels)


def job_on(network: Any, photo: Image.Image, method: str = "trust", **options: Any) -> Job:
    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    return Job(network=network, options=parsed, photo=photo, provider="cpu")


def trust(network: Any, photo: Image.Image, **options: Any) -> tuple[Job, Result]:
    job = job_on(network, photo, **(SMALL | options))
    return job, find_method("trust").run(job)


# The figures ----------------------------------------------------------------------------------------------


def test_areas_and_rank_correlation_are_their_formulas() -> None:
    rng = np.random.default_rng(1)
    counts = trust_metrics.curve_counts(100, 7)
    assert counts[0] == 0
    assert counts[-1] == 100
    assert (np.diff(counts) > 0).all()
    scores = rng.random(8)
    assert trust_metrics.area(scores, counts) == pytest.approx(
        oracle.area_by_trapezoids(scores.tolist(), counts.tolist())
    )
    one, other = rng.integers(0, 5, (6, 9)).astype(float), rng.integers(0, 5, (6, 9)).astype(float)
    assert trust_metrics.rank_correlation(one, other) == pytest.approx(oracle.spearman(one, other))
    assert trust_metrics.rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert trust_metrics.rank_correlation(one, -one) == pytest.approx(-1)


def test_ssim_is_its_formula_on_the_maps_as_they_are_drawn() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(11, 13)), rng.normal(size=(11, 13))
    wanted = oracle.ssim(trust_metrics.to_unit(one), trust_metrics.to_unit(other))
    assert trust_metrics.similarity(one, other) == pytest.approx(wanted)
    assert trust_metrics.similarity(one, 7 * one) == pytest.approx(1)
    assert abs(trust_metrics.to_unit(one)).max() == 1


def test_agreement_is_the_rank_correlation_of_block_means() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(28, 42)), rng.random((28, 42))
    means = [values.reshape(14, 2, 14, 3).mean((1, 3)) for values in (np.maximum(one, 0), other)]
    assert trust_metrics.agreement(one, other, (True, False)) == pytest.approx(oracle.spearman(*means))


def test_a_constant_map_has_no_order() -> None:
    ramp = np.arange(12.0).reshape(3, 4)
    for flat in (np.zeros((3, 4)), np.full((3, 4), 7.0), np.full((3, 4), 1e9) + 1e-3 * ramp):
        assert not trust_metrics.has_order(flat)
        assert math.isnan(trust_metrics.rank_correlation(flat, ramp))
    assert trust_metrics.has_order(1e-20 * ramp)


def test_ties_are_drawn_and_all_else_is_in_order() -> None:
    values = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    found = [trust_metrics.pixel_ranks(values, seed) for seed in range(20)]
    for ranks in found:
        assert [ranks[0, 0], ranks[1, 2], ranks[0, 1]] == [0, 1, 2]
        assert sorted(ranks.ravel()) == list(range(6))
    assert len({ranks.tobytes() for ranks in found}) > 1
    blob = trust_metrics.pixel_ranks(trust_metrics.centre_blob((5, 7)))
    assert blob[2, 3] == 0
    assert blob[0, 0] > 30


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curves_equal_pixels_changed_by_hand(kind: str, network: TinyNetwork, photo: Image.Image) -> None:
    job = job_on(network, photo)
    values = np.random.default_rng(4).random((24, 36))
    counts = trust_metrics.curve_counts(values.size, 11)
    pair = (job.input, cover(job, "black")) if kind == "deletion" else (cover(job, "blur"), job.input)
    session = PixelCurves(job, CLASS, "probability")
    found = session.run(*pair, trust_metrics.pixel_ranks(values), counts)
    wanted = oracle.curve_by_hand(network.module(), *pair, values, counts.tolist(), 2)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("position", [None, (3, 2)])
def test_curves_of_a_unit_follow_its_value(
    position: tuple[int, int] | None, network: TinyNetwork, photo: Image.Image
) -> None:
    job = job_on(network, photo)
    subject = ClassOrUnit(layer="pool", unit=4, position=position)
    photo_alone = PixelCurves(job, subject, "probability").run(
        job.input, job.input, trust_metrics.random_ranks((24, 36), 0), np.zeros(1, np.int64)
    )
    module = network.module()
    fired = module.pool(torch.relu(module.first(torch.from_numpy(job.input))))[0, 4]
    wanted = fired.sum() if position is None else fired[position]
    assert photo_alone[0] == pytest.approx(float(wanted), rel=1e-4)


# The maps -------------------------------------------------------------------------------------------------


def test_occlusion_by_torch_equals_the_method(network: TinyNetwork, photo: Image.Image) -> None:
    job, settings = job_on(network, photo), {"window": 9, "stride": 6}
    unit = ClassOrUnit(layer="second", unit=3, position=(1, 1))
    for subject in (CLASS, unit):
        usual = draw(job, "occlusion", subject, settings)
        by_torch = draw(job, "occlusion", subject, settings, module=network.module())
        np.testing.assert_allclose(by_torch, usual, atol=1e-5)


def test_every_map_can_be_chosen() -> None:
    kind = declared(find_method("trust").options.model_fields["map"]).kind
    assert kind.choices() == map_names()
    assert find_method("trust").options.model_json_schema()["properties"]["map"]["enum"] == list(map_names())
    for member in family().values():
        member.method.options.parse(member.map.options)


def test_maps_are_shown_from_gradients_to_windows() -> None:
    assert map_names() == (
        "gradient",
        "gradient_times_input",
        "smoothgrad",
        "smoothgrad_squared",
        "integrated",
        "guided",
        "deconvnet",
        "gradcam",
        "gradcam++",
        "guided_gradcam",
        "occlusion",
    )


def test_each_map_is_its_method_s_own(network: TinyNetwork, photo: Image.Image) -> None:
    job = job_on(network, photo)
    own = find_method("saliency").run(
        job_on(network, photo, "saliency", target="2", sampling="integrated", steps=5, reduction="sum")
    )
    np.testing.assert_array_equal(draw(job, "integrated", CLASS, {"steps": "5"}), own.arrays["saliency"])
    unit = ClassOrUnit(layer="second", unit=3, position=(1, 1))
    own = find_method("guided").run(job_on(network, photo, "guided", layer="second", unit=3, position="1,1"))
    np.testing.assert_allclose(draw(job, "guided", unit), np.abs(own.arrays["guided"]).max(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "given", "summary", "asked"),
    [
        ("saliency", {"sampling": "smoothgrad", "samples": 50}, {"target": "a"}, ("smoothgrad", "samples=50")),
        ("saliency", {"sampling": "integrated", "reduction": "max_abs"}, {"target": "a"}, ("integrated", "reduction")),
        ("gradcam", {"variant": "gradcam++", "layer": "second"}, {"target": "a"}, ("gradcam++", "layer=second")),
        ("occlusion", {"stride": 8, "window": 9, "target": "3"}, {"target": "class 3"}, ("occlusion", "window=9")),
        ("guided", {"rule": "deconvnet"}, {"layer": "second", "unit": 3, "position": "1,1"}, ("deconvnet", "")),
    ],
)
def test_a_run_leads_to_the_trust_in_its_own_map(
    method: str, given: dict[str, Any], summary: dict[str, Any], asked: tuple[str, str], network: TinyNetwork
) -> None:
    (lead,) = leads_of(find_method(method))
    options = find_method(method).options.parse(given)
    found = lead.options(options.model_dump(), summary)
    assert found["map"] == asked[0]
    assert asked[1] in found.get("settings", "")
    assert found.get("target", "") == given.get("target", "")
    assert (found.get("layer"), found.get("unit")) == (summary.get("layer"), summary.get("unit"))
    parsed = find_method(lead.method).options.parse(found)
    find_method(lead.method).verify(network.card, parsed)


@pytest.mark.parametrize("method", ["saliency", "gradcam", "guided", "occlusion"])
def test_every_method_of_a_map_leads_there(method: str) -> None:
    assert [lead.method for lead in leads_of(find_method(method))] == ["trust"]


# Re-initialised layers ------------------------------------------------------------------------------------


def test_the_cascade_goes_from_the_top_and_leaves_the_network_alone(network: TinyNetwork) -> None:
    module = network.module()
    before = state_of(module)
    calls = [layer.name for layer in network.card.layers]
    assert layers_from_top(module, calls) == ["head", "norm", "second", "first"]
    original = {name: value.clone() for name, value in module.state_dict().items()}
    changed: list[set[str]] = []
    for stage in cascade(module, calls, 4, seed=0):
        now = stage.module.state_dict()
        changed.append({name.rpartition(".")[0] for name in now if not torch.equal(now[name], original[name])})
        for name in now:
            torch.testing.assert_close(now[name].flatten().sort().values, original[name].flatten().sort().values)
    assert changed == [{"head"}, {"head", "norm"}, {"head", "norm", "second"}, {"head", "norm", "second", "first"}]
    assert state_of(module) == before
    assert stage_ends(20, 3) == [1, 10, 20]
    assert stage_ends(2, 9) == [1, 2]
    assert stage_ends(5, 1) == [5]


def test_modules_that_are_never_called_are_re_initialised_too() -> None:
    from fovea.models.torch_net import prepare, trace

    module = prepare(TinyTokens())
    calls = [layer.name for layer in trace(module, (3, 32, 32))[0]]
    paths = layers_from_top(module, calls)
    assert paths[0] == "head"
    assert paths[-1] == ""
    assert {"block.self_attn", "block.self_attn.out_proj"} <= set(paths)
    last = list(cascade(module, calls, 2, seed=0))[-1].module
    assert not torch.equal(last.get_parameter("token"), module.get_parameter("token"))


# The method -----------------------------------------------------------------------------------------------


def test_it_saves_what_it_says_and_leaves_nothing_behind(network: TinyNetwork, photo: Image.Image) -> None:
    before = state_of(network.module())
    job, result = trust(network, photo, map="guided", agreement=True)
    assert state_of(network.module()) == before
    assert set(result.tables) == {"deletion", "insertion", "areas", "randomisation", "agreement"}
    assert list(result.tables["areas"]["order"]) == ["this map", "random order", "centre blob", "± of random orders"]
    assert list(result.tables["randomisation"]["layers"]) == [0, 1, 4]
    curve = result.tables["deletion"]
    area = oracle.area_by_trapezoids(list(curve["this map"]), list(curve["share of pixels"]))
    assert result.summary["deletion"] == pytest.approx(area, abs=1e-4)
    assert len(result.tables["agreement"]) == len(usable(network.card))
    assert job.ran["provider"] == "cpu"


def test_two_threads_with_one_network_give_what_each_gives_alone(network: TinyNetwork, photo: Image.Image) -> None:
    def figures(name: str) -> str:
        settings = "window=12, stride=6" if name == "occlusion" else ""
        _, result = trust(network, photo, map=name, settings=settings)
        return "".join(result.tables[table].to_csv() for table in ("deletion", "insertion", "randomisation"))

    names = ["gradient", "guided", "gradcam", "occlusion"]
    alone = [figures(name) for name in names]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(figures, names)) == alone


def test_a_dead_unit_is_told_and_not_shown_as_noise(network: TinyNetwork, photo: Image.Image, tmp_path: Path) -> None:
    dead = exported_network(tmp_path, Tiny(), size=(24, 36))
    with torch.no_grad():
        dead.torch_module.first.bias[1] = -1000.0

    dead.export(tmp_path)
    job, result = trust(dead, photo, layer="relu", unit=1, map="gradient")
    assert result.summary["verdict"] == "no order"
    assert any("constant" in line for line in job.warnings)
    assert any("zero everywhere" in line for line in job.warnings)
    assert "nothing to trust" in result.panels[0].help
    assert "this map" not in result.tables["deletion"]


def test_a_saturated_class_is_told_and_its_logit_s_map_is_still_there(photo: Image.Image, tmp_path: Path) -> None:

    loud = exported_network(tmp_path, Tiny(), size=(24, 36))
    with torch.no_grad():
        loud.torch_module.head.weight *= 1000
    loud.export(tmp_path)
    job, result = trust(loud, photo, map="gradient")
    assert any("saturated" in line for line in job.warnings)
    assert result.summary["verdict"] != "no order"
    job, _ = trust(loud, photo, map="gradient", settings="score=probability")
    assert any(line.startswith("probability of") and "nearly zero" in line for line in job.warnings)


def changed(*ranks: float) -> list[Changed]:
    return [Changed(n + 1, len(ranks), "x", rank, 0.5, np.zeros((2, 2))) for n, rank in enumerate(ranks)]


class FakeTest:
    """What a verdict reads of the curves' test: a random order gains 0.1, a centre blob 0.3."""

    explained, score, clean, span = CLASS, "probability", 0.9, 0.9
    random_deletion, random_insertion = 0.2, 0.3
    random_deletions, random_insertions = (0.2,), (0.3,)
    centre = Curves(np.zeros(2), np.zeros(2), 0.2, 0.5)


@pytest.mark.parametrize(
    ("name", "gain", "ranks", "word", "says"),
    [
        ("gradcam", 0.6, (0.2, 0.0), "holds up", "more than those of a random order or of a blob in the centre"),
        ("gradcam", 0.6, (0.5, 0.3), "with care", "in part"),
        ("gradcam", 0.3, (0.1, 0.0), "with care", "no more than those of a plain blob"),
        ("gradient", 0.0, (0.1, 0.0), "misses", "no more than those of a random order"),
        ("guided", 0.6, (0.98, 0.7), "photo, not network", "hardly depends"),
        ("deconvnet", 0.6, (0.9, math.nan, math.nan), "with care", "the map is constant"),
        ("gradcam", 0.6, (), "holds up", "deletion area"),
    ],
)
def test_the_verdict_follows_from_the_figures(
    name: str, gain: float, ranks: tuple[float, ...], word: str, says: str
) -> None:
    curves = Curves(np.zeros(2), np.zeros(2), 0.19, 0.19 + gain)
    verdict = judge(name, FakeTest(), curves, changed(*ranks))  # type: ignore[arg-type]
    assert verdict.word == word
    assert says in verdict.text
    assert bool(verdict.warning) == (word == "photo, not network")
    if name == "guided":
        assert "Adebayo" in verdict.warning


@pytest.mark.parametrize(
    ("areas", "says"), [((0.05, 0.1), "When they are taken away"), ((0.5, 0.6), "When they are put back")]
)
def test_a_map_that_is_right_in_one_curve_alone_is_told(areas: tuple[float, float], says: str) -> None:
    verdict = judge("integrated", FakeTest(), Curves(np.zeros(2), np.zeros(2), *areas), changed(0.1))  # type: ignore[arg-type]
    assert verdict.word == "with care"
    assert verdict.text.startswith(says)


def test_a_saturated_and_an_unlikely_class_are_told() -> None:
    for clean, says in ((0.99999, "saturated"), (0.001, "little to delete"), (0.5, "")):
        test = FakeTest()
        test.clean = clean
        assert says in caveat_of_score(test)  # type: ignore[arg-type]
        assert bool(caveat_of_score(test)) == bool(says)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"map": "gradcam", "layer": "pool", "unit": 1}, "explains a class"),
        ({"map": "smoothgrad", "settings": "windows=3"}, "settings: SmoothGrad has .*samples"),
        ({"map": "smoothgrad", "settings": "samples"}, "name=value"),
        ({"map": "smoothgrad", "settings": "samples=many"}, "samples"),
        ({"map": "occlusion"}, "window must be at most 24"),
        ({"map": "scorecam"}, "map must be"),
        ({"target": "2", "layer": "pool"}, "not both"),
    ],
)
def test_wrong_options_are_one_line(
    options: dict[str, Any], says: str, network: TinyNetwork, photo: Image.Image
) -> None:
    with pytest.raises(FoveaError, match=says) as caught:
        job_on(network, photo, **options)
    assert "\n" not in str(caught.value)


def test_an_onnx_file_has_occlusion_alone_and_says_so(network: TinyNetwork, photo: Image.Image) -> None:
    file = dataclasses.replace(network, card=network.card.model_copy(update={"gradients": False}))
    assert usable(file.card) == ["occlusion"]
    with pytest.raises(UnsupportedError, match="ONNX file: choose occlusion"):
        trust(file, photo, map="smoothgrad")
    job, result = trust(file, photo, map="occlusion", settings="window=12, stride=6")
    assert "randomisation" not in result.tables
    assert any("cannot be re-initialised" in line for line in job.warnings)


def test_guided_backprop_ignores_a_new_top_layer_and_the_gradient_does_not(tmp_path: Path, photo: Image.Image) -> None:
    """Nie et al. 2018: with positive top weights or not, guided backprop goes back by the same open ReLUs."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [3, 16, 16, 16, 16]
            self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in itertools.pairwise(sizes))
            self.head = nn.Linear(16, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x.mean((2, 3)))

    deep = exported_network(tmp_path, Deep(), size=(24, 36))
    kept = {
        name: trust(deep, photo, map=name, stages=5)[1].tables["randomisation"]["rank correlation"]
        for name in ("gradient_times_input", "guided")
    }
    assert kept["guided"][1] > 0.9
    assert kept["guided"][1:4].mean() > kept["gradient_times_input"][1:4].mean() + 0.3
