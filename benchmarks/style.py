"""A step of each recipe against the bare cut network, and style transfer against Gatys' own way.

    python -m benchmarks.style [--quick] [--networks squeezenet1_1,vgg11] [--repeats 5] [--threads 2] [--steps 20]

First table: inversion, texture and style, seconds a step over those of a bare loop that runs forward and backward of
the network cut after the same layer, on the same picture, with the same optimiser, and no loss but its sum of squares.
Second table: Gatys et al. 2016 as published (L-BFGS on pixels, plain Gram matrices, max pooling, the whole network run
to its end each step) against the recipe at one size with the same layers: seconds a step, and how far each is from the
content and from the style after the same number of steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._common import interleaved, machine, random_network, ratio, table, use_own_home

ALONE: dict[str, dict[str, Any]] = {
    "inversion": {"series": 1},
    "texture": {"series": False, "sizes": 1, "scales": 1, "match_colours": False},
    "style": {"scales": 1, "style": "sample:tissue", "smallest": 4096},
}
"""What each recipe is told here: one size, one scale, one picture, so that its steps are the network's."""


def job_of(name: str, network: Any, steps: int, **more: Any) -> Any:
    """The recipe's job at the network's own input size."""
    from engine.image import open_photo
    from engine.method import Job, find_method

    height, width = network.card.preprocessing.size
    sizes = {"texture": {"height": height, "width": width, "patch": width}, "style": {"size": width}}.get(name, {})
    options = find_method(name).options.parse({**ALONE[name], **sizes, "steps": steps, **more})
    return Job(network=network, options=options, photo=open_photo("sample:coffee"), open_photo=open_photo)


def taps_of(name: str, network: Any) -> list[str]:
    """The layers that the recipe reads."""
    from engine.make.inversion import chosen_layers as inverted
    from engine.make.layers import texture_layers
    from engine.make.style import content_layer

    options = job_of(name, network, 1).options
    if name == "inversion":
        return [layer.name for layer in inverted(network.card, options)]
    layers = [layer.name for layer in texture_layers(network.card)]
    return layers if name == "texture" else [*layers, content_layer(network.card, options).name]


def made_by(name: str, network: Any, steps: int) -> Callable[[], Any]:
    """The recipe, as a run without arguments."""
    from engine.method import find_method

    return lambda: find_method(name).run(job_of(name, network, steps))


def bare(network: Any, taps: Sequence[str], steps: int, lbfgs: bool) -> Callable[[], None]:
    """Forward and backward of the cut network, and a step of the same optimiser."""
    import torch

    from models.torch_net import forward_taps

    module, preprocessing = network.module("cpu"), network.card.preprocessing
    start = torch.rand((1, preprocessing.channels, *preprocessing.size), generator=torch.Generator().manual_seed(0))

    def run() -> None:
        x = start.clone().requires_grad_(True)
        mover: Any = torch.optim.LBFGS([x], max_iter=1, history_size=20) if lbfgs else torch.optim.Adam([x], lr=0.001)

        def evaluate() -> Any:
            loss = sum(value.square().mean() for value in forward_taps(module, x, taps).values())
            assert isinstance(loss, torch.Tensor)
            (x.grad,) = torch.autograd.grad(loss, x)
            return loss

        for _ in range(steps):
            mover.step(evaluate)

    return run


def gatys(network: Any, steps: int, made: dict[str, Any]) -> Callable[[], None]:
    """Style transfer as published, with the whole network; keeps its picture in `made`."""
    import torch

    from engine.make.canvas import Normalise, to_picture
    from engine.make.losses import gram_matrix
    from engine.make.sizes import photo_pixels
    from models.card import OUTPUT
    from models.torch_net import forward_taps

    job = job_of("style", network, steps)
    side = max(network.card.preprocessing.size)
    module, normalise = network.module("cpu"), Normalise(network.card.preprocessing)
    content = to_picture(photo_pixels(job, job.photo, side))
    pattern = to_picture(photo_pixels(job, job.read_photo(job.options.style), side))
    *layers, middle = taps_of("style", network)
    with torch.no_grad():
        wanted = forward_taps(module, normalise(content), [middle])[middle]
        grams = {tap: gram_matrix(value) for tap, value in forward_taps(module, normalise(pattern), layers).items()}

    def run() -> None:
        x = content.clone().requires_grad_(True)
        mover = torch.optim.LBFGS([x], max_iter=1, history_size=20)

        def evaluate() -> Any:
            features = forward_taps(module, normalise(x), [*layers, middle, OUTPUT])
            loss = job.options.content_weight * (features[middle] - wanted).square().sum() / wanted.square().sum()
            for tap in layers:
                apart = (gram_matrix(features[tap]) - grams[tap]).square().sum() / grams[tap].square().sum()
                loss = loss + job.options.style_weight / len(layers) * apart
            (x.grad,) = torch.autograd.grad(loss, x)
            return loss

        for _ in range(steps):
            mover.step(evaluate)
        made["picture"] = x.detach().clamp(0, 1)

    return run


def apart(network: Any, picture: Any) -> tuple[float, float]:
    """How far a picture is from the content and from the style: relative squared distances of the plain network."""
    import dataclasses

    from engine.make.canvas import to_picture
    from engine.make.sizes import photo_pixels
    from engine.make.style import Transfer
    from engine.make.texture import distance

    job = job_of("style", network, 1)
    transfer = Transfer(dataclasses.replace(job, network=network))
    side = max(network.card.preprocessing.size)
    content = to_picture(photo_pixels(job, job.photo, side))
    pattern = to_picture(photo_pixels(job, job.read_photo(job.options.style), side))
    terms = transfer.terms(content, [pattern], 1.0, 1.0)
    found = [
        distance(job, [term for term in terms if term.name.startswith(kind) and term.loss.taps], picture)
        for kind in ("content", "style")
    ]
    return found[0], found[1]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, one turn: only that it works")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    use_own_home()
    import numpy as np
    import torch

    from engine.make.canvas import to_picture

    torch.set_num_threads(arguments.threads)
    names = ["squeezenet1_1"] if arguments.quick else arguments.networks.split(",")
    steps, repeats = (2, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    print(machine())
    rows, against = [], []
    for name in names:
        network = random_network(name)
        runs: dict[str, Callable[[], object]] = {}
        for recipe in ALONE:
            runs[recipe] = made_by(recipe, network, steps)
            runs[f"bare {recipe}"] = bare(network, taps_of(recipe, network), steps, recipe != "style")
        times = interleaved(runs, repeats)
        rows.append([name, *(f"{ratio(times, recipe, f'bare {recipe}'):.2f}" for recipe in ALONE)])
        made: dict[str, Any] = {}

        def ours(network: Any = network, made: dict[str, Any] = made) -> None:
            made["ours"] = made_by("style", network, steps)().images["style"]

        times = interleaved({"ours": ours, "gatys": gatys(network, steps, made)}, repeats)
        mine, theirs = apart(network, to_picture(np.asarray(made["ours"]))), apart(network, made["picture"])
        against.append(
            [
                name,
                f"{ratio(times, 'ours', 'gatys'):.2f}",
                f"{mine[0]:.3f} / {theirs[0]:.3f}",
                f"{mine[1]:.4f} / {theirs[1]:.4f}",
            ]
        )
    print(table(["network", *(f"{recipe}, of bare" for recipe in ALONE)], rows))
    print(table(["network", "style's seconds, of Gatys'", "content, ours / Gatys'", "style, ours / Gatys'"], against))


if __name__ == "__main__":
    main()
