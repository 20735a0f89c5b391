"""A step of inversion, texture and style against the bare cut network, and style transfer against Gatys' own way.

    python -m benchmarks.style [--quick] [--networks squeezenet1_1,resnet18] [--repeats 2] [--threads 2] [--steps 10]
        [--device cpu] [--long 0]

Networks are torchvision's with random weights, or squeezenet and googlenet with the real ones of the development data.
First table, median seconds a step, at the network's own input size, at one size and one scale, all by L-BFGS:
"paper's terms": the recipe with its paper's losses alone, over a loop written out by hand for the same losses (feature
distance, Gram matrices) on the same cut network with the same pooling; "by hand": that loop over one that has no loss
but the sum of squares of the layers; "as shipped": the recipe with all its default terms and its default canvas, over
such loops, with losses and without, that run the cut network on the same pictures, the enlarged one with them.
Second table: Gatys et al. 2016 as published (L-BFGS on pixels, plain Gram matrices, max pooling, the whole network run
to its end each step) against the recipe at one size with the same layers, once with the same terms and once
as shipped: seconds a step, how far each is from the content and from the style after the same number of steps, measured
on the plain network, and the sum of both by their weights, which is what Gatys' way minimises; `--long 300` for as many
steps of both.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._common import add_device, machine, random_network, table, use_own_home
from benchmarks.recipes import WEIGHTS, networks

ALONE: dict[str, dict[str, Any]] = {
    "inversion": {"series": 1},
    "texture": {"series": False, "sizes": 1, "scales": 1},
    "style": {"scales": 1, "style": "sample:tissue", "smallest": 4096},
}
"""What each recipe is told here: one size, one scale, one picture, so that its steps are the network's."""
PAPER: dict[str, dict[str, Any]] = {
    "inversion": {"preset": "none", "canvas": "pixels"},
    "texture": {"pixels": 0, "tileable": False, "fine": False},
    "style": {"pixels": 0, "total_variation": 0, "fine": False},
}
"""What leaves the paper's own losses alone."""

Tick = Callable[..., None]
Run = Callable[[Tick], None]


def job_of(name: str, network: Any, steps: int, device: str, **more: Any) -> Any:
    """The recipe's job at the network's own input size."""
    from fovea.engine.data.photos import open_photo
    from fovea.engine.method import Job, find_method
    from fovea.engine.progress import Progress

    height, width = network.card.preprocessing.size
    sizes = {"texture": {"height": height, "width": width, "patch": width}, "style": {"size": width}}.get(name, {})
    progress = more.pop("progress", lambda *_: None)
    options = find_method(name).options.parse({**ALONE[name], **sizes, "steps": steps, **more})
    photo = open_photo("sample:coffee")
    facts = {"photo": photo, "open_photo": open_photo, "progress": Progress(progress), "device": device}
    return Job(network=network, options=options, **facts)


def taps_of(name: str, network: Any) -> list[str]:
    """The layers that the recipe reads; style's content is the last of them."""
    from fovea.engine.make.inversion import chosen_layers as inverted
    from fovea.engine.make.optimise.layers import statistics_layers
    from fovea.engine.make.style import content_layer

    options = job_of(name, network, 1, "cpu").options
    if name == "inversion":
        return [layer.name for layer in inverted(network.card, options)]
    layers = [layer.name for layer in statistics_layers(network.card, ())]
    return layers if name == "texture" else [*layers, content_layer(network.card, options).name]


def recipe(name: str, network: Any, steps: int, device: str, **more: Any) -> Run:
    """The recipe as a user runs it; it ticks after each step."""
    from fovea.engine.method import find_method

    def run(tick: Tick) -> None:
        find_method(name).run(job_of(name, network, steps, device, progress=tick, **more))

    return run


