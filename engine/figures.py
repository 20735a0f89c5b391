"""Panels -> Plotly figures. Every kind of panel is drawn here, for the pages and for the report alike.

Scales are perceptually uniform and safe for the colour-blind; pictures are embedded as data URIs of bounded size.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from plotly.colors import get_colorscale, sample_colorscale

from fovea.engine.errors import OptionsError
from fovea.engine.panels import (
    BarsPanel,
    Cells,
    ChannelsPanel,
    CurvePanel,
    GalleryPanel,
    HeatmapPanel,
    ImagePanel,
    OverlayPanel,
    Panel,
    RunView,
    Scale,
    ScatterPanel,
    TablePanel,
    TextPanel,
)
from fovea.engine.panels.sheet import compose_sheet, map_tiles, square_columns

if TYPE_CHECKING:
    import pandas as pd

Theme = Literal["light", "dark"]

SEQUENTIAL = ("inferno", "viridis", "cividis", "magma", "plasma", "gray")
DIVERGING = ("balance", "RdBu_r", "PuOr_r", "BrBG_r")
"""Colour scales by Plotly's names, the default first."""

LINES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#a8558c", "#8a6d00", "#3f4b9a", "#56788a", "#000000"),
    "dark": ("#56b4e9", "#e69f00", "#2fbf94", "#dd92c1", "#f0e442", "#9aa7f0", "#a9bcc7", "#ffffff"),
}
"""Okabe and Ito's colours, which the colour-blind tell apart, darkened or lightened for each background."""

SYMBOLS = ("circle", "diamond", "cross")
"""Marks that take turns when a scatter has more labels than there are colours."""

LEGEND = 12
"""With more marks than this there is no legend: what is pointed at tells its name."""

INK = {"light": "#221d16", "dark": "#ece6da"}
GRID = {"light": "rgba(60,50,30,0.14)", "dark": "rgba(240,230,210,0.16)"}
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', sans-serif"

LONGEST = 1024
"""Embedded pictures and maps are made smaller than this, in pixels."""

POINTS = 20_000
"""A scatter draws at most so many points."""


def figure(
    panel: Panel,
    run: RunView,
    *,
    theme: Theme = "light",
    height: int | None = None,
    opacity: float = 0.6,
    scale: Scale | None = None,
    colours: str = "",
    grey: bool = True,
    channel: int | None = None,
    colour: str = "",
) -> go.Figure:
    """The panel as a Plotly figure.

    `height` in pixels (by default what suits the kind). `opacity` in [0, 1] of the map over its picture; `scale`
    and `colours` (one of SEQUENTIAL or DIVERGING) in place of the panel's; `grey` takes the
    colours from the picture under a map. `channel`: that one of a `channels`
    panel alone, over its image. `colour`: the caption that colours a scatter's points. A clicked point carries
    `customdata`: [row, column, value] of an overlay's cell, [channel] of a tile, [row of the table, tile] of a scatter.
    Raises OptionsError on an unknown choice, and whatever the run raises on a missing name.
    """
    if theme not in LINES:
        raise OptionsError(f"theme must be light or dark, not {theme!r}")
    if not 0 <= opacity <= 1:
        raise OptionsError(f"opacity must lie in 0 … 1, not {opacity}")
    chosen = scale or getattr(panel, "scale", "sequential")
    table = SEQUENTIAL if chosen == "sequential" else DIVERGING
    if chosen not in ("sequential", "diverging") or (colours and colours not in SEQUENTIAL + DIVERGING):
        raise OptionsError(f"colours must be one of {', '.join(SEQUENTIAL + DIVERGING)}, not {colours or chosen!r}")
    look = _Look(theme, height, opacity, chosen, colours or table[0], grey, channel, colour)
    drawn: go.Figure = _KINDS[panel.kind](panel, run, look)
    return drawn


