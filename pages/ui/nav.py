"""The navigation, built from the registry: one row for each family of methods, grouped by verb."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from fovea.engine.method import VERBS, Method, methods

PAGES = Path(__file__).resolve().parent.parent

ANY_METHOD = PAGES / "ui" / "any_method.py"
"""The page of methods whose family has no file of its own."""

ICONS = {"look": ":material/visibility:", "explain": ":material/lightbulb:", "make": ":material/brush:"}


@dataclass(frozen=True)
class Family:
    """The methods that share a row of the navigation, the one that names its page first."""

    verb: str
    title: str
    methods: tuple[Method, ...]

    @property
    def path(self) -> str:
        """The page's path in the address."""
        return self.methods[0].name

    @property
    def file(self) -> Path:
        """The page's own file, if it has one."""
        return PAGES / f"{self.path}.py"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its methods."""
        return tuple(method.name for method in self.methods)


@functools.cache
def families() -> tuple[Family, ...]:
    """All families in the order of the verbs and of the registry; a method with a file of its own leads its family."""
    grouped: dict[tuple[str, str], list[Method]] = {}
    for method in methods().values():
        grouped.setdefault((method.verb, method.family), []).append(method)
    order = list(VERBS)
    rows = [
        Family(verb, title, tuple(sorted(found, key=lambda method: not (PAGES / f"{method.name}.py").is_file())))
        for (verb, title), found in grouped.items()
    ]
    return tuple(sorted(rows, key=lambda family: order.index(family.verb)))


def family_of(method: str) -> Family:
    """The family that a method belongs to."""
    return next(family for family in families() if method in family.names)


def method_page(method: str) -> Any:
    """The page where a method is run: its family's own file, or the one that serves every method."""
    family = family_of(method)
    source = family.file if family.file.is_file() else ANY_METHOD
    return st.Page(source, title=family.title, url_path=family.path, icon=ICONS[family.verb])


def _alone(method: Method) -> Any:
    """A page of one method alone, so that an address may name any method; its family's page stands in the menu."""
    return st.Page(
        ANY_METHOD,
        title=method.title,
        url_path=method.name,
        icon=ICONS[method.verb],
        visibility="hidden",
    )


def remember(current: Any) -> None:
    """Keep which page is open, for a page that serves several addresses."""
    st.session_state["nav:path"] = current.url_path


def methods_here() -> tuple[str, ...]:
    """The methods of the address that is open: those of a family, or one that has an address of its own."""
    path = str(st.session_state["nav:path"])
    family = family_of(path)
    return family.names if family.path == path else (path,)


def page(name: str) -> Any:
    """One of the pages that belong to no method: home, library, unit, networks, data sets, run."""
    title, icon, more = {
        "home": ("Home", ":material/home:", {"default": True}),
        "library": ("Library", ":material/collections_bookmark:", {}),
        "unit": ("Unit", ":material/hub:", {}),
        "networks": ("Networks", ":material/schema:", {}),
        "image_sets": ("Data sets", ":material/photo_library:", {}),
        "run": ("Run", ":material/play_circle:", {"visibility": "hidden"}),
    }[name]
    return st.Page(PAGES / f"{name}.py", title=title, icon=icon, url_path="" if name == "home" else name, **more)


def navigation() -> dict[str, list[Any]]:
    """The sections of the sidebar and their pages."""
    sections: dict[str, list[Any]] = {"": [page("home")]}
    for family in families():
        sections.setdefault(VERBS[family.verb], []).extend(
            [method_page(family.path), *(_alone(method) for method in family.methods[1:])]
        )
    sections["Library"] = [page("library"), page("unit"), page("networks"), page("image_sets"), page("run")]
    return sections


def menu(sections: dict[str, list[Any]]) -> None:
    """The sections as links in the sidebar, below network and photo, which stay in sight however many follow."""
    for title, pages in sections.items():
        with st.container(gap="xxsmall", key=f"menu-{title.lower() or 'top'}"):
            if title:
                st.html(f'<div class="fovea-section">{title}</div>')
            for entry in pages:
                if entry.visibility != "hidden":
                    st.page_link(entry, width="stretch")
