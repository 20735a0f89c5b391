"""A real server with a home of its own, one for all browser tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "torchvision:squeezenet1_1@random"
START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """Where the dashboard answers, and where it keeps its runs."""

    url: str
    home: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A press that comes while a page is drawn anew can be lost where others have the cores: it is tried once more."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended at once: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not answer in {START_SECONDS} s: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard as `make app` starts it, on a free port."""
    folder = tmp_path_factory.mktemp("browser")
    port, log = _free_port(), folder / "server.log"
    (folder / "home").mkdir()
    (folder / "home" / "seeded").touch()  # the first start's runs in the background would slow down every test
    environment = {**os.environ, "FOVEA_HOME": str(folder / "home")}
    read = [sys.executable, "-m", "fovea.engine", "layers", NETWORK, "--json"]  # a page would ask before it reads it
    subprocess.run(read, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"http://127.0.0.1:{port}", process, log)
            yield Server(f"http://127.0.0.1:{port}", folder / "home")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh window, 1400 by 900; whatever is asked of another host fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(60_000)
    outside: list[str] = []
    context.on("request", lambda request: _note_outside(request.url, outside))
    yield context.new_page()
    context.close()
    assert not outside, f"the dashboard asked other hosts: {outside[:3]}"


def _note_outside(url: str, outside: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:", "about:")):
        outside.append(url)
