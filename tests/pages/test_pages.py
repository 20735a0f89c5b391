"""What a person sees on each page and after each press, without a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fovea.engine.method import methods
from tests.pages.conftest import NETWORK, ROOT

Open = Callable[..., Any]


def lines(app: Any) -> str:
    """All red lines of a page."""
    return "\n".join(str(error.value) for error in app.error)


def texts(app: Any) -> str:
    """What the page says: titles, captions, notes."""
    parts = [*app.title, *app.subheader, *app.caption, *app.info, *app.markdown]
    return "\n".join(str(part.value) for part in parts)


def press(app: Any, label: str) -> Any:
    """Press the button with that label."""
    return next(button for button in app.button if button.label == label).click().run()


def control(app: Any, kind: str, method: str, name: str) -> Any:
    """The control of one option."""
    return getattr(app, kind)(key=f"option:{method}:{name}")


def test_home_shows_the_best_classes_and_three_ways_on(open_page: Open) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error
    assert [button.label for button in app.button if button.key.startswith("go:")] == [
        "Where does it look?",
        "What excites it?",
        "Draw what it wants to see",
    ]
    assert "random weights" in texts(app)


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_a_form_made_from_its_options(name: str, open_page: Open) -> None:
    from fovea.pages.ui.nav import family_of

    path = family_of(name).path
    if not (ROOT / "pages" / f"{path}.py").is_file():
        pytest.skip("AppTest opens pages that are files; the browser tests open a generic page")
    app = open_page(path)
    if name != path:
        app.button_group(key=f"family:{path}").set_value(name).run()
    assert not app.exception
    assert "Run" in [button.label for button in app.button]
    drawn = [*app.number_input, *app.selectbox, *app.multiselect, *app.toggle, *app.text_input, *app.button_group]
    helped = [one for one in drawn if str(one.key).startswith(f"option:{name}:")]
    assert helped
    assert all(one.help for one in helped), "every control has its help"


def test_every_family_has_a_page() -> None:
    """One thin file of its own, which says no more than the family and what it is for; or the page of any method."""
    from fovea.pages.ui.nav import ANY_METHOD, families

    assert ANY_METHOD.is_file()
    own = [family.file for family in families() if family.file.is_file()]
    assert len(own) > 10
    for file in own:
        text = file.read_text(encoding="utf-8")
        assert f'family_page("{file.stem}"' in text
        assert len(text.splitlines()) <= 20, f"{file} is no thin page"


def test_run_shows_its_panels_and_is_found_again(open_page: Open) -> None:
    app = open_page("occlusion", photo="sample:coffee")
    assert "There is nothing here yet" in texts(app)
    control(app, "number_input", "occlusion", "window").set_value(112)
    control(app, "number_input", "occlusion", "stride").set_value(112)
    press(app.run(), "Run")
    assert not app.exception
    assert not app.error
    run_id = app.query_params["run"]
    assert any("looks for" in str(head.value) for head in app.subheader)
    again = open_page("occlusion", photo="sample:coffee")
    assert again.query_params["run"] == run_id


def test_wrong_option_is_one_line_and_cannot_be_run(open_page: Open) -> None:
    app = open_page("occlusion")
    control(app, "number_input", "occlusion", "window").set_value(500).run()
    assert len(app.error) == 1
    assert "500" in lines(app)
    assert "\n" not in lines(app)
    assert next(button for button in app.button if button.label == "Run").disabled


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"photo": "/etc/passwd"}, "sample:NAME"),
        ({"photo": "sample:../../x"}, "sample"),
        ({"network": "/tmp/net.py:Net"}, "networks add"),
        ({"network": "torchvision:resnet19"}, "resnet18"),
    ],
)
def test_hostile_address_is_one_line(query: dict[str, str], told: str, open_page: Open) -> None:
    app = open_page("occlusion", **query)
    assert not app.exception
    assert told in lines(app).replace("\\", "")


def test_library_is_empty_and_says_what_to_do(open_page: Open, own_home: Path) -> None:
    app = open_page("library")
    assert not app.exception
    assert "There are no runs yet" in texts(app)


def test_library_finds_runs_by_words(open_page: Open, occlusion_run: str) -> None:
    app = open_page("library")
    assert not app.exception
    assert any(occlusion_run in str(box.key) for box in app.checkbox)
    app.text_input(key="library:text").set_value("nothing like this").run()
    assert "No run fits" in texts(app)


def test_library_shows_two_side_by_side(open_page: Open, occlusion_run: str) -> None:
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    options = {"window": 112, "stride": 112, "fill": "black"}
    request = Request(method="occlusion", network=NETWORK, image="sample:cat", options=options)
    other = execute(request, Store()).id
    app = open_page("library")
    for run_id in (occlusion_run, other):
        app.checkbox(key=f"library:tick:{run_id}").check()
    press(app.run(), "Show the two side by side")
    assert not app.exception
    assert "fill: black" in texts(app).replace("\\", "")


def test_run_page_offers_what_can_be_done(open_page: Open, occlusion_run: str) -> None:
    app = open_page("run", id=occlusion_run)
    assert not app.exception
    assert not app.error
    labels = [button.label for button in app.button]
    assert {"Repeat", "Repeat with changes", "Pin", "Save", "Delete it"} <= set(labels)
    assert any("this machine only" in str(note.value) for note in app.caption)
    press(app, "Pin")
    assert "Unpin" in [button.label for button in app.button]


def test_run_page_keeps_a_name(open_page: Open, occlusion_run: str) -> None:
    app = open_page("run", id=occlusion_run)
    app.text_input(key=f"name:{occlusion_run}").set_value("the cat's eyes")
    press(app, "Save")
    assert "the cat's eyes" in str(app.title[0].value)


@pytest.mark.parametrize("run_id", ["../../etc", "20260101-000000-occlusion-ffffff", "<script>"])
def test_unknown_run_is_one_line(run_id: str, open_page: Open) -> None:
    app = open_page("run", id=run_id)
    assert not app.exception
    assert "no run" in lines(app)


def test_unit_page_names_the_layer_and_the_ways_on(open_page: Open) -> None:
    app = open_page("unit", layer="features.3.squeeze", unit="2")
    assert not app.exception
    assert "16 units" in texts(app)
    assert app.number_input(key="unit:unit").value == 2
    assert any(button.key.startswith("unit:ask:") for button in app.button)
    assert "no layer" in lines(open_page("unit", layer="nowhere"))


def test_server_process_imports_no_torch(fovea_home: Path, occlusion_run: str) -> None:
    """All pages drawn in a fresh process that only queues, as the server does."""
    code = f"""
import sys
from pathlib import Path
import fovea.app
from streamlit.testing.v1 import AppTest
for page in sorted(Path("pages").glob("*.py")):
    if page.stem in ("__init__", "shell"):
        continue
    test = AppTest.from_file("pages/shell.py", default_timeout=60)
    for name, value in dict(network={NETWORK!r}, photo="sample:cat", id={occlusion_run!r}).items():
        test.query_params[name] = value
    if page.stem != "home":
        test.switch_page(page.name)
    test.run()
    assert not test.exception, (page, test.exception)
print([name for name in ("torch", "torchvision", "onnxruntime", "timm", "faiss") if name in sys.modules])
"""
    environment = {key: value for key, value in os.environ.items() if key != "FOVEA_IMMEDIATE"}
    environment["FOVEA_HOME"] = str(fovea_home)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"
