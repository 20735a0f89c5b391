"""How networks, layers, photos and methods are called where people read them."""

from __future__ import annotations

from collections.abc import Callable

from fovea.engine.data.photos import photo_name
from fovea.engine.data.samples import SAMPLES
from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.models import bundled
from fovea.models.card import Card


def network_title(name: str) -> str:
    """A network's name: "fovea (bundled)", "resnet18 · random weights"."""
    if name == bundled.NAME:
        return f"{name} (bundled)"
    family, _, rest = name.partition(":")
    if not rest:
        return name
    architecture, _, weights = rest.partition("@")
    return f"{architecture} · {weights} weights" if weights == "random" else f"{architecture} · {weights or family}"


def layer_title(card: Card) -> Callable[[str], str]:
    """How a picker shows a layer: name, kind and output shape."""
    layers = {layer.name: layer for layer in card.layers}

    def title(name: str) -> str:
        layer = layers.get(name)
        return f"{name} · {layer.kind} · {' × '.join(map(str, layer.shape))}" if layer else name

    return title


def photo_title(reference: str) -> str:
    """A photo's name: a sample's title, or how an upload was called."""
    kind, _, name = reference.partition(":")
    if kind == "sample":
        return SAMPLES[name].title if name in SAMPLES else name
    return photo_name(reference)


def method_title(name: str) -> str:
    """A method's title; its name if this Fovea does not know it."""
    try:
        return find_method(name).title
    except FoveaError:
        return name
