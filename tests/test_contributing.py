"""CONTRIBUTING tells the truth: the files that it names are there, and each thing that can be added has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_is_there() -> None:
    named = {name for name in re.findall(r"`([\w./]+)`", TEXT) if "/" in name and not name.startswith(("..", "/"))}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_each_thing_that_can_be_added_has_its_test() -> None:
    rows = [row for row in TEXT.splitlines() if row.startswith("| a") and "::" in row]
    added = {row.split("|")[1].strip() for row in rows}
    wanted = {"a method", "a map that Compare and Trust show", "an attack", "a loss", "a kind of panel"}
    assert added == wanted | {"a kind of option", "a source of images", "a page of a family"}
    for row in rows:
        (path, name) = re.search(r"`([\w./]+)::(\w+)`", row).groups()  # type: ignore[union-attr]
        functions = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
        assert name in functions, f"{path} has no {name}"
