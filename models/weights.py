"""Weights: which ones torchvision offers, what identifies them, and downloading them."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.checkpoint import one_line
from fovea.models.errors import WeightsError
from fovea.models.home import whole

if TYPE_CHECKING:
    from torch import nn

RANDOM = "random"

_V1 = ("IMAGENET1K_V1",)
_V1_V2 = ("IMAGENET1K_V1", "IMAGENET1K_V2")
_SWAG = ("IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1")


def _words(text: str) -> list[str]:
    return text.split()


_ONE_SET = _words(
    """alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t
    mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v3_small resnet18 resnet34 resnext101_64x4d
    shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b
    swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16_bn vgg19 vgg19_bn vit_b_32
    vit_l_32"""
)
_TWO_SETS = _words(
    """efficientnet_b1 mobilenet_v2 mobilenet_v3_large regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf
    regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_1_6gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf
    regnet_y_8gf resnet101 resnet152 resnet50 resnext101_32x8d resnext50_32x4d wide_resnet101_2 wide_resnet50_2"""
)

TORCHVISION_WEIGHTS: dict[str, tuple[str, ...]] = dict(
    sorted(
        {
            **dict.fromkeys(_ONE_SET, _V1),
            **dict.fromkeys(_TWO_SETS, _V1_V2),
            "regnet_y_16gf": _V1_V2 + _SWAG,
            "regnet_y_32gf": _V1_V2 + _SWAG,
            "regnet_y_128gf": _SWAG,
            "vgg16": ("IMAGENET1K_V1", "IMAGENET1K_FEATURES"),
            "vit_b_16": _V1 + _SWAG,
            "vit_l_16": _V1 + _SWAG,
            "vit_h_14": _SWAG,
        }.items()
    )
)
"""torchvision's classification networks and the sets of weights of each: a table, so that listing imports no torch."""

TORCHVISION_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Heads that only training uses, and an initialisation that is slow and drawn anew here anyway.
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    # All of its weights are for images of another size than the architecture's default.
    "vit_h_14": {"image_size": 518},
}


def fingerprint(module: nn.Module) -> str:
    """sha256 of every parameter and buffer (names, types, shapes, bytes) and of the code of a user's own modules.

    The code belongs to it: a network whose `forward` was edited is another network with the same weights.
    """
    import torch

    digest = hashlib.sha256(repr(module).encode())
    for name, value in sorted(module.state_dict().items()):
        data = value.detach().cpu().contiguous()
        digest.update(f"{name}:{data.dtype}:{tuple(data.shape)};".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data if data.numel() else b"")
    for kind in sorted({type(child) for child in module.modules()}, key=lambda k: (k.__module__, k.__qualname__)):
        if not kind.__module__.startswith(("torch.", "torchvision.", "timm.", "fovea.models.opaque")):
            with contextlib.suppress(OSError, TypeError):
                digest.update(inspect.getsource(kind).encode())
    return digest.hexdigest()


def download(url: str) -> Path:
    """The file of `url` in torch's own cache folder, downloaded with progress on stderr if it is not there.

    Its name carries the first digits of its sha256, which are checked. Raises WeightsError, one line that says
    which file is wanted and where to put it, if it cannot be had.
    """
    import torch

    name = url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / name
    if target.is_file():
        return target
    where = f"download {url} by hand and put it at {target}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(url, target)
    except OSError as error:
        raise WeightsError(f"{name} could not be downloaded ({one_line(error)}): {where}") from None
    return target


def _fetch(url: str, target: Path) -> None:
    import urllib.request

    wanted = re.search(r"-([0-9a-f]{8,})\.", target.name)
    digest, done = hashlib.sha256(), 0
    with whole(target) as part:
        with urllib.request.urlopen(url, timeout=20) as source, part.open("wb") as file:
            total = int(source.headers.get("Content-Length") or 0)
            while chunk := source.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                share = f" of {total / 1e6:.0f}" if total else ""
                sys.stderr.write(f"\r{target.name}: {done / 1e6:.0f}{share} MB")
                sys.stderr.flush()
        sys.stderr.write("\n")
        if wanted and not digest.hexdigest().startswith(wanted.group(1)):
            raise WeightsError(
                f"{target.name} arrived damaged, its sha256 does not begin with {wanted.group(1)}: try again"
            )
