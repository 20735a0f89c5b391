"""The family of maps: a new map is its method's one file, and Compare, Trust and the leads know it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.engine import method as registry
from fovea.engine.cli.flags import metavar_of
from fovea.engine.errors import OptionsError
from fovea.engine.explain.maps.family import family, map_names, settings_of, usable
from fovea.engine.method import Job, Result, find_method, leads_of
from fovea.engine.options import declared
from tests.networks.modules import Tiny
from tests.networks.tiny import TinyNetwork, exported_network

BRIGHTNESS = '''
"""Brightness: a map that needs no network at all (an example)."""

import numpy as np

from fovea.engine.maps import Map
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import Options, option
from fovea.engine.panels import OverlayPanel


class BrightnessOptions(Options):
    gain: float = option(1.0, "The factor by which the brightness is multiplied.", gt=0)


def compute(job: Job[BrightnessOptions]) -> np.ndarray:
    return job.frame.mean(-1).astype(np.float32) * job.options.gain


def report(job: Job[BrightnessOptions], brightness: np.ndarray) -> Result:
    return Result(
        arrays={"brightness": brightness},
        panels=[OverlayPanel(title="Brightness", help="Where it is bright.", image="photo", array="brightness")],
    )


METHOD = Method(
    name="brightness",
    title="Brightness",
    verb="explain",
    family="Saliency maps",
    question="Where is it bright?",
    summary="The mean of the colour channels.",
    options=BrightnessOptions,
    compute=compute,
    report=report,
    work=lambda card, options, images: 0.0,
    maps=(Map("brightness", "Brightness", "brightness", {"gain": 2.0}, order=35),),
)
'''


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("family"), Tiny(), size=(24, 36))


@pytest.fixture
def brightness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A method with a map, added in one file."""
    (tmp_path / "brightness.py").write_text(BRIGHTNESS, encoding="utf-8")
    explain = importlib.import_module("fovea.engine.explain")
    monkeypatch.setattr(explain, "__path__", [*explain.__path__, str(tmp_path)])
    registry.methods.cache_clear()
    yield
    registry.methods.cache_clear()
    sys.modules.pop("fovea.engine.explain.brightness", None)


def run(network: TinyNetwork, method: str, **options: object) -> tuple[Job, Result]:
    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    pixels = np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8)
    job = Job(network=network, options=parsed, photo=Image.fromarray(pixels), provider="cpu")
    return job, found.run(job)


@pytest.mark.usefixtures("brightness")
def test_a_new_map_is_one_file(network: TinyNetwork) -> None:
    """Compare shows it, Trust offers and tests it, its runs lead there."""
    assert map_names()[-2:] == ("brightness", "occlusion")
    info = find_method("trust").options.model_fields["map"]
    assert "brightness" in declared(info).kind.choices()
    assert "|brightness|" in metavar_of(info)
    small = {"steps": 3, "stages": 1, "random_orders": 1}
    job, result = run(network, "compare", target="3", **small)
    assert "Brightness" in list(result.tables["maps_0"]["map"])
    np.testing.assert_allclose(result.arrays["map_0_brightness"], 2 * job.frame.mean(-1), rtol=1e-6)
    row = result.tables["trust"].set_index("map").loc["Brightness"]
    assert np.isfinite(row["gain"])
    assert np.isnan(row["rank correlation"]), "no changed copy of the network can be asked for it"
    _, result = run(network, "trust", target="3", map="brightness", settings="gain=0.5", agreement=False, **small)
    assert result.summary["map"] == "Brightness"
    (lead,) = leads_of(find_method("brightness"))
    assert lead.options({"gain": 3.0}, {}) == {"map": "brightness", "settings": "gain=3.0"}


def test_the_network_settles_which_maps_are_usable(network: TinyNetwork) -> None:
    assert usable(network.card) == list(map_names())
    file = network.card.model_copy(update={"gradients": False})
    assert usable(file) == [name for name, member in family().items() if not member.method.gradients]


def test_an_unknown_map_or_setting_is_one_line(network: TinyNetwork) -> None:
    with pytest.raises(OptionsError, match=r"map must be 'gradient', .* or 'occlusion', not 'scorecam'"):
        run(network, "trust", map="scorecam")
    with pytest.raises(OptionsError, match=r"has the options window, stride, .*, and no target"):
        settings_of("occlusion", "target=3")


def test_a_comma_list_stays_out_of_the_settings_of_a_lead() -> None:
    (lead,) = leads_of(find_method("guided"))
    finished = {"rule": "guided", "rows": "3,17", "dataset": "sample", "units": 9}
    summary = {"layer": "second", "unit": 3, "position": "1,1"}
    assert lead.options(finished, summary) == {"map": "guided", "settings": "dataset=sample", **summary}
