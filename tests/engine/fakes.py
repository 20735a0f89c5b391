"""Methods and a network small enough to see through, for tests of what surrounds methods.

Also a worker process that knows them: `python tests/engine/fakes.py --lane interactive --supervised`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fovea.engine import method as registry
from fovea.engine.errors import OptionsError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, LayerKind, Options, PhotoKind, option
from fovea.engine.panels import ImagePanel
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request, RunRecord
from fovea.engine.store import Store
from fovea.models.card import Card, Layer, Preprocessing


class CountOptions(Options):
    steps: int = option(5, "How many steps.", unit="steps", ge=1, le=10_000)
    wait: float = option(0.0, "Seconds a step takes.", unit="s", ge=0, advanced=True)
    colour: Literal["red", "green"] = option("red", "The colour of the picture.")
    loud: bool = option(False, "Whether it says so.")
    target: str | None = option(None, "The class.", kind=ClassKind())
    layer: str = option("", "The layer.", kind=LayerKind())
    second: str = option("", "Another photo.", kind=PhotoKind())


def count(job: Job) -> Result:
    """One step after another, each kept in a checkpoint, so that a second run goes on where the first ended."""
    options: CountOptions = job.options
    assert job.checkpoints is not None
    mark = job.checkpoints / "step.txt"
    begun = int(mark.read_text()) if mark.exists() else 0
    preview = np.zeros((8, 8, 3), np.uint8)
    for step in range(begun, options.steps):
        job.progress(step / options.steps, f"step {step + 1}", preview, {"loss": 1.0 / (step + 1)})
        time.sleep(options.wait)
        mark.write_text(str(step + 1))
    if options.loud:
        job.warn("it was loud")
    job.record(provider="cpu", precision="fp32")
    picture = np.full((20, 30, 3), (255, 0, 0) if options.colour == "red" else (0, 255, 0), np.uint8)
    return Result(
        arrays={"values": np.arange(options.steps, dtype=np.float32)},
        tables={"losses": pd.DataFrame({"step": range(options.steps), "loss": np.ones(options.steps)})},
        images={"count": picture},
        panels=[ImagePanel(title="The picture", image="count")],
        summary={"steps": options.steps, "begun": begun, "mean": np.float32(0.5), "nothing": float("nan")},
    )


def ignore_cancel(job: Job) -> Result:
    """Runs on for as long as it is let, and never looks up."""
    job.progress(0.1, "deaf")
    time.sleep(job.options.wait)
    return Result()


def fail(job: Job) -> Result:
    raise OptionsError("this never works: choose another")


def crash(job: Job) -> Result:
    raise ValueError("two\nlines")


def _method(name: str, function: Any, **more: Any) -> Method:
    return Method(
        name=name,
        title=name.title(),
        verb="look",
        family="Fakes",
        question=f"What does {name} do?",
        summary="It is for tests.",
        options=CountOptions,
        compute=function,
        report=lambda job, result: result,
        work=lambda card, options, images: options.steps,
        **{"photo": False, **more},
    )


METHODS = {
    method.name: method
    for method in (
        _method("count", count),
        _method("watch", count, photo=True),
        _method("deaf", ignore_cancel),
        _method("fail", fail),
        _method("crash", crash),
        _method("lengthy", count, long=True),
    )
}

CARD = Card(
    name="fake",
    title="Fake",
    architecture="fake",
    preprocessing=Preprocessing(size=(16, 16), resize=16),
    classes=("cat", "dog"),
    layers=(Layer(name="conv", kind="Conv2d", shape=(2, 4, 4), axes="NCHW", units=2, grid=(4, 4)),),
    parameters=10,
    sha256="ab" * 32,
    weights="fake",
)


class FakeNetwork:
    name = "fake"
    card = CARD


def install(patch: Any, card: Card = CARD) -> None:
    """Replace registry and zoo; `patch(module, name, value)` is monkeypatch.setattr or setattr."""
    import fovea.models.zoo

    network = FakeNetwork()
    network.card = card
    patch(registry, "methods", lambda: METHODS)
    patch(fovea.models.zoo, "load", lambda name: network)
    patch(fovea.models.zoo, "cached_card", lambda name: card)


def request(method: str = "count", **more: Any) -> Request:
    """A request on the fake network, on the CPU."""
    return Request(**{"method": method, "network": "fake", "device": "cpu", **more})


def make(store: Store, **more: Any) -> RunRecord:
    """The record of such a request's run, executed here."""
    return execute(request(**more), store)


PATIENCE = 90.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Poll until it holds; a machine under load may take its time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def status(store: Store, run_id: str) -> str:
    """How a run stands now."""
    store.live(run_id)
    return store.row(run_id).status


if __name__ == "__main__":
    install(setattr)
    from fovea.engine.work import worker

    worker.CANCEL_SECONDS = 0.5
    worker.warm_up = lambda: None  # these methods need no torch
    worker.work(sys.argv[sys.argv.index("--lane") + 1], "--supervised" in sys.argv)  # type: ignore[arg-type]
