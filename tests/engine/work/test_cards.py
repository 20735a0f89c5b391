"""Cards that pages ask for are read by the worker."""

from __future__ import annotations

import pytest

from fovea.engine.errors import OptionsError
from fovea.engine.store import Store
from fovea.engine.work import cards, queue
from tests.engine import fakes


def test_cards_are_read_by_the_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.models.zoo

    known: dict[str, object] = {}

    def load(name: str) -> object:
        if name == "broken":
            raise OptionsError("it is broken: mend it")
        known[name] = fakes.CARD
        return fakes.FakeNetwork()

    monkeypatch.setattr(fovea.models.zoo, "cached_card", known.get)
    monkeypatch.setattr(fovea.models.zoo, "load", load)
    assert cards.card_status("new").state == "unknown"
    assert cards.request_card("new").state == "pending"
    assert cards.request_card("new").state == "pending"
    assert len(queue.waiting("cards")) == 1
    monkeypatch.setenv("FOVEA_IMMEDIATE", "1")
    assert cards.request_card("newer").state == "ready"
    assert cards.request_card("broken") == cards.CardStatus("error", "it is broken: mend it")