class _Look:
    """The choices of one figure."""

    def __init__(
        self,
        theme: Theme,
        height: int | None,
        opacity: float,
        scale: Scale,
        colours: str,
        grey: bool,
        channel: int | None,
        colour: str,
    ) -> None:
        self.theme, self.height, self.opacity, self.scale = theme, height, opacity, scale
        self.colours, self.grey, self.channel, self.colour = colours, grey, channel, colour

    @property
    def brightness(self) -> float:
        """Of a grey picture under a map: bright colours stand out from a darker one."""
        return 0.6 if self.scale == "sequential" else 1.0

    def scale_of(self, fade: bool) -> list[tuple[float, str]]:
        """The colour scale; with `fade` what is near zero lets the picture through."""
        places = np.linspace(0, 1, 33)
        # The ends of a diverging scale are near black: over a photo its strong colours tell more.
        read = 0.5 + 0.8 * (places - 0.5) if self.scale == "diverging" else places
        colours = sample_colorscale(get_colorscale(self.colours), read.tolist(), colortype="tuple")
        drawn = []
        for place, (red, green, blue) in zip(places, colours, strict=True):
            strength = abs(2 * place - 1) if self.scale == "diverging" else place
            alpha = min(1.0, 1.6 * strength) if fade else 1.0
            drawn.append((float(place), f"rgba({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f},{alpha:.3f})"))
        return drawn

    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """The values at the two ends of the scale."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return (-1.0, 1.0) if self.scale == "diverging" else (0.0, 1.0)
        if self.scale == "diverging":
            largest = float(np.abs(finite).max()) or 1.0
            if finite.size >= 10_000:
                largest = float(np.quantile(np.abs(finite), 0.999)) or largest
            return -largest, largest
        low, high = float(finite.min()), float(finite.max())
        if finite.size >= 10_000:  # a few extreme pixels would leave the rest of a saliency map in the dark
            most = float(np.quantile(finite, 0.999))
            high = most if most > low else high
        return (low, high) if high > low else (low, low + 1.0)


def template(theme: Theme) -> go.layout.Template:
    """The look of all figures: no frame, thin grid, transparent ground, the theme's ink."""
    ink = INK[theme]
    axis = {"gridcolor": GRID[theme], "zerolinecolor": GRID[theme], "linecolor": GRID[theme], "automargin": True}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": LINES[theme],
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        }
    )


