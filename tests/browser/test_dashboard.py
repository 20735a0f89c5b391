"""What a person does in a real browser: links, clicks, reloads, downloads."""

from __future__ import annotations

import contextlib
import http.client
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Server

pytestmark = pytest.mark.browser
WAIT = 120_000


def query(page: Any) -> dict[str, str]:
    """What the page's address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def press(page: Any, name: str) -> None:
    """Press the button with exactly that name, once it can be pressed."""
    page.get_by_role("button", name=name, exact=True).first.click(timeout=WAIT)


def quiet(page: Any) -> None:
    """Wait until the page has been drawn: a key that is pressed before is nobody's."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(timeout=WAIT)
    page.wait_for_timeout(700)


def upload(page: Any, field: Any, file: Any) -> None:
    """Give a file to an uploader, again where the page had not made it hear files yet: then no request goes out."""
    from playwright.sync_api import TimeoutError as NothingSent

    for _ in range(8):
        try:
            with page.expect_response(lambda answer: answer.request.method == "PUT", timeout=8_000):
                field.set_input_files(file)
            return
        except NothingSent:
            field.set_input_files([])
    raise AssertionError(f"{file} was never sent")


def set_number(page: Any, label: str, value: int) -> None:
    """Type a number into an option."""
    field = page.get_by_label(re.compile(rf"^{label}"), exact=False).first
    field.fill(str(value), timeout=WAIT)
    field.press("Enter")


def follow(page: Any, name: str) -> None:
    """Take a link of the menu."""
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()


def until_run(page: Any) -> str:
    """Wait for the address to name a run."""
    page.wait_for_url(re.compile(r"[?&]run="), timeout=WAIT)
    return query(page)["run"]


def test_first_deep_link_to_a_fresh_server(server: Server, page: Any) -> None:
    """The very first request, to a page below the root with everything in its address."""
    page.goto(f"{server.url}/occlusion?network=fovea&photo=sample:coffee")
    page.get_by_role("heading", name="Where does it look?").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Run", exact=True).wait_for(timeout=WAIT)
    assert query(page)["photo"] == "sample:coffee"


def test_home_shows_classes_and_leads_to_occlusion(server: Server, page: Any) -> None:
    page.goto(server.url)
    page.locator(".fovea-bar").nth(4).wait_for(timeout=WAIT)
    press(page, "Where does it look?")
    page.wait_for_url(re.compile("/occlusion"), timeout=WAIT)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)


def test_a_click_on_a_cell_shows_the_occluded_photo(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/occlusion?network=fovea&photo=sample:face")
    set_number(page, "Window", 64)
    set_number(page, "Stride", 32)
    press(page, "Run")
    until_run(page)
    chart = page.locator(".js-plotly-plot .nsewdrag").first
    chart.wait_for(timeout=WAIT)
    page.get_by_text("Click a place on the picture").wait_for()
    page.wait_for_timeout(500)
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.up()
    page.get_by_text(re.compile(r"Window at row \d+, column \d+")).wait_for(timeout=WAIT)
    page.locator(".fovea-bar").nth(4).wait_for(timeout=WAIT)


def test_ascent_grows_survives_a_reload_and_is_cancelled(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/ascent?network=fovea")
    set_number(page, "Steps", 2048)
    press(page, "Run")
    run_id = until_run(page)
    picture = page.locator(".st-key-growing-picture img")
    picture.wait_for(timeout=WAIT)
    first = picture.get_attribute("src")
    page.wait_for_function(
        "before => document.querySelector('.st-key-growing-picture img')?.src.endsWith(before) === false",
        arg=first,
        timeout=WAIT,
    )
    page.reload()
    picture.wait_for(timeout=WAIT)
    assert query(page)["run"] == run_id
    press(page, "Cancel")
    page.get_by_text("This run was cancelled").wait_for(timeout=WAIT)


def test_network_and_photo_are_kept_across_pages(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/?network=torchvision:squeezenet1_1@random&photo=sample:rocket")
    page.get_by_role("heading", name="See what your network sees").wait_for(timeout=WAIT)
    for name in ("Library", "Unit", "Occlusion"):
        follow(page, name)
        page.wait_for_url(re.compile(f"/{name.lower()}.*network=.*photo="), timeout=WAIT)
        assert query(page)["network"] == "torchvision:squeezenet1_1@random"
        assert query(page)["photo"] == "sample:rocket"
    page.go_back()
    page.wait_for_url(re.compile("/unit"), timeout=WAIT)


def test_a_report_opens_from_disk_and_fetches_nothing(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/occlusion?network=fovea&photo=sample:face")
    page.get_by_role("link", name="Open this run").click(timeout=WAIT)
    page.wait_for_url(re.compile(r"/run\?.*id="), timeout=WAIT)
    link = page.get_by_role("link", name="Export HTML")
    link.wait_for(timeout=WAIT)
    answer = page.request.get(server.url + urlsplit(link.get_attribute("href")).path)
    assert answer.ok
    report = tmp_path / "report.html"
    report.write_bytes(answer.body())
    asked: list[str] = []
    other = page.context.new_page()
    other.on("request", lambda request: asked.append(request.url))
    other.goto(report.as_uri())
    other.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=WAIT)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_card_of_the_gallery_opens_its_group(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/patches?network=fovea")
    press(page, "Run")
    until_run(page)
    card = page.locator("button.card").first
    card.wait_for(timeout=WAIT)
    card.click()
    page.get_by_role("link", name="All about this unit").click(timeout=WAIT)
    page.wait_for_url(re.compile(r"/unit\?"), timeout=WAIT)
    page.locator(".card.still").first.wait_for(timeout=WAIT)


@pytest.mark.parametrize(
    "name", ["..%2f..%2findex.sqlite", "%2e%2e/%2e%2e/index.sqlite", "../../index.sqlite", "%252e%252e%2fx"]
)
def test_no_artifact_name_climbs_out(name: str, server: Server) -> None:
    """Sent as it is: a browser would tidy the path up before asking."""
    with contextlib.closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        connection.request("GET", f"/artifacts/20260101-000000-occlusion-ffffff/{name}")
        answer = connection.getresponse()
        assert answer.status == 404
        assert answer.read().count(b"\n") <= 1
