"""The parts of attacks: their formulas, closed forms and balls, and Foolbox's answers on the same photos."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fovea.engine.errors import NetworkError
from fovea.engine.make.attack.carlini_wagner import carlini_wagner
from fovea.engine.make.attack.deepfool import deepfool, nearest_border
from fovea.engine.make.attack.few_pixel import few_pixels, with_pixels
from fovea.engine.make.attack.shared.attack import find_attack
from fovea.engine.make.attack.shared.ball import random_start
from fovea.engine.make.attack.shared.rounding import attacked_frames
from fovea.engine.make.attack.shared.scores import scores_of
from fovea.engine.make.fool.evolution import evolve
from fovea.engine.make.optimise.canvas import to_picture
from fovea.engine.method import Job
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]
PHOTOS = ("cat", "coffee", "flower", "motorcycle")


def test_starts_are_in_the_ball_and_each_has_its_own_seed(
    tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    clean = torch.rand(3, 3, 8, 8) * 0.5 + 0.25
    classes = torch.zeros(3, dtype=torch.long)
    job = make_job("adversarial", tiny_networks["residual"])
    for norm, size in ((math.inf, 0.1), (2.0, 1.0)):
        batch = find_attack("pgd").batch(job, clean, classes, epsilon=size, seeds=[4, 5, 4])
        starts = random_start(batch, norm)
        away = (starts - clean).flatten(1)
        lengths = away.abs().amax(1) if norm == math.inf else away.norm(dim=1)
        assert float(lengths.max()) <= size + 1e-6
        assert float(lengths.min()) > 0.9 * size
        torch.testing.assert_close(
            random_start(dataclasses.replace(batch, clean=clean[1:2], seeds=[5]), norm), starts[1:2]
        )


def attacked(name: str, job: Job, clean: Tensor, labels: Tensor, **how: Any) -> Tensor:
    """The pictures that the attack of this name makes of clean ones."""
    attack = find_attack(name)
    return attack.run(attack.batch(job, clean, labels, **how))


# --- formulas and closed forms ---------------------------------------------------------------------------------


def pictures_of(job: Job, count: int) -> Tensor:
    rng = np.random.default_rng(3)
    noise = rng.integers(-20, 20, (count, *job.frame.shape))
    return to_picture(np.clip(job.frame + noise, 0, 255).astype(np.uint8))


def test_momentum_is_its_written_out_steps(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    """Dong et al. 2018, algorithm 1, with the projection on the ball and the box."""
    job = make_job("adversarial", tiny_networks["residual"])
    clean = pictures_of(job, 3)
    scores = scores_of(job)
    labels = scores(clean).argmax(1)
    epsilon = 8 / 255
    made = attacked("momentum", job, clean, labels, epsilon=epsilon)
    x, gathered = clean.clone(), torch.zeros_like(clean)
    for _ in range(10):
        x.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(scores(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        gathered = gathered + gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        x = x.detach() + epsilon / 10 * gathered.sign()
        x = torch.max(torch.min(x, clean + epsilon), clean - epsilon).clamp(0, 1)
    torch.testing.assert_close(made, x, atol=1e-6, rtol=0)


def test_one_step_is_the_formula_to_the_bit(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    for name in ("residual", "depthwise", "grey"):
        job = make_job("adversarial", tiny_networks[name])
        clean = pictures_of(job, 4)
        scores = scores_of(job)
        labels = scores(clean).argmax(1)
        made = attacked("fgsm", job, clean, labels, epsilon=4 / 255)
        x = clean.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores(x), labels, reduction="sum"), x)
        frames = attacked_frames(
            np.ascontiguousarray((clean * 255).round().byte().permute(0, 2, 3, 1).numpy()),
            (made - clean).double().numpy(),
            math.inf,
            4 / 255,
        )
        expected = ((clean * 255).round() + 4 * gradient.sign()).clamp(0, 255).byte().permute(0, 2, 3, 1)
        np.testing.assert_array_equal(frames, expected.numpy())


def test_deepfool_on_a_linear_network_is_the_closed_form() -> None:
    torch.manual_seed(2)
    weights, offsets = torch.randn(5, 3, 4, 4), torch.randn(5)
    clean = 0.4 + 0.2 * torch.rand(6, 3, 4, 4)

    def scores(x: Tensor) -> Tensor:
        return 0.2 * torch.einsum("nchw,kchw->nk", x, weights) + 0.02 * offsets

    logits = scores(clean)
    labels = logits.argmax(1)
    reached = deepfool(scores, clean, labels, overshoot=0.02)
    assert (scores(reached).argmax(1) != labels).all()
    for n in range(len(clean)):
        label = int(labels[n])
        best = min(
            float((logits[n, label] - logits[n, k]) / (0.2 * (weights[k] - weights[label])).norm())
            for k in range(5)
            if k != label
        )
        assert float((reached[n] - clean[n]).norm()) == pytest.approx(1.02 * (best + 1e-4), rel=1e-4)


def test_the_nearest_border_is_chosen_for_each_picture() -> None:
    differences = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]])
    directions = torch.zeros(2, 2, 1, 1, 2)
    directions[:, 0, 0, 0, 0] = 1.0
    directions[:, 1, 0, 0, 1] = 4.0
    steps = nearest_border(differences, directions).flatten(1)
    torch.testing.assert_close(steps, torch.tensor([[0.0, 0.5001], [0.0, 0.2501]]), atol=1e-6, rtol=0)


def test_carlini_wagner_on_a_linear_network_comes_near_the_closed_form() -> None:
    torch.manual_seed(2)
    weights = torch.randn(4, 3, 4, 4)
    clean = 0.4 + 0.2 * torch.rand(5, 3, 4, 4)

    def scores(x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x - 0.5, weights)

    labels = scores(clean).argmax(1)
    targets = (labels + 1) % 4
    reached = carlini_wagner(scores, clean, targets, targeted=True, steps=80, rate=5e-3, searches=6, constant=0.1)
    assert (scores(reached).argmax(1) == targets).all()
    free = carlini_wagner(scores, clean, labels, steps=80, rate=5e-3, searches=6, constant=0.1)
    logits = scores(clean)
    for n in range(len(clean)):
        label = int(labels[n])
        best = min(
            float((logits[n, label] - logits[n, k]) / (weights[k] - weights[label]).norm())
            for k in range(4)
            if k != label
        )
        length = float((free[n] - clean[n]).norm())
        assert best * 0.999 <= length <= best * 1.25


def test_few_pixels_are_few_and_the_same_for_the_same_seed() -> None:
    frame = np.full((8, 10, 3), 100, np.uint8)
    genes = np.array([[7.9, 9.9, 255.9, 0.0, 3.2, 0.0, 0.0, 1.0, 2.0, 3.0]])
    one = with_pixels(frame, genes)[0]
    assert one[7, 9].tolist() == [255, 0, 3]
    assert one[0, 0].tolist() == [1, 2, 3]
    assert int(np.any(one != frame, axis=-1).sum()) == 2

    def ask(frames: np.ndarray) -> np.ndarray:
        """One class fires for a red pixel on the left."""
        red = (frames[:, :, :4, 0].astype(float) - frames[:, :, :4, 1]).reshape(len(frames), -1).max(1) / 255
        return np.stack([1 - red, red], axis=1)

    reached = few_pixels(ask, frame, 0, pixels=1, population=20, generations=20, seed=1)
    assert ask(reached[None])[0].argmax() == 1
    assert int(np.any(reached != frame, axis=-1).sum()) == 1
    again = few_pixels(ask, frame, 0, pixels=1, population=20, generations=20, seed=1)
    np.testing.assert_array_equal(again, reached)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_evolution_ends_in_one_line_where_the_network_overflows(wrong: float) -> None:
    frame = np.full((8, 10, 3), 100, np.uint8)

    def ask(frames: np.ndarray) -> np.ndarray:
        """Finite for the frame alone."""
        changed = np.any(frames != frame, axis=(1, 2, 3))
        return np.where(changed[:, None], [[0.5, wrong]], [[0.5, 0.5]])

    for evolution in (
        lambda: few_pixels(ask, frame, 0, pixels=1, population=5, generations=2),
        lambda: few_pixels(ask, frame, 1, targeted=True, pixels=1, population=5, generations=2),
        lambda: evolve(ask, [0, 1], (8, 10), 3, population=5, generations=2, enough=0.9, seed=0),
    ):
        with pytest.raises(NetworkError, match="is not finite: the network overflows") as caught:
            evolution()
        assert "\n" not in str(caught.value)


# --- against Foolbox -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foolbox() -> Any:
    """The reference. (It imports a name that SciPy has moved, and warns of it.)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("foolbox")


