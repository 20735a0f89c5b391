"""Train the bundled network: `python -m fovea.models.bundled.train [--data FOLDER] [--teacher WEIGHTS] ...`.

One long cycle of SGD over fixed crops. The label's say is shared with a teacher's linear probe; the teacher's ImageNet
logits guide a second head that is thrown away. What ships is the running average of the weights. All chance comes from
(seed, epoch, step), so a resumed run continues exactly as if it had never stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.models.bundled import data
from fovea.models.bundled.augment import distort
from fovea.models.bundled.evaluate import Score, evaluate
from fovea.models.bundled.net import CLASSES, FOLDER, FoveaNet, normalise
from fovea.models.bundled.prepare import Prepared, Progress, prepare

TEACHER_CLASSES = 1000
CHECKPOINT = "checkpoint.pt"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """Every number of the training.

    Attributes:
        epochs: passes over the training photos, one crop of each drawn in a pass.
        batch: crops in a step.
        chunks: parts of a batch, each normalised by its own statistics (ghost batches, Hoffer et al. 2017).
        peak: highest learning rate; it rises linearly over the share `warmup` of the run and falls as a cosine.
        momentum: Nesterov's.
        decay: weight decay of convolutions and linear layers; batch norm and biases have none.
        stem_decay: weight decay of the first layer, whose noise it wears off.
        stem_smooth: weight of half the squared difference of neighbouring taps in the first layer's filters.
        smoothing: label smoothing (Szegedy et al. 2016).
        probe_share: share of the teacher's probe in the target of a labelled photo.
        probe_temperature: by which the probe's logits are divided; above 1 makes it less sure of itself.
        logits_weight: weight of the divergence from the teacher's ImageNet logits at the start; it falls linearly.
        logits_end: what is left of that weight at the end, as a share.
        temperature: of those logits on both sides (Hinton et al. 2015).
        balance: a photo of a class of n is drawn in proportion to n to the power of minus this.
        unlabelled: how often an unlabelled photo is drawn in an epoch.
        mixup: parameter of mixup's Beta distribution (Zhang et al. 2018); none in the last sixth.
        average: decay of the running average of the weights, for each step.
        sizes: (share of the run, crop's side in pixels) from which on that side is used.
    """

    epochs: int = 80
    batch: int = 64
    chunks: int = 2
    peak: float = 0.25
    warmup: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    stem_decay: float = 2e-4
    stem_smooth: float = 3e-4
    smoothing: float = 0.1
    probe_share: float = 0.6
    probe_temperature: float = 1.5
    logits_weight: float = 0.5
    logits_end: float = 0.4
    temperature: float = 2.0
    balance: float = 0.5
    unlabelled: float = 1.5
    mixup: float = 0.2
    average: float = 0.999
    sizes: tuple[tuple[float, int], ...] = ((0.0, 80), (0.5, 96), (0.8, 112))

    def rate(self, progress: float) -> float:
        """Return the learning rate at a progress of 0..1."""
        if progress < self.warmup:
            return self.peak * (0.02 + 0.98 * progress / self.warmup)
        fall = (progress - self.warmup) / (1 - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))

    def size(self, progress: float) -> int:
        """Return the side of the student's crops, in pixels, at a progress of 0..1."""
        return [size for start, size in self.sizes if progress >= start][-1]


class Student(nn.Module):
    """The network and, on the same features, the head for the teacher's classes, which does not ship."""

    def __init__(self, net: FoveaNet) -> None:
        super().__init__()
        self.net = net
        self.head = nn.Linear(net.fc.in_features, TEACHER_CLASSES)


class Trainer:
    """The network in training, with everything that a checkpoint must hold.

    Args:
        material: what `prepare` returns.
        recipe: the numbers.
        seed: of weights, order and distortions.
        device: `cpu` or `cuda`.
        net: the network to train; a fresh `FoveaNet` unless given.
        workers: threads that work on the chunks of a batch.
    """

    def __init__(
        self,
        material: Prepared,
        recipe: Recipe,
        seed: int = 0,
        device: str = "cpu",
        net: FoveaNet | None = None,
        workers: int = 1,
    ) -> None:
        torch.manual_seed(seed)
        self.material, self.recipe, self.seed, self.device = material, recipe, seed, device
        self.student = Student(net or FoveaNet(len(material.names))).to(device).train()
        self.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        smooth_start(self.student.net.stem.conv.weight)
        self.average = deepcopy(self.student.net).eval().requires_grad_(False)
        self.replicas = self._replicas()
        self.pool = ThreadPoolExecutor(workers)
        self.solver = torch.optim.SGD(self._groups(), lr=recipe.rate(0.0), momentum=recipe.momentum, nesterov=True)
        self.step = 0
        self.progress = 0.0
        self.planned = recipe.epochs
        self.increment = 1 / (recipe.epochs * self.steps_per_epoch)
        self.history: list[dict[str, float]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in a pass over the training photos."""
        return max(1, len(self.material.labels) // self.recipe.batch)

    def _replicas(self) -> list[Student]:
        """Return one student for each chunk of a batch: the same weights, gradients and statistics of their own."""
        if self.recipe.chunks == 1:
            return [self.student]
        replicas = [deepcopy(self.student) for _ in range(self.recipe.chunks)]
        for replica in replicas:
            for parameter, shared in zip(replica.parameters(), self.student.parameters(), strict=True):
                parameter.data = shared.data
        return replicas

    def _groups(self) -> list[dict[str, Any]]:
        stem = self.student.net.stem.conv.weight
        others = [p for p in self.student.parameters() if p is not stem]
        return [
            {"params": [stem], "weight_decay": self.recipe.stem_decay},
            {"params": [p for p in others if p.ndim > 1], "weight_decay": self.recipe.decay},
            {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
        ]

    def order(self, epoch: int) -> Indices:
        """Return the photos of an epoch in their order, rarer classes oftener, as indices into the material."""
        labels = self.material.labels
        counts = np.bincount(labels[labels >= 0], minlength=len(self.material.names)).astype(float)
        weight = np.where(labels >= 0, np.maximum(counts, 1)[labels] ** -self.recipe.balance, 0.0)
        weight *= (labels >= 0).sum() / weight.sum()
        weight[labels < 0] = self.recipe.unlabelled
        dice = np.random.default_rng([self.seed, epoch])
        edges = np.cumsum(weight)
        number = self.steps_per_epoch * self.recipe.batch
        picks = (dice.random() + np.arange(number)) * edges[-1] / number
        chosen: Indices = np.searchsorted(edges, picks).clip(max=len(labels) - 1)
        return dice.permutation(chosen)

    def train_epoch(self, stop: Callable[[], bool] = lambda: False) -> float:
        """Take the steps that are left of the present epoch, or fewer if `stop()` says so; return their mean loss."""
        epoch, first = divmod(self.step, self.steps_per_epoch)
        order = self.order(epoch)
        losses = []
        for index in range(first, self.steps_per_epoch):
            rows = order[index * self.recipe.batch : (index + 1) * self.recipe.batch]
            losses.append(self.train_step(rows, (self.seed, epoch, index)))
            if stop():
                break
        return float(torch.stack(losses).mean())

    def train_step(self, rows: Indices, chance: Sequence[int]) -> Tensor:
        """Take one step on the given photos, all chance from the integers `chance`; return the detached loss.

        The batch is cut into chunks, each with batch statistics of its own; the chunks' gradients are added in their
        order, so that the number of workers changes nothing but the time.
        """
        for group in self.solver.param_groups:
            group["lr"] = self.recipe.rate(self.progress)
        parts = np.array_split(rows, len(self.replicas))

        def work(index: int) -> Tensor:
            dice = np.random.default_rng([*chance, index])
            loss = self._loss(self.replicas[index], parts[index], dice) * (len(parts[index]) / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        losses = list(self.pool.map(work, range(len(parts))))
        self._gather()
        stem = self.student.net.stem.conv.weight
        rough = self.recipe.stem_smooth / 2 * roughness(stem)
        rough.backward()  # type: ignore[no-untyped-call]
        self.solver.step()
        self.solver.zero_grad()
        self.step += 1
        self.progress += self.increment
        self._update_average()
        return torch.stack(losses).sum()

    def _loss(self, student: Student, rows: Indices, dice: np.random.Generator) -> Tensor:
        recipe, material = self.recipe, self.material
        view = dice.integers(material.views.shape[1], size=len(rows))
        pixels = torch.from_numpy(np.stack([material.views[p, v] for p, v in zip(rows, view, strict=True)]))
        x = distort(pixels.to(self.device), recipe.size(self.progress), dice)
        own, wide = self._targets(rows, view)
        if recipe.mixup and self.progress < 5 / 6:
            share = float(dice.beta(recipe.mixup, recipe.mixup))
            other = torch.from_numpy(dice.permutation(len(rows))).to(self.device)
            x, own = x.lerp(x[other], 1 - share), own.lerp(own[other], 1 - share)
            wide = None if wide is None else wide.lerp(wide[other], 1 - share)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            features = student.net.features(x)
        features = features.float()
        loss = F.cross_entropy(student.net.fc(features), own)
        if wide is not None:
            guess = F.log_softmax(student.head(features) / recipe.temperature, dim=1)
            weight = recipe.logits_weight * (1 - (1 - recipe.logits_end) * self.progress)
            loss = loss + weight * recipe.temperature**2 * F.kl_div(guess, wide, reduction="batchmean")
        return loss

    @torch.no_grad()
    def _gather(self) -> None:
        """Add the replicas' gradients up in the student, and give all the mean of their running statistics."""
        if len(self.replicas) == 1:
            return
        grads = [[p.grad for p in replica.parameters() if p.grad is not None] for replica in self.replicas]
        for more in grads[1:]:
            torch._foreach_add_(grads[0], more)
        used = [
            p
            for p, q in zip(self.student.parameters(), self.replicas[0].parameters(), strict=True)
            if q.grad is not None
        ]
        for parameter, grad in zip(used, grads[0], strict=True):
            parameter.grad = grad
        for replica in self.replicas:
            replica.zero_grad()
        sets = [[b for b in replica.buffers() if b.is_floating_point()] for replica in self.replicas]
        mean = [torch.stack(same).mean(0) for same in zip(*sets, strict=True)]
        for mine in (*sets, [b for b in self.student.buffers() if b.is_floating_point()]):
            torch._foreach_copy_(mine, mean)

    def _targets(self, rows: Indices, view: Indices) -> tuple[Tensor, Tensor | None]:
        """Return what the two heads should say: (N, classes) and, with a teacher, (N, 1000) probabilities."""
        recipe, material = self.recipe, self.material
        classes = len(material.names)
        labels = torch.from_numpy(material.labels[rows]).to(self.device)
        known = (labels >= 0)[:, None]
        own = F.one_hot(labels.clamp(min=0), classes).float()
        own = own * (1 - recipe.smoothing) + recipe.smoothing / classes
        if material.probe_logits is None or material.teacher_logits is None:
            return own, None
        probe = torch.from_numpy(material.probe_logits[rows, view]).to(self.device).float()
        probe = (probe / recipe.probe_temperature).softmax(1)
        own = torch.where(known, own.lerp(probe, recipe.probe_share), probe)
        wide = torch.from_numpy(material.teacher_logits[rows, view]).to(self.device).float()
        return own, (wide / recipe.temperature).softmax(1)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        mine, theirs = self.average.state_dict(), self.student.net.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [theirs[name] for name in floats], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to continue exactly."""
        return {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "solver": self.solver.state_dict(),
            "step": self.step,
            "progress": self.progress,
            "planned": self.planned,
            "increment": self.increment,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. With another number of epochs the rest of the cycle is stretched to fit."""
        self.student.load_state_dict(state["student"])
        self.replicas = self._replicas()
        self.average.load_state_dict(state["average"])
        self.solver.load_state_dict(state["solver"])
        for group, mine in zip(self.solver.param_groups, self._groups(), strict=True):
            group["weight_decay"] = mine["weight_decay"]
        self.step, self.progress = state["step"], state["progress"]
        self.planned, self.increment = state["planned"], state["increment"]
        self.history = list(state["history"])
        if self.planned != self.recipe.epochs:
            left = self.recipe.epochs * self.steps_per_epoch - self.step
            self.planned, self.increment = self.recipe.epochs, (1 - self.progress) / max(1, left)

    def start_from(self, state: dict[str, Any]) -> None:
        """Begin a new cycle with the weights of a checkpoint: steps, momenta and the learning rate start afresh."""
        self.student.load_state_dict(state["student"])
        self.replicas = self._replicas()
        self.average.load_state_dict(state["average"])

    def score(self) -> Score:
        """Score the averaged weights on the held-out photos."""
        return evaluate(self.average, self.material.held_out, self.material.held_out_labels, self.device)


@torch.no_grad()
def smooth_start(weight: Tensor) -> None:
    """Replace fresh filters (N, 3, 7, 7) by smooth noise of the same size, so that no pixel noise is left over."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=weight.device)
    kernel = (kernel[:, None] * kernel[None, :] / 256)[None, None]
    n, c, h, w = weight.shape
    smooth = F.conv2d(weight.reshape(n * c, 1, h, w), kernel, padding=2).view_as(weight)
    weight.copy_(smooth * (weight.std() / smooth.std()))


def roughness(weight: Tensor) -> Tensor:
    """Return the sum of squared differences of neighbouring taps of filters (N, 3, k, k), zero beyond the border."""
    padded = F.pad(weight, (1, 1, 1, 1))
    across, down = padded.diff(dim=-1), padded.diff(dim=-2)
    return across.square().sum() + down.square().sum()


@torch.no_grad()
def settle(net: nn.Module, photos: NDArray[np.uint8], device: str = "cpu", batch: int = 64) -> None:
    """Measure batch norm's statistics anew on `photos` (N, H, W, 3), uint8, in place.

    The running averages come from distorted crops of another size; afterwards they are those of photos as the network
    will see them (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm").
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for start in range(0, len(photos), batch):
        net(normalise(torch.from_numpy(photos[start : start + batch]).to(device).permute(0, 3, 1, 2)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def settling_photos(root: Path, seed: int) -> NDArray[np.uint8]:
    """Return centre crops (N, 128, 128, 3) of a random quarter of the training photos, at least 64."""
    training, _ = data.split(root, seed)
    return data.centre_crops(random.Random(seed).sample(training, max(len(training) // 4, min(64, len(training)))))


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state so that a kill leaves either the old checkpoint or the new one."""
    fresh = path.with_suffix(".new")
    torch.save(trainer.state_dict(), fresh)
    fresh.replace(path)


def export(net: nn.Module, names: list[str], folder: Path) -> None:
    """Write the network's weights as float16 safetensors and its class names as text into `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, str(folder / "fovea.safetensors"), metadata={"format": "pt"})
    (folder / CLASSES.name).write_text("\n".join(names) + "\n", encoding="utf-8")


def fetch(folder: Path) -> Path:
    """Fetch Caltech-101 (about 140 MB) into `folder` and return its folder of class folders."""
    import fovea.models.torchvision_compat  # noqa: F401

    # isort: split
    from torchvision.datasets import Caltech101

    Caltech101(str(folder), download=True)
    return folder / "caltech101" / "101_ObjectCategories"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fovea.models.bundled.train", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders; fetched where it is not given")
    parser.add_argument("--unlabelled", type=Path, nargs="*", default=[], help="folders of photos without classes")
    parser.add_argument("--teacher", type=Path, help="safetensors of timm's mobilenetv2_100 (pad_type='same')")
    parser.add_argument("--work", type=Path, default=Path("fovea-training"), help="folder for crops and checkpoints")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder that the weights and class names go to")
    parser.add_argument("--start", type=Path, help="checkpoint of an earlier cycle, whose weights this one begins with")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--peak", type=float, default=Recipe.peak, help="highest learning rate")
    parser.add_argument("--crops", type=int, default=12, help="crops of each photo that the teacher judges")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, default=1, help="threads; with several, set OMP_NUM_THREADS=1")
    parser.add_argument("--resume", action="store_true", help="continue from the work folder's checkpoint")
    return parser.parse_args(argv)


def run(trainer: Trainer, work: Path, report: Progress, say: Callable[[str], None]) -> bool:
    """Train until the recipe's last epoch, or until a signal asks to stop; return whether the end was reached.

    After every epoch, and when stopped, the checkpoint goes to `work`; after every epoch the averaged weights do too,
    and `say` is told the figures.
    """
    total = trainer.recipe.epochs * trainer.steps_per_epoch
    stop = threading.Event()

    def tick() -> bool:
        report(trainer.step, total, "training")
        return stop.is_set()

    before = {name: signal.signal(name, lambda *_: stop.set()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        while trainer.step < total:
            started = time.monotonic()
            loss = trainer.train_epoch(tick)
            if trainer.step % trainer.steps_per_epoch:
                save_checkpoint(trainer, work / CHECKPOINT)
                return False
            score = trainer.score()
            entry = {
                "epoch": trainer.step // trainer.steps_per_epoch,
                "progress": trainer.progress,
                "loss": loss,
                "top1": score.top1,
                "mean_class": score.mean_class,
                "dead": score.dead_share,
                "seconds": time.monotonic() - started,
            }
            trainer.history.append(entry)
            save_checkpoint(trainer, work / CHECKPOINT)
            export(trainer.average, trainer.material.names, work)
            (work / "history.json").write_text(json.dumps(trainer.history, indent=1), encoding="utf-8")
            say(" ".join(f"{key} {value:.4g}" for key, value in entry.items()))
            if stop.is_set():
                return trainer.step >= total
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    return True


def main(argv: list[str] | None = None) -> int:
    """Train from the command line; returns the exit code. Interrupted, it first writes a checkpoint."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    args = _arguments(argv)
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe(epochs=args.epochs, peak=args.peak)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def report(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)

        root = args.data or fetch(args.work / "data")
        material = prepare(root, args.unlabelled, args.teacher, args.work, args.crops, args.seed, device, report)
        trainer = Trainer(material, recipe, args.seed, device, workers=args.workers)
        if args.resume and (args.work / CHECKPOINT).exists():
            trainer.load_state_dict(torch.load(args.work / CHECKPOINT, map_location=device, weights_only=True))
        elif args.start:
            trainer.start_from(torch.load(args.start, map_location=device, weights_only=True))
        finished = run(trainer, args.work, report, lambda text: bar.console.print(text, soft_wrap=True))
    if not finished:
        return 130
    settle(trainer.average, settling_photos(root, args.seed), device)
    export(trainer.average, material.names, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
