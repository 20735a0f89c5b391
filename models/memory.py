"""Running out of memory, whoever ran out: how it is recognised, and what is tried then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MEMORY_SIGNS = (
    "out of memory",
    "out_of_memory",
    "failed to allocate",
    "could not allocate",
    "bad_alloc",
    "bad alloc",
    "allocate memory",
    "bfcarena",
    "cudnn_status_alloc_failed",
    "defaultcpuallocator",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, ONNX Runtime, CUDA or Python ran out of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY_SIGNS)


def run_halving(run: Callable[[Sequence[T]], R], items: Sequence[T], batch: int) -> Iterator[tuple[R, int]]:
    """`run` on `items`, `batch` of them at a time; where memory runs out, half as many, and so on from there.

    Yields each result and the batch size it was made with. Raises what `run` raised when one item is too many.
    """
    start = 0
    while start < len(items):
        part = items[start : start + batch]
        try:
            result = run(part)
        except Exception as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
            batch = max(1, len(part) // 2)
            continue
        yield result, len(part)
        start += len(part)
