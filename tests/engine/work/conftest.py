"""Work goes through the queue here, unless a test says otherwise."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOVEA_IMMEDIATE", raising=False)