def data_uri(picture: Image.Image | NDArray[np.uint8], longest: int = LONGEST, lossy: bool | None = None) -> str:
    """A picture as a data URI, its longer side at most `longest` pixels.

    PNG while that is small or the picture has transparency, else JPEG; `lossy` decides it. An animation stays one.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if getattr(image, "is_animated", False):
        return _animation_uri(image)
    if image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if max(image.size) > longest:
        factor = longest / max(image.size)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
    if lossy is None:
        lossy = image.mode != "RGBA" and image.width * image.height > 320 * 320
    buffer = io.BytesIO()
    if lossy:
        image.convert("RGB").save(buffer, "JPEG", quality=88)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.save(buffer, "PNG", compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _animation_uri(picture: Image.Image) -> str:
    """An animation as it is, whatever its size."""
    buffer = io.BytesIO()
    frames = [frame.copy() for frame in ImageSequence.Iterator(picture)]
    durations = [frame.info.get("duration", 100) for frame in frames]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return f"data:image/gif;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# -- Pictures and maps -------------------------------------------------------------------------------------------------


def _blank(look: _Look, height: int, **layout: Any) -> go.Figure:
    drawn = go.Figure(layout={"template": template(look.theme), "height": look.height or height, **layout})
    drawn.update_layout(hovermode="closest", dragmode=False)
    return drawn


def _picture_axes(drawn: go.Figure, width: float, height: float) -> None:
    """Axes in pixels from the top left corner, of equal steps, with no clutter."""
    bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
    drawn.update_xaxes(range=[-0.5, width - 0.5], **bare)
    drawn.update_yaxes(range=[height - 0.5, -0.5], scaleanchor="x", **bare)


def _lay_below(
    drawn: go.Figure,
    picture: Image.Image | NDArray[np.uint8],
    width: float,
    height: float,
    grey: bool = False,
    brightness: float = 1.0,
) -> None:
    """The picture under the map; `grey` takes its colours away, so that those of the map can be read."""
    if grey and isinstance(picture, Image.Image):
        picture = picture.convert("L").point(lambda level: round(level * brightness))
    drawn.add_layout_image(
        source=data_uri(picture),
        xref="x",
        yref="y",
        x=-0.5,
        y=-0.5,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
    )


def _bar(units: str) -> dict[str, Any]:
    """A colour bar below the map, as wide as suits any window."""
    return {
        "title": {"text": _plain(units), "side": "top"},
        "orientation": "h",
        "x": 0.5,
        "xanchor": "center",
        "y": -0.02,
        "yanchor": "top",
        "len": 0.6,
        "lenmode": "fraction",
        "thickness": 10,
        "outlinewidth": 0,
        "nticks": 5,
    }


def _smaller(values: NDArray[Any]) -> NDArray[np.float32]:
    """A map of at most LONGEST pixels a side: the means of whole blocks, so that a large one stays light."""
    values = np.asarray(values, np.float32)
    block = math.ceil(max(values.shape) / LONGEST)
    if block == 1:
        return values
    rows, columns = values.shape[0] // block, values.shape[1] // block
    cut = values[: rows * block, : columns * block].reshape(rows, block, columns, block)
    mean: NDArray[np.float32] = cut.mean((1, 3))
    return mean


def _two_axes(values: NDArray[Any], name: str) -> NDArray[Any]:
    values = np.squeeze(values) if values.ndim > 2 else values
    if values.ndim != 2:
        raise OptionsError(f"array {name} has shape {values.shape}, expected (rows, columns)")
    return values


def _map_trace(values: NDArray[Any], size: tuple[float, float], look: _Look, units: str, fade: bool) -> go.Heatmap:
    """A map stretched over (width, height) pixels of the picture below."""
    values = _smaller(values)
    low, high = look.limits(values)
    rows, columns = values.shape
    width, height = size
    largest = float(np.nanmax(values, initial=low))
    told = f"{units} (up to {largest:.3g})".strip() if largest > high else units
    return go.Heatmap(
        z=values,
        x0=-0.5 + width / columns / 2,
        dx=width / columns,
        y0=-0.5 + height / rows / 2,
        dy=height / rows,
        zmin=low,
        zmax=high,
        colorscale=look.scale_of(fade),
        opacity=look.opacity if fade else 1.0,
        colorbar=_bar(told),
        hovertemplate=f"x %{{x:.0f}}, y %{{y:.0f}}<br><b>%{{z:.4g}}</b> {_plain(units)}<extra></extra>",
        name="map",
    )


def _overlay(panel: OverlayPanel, run: RunView, look: _Look) -> go.Figure:
    picture = run.image(panel.image or "photo")
    values = _two_axes(run.array(panel.array), panel.array)
    width, height = picture.size
    drawn = _blank(look, 560)
    _lay_below(drawn, picture, width, height, look.grey, look.brightness)
    drawn.add_trace(_map_trace(values, (width, height), look, panel.units, fade=True))
    if panel.cells is not None:
        drawn.data[0].update(hoverinfo="skip", hovertemplate=None)
        drawn.add_trace(_cells_trace(panel.cells, run, look))
        # Whatever place is clicked, the cell with the nearest centre is meant.
        drawn.update_layout(hoverdistance=-1, clickmode="event+select")
    _picture_axes(drawn, width, height)
    return drawn


def _cells_trace(cells: Cells, run: RunView, look: _Look) -> go.Scatter:
    """Invisible points at the windows' centres: Streamlit hears a click on a scatter, not on a heat map."""
    ys, xs = run.array(cells.ys), run.array(cells.xs)
    values = run.array(cells.values)
    rows, columns = (axis.ravel() for axis in np.indices(values.shape))
    top, left = ys[rows], xs[columns]
    return go.Scatter(
        x=(left + (cells.width - 1) / 2).tolist(),
        y=(top + (cells.height - 1) / 2).tolist(),
        mode="markers",
        marker={"size": 14, "symbol": "square-open", "color": INK["dark"], "opacity": 0, "line": {"width": 2}},
        selected={"marker": {"opacity": 1, "color": LINES["dark"][1], "size": 18}},
        unselected={"marker": {"opacity": 0}},
        customdata=[
            [int(row), int(column), float(value), int(x), int(y)]
            for row, column, value, x, y in zip(rows, columns, values.ravel(), left, top, strict=True)
        ],
        hovertemplate=f"window at x %{{customdata[3]}}, y %{{customdata[4]}}<br>{_plain(cells.label) or 'value'} "
        "<b>%{customdata[2]:.4g}</b><extra></extra>",
        name="cells",
        showlegend=False,
    )


