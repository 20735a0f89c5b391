"""A user's own Python, loaded in a module table of its own: the class, function or module that a registration names.

Users' code lives in packages called `models`, `engine` or `utils`, as others' and ours does. Its modules bear private
names below one made-up package for each file that is registered, and only the imports written in it see its folders: at
the top of a file, relative, late in a function, and in any thread. `sys.path` and all other modules stay as they were.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib
import importlib.util
import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fovea.models.errors import NetworkError, unknown
from fovea.models.home import stamp
from fovea.models.user_files import Layout, code_file, is_ours, relative_depth

if TYPE_CHECKING:
    from torch import nn

_PRIVATE = "_fovea_user_"
_import = builtins.__import__


@dataclass(frozen=True)
class UserCode:
    """What a registration names. `kind`: what the name stands for; what a function or a module gives is used as it is.

    `make(**arguments)` returns a torch module of the caller's own.
    """

    make: Callable[..., nn.Module]
    kind: Literal["class", "function", "module"]


def user_code(architecture: str, anew: int = 0) -> UserCode:
    """What a user's `/path/net.py:Net` or `package.module:callable` names.

    `anew`: run the file once more with this seed of random numbers, in a table of its own, which then nobody else sees.
    Raises NetworkError, one line.
    """
    from torch import nn

    # The user's file may import torchvision, which beside a CPU-only torch needs its operators declared first.
    importlib.import_module("fovea.models.torchvision_compat")
    place, _, attribute = architecture.rpartition(":")
    file = code_file(architecture)
    project = None
    try:
        if file is not None:
            project = open_project(file, anew)
            module = project.main()
        else:
            if is_ours(place.partition(".")[0]):
                raise ModuleNotFoundError(f"No module named {place!r}")
            module = importlib.import_module(place)
    except NetworkError:
        raise
    except SystemExit as error:
        raise NetworkError(
            f"{place} cannot be imported, because it ends the program when it is ({error.code}): keep what a script "
            'does below if __name__ == "__main__"'
        ) from None
    except Exception as error:
        text = project.plain(str(error)) if project else str(error)
        line = (text.splitlines() or [""])[0]
        raise NetworkError(f"{place} cannot be imported: {type(error).__name__}: {line}") from error
    if not hasattr(module, attribute):
        raise unknown("callable", attribute, [n for n in vars(module) if not n.startswith("_")], place)
    named = getattr(module, attribute)

    def make(**arguments: Any) -> nn.Module:
        with project.paths() if project else contextlib.nullcontext():
            return _module_of(named, arguments, architecture)

    if isinstance(named, nn.Module):
        return UserCode(make, "module")
    if not callable(named):
        raise NetworkError(
            f"{architecture} is an object of type {type(named).__name__}: it must be a class, a function or a "
            "torch.nn.Module"
        )
    return UserCode(make, "class" if isinstance(named, type) else "function")


def _module_of(named: Any, arguments: dict[str, Any], architecture: str) -> nn.Module:
    """The torch module that a class, a function or a module stands for, wrappers for training taken off."""
    from torch import nn

    from fovea.models.opaque import copied, plain_module

    if isinstance(named, nn.Module):
        if arguments:
            raise NetworkError(f"{architecture} is a module already: it takes no arguments ({', '.join(arguments)})")
        result: Any = copied(named)
    else:
        result = named(**arguments)
    module = plain_module(result)
    if module is None:
        raise NetworkError(
            f"{architecture} returned an object of type {type(result).__name__}: it must return a torch.nn.Module"
        )
    return module


# --- projects ------------------------------------------------------------------------------------------------


class Project:
    """A user's file and what it imports from its own folders, as modules of private names."""

    def __init__(self, layout: Layout, tag: str) -> None:
        self.layout = layout
        self.name = f"{_PRIVATE}{tag}"
        self._started = list(sys.path)
        self.read: dict[Path, Any] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}
        root = ModuleType(self.name)
        root.__path__ = layout.roots
        sys.modules[self.name] = root
        _projects[self.name] = self

    def main(self) -> ModuleType:
        """The file itself, run. A package whose own `__init__` fails does not keep its file from being loaded alone."""
        parents = [".".join((self.name, *self.layout.parts[:n])) for n in range(1, len(self.layout.parts) + 1)]
        full = ".".join((self.name, *self.layout.parts, *self.layout.stem))
        with self.paths():
            for parent in parents:
                importlib.import_module(parent)
            if full in sys.modules:
                return sys.modules[full]
            return self._run(full, self.layout.file) if self.layout.stem else sys.modules[parents[-1]]

    def _run(self, full: str, path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(full, path, loader=_Loader(full, str(path)))
        if spec is None or spec.loader is None:
            raise NetworkError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(full, None)
            raise
        return module

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """What `importlib.import_module` gives to the user's code."""
        if not name.startswith(".") and self.owns(name):
            name = f"{self.name}.{name}"
        self._demand_not_ours(name)
        return importlib.import_module(name, package)

    @staticmethod
    def _demand_not_ours(name: str) -> None:
        if is_ours(name.partition(".")[0]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def owns(self, name: str) -> bool:
        """Whether an absolute name means a module of the user's folders."""
        top = name.partition(".")[0]
        if top.startswith(_PRIVATE):
            return False
        return f"{self.name}.{top}" in sys.modules or self.layout.owner(top, self._added()) is not None

    def _added(self) -> list[str]:
        """The folders that the user's code put on `sys.path`."""
        return [path for path in sys.path if path not in self._started]

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """The `__import__` of the user's modules."""
        if level or name.startswith(_PRIVATE):
            return _import(name, globals, locals, fromlist, level)
        top = name.partition(".")[0]
        if self.owns(top):
            full = f"{self.name}.{name}"
            if fromlist:
                return _import(full, globals, locals, fromlist, 0)
            importlib.import_module(full)
            return sys.modules[f"{self.name}.{top}"]
        self._demand_not_ours(name)
        module = _import(name, globals, locals, fromlist, 0)
        if top == "importlib" and module is importlib:
            module = ModuleType("importlib")
            vars(module).update({**vars(importlib), "import_module": self.import_module})
        return module

    @contextlib.contextmanager
    def paths(self) -> Iterator[None]:
        """Folders that the user's code puts on `sys.path` meanwhile are its own afterwards, and off `sys.path`."""
        before = list(sys.path)
        try:
            yield
        finally:
            for path in [path for path in sys.path if path not in before]:
                sys.path.remove(path)
                if path not in self.layout.roots:
                    self.layout.roots.append(path)

    def plain(self, text: str) -> str:
        """A message without the private names."""
        return text.replace(f"{self.name}.", "").replace(self.name, self.layout.file.stem)

    def changed(self) -> bool:
        """Whether a file was changed since it was loaded."""
        return any(stamp(path) != mark for path, mark in list(self.read.items()))

    def forget(self) -> None:
        """Take its modules out of the table."""
        _projects.pop(self.name, None)
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            del sys.modules[name]


class _Loader(SourceFileLoader):
    """Runs a user's file with the imports of its project; no bytecode is read or left beside it, which may be stale."""

    def exec_module(self, module: ModuleType) -> None:
        project = _projects[module.__name__.partition(".")[0]]
        vars(module)["__builtins__"] = project.builtins
        project.read[Path(self.path)] = stamp(Path(self.path))
        super().exec_module(module)

    def path_stats(self, path: Any) -> Any:
        raise OSError(f"the bytecode of {path} is not kept")


class _Finder(MetaPathFinder):
    """Finds the modules of private names."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(_PRIVATE) or path is None:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, str(spec.origin))
            spec.cached = None
        return spec


sys.meta_path.insert(0, _Finder())

_projects: dict[str, Project] = {}
_opened: dict[Path, Project] = {}
_lock = threading.RLock()
_count = itertools.count()


def open_project(file: Path, anew: int = 0) -> Project:
    """The project of a user's file, its modules loaded; anew where one of its files changed. Raises what they raise.

    `anew`: loaded once more, with this seed.
    """
    if not file.is_file():
        raise NetworkError(f"there is no Python file at {file}")
    with _lock:
        known = _opened.get(file)
        if known is not None and not anew and not known.changed():
            return known
        importlib.invalidate_caches()
        with seeded(anew):
            project = _load(file)
        if not anew:
            # Networks that are in use still need the modules of the one before.
            _opened[file] = project
        return project


def _load(file: Path) -> Project:
    tag = hashlib.sha256(f"{file}:{stamp(file)}".encode()).hexdigest()[:16]
    layout = Layout.of(file, relative_depth(file) if file.suffix == ".py" else 0)
    try:
        return _loaded(layout, f"{tag}_{next(_count)}")
    except Exception as error:
        if not layout.parts or not layout.stem:
            raise
        try:
            return _loaded(Layout.of(file, 0, alone=True), f"{tag}_{next(_count)}")
        except Exception:
            raise error from None


def _loaded(layout: Layout, tag: str) -> Project:
    project = Project(layout, tag)
    try:
        if layout.file.suffix == ".py":
            project.main()
    except Exception as error:
        project.forget()
        if error.args and isinstance(error.args[0], str):
            error.args = (project.plain(error.args[0]), *error.args[1:])
        raise
    except BaseException:
        project.forget()
        raise
    return project


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of Python, NumPy and torch set to `seed`, and afterwards as they were."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
