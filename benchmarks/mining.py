"""Mining against the bare ONNX Runtime session with all frames decoded ahead, and against plain torch hooks.

    python -m benchmarks.mining [--quick] [--networks squeezenet1_1,…] [--repeats 3] [--images 1000]

Patches of three layers over a folder of photos, in turn, in one process. "ours" is a whole run: session, decoding,
maxima, merging, tables, and the crops. "bare" is the session alone as it comes, all cores inside each operator, cut
after the deepest of the layers, on normalised batches that lie ready. "bare, a batch a core" is the same work arranged
as ours is, one batch on each core, which is the most that the session gives here. "decoding" is the frames alone: it
shares the processor with the network, so on a CPU no run can be faster than both one after the other; "of both"
compares ours with that. "torch hooks" is what one would write by hand: hooks that keep amax and argmax, the same
decoding ahead, topk at the end. Then the peak memory of a whole process for the photos once and ten times.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import DATA, ROOT, interleaved, machine, random_network, ratio, table, use_own_home

LAYERS = {
    "squeezenet1_1": "features.4,features.7,features.12",
    "resnet18": "layer2,layer3,layer4",
    "resnet50": "layer2,layer3,layer4",
}


def listed(images: int, folder: Path) -> Path:
    """A list file of that many photos; the set is repeated as often as it takes."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    if not photos:
        raise SystemExit(f"needs the photos of a development checkout in {DATA.name}/photos")
    file = folder / f"{images}.txt"
    file.write_text("".join(f"{photos[index % len(photos)]}\n" for index in range(images)))
    return file


def job_for(network: Any, dataset: Path, provider: str) -> Any:
    """The request, as the command line would make it."""
    from fovea.engine.data.catalogue import open_dataset
    from fovea.engine.look.patches import METHOD
    from fovea.engine.method import Job

    options = METHOD.options.parse(
        {"dataset": str(dataset), "layers": LAYERS[network.card.name.split(":")[-1].split("@")[0]]}
    )
    return Job(network=network, options=options, provider=provider, open_dataset=open_dataset)


