"""Networks of the kinds that users bring, small enough to be seen whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Functional(nn.Module):
    """ReLU, pooling and a shortcut in functional code, in place where users write it so."""

    def __init__(self, channels: int = 3, num_classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 5, padding=2)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 8, 3, stride=2)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = F.max_pool2d(x, 2)
        y = self.second(x)
        y += x
        y = F.relu(y, inplace=True)
        y = F.relu(self.third(y))
        return self.head(y.mean((2, 3)))


class Twice(nn.Module):
    """One convolution called three times, a dropout and an identity: names that share tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.same = nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.relu(self.same(self.drop(self.conv(x))))
        return self.head(x)


class SliceWriter(nn.Module):
    """Writes into a slice of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(4, 4, 7, padding=3)
        self.last = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x[:, :4] = self.wide(x[:, :4].clone())
        return self.head(self.last(x).mean((2, 3)))


class TupleOutput(nn.Module):
    """A block that returns a tuple, and an output that is a dict."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return self.conv(x), 1

    def __init__(self) -> None:
        super().__init__()
        self.block = TupleOutput.Block()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, _ = self.block(x)
        return {"logits": self.head(torch.relu(x).mean((2, 3)))}
