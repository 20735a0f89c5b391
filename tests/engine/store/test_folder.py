"""A run's folder: never half written, and nothing in it is reached by any other name."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovea.engine.errors import StoreError, UnknownNameError
from fovea.engine.method import Result
from fovea.engine.run.resolve import new_record
from fovea.engine.store import Store
from tests.engine import fakes
from tests.engine.fakes import make


def test_a_damaged_run_is_left_out_and_named(store: Store) -> None:
    record = make(store)
    (store.runs / record.id / "run.json").write_text("{")
    assert store.rebuild() == 0
    with pytest.raises(StoreError, match="damaged"):
        store.run(record.id)


def test_a_run_of_a_newer_fovea_says_so(store: Store) -> None:
    record = make(store)
    path = store.runs / record.id / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(StoreError, match="newer Fovea"):
        store.run(record.id)


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "images/../run.json",
        "images/..%2frun.json",
        "%2e%2e/run.json",
        "/etc/passwd",
        "images/../../../../etc/passwd.png",
        "images\\..\\x.png",
        "run.json\x00.png",
        "run.json\n",
        "tables/losses.csv",
        "images/.hidden.png",
        "images/a..png",
        "lock",
        "",
        ".",
    ],
)
def test_names_cannot_escape(store: Store, name: str) -> None:
    record = make(store)
    with pytest.raises(StoreError, match="no file"):
        store.artifact(record.id, name)


def test_artifacts_are_found_by_name(store: Store) -> None:
    record = make(store)
    for name in store.run(record.id).artifacts:
        assert store.artifact(record.id, name).is_file()
    assert "tables/losses.parquet" in store.run(record.id).artifacts


def test_a_link_out_of_the_folder_is_not_followed(store: Store) -> None:
    record = make(store)
    (store.runs / record.id / "images" / "link.png").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="no file"):
        store.artifact(record.id, "images/link.png")


@pytest.mark.parametrize("run_id", ["..", "", "a/b", "20261123-014501-occlusion-a1b2c3/..", "%2e%2e", "x" * 10_000])
def test_ids_are_checked(store: Store, run_id: str) -> None:
    for call in (store.run, store.live, store.delete, store.cancel, lambda one: store.artifact(one, "run.json")):
        with pytest.raises(StoreError, match="no run") as caught:
            call(run_id)
        assert len(str(caught.value)) < 300


def test_unknown_parts_offer_near_ones(store: Store) -> None:
    run = store.run(make(store).id)
    for read in (run.array, run.table, run.image):
        with pytest.raises(UnknownNameError):
            read("valuess")


@pytest.mark.parametrize(
    "result",
    [
        Result(arrays={"../a": np.zeros(2)}),
        Result(arrays={"a": np.array([object()])}),
        Result(images={"a/b": np.zeros((2, 2), np.uint8)}),
        Result(images={"a": np.zeros((2, 2), np.float32)}),  # type: ignore[dict-item]
        Result(tables={"..": pd.DataFrame({"a": [1]})}),
    ],
)
def test_what_cannot_be_saved_leaves_nothing(store: Store, result: Result) -> None:
    record = new_record(fakes.request())
    with store.begin(record) as live:
        with pytest.raises(StoreError):
            live.save(record, result, None)
        assert not list(store.runs.iterdir())


def test_pictures_keep_the_suffix_that_names_them(store: Store) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "GIF")
    record = new_record(fakes.request()).model_copy(update={"status": "done"})
    big = np.zeros((1000, 2000, 3), np.uint8)
    images = {"a": big, "b.jpg": big[:9, :9], "c.gif": buffer.getvalue(), "d": Image.new("L", (3, 3))}
    with store.begin(record) as live:
        live.save(record, Result(images=images, preview="a"), None)
    run = store.run(record.id)
    assert run.images == ["a.png", "b.jpg", "c.gif", "d.png"]
    assert run.image("c.gif").size == (4, 4)
    assert run.preview is not None
    with Image.open(run.preview) as preview:
        assert preview.size == (640, 320)
