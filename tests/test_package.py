"""The package: what Python users call, that it never meets their own packages, and that its requirements agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import fovea
from fovea.engine.errors import FoveaError

ROOT = Path(__file__).resolve().parents[1]
NETWORK = "torchvision:squeezenet1_1@random"

BESIDE_USERS = """
import sys
import fovea
assert not {"torch", "numpy", "pandas", "streamlit", "plotly"} & set(sys.modules), "import fovea loads nothing heavy"
run = fovea.open("fovea").classify("sample:cat", top=3, device="cpu", provider="cpu")
assert len(run.tables["classes"]) == 3, run.tables
import app, engine, models, pages, utils
for module in (app, engine, models, pages, utils):
    assert module.MINE, module
ours = [name for name in sys.modules if name.split(".")[0] in ("app", "engine", "models", "pages", "utils")]
assert sorted(ours) == ["app", "engine", "models", "pages", "utils"], ours
print(run.summary["class"])
"""


def test_it_never_meets_a_users_own_packages(tmp_path: Path, fovea_home: Path) -> None:
    for name in ("engine", "models", "pages", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "app.py").write_text("MINE = True\n")
    environment = os.environ | {"FOVEA_HOME": str(fovea_home), "PYTHONPATH": str(ROOT)}
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{BESIDE_USERS}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_run_is_arrays_tables_pictures_and_a_summary(fovea_home: Path, tmp_path: Path) -> None:
    network = fovea.open(NETWORK)
    assert {"occlusion", "saliency", "patches"} <= set(dir(network))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    picture.save(tmp_path / "noise.png")
    run = network.occlusion(tmp_path / "noise.png", window=112, stride=112, device="cpu")
    assert run.arrays["drop"].shape == (2, 2)
    assert set(run.arrays) >= {"score", "drop", "heatmap"}
    assert run.summary == run.record.summary
    assert (run.folder / "run.json").is_file()
    in_memory = network.occlusion(picture, window=112, stride=112, device="cpu")
    np.testing.assert_array_equal(in_memory.arrays["drop"], run.arrays["drop"])
    as_array = network.occlusion(np.asarray(picture), window=112, stride=112, device="cpu")
    assert as_array.id == in_memory.id
    drawn = network.filters(unit=None)
    assert drawn.images["filters"].size == next(iter(drawn.images.values())).size


def test_what_is_wrong_is_one_line(fovea_home: Path) -> None:
    network = fovea.open(NETWORK)
    for call, line in (
        (lambda: network.occlusion("sample:cat", windwo=3), "windwo"),
        (lambda: network.occlusion("sample:cta"), "cta"),
        (lambda: network.occlusion(), "needs a photo"),
        (lambda: network.occlusion("sample:cat", photo="sample:cat"), "twice"),
        (lambda: fovea.open("torchvision:resnet1"), "resnet1"),
    ):
        with pytest.raises(FoveaError, match=line) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(AttributeError, match="did you mean occlusion"):
        network.oclusion  # noqa: B018 - the attribute is what is asked for


def test_functions_tell_their_options(fovea_home: Path) -> None:
    import inspect

    signature = inspect.signature(fovea.open(NETWORK).occlusion)
    assert next(iter(signature.parameters)) == "photo"
    assert signature.parameters["window"].default == 32
    assert {"seed", "device", "provider", "fresh"} <= set(signature.parameters)
    assert next(iter(inspect.signature(fovea.open(NETWORK).patches).parameters)) == "dataset"


def names(lines: list[str]) -> dict[tuple[str, str], Requirement]:
    found = [Requirement(line) for line in lines]
    return {
        (requirement.name.lower(), str(requirement.marker or "").replace('"', "'")): requirement
        for requirement in found
    }


def test_pins_and_ranges_agree() -> None:
    """Every pin of the app lies in its range, and neither list has a name that the other lacks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = names(project["dependencies"] + project["optional-dependencies"]["app"])
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    ]
    pins = names([line for line in lines if line])
    assert set(pins) == set(ranges)
    for name, pin in pins.items():
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert ranges[name].specifier.contains(exact.version), f"{pin} is not in {ranges[name]}"
    assert set(project["optional-dependencies"]) == {"app", "scale", "timm", "hf", "team", "tensorrt"}
    assert project["scripts"]["fovea"] == "fovea.engine.cli.main:main"


def test_what_is_imported_is_required() -> None:
    """A requirement stands for each package that the code imports, and each requirement is imported somewhere."""
    import ast

    called = {"pillow": "PIL", "scikit-image": "skimage", "scikit-learn": "sklearn", "faiss-cpu": "faiss"}
    called |= {"opencv-python-headless": "cv2", "onnxruntime-gpu": "onnxruntime", "protobuf": "google"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    required = {called.get(name, name.replace("-", "_")) for name, _ in names(project["dependencies"])}
    optional = {called.get(name, name.replace("-", "_")) for name, _ in names(extras)}
    imported = set()
    for folder in ("engine", "models", "pages", "fovea"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0].lower() for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add((node.module or "").split(".")[0].lower())
    required, optional = {name.lower() for name in required}, {name.lower() for name in optional}
    packages = {name for name in imported if name not in sys.stdlib_module_names and name != "fovea"}
    assert packages <= required | optional, packages - required - optional
    assert required <= packages, required - packages


def test_the_version_is_told_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", fovea.__version__)
