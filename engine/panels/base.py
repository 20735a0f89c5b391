"""What every panel has: a title, the sentence that says how to read it, a figure, its part of a report, what it reads.

A kind of panel is one file of this folder: a class whose fields name the arrays, tables and pictures that it shows.
Plotly is imported inside functions alone, because every method imports panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fovea.engine.panels.look import USUAL, Look
from fovea.engine.panels.sheet import Sheet

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from PIL import Image


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


@dataclass(frozen=True)
class Reads:
    """The names of what a panel reads of a run: its arrays, its tables with the columns they must have, its pictures.

    Two of them are joined by `|`.
    """

    arrays: Set[str] = frozenset()
    tables: Mapping[str, Set[str]] = field(default_factory=dict)
    images: Set[str] = frozenset()

    def __or__(self, other: Reads) -> Reads:
        """What both together read."""
        names = [*self.tables, *(name for name in other.tables if name not in self.tables)]
        tables = {name: self.tables.get(name, frozenset()) | other.tables.get(name, frozenset()) for name in names}
        return Reads(self.arrays | other.arrays, tables, self.images | other.images)


@dataclass(frozen=True)
class ReportPart:
    """What a report shows of a panel, under its title and its help.

    `template` names a file of `engine/report/templates/panels`; a kind that none of them suits gives its own Jinja
    template as `text`. Either sees `data`, the panel's `title`, and, where there is a `figure`, its number. `script`
    is what the report's script reads beside the figure: `cells` answer clicks, `peek` shows tiles where it is pointed.
    """

    template: str = ""
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    figure: go.Figure | None = None
    script: Mapping[str, Any] = field(default_factory=dict)


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

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure | None:
        """The panel drawn by Plotly, or None where title and help say it all.

        Raises OptionsError where `look` or the shape of an array does not suit it, and whatever the run raises on a
        name that it has not.
        """
        return None

    def report(self, run: RunView) -> ReportPart:
        """Its part of a report: its figure, if a kind has nothing better. Raises as `figure` does."""
        figure = self.figure(run)
        return ReportPart() if figure is None else ReportPart("chart.html", figure=figure)

    def reads(self) -> Reads:
        """What it reads of a run."""
        return Reads()


class TableView(Panel):
    """A panel that reads the rows of `table`; `where` keeps only the rows with these values."""

    table: str = ""
    where: dict[str, str | int] = Field(default_factory=dict)

    def rows(self, run: RunView) -> pd.DataFrame:
        """The rows of the table that `where` keeps; each has the index that it has in the whole table."""
        table = run.table(self.table)
        for column, value in self.where.items():
            table = table[table[column] == value]
        return table

    def reads(self) -> Reads:
        """The table, with the columns of `where`."""
        return Reads(tables={self.table: set(self.where)})


class SheetView(TableView):
    """A panel whose rows have tiles on the sheet `image`, `tile` pixels wide and `columns` of them a row."""

    image: str = ""
    tile: int = 0
    columns: int = 0

    def sheet(self, width: int) -> Sheet:
        """How the tiles lie on the sheet of that width in pixels, gaps being part of their tiles."""
        columns = self.columns or max(1, width // max(1, self.tile))
        return Sheet(max(1, width // columns), columns)

    def sheet_rows(self, size: tuple[int, int]) -> int:
        """How many rows of tiles a sheet of that width and height has."""
        return max(1, -(-size[1] // self.sheet(size[0]).tile))

    def reads(self) -> Reads:
        """The table, and the sheet if there is one."""
        return super().reads() | Reads(images={self.image} if self.image else set())
