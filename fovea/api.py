"""A network and its runs in Python: every method as a function, every result as arrays, tables and pictures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fovea.engine.errors import FoveaError, OptionsError, unknown
from fovea.engine.method import Method, methods
from fovea.engine.options import DatasetKind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from fovea.engine.run.record import RunRecord
    from fovea.engine.store.folder import StoredRun
    from fovea.models.card import Card

ValueT = TypeVar("ValueT")


class Network:
    """One network; each method of the registry is a function of it: `network.occlusion("cat.jpg", window=48)`.

    A method's first argument is the photo, or the data set where it takes no photo; the others are the options of the
    command line, by name. Photos are paths, `sample:NAME`, Pillow pictures or uint8 arrays (H, W, 3). Every function
    also takes `seed`, `device`, `provider`, `name` and `fresh`. It returns a `Run`, and raises FoveaError, one line,
    where something is wrong or the run fails.
    """

    def __init__(self, network: str | Path) -> None:
        from fovea.models.zoo import cached_card, load

        name = str(network)
        if Path(name).suffix == ".onnx" and ":" not in name[2:]:
            name = f"onnx:{Path(name).expanduser().resolve()}"
        self.name = name
        self.card: Card = cached_card(name) or load(name).card

    def __repr__(self) -> str:
        card = self.card
        return f"<{card.title}: {len(card.layers)} layers, {len(card.classes)} classes, {card.parameters:,} parameters>"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *methods()})

    def __getattr__(self, name: str) -> Callable[..., Run]:
        method = None if name.startswith("_") else methods().get(name)
        if method is None:
            raise AttributeError(str(unknown("method", name, methods())))
        return _function(self.name, method)


class _Lazy(Mapping[str, ValueT], Generic[ValueT]):
    """What a run holds by name, read when it is asked for."""

    def __init__(self, names: list[str], read: Callable[[str], ValueT]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> ValueT:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<{', '.join(self._names) or 'nothing'}>"


class Run:
    """A finished run, as its folder tells it; it is in the dashboard's Library, too."""

    def __init__(self, stored: StoredRun) -> None:
        self._stored = stored

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.summary.items())
        return f"<{self.record.method} {self.id}: {told}>"

    @property
    def id(self) -> str:
        """Its id, by which the Library and the command line know it."""
        return self._stored.id

    @property
    def folder(self) -> Path:
        """The folder that holds it."""
        return self._stored.folder

    @property
    def record(self) -> RunRecord:
        """Everything that is recorded of it: request, versions, times, warnings."""
        return self._stored.record

    @property
    def summary(self) -> dict[str, Any]:
        """A few numbers or short texts that name the outcome."""
        return self.record.summary

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Its arrays by name, in the network's input frame, height first."""
        return _Lazy(self._stored.arrays, self._stored.array)

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Its tables by name."""
        return _Lazy(self._stored.tables, self._stored.table)

    @property
    def images(self) -> Mapping[str, Image.Image]:
        """Its pictures by name; a PNG is named without its suffix."""
        names = [name.removesuffix(".png") for name in self._stored.images]
        return _Lazy(names, self._stored.image)


def _function(network: str, method: Method[Any, Any]) -> Callable[..., Run]:
    """The method as a function whose signature lists its options."""
    takes_photo = method.takes_photo
    datasets = method.options.names(DatasetKind)
    first = "photo" if takes_photo else datasets[0] if datasets else ""

    def call(subject: Any = None, /, **given: Any) -> Run:
        where: dict[str, Any] = {
            name: given.pop(name) for name in ("seed", "device", "provider", "name") if name in given
        }
        fresh = bool(given.pop("fresh", False))
        if first and first in given and (first == "photo" or subject is not None):
            if subject is not None:
                raise OptionsError(f"{method.name} was given its {first} twice: give it once")
            subject = given.pop(first)
        if subject is not None and not first:
            raise OptionsError(f"{method.name} takes no photo and no data set: give its options by name")
        if subject is not None and not takes_photo:
            given[first] = str(subject)
        image = _photo_reference(subject) if takes_photo and subject is not None else None
        return _run(network, method, image, given, where, fresh)

    call.__name__ = call.__qualname__ = method.name
    call.__doc__ = f"{method.question} {method.summary}"
    named = inspect.Parameter.KEYWORD_ONLY
    subject = [inspect.Parameter(first, inspect.Parameter.POSITIONAL_ONLY, default=None)] if first else []
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *subject,
            *(
                inspect.Parameter(name, named, default=info.default, annotation=info.annotation)
                for name, info in method.options.model_fields.items()
                if name != first
            ),
            inspect.Parameter("seed", named, default=0, annotation=int),
            inspect.Parameter("device", named, default="auto", annotation=str),
            inspect.Parameter("provider", named, default="auto", annotation=str),
            inspect.Parameter("name", named, default="", annotation=str),
            inspect.Parameter("fresh", named, default=False, annotation=bool),
        ],
        return_annotation=Run,
    )
    return call


def _run(
    network: str,
    method: Method[Any, Any],
    image: str | None,
    options: Mapping[str, Any],
    where: Mapping[str, Any],
    fresh: bool,
) -> Run:
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    store = Store()
    request = Request(method=method.name, network=network, image=image, options=dict(options), **where)
    record = execute(request, store, fresh=fresh)
    if record.status != "done":
        raise FoveaError(record.error or f"the run was {record.status}")
    return Run(store.run(record.id))


def _photo_reference(photo: str | Path | Image.Image | NDArray[np.uint8]) -> str:
    """How a run names a photo; one that is only in memory is kept by its content."""
    if isinstance(photo, str | Path):
        return str(photo)
    from PIL import Image

    from fovea.engine.data.photos import keep_photo

    return keep_photo(photo if isinstance(photo, Image.Image) else Image.fromarray(photo), "a picture in memory")
