"""The maps of one layer for one input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.models.card import Layer


def layer_maps(job: Job[Any], layer: Layer, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What every unit of the layer answers to one normalised input (1, channels, H, W): float32 (C, h, w)."""
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        editor.answer(reducers.as_maps(editor, tensors[layer.name], layer), "maps")

    probe = Probe(job, [layer.name], build)
    feed = job.network.graph().input
    return np.array(probe.run({feed: inputs}, batched=(feed,))["maps"][0], np.float32)
