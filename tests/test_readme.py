"""The README's commands do what it says: from a file of weights to the first picture."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def example() -> str:
    """The method of "Adding a method"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Adding a method\n")[1]
    return text.split("```python\n")[1].split("```")[0]


def test_the_example_of_a_method_works_on_every_face(
    tmp_path: Path, fovea_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new file, and the command line, the form's options, the report and Python know it."""
    import fovea
    from fovea.engine import method
    from fovea.engine.data.photos import open_photo
    from fovea.engine.report.report import report_html
    from fovea.engine.store import Store

    (tmp_path / "mean.py").write_text(example(), encoding="utf-8")
    look = importlib.import_module("fovea.engine.look")
    monkeypatch.setattr(look, "__path__", [*look.__path__, str(tmp_path)])
    method.methods.cache_clear()
    try:
        assert method.find_method("mean").options().model_dump() == {"gain": 1.0}
        network = fovea.open("torchvision:squeezenet1_1@random")
        run = network.mean("sample:cat", gain=2.0)
        frame = network.card.preprocessing.frame(open_photo("sample:cat"))
        np.testing.assert_allclose(run.arrays["mean"], 2 * frame.mean((0, 1)))
        assert "Mean of each channel" in report_html(Store().run(run.id))
        code = (
            f"import fovea.engine.look as look; look.__path__.append({str(tmp_path)!r}); import sys; "
            "from fovea.engine.cli.main import main; sys.argv = ['fovea', 'mean', '--network', "
            "'torchvision:squeezenet1_1@random', '--image', 'sample:cat', '--gain', '2', '--json']; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["run"] == run.id
    finally:
        method.methods.cache_clear()
        sys.modules.pop("fovea.engine.look.mean", None)
