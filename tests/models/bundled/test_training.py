"""The training script: its split, its crops, its schedule, and that a resumed run is the same run."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.models.bundled import data
from fovea.models.bundled.augment import distort
from fovea.models.bundled.evaluate import evaluate
from fovea.models.bundled.net import RESIZE, FoveaNet, normalise
from fovea.models.bundled.prepare import Prepared, batched, prepare
from fovea.models.bundled.train import (
    Recipe,
    Trainer,
    export,
    main,
    roughness,
    save_checkpoint,
    settle,
    smooth_start,
)

CLASSES = 3
TINY = Recipe(epochs=3, batch=4, peak=0.02, sizes=((0.0, 16), (0.5, 24)))


def tiny_net() -> FoveaNet:
    torch.manual_seed(5)
    return FoveaNet(CLASSES, stem_width=4, stage_widths=(4, 6, 6, 8))


@pytest.fixture
def material() -> Prepared:
    """Sixteen photos in two crops: each class has a colour, so that there is something to learn."""
    dice = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, -1, -1])
    views = dice.integers(0, 90, (16, 2, 32, 32, 3), dtype=np.uint8)
    for photo, label in enumerate(labels):
        views[photo, ..., label] += 120
    own = np.eye(CLASSES)[labels] * 4
    return Prepared(
        views=views,
        labels=labels,
        teacher_logits=dice.normal(size=(16, 2, 1000)).astype(np.float16),
        probe_logits=np.repeat(own[:, None], 2, axis=1).astype(np.float16),
        held_out=views[:6, 0],
        held_out_labels=labels[:6],
        names=["red", "green", "blue"],
    )


def photo_folder(root: Path, classes: dict[str, int]) -> Path:
    """Write `classes[name]` small photos of 20 x 16 pixels into each class's folder."""
    dice = np.random.default_rng(1)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = dice.integers(0, 255, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"image_{index:04d}.jpg")
    return root


def test_split_holds_out_a_tenth_and_at_least_three(tmp_path: Path) -> None:
    root = photo_folder(tmp_path, {"ant": 5, "bass": 31, "wild_cat": 60})
    training, held_out = data.split(root)
    counts = np.bincount([photo.label for photo in held_out])
    assert counts.tolist() == [2, 3, 6], "half of five at most, three of thirty-one, a tenth of sixty"
    assert not {photo.path for photo in training} & {photo.path for photo in held_out}
    assert len(training) + len(held_out) == 96
    assert data.split(root) == (training, held_out)
    assert data.split(root, seed=1) != (training, held_out)


def test_split_puts_the_same_face_on_the_same_side_in_both_folders(tmp_path: Path) -> None:
    root = photo_folder(tmp_path, {"Faces": 40, "Faces_easy": 40})
    _, held_out = data.split(root)
    sides = [{photo.path.name for photo in held_out if photo.label == label} for label in (0, 1)]
    assert sides[0] == sides[1]
    assert len(sides[0]) == 4


def test_split_of_a_folder_without_classes_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="one sub-folder of images for each class"):
        data.split(tmp_path / "nowhere")


def test_random_boxes_lie_inside_the_photo() -> None:
    dice = random.Random(0)
    for width, height in [(160, 240), (240, 160), (7, 900)]:
        for _ in range(50):
            left, top, right, bottom = data.random_box(width, height, dice)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


