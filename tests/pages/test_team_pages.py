"""What each member of a team may do on the pages; a press that a page does not offer is refused all the same."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fovea.engine.errors import NotAllowedError
from fovea.engine.report.report import report_html
from fovea.engine.run.record import Request
from fovea.engine.store import Store
from fovea.engine.store.archive import zip_bytes
from fovea.engine.work.runs import submit
from fovea.pages.door.team import Quota, Team, Visitor
from fovea.pages.ui import acts, links, visitor
from tests.pages.conftest import NETWORK, ROOT

ANN, BOB, EVE, VIC = (
    Visitor("ann@x.y", "admin"),
    Visitor("bob@x.y", "member"),
    Visitor("eve@x.y", "member"),
    Visitor("vic@x.y", "viewer"),
)
OPTIONS = {"window": 112, "stride": 112}


@pytest.fixture
def as_visitor(monkeypatch: pytest.MonkeyPatch) -> Callable[[Visitor], None]:
    """Be somebody whose cookie the server knows."""
    told: list[Visitor] = []

    class Known(Team):
        def visitor(self, cookies: Any) -> Visitor | None:
            return told[-1] if told else None

    team = Known("a secret of many signs", "https://x.y", quota=Quota(queued_runs=2, stored_bytes=10**9))
    for module in (visitor, acts, links):
        monkeypatch.setattr(module, "team_here", lambda: team)
    return told.append


def runs_of(owner: str, seed: int = 0) -> str:
    request = Request(method="occlusion", network=NETWORK, image="sample:cat", options=OPTIONS, seed=seed)
    return submit(request, owner=owner)


def test_who_has_not_logged_in_sees_the_log_in_alone(
    own_home: Path, open_page: Any, as_visitor: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(visitor, "_providers", lambda: [""])
    run_id = runs_of("bob@x.y")
    for path in ("home", "library", "run", "occlusion", "networks"):
        app = open_page(path, id=run_id)
        assert not app.exception
        assert [button.label for button in app.button] == ["Log in"]
        assert not app.image
        assert run_id not in str([*app.markdown, *app.title, *app.caption, *app.json])
    as_visitor(Visitor("zed@x.y", "stranger"))
    app = open_page("library")
    assert "zed" in app.warning[0].value
    assert [button.label for button in app.button] == ["Log in", "Log out"]


def test_the_buttons_of_a_run_are_its_owners(own_home: Path, open_page: Any, as_visitor: Any) -> None:
    run_id = runs_of("bob@x.y")
    for who, own in ((ANN, True), (BOB, True), (EVE, False), (VIC, False)):
        as_visitor(who)
        app = open_page("run", id=run_id)
        assert not app.exception
        pin = next(button for button in app.button if button.label == "Pin")
        assert pin.disabled is not own, who
        again = next(button for button in app.button if button.label == "Repeat")
        assert again.disabled is (who is VIC)
        assert any("asked by bob" in str(caption.value) for caption in app.caption)
    as_visitor(VIC)
    app = open_page("occlusion")
    assert next(button for button in app.button if button.label == "Run").disabled


def test_a_press_that_no_button_offers_is_refused(own_home: Path, open_page: Any, as_visitor: Any) -> None:
    run_id = runs_of("bob@x.y")
    as_visitor(EVE)
    app = open_page("run", id=run_id)
    app.button(key=f"delete:{run_id}").click().run()  # its popover is pale, but a press can be sent
    assert "Only bob@x.y or an admin" in str(app.error[0].value).replace("\\", "")
    assert Store().count() == 1
    assert Store().row(run_id).pinned is False
    for who in (EVE, VIC):
        as_visitor(who)
        for act in (
            lambda: acts.delete(run_id),
            lambda: acts.edit(run_id, name="mine"),
            lambda: acts.edit(run_id, pinned=True),
            lambda: acts.cancel(run_id),
            lambda: acts.remove_network("x"),
            lambda: acts.unregister_dataset("x"),
            lambda: acts.register_dataset("x", Path("/")),
        ):
            with pytest.raises(NotAllowedError):
                act()
    for act in (
        lambda: acts.submit(Request(method="occlusion", network=NETWORK, image="sample:cat")),
        lambda: acts.repeat(run_id),
        lambda: acts.import_zip(b""),
        lambda: acts.read_network("torchvision:vgg16"),
        lambda: acts.keep_photo(b"", "x"),
        lambda: acts.register_network("x"),
        lambda: acts.compute_here(),
    ):
        with pytest.raises(NotAllowedError):
            act()
    assert Store().row(run_id).name == ""
    as_visitor(BOB)
    acts.edit(run_id, name="mine")
    acts.delete(run_id)
    assert Store().count() == 0


def test_a_zip_does_not_say_whom_it_belongs_to(own_home: Path, open_page: Any, as_visitor: Any) -> None:
    run_id = runs_of("ann@x.y")
    content = zip_bytes(Store().run(run_id))
    report = report_html(Store().run(run_id))
    assert b"ann@x.y" not in zipfile.ZipFile(io.BytesIO(content)).read(f"{run_id}/run.json")
    assert "ann@x.y" not in report
    Store().delete(run_id)
    as_visitor(EVE)
    assert Store().run(acts.import_zip(content)).record.owner == "eve@x.y"


def test_quotas(own_home: Path, as_visitor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = runs_of("bob@x.y", seed=9)
    assert Store().stored_bytes("bob@x.y") > 1000
    monkeypatch.delenv("FOVEA_IMMEDIATE")
    as_visitor(BOB)
    request = Request(method="occlusion", network=NETWORK, image="sample:cat", options=OPTIONS)
    for seed in (1, 2):
        acts.submit(request.model_copy(update={"seed": seed}))
    with pytest.raises(NotAllowedError, match="2 runs that wait"):
        acts.submit(request.model_copy(update={"seed": 3}))
    as_visitor(EVE)
    acts.submit(request.model_copy(update={"seed": 4}))
    as_visitor(BOB)
    acts.cancel(next(row.id for row in Store().list(owner="bob@x.y", status="queued")))
    monkeypatch.setattr(acts, "_stored_bytes", lambda root, owner: 2 * 10**9)
    for act in (lambda: acts.submit(request), lambda: acts.import_zip(b""), lambda: acts.keep_photo(b"", "x")):
        with pytest.raises(NotAllowedError, match=r"take 2\.0 GB.*may take 1\.0 GB"):
            act()
    acts.delete(done)


def test_paths_are_typed_only_where_no_team_is_served(as_visitor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not links.loopback_only()
    monkeypatch.setattr(links, "team_here", lambda: None)
    assert links.loopback_only()


FOR_ACTS = {"submit", "repeat", "keep_photo", "keep_weights", "keep_classes", "register", "register_dataset"} | {
    "unregister_dataset", "remove_network", "request_card", "import_zip", "cancel", "edit", "delete", "enqueue",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "pages").rglob("*.py")), ids=lambda path: path.stem)
def test_pages_act_through_acts_alone(path: Path) -> None:
    """There it is asked who may."""
    if path.name == "acts.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not {alias.name for alias in node.names} & FOR_ACTS, node.lineno
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in FOR_ACTS - {"repeat"}
        ):
            assert ast.unparse(node.func.value) == "acts", f"{path.name}:{node.lineno}"
