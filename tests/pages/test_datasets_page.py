"""The page of data sets: counts, labels, pictures, broken images, add and remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fovea.engine.data.catalogue import known_datasets, register_dataset

Open = Callable[..., Any]


@pytest.fixture
def folder(own_home: Path, tmp_path: Path) -> Path:
    """Two labels, three images, one of them broken."""
    for label in ("cup", "boat"):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("RGB", (40, 30), "red").save(tmp_path / "set" / label / "0.png")
    (tmp_path / "set" / "boat" / "broken.png").write_text("no picture")
    return tmp_path / "set"


def texts(app: Any) -> str:
    """What the page says."""
    return "\n".join(str(part.value) for part in [*app.markdown, *app.caption, *app.error]).replace("\\", "")


def test_sample_is_always_there(open_page: Open, own_home: Path) -> None:
    app = open_page("image_sets")
    assert not app.exception
    assert not app.error
    assert "images" in texts(app)
    assert any("datasets download" in str(table.value) for table in app.dataframe)


def test_counts_labels_and_broken_images(open_page: Open, folder: Path) -> None:
    register_dataset("cups", folder)
    app = open_page("image_sets")
    app.selectbox(key="sets:name").set_value("cups").run()
    assert not app.exception
    assert "**3** images · **2** labels" in texts(app)
    assert len(app.error) == 1, "the broken picture says why, in its place"
    app.button(key="sets:inspect").click().run()
    assert "unreadable 1" in texts(app)
    assert any("boat/broken.png" in str(table.value) for table in app.dataframe)
    app.button(key="sets:remove").click().run()
    assert not app.exception
    assert list(known_datasets()) == ["sample"]


def test_the_mean_image_and_colour(open_page: Open, folder: Path) -> None:
    (folder / "cup" / "0.png").unlink()
    register_dataset("cups", folder)
    app = open_page("image_sets")
    app.selectbox(key="sets:name").set_value("cups").run()
    app.button(key="sets:average").click().run()
    assert not app.exception
    assert any("mean colour 255 · 0 · 0, of 255" in str(part.value) for part in app.get("html"))


def test_a_path_is_typed_in_and_mistakes_are_one_line(open_page: Open, folder: Path) -> None:
    for name, path, told in (
        ("cups", "", "must be given"),
        ("sample", str(folder), "is there already"),
        ("a/b", str(folder), "letters, digits"),
        ("cups", str(folder / "nowhere"), "no folder or list file"),
    ):
        app = open_page("image_sets")
        enter(app, name, path)
        assert not app.exception
        assert told in texts(app)
        assert list(known_datasets()) == ["sample"]
    app = open_page("image_sets")
    enter(app, "cups", str(folder))
    assert not app.exception
    assert app.selectbox(key="sets:name").value == "cups"


def enter(app: Any, name: str, path: str) -> None:
    """Fill the form and press its button."""
    fields = {field.label: field for field in app.text_input}
    fields["Name"].set_value(name)
    fields["Folder, or list file"].set_value(path)
    next(button for button in app.button if button.label == "Add the data set").click().run()


def test_no_path_can_be_typed_where_others_are_served(
    open_page: Open, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.pages.ui.links.loopback_only", lambda: False)
    app = open_page("image_sets")
    assert not app.exception
    assert not [field for field in app.text_input if field.label.startswith("Folder")]
    assert any("datasets add" in str(code.value) for code in app.code)
