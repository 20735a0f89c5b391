"""A kind of option is one file: its flag, its check, its inputs and its control follow from its class."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from fovea.engine.cli.flags import metavar_of
from fovea.engine.errors import OptionsError
from fovea.engine.method import Method, Result
from fovea.engine.options import Options, declared, option
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import full_plan, resolve
from fovea.engine.store import Store
from fovea.models.zoo import load
from tests.pages.conftest import NETWORK

NEW_KIND = '''
"""Options that name a colour channel of the input."""

from dataclasses import dataclass
from typing import ClassVar

from fovea.engine.errors import OptionsError
from fovea.engine.options.base import Kind


@dataclass(frozen=True)
class ChannelKind(Kind):
    """A colour channel, by its letter."""

    name: ClassVar[str] = "channel"

    def verify(self, method, value, options, card):
        letters = card.preprocessing.order
        if value and value not in letters:
            raise OptionsError(f"{method} needs a channel of {letters}, not {value!r}")


@dataclass(frozen=True)
class TwinKind(Kind):
    """A second photo that goes with the first."""

    name: ClassVar[str] = "twin"
    input: ClassVar[str] = "photo"
'''


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file of the new kinds, among the others."""
    (tmp_path / "channel.py").write_text(NEW_KIND, encoding="utf-8")
    folder = importlib.import_module("fovea.engine.options")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    yield importlib.import_module("fovea.engine.options.channel")
    sys.modules.pop("fovea.engine.options.channel", None)


def test_a_new_kind_of_option_is_one_file(kinds: Any, fovea_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ChannelOptions(Options):
        channel: str = option("", "The channel that is looked at.", kind=kinds.ChannelKind())
        twin: str = option("", "The photo that goes with it.", kind=kinds.TwinKind())

    method: Method[ChannelOptions, None] = Method(
        name="channel",
        title="Channel",
        verb="look",
        family="Channel",
        question="How bright is one channel?",
        summary="One channel of the photo.",
        options=ChannelOptions,
        compute=lambda job: None,
        report=lambda job, nothing: Result(),
        work=lambda card, options, images: 0.0,
    )
    assert metavar_of(ChannelOptions.model_fields["channel"]) == "CHANNEL"
    assert declared(ChannelOptions.model_fields["channel"]).kind.widget == "plain"
    card = load(NETWORK).card
    method.verify(card, ChannelOptions(channel="R"))
    with pytest.raises(OptionsError, match="channel needs a channel of RGB, not 'K'"):
        method.verify(card, ChannelOptions(channel="K"))
    monkeypatch.setattr("fovea.engine.method.methods", lambda: {"channel": method})
    asked = Request(method="channel", network=NETWORK, image="sample:cat", options={"twin": "sample:coffee"})
    named = {read.name: read.kind for read in full_plan(resolve(asked), Store()).inputs}
    assert named == {"image": "photo", "twin": "photo"}
