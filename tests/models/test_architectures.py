"""Every kind of architecture: its card, its export, a cut at every kind of layer, parity at every tap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fovea.models import registry, torch_net, zoo
from fovea.models.card import OUTPUT
from fovea.models.graph.sessions import Session
from fovea.models.network import Network

# vgg11, whose head alone is half a gigabyte, is tested with a light one in test_onnx_export.
SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"side": 64},
    "googlenet": {"side": 64},
    "inception_v3": {"side": 96},
    "densenet121": {"side": 64},
    "mobilenet_v2": {"side": 64},
    "mobilenet_v3_small": {"side": 64},
    "shufflenet_v2_x0_5": {"side": 64},
    "squeezenet1_1": {"side": 64},
    "efficientnet_b0": {"side": 64},
    "convnext_tiny": {"side": 64},
    "regnet_y_400mf": {"side": 64},
    "alexnet": {"side": 64},
    "mnasnet0_5": {"side": 64},
    "vit_b_16": {"side": 64, "arguments": {"image_size": 64}},
    "swin_t": {"side": 64},
}
AXES = {"vit_b_16": "tokens", "swin_t": "NHWC"}


def network(architecture: str) -> Network:
    fields = SMALL[architecture]
    name = f"arch_{architecture}"
    registry.register(
        name,
        architecture=f"torchvision:{architecture}",
        input={"size": fields["side"]},
        arguments={"num_classes": 10, **fields.get("arguments", {})},
    )
    return zoo.load(name)


@pytest.mark.parametrize("architecture", SMALL)
def test_card_export_cut_and_parity(architecture: str, fovea_home: Path) -> None:
    net = network(architecture)
    card, graph = net.card, net.graph()
    assert card.random
    assert len(card.classes) == 10
    assert len({layer.name for layer in card.layers}) == len(card.layers)
    assert sum(layer.parameters for layer in card.layers) <= card.parameters
    assert all(layer.receptive_field is not None for layer in card.layers if layer.axes != "none")
    assert any(layer.axes == AXES.get(architecture, "NCHW") for layer in card.spatial_layers())

    # One layer of every kind, cut off on its own, on a last batch smaller than the one before.
    kinds = {layer.kind: layer for layer in card.layers if layer.axes != "none"}
    taps = [layer.name for layer in list(kinds.values())[:6]] + [OUTPUT]
    session = Session(graph.cut(taps), "cpu")
    x = torch.randn(3, 3, *card.preprocessing.size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = torch_net.forward_taps(net.module(), x, taps)
    for part in (slice(0, 2), slice(2, 3)):
        found = dict(zip(session.outputs, session.run({graph.input: x[part].numpy()}), strict=True))
        for tap in taps:
            want, got = wanted[tap][part].numpy(), found[graph.taps[tap]]
            assert want.shape == got.shape
            assert np.abs(want - got).max() <= 1e-4 * np.abs(want).max(), tap


def test_names_of_modules_that_are_called_twice(fovea_home: Path) -> None:
    names = [layer.name for layer in network("resnet18").card.layers]
    assert sum("#2" in name for name in names) == 8


def test_tokens_of_a_vision_transformer(fovea_home: Path) -> None:
    card = network("vit_b_16").card
    layer = card.layer("encoder.layers.encoder_layer_3.mlp")
    assert (layer.axes, layer.grid, layer.extra_tokens, layer.units) == ("tokens", (4, 4), 1, 768)
    assert layer.receptive_field is not None
    assert layer.receptive_field.whole


def test_swin_keeps_its_channels_last(fovea_home: Path) -> None:
    layer = network("swin_t").card.layer("features.1.0.attn")
    assert (layer.axes, layer.grid, layer.units, layer.shape) == ("NHWC", (16, 16), 96, (16, 16, 96))
