"""What each recipe reaches on real weights: by how much its loss changes, and whether another network agrees.

    python -m benchmarks.recipes [--quick] [--threads 2]

On squeezenet1_1 and GoogLeNet with the real weights of the development data; skipped where they are not there. The
last table asks each network what it sees in pictures of a class that were made on the other one, with Lucid's
regularisers and without any, read back from the 8-bit picture.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks._common import DATA, machine, table, use_own_home

WEIGHTS = {"squeezenet": "squeezenet1_1_caffe.safetensors", "googlenet": "bvlc_googlenet.safetensors"}
GOLDFISH = 1


def networks() -> dict[str, Any]:
    """Both networks, by name."""
    from models.zoo import load, register, registered

    folder = DATA / "weights"
    architectures = {
        "squeezenet": "torchvision:squeezenet1_1",
        "googlenet": f"{folder}/bvlc_googlenet.py:BVLCGoogLeNet",
    }
    for name, file in WEIGHTS.items():
        if name not in registered():
            register(name, architecture=architectures[name], weights=str(folder / file))
    return {name: load(name) for name in WEIGHTS}


def run(method: str, network: Any, **options: Any) -> Any:
    """The method's result on a packaged photo."""
    from engine.image import open_photo
    from engine.method import Job, find_method

    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    photo = open_photo("sample:coffee")
    return found.run(Job(network=network, options=parsed, photo=photo, open_photo=open_photo))


def reached(network: Any, quick: bool) -> list[list[str]]:
    """A row for each recipe: what it moves, from where, to where."""
    few = 2 if quick else 0
    ascent = run("ascent", network, target=str(GOLDFISH), steps=few or 80)
    activation = ascent.tables["losses"]["activation"]
    dream = run("dream", network, octaves=1, steps=few or 10, size=224)
    energy = dream.tables["losses"].groupby("layer", sort=False)["energy"]
    rows = [
        ["ascent", "activation", f"{activation.iloc[0]:.3g}", f"{activation.iloc[-5:].mean():.3g}"],
        ["ascent", "probability", "", f"{ascent.summary['probability']:.3f}"],
    ]
    rows += [["dream", f"energy of {name}", f"{one.iloc[0]:.3g}", f"{one.iloc[-1]:.3g}"] for name, one in energy]
    for name, options in (
        ("inversion", {"series": 1, "steps": few or 60}),
        ("texture", {"height": 128, "width": 128, "steps": few or 60, "series": False}),
        ("style", {"size": 128, "steps": few or 60}),
    ):
        losses = run(name, network, **options).tables["losses"]["loss"]
        rows.append([name, "loss", f"{losses.iloc[0]:.3g}", f"{losses.iloc[-1]:.3g}"])
    return rows


def agreement(found: dict[str, Any], quick: bool) -> list[list[str]]:
    """What the other network gives the class on pictures made with and without regularisers."""
    import numpy as np

    from engine.make.verdict import SecondOpinion

    rows = []
    for name, other in (("googlenet", "squeezenet"), ("squeezenet", "googlenet")):
        second = SecondOpinion(found[other], "cpu")
        for preset in ("lucid", "none"):
            result = run("ascent", found[name], target=str(GOLDFISH), preset=preset, steps=2 if quick else 100)
            seen = second.probabilities(np.asarray(result.images["ascent"]))
            rows.append([name, preset, f"{result.summary['probability']:.4f}", other, f"{seen[GOLDFISH]:.4f}"])
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two steps each: only that it works")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not all((DATA / "weights" / file).is_file() for file in WEIGHTS.values()):
        print(f"The real weights are not in {DATA}: nothing to measure.")
        return
    use_own_home()
    import torch

    torch.set_num_threads(arguments.threads)
    print(machine())
    found = networks()
    rows = [[name, *row] for name, network in found.items() for row in reached(network, arguments.quick)]
    print(table(["network", "recipe", "what", "first step", "last step"], rows))
    header = ["made on", "preset", "its probability", "asked", "probability there"]
    print(table(header, agreement(found, arguments.quick)))


if __name__ == "__main__":
    main()
