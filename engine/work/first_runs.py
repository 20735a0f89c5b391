"""The library of a new home: one small run of each method on the bundled network, computed in the background."""

from __future__ import annotations

import contextlib
from typing import Any

from fovea.engine import method as registry
from fovea.engine.errors import FoveaError
from fovea.engine.method import Method
from fovea.engine.options import Options, declared
from fovea.engine.run.estimate import estimate_seconds
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import new_record, resolve
from fovea.engine.store import Store
from fovea.engine.work.queue import BACKGROUND, enqueue
from fovea.engine.work.runs import execute_queued
from fovea.models.home import home

BUNDLED = "fovea"
FIRST_SECONDS = 60.0
"""A first run that would take longer gets fewer steps."""

FEWEST_STEPS = 32


def seed_library() -> None:
    """On the very first start, queue one run of each method on the bundled network, in the background."""
    if not (home() / "seeded").exists():
        (home() / "seeded").touch()
        enqueue("long", queue_first_runs, priority=BACKGROUND)


def queue_first_runs() -> None:
    """Queue one first run of each method; without the bundled network, leave it to the next start."""
    from fovea.models.zoo import load

    try:
        load(BUNDLED)
    except Exception:
        (home() / "seeded").unlink(missing_ok=True)
        return
    for name in registry.methods():
        enqueue("long", compute_first_run, name, priority=BACKGROUND)


def compute_first_run(name: str) -> None:
    """Compute a method's first run with its defaults, made small; keep nothing that does not work."""
    store = Store()
    if store.list(method=name, status="done", limit=1):
        return
    with contextlib.suppress(FoveaError):
        method = registry.methods()[name]
        image = _photo() if method.takes_photo else None
        resolved = resolve(Request(method=name, network=BUNDLED, image=image))
        fewer = fewer_steps(store, method, resolved.options)
        request = resolved.request.model_copy(update={"options": fewer.model_dump(exclude_unset=True)})
        run_id = store.submit(new_record(request, "long"))
        execute_queued(run_id)
        if store.run(run_id).record.status == "failed":
            store.delete(run_id)


def _photo() -> str:
    from fovea.engine.data.samples import SAMPLES

    return f"sample:{'motorcycle' if 'motorcycle' in SAMPLES else next(iter(SAMPLES))}"


def fewer_steps(store: Store, method: Method[Any, Any], options: Options) -> Options:
    """The same options with fewer steps, if the method would take long; only options counted in steps change."""
    seconds = estimate_seconds(store, method.name, BUNDLED, options)
    if seconds is None or seconds <= FIRST_SECONDS:
        return options
    changed = {}
    for name, info in method.options.model_fields.items():
        value = getattr(options, name)
        if declared(info).unit == "steps" and isinstance(value, int) and value > FEWEST_STEPS:
            changed[name] = max(int(value * FIRST_SECONDS / seconds), FEWEST_STEPS)
    fewer: Options = method.options.parse(changed)
    return fewer
