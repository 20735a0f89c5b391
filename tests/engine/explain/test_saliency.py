"""Saliency against Captum and written-out formulas; what it says of flat scores and wrong options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fovea.engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.explain.backward.reductions import REDUCTIONS
from fovea.engine.explain.backward.sampling import integrated_gradients, smoothgrad
from fovea.engine.method import Job, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def saliency(job: Job) -> np.ndarray:
    array: np.ndarray = find_method("saliency").run(job).arrays["saliency"]
    return array


def captum_map(net: TinyNetwork, job: Job, target: int) -> np.ndarray:
    captum = pytest.importorskip("captum.attr")
    x = torch.from_numpy(job.input).requires_grad_(True)
    found = captum.Saliency(net.torch_module).attribute(x, target=target, abs=True)
    values: np.ndarray = found[0].amax(0).numpy()
    return values


def test_equals_captum(tiny: TinyNetwork, make_job: Make) -> None:
    job = make_job("saliency", tiny, target="cup")
    expected = captum_map(tiny, job, 2)
    np.testing.assert_allclose(saliency(job), expected, rtol=0, atol=1e-5 * expected.max())


def test_equals_captum_on_resnet18(make_job: Make) -> None:
    import fovea.models.torchvision_compat  # noqa: F401, I001
    import torchvision

    torch.manual_seed(0)
    net = tiny_network("resnet18", torchvision.models.resnet18(), (64, 80), classes=tuple(map(str, range(1000))))
    job = make_job("saliency", net)
    top = int(net.torch_module(torch.from_numpy(job.input)).argmax())
    expected = captum_map(net, job, top)
    np.testing.assert_allclose(saliency(job), expected, rtol=0, atol=1e-5 * expected.max())


def test_equals_captum_on_squeezenet_with_real_weights(data: Path, make_job: Make) -> None:
    import fovea.models.torchvision_compat  # noqa: F401, I001
    import torchvision
    from PIL import Image
    from safetensors.torch import load_file

    module = torchvision.models.squeezenet1_1()
    module.load_state_dict(load_file(data / "weights" / "squeezenet1_1_caffe.safetensors"))
    net = tiny_network("squeezenet", module, (224, 224), classes=tuple(map(str, range(1000))))
    photo = Image.open(sorted((data / "photos").glob("*.*"))[0])
    job = make_job("saliency", net, photo=photo)
    top = int(net.torch_module(torch.from_numpy(job.input)).argmax())
    expected = captum_map(net, job, top)
    np.testing.assert_allclose(saliency(job), expected, rtol=0, atol=1e-5 * expected.max())


def test_a_unit_at_a_position_is_its_own_gradient(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    for position, pick in (
        ("2,5", lambda m: m[2, 5]),
        ("centre", lambda m: m[8, 8]),
        ("sum", lambda m: m.sum()),
        ("max", lambda m: m.max()),
    ):
        job = make_job("saliency", net, layer="conv2", unit=3, position=position, reduction="sum")
        x = torch.from_numpy(job.input).requires_grad_(True)
        out = net.torch_module.conv2(torch.relu(net.torch_module.conv1(x)))
        (expected,) = torch.autograd.grad(pick(out[0, 3]), x)
        np.testing.assert_allclose(saliency(job), expected[0].sum(0).numpy(), rtol=0, atol=1e-5)


def test_reductions_are_what_they_say() -> None:
    values, x = torch.tensor([[[1.0, -3.0]], [[-2.0, 1.0]]]), torch.tensor([[[2.0, 1.0]], [[1.0, -1.0]]])
    expected = {"max_abs": [2, 3], "sum": [-1, -2], "positive": [1, 1], "grad_times_input": [0, -4]}
    for name, row in expected.items():
        assert REDUCTIONS[name].apply(values, x).tolist() == [row], name


def test_smoothgrad_is_the_mean_over_its_noise() -> None:
    x = torch.rand(1, 2, 3, 3)

    def gradient(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 3 * batch**2, (batch**3).sum((1, 2, 3))

    draws = torch.Generator().manual_seed(7)
    deviation = 0.2 * float(x.max() - x.min())
    gradients = [3 * (x[0] + deviation * torch.randn(2, 3, 3, generator=draws)) ** 2 for _ in range(5)]
    plain = sum(gradients) / 5
    squared = sum(g**2 for g in gradients) / 5
    for batch in (1, 2, 5, 8):
        got = smoothgrad(x, gradient, samples=5, noise=0.2, seed=7, batch=batch)
        torch.testing.assert_close(got.values, plain)
        got = smoothgrad(x, gradient, samples=5, noise=0.2, seed=7, squared=True, batch=batch)
        torch.testing.assert_close(got.values, squared)


def test_a_batch_beyond_memory_is_halved(
    tiny_networks: Mapping[str, TinyNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea.engine.explain.backward import attribution
    from fovea.engine.scores import Score
    from fovea.models.card import OUTPUT

    module, whole, most = tiny_networks["wide"].torch_module, attribution.explain, 2

    def small(module: nn.Module, x: torch.Tensor, *rest: Any) -> Any:
        if len(x) > most:
            raise torch.OutOfMemoryError("out of memory")
        return whole(module, x, *rest)

    score = Score(OUTPUT, lambda out: out[:, 1], "logit", {})
    x = torch.randn(5, 3, 32, 48)
    expected = attribution.gradient_of(module, score)(x)
    monkeypatch.setattr(attribution, "explain", small)
    for got, wanted in zip(attribution.gradient_of(module, score)(x), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    most = 0
    with pytest.raises(FoveaError, match="memory is too small"):
        attribution.gradient_of(module, score)(x)


def test_integrated_gradients_of_a_cube_are_exact_and_complete() -> None:
    x, baseline = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)

    def gradient(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 3 * batch**2, (batch**3).sum((1, 2, 3))

    got = integrated_gradients(x, gradient, baseline, steps=4, batch=3)
    torch.testing.assert_close(got.values, (x**3 - baseline**3)[0])
    assert got.completeness_error is not None
    assert got.completeness_error < 1e-4


def test_integrated_gradients_equal_captum(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    captum = pytest.importorskip("captum.attr")
    net = tiny_networks["residual"]
    job = make_job("saliency", net, target="dog", sampling="integrated", reduction="sum", baseline="mean")
    x = torch.from_numpy(job.input)
    expected = captum.IntegratedGradients(net.torch_module).attribute(x, target=1, n_steps=50)[0].sum(0).numpy()
    np.testing.assert_allclose(saliency(job), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("sampling", ["plain", "smoothgrad", "smoothgrad_squared", "integrated"])
def test_every_network_gives_a_finite_map_and_is_left_as_it_was(
    sampling: str, tiny: TinyNetwork, make_job: Make
) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("saliency", tiny, sampling=sampling, samples=3, steps=3, baseline="blur")
    array = saliency(job)
    assert array.shape == tiny.card.preprocessing.size
    assert np.isfinite(array).all()
    assert array.max() > 0
    assert state_of(tiny.torch_module) == before
    again = saliency(make_job("saliency", tiny, sampling=sampling, samples=3, steps=3, baseline="blur"))
    np.testing.assert_array_equal(array, again)


class Flat(nn.Module):
    """A ReLU that never opens, and a probability that is always 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        nn.init.constant_(self.conv.bias, -100.0)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 5)
        with torch.no_grad():
            self.fc.bias[1] = 50.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.relu(self.conv(x)).mean((2, 3)))
        return out


