"""Options that name one thing of a list which is known only when it is read, such as what the registry holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fovea.engine.errors import OptionsError
from fovea.engine.options.base import Kind, Options

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class ChoiceKind(Kind):
    """One of `listed()`; `what` is the option's name, for the message. A list that never changes is a `Literal`."""

    what: str
    listed: Callable[[], tuple[str, ...]]

    @property
    def metavar(self) -> str:
        """The choices, as those of a `Literal` are shown."""
        return f"[{'|'.join(self.choices())}]"

    def choices(self) -> tuple[str, ...]:
        """What is listed now."""
        return self.listed()

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise OptionsError for what is not listed."""
        if value not in self.choices():
            *most, last = map(repr, self.choices())
            raise OptionsError(f"{self.what} must be {', '.join(most)} or {last}, not {value!r}")
