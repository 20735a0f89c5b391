"""Runs: what is recorded of one, when it is found again, and how each ending is kept."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import FoveaError
from fovea.engine.run.execute import RANDOM_WARNING, execute
from fovea.engine.store import Store
from tests.engine import fakes


def test_a_finished_run_is_recorded_whole(store: Store) -> None:
    record = execute(fakes.request("watch", image="sample:cat", options={"steps": 3, "loud": True}), store)
    assert record.status == "done"
    assert record.options == {
        "steps": 3,
        "wait": 0.0,
        "colour": "red",
        "loud": True,
        "target": None,
        "layer": "",
        "second": "",
    }
    assert record.summary == {"steps": 3, "begun": 0, "mean": 0.5, "nothing": None}
    assert (record.provider, record.precision, record.device) == ("cpu", "fp32", "cpu")
    assert record.warnings == ["it was loud"]
    assert record.inputs[0].reference == "sample:cat"
    assert len(record.inputs[0].sha256) == 64
    assert {"fovea", "python", "numpy", "torch"} <= set(record.versions)
    run = store.run(record.id)
    assert run.record == record
    assert json.loads((run.folder / "run.json").read_text())["schema"] == 1
    np.testing.assert_array_equal(run.array("values"), [0, 1, 2])
    assert list(run.table("losses").columns) == ["step", "loss"]
    assert run.image("count").size == (30, 20)
    assert run.image("photo").size == (16, 16)
    assert run.preview is not None


def test_the_photo_is_saved_as_the_network_saw_it(store: Store) -> None:
    from fovea.engine.data.photos import open_photo

    record = execute(fakes.request("watch", image="sample:cat"), store)
    expected = fakes.CARD.preprocessing.frame(open_photo("sample:cat"))
    np.testing.assert_array_equal(np.asarray(store.run(record.id).image("photo")), expected)


def test_the_same_request_is_computed_once(store: Store) -> None:
    first = execute(fakes.request(), store)
    assert execute(fakes.request(name="another title"), store).id == first.id
    assert execute(fakes.request(), store, fresh=True).id != first.id
    assert store.count() == 2


def test_a_photo_counts_by_its_content(store: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    first = execute(fakes.request("watch", image=str(tmp_path / "a.png")), store)
    assert execute(fakes.request("watch", image=str(tmp_path / "b.png")), store).id == first.id
    (tmp_path / "a.png").unlink()
    again = execute(first.request(), store, fresh=True)
    assert again.status == "done"
    assert again.fingerprint == first.fingerprint
    assert again.inputs[0].title == "a.png"


def test_random_weights_are_said_on_every_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, fakes.CARD.model_copy(update={"random": True}))
    assert execute(fakes.request(), store).warnings == [RANDOM_WARNING]


def test_a_mistake_is_kept_as_one_line(store: Store) -> None:
    record = execute(fakes.request("fail"), store)
    assert (record.status, record.error) == ("failed", "this never works: choose another")
    assert store.run(record.id).artifacts == ["run.json"]


def test_a_crash_leaves_its_traceback_in_a_file(store: Store) -> None:
    record = execute(fakes.request("crash"), store)
    assert (record.status, record.error) == ("failed", "ValueError: two lines")
    assert "Traceback" in (store.run(record.id).folder / "error.txt").read_text()


def test_a_failed_run_is_not_found_again(store: Store) -> None:
    first = execute(fakes.request("fail"), store)
    assert execute(fakes.request("fail"), store).id != first.id


def test_a_cancel_ends_a_run_within_a_step(store: Store) -> None:
    seen: list[str] = []

    def listener(fraction: float, message: str, preview: object, curve: object) -> None:
        seen.append(message)
        if message == "step 2":
            store.cancel(store.list(status="running")[0].id)

    record = execute(fakes.request(options={"steps": 9}), store, listener=listener)
    assert record.status == "cancelled"
    assert seen[-1] == "step 2"
    assert store.live(record.id) is None
    assert not list(store.live_runs.root.iterdir())


def test_an_interrupted_run_goes_on_where_it_stopped(store: Store) -> None:
    def interrupt(fraction: float, message: str, preview: object, curve: object) -> None:
        if message == "step 4":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(fakes.request(options={"steps": 9}), store, listener=interrupt)
    (row,) = store.list(status="interrupted")
    record = execute(store.run(row.id).record.request(), store)
    assert (record.status, record.summary["begun"]) == ("done", 3)
    assert not list((store.home / "checkpoints").glob("*"))


def test_fresh_ignores_checkpoints(store: Store) -> None:
    def interrupt(fraction: float, message: str, preview: object, curve: object) -> None:
        if message == "step 4":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(fakes.request(options={"steps": 9}), store, listener=interrupt)
    assert execute(fakes.request(options={"steps": 9}), store, fresh=True).summary["begun"] == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.engine.store.folder

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fovea.engine.store.folder, "_write_tables", full)
    record = execute(fakes.request(), store)
    assert record.status == "failed"
    assert record.error.startswith("the disk is full: nothing was saved")
    assert [path.name for path in store.runs.iterdir()] == [record.id]
    assert store.run(record.id).artifacts == ["preview.png", "run.json"]


def test_a_disk_too_full_for_the_record_still_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.engine.store.folder

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fovea.engine.store.folder, "_fsync", full)
    record = execute(fakes.request(), store)
    assert record.status == "failed"
    assert store.row(record.id).error.startswith("the disk is full")
    assert not list(store.runs.iterdir())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "coutn"}, "did you mean count"),
        ({"device": "tpu"}, "'tpu'"),
        ({"provider": "rocm"}, "'rocm'"),
        ({"seed": -1}, "-1"),
        ({"method": "watch"}, "needs a photo"),
        ({"options": {"steps": 0}}, "steps"),
        ({"options": {"stepz": 1}}, "stepz"),
        ({"options": {"layer": "conw"}}, "did you mean conv"),
        ({"options": {"target": "cow"}}, "cow"),
        ({"image": "/nowhere/cat.png"}, "cat.png"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(store: Store, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(FoveaError, match=says) as caught:
        execute(fakes.request(**wrong), store)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert store.count() == 0
