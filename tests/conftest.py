"""What tests share: a home, a Chromium, and the way to the real weights and photos where they are there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as models/__init__.py does, for tests that import torch first

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real weights and photos, beside a development checkout; never part of the project."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session", autouse=True)
def fovea_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for the whole session, so that exports are shared; a test that counts runs makes its own."""
    home = tmp_path_factory.mktemp("fovea-home")
    before = os.environ.get("FOVEA_HOME")
    os.environ["FOVEA_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["FOVEA_HOME"]
    else:
        os.environ["FOVEA_HOME"] = before


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """AppTest puts its script in the place of `__main__`, which processes that a later test spawns would run."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home for one test."""
    monkeypatch.setenv("FOVEA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and photos; the test is skipped where it is not there."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real weights and photos in {DATA.name}/ beside the checkout")
    return DATA


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    if os.environ.get("CI"):
        pytest.fail("Chromium is not installed: CI runs the browser tests")
    pytest.skip("needs Chromium on the path")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium without a window; one for all tests, since Playwright bears only one at a time."""
    from playwright.sync_api import sync_playwright

    executable = _chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()
