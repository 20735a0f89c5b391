"""The dashboard in one process: AppTest, a small network, runs computed at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "torchvision:squeezenet1_1@random"


@pytest.fixture
def immediate(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home whose runs are computed where they are queued."""
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    return own_home


@pytest.fixture
def open_page(immediate: Path) -> Callable[..., Any]:
    """Open a page of the dashboard by its path, with what its address says."""
    from streamlit.testing.v1 import AppTest

    def opened(path: str = "", **query: str) -> Any:
        app = AppTest.from_file(str(ROOT / "pages" / "shell.py"), default_timeout=120)
        for name, value in ({"network": NETWORK} | query).items():
            app.query_params[name] = value
        if path:
            app.switch_page(str(ROOT / "pages" / f"{path}.py"))
        return app.run()

    return opened
