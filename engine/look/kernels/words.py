"""How filters are read, in words."""

from __future__ import annotations

from fovea.engine.look.kernels.weights import LayerWeights
from fovea.engine.panels import TextPanel

_SCALES = {
    "zero": "Middle grey is zero.",
    "filter": "Black and white are each filter's smallest and largest weight.",
    "all": "Black and white are the smallest and largest weight of all filters.",
}


def how_to_read(weights: LayerWeights, scaling: str) -> str:
    """What a tile shows, and what its grey levels mean."""
    if weights.colours:
        apart = " Each unit reads some of the colours alone; the others are grey." if weights.groups > 1 else ""
        return f"Each tile is what its unit looks for in the picture's own pixels.{apart} {_SCALES[scaling]}"
    if weights.depthwise:
        return f"Each unit reads one channel alone, so it has one tile. {_SCALES[scaling]}"
    return f"Each tile holds one small square for every channel of the layer before. {_SCALES[scaling]}"


def why_hard_to_read(weights: LayerWeights) -> TextPanel:
    """Why the raw weights of a middle layer say little."""
    inputs, rows, columns = weights.values.shape[1:]
    if weights.depthwise:
        text = (
            f"Each unit here reads one channel of the layer before, through {rows} × {columns} weights. A tile shows "
            "how it looks at that channel's map, not at colours; what the channel itself stands for, the tile cannot "
            "tell."
        )
    else:
        text = (
            "In the first layer a filter meets the pixels' own colours, so it can be drawn as a small picture. Here "
            f"each unit reads {inputs} channels of the layer before, each through {rows} × {columns} weights: that is "
            f"{inputs} grey tiles and not one picture. What a tile means depends on what its channel stands for, and "
            "the same weights behind another channel would mean something else. That is why raw filters beyond the "
            "first layer are hard to read. Choose a unit to see its strongest inputs, each beside the patch that "
            "excites that input most, and its effective filter in colour."
        )
    return TextPanel(title="Why this is hard to read", help=text)
