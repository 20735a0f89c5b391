"""Occlusion equals Captum's on the same windows, for every fill, target, size and number of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.look.occluding import watching
from fovea.engine.look.occluding.covers import cover_picture
from fovea.engine.look.occluding.windows import corners, mean_drop
from fovea.engine.look.occlusion import METHOD
from fovea.engine.method import Job, Result
from fovea.engine.progress import Progress
from tests.networks.modules import Tiny
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_occlusion import captum_occlusion, occlusion_by_slices
from tests.oracles.look_patches import MemoryDataset


def photo(width: int = 90, height: int = 70, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height))


def occlude(network: Any, job_facts: dict[str, Any] | None = None, **options: Any) -> tuple[Job, Result]:
    parsed = METHOD.options.parse(options)
    METHOD.verify(network.card, parsed)
    facts = {"provider": "cpu"} | (job_facts or {})
    job = Job(network=network, options=parsed, photo=photo(), **facts)
    return job, METHOD.run(job)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(40, 52))


@pytest.mark.parametrize(
    ("options", "window", "stride"),
    [
        ({"window": 16, "stride": 8}, 16, 8),
        ({"window": 11, "stride": 7}, 11, 7),
        ({"window": 40, "stride": 40}, 40, 40),
    ],
)
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_equals_captum(network: TinyNetwork, options: dict, window: int, stride: int, score: str) -> None:
    job, result = occlude(network, target="3", score=score, **options)
    wanted = captum_occlusion(network.module(), job.input, 3, window, stride, score)
    np.testing.assert_allclose(result.arrays["heatmap"], wanted, atol=1e-5)


@pytest.mark.parametrize("fill", ["mean", "photo", "black", "grey", "noise", "blur"])
def test_every_fill_equals_pictures_occluded_by_hand(network: TinyNetwork, fill: str) -> None:
    job, result = occlude(network, window=16, stride=12, fill=fill, target="2", job_facts={"seed": 5})
    cover = cover_picture(job)
    scores = occlusion_by_slices(network.module(), job.input, cover, 16, result.arrays["ys"], result.arrays["xs"])
    np.testing.assert_allclose(result.arrays["score"], scores[..., 2], atol=1e-5)
    np.testing.assert_allclose(
        result.arrays["drop"],
        scores[..., 2].dtype.type(result.summary["clean probability"]) - scores[..., 2],
        atol=1e-5,
    )
    assert np.array_equal(result.images["cover"], job.card.preprocessing.pixels(cover[0]))
    assert fill != "mean" or not cover.any()


def test_mean_of_a_data_set_fills(network: TinyNetwork) -> None:
    dataset = MemoryDataset({f"p{index}": photo(seed=index) for index in range(3)} | {"broken": None})
    facts = {"open_dataset": lambda name: dataset}
    job, _ = occlude(network, window=16, stride=12, fill="dataset", dataset="any", job_facts=facts)
    preprocessing = network.card.preprocessing
    frames = [preprocessing.frame(photo(seed=index)) for index in range(3)]
    wanted = np.mean([preprocessing.normalise(frame) for frame in frames], axis=0)
    np.testing.assert_allclose(cover_picture(job)[0], wanted, atol=1e-5)
    with pytest.raises(OptionsError, match="only with fill dataset"):
        METHOD.verify(network.card, METHOD.options.parse({"window": 16, "dataset": "any"}))


def test_default_target_is_the_top_class_and_the_table_names_the_best(network: TinyNetwork) -> None:
    job, result = occlude(network, window=20, stride=10)
    with torch.no_grad():
        clean = network.module()(torch.from_numpy(job.input)).softmax(1)[0].numpy()
    assert result.summary["target"] == f"class {clean.argmax()}"
    assert result.summary["clean probability"] == pytest.approx(clean.max(), abs=1e-5)
    scores = occlusion_by_slices(
        network.module(), job.input, np.zeros_like(job.input), 20, result.arrays["ys"], result.arrays["xs"]
    )
    top = result.tables["top"]
    assert list(top.columns) == ["row", "column", "rank", "class", "probability"]
    rows, columns = result.arrays["score"].shape
    assert len(top) == rows * columns * 5
    here = top[(top.row == 1) & (top.column == 2)]
    order = np.argsort(-scores[1, 2])[:5]
    assert list(here["class"]) == [f"class {index}" for index in order]
    np.testing.assert_allclose(here["probability"], scores[1, 2][order], atol=1e-5)
    assert list(result.tables["clean"]["rank"]) == [0, 1, 2, 3, 4]


def test_unit_of_a_layer_is_watched_by_its_maximum(network: TinyNetwork) -> None:
    job, result = occlude(network, window=16, stride=16, layer="second", unit=4)
    values = occlusion_by_slices(
        network.module(), job.input, np.zeros_like(job.input), 16, result.arrays["ys"], result.arrays["xs"], "second"
    )
    np.testing.assert_allclose(result.arrays["score"], values[..., 4], atol=1e-5)
    assert "top" not in result.tables
    assert result.panels[0].cells is not None
    assert not result.panels[0].cells.table


def test_one_channel_input(tmp_path: Path) -> None:
    network = exported_network(tmp_path, Tiny(channels=1), size=(32, 48), channels=1)
    job, result = occlude(network, window=12, stride=10, target="class 1")
    wanted = captum_occlusion(network.module(), job.input, 1, 12, 10, "probability")
    np.testing.assert_allclose(result.arrays["heatmap"], wanted, atol=1e-5)
    assert result.images["cover"].shape == (32, 48)
    assert result.preview.shape == (32, 48, 3)


def test_network_without_classes_asks_for_a_unit(network: TinyNetwork) -> None:
    card = network.card.model_copy(update={"classes": (), "output": "features"})
    with pytest.raises(UnsupportedError, match="choose a layer and a unit"):
        METHOD.verify(card, METHOD.options.parse({"window": 16}))
    METHOD.verify(card, METHOD.options.parse({"window": 16, "layer": "first", "unit": 1}))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"window": 41}, "window must be at most 40, the short side"),
        ({"window": 16, "stride": 17}, "stride must be at most the window, 16"),
        ({"layer": "first"}, "choose one of layer first, 0 to 5"),
        ({"unit": 3}, "choose the layer of unit 3"),
        ({"layer": "first", "unit": 3, "target": "1"}, "not both"),
    ],
)
def test_options_that_do_not_go_together(network: TinyNetwork, options: dict, line: str) -> None:
    with pytest.raises(OptionsError, match=line):
        METHOD.verify(network.card, METHOD.options.parse(options))


@pytest.mark.parametrize("options", [{"stride": 0}, {"window": 0}, {"fill": "pink"}, {"score": "loss"}])
def test_options_outside_their_limits(options: dict) -> None:
    with pytest.raises(OptionsError) as error:
        METHOD.options.parse(options)
    assert next(iter(options)) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_answer_does_not_depend_on_the_batch(network: TinyNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.engine.look.probing import probe

    _, whole = occlude(network, window=12, stride=6, target="0")
    monkeypatch.setattr(probe, "batch_size", lambda provider: 5)
    _, parts = occlude(network, window=12, stride=6, target="0")
    np.testing.assert_allclose(whole.arrays["score"], parts.arrays["score"], rtol=1e-5)


def test_batches_are_halved_when_memory_runs_out(network: TinyNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.models.graph.sessions import Session

    sizes: list[int] = []
    run = Session.run

    def small(self: Session, feeds: Any, outputs: Any = None) -> Any:
        if "ys" in feeds:
            sizes.append(len(feeds["ys"]))
            if sizes[-1] > 2:
                raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
        return run(self, feeds, outputs)

    _, whole = occlude(network, window=12, stride=6, target="0")
    monkeypatch.setattr(Session, "run", small)
    _, parts = occlude(network, window=12, stride=6, target="0")
    np.testing.assert_allclose(whole.arrays["score"], parts.arrays["score"], rtol=1e-5)
    assert sizes[1:4] == [8, 4, 2]
    assert max(sizes[4:]) == 2


def test_progress_shows_the_map_as_it_grows(network: TinyNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PREVIEW_SECONDS", -1e6)
    seen: list[Any] = []

    def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        seen.append((fraction, preview))

    occlude(network, window=12, stride=6, job_facts={"progress": Progress(progress)})
    assert seen[-1][0] == 1.0
    assert seen[-1][1].shape == (40, 52, 3)


def test_mean_drop_and_corners_of_an_uneven_frame() -> None:
    assert list(corners(40, 16, 16)) == [0, 16, 32]
    assert list(corners(40, 40, 16)) == [0]
    ys, xs = corners(5, 3, 2), corners(6, 4, 3)
    drop = np.array([[1, 2], [3, np.nan]], np.float32)
    heatmap = mean_drop(drop, ys, xs, 4, (5, 6))
    assert heatmap[0, 0] == 1
    assert heatmap[4, 0] == 3
    assert heatmap[2, 3] == 2
    assert heatmap[4, 5] == 0


def test_real_network_equals_captum(data: Path, tmp_path: Path) -> None:
    from tests.networks.large import real_squeezenet

    network = real_squeezenet(data, tmp_path, size=(64, 64))
    picture = sorted((data / "photos").glob("*.jpg"))[0]
    options = METHOD.options.parse({"window": 32, "stride": 16})
    job = Job(network=network, options=options, photo=Image.open(picture), provider="cpu")
    result = METHOD.run(job)
    target = job.card.class_index(result.summary["target"])
    wanted = captum_occlusion(network.module(), job.input, target, 32, 16, "probability")
    np.testing.assert_allclose(result.arrays["heatmap"], wanted, atol=1e-5)


def test_random_resnet_equals_captum(tmp_path: Path) -> None:
    from tests.networks.large import random_resnet18

    network = random_resnet18(tmp_path, size=(64, 64))
    job, result = occlude(network, window=32, stride=16, target="7", score="logit")
    wanted = captum_occlusion(network.module(), job.input, 7, 32, 16, "logit")
    np.testing.assert_allclose(result.arrays["heatmap"], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.gpu
def test_the_gpu_gives_the_same_map(network: TinyNetwork) -> None:
    from fovea.models.graph.sessions import check_providers

    cuda = next(row for row in check_providers() if row["name"] == "cuda")
    if not cuda["works"]:
        pytest.skip(f"CUDA does not run here: {cuda['reason']}")
    maps = []
    for provider in ("cpu", "cuda"):
        job, result = occlude(network, window=16, stride=8, target="3", job_facts={"provider": provider})
        assert job.ran["provider"] == provider
        maps.append(result.arrays["heatmap"])
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-3)
