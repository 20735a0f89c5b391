"""The definition of Fovea's own network: a plain convolutional classifier whose layer names say what they are.

`stem` looks at the pixels with 7x7 filters, `stage1` to `stage4` are two 3x3 convolutions each, and one linear layer
reads the average of the last stage. Pooling sits between the stages, though not before the last one, whose maps stay
8x8 at 128 pixels. There are no branches and no shortcuts, so that every layer's picture can be read on its own. Every
step is a module, also the ReLUs, so that every step has a name.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

INPUT_SIZE = 128
"""Side of the centre crop that the network was made for, in pixels. Larger and non-square inputs work too."""
RESIZE = 128
"""Length to which a photo's short side is resized before the crop, in pixels."""
INTERPOLATION = "bilinear"
"""Pillow's filter for that resize."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Per-channel mean and standard deviation (RGB, of values in 0..1) that are taken off and divided by."""

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "fovea.safetensors"
CLASSES = FOLDER / "classes.txt"

STEM_WIDTH = 32
STAGE_WIDTHS = (64, 128, 256, 448)
NUM_CLASSES = 102


class Stem(nn.Module):
    """7x7 convolution with stride 2, batch norm, ReLU: (N, 3, H, W) to (N, width, ceil(H/2), ceil(W/2))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Stage(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU: (N, before, h, w) to (N, width, h, w)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(x)))
        return out


class FoveaNet(nn.Module):
    """Classifier of (N, 3, H, W) normalised RGB photos into (N, num_classes) logits.

    Args:
        num_classes: number of logits.
        stem_width: number of first-layer filters.
        stage_widths: number of units in each of the four stages.

    H and W may be anything from 16 pixels up; 128 x 128 is what the weights were trained for.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        stem_width: int = STEM_WIDTH,
        stage_widths: tuple[int, int, int, int] = STAGE_WIDTHS,
    ) -> None:
        super().__init__()
        self.stem = Stem(stem_width)
        self.pool0 = nn.MaxPool2d(2)
        self.stage1 = Stage(stem_width, stage_widths[0])
        self.pool1 = nn.MaxPool2d(2)
        self.stage2 = Stage(stage_widths[0], stage_widths[1])
        self.pool2 = nn.MaxPool2d(2)
        self.stage3 = Stage(stage_widths[1], stage_widths[2])
        self.stage4 = Stage(stage_widths[2], stage_widths[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(stage_widths[3], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled features (N, last stage's width) that the linear layer reads."""
        x = self.pool0(self.stem(x))
        x = self.pool1(self.stage1(x))
        x = self.pool2(self.stage2(x))
        x = self.stage3(x)
        pooled: Tensor = self.flatten(self.avgpool(self.stage4(x)))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits


def class_names(path: Path = CLASSES) -> list[str]:
    """Return the readable class names, in the order of the logits."""
    return path.read_text(encoding="utf-8").splitlines()


def load(weights: Path = WEIGHTS) -> FoveaNet:
    """Return the network with its trained weights as float32, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: if there is no such weights file.
        RuntimeError: if the file's tensors do not fit the definition.
    """
    from safetensors.torch import load_file

    state = {
        name: value.float() if value.is_floating_point() else value for name, value in load_file(str(weights)).items()
    }
    net = FoveaNet(num_classes=state["fc.bias"].numel()) if "fc.bias" in state else FoveaNet()
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 RGB pixels (N, 3, H, W) into the network's float32 input of the same shape."""
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std
