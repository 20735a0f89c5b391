"""Where a user's Python lies: the folders that its imports mean, and the files that it consists of. Nothing is run."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fovea.models.entry import resolve
from fovea.models.home import stamp

MOST_FILES = 500
MOST_ABOVE = 4
"""So many folders above a file are looked in for what it imports and nobody has installed."""
_ROOT = Path(__file__).resolve().parents[1]


def code_file(architecture: str) -> Path | None:
    """The file that `/path/net.py:Net` or `/path/package:Net` names; None for what is imported by its module's name."""
    place = architecture.rpartition(":")[0]
    if place.endswith(".py"):
        return resolve(place)
    if "/" in place or "\\" in place:
        inner = resolve(place) / "__init__.py"
        return inner if inner.is_file() else None
    return None


def is_ours(top: str) -> bool:
    """Whether a name that is no user's would lead into our own folders, as it does where Fovea runs from a checkout."""
    if top == "fovea" or top in sys.modules:
        return False
    spec = _found(top, None)
    places = [*(spec.submodule_search_locations or []), spec.origin or ""] if spec is not None else []
    return any(place and Path(place).resolve().parent == _ROOT for place in places)


def _found(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(name, path)
    except (ImportError, ValueError, AttributeError):
        return None


def _installed(top: str) -> bool:
    if top in sys.modules:
        return True
    try:
        return importlib.util.find_spec(top) is not None and not is_ours(top)
    except (ImportError, ValueError, AttributeError):
        return False


@dataclass
class Layout:
    """A file, the packages that it lies in (`parts`), its own name in them, and the folders whose modules it can name.

    `stem` is empty for a package's `__init__.py`. `roots` grows by what is found on the way.
    """

    file: Path
    parts: tuple[str, ...]
    stem: tuple[str, ...]
    roots: list[str]

    @classmethod
    def of(cls, file: Path, depth: int = 0, alone: bool = False) -> Layout:
        """`depth`: the most dots in its relative imports, which tell of packages without an `__init__.py`.

        `alone`: as if it lay in no package.
        """
        parts: list[str] = []
        top = file.parent
        while not alone and top.name.isidentifier() and ((top / "__init__.py").is_file() or len(parts) < depth - 1):
            parts.insert(0, top.name)
            top = top.parent
        stem = () if file.name == "__init__.py" and parts else (re.sub(r"\W", "_", file.stem),)
        roots = list(dict.fromkeys([str(top), str(file.parent)]))
        return cls(file, tuple(parts), stem, roots)

    def owner(self, top: str, added: Iterable[str] = ()) -> str | None:
        """The folder in which the user's module or package `top` lies; None if the name means something else.

        The file's own folder (or the one above its package) comes before what is installed, as for a script; the
        standard library that is in use, and all that is installed, come before folders that are only near.
        """
        if top in sys.builtin_module_names or (top in sys.stdlib_module_names and (top in sys.modules or self.parts)):
            return None
        first = [*self.roots[: 1 if self.parts else None], *added]
        spec = _found(top, first)
        if spec is not None and spec.loader is not None:
            return self._take(spec, first)
        for above in self.file.parent.parents:
            # The file lies in a folder of that name: that is what it means, whoever else is called so.
            if top in self.file.relative_to(above).parts[:-1] and (above / top).is_dir() and above != above.parent:
                return self._add(str(above))
        if _installed(top):
            return None
        near = [str(above) for above in list(self.file.parents)[: MOST_ABOVE + 1] if above != above.parent]
        for folder in dict.fromkeys([*self.roots, *added, *near]):
            if _found(top, [folder]) is not None:
                return self._add(folder)
        return None

    def _take(self, spec: ModuleSpec, folders: Sequence[str]) -> str:
        place = Path((spec.submodule_search_locations or [spec.origin or ""])[0]).parent
        return self._add(next((folder for folder in folders if Path(folder).resolve() == place.resolve()), str(place)))

    def _add(self, folder: str) -> str:
        if folder not in self.roots:
            self.roots.append(folder)
        return folder


# --- which files it consists of ------------------------------------------------------------------------------

_Imports = tuple[tuple[int, str, tuple[str, ...]], ...]
_scanned: dict[Path, tuple[object, _Imports, bool]] = {}


def _imports(file: Path) -> tuple[_Imports, bool]:
    """The imports written in a file (dots, module, names), and whether it also imports by names that it computes."""
    mark = stamp(file)
    known = _scanned.get(file)
    if known is not None and known[0] == mark:
        return known[1], known[2]
    found: list[tuple[int, str, tuple[str, ...]]] = []
    computed = False
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Attribute | ast.Name):
            computed |= (node.attr if isinstance(node, ast.Attribute) else node.id) in ("import_module", "__import__")
    _scanned[file] = mark, tuple(found), computed
    return tuple(found), computed


def relative_depth(file: Path) -> int:
    """The most dots that a relative import of the file begins with."""
    return max((level for level, _, _ in _imports(file)[0]), default=0)


def code_files(architecture: str) -> list[Path]:
    """Every file of the user's that an architecture's code imports, itself included, without running any of it."""
    file = code_file(architecture)
    if file is None or not file.is_file():
        return [file] if file is not None else []
    layout = Layout.of(file, relative_depth(file))
    inner = [Path(layout.roots[0], *layout.parts[:n], "__init__.py") for n in range(1, len(layout.parts) + 1)]
    waiting, files = [file, *(path for path in inner if path.is_file())], dict.fromkeys([file])
    while waiting and len(files) < MOST_FILES:
        current = waiting.pop()
        files[current] = None
        imports, computed = _imports(current)
        near = [path for level, name, names in imports for path in _named(layout, current, level, name, names)]
        if computed:
            near += sorted(current.parent.rglob("*.py"))[:MOST_FILES]
        waiting += [path for path in dict.fromkeys(near) if path not in files]
    return sorted(files)


def _named(layout: Layout, file: Path, level: int, name: str, names: tuple[str, ...]) -> list[Path]:
    """The user's files that one import reads."""
    parts = name.split(".") if name else []
    if level:
        folder = file.parent
        for _ in range(level - 1):
            folder = folder.parent
    else:
        owner = layout.owner(parts[0])
        if owner is None:
            return []
        folder = Path(owner)
    found = []
    for part in parts:
        found += [folder / f"{part}.py", folder / part / "__init__.py"]
        folder = folder / part
    found.append(folder / "__init__.py")
    for part in names:
        found += [folder / f"{part}.py", folder / part / "__init__.py"]
    return [path for path in found if path.is_file()]
