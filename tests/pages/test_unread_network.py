"""An address alone starts no heavy work: a network that was never read here waits for a click."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fovea.engine.store import Store
from fovea.engine.work import cards, queue
from tests.pages.conftest import NETWORK

UNREAD = "torchvision:regnet_y_128gf"


@pytest.mark.parametrize("path", ["home", "saliency", "unit", "networks", "patches"])
def test_an_address_reads_no_network(
    path: str, own_home: Path, open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("home")
    monkeypatch.delenv("FOVEA_IMMEDIATE")
    runs = Store().count()
    app = open_page(path, network=UNREAD)
    assert not app.exception
    assert "Read this network: about 2.6 GB" in [button.label for button in app.button]
    assert queue.waiting("cards") == []
    assert cards.card_status(UNREAD).state == "unknown"
    assert Store().count() == runs
    app.button(key="card:read").click().run()
    assert queue.waiting("cards") == [(UNREAD,)]
    assert Store().count() == runs


def test_home_starts_its_own_run_for_a_network_that_was_read(own_home: Path, open_page: Callable[..., Any]) -> None:
    open_page("home", photo="sample:cat")
    assert [row.network for row in Store().list(method="classify")] == [NETWORK]


def test_a_new_home_reads_the_bundled_network_unasked(own_home: Path, open_page: Callable[..., Any]) -> None:
    app = open_page("home", network="fovea")
    assert "card:read" not in [button.key for button in app.button]
