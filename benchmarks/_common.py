"""What the benchmarks share: the machine in words, fair timing, networks with random weights."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fovea.models.network import Network

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
"""Real weights and photos, beside a development checkout."""


def use_own_home() -> Path:
    """A home for benchmarks alone, kept between them so that networks are exported once."""
    home = Path(os.environ.get("FOVEA_BENCHMARK_HOME") or Path(tempfile.gettempdir()) / "fovea-benchmarks")
    home.mkdir(parents=True, exist_ok=True)
    os.environ["FOVEA_HOME"] = str(home)
    return home


def parser(about: str | None, quick: str) -> argparse.ArgumentParser:
    """A benchmark's own parser: its docstring as the help, and `--quick` with what that leaves."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--quick", action="store_true", help=quick)
    return found


def add_device(found: argparse.ArgumentParser) -> None:
    """`--device cpu|cuda`, for all contenders alike."""
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where torch computes, for all alike")


def settle() -> None:
    """Wait until a GPU has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine(device: str = "cpu") -> str:
    """Processor or graphics card, cores, load and the versions that count, on one line."""
    import onnxruntime
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, {name}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    return f"{name}, {cores} cores{load}; {versions}; {datetime.now(UTC):%Y-%m-%d}"


def random_network(name: str) -> Network:
    """torchvision's network of that name with random weights, or `fovea`; only its speed is of interest."""
    from fovea.models.zoo import load

    return load(name if name == "fovea" else f"torchvision:{name}@random")


def interleaved(
    runs: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each run, `repeats` times in turn, after one turn to warm up.

    In turn, so that what else the machine does meets all of them alike. `clock` tells the seconds: on a busy machine
    `time.process_time`, of one thread, counts those that this process computed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            started = clock()
            run()
            settle()
            if turn:
                seconds[name].append(clock() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times as long `slow` took as `fast`: the median of the ratios turn by turn."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
