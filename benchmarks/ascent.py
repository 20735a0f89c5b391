"""A step of the one loop against the bare forward and backward of the same cut network.

    python -m benchmarks.ascent [--quick] [--networks resnet18,…] [--repeats 5] [--threads 2]

Ascent with each preset's canvas, losses, transforms and projection, on a class and on a layer in the middle; the bare
contender moves the same pixels with the same optimiser and no more. All take turns in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks._common import interleaved, machine, random_network, ratio, table, use_own_home


def contenders(name: str, threads: int, steps: int) -> dict[str, Callable[[], Any]]:
    """What is timed on one network, by name; each makes `steps` steps."""
    import torch

    from engine.make import ascent
    from engine.make.layers import layer_at
    from engine.make.losses import UnitActivation, View
    from engine.method import Job
    from models.card import OUTPUT
    from models.torch_net import forward_taps

    torch.set_num_threads(threads)
    network = random_network(name)
    module = network.module("cpu")
    layer = layer_at(network.card, 0.5)
    preprocessing = network.card.preprocessing

    def made(**options: Any) -> Callable[[], Any]:
        parsed = ascent.METHOD.options.parse({"steps": steps, **options})
        return lambda: ascent.METHOD.run(Job(network=network, options=parsed))

    def bare(tap: str, score: Callable[[Any], Any]) -> Callable[[], Any]:
        def run() -> None:
            x = torch.zeros(1, preprocessing.channels, *preprocessing.size).requires_grad_(True)
            mover = torch.optim.Adam([x], lr=0.01)
            for _ in range(steps):
                (x.grad,) = torch.autograd.grad(-score(forward_taps(module, x, [tap])[tap]), x)
                mover.step()

        return run

    unit = UnitActivation(layer, 0, "mean")

    def of_unit(output: Any) -> Any:
        return unit(View(output, output, {layer.name: output})).sum()

    return {
        "bare class": bare(OUTPUT, lambda output: output[0, 0]),
        "bare unit": bare(layer.name, of_unit),
        "class none": made(target="0", preset="none"),
        "class lucid": made(target="0"),
        "unit none": made(layer=layer.name, unit=0, preset="none"),
        "unit lucid": made(layer=layer.name, unit=0),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, one turn: only that it works")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18,resnet50")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    use_own_home()
    names = ["squeezenet1_1"] if arguments.quick else arguments.networks.split(",")
    steps, repeats = (2, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    print(machine())
    rows = []
    for name in names:
        times = interleaved(contenders(name, arguments.threads, steps), repeats)
        pairs = [(f"{what} {preset}", f"bare {what}") for what in ("class", "unit") for preset in ("none", "lucid")]
        rows.append([name, *(f"{ratio(times, slow, fast):.2f}" for slow, fast in pairs)])
    print(table(["network", "class, pixels", "class, Fourier", "unit, pixels", "unit, Fourier"], rows))


if __name__ == "__main__":
    main()
