"""Which networks exist, and how each name becomes a `Network` with its card; the last ones loaded are kept.

Listing imports no torch: the bundled network, `networks.toml` and a static table of torchvision's are read only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fovea.models import builders, bundled
from fovea.models.builders import Built
from fovea.models.card import Card
from fovea.models.entry import class_names, resolve
from fovea.models.errors import UnknownNameError, unknown
from fovea.models.home import home, stamp, write_whole
from fovea.models.huggingface import FILES
from fovea.models.network import Network, TorchNetwork
from fovea.models.registry import registered
from fovea.models.sizes import over_budget
from fovea.models.user_files import code_files
from fovea.models.weights import RANDOM, TORCHVISION_WEIGHTS

CARD_VERSION = 6
"""Raised when the card of the same network would come out different."""


@dataclass(frozen=True)
class KnownNetwork:
    """A network that can be loaded. `weights`: the choices that may follow its name as `NAME@WEIGHTS`, best first."""

    name: str
    title: str
    source: str
    weights: tuple[str, ...] = ()


def known_networks() -> list[KnownNetwork]:
    """The bundled network, the registered ones, then torchvision's classification networks. Imports no torch."""
    networks = [KnownNetwork(bundled.NAME, "Fovea's own network", "bundled", ("trained", RANDOM))]
    for name, entry in sorted(registered().items()):
        networks.append(KnownNetwork(name, str(entry.get("title") or name), "registered"))
    for name, sets in TORCHVISION_WEIGHTS.items():
        networks.append(KnownNetwork(f"torchvision:{name}", name, "torchvision", (*reversed(sets), RANDOM)))
    return networks


def load(name: str) -> Network:
    """The network of that name, its weights loaded and its card computed; the last ones stay in memory.

    `fovea`, `torchvision:NAME`, `timm:NAME`, each with `@random` or (torchvision) `@WEIGHTS`; `onnx:PATH`; a
    registered name. Raises UnknownNameError with near matches, WeightsError, NetworkError, each one line.
    """
    place = _parse(name)
    key = _content_key(place)
    with _load_lock:
        if key in _loaded:
            _loaded.move_to_end(key)
            if not _card_path(key).is_file():  # whoever asked for it waits for the card
                _store_card(key, _loaded[key].card)
            return _loaded[key]
        known = _stored_card(key)
        network = _load(name, place, known)
        if known is None and place.source == "registered":
            # So that the card says from the start where no ONNX graph can be had. What else goes wrong, too little
            # memory or a full disk, is told by the method that asks for the graph.
            with contextlib.suppress(Exception):
                _tell_of_graph(network)
        _store_card(key, network.card)
        _loaded[key] = network
        while len(_loaded) > 1 and over_budget(kept.card for kept in _loaded.values()):
            _loaded.popitem(last=False)
        return network


def _tell_of_graph(network: Network) -> None:
    """Export the graph, and note on the card that it agrees; that there is none, the network notes itself."""
    if not network.graph().reason and isinstance(network, TorchNetwork):
        note = "An ONNX graph was exported, and it agrees with PyTorch at every layer."
        network.card = network.card.model_copy(update={"notes": (*network.card.notes, note)})


def add_notes(name: str, notes: Sequence[str]) -> Card:
    """Keep further notes on a network's card. Returns the card."""
    network, key = load(name), _content_key(_parse(name))
    card = network.card.model_copy(update={"notes": (*network.card.notes, *notes)})
    _store_card(key, card)
    with _load_lock:
        _loaded.pop(key, None)
    return card


def cached_card(name: str) -> Card | None:
    """The card that an earlier `load` computed for the same name and unchanged files, or None. Imports no torch.

    Raises UnknownNameError for a name that cannot exist.
    """
    return _stored_card(_content_key(_parse(name)))


def forget() -> None:
    """Let go of the networks that are kept in memory."""
    with _load_lock:
        _loaded.clear()


_loaded: OrderedDict[str, Network] = OrderedDict()
_load_lock = threading.RLock()


# --- names ---------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a name leads: a source, the name within it, and the choice of weights (None: the source's own)."""

    source: str
    rest: str
    choice: str | None