def gram(maps: Any) -> Any:
    """The Gram matrices of maps (N, C, h, w), divided by positions."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def averaged(module: Any) -> Any:
    """A copy of the module that pools by averages."""
    from torch import nn

    module = copy.deepcopy(module)
    for parent in module.modules():
        for name, pool in parent.named_children():
            if isinstance(pool, nn.MaxPool2d):
                average = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, False)
                setattr(parent, name, average)
    return module


def by_hand(name: str, network: Any, steps: int, device: str, losses: bool = True, fine: bool = False) -> Run:
    """The paper's losses on the cut network, written out; without `losses` the sum of the squares of the layers.

    `fine`: the layers that the recipe matches on the enlarged picture as well are run on one, too.
    """
    import torch

    from fovea.engine.make.optimise.canvas import Normalise, resized, to_picture
    from fovea.engine.make.optimise.layers import ENLARGED, fine_layers, statistics_layers
    from fovea.engine.make.optimise.picture_size import photo_pixels
    from fovea.models.torch_net import forward_taps

    module = averaged(network.module(device)) if name == "texture" else network.module(device)
    normalise, taps = Normalise(network.card.preprocessing, device), taps_of(name, network)
    job = job_of(name, network, 1, device)
    pixels = to_picture(photo_pixels(job, job.photo, max(network.card.preprocessing.size)))
    enlarged = fine_layers(network.card, statistics_layers(network.card, ())) if fine and name != "inversion" else []
    shape = pixels.shape if name == "style" else (1, 3, *network.card.preprocessing.size)
    start = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    grams = {"inversion": [], "texture": taps, "style": taps[:-1]}[name]
    contents = {"inversion": taps, "texture": [], "style": taps[-1:]}[name]
    with torch.no_grad():
        wanted = forward_taps(module, normalise(torch.rand_like(start)), taps)
        patterns = {tap: gram(wanted[tap]) for tap in grams}

    def loss(features: dict[str, Any], large: bool = False) -> Any:
        if not losses:
            return sum(value.square().sum() for value in features.values())
        if large:
            apart = [(gram(value) - patterns[tap]).square().sum() for tap, value in features.items()]
            return torch.stack(apart).sum()
        apart = [(features[tap] - wanted[tap]).square().sum() / wanted[tap].square().sum() for tap in contents]
        apart += [
            (gram(features[tap]) - known).square().sum() / known.square().sum() for tap, known in patterns.items()
        ]
        return torch.stack(apart).sum()

    def run(tick: Tick) -> None:
        x = start.clone().requires_grad_(True)
        mover = torch.optim.LBFGS([x], max_iter=1, history_size=20)

        def evaluate() -> Any:
            value = loss(forward_taps(module, normalise(x), taps))
            if enlarged:
                large = resized(x, *(side * ENLARGED for side in x.shape[-2:]))
                value = value + loss(
                    forward_taps(module, normalise(large), [layer.name for layer in enlarged]), large=True
                )
            (x.grad,) = torch.autograd.grad(value, x)
            return value

        for _ in range(steps):
            mover.step(evaluate)
            tick()

    return run


def step_seconds(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """The median seconds of a step of each run, `repeats` times in turn after a turn to warm up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            times: list[float] = []
            run(lambda *_, times=times: times.append(time.perf_counter()))
            if turn:
                found[name].append(statistics.median(b - a for a, b in itertools.pairwise(times)))
    return found


def over(seconds: dict[str, list[float]], slow: str, fast: str) -> str:
    """The median of the ratios turn by turn."""
    return f"{statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)):.2f}"


def steps_of(name: str, network: Any, steps: int, repeats: int, device: str) -> list[str]:
    """A row of the first table."""
    runs = {
        "paper": recipe(name, network, steps, device, **PAPER[name]),
        "hand": by_hand(name, network, steps, device),
        "bare": by_hand(name, network, steps, device, losses=False),
        "shipped": recipe(name, network, steps, device),
        "hand shipped": by_hand(name, network, steps, device, fine=True),
        "bare shipped": by_hand(name, network, steps, device, losses=False, fine=True),
    }
    seconds = step_seconds(runs, repeats)
    return [
        name,
        f"{1000 * statistics.median(seconds['hand']):.0f}",
        over(seconds, "paper", "hand"),
        over(seconds, "hand", "bare"),
        over(seconds, "shipped", "hand shipped"),
        over(seconds, "shipped", "bare shipped"),
    ]


