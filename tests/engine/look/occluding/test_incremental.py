"""Occlusion by crops: the same scores as whole frames, whatever lies between the cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.engine.look.occluding import incremental
from fovea.engine.look.occluding.covers import cover_picture
from fovea.engine.look.occluding.incremental import IncrementalProbe, Locality, Reach, plan_cuts, plan_for
from fovea.engine.look.occluding.watching import open_probe
from fovea.engine.look.occluding.windows import corners
from fovea.engine.look.occlusion import METHOD
from fovea.engine.method import Job
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_occlusion import occlusion_by_slices


class Branches(nn.Module):
    """What local layers there are: no padding, ceil-mode pooling, dilation, depthwise, a shortcut, a concatenation."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.wide = nn.Conv2d(8, 6, (1, 5), padding=(0, 2))
        self.dilated = nn.Conv2d(8, 6, 3, padding=2, dilation=2)
        self.mean = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(20)
        self.depthwise = nn.Conv2d(20, 20, 3, stride=2, padding=1, groups=20, bias=False)
        self.shortcut = nn.Conv2d(20, 20, 1, stride=2)
        self.last = nn.Conv2d(20, 10, 3, padding=1)
        self.head = nn.Linear(10, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        x = self.norm(torch.cat([self.wide(x), self.dilated(x), self.mean(x)], 1))
        x = torch.relu(self.depthwise(x) * 0.5 + self.shortcut(x))
        return self.head(torch.sigmoid(self.last(x)).mean((2, 3)))


class Gated(nn.Module):
    """A channel gate after the first layer: what follows sees the whole frame."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.gate = nn.Linear(6, 6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        return self.head(self.second(x).mean((2, 3)))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cut pays."""
    monkeypatch.setattr(incremental, "LEAST_GAIN", float("inf"))
    monkeypatch.setattr(incremental, "COPY_COST", 0.0)


def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((90, 90))


def scores_of(network: TinyNetwork, window: int, stride: int, **options: object) -> tuple[Job, np.ndarray]:
    job = Job(
        network=network,
        options=METHOD.options.parse({"window": window, "stride": stride, "fill": "noise", "target": "1"} | options),
        photo=photo(),
        provider="cpu",
    )
    return job, METHOD.run(job).arrays["score"]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("size", [(64, 64), (61, 75)])
@pytest.mark.parametrize(("window", "stride"), [(9, 7), (1, 1), (30, 20)])
def test_the_scores_are_those_of_whole_frames(tmp_path: Path, size: tuple[int, int], window: int, stride: int) -> None:
    network = exported_network(tmp_path, Branches(), size=size, classes=5)
    job = Job(
        network=network,
        options=METHOD.options.parse({"window": window, "stride": stride, "fill": "noise"}),
        photo=photo(),
        provider="cpu",
    )
    ys, xs = (corners(length, window, stride)[:: 11 if stride == 1 else 1] for length in size)
    probe = open_probe(job, ys, xs)
    assert isinstance(probe, IncrementalProbe)
    assert len(probe.plan.crops) >= 2
    cover = cover_picture(job)
    rows, columns = (grid.ravel() for grid in np.meshgrid(ys, xs, indexing="ij"))
    feeds = {"photo": job.input, "cover": cover, "ys": rows, "xs": columns}
    got = probe.run(feeds, batched=("ys", "xs"))["probabilities"]
    wanted = occlusion_by_slices(network.module(), job.input, cover, window, ys, xs)
    np.testing.assert_allclose(got, wanted.reshape(got.shape), atol=2e-6)


@pytest.mark.usefixtures("eager")
def test_a_unit_before_the_last_cut_is_watched(tmp_path: Path) -> None:
    network = exported_network(tmp_path, Branches(), size=(64, 64), classes=5)
    job, got = scores_of(network, 9, 7, layer="depthwise", unit=4, target="")
    cover, (ys, xs) = cover_picture(job), (corners(64, 9, 7),) * 2
    wanted = occlusion_by_slices(network.module(), job.input, cover, 9, ys, xs, "depthwise")
    np.testing.assert_allclose(got, wanted[..., 4], atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_only_what_lies_before_a_global_step_is_cropped(tmp_path: Path) -> None:
    network = exported_network(tmp_path, Gated(), size=(40, 40), classes=4)
    job, got = scores_of(network, 8, 8)
    wanted = occlusion_by_slices(network.module(), job.input, cover_picture(job), 8, *(corners(40, 8, 8),) * 2)
    np.testing.assert_allclose(got, wanted[..., 1], atol=2e-6)
    plan = plan_for(job, ["output"], 8, corners(40, 8, 8), corners(40, 8, 8))
    assert plan is not None
    assert len(plan.crops) == 1


def test_a_plan_is_made_only_where_it_saves_work(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    tokens = exported_network(tmp_path / "tokens", TinyTokens(), size=(32, 32), classes=5)
    network = exported_network(tmp_path, Tiny(), size=(48, 48))
    for each, window in ((tokens, 8), (network, 48)):
        job, _ = scores_of(each, window, window)
        grid = corners(each.card.preprocessing.size[0], window, window)
        assert plan_for(job, ["output"], window, grid, grid) is None


def test_a_gpu_runs_whole_frames(tmp_path: Path) -> None:
    network = exported_network(tmp_path, Branches(), size=(64, 64), classes=5)
    job = Job(network=network, options=METHOD.options.parse({"window": 8}), photo=photo(), provider="cuda")
    assert plan_for(job, ["output"], 8, corners(64, 8, 8), corners(64, 8, 8)) is None


def test_the_cheapest_of_all_ways_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = exported_network(tmp_path, Branches(), size=(64, 64), classes=5)
    graph = network.graph()
    locality = Locality(graph.cut(["output"]), graph.input, (3, 64, 64))
    grid = corners(64, 8, 8)
    monkeypatch.setattr(incremental, "COPY_COST", 1e12)
    assert plan_cuts(locality, 8, grid, grid).crops == []
    monkeypatch.setattr(incremental, "COPY_COST", 0.0)
    plan = plan_cuts(locality, 8, grid, grid)
    assert 0 < plan.share < 0.9
    assert plan.tensors[0] == graph.input
    assert len(plan.crops) == len(plan.tensors) - 1


def test_reach_says_which_outputs_a_span_can_change() -> None:
    """Against a search through every output, for a chain of a strided and a dilated layer."""
    reach = Reach().then(2, -3, 4).then(1, -2, 3)
    length = 20
    for start in range(-4, 44):
        for end in range(start, start + 6):
            seen = [
                index
                for index in range(length)
                if index * reach.stride + reach.low < end and index * reach.stride + reach.high > start and end > start
            ]
            first, last = reach.changed(np.array([start]), np.array([end]), length)
            assert (list(range(int(first[0]), int(last[0]))) or []) == seen
