"""A run: what was asked, how it went and what came of it; and the one function that executes it.

Pages, the command line and the worker all go through `execute`. The same request on the same machine is the
same run: its fingerprint finds a finished one again instead of computing it twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import math
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fovea import __version__
from fovea.engine.errors import Cancelled, FoveaError, OptionsError, ProviderError
from fovea.engine.method import Job, Method, Result, find_method
from fovea.engine.options import DatasetKind, NetworkKind, NetworksKind, Options, PhotoKind, parts_of
from fovea.engine.panels import AnyPanel
from fovea.engine.progress import Progress

if TYPE_CHECKING:
    from fovea.engine.store import LiveRun, Store, StoredRun
    from fovea.models.card import Card
    from fovea.models.network import Network

SCHEMA = 1
"""The version of run.json."""

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
UNFINISHED: tuple[Status, ...] = ("queued", "running")
DEVICES = ("auto", "cpu", "cuda")
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")
SEEDS = 2**32
RUNS_A_LOOK = 50
"""So many earlier runs are listed at a time."""
PACKAGES = ("torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "pandas", "pillow", "timm")
"""Whose versions are recorded, where they are installed."""

RANDOM_WARNING = "random weights: the network is untrained, so nothing it shows was learned"

Listener = Callable[[float, str, NDArray[np.uint8] | None, Mapping[str, float] | None], None]
"""Told what `Job.progress` is told: fraction, message, preview, losses by term."""


class Request(BaseModel):
    """What a user asks for. `image` is a path, `sample:NAME` or `photo:SHA256`; `name` is the run's title."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: str
    network: str = "fovea"
    image: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    provider: str = "auto"
    name: str = ""


class NetworkRef(BaseModel):
    """The network of a run. `sha256` is that of its weights; `card` that of all that shapes its answers."""

    name: str
    sha256: str = ""
    card: str = ""
    random: bool = False


class Input(BaseModel):
    """One thing that a run read. `name` is "image" or the option that names it; `title` is for people."""

    name: str
    kind: Literal["photo", "dataset", "network"]
    reference: str
    sha256: str = ""
    title: str = ""
    images: int = 0


class RunRecord(BaseModel):
    """`run.json`: everything that is known of a run. Times are ISO 8601 in UTC, `seconds` is wall time,
    `load_seconds` the part of it before the method began.

    `provider` and `precision` are what really ran, `requested_*` what was asked. `work` is the method's
    number of forward passes, from which estimates are made. `imported`: when it came from another machine.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    schema_version: int = Field(default=SCHEMA, alias="schema")
    id: str
    method: str
    method_version: int = 1
    status: Status = "queued"
    name: str = ""
    note: str = ""
    pinned: bool = False
    network: NetworkRef
    inputs: list[Input] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    requested_device: str = "auto"
    requested_provider: str = "auto"
    device: str = ""
    provider: str = ""
    precision: str = ""
    ran: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""
    created: str = ""
    started: str = ""
    finished: str = ""
    seconds: float = 0.0
    load_seconds: float = 0.0
    work: float = 0.0
    summary: dict[str, Any] = Field(default_factory=dict)
    panels: list[AnyPanel] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: str = ""
    fingerprint: str = ""
    lane: str = ""
    imported: str = ""

    @property
    def title(self) -> str:
        """The name that the user gave, or the method's title and the photo or data set."""
        if self.name:
            return self.name
        with contextlib.suppress(FoveaError):
            return " · ".join([find_method(self.method).title, *([self.subject] if self.subject else [])])
        return self.method

    @property
    def subject(self) -> str:
        """What the run looked at: its photo's or data set's title, or ""."""
        return next((one.title or one.reference for one in self.inputs if one.kind != "network"), "")

    @property
    def image(self) -> str | None:
        """The reference of the photo, or None."""
        return next((one.reference for one in self.inputs if one.name == "image"), None)

    def request(self) -> Request:
        """The request that gives this run again."""
        return Request(
            method=self.method,
            network=self.network.name,
            image=self.image,
            options=self.options,
            seed=self.seed,
            device=self.requested_device,
            provider=self.requested_provider,
            name=self.name,
        )

    def to_json(self) -> str:
        """The text of run.json."""
        return self.model_dump_json(by_alias=True, indent=1)


