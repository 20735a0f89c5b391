"""Requests: what they name, what shapes their fingerprint, and that each step is taken once."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fovea.engine.errors import OptionsError, UnknownNameError
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import full_plan, portable, resolve
from fovea.engine.store import Store
from tests.engine import fakes


@pytest.mark.parametrize(
    "change",
    [{"options": {"steps": 6}}, {"seed": 1}, {"provider": "cpu"}, {"image": "sample:cat"}, {"method": "lengthy"}],
)
def test_what_shapes_a_result_shapes_its_fingerprint(store: Store, change: dict[str, object]) -> None:
    def fingerprint(**more: object) -> str:
        return full_plan(resolve(fakes.request(**more)), store).fingerprint

    assert fingerprint() == fingerprint() == fingerprint(options={"steps": 5})
    assert fingerprint(**change) != fingerprint()


def test_preprocessing_shapes_the_fingerprint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = full_plan(resolve(fakes.request()), store)
    preprocessing = fakes.CARD.preprocessing.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    fakes.install(monkeypatch.setattr, fakes.CARD.model_copy(update={"preprocessing": preprocessing}))
    second = full_plan(resolve(fakes.request()), store)
    assert first.fingerprint != second.fingerprint


def test_photos_named_by_options_are_kept_too(store: Store, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "style.png")
    record = execute(fakes.request(options={"second": str(tmp_path / "style.png")}), store)
    assert record.options["second"].startswith("photo:")
    assert portable(resolve(record.request())) == record.request()


def test_resolving_loads_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.models.zoo

    def load(name: str) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(fovea.models.zoo, "load", load)
    resolve(fakes.request())
    with pytest.raises(OptionsError):
        resolve(fakes.request(options={"steps": 0}))
    with pytest.raises(UnknownNameError):
        resolve(Request(method="nothing"))


def test_each_thing_is_done_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command parses its options, verifies them, decodes its photo and makes its fingerprint once."""
    from fovea.engine.data import photos, pictures
    from fovea.engine.method import Method
    from fovea.engine.run import resolve as room

    Image.new("RGB", (20, 20), "red").save(tmp_path / "mine.png")
    done: list[str] = []

    def count(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def counted(*arguments: object, **more: object) -> object:
            done.append(name)
            return function(*arguments, **more)

        monkeypatch.setattr(owner, name, counted)

    count(fakes.CountOptions, "parse")
    count(Method, "verify")
    count(pictures, "decode")
    count(photos, "decode")
    count(room, "_fingerprint")
    assert execute(fakes.request("watch", image=str(tmp_path / "mine.png")), store).status == "done"
    assert sorted(done) == ["_fingerprint", "decode", "parse", "verify"]


def test_a_finished_run_is_found_without_loading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fovea.models.zoo

    first = execute(fakes.request(), store)
    monkeypatch.setattr(fovea.models.zoo, "load", lambda name: pytest.fail("loaded"))
    assert execute(fakes.request(), store).id == first.id
