"""All of torchvision's classification networks: what holds of each, as a table.

    python -m benchmarks.parity [NAME ...]

Card, export, torch and ONNX at every tap, one image at the network's own size, random weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path


def row(name: str) -> str:
    """One line of the table."""
    from models import onnx_net, zoo
    from models.errors import FoveaError

    started = time.perf_counter()
    try:
        network = zoo.load(f"torchvision:{name}@random")
    except FoveaError as error:
        return f"| {name} | | | | | | {error} |"
    carded = time.perf_counter()
    layers = network.card.layers
    untapped = sum(layer.axes == "none" for layer in layers)
    facts = f"| {name} | {len(layers)} | {untapped} | {carded - started:.1f} |"
    try:
        graph = network.graph()
        exported = time.perf_counter()
        gaps = onnx_net.check_parity(
            network.module(), graph.path, graph.taps, graph.input, graph.input_shape, name, batch=3
        )
    except FoveaError as error:
        return f"{facts} | | {error} |"
    worst = max(gaps, key=lambda tap: gaps[tap])
    graph.path.unlink()
    return f"{facts} {exported - carded:.1f} | {gaps[worst]:.1e} at {worst} | |"


def main() -> int:
    """Print the table, a line at a time."""
    from models.weights import TORCHVISION_WEIGHTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TORCHVISION_WEIGHTS))
    names = parser.parse_args().names
    print("| network | layers | without units | card, s | export, s | largest difference | what does not hold |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FOVEA_HOME"] = str(Path(folder))
        from models import zoo

        for name in names:
            print(row(name), flush=True)
            # The largest networks take gigabytes: one at a time.
            zoo.forget()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