def _parse(name: str) -> _Place:
    """Raises UnknownNameError."""
    source, colon, rest = name.partition(":")
    if colon and source in ("onnx", "hf"):
        return _Place(source, rest, None)
    base, at, choice = name.partition("@")
    wanted = choice if at else None
    if base == bundled.NAME:
        _check_choice(wanted, ["trained", RANDOM], base)
        return _Place("bundled", base, wanted)
    if name in registered():
        return _Place("registered", name, None)
    source, colon, rest = base.partition(":")
    if colon and source == "torchvision":
        if rest not in TORCHVISION_WEIGHTS:
            raise unknown("network", base, [f"torchvision:{n}" for n in TORCHVISION_WEIGHTS])
        _check_choice(wanted, [*TORCHVISION_WEIGHTS[rest], "DEFAULT", RANDOM], base)
        return _Place("torchvision", rest, wanted)
    if colon and source == "timm":
        _check_choice(wanted, [RANDOM], base)
        return _Place("timm", rest, wanted)
    names = [n.name for n in known_networks()]
    if f"torchvision:{base}" in names:
        raise UnknownNameError(f"no network named {name!r}: did you mean torchvision:{name}?")
    raise unknown("network", name, names)


def _check_choice(choice: str | None, valid: list[str], network: str) -> None:
    if choice is not None and choice not in valid:
        raise unknown("set of weights", choice, valid, network)


# --- networks ------------------------------------------------------------------------------------------------

_BUILD: Mapping[str, Callable[[_Place], Built]] = {
    "bundled": lambda place: builders.build_bundled(place.choice),
    "torchvision": lambda place: builders.build_torchvision(place.rest, place.choice),
    "timm": lambda place: builders.build_timm(place.rest, place.choice),
    "hf": lambda place: builders.build_saved(f"hf:{place.rest}", Path(place.rest).expanduser().resolve(), {}),
    "registered": lambda place: builders.build_registered(place.rest, registered()[place.rest]),
}


def _load(name: str, place: _Place, known: Card | None) -> Network:
    file = _onnx_file(place)
    if file is None:
        return builders.finish(name, _BUILD[place.source](place), known)
    from fovea.models.graph import onnx_file

    entry = registered()[place.rest] if place.source == "registered" else {}
    classes = class_names(entry["classes"]) if entry.get("classes") else ()
    title = str(entry.get("title") or name) if entry else ""
    hints = onnx_file.Hints(entry.get("input"), classes, entry.get("output"), str(entry.get("output_name", "")), title)
    return onnx_file.load(name, file, hints)


def _onnx_file(place: _Place) -> Path | None:
    """The ONNX file that a name or an entry of networks.toml stands for; None for what is built with torch."""
    if place.source == "onnx":
        return Path(place.rest).expanduser()
    if place.source == "registered":
        kind, _, path = registered()[place.rest]["architecture"].partition(":")
        return resolve(path) if kind == "onnx" else None
    return None


def _saved_folder(place: _Place) -> Path | None:
    """The folder that a name or an entry of networks.toml stands for, as save_pretrained writes it."""
    if place.source == "hf":
        return Path(place.rest).expanduser().resolve()
    return builders.saved_folder(registered()[place.rest]["architecture"]) if place.source == "registered" else None


# --- cards ---------------------------------------------------------------------------------------------------


def _content_key(place: _Place) -> str:
    """The name and everything on disk that decides what it means, as one line of text."""
    facts: list[Any] = [CARD_VERSION, *place]
    file = _onnx_file(place)
    if place.source == "bundled":
        folder = Path(bundled.__file__).parent
        facts += [stamp(folder / name) for name in ("net.py", "fovea.safetensors", "classes.txt")]
    elif place.source == "registered":
        entry = registered()[place.rest]
        facts.append(entry)
        facts += [stamp(resolve(entry[key])) for key in ("weights", "classes") if entry.get(key)]
        whole = file or builders.whole_file(entry["architecture"])
        code = [whole] if whole is not None else code_files(entry["architecture"])
        facts += [[str(path), stamp(path)] for path in [*code, *builders.argument_files(entry)]]
    elif file is not None:
        facts += [str(file.resolve()), stamp(file)]
    saved = _saved_folder(place)
    if saved is not None:
        facts += [[str(saved), *(stamp(saved / name) for name in FILES)]]
    if file is not None:
        from fovea.models.graph.onnx_read import other_files

        facts += [stamp(other) for other in other_files(file)]
    return json.dumps(facts, sort_keys=True, default=str)


def _card_path(key: str) -> Path:
    return home() / "cards" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _stored_card(key: str) -> Card | None:
    try:
        return Card.model_validate_json(_card_path(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _store_card(key: str, card: Card) -> None:
    path = _card_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, card.model_dump_json().encode("utf-8"))
