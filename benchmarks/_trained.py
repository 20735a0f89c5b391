"""A ResNet-18 with trained weights: none with a free licence lies beside the checkout, so a short training makes one.

Twelve epochs on Caltech-101 at 64 pixels, from nothing, about ten minutes on two cores; it is kept in the benchmarks'
home. Its accuracy on held-out photos is told; what counts is that its logits mean something.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import DATA

SIDE, CROP, BATCH, EPOCHS, PEAK = 72, 64, 64, 12, 0.1


def register_resnet18() -> None:
    """Register the network as `resnet18`, trained first where that has not been done."""
    from fovea.models import registry
    from fovea.models.bundled.net import MEAN, STD

    file = Path(os.environ["FOVEA_HOME"]) / "resnet18-caltech101.safetensors"
    if not file.is_file():
        _train(file)
    size = {"size": [CROP, CROP], "resize": SIDE, "interpolation": "bilinear", "mean": list(MEAN), "std": list(STD)}
    registry.register("resnet18", architecture="torchvision:resnet18", weights=str(file), input=size)


def _frames(photos: list[Any]) -> NDArray[np.uint8]:
    """The middle square of each photo, uint8 (N, SIDE, SIDE, 3)."""
    from fovea.models.bundled.data import centre_crop, open_rgb

    return np.stack([centre_crop(open_rgb(one.path), SIDE, SIDE) for one in photos])


def _train(file: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional as F

    import fovea.models.torchvision_compat  # noqa: F401
    from fovea.models.bundled.data import class_folders, split
    from fovea.models.bundled.net import normalise

    # isort: split
    from torchvision.models import resnet18

    def laid(frames: NDArray[np.uint8]) -> torch.Tensor:
        return normalise(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)).contiguous(
            memory_format=torch.channels_last
        )

    root = DATA / "caltech101"
    train, held = split(root)
    torch.manual_seed(0)
    module = resnet18(num_classes=len(class_folders(root)))
    module.to(memory_format=torch.channels_last)
    pixels, labels = _frames(train), torch.tensor([one.label for one in train])
    steps = EPOCHS * (len(labels) // BATCH)
    mover = torch.optim.SGD(module.parameters(), lr=PEAK, momentum=0.9, weight_decay=5e-4, nesterov=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(mover, PEAK, total_steps=steps, pct_start=0.2)
    random = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        order = random.permutation(len(labels))
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            y, x = random.integers(0, SIDE - CROP + 1, 2)
            part = pixels[chosen, y : y + CROP, x : x + CROP]
            loss = F.cross_entropy(module(laid(part[:, :, :: random.choice([-1, 1])])), labels[chosen])
            mover.zero_grad()
            loss.backward()
            mover.step()
            rate.step()
        print(f"resnet18: epoch {epoch + 1} of {EPOCHS}, loss {loss.item():.2f}", flush=True)
    module.eval()
    low = (SIDE - CROP) // 2
    middle = _frames(held)[:, low : low + CROP, low : low + CROP]
    with torch.no_grad():
        said = torch.cat([module(laid(middle[n : n + 256])).argmax(1) for n in range(0, len(middle), 256)])
    right = float((said == torch.tensor([one.label for one in held])).float().mean())
    print(f"resnet18: {100 * right:.1f} % of {len(held)} held-out photos", flush=True)
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, file)
