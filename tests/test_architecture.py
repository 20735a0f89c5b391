"""The house keeps its walls: imports run pages -> engine -> models, and listing things loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "onnxruntime", "timm", "faiss")
ROOMS = {"models": 0, "engine": 1, "pages": 2}
SOURCES = [*sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py")), ROOT / "app.py"]


def imported(path: Path, top_level: bool = False) -> set[str]:
    """The full names of modules that a file imports; with `top_level`, only outside of functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    rank = ROOMS.get(parts[0], 3)
    for name in imported(path):
        head = name.split(".")[0]
        assert ROOMS.get(head, -1) <= rank, f"{path} imports {name}: imports run pages -> engine -> models"
        if head == "streamlit" or head.startswith("streamlit_"):
            assert parts[0] in ("pages", "app.py"), f"{path} imports streamlit"
        if head == "plotly":
            assert parts in (("engine", "figures.py"), ("engine", "report.py")), f"{path} imports plotly"
        assert head not in ("tests", "benchmarks"), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "pages").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_load_nothing_heavy(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & set(HEAVY)


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "what",
    [
        "fovea.engine.method; fovea.engine.method.methods()",
        "fovea.models.zoo; fovea.models.zoo.known_networks()",
        "fovea.engine.cli.main",
    ],
)
def test_listing_loads_nothing_heavy(what: str) -> None:
    found = fresh(f"import sys, {what}; print([m for m in {HEAVY!r} if m in sys.modules])")
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
            assert info.description, f"{name} --{option} has no help"
            assert "\n" not in info.description
            assert declared(info).kind.name, option
