"""From a request to the plan of its run, each step extending the last: Request -> Resolved -> Plan.

`resolve` parses the options and verifies them as far as that goes without torch. `quick_plan` goes on from there where
everything is known already, which finds a finished run again without importing torch; `full_plan` loads what it takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fovea.engine.data.photos import photo_name
from fovea.engine.errors import FoveaError, OptionsError, needs_photo
from fovea.engine.method import Method, find_method
from fovea.engine.options import Options, declared
from fovea.engine.run.inputs import Opened, absolute, card_sha256, network_input
from fovea.engine.run.machine import DEVICES, PROVIDERS, remembered_device, resolve_device
from fovea.engine.run.record import Input, NetworkRef, Request, RunRecord, now
from fovea.engine.store import Store
from fovea.engine.store.folder import StoredRun
from fovea.engine.store.names import new_id
from fovea.models.card import Card

SEEDS = 2**32
RUNS_A_LOOK = 50
"""So many earlier runs are listed at a time."""

INPUT_KINDS = ("photo", "dataset", "network")
"""In this order a record lists what a run read; the first that is no network gives the run its title."""


@dataclass(frozen=True)
class Resolved:
    """A request that can be queued: its method, its complete options, and the network's card if that was read before.

    The options are verified against the card where there is one.
    """

    request: Request
    method: Method[Any, Any]
    options: Options
    card: Card | None
    opened: Opened = field(default_factory=Opened)

    @property
    def named(self) -> list[tuple[str, str, tuple[str, ...], bool]]:
        """What the options name: option, kind of input, references, and whether the option takes a list."""
        named = []
        for name, info in self.method.options.model_fields.items():
            kind = declared(info).kind
            references = kind.references(getattr(self.options, name))
            if references:
                named.append((name, kind.input, references, kind.several))
        return sorted(named, key=lambda option: INPUT_KINDS.index(option[1]))


@dataclass(frozen=True)
class Plan:
    """What will run, on what, and its fingerprint. The options name photos and data sets by what was opened."""

    request: Request
    method: Method[Any, Any]
    options: Options
    card: Card
    network: NetworkRef
    device: str
    inputs: tuple[Input, ...]
    opened: Opened
    fingerprint: str
    work: float

    @property
    def images(self) -> int:
        """How many images its data sets hold."""
        return sum(read.images for read in self.inputs)


def resolve(request: Request) -> Resolved:
    """What a request names, as far as that can be told without loading a network.

    What the network's card could refuse is checked where a card is cached. Raises FoveaError: one line.
    """
    from fovea.models.zoo import cached_card

    method = find_method(request.method)
    options = method.options.parse(request.options)
    _require("device", request.device, DEVICES)
    _require("provider", request.provider, PROVIDERS)
    if not 0 <= request.seed < SEEDS:
        raise OptionsError(f"seed must be from 0 to {SEEDS - 1}, not {request.seed}")
    if method.photo and not request.image:
        raise needs_photo(method.name)
    resolved = Resolved(request, method, options, cached_card(request.network))
    if resolved.card is not None:
        method.verify(resolved.card, options)
    if request.image:
        _ = resolved.opened.photo(request.image).sha256  # raises ImageError where it cannot be read
    return resolved


def _require(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionsError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def portable(resolved: Resolved) -> Request:
    """The request with its files named so that another process finds them: photos by content, full paths.

    Raises FoveaError: one line.
    """
    request, opened = resolved.request, resolved.opened
    options = dict(request.options)
    for name, kind, references, _ in resolved.named:
        if name in options and kind == "photo":
            options[name] = opened.photo(references[0]).reference
        elif name in options and kind == "dataset":
            options[name] = absolute(references[0])
    image = opened.photo(request.image).reference if request.image else None
    return request.model_copy(update={"image": image, "options": options})


def quick_plan(resolved: Resolved, store: Store) -> Plan | None:
    """The plan, or None where that takes loading a network, listing a data set or asking torch for the devices."""
    from fovea.models.zoo import cached_card

    device = remembered_device(resolved.request.device)
    if resolved.card is None or device is None:
        return None
    for _, kind, references, _ in resolved.named:
        if kind == "dataset" or (kind == "network" and None in map(cached_card, references)):
            return None
    return _plan(resolved, resolved.card, device, store)


def full_plan(resolved: Resolved, store: Store, quick: Plan | None = None) -> Plan:
    """The plan, whatever it takes; `quick` is what `quick_plan` came to. Raises FoveaError: one line."""
    device = resolve_device(resolved.request.device)
    if quick is not None and quick.device == device:
        return quick
    card = resolved.card
    if card is None:
        from fovea.models.zoo import load

        card = load(resolved.request.network).card
        resolved.method.verify(card, resolved.options)
    return _plan(resolved, card, device, store)


def _plan(resolved: Resolved, card: Card, device: str, store: Store) -> Plan:
    request, method, opened = resolved.request, resolved.method, resolved.opened
    inputs = [opened.photo(request.image).as_input("image")] if request.image else []
    update: dict[str, Any] = {}
    for name, kind, references, several in resolved.named:
        if kind == "network":
            inputs.append(network_input(name, references, several=several))
            continue
        read = (
            opened.photo(references[0]).as_input(name) if kind == "photo" else opened.dataset_input(name, *references)
        )
        inputs.append(read)
        update[name] = read.reference
    options = resolved.options.model_copy(update=update)
    network = NetworkRef(name=card.name, sha256=card.sha256, card=card_sha256(card), random=card.random)
    fingerprint = _fingerprint(resolved, options, network, device, inputs, store)
    work = method.work(card, options, sum(read.images for read in inputs))
    return Plan(request, method, options, card, network, device, tuple(inputs), opened, fingerprint, work)


def _fingerprint(
    resolved: Resolved, options: Options, network: NetworkRef, device: str, inputs: list[Input], store: Store
) -> str:
    method, request = resolved.method, resolved.request
    by_content = {read.name: read.sha256 for read in inputs}
    content = {
        "method": [method.name, method.version],
        "network": [network.sha256, network.card],
        "inputs": by_content,
        "options": {name: value for name, value in options.model_dump(mode="json").items() if name not in by_content},
        "seed": request.seed,
        "device": device,
        "provider": request.provider,
        "precision": "fp32",
    }
    if method.reads:
        content["reads"] = [run.id for name in method.reads for run in finished_runs(store, name, network)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def finished_runs(store: Store, method: str, network: NetworkRef) -> Iterator[StoredRun]:
    """The finished runs of a method on the network that answers just as this one, newest first."""
    for offset in itertools.count(0, RUNS_A_LOOK):
        rows = store.list(method=method, network=network.name, status="done", limit=RUNS_A_LOOK, offset=offset)
        for row in rows:
            with contextlib.suppress(FoveaError):  # deleted since it was listed
                run = store.run(row.id)
                if run.record.network.card == network.card:
                    yield run
        if len(rows) < RUNS_A_LOOK:
            return


def new_record(request: Request, lane: str = "", fingerprint: str = "") -> RunRecord:
    """A fresh record of a request, with an id of its own; nothing is written."""
    inputs = []
    if request.image:
        title = request.image
        with contextlib.suppress(FoveaError):
            title = photo_name(request.image)
        inputs.append(Input(name="image", kind="photo", reference=request.image, title=title))
    return RunRecord(
        id=new_id(request.method),
        method=request.method,
        network=NetworkRef(name=request.network),
        inputs=inputs,
        options=dict(request.options),
        seed=request.seed,
        requested_device=request.device,
        requested_provider=request.provider,
        name=request.name,
        created=now(),
        fingerprint=fingerprint,
        lane=lane,
    )
