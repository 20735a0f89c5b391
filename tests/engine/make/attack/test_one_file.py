"""An attack is one file: what is added is a choice, has its options, and counts only on the saved 8-bit picture."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.make.attack.shared.attack import attacks, find_attack
from fovea.engine.make.attack.shared.options import by_attack, own_options, with_attacks
from fovea.engine.method import find_method
from fovea.engine.options import Options, option
from fovea.models.zoo import load

ROOT = Path(__file__).resolve().parents[4]

ATTACK = '''
"""Every pixel becomes as bright as it may (an example)."""

import math

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options, option


class BrighterOptions(Options):
    share: float = option(1.0, "How much of the ball is used.", ge=0, le=1)


def run(batch: Batch[BrighterOptions]):
    """0.4 grey levels less than the ball allows: only rounding makes it whole."""
    return batch.clean + batch.options.share * batch.epsilon - 0.4 / 255


ATTACK = Attack(
    name="brighter", title="Brighter", summary="makes every pixel brighter", paper="nobody", year=2030,
    norm=math.inf, run=run, options=BrighterOptions, steps=1, epsilon=12 / 255, step=1.0,
)
'''


def fovea(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process whose attacks also lie in `folder`."""
    code = (
        f"import fovea.engine.make.attack as attack; attack.__path__.append({str(folder)!r}); import sys; "
        f"from fovea.engine.cli.main import main; sys.argv = ['fovea', *{list(words)!r}]; main()"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_attack_in_one_file_is_there(tmp_path: Path, fovea_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "brighter.py").write_text(ATTACK, encoding="utf-8")
    help = fovea(tmp_path, "adversarial", "--help").stdout
    assert "brighter" in help
    assert "Only brighter reads it." in " ".join(help.split())
    done = fovea(tmp_path, "adversarial", "--image", "sample:cat", "--attack", "brighter", "--share", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    folder, summary = Path(told["folder"]), told["summary"]
    # Half of 12 levels less 0.4 is 5.6, which the 8-bit picture holds as 6.
    delta = np.load(folder / "arrays.npz")["delta"]
    assert np.rint(delta * 255).max() == summary["linf_levels"] == 6
    pixels = np.asarray(Image.open(folder / "images" / "adversarial.png"))
    network = load("fovea")
    with torch.no_grad():
        scores = network.module()(torch.from_numpy(network.card.preprocessing.normalise(pixels[None])))[0]
    assert summary["after"] == network.card.classes[int(scores.argmax())]
    assert summary["fooled"] is (summary["before"] != summary["after"])
    assert summary["epsilon"] == 12 / 255
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["options"]["attack"] == "brighter"
    assert record["options"]["share"] == 0.5


def test_the_command_has_what_attacks_declare() -> None:
    method = find_method("adversarial")
    names = list(method.options.model_fields)
    assert names == [
        *("attack", "epsilon", "target", "smallest", "networks", "label", "steps", "step_size"),
        *("overshoot", "searches", "constant", "rate", "confidence", "pixels", "population"),
    ]
    for name, attack in attacks().items():
        assert find_attack(name) is attack
        assert attack.name == name
        defaults: Mapping[str, Any] = attack.options().model_dump()
        assert own_options(attack, method.options()).model_dump() == defaults
        for own in defaults:
            assert name in str(method.options.model_fields[own].description)
    assert list(attacks()) == [
        *("fgsm", "bim", "momentum", "pgd", "pgd_l2", "deepfool", "carlini_wagner", "few_pixel"),
    ]
    assert method.gradient_free == {"attack": ("few_pixel",)}


def test_the_same_request_has_the_same_options_as_ever() -> None:
    """What run.json and the fingerprint hold of the defaults."""
    assert find_method("adversarial").options().model_dump(mode="json") == {
        "attack": "pgd",
        "epsilon": None,
        "target": "",
        "smallest": False,
        "networks": "",
        "label": "",
        "steps": None,
        "step_size": None,
        "overshoot": 0.02,
        "searches": 9,
        "constant": 0.001,
        "rate": 0.01,
        "confidence": 0.0,
        "pixels": 5,
        "population": 400,
    }


def test_what_differs_between_attacks_is_told_by_value() -> None:
    assert by_attack(lambda attack: str(attack.steps) if attack.bounded else "") == (
        "1 for fgsm; 10 for bim, momentum, pgd and pgd_l2"
    )


def test_a_methods_own_options_stay_its_own() -> None:
    class Mine(Options):
        """Mine."""

        attack: str = option("pgd", "The attack.")
        size: int = option(3, "How large it is.", ge=1)

    made = with_attacks(Mine, "fgsm", "The attack.")
    assert made().model_dump(mode="json")["attack"] == "fgsm"
    assert list(made.model_fields)[:2] == ["attack", "size"]
    assert made.model_fields["size"].description == "How large it is."
    with pytest.raises(ValueError, match="attack"):
        made(attack="magic")
