"""A panel of a kind that is not known here, e.g. in a run that a newer Fovea made: it keeps its fields, undrawn."""

from __future__ import annotations

from typing import NoReturn

from pydantic import ConfigDict

from fovea.engine.errors import UnsupportedError
from fovea.engine.panels.base import Panel, RunView
from fovea.engine.panels.look import USUAL, Look


class UnknownPanel(Panel):
    """`title` and `help` are shown, and one line instead of the rest."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def figure(self, run: RunView, look: Look = USUAL) -> NoReturn:
        """Raise UnsupportedError."""
        raise UnsupportedError(
            f"this version of Fovea does not know panels of the kind {self.kind!r}; a newer one may show it"
        )