def test_a_flat_score_is_told_and_not_shown_as_noise(make_job: Make) -> None:
    net = tiny_network("flat", Flat())
    job = make_job("saliency", net)
    assert saliency(job).max() == 0
    assert "zero everywhere" in job.warnings[0]
    job = make_job("saliency", net, layer="relu", unit=2)
    assert saliency(job).max() == 0
    assert "does not fire" in job.warnings[0]


class Saturated(nn.Module):
    """A network that is certain whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        with torch.no_grad():
            assert self.conv.bias is not None
            self.conv.bias[1] = 40.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x).mean((2, 3))
        return out


def test_a_saturated_probability_is_told(make_job: Make) -> None:
    job = make_job("saliency", tiny_network("sure", Saturated()), score="probability")
    saliency(job)
    assert "saturated" in job.warnings[0]
    job = make_job("saliency", tiny_network("sure", Saturated()))
    assert saliency(job).max() > 0
    assert job.warnings == []


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"target": "kat"}, UnknownNameError, "cat"),
        ({"target": "9"}, UnknownNameError, "0 to 4"),
        ({"layer": "conv9"}, UnknownNameError, "conv1"),
        ({"layer": "conv1", "unit": 8}, UnknownNameError, "0 to 7"),
        ({"layer": "conv1", "target": "cat"}, OptionsError, "not both"),
        ({"unit": 3}, OptionsError, "of which layer"),
        ({"position": "3;4"}, OptionsError, "row,column"),
        ({"layer": "conv1", "unit": 1, "position": "99,0"}, OptionsError, "16 rows"),
        ({"sampling": "integrated", "reduction": "grad_times_input"}, OptionsError, "already products"),
        ({"layer": "conv1", "score": "probability"}, OptionsError, "no probability"),
        ({"samples": 0}, OptionsError, "samples"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        saliency(make_job("saliency", tiny_networks["functional"], **given))
    assert "\n" not in str(caught.value)


def test_without_a_photo_or_classes_it_says_so(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    with pytest.raises(OptionsError, match="photo"):
        saliency(make_job("saliency", tiny_networks["wide"], photo=None))
    features = tiny_network("features", nn.Sequential(nn.Conv2d(3, 4, 3)), output="features", classes=())
    with pytest.raises(UnsupportedError, match="no classes"):
        saliency(make_job("saliency", features))
    assert saliency(make_job("saliency", features, layer="0")).max() > 0
