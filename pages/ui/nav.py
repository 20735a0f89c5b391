"""The navigation, built from the registry: one row for each family of methods, grouped by verb."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from engine.method import VERBS, Method, methods

PAGES = Path(__file__).resolve().parent.parent

ICONS = {"look": ":material/visibility:", "explain": ":material/lightbulb:", "make": ":material/brush:"}


@dataclass(frozen=True)
class Family:
    """The methods that share a row of the navigation; its page's path is the first one's name."""

    verb: str
    title: str
    methods: tuple[Method, ...]

    @property
    def path(self) -> str:
        """The page's path in the address."""
        return self.methods[0].name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its methods."""
        return tuple(method.name for method in self.methods)


@functools.cache
def families() -> tuple[Family, ...]:
    """All families in the order of the verbs and of the registry."""
    grouped: dict[tuple[str, str], list[Method]] = {}
    for method in methods().values():
        grouped.setdefault((method.verb, method.family), []).append(method)
    order = list(VERBS)
    rows = [Family(verb, title, tuple(found)) for (verb, title), found in grouped.items()]
    return tuple(sorted(rows, key=lambda family: order.index(family.verb)))


def family_of(method: str) -> Family:
    """The family that a method belongs to."""
    return next(family for family in families() if method in family.names)


def _generic(family: Family) -> Any:
    def show() -> None:
        from pages.ui.workbench import workbench

        workbench(*family.names)

    show.__name__ = f"generic_{family.path}"
    return show


def method_page(method: str) -> Any:
    """The page where a method is run: the family's own file, or the generic page."""
    family = family_of(method)
    file = PAGES / f"{family.path}.py"
    source = file if file.is_file() else _generic(family)
    return st.Page(source, title=family.title, url_path=family.path, icon=ICONS[family.verb])


def page(name: str) -> Any:
    """One of the pages that belong to no method: home, library, run, unit."""
    title, icon, more = {
        "home": ("Home", ":material/home:", {"default": True}),
        "library": ("Library", ":material/collections_bookmark:", {}),
        "unit": ("Unit", ":material/hub:", {}),
        "run": ("Run", ":material/play_circle:", {"visibility": "hidden"}),
    }[name]
    return st.Page(PAGES / f"{name}.py", title=title, icon=icon, url_path="" if name == "home" else name, **more)


def navigation() -> dict[str, list[Any]]:
    """The sections of the sidebar and their pages."""
    sections: dict[str, list[Any]] = {"": [page("home")]}
    for family in families():
        sections.setdefault(VERBS[family.verb], []).append(method_page(family.path))
    sections["Library"] = [page("library"), page("unit"), page("run")]
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