@dataclass(frozen=True)
class Plan:
    """A request whose names are all resolved: what will run, on what, and its fingerprint."""

    request: Request
    method: Method
    options: Options
    card: Card
    device: str
    inputs: tuple[Input, ...]
    fingerprint: str
    work: float


def now() -> str:
    """The time, ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def validate(request: Request) -> tuple[Method, Options]:
    """The method and its complete options, if the request can be queued; loads no network.

    What the network's card could refuse is checked where a card is cached. Raises FoveaError: one line.
    """
    method = find_method(request.method)
    options = method.options.parse(request.options)
    if request.device not in DEVICES:
        raise OptionsError(f"device must be one of {', '.join(DEVICES)}, not {request.device!r}")
    if request.provider not in PROVIDERS:
        raise OptionsError(f"provider must be one of {', '.join(PROVIDERS)}, not {request.provider!r}")
    if not 0 <= request.seed < SEEDS:
        raise OptionsError(f"seed must be from 0 to {SEEDS - 1}, not {request.seed}")
    if method.photo and not request.image:
        raise OptionsError(f"{method.name} needs a photo: give --image PATH or --image sample:cat")
    if request.image:
        from fovea.engine.data.photos import photo_sha256

        photo_sha256(request.image)
    card = _cached_card(request.network)
    if card is not None:
        method.verify(card, options)
    return method, options


def portable(request: Request) -> Request:
    """The request with its files named so that another process finds them: photos by content, full paths.

    Raises FoveaError: one line.
    """
    method = find_method(request.method)
    options = dict(request.options)
    for name in method.options.names(PhotoKind):
        if options.get(name):
            options[name] = _kept_photo(str(options[name]))
    for name in method.options.names(DatasetKind):
        if options.get(name) and Path(str(options[name])).expanduser().exists():
            options[name] = str(Path(str(options[name])).expanduser().resolve())
    image = _kept_photo(request.image) if request.image else None
    return request.model_copy(update={"image": image, "options": options})


def plan(request: Request, *, quick: bool = False) -> Plan | None:
    """Resolve what a request names and compute its fingerprint.

    `quick`: return None rather than load a network, list a data set or ask torch for the devices.
    Raises FoveaError: one line.
    """
    method, options = validate(request)
    if quick and (
        any(getattr(options, name) for name in method.options.names(DatasetKind))
        or any(_cached_card(name) is None for name in _other_networks(method, options))
    ):
        return None
    card = _cached_card(request.network)
    device = _remembered_device(request.device) if quick else resolve_device(request.device)
    if card is None and not quick:
        from fovea.models.zoo import load

        card = load(request.network).card
        method.verify(card, options)
    if card is None or device is None:
        return None
    options, inputs = _resolve_inputs(request, method, options)
    images = sum(one.images for one in inputs)
    fingerprint = _fingerprint(request, method, options, card, device, inputs)
    return Plan(request, method, options, card, device, tuple(inputs), fingerprint, method.work(card, options, images))


def execute(
    request: Request,
    store: Store,
    run_id: str | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    announce: Callable[[str], None] | None = None,
) -> RunRecord:
    """Run a request in this process and save it; returns the record, whose status tells how it ended.

    A finished run of the same fingerprint is returned instead, unless `fresh`. `run_id` is the queued run
    that this is. Without one, a request that cannot start raises FoveaError and leaves nothing behind; where it
    goes over a data set, `announce` is told before it starts what it will take.
    """
    if run_id is None:
        found = None if fresh else _find_quickly(request, store)
        if found is not None:
            return store.run(found).record
        planned = _planned(request)
        found = None if fresh else store.find_done(planned.fingerprint)
        if found is not None:
            return store.run(found).record
        if announce is not None and (images := sum(one.images for one in planned.inputs)):
            announce(_expected(planned, images, store))
        with store.begin(_planned_record(store.new_record(request), planned)) as live:
            return _run(planned, store, live, fresh, listener)
    with store.begin(store.run(run_id).record) as live:
        try:
            planned = _planned(request)
        except Exception as error:
            return _finish_failed(store, live, error)
        found = None if fresh else store.find_done(planned.fingerprint)
        if found is not None:
            store.alias(run_id, found)
            return store.run(found).record
        store.update(live, _planned_record(live.record, planned))
        return _run(planned, store, live, fresh, listener)


def _expected(planned: Plan, images: int, store: Store) -> str:
    from fovea.engine.estimate import expect, in_words

    return in_words(expect(planned.method.name, planned.request.network, planned.options, images, store), images)


def _find_quickly(request: Request, store: Store) -> str | None:
    """The finished run of this request, if that can be told without importing torch."""
    planned = plan(request, quick=True)
    return None if planned is None else store.find_done(planned.fingerprint)


def _planned(request: Request) -> Plan:
    planned = plan(request)
    assert planned is not None, "only a quick plan may be None"
    return planned


def _run(planned: Plan, store: Store, live: LiveRun, fresh: bool, listener: Listener | None) -> RunRecord:
    """Call the method under its live run and save however it ends."""
    started = time.monotonic()
    frame: NDArray[np.uint8] | None = None
    job: Job | None = None
    try:
        from fovea.models.zoo import load

        reporter = _Reporter(live, listener)
        reporter(0.0, "loading the network")
        with _checkpoints(store, planned, fresh) as checkpoints:
            network = load(planned.request.network)
            job = _job(planned, network, checkpoints, reporter, store)
            if job.photo is not None:
                frame = job.frame
                live.save_photo(frame)
            planned.method.verify(network.card, planned.options)
            _seed_torch(planned.request.seed)
            loaded = time.monotonic()
            result = planned.method.run(job)
            live.raise_if_cancelled()
            record = _ran_record(live.record, job, result, started, loaded)
            record = store.save(record, result, frame, live)
        shutil.rmtree(_checkpoint_folder(store, planned), ignore_errors=True)
        return record
    except KeyboardInterrupt:
        store.finish(_ended(live.record, job, "interrupted", started), live, "stopped by Ctrl-C; repeat it to go on")
        raise
    except Cancelled:
        return store.finish(_ended(live.record, job, "cancelled", started), live)
    except Exception as error:
        live.record = _ended(live.record, job, "failed", started)
        return _finish_failed(store, live, error)


def _finish_failed(store: Store, live: LiveRun, error: Exception) -> RunRecord:
    """Keep a failed run: a mistake of the user's is one line, anything else also leaves its traceback."""
    record = live.record.model_copy(update={"status": "failed", "finished": now()})
    if isinstance(error, FoveaError):
        return store.finish(record, live, str(error))
    line = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    if len(line) > 500:
        line = line[:499] + "…"
    return store.finish(record, live, line, "".join(traceback.format_exception(error)))


