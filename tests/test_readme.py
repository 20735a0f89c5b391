"""The README's commands do what it says: from a file of weights to the first picture."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ("bvlc_googlenet.py", "bvlc_googlenet.safetensors")


def block(section: str) -> list[list[str]]:
    """The commands of the first fenced block of a section, each as its words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    body = re.split(r"^## ", text.split(f"\n## {section}\n")[1], flags=re.MULTILINE)[0]
    fenced = body.split("```")[1].partition("\n")[2].replace("\\\n", " ")
    return [shlex.split(line) for line in fenced.splitlines() if line.strip()]


@pytest.mark.timeout(900)
def test_networks_of_your_own(data: Path, tmp_path: Path) -> None:
    """Five lines at most, with the real GoogLeNet; only where its files lie is put in."""
    folder = data / "weights"
    if not all((folder / name).is_file() for name in WEIGHTS):
        pytest.skip(f"needs {' and '.join(WEIGHTS)}")
    commands = block("Networks of your own")
    assert 3 <= len(commands) <= 5
    environment = {**os.environ, "FOVEA_HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    outputs = []
    for words in commands:
        assert words[:3] == ["python", "-m", "engine"]
        words = [re.sub(r"^/path/", f"{folder}/", word) for word in words[1:]]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-500:]}"
        outputs.append(done.stdout)
    assert "BVLCGoogLeNet" in outputs[0]
    assert "agrees: True" in outputs[-2]
    run = Path(outputs[-1].strip().splitlines()[-1])
    assert (run / "preview.png").is_file()


def test_every_command_of_the_readme_is_there() -> None:
    """Each `python -m engine COMMAND` names a command or a method."""
    from fovea.engine.cli.main import app
    from fovea.engine.method import methods

    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    known |= set(methods())
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python -m engine ([a-z]+)", text))
    assert named
    assert named <= known
