"""Every kind of panel has a figure; overlays lie on their picture, cells are found by a click, text is plain."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovea.engine.errors import OptionsError
from fovea.engine.panels import Cells, CurvePanel, HeatmapPanel, Look, OverlayPanel, Panel, ScatterPanel, panel_kinds
from fovea.engine.panels.channels import channel_sheet
from fovea.engine.panels.colour_scale import ColourScale
from fovea.engine.panels.data_uri import data_uri
from fovea.engine.panels.look import DIVERGING, SEQUENTIAL
from tests.engine.memory_run import KINDS, MemoryRun, every_panel, record

HOSTILE = '<img src=x onerror=alert(1)> %{z} </script><script>alert("x")</script> & "q"'


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    """A run with a panel of every kind."""
    return every_panel()


def of_kind(run: MemoryRun, kind: str) -> Panel:
    return next(panel for panel in run.record.panels if panel.kind == kind)


def test_the_run_has_every_kind(run: MemoryRun) -> None:
    kinds = set(panel_kinds())
    assert kinds == set(KINDS) == {panel.kind for panel in run.record.panels}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_a_figure(run: MemoryRun, kind: str, theme: Any) -> None:
    drawn = of_kind(run, kind).figure(run, Look(theme=theme, height=333))
    if kind == "text":
        assert drawn is None
        return
    told = json.loads(drawn.to_json())
    assert told["layout"]["height"] == 333
    assert told["layout"]["template"]["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"
    assert drawn.data or drawn.layout.images or drawn.layout.annotations


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_is_only_text(kind: str) -> None:
    """Plotly reads tags and %{…} in its texts; neither may come from a user."""
    run = every_panel(HOSTILE)
    drawn = of_kind(run, kind).figure(run)
    told = "" if drawn is None else drawn.to_json()
    assert "<img" not in told
    assert "\\u003cimg" not in told
    assert "%{z} </" not in told


def test_an_overlay_lies_on_its_picture(run: MemoryRun) -> None:
    drawn = of_kind(run, "overlay").figure(run, Look(opacity=0.3))
    heat, cells = drawn.data
    picture = drawn.layout.images[0]
    assert (picture.x, picture.y, picture.sizex, picture.sizey) == (-0.5, -0.5, 224, 224)
    assert (heat.x0, heat.dx, heat.y0, heat.dy) == (0, 1, 0, 1)
    assert heat.opacity == 0.3
    assert heat.zmin == -heat.zmax
    assert drawn.layout.yaxis.scaleanchor == "x"
    assert drawn.layout.yaxis.range == (223.5, -0.5)
    assert cells.customdata[0][:2] == (0, 0) or list(cells.customdata[0][:2]) == [0, 0]
    assert len(cells.x) == 169
    assert list(cells.customdata[14])[:2] == [1, 1]
    assert (cells.x[14], cells.y[14]) == (16 + 15.5, 16 + 15.5)
    assert cells.customdata[14][2] == pytest.approx(float(run.array("score")[1, 1]))


def test_a_coarse_map_is_stretched_over_its_picture() -> None:
    run = MemoryRun(record([]), {"map": np.zeros((7, 14))}, images={"photo": Image.new("RGB", (224, 112))})
    heat = OverlayPanel(title="", image="photo", array="map").figure(run).data[0]
    assert (heat.x0, heat.dx, heat.y0, heat.dy) == (7.5, 16, 7.5, 16)


def test_scales(run: MemoryRun) -> None:
    panel = of_kind(run, "heatmap")
    assert panel.figure(run).data[0].zmin < 0
    sequential = panel.figure(run, Look(scale="sequential")).data[0]
    assert sequential.zmin == pytest.approx(float(run.array("heatmap").min()))
    assert panel.figure(run, Look(colours="viridis")).data[0].colorscale != panel.figure(run).data[0].colorscale
    for name in SEQUENTIAL + DIVERGING:
        assert panel.figure(run, Look(colours=name)).data[0].colorscale
    for wrong in ({"colours": "jet"}, {"scale": "log"}, {"theme": "blue"}, {"opacity": 2}):
        with pytest.raises(OptionsError):
            panel.figure(run, Look(**wrong))  # type: ignore[arg-type]


def test_flat_and_unfinished_maps_can_be_drawn() -> None:
    for values in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((1, 4, 4), 3.0)):
        run = MemoryRun(record([]), {"map": values})
        for scale in ("sequential", "diverging"):
            heat = HeatmapPanel(title="", array="map", scale=scale).figure(run).data[0]
            assert np.isfinite([heat.zmin, heat.zmax]).all()
            assert heat.zmin < heat.zmax
    run = MemoryRun(record([]), {"map": np.zeros((3, 4, 4))})
    with pytest.raises(OptionsError, match=r"has shape \(3, 4, 4\), expected \(rows, columns\)"):
        HeatmapPanel(title="", array="map").figure(run)


def test_a_large_map_is_made_lighter() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 1500)).astype(np.float32)
    run = MemoryRun(record([]), {"map": values})
    heat = HeatmapPanel(title="", array="map").figure(run).data[0]
    assert np.asarray(heat.z).shape == (1000, 500)
    assert np.asarray(heat.z)[0, 0] == pytest.approx(values[:3, :3].mean(), rel=1e-5)


def test_channels_and_one_of_them(run: MemoryRun) -> None:
    panel = of_kind(run, "channels")
    drawn = panel.figure(run)
    assert [point[0] for point in drawn.data[0].customdata] == list(range(20))
    one = panel.figure(run, Look(channel=7))
    assert np.array_equal(one.data[0].z, run.array("activations")[7])
    with pytest.raises(OptionsError, match="no channel 20: the layer has channels 0 to 19"):
        panel.figure(run, Look(channel=20))
    pixels, sheet = channel_sheet(run.array("activations"), ColourScale("sequential", "inferno"))
    assert sheet.columns == 5
    assert pixels.shape == (4 * sheet.pitch[0], 5 * sheet.pitch[1], 3)


def test_bars_keep_the_tables_order_and_show_shares(run: MemoryRun) -> None:
    drawn = of_kind(run, "bars").figure(run)
    assert list(drawn.data[0].text)[:2] == ["87.0%", "6.0%"]
    assert drawn.layout.yaxis.autorange == "reversed"
    assert drawn.layout.yaxis.ticktext[0] == "tabby cat"


def test_a_log_axis_needs_positive_values() -> None:
    run = MemoryRun(record([]), tables={"t": pd.DataFrame({"step": [0, 1], "a": [1.0, 10.0], "b": [0.0, np.nan]})})
    panel = CurvePanel(title="", table="t", x="step", y=("a",), log=True)
    assert panel.figure(run).layout.yaxis.type == "log"
    both = panel.model_copy(update={"y": ("a", "b")})
    assert both.figure(run).layout.yaxis.type == "linear"
    assert list(both.figure(run).data[1].y) == [0.0, None]


def test_where_keeps_rows(run: MemoryRun) -> None:
    panel = of_kind(run, "gallery").model_copy(update={"where": {"unit": 1}})
    assert [point[0] for point in panel.figure(run).data[0].customdata] == list(range(4, 8))


def test_many_labels_share_the_colours() -> None:
    table = pd.DataFrame({"x": range(60), "y": range(60), "label": [f"l{i % 30}" for i in range(60)], "v": range(60)})
    table["tile"] = range(60)
    run = MemoryRun(record([]), tables={"t": table})
    panel = ScatterPanel(title="", table="t", x="x", y=("y",), caption=("label",))
    drawn = panel.figure(run)
    assert drawn.data[0].name == "others"
    assert sum(len(trace.x) for trace in drawn.data) == 60
    assert len({(trace.marker.color, trace.marker.symbol) for trace in drawn.data}) == len(drawn.data) == 22
    assert all(row == tile for trace in drawn.data for row, tile in trace.customdata)
    numbers = panel.model_copy(update={"caption": ("label", "v")}).figure(run, Look(colour="v"))
    assert len(numbers.data) == 1
    assert numbers.data[0].marker.showscale


def test_pictures_are_embedded_within_bounds() -> None:
    def read(uri: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))

    assert read(data_uri(Image.new("RGB", (3000, 1000)))).size == (1024, 341)
    small = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(np.asarray(read(data_uri(small))), small)
    assert read(data_uri(Image.new("RGBA", (900, 900)))).format == "PNG"
    assert read(data_uri(Image.new("RGB", (900, 900)))).format == "JPEG"


def test_cells_need_their_arrays(run: MemoryRun) -> None:
    panel = of_kind(run, "overlay")
    broken = panel.model_copy(update={"cells": Cells(ys="ys", xs="xs", height=3, width=3, values="nothing")})
    with pytest.raises(KeyError):
        broken.figure(run)