def _heatmap(panel: HeatmapPanel, run: RunView, look: _Look) -> go.Figure:
    values = _two_axes(run.array(panel.array), panel.array)
    rows, columns = values.shape
    drawn = _blank(look, round(min(460, max(180, 700 * rows / columns + 90))))  # a wide one needs less
    drawn.add_trace(_map_trace(values, (columns, rows), look, panel.units, fade=False))
    _picture_axes(drawn, columns, rows)
    return drawn


def _image(panel: ImagePanel, run: RunView, look: _Look) -> go.Figure:
    picture = run.image(panel.image)
    width, height = picture.size
    drawn = _blank(look, 560)
    _lay_below(drawn, picture, width, height)
    _picture_axes(drawn, width, height)
    return drawn


def _channels(panel: ChannelsPanel, run: RunView, look: _Look) -> go.Figure:
    maps = run.array(panel.array)
    if maps.ndim != 3:
        raise OptionsError(f"array {panel.array} has shape {maps.shape}, expected (channels, rows, columns)")
    if look.channel is not None:
        return _one_channel(panel, run, look, maps)
    order = run.table(panel.table)["unit"].to_numpy() if panel.table else np.arange(len(maps))
    sheet, columns, pitch = channel_sheet(maps[order], look.scale, look.colours)
    drawn = _blank(look, 640)
    _lay_below(drawn, sheet, sheet.shape[1], sheet.shape[0])
    index = np.arange(len(order))
    largest = maps[order].reshape(len(order), -1).max(axis=1)
    drawn.add_trace(
        go.Scatter(
            x=((index % columns + 0.5) * pitch).tolist(),
            y=((index // columns + 0.5) * pitch).tolist(),
            mode="markers",
            marker={"size": 16, "symbol": "square-open", "opacity": 0, "color": LINES["dark"][1], "line": {"width": 3}},
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 0}},
            customdata=[[int(channel), float(value)] for channel, value in zip(order, largest, strict=True)],
            hovertemplate="channel <b>%{customdata[0]}</b><br>largest %{customdata[1]:.4g}<extra></extra>",
            name="channels",
            showlegend=False,
        )
    )
    drawn.update_layout(hoverdistance=-1, clickmode="event+select")
    _picture_axes(drawn, sheet.shape[1], sheet.shape[0])
    return drawn


