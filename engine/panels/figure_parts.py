"""What figures of pictures and maps share: the empty figure, a picture with its axes, a map, its colour bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.errors import OptionsError
from fovea.engine.panels.data_uri import LONGEST, data_uri
from fovea.engine.panels.look import template
from fovea.engine.panels.words import for_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from fovea.engine.panels.colour_scale import ColourScale
    from fovea.engine.panels.look import Look


def empty_figure(look: Look, height: int) -> go.Figure:
    """A figure with nothing on it, of that height unless `look` wants another."""
    import plotly.graph_objects as go

    drawn = go.Figure(layout={"template": template(look.theme), "height": look.height or height})
    drawn.update_layout(hovermode="closest", dragmode=False)
    return drawn


def set_picture_axes(drawn: go.Figure, width: float, height: float) -> None:
    """Axes in pixels from the top left corner, of equal steps, with no clutter."""
    bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
    drawn.update_xaxes(range=[-0.5, width - 0.5], **bare)
    drawn.update_yaxes(range=[height - 0.5, -0.5], scaleanchor="x", **bare)


def lay_below(
    drawn: go.Figure, picture: Image.Image | NDArray[np.uint8], size: tuple[float, float], brightness: float = 0.0
) -> None:
    """The picture over (width, height) pixels of the figure, below everything else.

    With a `brightness` its colours are taken away, so that those of a map over it can be read.
    """
    if brightness and isinstance(picture, Image.Image):
        picture = picture.convert("L").point(lambda level: round(level * brightness))
    drawn.add_layout_image(
        source=data_uri(picture),
        xref="x",
        yref="y",
        x=-0.5,
        y=-0.5,
        sizex=size[0],
        sizey=size[1],
        sizing="stretch",
        layer="below",
    )


def two_axes(values: NDArray[Any], name: str) -> NDArray[Any]:
    """The array of that name as a map (rows, columns), without axes of size one. Raises OptionsError if it is none."""
    values = np.squeeze(values) if values.ndim > 2 else values
    if values.ndim != 2:
        raise OptionsError(f"array {name} has shape {values.shape}, expected (rows, columns)")
    return values


def map_trace(
    values: NDArray[Any], size: tuple[float, float], colours: ColourScale, units: str, opacity: float | None = None
) -> go.Heatmap:
    """A map stretched over (width, height) pixels; with an `opacity` it lies over a picture, and lets it through."""
    import plotly.graph_objects as go

    values = _smaller(values)
    low, high = colours.limits(values)
    rows, columns = values.shape
    width, height = size
    largest = float(np.nanmax(values, initial=low))
    named = f"{units} (up to {largest:.3g})".strip() if largest > high else units
    return go.Heatmap(
        z=values,
        x0=-0.5 + width / columns / 2,
        dx=width / columns,
        y0=-0.5 + height / rows / 2,
        dy=height / rows,
        zmin=low,
        zmax=high,
        colorscale=colours.stops(fade=opacity is not None),
        opacity=1.0 if opacity is None else opacity,
        colorbar=_colour_bar(named),
        hovertemplate=f"x %{{x:.0f}}, y %{{y:.0f}}<br><b>%{{z:.4g}}</b> {for_plotly(units)}<extra></extra>",
        name="map",
    )


def _colour_bar(units: str) -> dict[str, Any]:
    """A colour bar below the map, as wide as suits any window."""
    return {
        "title": {"text": for_plotly(units), "side": "top"},
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
    """A map of at most LONGEST values a side: the means of whole blocks, so that a large one stays light."""
    values = np.asarray(values, np.float32)
    block = math.ceil(max(values.shape) / LONGEST)
    if block == 1:
        return values
    rows, columns = values.shape[0] // block, values.shape[1] // block
    cut = values[: rows * block, : columns * block].reshape(rows, block, columns, block)
    mean: NDArray[np.float32] = cut.mean((1, 3))
    return mean