def measure(name: str, images: int, repeats: int, provider: str) -> tuple[list[str], list[str]]:
    """One network's line of the table: header and cells."""
    from fovea.engine.data.catalogue import open_dataset
    from fovea.engine.look.patches import METHOD
    from fovea.engine.look.probing.probe import batch_size, cores, parallel_batches
    from fovea.models.graph.sessions import Session

    network = random_network(name)
    taps = LAYERS[name].split(",")
    with tempfile.TemporaryDirectory() as folder:
        job = job_for(network, listed(images, Path(folder)), provider)
        dataset = open_dataset(job.options.dataset)
        graph = network.graph()
        # The last node of the deepest tap alone is asked for, so that no map is copied out for nothing.
        bare = Session(_quiet(graph.cut(taps), graph.taps[taps[-1]]), provider)
        size = batch_size(provider)  # eight, or four with a batch a core: the session's speed is the same
        preprocessing = network.card.preprocessing
        frames = [frame for _, frame in dataset.frames(preprocessing, range(images), threads=2)]
        batches = [preprocessing.normalise(np.stack(frames[n : n + size])) for n in range(0, images, size)]
        parallel = parallel_batches()
        one = Session(_quiet(graph.cut(taps), graph.taps[taps[-1]]), provider, max(1, cores() // parallel))

        def run_bare() -> None:
            for batch in batches:
                bare.run({graph.input: batch})

        def run_in_parallel() -> None:
            with ThreadPoolExecutor(parallel if provider == "cpu" else 1) as pool:
                list(pool.map(lambda batch: one.run({graph.input: batch}), batches))

        seconds = interleaved(
            {
                "ours": lambda: METHOD.run(job),
                "bare": run_bare,
                "bare, a batch a core": run_in_parallel,
                "decoding": lambda: sum(1 for _ in dataset.frames(preprocessing, range(images), threads=cores())),
                "torch hooks": lambda: torch_hooks(network, dataset, taps, size, provider),
            },
            repeats,
        )
    both = [a + b for a, b in zip(seconds["bare, a batch a core"], seconds["decoding"], strict=True)]
    shares = {
        "of bare": ratio(seconds, "bare", "ours"),
        "of bare, a batch a core": ratio(seconds, "bare, a batch a core", "ours"),
        "of both": ratio(seconds | {"both": both}, "both", "ours"),
    }
    header = ["network", "layers", *(f"{run}, images/s" for run in seconds), *shares, "× torch hooks"]
    cells = [name, ", ".join(taps), *(f"{images / np.median(values):.1f}" for values in seconds.values())]
    cells += [*(f"{share:.0%}" for share in shares.values()), f"{ratio(seconds, 'torch hooks', 'ours'):.2f}"]
    return header, cells


def _quiet(model: Any, tensor: str) -> Any:
    """The model with one small output: the mean of its deepest tap's first unit."""
    from onnx import TensorProto, helper

    del model.graph.output[:]
    model.graph.node.append(helper.make_node("ReduceMean", [tensor], ["benchmark.mean"], axes=[1, 2, 3]))
    model.graph.output.append(helper.make_tensor_value_info("benchmark.mean", TensorProto.FLOAT, None))
    return model


def torch_hooks(network: Any, dataset: Any, taps: list[str], size: int, provider: str) -> dict[str, Any]:
    """The nine best images of every unit, the plain way."""
    import torch

    device = "cpu" if provider == "cpu" else "cuda"
    module = network.module(device)
    found: dict[str, list[Any]] = {tap: [] for tap in taps}
    modules = dict(module.named_modules())

    def keep(tap: str) -> Any:
        return lambda module, inputs, output: found[tap].append(output.flatten(2).max(2))

    handles = [modules[tap].register_forward_hook(keep(tap)) for tap in taps]
    try:
        with torch.inference_mode():
            batch: list[np.ndarray] = []
            for _, frame in dataset.frames(network.card.preprocessing, range(len(dataset)), threads=2):
                batch.append(network.card.preprocessing.normalise(frame))
                if len(batch) == size:
                    module(torch.from_numpy(np.stack(batch)).to(device))
                    batch = []
            if batch:
                module(torch.from_numpy(np.stack(batch)).to(device))
        return {tap: torch.cat([part.values for part in parts]).topk(9, dim=0) for tap, parts in found.items()}
    finally:
        for handle in handles:
            handle.remove()


def child(name: str, images: int, provider: str) -> None:
    """Mine in this fresh process and print its peak memory in MB."""
    from fovea.engine.look.patches import METHOD

    with tempfile.TemporaryDirectory() as folder:
        METHOD.run(job_for(random_network(name), listed(images, Path(folder)), provider))
    print(json.dumps({"peak": own_peak()}))


def own_peak() -> float:
    """This process's peak memory in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: what getrusage tells of a child begins at its parent's memory
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_memory(name: str, images: int, provider: str) -> float:
    """MB of a fresh process that mines that many images."""
    command = [sys.executable, "-m", "benchmarks.mining", "--child", "--networks", name]
    command += ["--images", str(images), "--provider", provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images of one network: does it work at all?")
    parser.add_argument("--networks", default="squeezenet1_1,resnet18,resnet50")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda", "tensorrt"])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_own_home()
    if arguments.child:
        child(arguments.networks, arguments.images, arguments.provider)
        return
    names = ["squeezenet1_1"] if arguments.quick else arguments.networks.split(",")
    images, repeats = (32, 1) if arguments.quick else (arguments.images, arguments.repeats)
    lines = [measure(name, images, repeats, arguments.provider) for name in names]
    print(machine("cpu" if arguments.provider == "cpu" else "cuda"))
    print(table(lines[0][0], [cells for _, cells in lines]))
    peaks = [peak_memory(names[0], count, arguments.provider) for count in (images, 10 * images)]
    print(f"\nPeak memory of a process that mines with {names[0]}: {images} images {peaks[0]:.0f} MB, ", end="")
    print(f"{10 * images} images {peaks[1]:.0f} MB ({100 * (peaks[1] / peaks[0] - 1):+.1f} %)")


if __name__ == "__main__":
    main()
