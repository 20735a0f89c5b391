"""All of torchvision's classification networks: what holds of each, as a table.

    python -m benchmarks.parity [--quick] [--again] [--memory 12] [NAME ...]

Random weights (batch norms scaled to noise), small inputs where the network allows. For each network:
its card, its export, torch and ONNX at every tap with batches of 1, 2 and 3 (the export is recorded with 2), and for
one layer of each kind a cut of its own whose
in-graph maximum, its place and mean are compared with the same of torch's map. A layer whose difference is above the
tolerance agrees only if ONNX is about as near to torch in float64 as torch in float32 is: such layers are counted. One
process for each network, with a bound on its memory; what was measured before with the same versions is read from the
benchmarks' home, so that a run that was stopped goes on. All 80 take an hour or more on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks._common import machine, table, use_own_home

if TYPE_CHECKING:
    from fovea.models.network import Network

QUICK = ("resnet18", "vit_b_32", "swin_t")
HEADER = ["network", "input", "layers", "no units", "kinds cut", "card, s", "export, s", "largest difference", "fails"]
REDUCED = 1e-4
"""A wrong place or a wrong axis is another value altogether."""
BRANCH = 0.2
"""What a batch norm multiplies by: residual branches add little to what they branch from, as in trained networks."""
SECONDS = 1800
"""No network may take longer."""
USUAL_SECONDS = 30.0
"""A network at the middle of the list on two cores."""


def tries() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Inputs and arguments from the smallest on: many networks take any size, transformers when they are told."""
    for side in (64, 96):
        yield {"size": side}, {}
        yield {"size": side}, {"image_size": side}
    yield {}, {}


def small(name: str) -> Network:
    """The network with the smallest input that it takes. Raises FoveaError for the last that was tried."""
    from fovea.models import registry, zoo
    from fovea.models.errors import NetworkError

    problem = NetworkError(name)
    for given, arguments in tries():
        registry.register("small", architecture=f"torchvision:{name}", input=given, arguments=arguments)
        try:
            return zoo.load("small")
        except NetworkError as error:
            problem = error
    raise problem


