"""Kinds of panels: one file adds one, records keep them, each says what it reads, and listing them is light."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fovea.engine.errors import UnsupportedError
from fovea.engine.panels import GalleryPanel, HeatmapPanel, ImagePanel, Look, Panel, Reads, TextPanel, panel_kinds
from fovea.engine.panels.unknown import UnknownPanel
from fovea.engine.report.report import report_html
from fovea.engine.run.record import RunRecord
from tests.engine.memory_run import KINDS, MemoryRun, every_panel, record

ROOT = Path(__file__).resolve().parents[3]

PIE = '''
"""Parts of a whole."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import Reads, ReportPart, TableView
from fovea.engine.panels.figure_parts import empty_figure
from fovea.engine.panels.look import USUAL
from fovea.engine.panels.words import for_plotly, words


class PiePanel(TableView):
    """A slice for each row, as large as `size`, named by `name`."""

    kind: Literal["pie"] = "pie"
    name: str
    size: str

    def figure(self, run, look=USUAL):
        import plotly.graph_objects as go

        table = self.rows(run)
        drawn = empty_figure(look, 300)
        names = [for_plotly(str(name)) for name in table[self.name]]
        drawn.add_trace(go.Pie(labels=names, values=table[self.size].tolist()))
        return drawn

    def reads(self):
        return super().reads() | Reads(tables={self.table: {self.name, self.size}})


class SlicesPanel(PiePanel):
    """The same slices, which a report tells in words."""

    kind: Literal["slices"] = "slices"

    def report(self, run):
        table = self.rows(run)
        slices = [(str(name), words(size)) for name, size in zip(table[self.name], table[self.size])]
        text = "<ul>{% for name, size in slices %}<li>{{ name }}: {{ size }} of {{ title }}</li>{% endfor %}</ul>"
        return ReportPart(text=text, data={"slices": slices})
