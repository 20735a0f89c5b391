"""Mining against a brute-force sort over a thousand photos: the same patches, in one shard and in three, in any order.

    python -m benchmarks.truths [--quick] [--images 1000]

Torch's maps of every photo, one at a time, sorted in full, for three layers of squeezenet1_1 with its real weights and
of the bundled network; and the mined table, whole and in three shards, with batches of 1, 4 and 16, in the photos'
order and in another. Torch and ONNX Runtime agree to about a millionth: where two scores are closer than that, two
images may change places, and the table counts how many rows do. Among the ways of mining not one row may differ.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._common import DATA, machine, parser, table, use_own_home

TOP = 9
ROW = ["layer", "unit", "rank", "image", "y", "x"]
LAYERS = {"squeezenet": "features.4,features.7,features.12"}


def network_of(name: str) -> Any:
    """The bundled network, or squeezenet1_1 with real weights."""
    from fovea.models.registry import register
    from fovea.models.zoo import load

    if name != "squeezenet":
        return load(name)
    weights = DATA / "weights" / "squeezenet1_1_caffe.safetensors"
    if not weights.is_file():
        raise SystemExit(f"needs the weights of a development checkout, {weights.name}")
    register("squeezenet", architecture="torchvision:squeezenet1_1", weights=str(weights))
    return load("squeezenet")


def mined(network: Any, layers: str, file: Path, batch: int, shards: int) -> pd.DataFrame:
    """The table of patches."""
    from fovea.engine.data.catalogue import open_dataset
    from fovea.engine.look import patches
    from fovea.engine.look.mining import miner
    from fovea.engine.method import Job

    dataset = open_dataset(str(file))
    miner.SHARD = -(-len(dataset) // shards)
    options = patches.METHOD.options.parse({"dataset": str(file), "layers": layers, "top": TOP, "batch": batch})
    job = Job(network=network, options=options, provider="cpu", open_dataset=open_dataset)
    return patches.METHOD.run(job).tables["patches"]


def sorted_by_hand(network: Any, layers: list[str], file: Path) -> pd.DataFrame:
    """Every map of every photo from torch, each unit's maxima sorted in full."""
    import torch

    from fovea.engine.data.catalogue import open_dataset
    from fovea.models.torch_net import forward_taps

    dataset = open_dataset(str(file))
    found: dict[str, list[tuple[Any, Any]]] = {layer: [] for layer in layers}
    for index in range(len(dataset)):
        frame = dataset.frame(index, network.card.preprocessing)
        pixels = torch.from_numpy(network.card.preprocessing.normalise(frame)[None])
        with torch.inference_mode():
            for layer, maps in forward_taps(network.module(), pixels, layers).items():
                found[layer].append((maps[0].flatten(1).amax(1).numpy(), maps[0].flatten(1).argmax(1).numpy()))
    rows = []
    for layer, each in found.items():
        scores, places = (np.stack(one, axis=1) for one in zip(*each, strict=True))
        width = network.card.layer(layer).grid[1]
        for unit in range(len(scores)):
            best = sorted(zip(-scores[unit], dataset.keys, places[unit], strict=True))[:TOP]
            for rank, (score, key, place) in enumerate(best):
                rows.append((layer, unit, rank, key, place // width, place % width, -score))
    return pd.DataFrame(rows, columns=[*ROW, "score"])


def compare(name: str, images: int) -> list[str]:
    """One network's line: how many rows are the same, and how far the scores are apart."""
    from fovea.engine.look.probing.layers import last_of_each_resolution

    network = network_of(name)
    layers = LAYERS.get(name, "").split(",") if name in LAYERS else []
    layers = layers or [layer.name for layer in last_of_each_resolution(network.card, 3)]
    photos = sorted((DATA / "photos").glob("*.jpg"))[:images]
    shuffled = random.Random(0).sample(photos, len(photos))
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for order, listed in (("sorted", photos), ("shuffled", shuffled)):
            files[order] = Path(folder) / f"{order}.txt"
            files[order].write_text("".join(f"{photo}\n" for photo in listed))
        names = ",".join(layers)
        first = mined(network, names, files["sorted"], 4, 1)
        ways = [("sorted", 4, 3), ("shuffled", 4, 3), ("shuffled", 1, 1), ("sorted", 16, 3)]
        others = [mined(network, names, files[order], batch, shards) for order, batch, shards in ways]
        wanted = sorted_by_hand(network, layers, files["sorted"])
    same = (first[ROW] == wanted[ROW]).all(axis=1)
    apart = float((np.abs(first["score"] - wanted["score"]) / wanted["score"].abs().max()).max())
    differing = max(int((first[ROW] != other[ROW]).any(axis=1).sum()) for other in others)
    return [name, names, str(len(photos)), str(len(first)), str(int((~same).sum())), f"{apart:.1e}", str(differing)]


def main() -> None:
    """Print the table."""
    ask = parser(__doc__, "few images: only that it works")
    ask.add_argument("--images", type=int, default=1000)
    ask.add_argument("--networks", default="squeezenet,fovea")
    arguments = ask.parse_args()
    use_own_home()
    images = 24 if arguments.quick else arguments.images
    lines = [compare(name, images) for name in arguments.networks.split(",")]
    print(machine())
    header = ["network", "layers", "images", "rows", "rows that differ from the sort", "scores apart by"]
    print(table([*header, "rows that differ between ways of mining"], lines))


if __name__ == "__main__":
    main()