def gatys(network: Any, steps: int, device: str, made: dict[str, Any]) -> Run:
    """Style transfer as published, with the whole network; keeps its picture in `made`."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise, to_picture
    from fovea.engine.make.optimise.picture_size import photo_pixels
    from fovea.models.card import OUTPUT
    from fovea.models.torch_net import forward_taps

    job = job_of("style", network, steps, device)
    side = max(network.card.preprocessing.size)
    module, normalise = network.module(device), Normalise(network.card.preprocessing, device)
    content = to_picture(photo_pixels(job, job.photo, side), device)
    pattern = to_picture(photo_pixels(job, job.read_photo(job.options.style), side), device)
    *layers, middle = taps_of("style", network)
    with torch.no_grad():
        wanted = forward_taps(module, normalise(content), [middle])[middle]
        grams = {tap: gram(value) for tap, value in forward_taps(module, normalise(pattern), layers).items()}

    def run(tick: Tick) -> None:
        x = content.clone().requires_grad_(True)
        mover = torch.optim.LBFGS([x], max_iter=1, history_size=20)

        def evaluate() -> Any:
            features = forward_taps(module, normalise(x), [*layers, middle, OUTPUT])
            loss = job.options.content_weight * (features[middle] - wanted).square().sum() / wanted.square().sum()
            for tap in layers:
                apart = (gram(features[tap]) - grams[tap]).square().sum() / grams[tap].square().sum()
                loss = loss + job.options.style_weight / len(layers) * apart
            (x.grad,) = torch.autograd.grad(loss, x)
            return loss

        for _ in range(steps):
            mover.step(evaluate)
            tick()
        made["gatys"] = x.detach().clamp(0, 1)

    return run


def ours(network: Any, steps: int, device: str, made: dict[str, Any], key: str, **more: Any) -> Run:
    """The recipe at one size; keeps its picture in `made` under `key`."""
    import numpy as np

    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.method import find_method

    def run(tick: Tick) -> None:
        result = find_method("style").run(job_of("style", network, steps, device, progress=tick, **more))
        made[key] = to_picture(np.asarray(result.images["style"]), device)

    return run


def apart(network: Any, picture: Any, device: str) -> tuple[float, float]:
    """How far a picture is from the content and from the style: relative squared distances of the plain network."""
    from fovea.engine.make.match.style_options import Weights
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.make.optimise.picture_size import photo_pixels
    from fovea.engine.make.optimise.statistics import distance
    from fovea.engine.make.style import Transfer

    job = job_of("style", network, 1, device)
    side = max(network.card.preprocessing.size)
    content = to_picture(photo_pixels(job, job.photo, side), device)
    pattern = to_picture(photo_pixels(job, job.read_photo(job.options.style), side), device)
    terms = Transfer(job).terms(content, [pattern], Weights(1.0, 1.0))
    found = [
        distance(job, [term for term in terms if term.name.startswith(kind) and term.loss.taps], picture)
        for kind in ("content", "style")
    ]
    return found[0], found[1]


def against_gatys(network: Any, steps: int, repeats: int, device: str) -> list[list[str]]:
    """The rows of the second table."""
    made: dict[str, Any] = {}
    runs = {
        "same terms": ours(network, steps, device, made, "same terms", **PAPER["style"]),
        "as shipped": ours(network, steps, device, made, "as shipped"),
        "gatys": gatys(network, steps, device, made),
    }
    seconds = step_seconds(runs, repeats)
    options = job_of("style", network, 1, device).options
    rows = []
    for name in runs:
        content, style = apart(network, made[name], device)
        together = options.content_weight * content + options.style_weight * style
        rows.append(
            [network.name, name, over(seconds, name, "gatys"), *(f"{v:.3f}" for v in (content, style, together))]
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, one turn: only that it works")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--long", type=int, default=0, help="steps of the second table, if others")
    add_device(parser)
    given = parser.parse_args(arguments)
    use_own_home()
    import torch

    torch.set_num_threads(given.threads)
    names = ["squeezenet1_1"] if given.quick else given.networks.split(",")
    steps, repeats = (3, 1) if given.quick else (given.steps, given.repeats)
    print(machine(given.device))
    rows, against = [], []
    for name in names:
        network = networks()[name] if name in WEIGHTS else random_network(name)
        rows += [[name, *steps_of(method, network, steps, repeats, given.device)] for method in ALONE]
        against += against_gatys(network, given.long or steps, 1 if given.long else repeats, given.device)
    header = ["network", "recipe", "by hand, ms", "paper's terms, of by hand", "by hand, of forward and backward"]
    print(table([*header, "as shipped, of by hand", "as shipped, of forwards and backwards"], rows))
    print(table(["network", "style", "seconds, of Gatys'", "from content", "from style", "together"], against))


if __name__ == "__main__":
    main()
