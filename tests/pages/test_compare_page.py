"""The Compare page: its two methods, a run of a small comparison, and the way there from a run of one map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fovea.engine.method import find_method, leads_of
from tests.pages.conftest import NETWORK

Open = Callable[..., Any]


def run_of(method: str, **options: Any) -> str:
    """A finished run on the pages' small network."""
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    return execute(Request(method=method, network=NETWORK, image="sample:cat", options=options), Store()).id


def test_a_run_of_a_map_leads_to_the_trust_in_it(open_page: Open) -> None:
    run_id = run_of("saliency", reduction="positive", target="7")
    app = open_page("run", id=run_id)
    (lead,) = leads_of(find_method("saliency"))
    button = next(button for button in app.button if button.label == lead.title)
    assert button.help
    options = lead.options({"sampling": "plain", "reduction": "positive", "target": "7"}, {"target": "7"})
    assert options == {"map": "gradient", "settings": "reduction=positive", "target": "7"}


def test_trust_shows_its_verdict_its_curves_and_its_maps(open_page: Open) -> None:
    run_id = run_of("trust", target="7", steps=3, stages=1, random_orders=1, agreement=False)
    app = open_page("compare", run=run_id)
    assert not app.exception
    assert not app.error
    heads = [str(head.value) for head in app.subheader]
    assert any(head.startswith("Gradient") for head in heads)
    assert {"Deletion", "Insertion", "Areas under the curves", "As the network forgets"} <= set(heads)


def test_a_photo_of_nothing_is_no_reason_to_fail(open_page: Open) -> None:
    app = open_page("compare")
    assert not app.exception
    assert [option.label for option in app.button_group if option.key == "family:compare"]
    assert "Run" in [button.label for button in app.button]
