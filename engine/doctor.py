"""Which versions, devices and ONNX Runtime providers really work on this machine, found by running a little on each."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from typing import Any

from fovea.engine.run.machine import versions
from fovea.engine.store import Store
from fovea.models.home import home


def diagnose() -> dict[str, Any]:
    """Versions, devices, providers, home and workers, as JSON can hold them."""
    return {
        "versions": versions() | {"system": f"{platform.system()} {platform.release()} {platform.machine()}"},
        "devices": _devices(),
        "providers": _providers(),
        "home": _home(),
        "workers": _workers(),
    }


def _devices() -> list[dict[str, Any]]:
    """Each torch device, whether a small matrix product runs on it, and how many threads or how much memory it has."""
    try:
        import torch
    except Exception as error:
        return [{"device": "cpu", "works": False, "note": f"torch cannot be imported: {_line(error)}"}]
    found = []
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names = ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]
    for name in names:
        try:
            square = torch.ones(8, 8, device=name) @ torch.ones(8, 8, device=name)
            works, note = bool((square == 8).all()), ""
        except Exception as error:
            works, note = False, _line(error)
        if works and name == "cpu":
            note = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
        elif works and name in cards:
            facts = torch.cuda.get_device_properties(name)
            note = f"{facts.name}, {facts.total_memory / 2**30:.0f} GB"
        found.append({"device": name, "works": works, "note": note})
    if not cards:
        built = "this torch is built for the CPU alone" if torch.version.cuda is None else "torch finds no CUDA device"
        found.append({"device": "cuda", "works": False, "note": built})
    return found


def _providers() -> list[dict[str, Any]]:
    from fovea.models.graph.sessions import check_providers

    try:
        return [dict(one) for one in check_providers()]
    except Exception as error:
        return [{"name": "cpu", "works": False, "reason": _line(error)}]


def _home() -> dict[str, Any]:
    usage = shutil.disk_usage(home())
    store = Store()
    return {
        "folder": str(home()),
        "runs": store.count(),
        "writable": os.access(home(), os.W_OK),
        "free_gb": round(usage.free / 2**30, 1),
    }


def _workers() -> list[dict[str, Any]]:
    """What the workers of this home last said of themselves."""
    from fovea.engine.store.lock import Lock
    from fovea.engine.work.lanes import LANES

    found = []
    for lane in LANES:
        folder = home() / "workers"
        alive = Lock(folder / f"{lane}.lock").held_elsewhere()
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((folder / f"{lane}.json").read_text(encoding="utf-8"))
        age = round(time.time() - float(state["at"]), 1) if alive and "at" in state else None
        found.append(
            {"lane": lane, "alive": alive, "pid": state.get("pid") if alive else None, "heard_seconds_ago": age}
        )
    return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def report(found: dict[str, Any]) -> str:
    """The same for people: one fact a line."""
    return "\n".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield "versions"
    for name, version in found["versions"].items():
        yield f"  {name:<16} {version}"
    yield "devices (torch)"
    for one in found["devices"]:
        yield f"  {one['device']:<16} {_mark(one['works'])} {one['note']}".rstrip()
    yield "providers (ONNX Runtime)"
    for one in found["providers"]:
        yield f"  {one['name']:<16} {_mark(one['works'])} {one['reason']}".rstrip()
    where = found["home"]
    yield "home"
    yield f"  {where['folder']}: {where['runs']} runs, {where['free_gb']} GB free" + (
        "" if where["writable"] else ", NOT WRITABLE"
    )
    yield "workers"
    for one in found["workers"]:
        yield f"  {one['lane']:<16} " + (f"alive, pid {one['pid']}" if one["alive"] else "not running")


def _mark(works: bool) -> str:
    return "works     " if works else "no        "
