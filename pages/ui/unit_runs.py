"""The runs that tell of one unit, finished or asked for; each method says itself what it holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from fovea.engine.look.kernels.weights import weighted_layers
from fovea.engine.look.mining.mined import Mined, by_maximum
from fovea.engine.method import Method, methods
from fovea.engine.options import LayerKind, LayersKind, UnitKind, declared, parts_of
from fovea.engine.panels import GalleryPanel, TableView
from fovea.engine.run.record import Request, RunRecord
from fovea.engine.store.folder import StoredRun
from fovea.models.card import Card
from fovea.pages.ui import reads, state


def methods_of_every_unit() -> list[Method]:
    """The methods whose result holds each unit of a layer."""
    return [method for method in methods().values() if method.every_unit]


def methods_of_one_unit() -> list[Method]:
    """The methods that can be asked about one unit."""
    return [method for method in methods().values() if method.options.names(UnitKind) and not method.every_unit]


def layer_for(method: Method, card: Card, layer: str) -> str:
    """The layer to ask this method about: where it needs weights, the nearest one before with the same units."""
    needs = {declared(method.options.model_fields[name]).kind.needs for name in method.options.names(LayerKind)}
    weighted = weighted_layers(card)
    if "weights" not in needs or layer in weighted:
        return layer
    names = [each.name for each in card.layers]
    before = [name for name in names[: names.index(layer)] if name in weighted]
    same = [name for name in before if card.layer(name).units == card.layer(layer).units]
    return same[-1] if same else layer


def request_for(method: Method, card: Card, layer: str, unit: int) -> Request:
    """The run that would tell of this unit, with the method's defaults."""
    options: dict[str, Any] = {name: layer_for(method, card, layer) for name in method.options.names(LayerKind)[:1]}
    if method.every_unit:
        options |= {name: layer for name in method.options.names(LayersKind)}
    else:
        options |= {name: unit for name in method.options.names(UnitKind)[:1]}
    return Request(method=method.name, network=card.name, image=state.photo_for(method), options=options)


def runs_for(method: Method, card: Card, layer: str, unit: int) -> Iterator[StoredRun]:
    """The runs that tell of this unit with the network's present weights, newest first, unfinished ones too."""
    request = request_for(method, card, layer, unit)
    several = method.options.names(LayersKind)
    singles = {name: value for name, value in request.options.items() if name not in several}
    words = " ".join(f"{name}={value}" for name, value in singles.items())
    for run in reads.runs_of(method, card.name, request.image, words=words or None):
        asked = run.record.options
        if any(asked.get(name) != wanted for name, wanted in singles.items()):
            continue
        if not method.every_unit or not several or _holds(run.record, several, layer):
            yield run


def _holds(record: RunRecord, several: list[str], layer: str) -> bool:
    """Whether a run over several layers holds this one: `several` are the options that name them."""
    if any(layer in parts_of(record.options[name]) for name in several):
        return True
    return any(isinstance(panel, TableView) and panel.where.get("layer") == layer for panel in record.panels)


def neighbours_of(card: Card, layer: str) -> dict[str, str]:
    """The layers in whose place this one's best patches are the same above zero, each with what it is to this one."""
    behind = {each.name: f"the {each.kind} behind {layer}" for each in card.layers if each.activates == layer}
    before = card.layer(layer).activates
    return behind | ({before: f"what this {card.layer(layer).kind} reads"} if before else {})


def mined_gallery(card: Card, layer: str) -> tuple[GalleryPanel, StoredRun] | None:
    """The newest gallery of patches of this layer, or of an activation before or behind it, and its run."""
    mining = [method for method in methods_of_every_unit() if method.options.names(LayersKind)]
    for name in (layer, *neighbours_of(card, layer)):
        for run in itertools.chain.from_iterable(runs_for(method, card, name, 0) for method in mining):
            panel = Mined(run).gallery(name) if name == layer or by_maximum(run) else None
            if panel is not None:
                return panel, run
    return None