class _Reporter:
    """The `progress` of a job: keeps the live folder up to date, tells the listener, raises if cancelled."""

    def __init__(self, live: LiveRun, listener: Listener | None) -> None:
        self._live, self._listener = live, listener

    def __call__(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        self._live.raise_if_cancelled()
        fraction = min(max(float(fraction), 0.0), 1.0)
        self._live.report(fraction, message, preview, curve)
        if self._listener is not None:
            self._listener(fraction, message, preview, curve)


def _job(planned: Plan, network: Network, checkpoints: Path, progress: _Reporter, store: Store) -> Job:
    from fovea.engine.data.catalogue import open_dataset
    from fovea.engine.data.photos import open_photo

    image = next((one.reference for one in planned.inputs if one.name == "image"), None)
    return Job(
        network=network,
        options=planned.options,
        seed=planned.request.seed,
        device=planned.device,
        provider=planned.request.provider,
        photo=open_photo(image) if image else None,
        checkpoints=checkpoints,
        progress=Progress(progress),
        open_dataset=open_dataset,
        open_photo=open_photo,
        find_runs=lambda method: _finished_runs(store, method, planned.card),
        warnings=[RANDOM_WARNING] if network.card.random else [],
    )


def _finished_runs(store: Store, method: str, card: Card) -> Iterator[StoredRun]:
    """The finished runs of a method on the network that answers just as this card's, newest first."""
    same = _card_sha256(card)
    for offset in itertools.count(0, RUNS_A_LOOK):
        rows = store.list(method=method, network=card.name, status="done", limit=RUNS_A_LOOK, offset=offset)
        for row in rows:
            with contextlib.suppress(FoveaError):  # deleted since it was listed
                run = store.run(row.id)
                if run.record.network.card == same:
                    yield run
        if len(rows) < RUNS_A_LOOK:
            return


def _planned_record(record: RunRecord, planned: Plan) -> RunRecord:
    card = planned.card
    return record.model_copy(
        update={
            "method_version": planned.method.version,
            "network": NetworkRef(name=card.name, sha256=card.sha256, card=_card_sha256(card), random=card.random),
            "inputs": list(planned.inputs),
            "options": planned.options.model_dump(mode="json"),
            "device": planned.device,
            "work": planned.work,
            "fingerprint": planned.fingerprint,
            "versions": versions(),
            "machine": platform.machine() + " " + platform.system(),
            "warnings": [RANDOM_WARNING] if card.random else [],
            "started": now(),
        }
    )


def _ended(record: RunRecord, job: Job | None, status: Status, started: float) -> RunRecord:
    seconds = round(time.monotonic() - started, 3)
    update: dict[str, Any] = {"status": status, "finished": now(), "seconds": seconds}
    if job is not None:
        update |= {
            "warnings": list(job.warnings),
            "ran": dict(job.ran),
            "provider": job.ran.get("provider", ""),
            "precision": job.ran.get("precision", "fp32"),
        }
    return record.model_copy(update=update)


def _ran_record(record: RunRecord, job: Job, result: Result, started: float, loaded: float) -> RunRecord:
    update = {
        "summary": plain(result.summary),
        "panels": list(result.panels),
        "load_seconds": round(loaded - started, 3),
    }
    return _ended(record, job, "done", started).model_copy(update=update)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy scalars and arrays become Python's, what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


# What a request names ------------------------------------------------------------------------------------


def _cached_card(network: str) -> Card | None:
    from fovea.models.zoo import cached_card

    return cached_card(network)


def _resolve_inputs(request: Request, method: Method, options: Options) -> tuple[Options, list[Input]]:
    """What the run reads, by content; photos are kept, so that the run can be repeated when a file is gone."""
    inputs: list[Input] = []
    update: dict[str, Any] = {}
    if request.image:
        inputs.append(_photo_input("image", request.image))
    for name in method.options.names(PhotoKind):
        if getattr(options, name):
            inputs.append(_photo_input(name, getattr(options, name)))
            update[name] = inputs[-1].reference
    for name in method.options.names(DatasetKind):
        if getattr(options, name):
            inputs.append(_dataset_input(name, getattr(options, name)))
            update[name] = inputs[-1].reference
    for name in method.options.names(NetworkKind):
        if getattr(options, name):
            inputs.append(_network_input(name, getattr(options, name)))
    for name in method.options.names(NetworksKind):
        if getattr(options, name):
            inputs.append(_networks_input(name, getattr(options, name)))
    return options.model_copy(update=update), inputs


def _other_networks(method: Method, options: Options) -> list[str]:
    """The networks that options name."""
    names = method.options.names(NetworkKind) + method.options.names(NetworksKind)
    return [reference for name in names for reference in parts_of(getattr(options, name) or "")]


def _photo_input(name: str, reference: str) -> Input:
    from fovea.engine.data.photos import photo_name, photo_sha256

    title = photo_name(reference)
    reference = _kept_photo(reference)
    return Input(name=name, kind="photo", reference=reference, sha256=photo_sha256(reference), title=title)


def _kept_photo(reference: str) -> str:
    """The same photo by content; a file or a data set's image is kept, so that it is there when it is gone there."""
    from fovea.engine.data.photos import is_reference, keep_photo, open_photo, photo_name

    if reference.startswith(("sample:", "photo:")):
        return reference
    if is_reference(reference):
        return keep_photo(open_photo(reference), photo_name(reference))
    return keep_photo(Path(reference).expanduser())


def _dataset_input(name: str, reference: str) -> Input:
    from fovea.engine.data.catalogue import open_dataset

    dataset = open_dataset(reference)
    path = Path(reference).expanduser()
    if dataset.name != reference and path.exists():
        reference = str(path.resolve())
    return Input(
        name=name,
        kind="dataset",
        reference=reference,
        sha256=dataset.manifest_sha256(),
        title=dataset.name,
        images=len(dataset),
    )


def _network_input(name: str, reference: str) -> Input:
    card = _cached_card(reference)
    if card is None:
        from fovea.models.zoo import load

        card = load(reference).card
    return Input(name=name, kind="network", reference=reference, sha256=_card_sha256(card), title=card.title)


def _networks_input(name: str, references: str) -> Input:
    """Several networks as one input."""
    each = [_network_input(name, reference) for reference in parts_of(references)]
    together = hashlib.sha256(" ".join(one.sha256 for one in each).encode()).hexdigest()
    return Input(
        name=name, kind="network", reference=references, sha256=together, title=", ".join(one.title for one in each)
    )


def _card_sha256(card: Card) -> str:
    """The hash of all that shapes the network's answers: weights, preprocessing, classes, layers."""
    content = card.model_dump_json(include={"sha256", "architecture", "preprocessing", "classes", "output"})
    return hashlib.sha256(content.encode()).hexdigest()


def _fingerprint(
    request: Request, method: Method, options: Options, card: Card, device: str, inputs: list[Input]
) -> str:
    by_content = {one.name: one.sha256 for one in inputs}
    content = {
        "method": [method.name, method.version],
        "network": [card.sha256, _card_sha256(card)],
        "inputs": by_content,
        "options": {name: value for name, value in options.model_dump(mode="json").items() if name not in by_content},
        "seed": request.seed,
        "device": device,
        "provider": request.provider,
        "precision": "fp32",
    }
    if method.reads:
        from fovea.engine.store import Store

        content["reads"] = [run.id for name in method.reads for run in _finished_runs(Store(), name, card)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Where it runs -------------------------------------------------------------------------------------------


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" is CUDA where torch has it. Raises ProviderError. Imports torch."""
    if device == "cpu":
        return "cpu"
    import torch

    cuda = torch.cuda.is_available()
    _remember_cuda(cuda)
    if device == "cuda" and not cuda:
        raise ProviderError("device cuda was asked for, and torch finds no CUDA device here: use --device cpu or auto")
    return "cuda" if cuda else "cpu"


def _machine_file() -> Path:
    from fovea.models.home import home

    return home() / "machine.json"


def _remember_cuda(cuda: bool) -> None:
    """Note it, so that a page can tell a request's fingerprint without importing torch."""
    text = json.dumps({"cuda": cuda, "host": platform.node()})
    with contextlib.suppress(OSError):
        if not _machine_file().exists() or _machine_file().read_text(encoding="utf-8") != text:
            _machine_file().write_text(text, encoding="utf-8")


def _remembered_device(device: str) -> str | None:
    if device != "auto":
        return device
    try:
        machine = json.loads(_machine_file().read_text(encoding="utf-8"))
        if machine["host"] == platform.node():
            return "cuda" if machine["cuda"] else "cpu"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _seed_torch(seed: int) -> None:
    """Methods seed their own generators; this catches what a network does by itself."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _checkpoint_folder(store: Store, planned: Plan) -> Path:
    return store.home / "checkpoints" / planned.fingerprint


@contextlib.contextmanager
def _checkpoints(store: Store, planned: Plan, fresh: bool) -> Iterator[Path]:
    """The folder that the same request finds again, emptied if `fresh`; a twin running now gets one of its own."""
    from fovea.engine.store import Lock

    folder = _checkpoint_folder(store, planned)
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / ".lock")
    if lock.acquire():
        try:
            if fresh:
                for path in folder.iterdir():
                    if path.name != ".lock":
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield folder
        finally:
            lock.release()
    else:
        with tempfile.TemporaryDirectory(prefix="twin-", dir=folder.parent) as own:
            yield Path(own)


def versions() -> dict[str, str]:
    """The versions of Fovea, Python and the packages that shape results, without importing them."""
    found = {"fovea": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
