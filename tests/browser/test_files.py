"""Files that go in and out through a real browser: photos, data sets, runs as zips; and runs that are deleted."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, press, query, quiet, set_number, until_run, upload

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def picture(path: Path, seed: int) -> Path:
    """A photo-like file that no other test has."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return path


def test_an_uploaded_photo_becomes_the_photo_of_all_pages(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/occlusion?network=fovea&photo=sample:face")
    page.get_by_role("button", name="Run", exact=True).wait_for(timeout=WAIT)  # the network has been read
    press(page, "Change photo")
    page.get_by_role("tab", name="Upload").click(timeout=WAIT)
    text = tmp_path / "notes.png"
    text.write_text("this is no picture")
    field = page.get_by_role("dialog").locator("input[type=file]")
    upload(page, field, text)
    page.get_by_text("notes.png is text, not an image").wait_for(timeout=WAIT)
    upload(page, field, picture(tmp_path / "my holiday.jpg", 1))
    page.wait_for_url(re.compile(r"photo=photo(:|%3A)[0-9a-f]{64}"), timeout=WAIT)
    page.get_by_role("dialog").wait_for(state="detached", timeout=WAIT)
    page.get_by_test_id("stSidebar").get_by_text("my holiday.jpg").wait_for(timeout=WAIT)
    set_number(page, "Window", 112)
    set_number(page, "Stride", 56)
    press(page, "Run")
    until_run(page)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)
    kept = server.home / "photos" / f"{query(page)['photo'].removeprefix('photo:')}.jpg"
    assert kept.read_bytes() == (tmp_path / "my holiday.jpg").read_bytes()


def test_a_photo_of_a_data_set_is_taken(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/?network=fovea&photo=sample:face")
    page.locator(".fovea-bar").first.wait_for(timeout=WAIT)  # Home's own run is done
    quiet(page)
    press(page, "Change photo")
    page.get_by_role("tab", name="From a data set").click(timeout=WAIT)
    page.get_by_role("button", name="Take this").nth(2).wait_for(timeout=WAIT)
    quiet(page)
    page.get_by_role("button", name="Take this").nth(2).click(timeout=WAIT)
    page.wait_for_url(re.compile(r"photo=photo(:|%3A)[0-9a-f]{64}"), timeout=WAIT)
    page.locator(".fovea-bar").nth(4).wait_for(timeout=WAIT)
    page.wait_for_function(
        "[...document.images].some(one => one.className === 'fovea-hero' && one.complete && one.naturalWidth > 0)",
        timeout=WAIT,
    )


def test_a_run_goes_out_as_a_zip_is_deleted_and_comes_back(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/classify?network=fovea&photo=sample:coffee")
    press(page, "Run")
    run_id = until_run(page)
    page.goto(f"{server.url}/run?id={run_id}")
    link = page.get_by_role("link", name="Export zip")
    link.wait_for(timeout=WAIT)
    with page.expect_download(timeout=WAIT) as download:
        link.click()
    path = tmp_path / "run.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert {"run.json", "classes.parquet"} <= names

    page.bring_to_front()
    quiet(page)
    press(page, "Delete")
    press(page, "Delete it")
    page.wait_for_url(re.compile("/library"), timeout=WAIT)
    page.get_by_role("heading", name="Library").wait_for(timeout=WAIT)
    assert not (server.home / "runs" / run_id).exists()
    page.goto(f"{server.url}/run?id={run_id}")
    page.get_by_text(re.compile(f"no run.*{run_id}|{run_id}.*not|unknown run", re.IGNORECASE)).first.wait_for(
        timeout=WAIT
    )

    page.goto(f"{server.url}/library")
    press(page, "Import a run")
    field = page.get_by_test_id("stPopoverBody").locator("input[type=file]")
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("../../outside.txt", "x")
    upload(page, field, {"name": "bad.zip", "mimeType": "application/zip", "buffer": damaged.getvalue()})
    press(page, "Import")
    page.get_by_test_id("stPopoverBody").get_by_role("alert").wait_for(timeout=WAIT)
    assert not (server.home.parent / "outside.txt").exists()
    upload(page, field, path)
    page.get_by_text("run.zip").first.wait_for(timeout=WAIT)
    quiet(page)
    press(page, "Import")
    page.wait_for_url(re.compile(r"/run\?.*id="), timeout=WAIT)
    page.get_by_text("imported", exact=True).wait_for(timeout=WAIT)
    page.locator(".js-plotly-plot, .fovea-bar").first.wait_for(timeout=WAIT)
    assert (server.home / "runs" / query(page)["id"] / "run.json").is_file()


def test_a_data_set_is_added_looked_at_and_removed(server: Server, page: Any, tmp_path: Path) -> None:
    for index in range(6):
        folder = tmp_path / "flowers" / ("rose" if index % 2 else "tulip")
        folder.mkdir(parents=True, exist_ok=True)
        picture(folder / f"{index}.jpg", index)
    (tmp_path / "flowers" / "rose" / "broken.jpg").write_bytes(b"no picture")
    page.goto(f"{server.url}/image_sets?network=fovea&photo=sample:face")
    page.get_by_role("heading", name="Data sets").wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Add").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("flowers", timeout=WAIT)
    page.get_by_role("textbox", name="Folder, or list file").fill(str(tmp_path / "nowhere"))
    press(page, "Add the data set")
    page.get_by_text("no folder or list file at").wait_for(timeout=WAIT)
    page.get_by_role("textbox", name="Folder, or list file").fill(str(tmp_path / "flowers"))
    press(page, "Add the data set")
    page.get_by_text("flowers is registered").wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Look").click()
    page.get_by_role("heading", name="flowers").wait_for(timeout=WAIT)
    page.get_by_text("7 images").wait_for(timeout=WAIT)
    press(page, "Open every image")
    page.get_by_text("unreadable 1").wait_for(timeout=WAIT)
    press(page, "Mean image and colour")
    page.get_by_text(re.compile("mean colour")).first.wait_for(timeout=WAIT)
    press(page, "Look at it")
    page.wait_for_url(re.compile(r"photo=photo(:|%3A)[0-9a-f]{64}"), timeout=WAIT)
    page.goto(f"{server.url}/image_sets?network=fovea&photo=sample:face")
    page.get_by_role("combobox", name="Data set").click(timeout=WAIT)
    page.get_by_role("option", name=re.compile("^flowers")).click()
    press(page, "Remove")
    press(page, "Remove it")
    page.get_by_role("heading", name="sample").wait_for(timeout=WAIT)
    assert "flowers" not in (server.home / "datasets.toml").read_text()