def channel_sheet(
    maps: NDArray[Any], scale: Scale = "sequential", colours: str = "", longest: int = LONGEST
) -> tuple[NDArray[np.uint8], int, int]:
    """Maps (C, h, w) as one picture of C coloured tiles, each scaled by its own values.

    Returns the sheet uint8 (H, W, 3), its columns, and the pixels from one tile to the next.
    """
    columns = square_columns(len(maps))
    tile = max(8, min(96, longest // columns - 2))
    grey = map_tiles(maps, tile, scale)
    places = np.linspace(0, 1, 256).tolist()
    name = colours or (SEQUENTIAL if scale == "sequential" else DIVERGING)[0]
    lookup = np.rint(np.array(sample_colorscale(get_colorscale(name), places, colortype="tuple")) * 255)
    sheet = compose_sheet(lookup.astype(np.uint8)[grey], tile, columns, gap=2)
    return sheet, columns, tile + 2


def _one_channel(panel: ChannelsPanel, run: RunView, look: _Look, maps: NDArray[Any]) -> go.Figure:
    assert look.channel is not None
    if not 0 <= look.channel < len(maps):
        raise OptionsError(f"no channel {look.channel}: the layer has channels 0 to {len(maps) - 1}")
    values = maps[look.channel]
    drawn = _blank(look, 460)
    if panel.image:
        picture = run.image(panel.image)
        width, height = picture.size
        _lay_below(drawn, picture, width, height, look.grey, look.brightness)
    else:
        height, width = values.shape
    trace = _map_trace(values, (width, height), look, panel.units, fade=bool(panel.image))
    if panel.cells is not None and panel.image and max(values.shape) <= LONGEST:
        _place(trace, panel.cells, run)
    drawn.add_trace(trace)
    _picture_axes(drawn, width, height)
    return drawn


def _place(trace: go.Heatmap, cells: Cells, run: RunView) -> None:
    """Lay each value of a map where its cell lies, e.g. at its receptive field's middle."""
    for axis, name, side in (("x", cells.xs, cells.width), ("y", cells.ys, cells.height)):
        corners = run.array(name)
        step = float(corners[1] - corners[0]) if len(corners) > 1 else float(side)
        trace.update({f"{axis}0": float(corners[0]) + step / 2 - 0.5, f"d{axis}": step})


def _gallery(panel: GalleryPanel, run: RunView, look: _Look) -> go.Figure:
    """The sheet as it lies, its captions on hover."""
    sheet = run.image(panel.image)
    width, height = sheet.size
    columns = panel.columns or max(1, width // max(1, panel.tile))
    pitch = width / columns
    table = panel.rows(run)
    tiles = table["tile"].to_numpy() if "tile" in table else np.arange(len(table))
    drawn = _blank(look, 640)
    _lay_below(drawn, sheet, width, height)
    drawn.add_trace(
        go.Scatter(
            x=((tiles % columns + 0.5) * pitch).tolist(),
            y=((tiles // columns + 0.5) * pitch).tolist(),
            mode="markers",
            marker={"size": 16, "opacity": 0},
            customdata=[[int(tile)] for tile in tiles],
            text=captions(table, (*panel.group, *panel.caption)),
            hovertemplate="%{text}<extra></extra>",
            name="tiles",
            showlegend=False,
        )
    )
    drawn.update_layout(hoverdistance=-1, clickmode="event+select")
    _picture_axes(drawn, width, height)
    return drawn


# -- Charts ------------------------------------------------------------------------------------------------------------


def _curve(panel: CurvePanel, run: RunView, look: _Look) -> go.Figure:
    table = panel.rows(run)
    drawn = _blank(look, 320)
    for place, (low, high) in enumerate(zip(panel.low, panel.high, strict=True)):
        _add_band(drawn, table, (panel.x, low, high), LINES[look.theme][place % len(LINES[look.theme])])
    for place, column in enumerate(panel.y):
        drawn.add_trace(
            go.Scatter(
                x=table[panel.x].tolist(),
                y=_finite(table[column]),
                mode="lines" if len(table) > 1 else "markers",
                name=_plain(column),
                line={"width": 2, "color": LINES[look.theme][place % len(LINES[look.theme])]},
                hovertemplate="%{y:.4g}",
            )
        )
    drawn.update_layout(hovermode="x unified", showlegend=len(panel.y) > 1)
    drawn.update_xaxes(title_text=_plain(panel.x), showgrid=False)
    if table[panel.x].dtype.kind not in "iufb":
        _few_names(drawn, [str(name) for name in table[panel.x]])
    title = panel.units or (panel.y[0] if len(panel.y) == 1 else "")
    positive = all((table[column].dropna() > 0).all() for column in panel.y)
    drawn.update_yaxes(title_text=_plain(title), type="log" if panel.log and positive else "linear")
    return drawn


def _few_names(drawn: go.Figure, names: list[str], most: int = 12, longest: int = 18) -> None:
    """Some of many names along the x axis, each by its end; hover tells all of them whole."""
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)).tolist()
    ends = [names[n] if len(names[n]) <= longest else f"…{names[n][1 - longest :]}" for n in places]
    drawn.update_xaxes(
        type="category", tickvals=[names[n] for n in places], ticktext=[_plain(end) for end in ends], tickangle=-30
    )


def _add_band(drawn: go.Figure, table: pd.DataFrame, columns: tuple[str, str, str], colour: str) -> None:
    """The area between two columns, behind the lines."""
    x, low, high = columns
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    edges = _finite(table[high]) + _finite(table[low])[::-1]
    drawn.add_trace(
        go.Scatter(
            x=table[x].tolist() + table[x].tolist()[::-1],
            y=edges,
            mode="lines",
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.16)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _finite(column: pd.Series[Any]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in column.astype(float)]


def _bars(panel: BarsPanel, run: RunView, look: _Look) -> go.Figure:
    table = panel.rows(run)
    values = table[panel.y[0]].astype(float)
    share = panel.y[0] in ("probability", "share") or panel.units in ("probability", "share")
    shown = [f"{value:.1%}" if share else f"{value:.4g}" for value in values]
    names = [_short(str(name)) for name in table[panel.x]]
    drawn = _blank(look, 46 + 34 * max(1, len(table)))
    hover = f"%{{customdata}}<br>{_plain(panel.y[0])} <b>%{{x:.4g}}</b> {_plain(panel.units)}<extra></extra>"
    drawn.add_trace(
        go.Bar(
            x=values.tolist(),
            y=list(range(len(table))),
            orientation="h",
            text=shown,
            textposition="outside",
            cliponaxis=False,
            marker={"cornerradius": 3},
            customdata=[_plain(str(name)) for name in table[panel.x]],
            hovertemplate=hover,
            showlegend=False,
        )
    )
    drawn.update_layout(bargap=0.28)
    drawn.update_yaxes(
        tickvals=list(range(len(table))), ticktext=names, ticklabelstandoff=6, autorange="reversed", showgrid=False
    )
    drawn.update_xaxes(
        title_text=_plain(panel.units or panel.y[0]),
        tickformat=".0%" if share else None,
        range=_with_room(values.to_numpy()),
    )
    return drawn


def _with_room(values: NDArray[Any]) -> list[float]:
    """From zero to the largest value, with room for its number behind the bar."""
    finite = values[np.isfinite(values)]
    low, high = min(0.0, finite.min(initial=0)), max(0.0, finite.max(initial=0))
    room = 0.22 * ((high - low) or 1.0)
    return [float(low - room) if low < 0 else 0.0, float(high + room)]


def _scatter(panel: ScatterPanel, run: RunView, look: _Look) -> go.Figure:
    table = panel.rows(run)
    if len(table) > POINTS:
        table = table.iloc[np.linspace(0, len(table) - 1, POINTS).astype(int)]
    drawn = _blank(look, 560)
    colour = look.colour or (panel.caption[0] if panel.caption else "")
    size = 7 if len(table) < 2000 else 5
    tiles = table["tile"].to_numpy() if "tile" in table else np.full(len(table), -1)
    place_of = dict(zip(table.index, tiles, strict=True))
    for name, part, style in _coloured(table, colour, look):
        drawn.add_trace(
            go.Scatter(
                x=part[panel.x].tolist(),
                y=part[panel.y[0]].tolist(),
                mode="markers",
                name=_short(name),
                marker={"size": size, "opacity": 0.85, **style},
                text=captions(part, panel.caption),
                customdata=[[int(index), int(place_of[index])] for index in part.index],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    drawn.update_layout(showlegend=1 < len(drawn.data) <= LEGEND, clickmode="event+select")
    for update in (drawn.update_xaxes, drawn.update_yaxes):
        # On a map of pictures only nearness means something.
        update(showticklabels=not panel.image, zeroline=False, ticks="")
    drawn.update_xaxes(title_text="" if panel.image else _plain(panel.x))
    drawn.update_yaxes(title_text="" if panel.image else _plain(panel.y[0]))
    return drawn


def _coloured(table: pd.DataFrame, column: str, look: _Look) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """The points by colour: one trace on a scale for numbers, one a label for the most common, the rest in grey."""
    if not column:
        return [("", table, {})]
    values = table[column]
    if values.dtype.kind in "fi" and values.nunique() > 12:
        bar = {"title": {"text": _plain(column)}, "thickness": 10, "outlinewidth": 0}
        return [("", table, {"color": values.tolist(), "colorscale": "viridis", "colorbar": bar, "showscale": True})]
    labels = values.astype(str)
    colours = LINES[look.theme]
    common = labels[labels != ""].value_counts().index[: len(SYMBOLS) * (len(colours) - 1)].tolist()
    parts = []
    rest = table[~labels.isin(common)]
    if len(rest):
        parts.append(("others", rest, {"color": "#9a958a", "opacity": 0.5}))
    for place, label in enumerate(common):
        symbol, tint = divmod(place, len(colours) - 1)
        parts.append((label, table[labels == label], {"color": colours[tint], "symbol": SYMBOLS[symbol]}))
    return parts


def captions(table: pd.DataFrame, columns: Sequence[str], joint: str = "<br>", escaped: bool = True) -> list[str]:
    """One text a row with the names and values of these columns; `escaped` for Plotly's hover text."""
    there = [column for column in columns if column in table]
    if not there:
        return [""] * len(table)
    clean = _plain if escaped else str
    rows = table[there].itertuples(index=False, name=None)
    return [joint.join(clean(f"{c} {words(v)}") for c, v in zip(there, row, strict=True)) for row in rows]


def words(value: Any) -> str:
    """A table's value for people: numbers to four digits."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return str(value)


def _table(panel: TablePanel, run: RunView, look: _Look) -> go.Figure:
    table = panel.rows(run).head(200)
    shown = [[_plain(words(value)) for value in table[column]] for column in table]
    edge = GRID[look.theme]
    drawn = _blank(look, min(640, 60 + 26 * len(table)))
    drawn.add_trace(
        go.Table(
            header={
                "values": [f"<b>{_plain(str(column))}</b>" for column in table],
                "align": "left",
                "fill": {"color": edge},
                "font": {"color": INK[look.theme]},
                "line": {"color": edge},
            },
            cells={
                "values": shown,
                "align": "left",
                "height": 26,
                "fill": {"color": "rgba(0,0,0,0)"},
                "font": {"color": INK[look.theme]},
                "line": {"color": edge},
            },
        )
    )
    return drawn


def _text(panel: TextPanel, run: RunView, look: _Look) -> go.Figure:
    drawn = _blank(look, 120)
    drawn.add_annotation(
        text=f"<b>{_plain(panel.title)}</b><br>{_plain(panel.help)}",
        showarrow=False,
        x=0,
        y=1,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        align="left",
    )
    drawn.update_xaxes(visible=False)
    drawn.update_yaxes(visible=False)
    return drawn


def _plain(text: str) -> str:
    """A user's text for Plotly, which reads some tags and %{…} templates in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")


def _short(text: str, longest: int = 32) -> str:
    return _plain(text if len(text) <= longest else text[: longest - 1].rstrip() + "…")


_KINDS: dict[str, Callable[[Any, RunView, _Look], go.Figure]] = {
    "image": _image,
    "overlay": _overlay,
    "heatmap": _heatmap,
    "gallery": _gallery,
    "curve": _curve,
    "bars": _bars,
    "scatter": _scatter,
    "channels": _channels,
    "table": _table,
    "text": _text,
}
