"""The dashboard in one process: AppTest, a small network, runs computed at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "torchvision:squeezenet1_1@random"


@pytest.fixture(autouse=True)
def immediate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are computed where they are queued."""
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")


@pytest.fixture
def open_page() -> Callable[..., Any]:
    """Open a page of the dashboard by its path, with what its address says; NETWORK has been read before."""
    from streamlit.testing.v1 import AppTest

    from fovea.engine.work.cards import request_card

    def opened(path: str = "home", **query: str) -> Any:
        request_card(NETWORK)
        app = AppTest.from_file(str(ROOT / "pages" / "shell.py"), default_timeout=120)
        for name, value in ({"network": NETWORK} | query).items():
            app.query_params[name] = value
        if path != "home":
            app.switch_page(f"{path}.py")
        return app.run()

    return opened


@pytest.fixture(scope="session")
def occlusion_run(fovea_home: Path) -> str:
    """A finished run of four windows."""
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    options = {"window": 112, "stride": 112}
    return execute(Request(method="occlusion", network=NETWORK, image="sample:cat", options=options), Store()).id
