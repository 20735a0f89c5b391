"""Small torch modules of the kinds that users bring; tests build networks from them or register this very file.

It needs torch alone, as a user's own file does. The sizes and the order in which parameters are made stay as they are:
tests draw weights with a seed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A shortcut around a convolution, and one ReLU module called twice, in place."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        x = self.relu(x + self.conv(x))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


class Branching(nn.Module):
    """Three branches side by side, joined by channel."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.five = nn.Sequential(nn.Conv2d(8, 4, 5, padding=2), nn.ReLU())
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 4, 1))
        self.fc = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.one(x), self.five(x), self.pooled(x)], 1)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Depthwise(nn.Module):
    """A depthwise convolution between ReLU6s, and a dropout before the head."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ReLU6(),
            nn.Conv2d(8, 12, 1),
        )
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.drop(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)))
        return out


class Functional(nn.Module):
    """ReLUs that are function calls and a tensor method, one of them in place."""

    def __init__(self, channels: int = 3, num_classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 5, 2, 2)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.conv3 = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = self.conv2(x).relu()
        x = F.relu_(self.conv3(x))
        out: Tensor = self.fc(F.max_pool2d(x, 2).mean((2, 3)))
        return out


class Probabilities(Functional):
    """What it returns are probabilities, which add up to one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Features(Functional):
    """What it returns are the means of a layer's maps: features, no scores of classes."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))


class Smooth(nn.Module):
    """No ReLU at all."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Hardswish())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.net(x).mean((2, 3)))
        return out


class FunctionalResidual(nn.Module):
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


class Tiny(nn.Module):
    """Two convolutions, a pooling between them, and a linear head on the mean."""

    def __init__(self, channels: int = 3, classes: int = 7) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.first(x)))
        x = torch.relu(self.second(x))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class TinyTokens(nn.Module):
    """A patch embedding, a class token, one transformer layer, a head on the class token."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.block(tokens)[:, 0])
