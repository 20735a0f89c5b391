"""The queue between the server and its workers: a function of this package and its arguments, kept in a file.

It knows nothing of what the functions do. What was queued by another version of Fovea and is not understood is left
out; a worker that starts queues again whatever still waits.
"""

from __future__ import annotations

import functools
import importlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fovea.engine.errors import StoreError
from fovea.engine.work.threads import in_thread
from fovea.models.home import home

Queue = Literal["interactive", "cards", "long"]
"""One for each lane, and one for networks' cards, which the long lane's worker reads beside its runs."""

USER, BACKGROUND = 1_000_000, 0
"""Priorities in the queue: what somebody waits for (less the turn of a run), and first-start runs."""


def is_immediate() -> bool:
    """Whether work is done at once in this process, as tests of pages want it.

    FOVEA_IMMEDIATE=1: before `enqueue` returns; FOVEA_IMMEDIATE=thread: in a thread of its own.
    """
    return os.environ.get("FOVEA_IMMEDIATE", "") not in ("", "0")


def enqueue(queue: Queue, function: Callable[..., None], *arguments: Any, priority: int = USER) -> None:
    """Have a worker call a function that stands at the top level of its module. Raises StoreError."""
    huey, call = _huey(home(), queue, is_immediate())
    task = call.s(f"{function.__module__}:{function.__qualname__}", *arguments)
    task.priority = priority
    if os.environ.get("FOVEA_IMMEDIATE") == "thread":
        in_thread(huey.enqueue, task)
        return
    try:
        huey.enqueue(task)
    except sqlite3.Error as error:
        raise StoreError(f"the queue {_file(home())} cannot be used: {error}") from None


def waiting(queue: Queue) -> list[tuple[Any, ...]]:
    """The arguments of what waits in a queue, in its order."""
    huey, _ = _huey(home(), queue, False)
    return [tuple(task.args[1:]) for task in huey.pending()]


def consumer(queue: Queue) -> Any:
    """Who takes what is queued and calls it, one after the other; `start` begins."""
    from huey.consumer import Consumer

    class QuietConsumer(Consumer):  # type: ignore[misc]
        """The process's own signals stay: a worker has two consumers and one way to stop."""

        def _set_signal_handlers(self) -> None:
            return

    huey, _ = _huey(home(), queue, False)
    return QuietConsumer(huey, workers=1, periodic=False, initial_delay=0.05, max_delay=0.1, backoff=1)


@functools.cache
def _huey(root: Path, queue: Queue, immediate: bool) -> tuple[Any, Any]:
    """The queue's huey, in the home `root`, and its one task."""
    from huey import SqliteHuey

    huey = SqliteHuey(name=f"fovea.{queue}", filename=str(_file(root)), results=False, immediate=immediate, timeout=30)
    return huey, huey.task(name="call")(_call)


def _file(root: Path) -> Path:
    return root / "queue.sqlite"


def _call(path: str, *arguments: Any) -> None:
    """Call the function of this package that `path`, module:name, tells."""
    module, _, name = path.partition(":")
    getattr(importlib.import_module(module), name)(*arguments)
