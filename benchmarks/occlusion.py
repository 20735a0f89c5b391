"""Occlusion against Captum and against the bare ONNX Runtime session on batches that lie ready.

    python -m benchmarks.occlusion [--quick] [--networks resnet18,…] [--repeats 5] [--threads 2]

All see the same photo, the same windows (32 px, every 16 px) and the same threads, in turn, in one process.
"whole" is a complete run with the cut and the optimisation of the graph; the others count the windows alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._common import interleaved, machine, random_network, ratio, table, use_own_home


def measure(name: str, stride: int, repeats: int, threads: int, provider: str) -> tuple[list[str], list[str]]:
    """One network's line of the table: header and cells."""
    import torch
    from captum.attr import Occlusion

    from fovea.engine.data.photos import open_photo
    from fovea.engine.look.occluding.covers import cover_picture
    from fovea.engine.look.occluding.watching import open_probe, watch_windows
    from fovea.engine.look.occluding.windows import corners
    from fovea.engine.look.occlusion import METHOD
    from fovea.engine.look.probing.probe import batch_size
    from fovea.engine.method import Job
    from fovea.models.card import OUTPUT
    from fovea.models.graph.sessions import Session

    torch.set_num_threads(threads)
    network = random_network(name)
    options = METHOD.options.parse({"stride": stride})
    job = Job(network=network, options=options, photo=open_photo("sample:cat"), provider=provider)
    height, width = network.card.preprocessing.size
    ys = corners(height, options.window, stride)
    xs = corners(width, options.window, stride)
    cover, probe = cover_picture(job), open_probe(job, ys, xs)
    target = watch_windows(job, probe, cover, ys, xs).index

    graph = network.graph()
    bare = Session(graph.cut([OUTPUT]), provider)
    batches = _ready_batches(job.input, ys, xs, options.window, batch_size(provider))

    def run_bare() -> None:
        for batch in batches:
            bare.run({graph.input: batch})

    module = network.module("cuda" if provider != "cpu" else "cpu")
    attributor = Occlusion(lambda x: module(x).softmax(1))
    inputs = torch.from_numpy(job.input).to(next(module.parameters()).device)
    channels = inputs.shape[1]

    def run_captum(each: int) -> Any:
        with torch.inference_mode():
            return attributor.attribute(
                inputs,
                sliding_window_shapes=(channels, options.window, options.window),
                strides=(channels, stride, stride),
                target=target,
                perturbations_per_eval=each,
            )

    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: watch_windows(job, probe, cover, ys, xs),
        "bare": run_bare,
        "whole": lambda: METHOD.run(job),
        **{f"captum {each}": lambda each=each: run_captum(each) for each in (1, 8, 32)},
    }
    seconds = interleaved(runs, repeats)
    best = min((f"captum {each}" for each in (1, 8, 32)), key=lambda run: np.median(seconds[run]))
    windows = len(ys) * len(xs)
    ours = METHOD.run(job).arrays["heatmap"]
    gap = float(np.abs(ours - run_captum(8)[0, 0].cpu().numpy()).max())
    header = ["network", "windows", *(f"{run}, ms/window" for run in runs), "of bare", "× Captum's best", "largest gap"]
    cells = [name, str(windows), *(f"{np.median(seconds[run]) / windows * 1e3:.2f}" for run in runs)]
    cells += [
        f"{100 * ratio(seconds, 'bare', 'ours'):.1f} %",
        f"{ratio(seconds, best, 'ours'):.2f} ({best})",
        f"{gap:.1e}",
    ]
    return header, cells


def _ready_batches(inputs: np.ndarray, ys: np.ndarray, xs: np.ndarray, window: int, size: int) -> list[np.ndarray]:
    """The occluded inputs, made before the clock starts."""
    pictures = []
    for x in xs:
        for y in ys:
            picture = inputs[0].copy()
            picture[:, y : y + window, x : x + window] = 0
            pictures.append(picture)
    return [np.stack(pictures[start : start + size]) for start in range(0, len(pictures), size)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few windows of one network: does it work at all?")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18,resnet50")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="torch's; ONNX Runtime takes all cores")
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda", "tensorrt"])
    arguments = parser.parse_args()
    use_own_home()
    names = ["resnet18"] if arguments.quick else arguments.networks.split(",")
    stride, repeats = (32, 2) if arguments.quick else (16, arguments.repeats)
    lines = [measure(name, stride, repeats, arguments.threads, arguments.provider) for name in names]
    print(machine("cpu" if arguments.provider == "cpu" else "cuda"))
    print(table(lines[0][0], [cells for _, cells in lines]))


if __name__ == "__main__":
    main()