def calibrate(network: Network) -> None:
    """Scale batch norms to the magnitude that noise has there, and make residual branches small beside what they branch
    from. Without it a deep network with random weights is chaotic: roundings grow from layer to layer until no two ways
    of computing it are alike, and parity would say nothing.
    """
    import torch

    def scale(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.reset_running_stats()
        norm.weight.fill_(BRANCH)
        norm.running_var.copy_(inputs[0].square().mean([d for d in range(inputs[0].dim()) if d != 1]).clamp_min(1e-3))

    module = network.module()
    norms = [child for child in module.modules() if isinstance(child, torch.nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(scale) for norm in norms]
    shape = (8, network.card.preprocessing.channels, *network.card.preprocessing.size)
    with torch.inference_mode():
        module(torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    for hook in hooks:
        hook.remove()


def measure(name: str) -> dict[str, Any]:
    """What holds of one network, in this process."""
    from fovea.models.errors import FoveaError
    from fovea.models.graph.parity import PARITY_TOLERANCE, compare

    found: dict[str, Any] = {"network": name}
    started = time.perf_counter()
    try:
        network = small(name)
        card = network.card
        calibrate(network)
        found |= {"card": time.perf_counter() - started, "input": card.preprocessing.size[0]}
        found |= {"layers": len(card.layers), "unitless": sum(layer.axes == "none" for layer in card.layers)}
        unseen = sum(layer.axes != "none" and layer.receptive_field is None for layer in card.layers)
        started = time.perf_counter()
        graph = network.graph()
        found["export"] = time.perf_counter() - started
        wrong, judged = [], set()
        for batch in (1, 2, 3):
            gaps = compare(network.module(), graph.path, graph.taps, graph.input, graph.input_shape, name, batch)
            worst = max(gaps, key=lambda tap: gaps[tap].difference)
            if gaps[worst].difference >= found.get("difference", 0):
                found |= {"difference": gaps[worst].difference, "tap": worst}
            wrong += [f"batch {batch} disagrees at {tap}" for tap, gap in gaps.items() if not gap.agrees][:1]
            judged |= {tap for tap, gap in gaps.items() if gap.difference > PARITY_TOLERANCE}
        found["judged"] = len(judged)
        found["kinds"], misreduced = reductions(network)
        wrong += misreduced
        wrong += [f"{unseen} layers without a receptive field"] * bool(unseen)
        found["fails"] = "; ".join(wrong)
    except FoveaError as error:
        found["fails"] = str(error).replace("small", name, 1)
    except (MemoryError, RuntimeError) as error:
        found["fails"] = f"{type(error).__name__}: {(str(error).splitlines() or ['out of memory'])[0][:160]}"
    return found


def reductions(network: Network) -> tuple[int, list[str]]:
    """One layer of each kind, cut off on its own and reduced in the graph: how many, and which come out wrong."""
    import torch

    from fovea.models import torch_net

    layers = list({layer.kind: layer for layer in network.card.layers if layer.axes != "none"}.values())
    shape = (2, network.card.preprocessing.channels, *network.card.preprocessing.size)
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        taps = torch_net.forward_taps(network.module(), x, [layer.name for layer in layers])
    return len(layers), [
        f"reduced wrongly at {layer.name}"
        for layer in layers
        if not reduced_right(network, layer, x.numpy(), taps[layer.name].numpy())
    ]


def reduced_right(network: Network, layer: Any, x: Any, values: Any) -> bool:
    """Whether a layer's maximum, its place and its mean, reduced in the graph, are those of its map there, and that map
    is on average torch's `values`."""
    import numpy as np

    from fovea.engine.look.probing import reducers
    from fovea.models.graph.sessions import Session

    graph = network.graph()
    editor = reducers.Editor(graph.cut([layer.name]))
    maps = reducers.as_maps(editor, graph.taps[layer.name], layer)
    best = reducers.spatial_maximum(editor, maps, layer)
    editor.answer(best.score, "score")
    editor.answer(best.row, "row", "int64")
    editor.answer(best.column, "column", "int64")
    editor.answer(reducers.spatial_mean(editor, maps), "mean")
    editor.answer(maps, "maps")
    score, row, column, mean, found = Session(editor.build(), "cpu").run({graph.input: x})
    if layer.axes == "tokens":
        values = values[:, layer.extra_tokens :].transpose(0, 2, 1)
    elif layer.axes == "NHWC":
        values = values.transpose(0, 3, 1, 2)
    flat, wanted = found.reshape(len(found), layer.units, -1), values.reshape(len(values), layer.units, -1)
    at = np.take_along_axis(flat, (row * layer.grid[1] + column)[..., None], 2)[..., 0]
    allowed = REDUCED * max(float(np.abs(flat).max()), 1e-30)
    # How near single values are to torch's is what parity says; here the places and axes of most must be right.
    pairs = ((score, flat.max(2)), (at, flat.max(2)), (mean, flat.mean(2)), (np.abs(flat - wanted).mean(2), 0.0))
    return all(float(np.abs(ours - theirs).max()) <= allowed for ours, theirs in pairs)


def alone(name: str, memory: float) -> dict[str, Any]:
    """`measure` in a process of its own with a home of its own, which ends where its memory does."""
    with tempfile.TemporaryDirectory() as home:
        code = (
            "import json, os, sys\n"
            f"os.environ['FOVEA_HOME'] = {home!r}\n"
            f"bound = int({memory} * 1e9)\n"
            "try:\n"
            "    import resource\n"
            "    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))\n"
            "except ImportError:\n"
            "    pass\n"
            "from benchmarks.parity import measure\n"
            f"print(json.dumps(measure({name!r})))"
        )
        try:
            ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
            return dict(json.loads(ran.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            return {"network": name, "fails": f"not done after {SECONDS} s"}
        except (IndexError, ValueError):
            said = (ran.stderr.strip().splitlines() or [""])[-1][:160]
            return {"network": name, "fails": f"its process ended with {ran.returncode} (bound {memory:g} GB): {said}"}


def line(found: dict[str, Any]) -> list[str]:
    """One row of the table."""
    gap = f"{found['difference']:.1e} at {found['tap']}" if "difference" in found else ""
    gap += f" ({found['judged']} layers by float64)" if found.get("judged") else ""
    times = [f"{found[key]:.1f}" if key in found else "" for key in ("card", "export")]
    facts = [str(found.get(key, "")) for key in ("network", "input", "layers", "unitless", "kinds")]
    return [*facts, *times, gap, found["fails"]]


def tell(text: str) -> None:
    """To stderr, beside the table."""
    print(text, file=sys.stderr, flush=True)


def expect(left: list[str], known: dict[str, dict[str, Any]]) -> str:
    """How long the networks that are left will take, at the pace of those that were measured."""
    if not left:
        return ""
    seconds = [row["seconds"] for row in known.values()] or [USUAL_SECONDS]
    minutes = sum(seconds) / len(seconds) * len(left) / 60
    return f"; {len(left)} to go, some {minutes:.0f} minutes (stop it at will: it goes on where it stopped)"


def main() -> int:
    """Print the table; 1 if something does not hold that is not refused for its size."""
    import onnxruntime

    from fovea.models.network import EXPORT_VERSION
    from fovea.models.weights import TORCHVISION_WEIGHTS
    from fovea.models.zoo import CARD_VERSION

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="torchvision's names (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--memory", type=float, default=12.0, help="bound on each process, GB")
    arguments = parser.parse_args()
    names = arguments.names or (QUICK if arguments.quick else list(TORCHVISION_WEIGHTS))
    versions = [onnxruntime.__version__, *map(importlib.metadata.version, ("torch", "torchvision"))]
    versions += [CARD_VERSION, EXPORT_VERSION]
    kept = use_own_home() / "parity.jsonl"
    known: dict[str, dict[str, Any]] = {}
    if kept.is_file() and not arguments.again:
        rows = map(json.loads, kept.read_text().splitlines())
        known = {row["network"]: row for row in rows if row["versions"] == versions}
    left = [name for name in names if name not in known]
    tell(f"{len(names) - len(left)} of {len(names)} networks were measured before{expect(left, known)}")
    while left:
        name = left.pop(0)
        started = time.perf_counter()
        known[name] = alone(name, arguments.memory) | {"versions": versions, "seconds": time.perf_counter() - started}
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[name]) + "\n")
        tell(f"{name}: {known[name]['fails'] or 'holds'}, {known[name]['seconds']:.0f} s{expect(left, known)}")
    print(machine())
    print(table(HEADER, [line(known[name]) for name in names]))
    return int(any(known[name]["fails"] and "end at 2 GB" not in known[name]["fails"] for name in names))


if __name__ == "__main__":
    raise SystemExit(main())
