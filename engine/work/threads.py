"""Threads that end with their process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def in_thread(target: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """Call a function in a thread of its own, under its name, which does not keep the process alive."""
    thread = threading.Thread(target=target, args=arguments, daemon=True, name=target.__name__)
    thread.start()
    return thread
