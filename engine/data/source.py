"""Where a data set can come from: each kind of source is one file of the folder `sources`, found by itself."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fovea.engine.data.dataset import Dataset


@dataclass(frozen=True)
class Source:
    """One kind of source; a file of `sources` ends in `SOURCE = Source(…)`.

    `title` is what people call it ("a folder of images"). `takes(path)` tells whether a path that exists is one;
    `open(path, name)` gives its data set, named by the last part of the path where `name` is "".
    """

    title: str
    takes: Callable[[Path], bool]
    open: Callable[[Path, str], Dataset]


@functools.cache
def sources() -> list[Source]:
    """Every kind of source, in the order of the files' names."""
    folder = importlib.import_module("fovea.engine.data.sources")
    modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return [importlib.import_module(f"{folder.__name__}.{name}").SOURCE for name in modules]
