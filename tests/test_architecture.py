"""The house keeps its walls: imports run one way and without circles, files are short, listing loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "onnxruntime", "timm", "faiss", "ray")
ROOMS = {"models": 0, "engine": 1, "pages": 2}
SOURCES = [*sorted(p for room in (*ROOMS, "fovea") for p in (ROOT / room).rglob("*.py")), ROOT / "app.py"]
LONG, LONGEST = 500, 650
"""A file of more than LONG lines says at its top why; none has more than LONGEST."""


def name_of(path: Path) -> str:
    """The full name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "fovea" else ("fovea", *parts))


MODULES = {name_of(path): path for path in SOURCES}


def imported(path: Path, *, top_level: bool = False, types: bool = False) -> set[str]:
    """The full names of what a file imports; with `top_level` only outside of functions, with `types` for types too."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else str(node.module))
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            for child in node.orelse:
                visit(child)
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def test_the_test_sees_what_files_import(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import timm\n"
        "def f():\n    import torch.nn\n    from fovea.engine import method\n"
    )
    assert imported(path) == {"typing", "torch.nn", "fovea.engine.method"}
    assert imported(path, top_level=True) == {"typing"}
    assert "timm" in imported(path, types=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    rank = ROOMS.get(parts[0], 3)
    for name in imported(path, types=True):
        head, _, rest = name.partition(".")
        assert head not in ("app", *ROOMS, "tests", "benchmarks"), f"{path} imports {name}: ours are called fovea.…"
        if head == "fovea":
            room = rest.split(".")[0]
            assert ROOMS.get(room, -1) <= rank, f"{path} imports {name}: imports run pages -> engine -> models"
            assert room != "api" or parts[0] == "fovea", f"{path} imports {name}, which is for users"
        if head == "streamlit" or head.startswith("streamlit_"):
            assert parts[0] in ("pages", "app.py"), f"{path} imports streamlit"
        if head == "plotly":
            assert parts[:2] in (("engine", "panels"), ("engine", "report")), f"{path} imports plotly"


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert circles(edges) == [["a", "b", "c"]]


def test_imports_have_no_circles() -> None:
    """Lazy imports counted; those for types alone are none."""
    edges = {name: imported(path) & set(MODULES) - {name} for name, path in MODULES.items()}
    assert circles(edges) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_can_be_held_in_the_head(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST, f"{path} has {lines} lines"
    if path.name != "__init__.py" or lines:
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring, f"{path} does not say what it is for"
        assert lines <= LONG or "long because" in docstring, f"{path} has {lines} lines and does not say why"


@pytest.mark.parametrize("path", sorted((ROOT / "pages").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_load_nothing_heavy(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path, types=True)} & set(HEAVY)


def method_files() -> list[Path]:
    from fovea.engine.method import VERBS

    return [path for verb in VERBS for path in sorted((ROOT / "engine" / verb).glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("path", method_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_at_the_top_of_a_verb_is_a_method(path: Path) -> None:
    """Shared parts lie in named folders; a method's file imports nothing heavy by itself."""
    names = {
        node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    }
    assert {"compute", "report"} <= names, f"{path} has no compute and report"
    assert not {name.split(".")[0] for name in imported(path, top_level=True)} & set(HEAVY)


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "what",
    [
        "fovea",
        "fovea.api",
        "fovea.engine.method; fovea.engine.method.methods()",
        "fovea.models.zoo; fovea.models.zoo.known_networks()",
        "fovea.engine.cli.main",
    ],
)
def test_listing_loads_nothing_heavy(what: str) -> None:
    found = fresh(f"import sys, {what}; print([m for m in {(*HEAVY, 'plotly', 'streamlit')!r} if m in sys.modules])")
    assert found.strip() == "[]"


def test_no_page_bears_the_name_of_a_module() -> None:
    """During a page Streamlit puts `pages/` first on sys.path, so such a file would hide that module."""
    for path in (ROOT / "pages").iterdir():
        name = path.stem
        if name.startswith(("_", ".")) or (path.suffix != ".py" and not path.is_dir()):
            continue
        found = fresh(
            "import importlib.util, sys; sys.path = [p for p in sys.path if p]; "
            f"print(importlib.util.find_spec({name!r}))"
        )
        assert found.strip() == "None", f"pages/{path.name} hides the module {name}"


def test_every_method_declares_itself_in_full() -> None:
    from fovea.engine.method import VERBS, methods
    from fovea.engine.options import declared

    assert methods()
    for name, method in methods().items():
        assert name == method.name
        assert method.verb in VERBS
        assert method.summary.endswith("."), name
        assert method.options(), f"{name}: every option has a default"
        for option, info in method.options.model_fields.items():
            help = info.description
            assert help, f"{name} --{option} has no help"
            assert "\n" not in help
            assert declared(info).kind.name, option
            assert help[0].isupper() or not help[0].isalpha(), (
                f"{name} --{option}: a help begins with a capital: {help}"
            )
            assert help.endswith((".", "?")), f"{name} --{option}: a help is a sentence: {help}"
