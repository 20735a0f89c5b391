"""One option in a form, as its control sees it; and how a control says which widget of the options' kinds it draws."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from pydantic.fields import FieldInfo

from fovea.engine.method import Method
from fovea.engine.options import Kind, declared
from fovea.models.card import Card
from fovea.pages.ui.text import label, sentence

NOTHING: Any = object()
"""No value was handed over to a control."""


def key_of(method: str, name: str) -> str:
    """The session's key of one option's control."""
    return f"option:{method}:{name}"


@dataclass(frozen=True)
class Field:
    """One option of a method, and the network that it is asked of. `start` is a value handed over from a run."""

    method: Method
    name: str
    card: Card
    start: Any = NOTHING

    @property
    def key(self) -> str:
        """The session's key of the control."""
        return key_of(self.method.name, self.name)

    @property
    def info(self) -> FieldInfo:
        """The option's declaration."""
        return self.method.options.model_fields[self.name]

    @property
    def kind(self) -> Kind:
        """What the option's value is or names."""
        return declared(self.info).kind

    @property
    def default(self) -> Any:
        """The option's default, as it is declared."""
        return self.info.default

    @property
    def shown(self) -> dict[str, Any]:
        """What every control is given: its label, its session key and its help."""
        text = label(self.name, declared(self.info).unit)
        return {"label": text, "key": self.key, "help": self.info.description}

    @property
    def kept(self) -> dict[str, Any]:
        """The same for a control whose value the session keeps while other pages are looked at."""
        return self.shown | {"persist_state": "session"}

    @property
    def placeholder(self) -> str:
        """What an empty control says: what is taken where the option is left empty."""
        return sentence(declared(self.info).empty or "left to the method")

    def begin(self, read: Callable[[Any], Any] = lambda value: value) -> None:
        """Give the control its first value once; after that the session owns it.

        `read` makes the control's value of the option's: of what was handed over, else of the default.
        """
        if self.start is not NOTHING:
            st.session_state[self.key] = read(self.start)
        elif self.key not in st.session_state:
            st.session_state[self.key] = read(self.default)

    def with_kept(self, names: Sequence[str]) -> list[str]:
        """The names to choose from, and the kept ones that are not among them: a run may name what is unknown here."""
        kept = st.session_state[self.key] or []
        return [*names, *(name for name in ([kept] if isinstance(kept, str) else kept) if name not in names)]

    def forget_unless(self, valid: Container[Any], fallback: Any = None) -> None:
        """Forget a kept value that this network or data set does not have."""
        if st.session_state[self.key] is not None and st.session_state[self.key] not in valid:
            st.session_state[self.key] = fallback


@dataclass(frozen=True)
class Control:
    """How a widget is drawn: `draw(field)` gives the option's value.

    `shared`: the name under which the shell keeps the value for all pages, if it does ("layer", "unit").
    """

    draw: Callable[[Field], Any]
    shared: str = ""


CONTROLS: dict[str, Control] = {}
"""The controls by the names of their widgets; the files of `controls/` enter theirs here."""


def control(widget: str, *, shared: str = "") -> Callable[[Callable[[Field], Any]], Callable[[Field], Any]]:
    """Enter a function as the control of the options whose kind asks for this `widget`."""

    def enter(draw: Callable[[Field], Any]) -> Callable[[Field], Any]:
        CONTROLS[widget] = Control(draw, shared)
        return draw

    return enter