@pytest.fixture(scope="module")
def photos(fovea_home: Any) -> tuple[Job, Tensor, Tensor]:
    """A job on the bundled network, sample photos as it sees them, and its classes of them."""
    from fovea.engine.data.photos import open_photo
    from fovea.engine.method import find_method
    from fovea.models.zoo import load

    network = load("fovea")
    options = find_method("adversarial").options.parse({})
    frames = np.stack([network.card.preprocessing.frame(open_photo(f"sample:{name}")) for name in PHOTOS])
    job = Job(network=network, options=options, photo=open_photo("sample:cat"))
    clean = to_picture(frames)
    with torch.no_grad():
        return job, clean, scores_of(job)(clean).argmax(1)


def foolbox_model(foolbox: Any, job: Job) -> Any:
    preprocessing = job.card.preprocessing
    how = {"mean": list(preprocessing.mean), "std": list(preprocessing.std), "axis": -3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return foolbox.PyTorchModel(job.network.module("cpu"), bounds=(0, 1), device="cpu", preprocessing=how)


def told(job: Job, clean: Tensor, labels: Tensor, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures fool, and how long their changes are in L2."""
    with torch.no_grad():
        fools = (scores_of(job)(pictures).argmax(1) != labels).numpy()
    return fools, (pictures - clean).flatten(1).norm(dim=1).numpy()


@pytest.mark.parametrize("name", ["fgsm", "bim", "momentum", "deepfool", "carlini_wagner"])
def test_as_foolbox_does(name: str, foolbox: Any, photos: tuple[Job, Tensor, Tensor]) -> None:
    job, clean, labels = photos
    model, attacks, epsilon = foolbox_model(foolbox, job), foolbox.attacks, 2 / 255
    if name == "deepfool":
        clean, labels = clean[1:3], labels[1:3]
        ours = deepfool(scores_of(job), clean, labels, tried=5)
        theirs = attacks.L2DeepFoolAttack(steps=50, overshoot=0.02, candidates=5).run(model, clean, labels)
    elif name == "carlini_wagner":
        few = {"steps": 12, "binary_search_steps": 2, "initial_const": 10.0}
        ours = carlini_wagner(scores_of(job), clean[:2], labels[:2], steps=12, searches=2, constant=10.0)
        theirs = attacks.L2CarliniWagnerAttack(**few).run(model, clean[:2], labels[:2])
        clean, labels = clean[:2], labels[:2]
    else:
        ours = attacked(name, job, clean, labels, epsilon=epsilon)
        made = {
            "fgsm": lambda: attacks.LinfFastGradientAttack(),
            "bim": lambda: attacks.LinfBasicIterativeAttack(rel_stepsize=0.125, steps=10),
            "momentum": lambda: attacks.LinfMomentumIterativeFastGradientMethod(steps=10, rel_stepsize=0.1),
        }[name]()
        theirs = made.run(model, clean, labels, epsilon=epsilon)
    (fools, lengths), (others, reference) = told(job, clean, labels, ours), told(job, clean, labels, theirs)
    np.testing.assert_array_equal(fools, others)
    np.testing.assert_allclose(lengths, reference, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "pgd_l2"])
def test_from_a_random_start_as_often_as_foolbox(name: str, foolbox: Any, photos: tuple[Job, Tensor, Tensor]) -> None:
    job, clean, labels = photos
    epsilon = 2 / 255 if name == "pgd" else 0.5
    ours = attacked(name, job, clean, labels, epsilon=epsilon, steps=5)
    kind = foolbox.attacks.LinfPGD if name == "pgd" else foolbox.attacks.L2PGD
    torch.manual_seed(0)
    model = foolbox_model(foolbox, job)
    theirs = kind(rel_stepsize=find_attack(name).step, steps=5).run(model, clean, labels, epsilon=epsilon)
    (fools, lengths), (others, reference) = told(job, clean, labels, ours), told(job, clean, labels, theirs)
    np.testing.assert_array_equal(fools, others)
    np.testing.assert_allclose(lengths, reference, rtol=0.05)


# --- ONNX files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx_name(tmp_path_factory: pytest.TempPathFactory, tiny_networks: Mapping[str, TinyNetwork]) -> str:
    """A tiny network as the ONNX file that a user would bring, of a fixed batch of two."""
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(tiny_networks["functional"].torch_module, (torch.zeros(2, 3, 32, 32),), path, dynamo=False)
    return f"onnx:{path}"


def test_an_onnx_file_is_attacked_without_gradients(onnx_name: str, small_photo: Any) -> None:
    from fovea.engine.errors import UnsupportedError
    from fovea.engine.method import find_method
    from fovea.models.zoo import load

    network = load(onnx_name)
    for name, option, free, small in (
        ("adversarial", "attack", "few_pixel", {"population": 6, "steps": 2}),
        ("fooling", "way", "evolution", {"population": 6, "steps": 2, "classes": "1"}),
    ):
        method = find_method(name)
        with pytest.raises(UnsupportedError, match=f"choose {option} {free}, which needs none"):
            method.verify(network.card, method.options.parse({}))
        options = method.options.parse({option: free, **small})
        method.verify(network.card, options)
        job = Job(network=network, options=options, photo=small_photo, provider="cpu")
        result = method.run(job)
        assert result.panels
        assert job.ran["provider"] == "cpu"
    robustness = find_method("robustness")
    with pytest.raises(UnsupportedError, match="register the torch network"):
        robustness.verify(network.card, robustness.options.parse({}))
