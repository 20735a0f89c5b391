"""Running out of memory halves the batch; any other error is raised as it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fovea.models.memory import run_halving


def test_halving_on_out_of_memory() -> None:
    sizes: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
        return [i * 2 for i in items]

    results = list(run_halving(run, range(10), 8))
    assert [v for values, _ in results for v in values] == [i * 2 for i in range(10)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2]

    def never(items: Sequence[int]) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(run_halving(never, range(4), 4))
    with pytest.raises(ZeroDivisionError):
        list(run_halving(lambda items: 1 / 0, range(4), 4))