'''


@pytest.fixture
def pie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two kinds of panels that one new file adds."""
    (tmp_path / "pie.py").write_text(PIE, encoding="utf-8")
    folder = importlib.import_module("fovea.engine.panels")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    panel_kinds.cache_clear()
    yield importlib.import_module("fovea.engine.panels.pie")
    panel_kinds.cache_clear()
    sys.modules.pop("fovea.engine.panels.pie", None)
    folder.__dict__.pop("pie", None)


def slices(pie: Any) -> MemoryRun:
    table = pd.DataFrame({"what": ["<b>ham", "eggs"], "grams": [20, 60.5], "when": ["noon", "noon"]})
    panels = [
        pie.PiePanel(title="Breakfast", table="food", name="what", size="grams", where={"when": "noon"}),
        pie.SlicesPanel(title="lunch & tea", table="food", name="what", size="grams"),
    ]
    return MemoryRun(record(panels), tables={"food": table})


def test_a_new_kind_is_one_file(pie: Any) -> None:
    """Its record comes back as it was, it draws itself, and a report has it without knowing it."""
    run = slices(pie)
    assert {"pie", "slices"} <= set(panel_kinds())
    again = RunRecord.model_validate_json(run.record.model_dump_json())
    assert again.panels == run.record.panels
    assert [type(panel) for panel in again.panels] == [pie.PiePanel, pie.SlicesPanel]
    assert list(again.panels[0].figure(run, Look(theme="dark")).data[0].values) == [20, 60.5]
    assert again.panels[0].reads() == Reads(tables={"food": {"what", "grams", "when"}})
    page = report_html(MemoryRun(again, tables=run.tables))
    assert '"type":"pie"' in page
    assert "cannot be drawn" not in page
    assert "<li>&lt;b&gt;ham: 20 of lunch &amp; tea</li>" in page


def test_a_page_shows_a_new_kind(pie: Any) -> None:
    """Where a kind has no widget of its own, a page draws its figure; one that is unknown is one line."""
    from streamlit.testing.v1 import AppTest

    def script(run):  # AppTest runs its text, in which nothing is imported
        from fovea.pages.ui.panels.show import show_panels

        show_panels(run, "test")

    run = slices(pie)
    run.record.panels.append(UnknownPanel(kind="hologram", title="Depth"))
    app = AppTest.from_function(script, args=(run,), default_timeout=60).run()
    assert not app.exception
    assert [line.value.split(":")[0] for line in app.error] == ["This panel cannot be drawn\\"]
    assert [title.value for title in app.subheader] == ["Breakfast", "lunch & tea", "Depth"]
    assert len(app.get("plotly_chart")) == 2


def test_records_keep_panels() -> None:
    panels = every_panel().record.panels
    gallery = GalleryPanel(title="", image="sheet", table="t", opens=(HeatmapPanel(title="", array="map"),))
    kept = record([*panels, gallery])
    again = RunRecord.model_validate_json(kept.model_dump_json())
    assert again == kept
    assert [type(panel) for panel in again.panels] == [type(panel) for panel in kept.panels]


def test_a_panel_of_an_unknown_kind_is_kept_and_told_in_one_line() -> None:
    """The run of a newer version opens; what is not known is neither drawn nor lost."""
    fields = {"kind": "<hologram>", "title": "Depth", "array": "map", "report": "<script>", "small": True, "deep": [1]}
    text = record([TextPanel(title="Note")]).model_dump(mode="json")
    again = RunRecord.model_validate(text | {"panels": [*text["panels"], fields]})
    panel = again.panels[1]
    assert isinstance(panel, UnknownPanel)
    assert panel.small is False
    assert again.model_dump(mode="json")["panels"][1] == fields | {"help": "", "beside": False}
    with pytest.raises(UnsupportedError, match="does not know panels of the kind"):
        panel.figure(MemoryRun(again))
    page = report_html(MemoryRun(again))
    assert "This panel cannot be drawn: this version of Fovea does not know panels of the kind" in page
    assert "<hologram>" not in page
    assert "Note" in page
    with pytest.raises(ValueError, match="expected a panel of one of the kinds bars"):
        RunRecord.model_validate(text | {"panels": [{"title": "no kind"}]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_panel_reads_what_it_says_and_nothing_else(kind: str) -> None:
    """Without anything else in the run it can be drawn and reported."""
    run = every_panel()
    for panel in (panel for panel in run.record.panels if panel.kind == kind):
        reads = panel.reads()
        less = MemoryRun(
            record([panel]),
            {name: run.arrays[name] for name in reads.arrays},
            {name: run.tables[name][[*columns]] for name, columns in reads.tables.items()},
            {name: run.images[name] for name in reads.images},
        )
        panel.figure(less)
        assert "cannot be drawn" not in report_html(less)
        for name, columns in reads.tables.items():
            assert list(columns) or panel.kind == "table", name


def test_reads_are_joined() -> None:
    left = Reads({"a"}, {"t": {"x"}}, {"photo"})
    right = Reads({"b"}, {"t": {"y"}, "u": set()})
    assert left | right == Reads({"a", "b"}, {"t": {"x", "y"}, "u": set()}, {"photo"})
    inner = HeatmapPanel(title="", array="map")
    gallery = GalleryPanel(title="", image="sheet", table="t", key="unit", where={"layer": "a"}, opens=(inner,))
    assert gallery.reads() == Reads({"map"}, {"t": {"unit", "layer"}}, {"sheet"})
    assert ImagePanel(title="", image="made").reads() == Reads(images={"made"})


def test_a_panel_without_a_figure_is_its_words() -> None:
    run = MemoryRun(record([TextPanel(title="Note", help="Nothing to see.")]))
    assert run.record.panels[0].figure(run) is None
    page = report_html(run)
    assert "Nothing to see." in page
    assert "Plotly.newPlot" not in page


def test_listing_methods_loads_no_plotly() -> None:
    code = "import sys, fovea.engine.method as m; m.methods(); print({'plotly', 'jinja2'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "none"


def test_every_kind_is_a_class_of_its_own() -> None:
    kinds = panel_kinds()
    assert set(kinds) == set(KINDS)
    assert all(issubclass(kind, Panel) and kind.__doc__ for kind in kinds.values())
    assert np.all([kind.model_fields["kind"].default == name for name, kind in kinds.items()])
