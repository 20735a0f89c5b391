"""Robustness over a data set: its shares and intervals, whatever the batches and a kill in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.errors import Cancelled, DatasetError, FoveaError, OptionsError
from fovea.engine.make import robustness as rooms
from fovea.engine.make.robustness import radii, wilson
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]
EPSILONS = "2/255, 16/255, 48/255"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photos of two labels, one of which is a class, and one file that is no photo."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(11):
        place = root / ("cat" if index < 6 else "boat")
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 120, (40, 52, 3), dtype=np.uint8)
        pixels[index : 20 + index, 5 : 20 + 2 * index, index % 3] += 120
        Image.fromarray(pixels).save(place / f"{index}.png")
    (root / "cat" / "broken.png").write_bytes(b"no photo")
    return root


@pytest.fixture
def make(make_job: Make, tiny_networks: Mapping[str, TinyNetwork], folder: Path) -> Callable[..., Job]:
    def made(network: str = "branching", **given: Any) -> Job:
        settings: dict[str, Any] = {"dataset": str(folder), "epsilons": EPSILONS, "steps": 4, "truth": "prediction"}
        job = make_job("robustness", tiny_networks[network], photo=None, **(settings | given))
        job.open_dataset = open_dataset
        return job

    return made


def run(job: Job) -> Result:
    return find_method("robustness").run(job)


def test_accuracy_falls_with_epsilon(make: Callable[..., Job]) -> None:
    job = make()
    result = run(job)
    table = result.tables["accuracy"]
    assert table["grey levels"].tolist() == [0, 2, 16, 48]
    assert table["PGD"].iloc[0] == table["FGSM"].iloc[0] == 1.0
    assert table["PGD"].is_monotonic_decreasing
    assert table["PGD"].iloc[-1] < 1
    for name in ("FGSM", "PGD"):
        assert (table[f"{name} low"] <= table[name]).all()
        assert (table[name] <= table[f"{name} high"]).all()
    assert result.summary["photos"] == 11
    assert any("1 photos cannot be read" in line for line in job.warnings)
    photos = result.tables["photos"]
    assert len(photos) == 11
    order = ["2/255", "16/255", "48/255", "none"]
    places = [order.index(at) for at in photos["fooled at"]]
    assert places == sorted(places)
    assert result.tables["most_fragile"]["image"][0] == photos["image"][0]
    assert result.tables["least_fragile"]["image"][0] == photos["image"].iloc[-1]
    assert (places.count(0) + places.count(1) + places.count(2)) / 11 == pytest.approx(1 - table["PGD"].iloc[-1])


def test_the_curve_has_its_bands(make: Callable[..., Job]) -> None:
    from types import SimpleNamespace

    result = run(make(epsilons="2/255, 0.0101", steps=1))
    view: Any = SimpleNamespace(table=result.tables.__getitem__)
    drawn = result.panels[0].figure(view)
    bands = [trace for trace in drawn.data if trace.fill == "toself"]
    assert len(bands) == 2
    table = result.tables["accuracy"]
    assert list(bands[1].y) == [*table["PGD high"], *table["PGD low"][::-1]]
    assert [trace.name for trace in drawn.data if trace.showlegend is not False] == ["FGSM", "PGD"]
    assert all(words.endswith((" holds", " at ±2", " at ±2.58")) for words in result.tables["most_fragile"]["told"])


def test_one_attack_more_is_one_photo_less(make: Callable[..., Job]) -> None:
    """Each photo's answer is that of the attack by itself, whatever else is in its batch."""
    import torch

    from fovea.engine.make.attack.fgsm import ATTACK as FGSM
    from fovea.engine.make.attack.shared.rounding import attacked_frames
    from fovea.engine.make.attack.shared.scores import scores_of
    from fovea.engine.make.optimise.canvas import to_picture

    job = make()
    result = run(job)
    dataset = open_dataset(job.options.dataset)
    scores = scores_of(job)
    right = []
    for index in range(len(dataset)):
        if "broken" in dataset.keys[index]:
            continue
        frame = dataset.frame(index, job.card.preprocessing)[None]
        clean = to_picture(frame)
        with torch.no_grad():
            label = scores(clean).argmax(1)
        made = FGSM.run(FGSM.batch(job, clean, label, epsilon=16 / 255))
        attacked = attacked_frames(frame, (made - clean).double().numpy(), FGSM.norm, 16 / 255)
        with torch.no_grad():
            right.append(int(scores(to_picture(attacked)).argmax()) == int(label))
    assert result.tables["accuracy"]["FGSM"].iloc[2] == pytest.approx(np.mean(right))


def test_labels_count_where_they_are_classes(make: Callable[..., Job]) -> None:
    result = run(make(truth="labels", epsilons="2/255", steps=1))
    auto = run(make(truth="auto", epsilons="2/255", steps=1))
    assert result.summary["right is"] == auto.summary["right is"] == "labels"
    first = result.tables["accuracy"].iloc[0]
    assert first["PGD"] < 1
    assert len(result.tables["photos"]) == round(first["PGD"] * 11)


def test_a_stopped_survey_goes_on_and_ends_the_same(
    make: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(make())
    monkeypatch.setattr(rooms, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(rooms, "BATCH", 3)
    job = make()
    job.checkpoints = tmp_path / "kept"

    def stop(fraction: float, message: str, *more: Any) -> None:
        if fraction > 0.5:
            raise Cancelled("stopped")

    job.progress = stop
    with pytest.raises(Cancelled):
        run(job)
    assert (tmp_path / "kept" / "robustness.npz").is_file()
    again = make()
    again.checkpoints = tmp_path / "kept"
    told: list[str] = []
    again.progress = lambda fraction, message, *more: told.append(message)
    result = run(again)
    assert "photo 1 of 12" not in told
    assert result.tables["accuracy"].equals(whole.tables["accuracy"])
    assert (
        result.tables["photos"]
        .drop(columns=["probability", "probability left"])
        .equals(whole.tables["photos"].drop(columns=["probability", "probability left"]))
    )


def test_wilson_is_the_textbook() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_radii() -> None:
    assert radii("8/255, 1/255,8/255") == [1 / 255, 8 / 255]
    too_many = ",".join(f"{n}/255" for n in range(1, 20))
    for wrong in ("", "a", "8", "0.001", "nan", "1/255,nan", "nan/255", "inf", too_many):
        with pytest.raises(ValueError, match="expected"):
            radii(wrong)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"epsilons": "8"}, OptionsError, "one grey level, to 1"),
        ({"epsilons": "x"}, OptionsError, "such as 2/255"),
        ({"epsilons": "nan"}, OptionsError, "to 1, not 'nan'"),
        ({"epsilons": "1/255,nan"}, OptionsError, "to 1, not '1/255,nan'"),
        ({"epsilons": "2/255,inf"}, OptionsError, "to 1, not '2/255,inf'"),
        ({"dataset": "/no/such/folder"}, DatasetError, "no"),
        ({"limit": -1}, OptionsError, "limit"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make: Callable[..., Job]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make(**given))
    assert "\n" not in str(caught.value)
