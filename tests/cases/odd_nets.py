"""Small networks of a user's that lose or fix their batch, that no exporter can write, or whose output is squeezed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Odd(nn.Module):
    """Two convolutions, a batch norm, five classes; `ending(network, maps)` makes the scores of maps (N, 16, 8, 8)."""

    def __init__(self, ending: Callable[[Odd, Tensor], Tensor]) -> None:
        super().__init__()
        self.ending = ending
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Conv2d(16, 5, 1)
        self.fc = nn.Linear(16, 5)
        self.flat = nn.Linear(16 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 16, 16)."""
        return self.ending(self, F.relu(self.conv2(F.relu(self.bn(self.conv1(x))))))


def seeded(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module in eval mode, its weights drawn anew from the seed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.eval().requires_grad_(False)


def shifted(network: Odd, maps: Tensor) -> Tensor:
    """Maps sampled on a moved grid: the exporter needs a newer set of operators for it."""
    move = torch.tensor([[[1.0, 0, 0.1], [0, 1.0, 0]]]).expand(maps.shape[0], 2, 3)
    grid = F.affine_grid(move, list(maps.shape), align_corners=False)
    return network.fc(F.grid_sample(maps, grid, align_corners=False).mean((2, 3)))


def through_numpy(network: Odd, maps: Tensor) -> Tensor:
    """The features leave torch and come back."""
    return network.fc(torch.from_numpy(maps.mean((2, 3)).detach().numpy()))


class Unbatched(nn.Module):
    """The batch of one is taken off at the start: (C, H, W) goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (5,) of an image (1, 3, 16, 16)."""
        return self.fc(F.relu(self.conv1(x.squeeze(0))).mean((1, 2)))


class OwnStatistics(nn.Module):
    """A batch norm that keeps no statistics: what a photo gets depends on the photos beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8, track_running_stats=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 5) of images (N, 3, 16, 16)."""
        return self.fc(F.relu(self.bn(self.conv1(x))).mean((2, 3)))


def pooled(maps: Tensor) -> Tensor:
    """(N, 16) of (N, 16, 8, 8)."""
    return maps.mean((2, 3))


LOSE_THE_BATCH: dict[str, Callable[[], nn.Module]] = {
    "squeeze at the end": lambda: Odd(lambda n, m: F.adaptive_avg_pool2d(n.head(m), 1).squeeze()),
    "squeeze before the head": lambda: Odd(lambda n, m: n.fc(F.adaptive_avg_pool2d(m, 1).squeeze())),
    "torch.squeeze of a pool": lambda: Odd(lambda n, m: n.fc(torch.squeeze(F.max_pool2d(m, 8)))),
    "the first row alone": lambda: Odd(lambda n, m: n.fc(pooled(m))[0]),
    "batch taken off at the start": Unbatched,
}
FIX_THE_BATCH: dict[str, Callable[[], nn.Module]] = {
    "view(1, -1)": lambda: Odd(lambda n, m: n.flat(m.contiguous().view(1, -1))),
    "reshape(1, 16, -1)": lambda: Odd(lambda n, m: n.fc(m.reshape(1, 16, -1).mean(2))),
    "flatten from axis 0": lambda: Odd(lambda n, m: n.flat(m.flatten())),
    "softmax over the batch": lambda: Odd(lambda n, m: n.fc(pooled(m) * pooled(m).softmax(0))),
    "statistics of the batch": OwnStatistics,
}
SQUEEZED: dict[str, Callable[[], nn.Module]] = {
    "(N, 5, 1, 1)": lambda: Odd(lambda n, m: F.adaptive_avg_pool2d(n.head(m), 1)),
    "(N, 1, 5)": lambda: Odd(lambda n, m: n.fc(pooled(m))[:, None]),
    "(N, 5, 1)": lambda: Odd(lambda n, m: n.fc(pooled(m))[..., None]),
    "(N, 1, 1, 5)": lambda: Odd(lambda n, m: n.fc(pooled(m))[:, None, None]),
}
NOT_EXPORTED: dict[str, Callable[[], nn.Module]] = {
    "rms_norm": lambda: Odd(lambda n, m: n.fc(F.rms_norm(pooled(m), (16,)))),
    "fft": lambda: Odd(lambda n, m: n.fc(pooled(torch.fft.rfft2(m).abs()))),
    "svd": lambda: Odd(lambda n, m: n.fc(torch.linalg.svdvals(m).sum(2))),
    "numpy": lambda: Odd(through_numpy),
    "a branch on values": lambda: Odd(lambda n, m: n.fc(pooled(m)) * (3.0 if float(pooled(m)[0, 0]) > 0.4 else 1.0)),
}
