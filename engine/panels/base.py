"""What every panel has: a kind, a title, and the sentence that says how to read it; and what a panel reads of a run.

A kind of panel is one file of this folder: a class whose fields name the arrays, tables and pictures that it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

Scale = Literal["sequential", "diverging"]


class RunView(Protocol):
    """What a panel reads of a run."""

    @property
    def record(self) -> Any:
        """The run's record, with its `panels`."""

    def array(self, name: str) -> NDArray[Any]:
        """The array of that name."""

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name."""

    def image(self, name: str) -> Image.Image:
        """The picture of that name; "photo" is the photo as the network got it."""


class Panel(BaseModel):
    """One view of a result. `kind` names its class; `help` is the sentence under the title that says how to read it.

    `beside`: it stands in one row with the panel before it, where the window is wide enough. `small` kinds share a
    row with their neighbour by themselves.
    """

    small: ClassVar[bool] = False

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    title: str
    help: str = ""
    beside: bool = False


class TableView(Panel):
    """A panel that reads the rows of `table`; `where` keeps only the rows with these values."""

    table: str = ""
    where: dict[str, str | int] = Field(default_factory=dict)

    def rows(self, run: RunView) -> pd.DataFrame:
        """The rows of the table that `where` keeps."""
        table = run.table(self.table)
        for column, value in self.where.items():
            table = table[table[column] == value]
        return table
