"""Dreams against a plain loop over the whole network, and the memory of large ones.

    python -m benchmarks.dream [--quick] [--networks squeezenet1_1,resnet18] [--repeats 5] [--threads 2] [--large 4000]
        [--device cpu]

First table: one octave of the original notebook's size on a layer in the middle: the recipe, and a plain loop that
runs the whole network forward at each step and reads the layer through a hook. Second table: the peak memory of a
process that dreams a photo of each size in tiles, one step an octave.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks._common import ROOT, add_device, interleaved, machine, random_network, ratio, table, use_own_home

LARGE = """
import resource, sys
from fovea.engine.data.photos import open_photo
from fovea.engine.method import Job, find_method
from fovea.models.zoo import load
name, side, threads, device = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
import torch
torch.set_num_threads(threads)
photo = open_photo("sample:coffee").resize((side, side * 3 // 4))
dream = find_method("dream")
dream.run(Job(network=load(name), options=dream.options.parse({"size": side, "steps": 1}), photo=photo, device=device))
if device == "cuda":
    print(torch.cuda.max_memory_reserved() // 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def contenders(name: str, threads: int, steps: int, device: str) -> dict[str, Callable[[], Any]]:
    """The recipe and the plain loop on one network, one octave."""
    import torch

    from fovea.engine.data.photos import open_photo
    from fovea.engine.make.optimise.layers import layer_at
    from fovea.engine.method import Job, find_method

    torch.set_num_threads(threads)
    network, dream = random_network(name), find_method("dream")
    module, preprocessing = network.module(device), network.card.preprocessing
    layer, photo = layer_at(network.card, 0.5), open_photo("sample:coffee")
    side = max(preprocessing.size)
    options = dream.options.parse({"layer": layer.name, "octaves": 1, "steps": steps, "size": side})
    job = Job(network=network, options=options, photo=photo, device=device)
    square = photo.resize((side, round(side * photo.height / photo.width)))

    def plain() -> None:
        from fovea.engine.make.optimise.picture_size import photo_pixels

        x = torch.from_numpy(photo_pixels(job, square, side).copy()).permute(2, 0, 1)[None].to(device).float() / 255
        seen: list[Any] = []
        hook = module.get_submodule(layer.name).register_forward_hook(lambda m, i, out: seen.append(out))
        try:
            for _ in range(steps):
                x = x.detach().requires_grad_(True)
                module(x)
                (gradient,) = torch.autograd.grad(seen.pop().square().mean(), x)
                x = (x + 1.5 / 255 * gradient / gradient.abs().mean()).clamp(0, 1)
        finally:
            hook.remove()

    return {"ours": lambda: dream.run(job), "plain": plain}


def peak(name: str, side: int, threads: int, device: str) -> float:
    """GB that a process of its own takes at most, of the graphics card where it computes there."""
    command = [sys.executable, "-c", LARGE, f"torchvision:{name}@random", str(side), str(threads), device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024 / 1e9


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, one turn: only that it works")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    add_device(parser)
    parser.add_argument("--large", type=int, default=2000, help="long side of the largest photo")
    arguments = parser.parse_args()
    use_own_home()
    names = ["squeezenet1_1"] if arguments.quick else arguments.networks.split(",")
    steps, repeats = (2, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    print(machine(arguments.device))
    rows = []
    for name in names:
        times = interleaved(contenders(name, arguments.threads, steps, arguments.device), repeats)
        rows.append([name, f"{ratio(times, 'plain', 'ours'):.2f}"])
    print(table(["network", "plain loop / ours"], rows))
    sides = [640] if arguments.quick else [arguments.large // 2, arguments.large]
    peaks = [
        [names[0], f"{side} x {side * 3 // 4}", f"{peak(names[0], side, arguments.threads, arguments.device):.2f}"]
        for side in sides
    ]
    print(table(["network", "photo", "peak memory, GB"], peaks))


if __name__ == "__main__":
    main()
