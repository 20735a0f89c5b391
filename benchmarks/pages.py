"""How long every page of the dashboard takes to show its content, on a warm server, in real Chromium.

    python -m benchmarks.pages [--quick] [--chromium PATH]

A server of its own is started on a home that is kept, and left until the first start's run of every method is done.
Then each page is opened by its address in a fresh session ("by address": the whole dashboard is loaded, files come
from the browser's cache), and from the navigation of an open dashboard ("by click"). It is there when the script has
come to rest, its title stands, and every picture and chart that it announces is drawn. Seconds are medians of turns.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks._common import ROOT, machine, parser, table, use_own_home

READY = """() => {
  const app = document.querySelector('[data-testid="stApp"]');
  if (!app || app.getAttribute('data-test-script-state') !== 'notRunning') return false;
  const main = document.querySelector('[data-testid="stMain"]');
  if (!main || !main.querySelector('h1') || main.querySelector('[data-testid="stSkeleton"]')) return false;
  if (main.querySelector('[data-stale="true"]')) return false;
  const plots = [...main.querySelectorAll('[data-testid="stPlotlyChart"]')];
  if (plots.some(plot => plot.checkVisibility() && !plot.querySelector('.main-svg'))) return false;
  return [...main.querySelectorAll('img')].every(image => image.loading === 'lazy' || image.complete);
}"""
"""Whether the page's content is there; polled with every frame that the browser draws."""
WAIT = 60_000
QUICK = ("", "occlusion", "library")


@contextmanager
def server(home: Path) -> Iterator[str]:
    """The dashboard on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(url)
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)


def _wait(url: str) -> None:
    for _ in range(600):
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
            return
        time.sleep(0.2)
    raise SystemExit("the server did not answer within two minutes")


def fill() -> None:
    """Wait until every method has a finished run, or was tried."""
    from fovea.engine.store import Store

    store, still = Store(), 0
    while still < 20:
        busy = store.list(status="queued", limit=1) or store.list(status="running", limit=1)
        still = 0 if busy else still + 1
        time.sleep(0.5)


def addresses() -> dict[str, str]:
    """Every page: its title in the table, and its address."""
    from fovea.engine.store import Store
    from fovea.pages.ui.nav import families

    newest = Store().list(method="occlusion", status="done", limit=1)
    pages = {"home": ""} | {family.path: family.path for family in families()}
    pages |= {"library": "library", "networks": "networks", "image_sets": "image_sets"}
    if newest:
        pages["run"] = f"run?id={newest[0].id}"
    return pages | {"unit": "unit?layer=stage2&unit=3"}


def by_address(browser: Any, url: str, turns: int) -> list[float]:
    """Seconds from asking for the address to its content, in a session of its own each time."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    seconds = []
    for _ in range(turns + 1):
        page = context.new_page()
        started = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_function(READY, timeout=WAIT)
        seconds.append(time.perf_counter() - started)
        page.close()
    context.close()
    return seconds[1:]


def by_click(browser: Any, url: str, path: str, turns: int) -> list[float]:
    """Seconds from a click in the navigation to the content, on an open dashboard."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    seconds = []
    other = "library" if path != "library" else ""
    for _ in range(turns + 1):
        page.goto(f"{url}/{other}")
        page.wait_for_function(READY, timeout=WAIT)
        link = page.locator(f'[data-testid="stSidebarContent"] a[href="{path}"]').first
        if not link.count():
            break
        started = time.perf_counter()
        link.click()
        page.wait_for_function(f"() => location.pathname === '/{path}' && ({READY})()", timeout=WAIT)
        seconds.append(time.perf_counter() - started)
    context.close()
    return seconds[1:]


def measure(url: str, chromium: str, turns: int, only: Sequence[str]) -> list[list[str]]:
    """A line for each page."""
    from playwright.sync_api import sync_playwright

    lines = []
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=arguments)
        for name, path in addresses().items():
            if only and path not in only:
                continue
            opened = by_address(browser, f"{url}/{path}", turns)
            clicked = by_click(browser, url, path, turns) if "?" not in path else []
            told = f"{statistics.median(clicked):.2f}" if clicked else ""
            lines.append([name, f"{statistics.median(opened):.2f}", f"{max(opened):.2f}", told])
            sys.stderr.write(f"{' '.join(lines[-1])}\n")
        browser.close()
    return lines


def main() -> None:
    """Print the table."""
    ask = parser(__doc__, "three pages, one turn: only that it works")
    ask.add_argument("--turns", type=int, default=5)
    ask.add_argument(
        "--chromium", default=shutil.which("chromium") or "", help="the browser (default: the one on PATH)"
    )
    arguments = ask.parse_args()
    if not arguments.chromium:
        print("not measured: no chromium on PATH, name the browser with --chromium PATH")
        return
    home = use_own_home() / "pages"
    home.mkdir(exist_ok=True)
    os.environ["FOVEA_HOME"] = str(home)
    if arguments.quick:
        (home / "seeded").touch()
    with server(home) as url:
        fill()
        lines = measure(
            url, arguments.chromium, 1 if arguments.quick else arguments.turns, QUICK if arguments.quick else ()
        )
        print(machine())
    print(table(["page", "by address, s", "slowest", "by click, s"], lines))


if __name__ == "__main__":
    main()
