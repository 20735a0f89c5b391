"""How large a network is before it has been read, and how much memory loaded ones may take together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from fovea.models import bundled
from fovea.models.card import Card
from fovea.models.entry import resolve
from fovea.models.registry import registered

BYTES_A_PARAMETER = 4
COPIES = 2
"""A loaded network holds its weights in torch, and once more in its graph and the sessions that are cut from it."""

SHARE = 0.25
"""The networks that stay loaded in a process take at most this part of the machine's memory."""

_TORCHVISION = """alexnet:244 convnext_base:354 convnext_large:791 convnext_small:201 convnext_tiny:114 densenet121:32
    densenet161:115 densenet169:57 densenet201:80 efficientnet_b0:21 efficientnet_b1:31 efficientnet_b2:36
    efficientnet_b3:49 efficientnet_b4:77 efficientnet_b5:122 efficientnet_b6:172 efficientnet_b7:265
    efficientnet_v2_l:474 efficientnet_v2_m:217 efficientnet_v2_s:86 googlenet:26 inception_v3:109 maxvit_t:124
    mnasnet0_5:9 mnasnet0_75:13 mnasnet1_0:18 mnasnet1_3:25 mobilenet_v2:14 mobilenet_v3_large:22
    mobilenet_v3_small:10 regnet_x_16gf:217 regnet_x_1_6gf:37 regnet_x_32gf:431 regnet_x_3_2gf:61
    regnet_x_400mf:22 regnet_x_800mf:29 regnet_x_8gf:158 regnet_y_128gf:2579 regnet_y_16gf:334 regnet_y_1_6gf:45
    regnet_y_32gf:580 regnet_y_3_2gf:78 regnet_y_400mf:17 regnet_y_800mf:26 regnet_y_8gf:158 resnet101:178
    resnet152:241 resnet18:47 resnet34:87 resnet50:102 resnext101_32x8d:355 resnext101_64x4d:334
    resnext50_32x4d:100 shufflenet_v2_x0_5:5 shufflenet_v2_x1_0:9 shufflenet_v2_x1_5:14 shufflenet_v2_x2_0:30
    squeezenet1_0:5 squeezenet1_1:5 swin_b:351 swin_s:198 swin_t:113 swin_v2_b:352 swin_v2_s:199 swin_v2_t:113
    vgg11:531 vgg11_bn:531 vgg13:532 vgg13_bn:532 vgg16:553 vgg16_bn:553 vgg19:575 vgg19_bn:575 vit_b_16:346
    vit_b_32:353 vit_h_14:2534 vit_l_16:1217 vit_l_32:1226 wide_resnet101_2:508 wide_resnet50_2:276"""

TORCHVISION_MB = {name: int(size) for name, size in (word.split(":") for word in _TORCHVISION.split())}
"""The weights of each of torchvision's architectures in 10^6 bytes, in single precision."""


def weights_bytes(name: str) -> int | None:
    """About how large a network's weights are, in bytes, from what is known without loading; None for unknown."""
    base = name.partition("@")[0]
    if base == bundled.NAME:
        return _size(Path(bundled.__file__).parent / "fovea.safetensors")
    if name in registered():
        entry = registered()[name]
        kind, _, rest = entry["architecture"].partition(":")
        file = rest if kind == "onnx" else entry.get("weights")
        return _size(resolve(file)) if file else weights_bytes(entry["architecture"])
    source, _, rest = base.partition(":")
    size = TORCHVISION_MB.get(rest) if source == "torchvision" else None
    return None if size is None else size * 10**6


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def over_budget(cards: Iterable[Card]) -> bool:
    """Whether networks with these cards are more than may stay loaded together."""
    return sum(card.parameters * BYTES_A_PARAMETER * COPIES for card in cards) > SHARE * memory_bytes()


def memory_bytes() -> int:
    """The memory of the machine, or of the control group that this process runs in where that is less."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            limits.append(int((Path("/sys/fs/cgroup") / file).read_text()))
    return min(limits)