@pytest.mark.parametrize("size", [(160, 240), (331, 160), (128, 128)])
def test_centre_crop_equals_the_plain_way(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    scale = RESIZE / min(size)
    resized = image.resize((int(size[0] * scale + 1e-9), int(size[1] * scale + 1e-9)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 128) / 2), round((resized.height - 128) / 2)
    expected = np.asarray(resized)[top : top + 128, left : left + 128]
    assert np.array_equal(data.centre_crop(image), expected)


def test_readable_names_differ_from_one_another() -> None:
    folders = ["BACKGROUND_Google", "Faces", "Faces_easy", "wild_cat", "water_lilly", "ant"]
    names = [data.readable(folder) for folder in folders]
    assert names == ["background", "face", "face close-up", "wild cat", "water lily", "ant"]


def test_batched_keeps_order_and_the_short_rest() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_rate_rises_then_falls_to_nothing() -> None:
    recipe = Recipe()
    rates = [recipe.rate(progress) for progress in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(recipe.peak)
    assert top == round(100 * recipe.warmup)
    assert all(before < after for before, after in itertools.pairwise(rates[: top + 1]))
    assert all(before > after for before, after in itertools.pairwise(rates[top:]))
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_distort_gives_normalised_inputs_of_the_size_asked_for() -> None:
    pixels = torch.full((5, 32, 32, 3), 128, dtype=torch.uint8)
    out = distort(pixels, 24, np.random.default_rng(0))
    assert out.shape == (5, 3, 24, 24)
    assert out.abs().max() < 3
    assert not torch.allclose(out[0], out[1]), "each photo has its own colours"
    assert torch.equal(out, distort(pixels, 24, np.random.default_rng(0)))


def test_roughness_is_the_sum_over_neighbouring_taps() -> None:
    weight = torch.randn(2, 3, 4, 4)
    total = 0.0
    for n, c, i, j in itertools.product(range(2), range(3), range(-1, 4), range(-1, 4)):

        def tap(y: int, x: int, n: int = n, c: int = c) -> float:
            return float(weight[n, c, y, x]) if 0 <= y < 4 and 0 <= x < 4 else 0.0

        total += (tap(i + 1, j) - tap(i, j)) ** 2 * (j >= 0) + (tap(i, j + 1) - tap(i, j)) ** 2 * (i >= 0)
    assert float(roughness(weight)) == pytest.approx(total, rel=1e-5)


def test_smooth_start_keeps_the_size_and_takes_off_roughness() -> None:
    weight = torch.randn(8, 3, 7, 7)
    before = weight.clone()
    smooth_start(weight)
    assert float(weight.std()) == pytest.approx(float(before.std()), rel=1e-4)
    assert float(roughness(weight)) < 0.5 * float(roughness(before))


def test_order_draws_rare_classes_oftener_and_every_epoch_anew(material: Prepared) -> None:
    labels = np.array([0] * 100 + [1] * 10 + [2] * 4)
    views = np.zeros((len(labels), 1, 4, 4, 3), dtype=np.uint8)
    large = replace(material, labels=labels, views=views, teacher_logits=None, probe_logits=None)
    trainer = Trainer(large, TINY, net=tiny_net())
    drawn = np.bincount(labels[trainer.order(0)])
    assert drawn[0] / 100 < drawn[1] / 10 < drawn[2] / 4
    assert not np.array_equal(trainer.order(0), trainer.order(1))
    assert np.array_equal(trainer.order(1), trainer.order(1))


@pytest.mark.parametrize("taught", [True, False])
def test_steps_on_tiny_data_lower_the_loss(material: Prepared, taught: bool) -> None:
    if not taught:
        material = replace(material, teacher_logits=None, probe_logits=None)
    recipe = replace(TINY, mixup=0.0, warmup=1e-9, momentum=1e-9, chunks=1, sizes=((0.0, 32),))
    trainer = Trainer(material, recipe, net=tiny_net())
    losses = [float(trainer.train_step(np.arange(12), (0, 0))) for _ in range(4)]
    assert losses == sorted(losses, reverse=True), "on the same crops every step must help"


def test_resume_continues_bit_for_bit(material: Prepared, tmp_path: Path) -> None:
    whole = Trainer(material, TINY, net=tiny_net())
    for _ in range(TINY.epochs):
        whole.train_epoch()

    first = Trainer(material, TINY, net=tiny_net())
    first.train_epoch()
    save_checkpoint(first, tmp_path / "checkpoint.pt")
    second = Trainer(material, TINY, seed=0, net=FoveaNet(CLASSES, 4, (4, 6, 6, 8)))
    second.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    while second.step < whole.step:
        second.train_epoch()

    assert second.progress == whole.progress
    for ours, theirs in ((second.student, whole.student), (second.average, whole.average)):
        for (name, value), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, expected), name


@pytest.mark.parametrize("chunks", [1, 3])
def test_workers_change_nothing(material: Prepared, chunks: int) -> None:
    recipe = replace(TINY, epochs=1, chunks=chunks, batch=6)
    alone, many = (Trainer(material, recipe, net=tiny_net(), workers=workers) for workers in (1, 3))
    assert alone.train_epoch() == many.train_epoch()
    for (name, value), expected in zip(
        alone.student.state_dict().items(), many.student.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name


def test_resume_with_other_epochs_stretches_what_is_left(material: Prepared) -> None:
    first = Trainer(material, TINY, net=tiny_net())
    first.train_epoch()
    longer = Trainer(material, replace(TINY, epochs=5), net=tiny_net())
    longer.load_state_dict(first.state_dict())
    while longer.step < 5 * longer.steps_per_epoch:
        longer.train_epoch()
    assert longer.progress == pytest.approx(1)


def test_evaluate_counts_hits_by_class_and_dead_units() -> None:
    net = tiny_net().eval()
    with torch.no_grad():
        net.stem.bn.weight[1] = 0.0
        net.stem.bn.bias[1] = -1.0
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    photos = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    score = evaluate(net, photos, np.array([0, 1, 1, 0, 0]), batch=2)
    assert score.top1 == pytest.approx(2 / 5)
    assert score.per_class[:2].tolist() == [0.0, 1.0]
    assert np.isnan(score.per_class[2])
    assert score.mean_class == pytest.approx(1 / 2)
    assert score.dead["stem.relu"][0] >= 1
    assert score.dead["stem.relu"][1] == 4
    assert not net.stem.relu._forward_hooks, "nothing stays hooked"


def test_settle_measures_the_statistics_of_what_it_is_shown() -> None:
    net = tiny_net().eval()
    photos = np.random.default_rng(3).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    settle(net, photos, batch=8)
    seen = net.stem.conv(normalise(torch.from_numpy(photos).permute(0, 3, 1, 2)))
    assert torch.allclose(net.stem.bn.running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(net.stem.bn.running_var, seen.var((0, 2, 3)), rtol=1e-4)
    assert not any(module.training for module in net.modules())
    assert net.stem.bn.momentum == 0.1


def test_exported_weights_are_half_precision_and_load_again(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from fovea.models.bundled.net import class_names, load

    net = FoveaNet(CLASSES)
    export(net, ["red", "green", "blue"], tmp_path)
    assert {value.dtype for value in load_file(tmp_path / "fovea.safetensors").values()} == {torch.float16}
    loaded = load(tmp_path / "fovea.safetensors")
    assert torch.allclose(loaded.fc.weight, net.fc.weight, atol=1e-3)
    assert class_names(tmp_path / "classes.txt") == ["red", "green", "blue"]


def test_prepare_computes_once(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", {"ant": 6, "bass": 6})
    reports: list[str] = []

    def report(done: int, total: int, text: str) -> None:
        reports.append(text)

    first = prepare(root, [], None, tmp_path / "work", 2, 0, "cpu", report)
    assert first.views.shape == (6, 2, 128, 128, 3)
    assert first.held_out.shape == (6, 128, 128, 3)
    assert reports
    reports.clear()
    second = prepare(root, [], None, tmp_path / "work", 2, 0, "cpu", report)
    assert not reports
    assert np.array_equal(first.views, second.views)


def test_command_line_trains_writes_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photo_folder(tmp_path / "photos", {"ant": 5, "bass": 5})
    common = ["--data", str(root), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    common += ["--crops", "1", "--device", "cpu"]
    assert main([*common, "--epochs", "1"]) == 0
    first = (tmp_path / "out" / "fovea.safetensors").read_bytes()
    assert main([*common, "--epochs", "2", "--resume"]) == 0
    assert (tmp_path / "out" / "fovea.safetensors").read_bytes() != first
    assert (tmp_path / "out" / "classes.txt").read_text() == "ant\nbass\n"
    assert "epoch 2" in capsys.readouterr().err


def test_second_cycle_begins_with_the_weights_of_the_first_and_nothing_else(material: Prepared) -> None:
    first = Trainer(material, TINY, net=tiny_net())
    first.train_epoch()
    second = Trainer(material, replace(TINY, peak=0.01), seed=1, net=tiny_net())
    second.start_from(first.state_dict())
    for mine, theirs in ((second.student, first.student), (second.average, first.average)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    assert (second.step, second.progress, second.history) == (0, 0.0, [])
    assert not second.solver.state_dict()["state"]
    second.train_epoch()
    assert second.step == second.steps_per_epoch
