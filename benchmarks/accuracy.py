"""Top-1 and top-5 of real weights on 1000 photos, in torch and in ONNX, against the figures stated with the weights.

    python -m benchmarks.accuracy [--photos 1000] [--data ../shared/data] [--published FOLDER]

The stated figures were taken on the photos as the set published them, PNGs of 299 pixels, with the short side resized
to 256 by Pillow's bilinear filter and the middle 224 taken, for all three networks alike. The data folder holds these
photos as JPEGs, which move a top-1 by up to two points. `--published` names a folder with the PNGs, KEY.png, and only
then the figures have to agree.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BATCH = 50

MOBILENET: dict[str, Any] = {
    "architecture": "timm:mobilenetv2_100",
    "weights": "weights/timm_mobilenetv2_100_padsame.safetensors",
    "arguments": {"pad_type": "same"},
}
NETWORKS: dict[str, tuple[dict[str, Any], float | None, float | None]] = {
    "squeezenet": (
        {"architecture": "torchvision:squeezenet1_1", "weights": "weights/squeezenet1_1_caffe.safetensors"},
        48.5,
        74.8,
    ),
    "googlenet": (
        {"architecture": "weights/bvlc_googlenet.py:BVLCGoogLeNet", "weights": "weights/bvlc_googlenet.safetensors"},
        65.2,
        87.0,
    ),
    "mobilenet": ({**MOBILENET, "input": {"interpolation": "bilinear"}}, 75.9, 94.0),
    "mobilenet-bicubic": (MOBILENET, None, None),
}
"""Registration (paths within the data folder), and the top-1 and top-5 in percent stated with the weights, if any.

`mobilenet-bicubic` is prepared as timm's own data config says, `mobilenet` as for the stated figures."""


def register(name: str, data: Path) -> None:
    """Register one of `NETWORKS` with its files in `data`."""
    from fovea.models import registry

    fields = dict(NETWORKS[name][0])
    fields["weights"] = str(data / fields["weights"])
    if not fields["architecture"].startswith(("torchvision:", "timm:")):
        fields["architecture"] = str(data / fields["architecture"])
    registry.register(name, **fields)


def photos(data: Path, count: int, folder: Path | None = None) -> tuple[list[Path], NDArray[np.int64]]:
    """The first `count` photos, in `folder` or the data's own, and their ImageNet classes."""
    with (data / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    files = {path.stem: path for path in (folder or data / "photos").iterdir()}
    return [files[row["key"]] for row in rows], np.array([int(row["imagenet_class"]) for row in rows])


def batches(network: Any, paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """The network's inputs, `BATCH` at a time; the last batch may be smaller."""
    preprocessing = network.card.preprocessing
    for start in range(0, len(paths), BATCH):
        frames = [preprocessing.frame(Image.open(path)) for path in paths[start : start + BATCH]]
        yield preprocessing.normalise(np.stack(frames))


def scores(network: Any, paths: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The network's outputs (photos, classes) in torch and in ONNX."""
    import torch

    from fovea.models import torch_net
    from fovea.models.card import OUTPUT
    from fovea.models.graph.sessions import Session

    graph, module = network.graph(), network.module()
    session = Session(graph.cut([OUTPUT]), "cpu")
    torch_rows, onnx_rows = [], []
    for x in batches(network, paths):
        with torch.inference_mode():
            torch_rows.append(torch_net.first_tensor(module(torch.from_numpy(x))).numpy())
        onnx_rows.append(session.run({graph.input: x})[0])
    return np.concatenate(torch_rows), np.concatenate(onnx_rows)


def top(values: NDArray[np.float32], classes: NDArray[np.int64], k: int) -> float:
    """The share, in percent, of rows whose class is among the k largest scores."""
    best = np.argsort(-values, axis=1)[:, :k]
    return float((best == classes[:, None]).any(1).mean() * 100)


def main() -> int:
    """Print a table; 1 if a figure on the published PNGs is more than half a point from what is stated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--published", type=Path, help="a folder with the photos as the set published them, PNGs")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"no data at {arguments.data}: nothing was measured")
        return 0
    from fovea.models import zoo

    failed = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FOVEA_HOME"] = folder
        print("| network | stated top-1, top-5 | torch | ONNX | largest difference | seconds |")
        print("|---|---|---|---|---|---|")
        for name, (_, stated1, stated5) in NETWORKS.items():
            register(name, arguments.data)
            paths, classes = photos(arguments.data, arguments.photos, arguments.published)
            started = time.perf_counter()
            ours, exported = scores(zoo.load(name), paths)
            seconds = time.perf_counter() - started
            gap = float(np.abs(ours - exported).max() / np.abs(ours).max())
            figures = [(top(v, classes, 1), top(v, classes, 5)) for v in (ours, exported)]
            cells = [f"{one:.1f}, {five:.1f}" for one, five in figures]
            stated = "" if stated1 is None else f"{stated1}, {stated5}"
            print(f"| {name} | {stated} | {cells[0]} | {cells[1]} | {gap:.1e} | {seconds:.0f} |", flush=True)
            if stated1 is not None and arguments.published and len(paths) == 1000:
                failed |= any(abs(one - stated1) > 0.5 for one, _ in figures)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
