"""Reading a file of weights, whatever wraps them: every tensor in it with the keys that lead there.

Nothing here runs code from a file: safetensors, `torch.load(weights_only=True)`, and where that refuses an object, our
own reader, in which inert stand-ins take its place (`fovea.models.inert_pickle`).
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fovea.models.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

MOST_DEPTH, MOST_TENSORS = 16, 200_000
"""So deep and so far a file is searched."""

Kind: TypeAlias = Literal["safetensors", "pickle", "torchscript", "export"]

_FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: fetch it with git lfs pull"),
    (b"<!DOCTYPE", "is a web page, not the file itself: download it again from its own address"),
    (b"<!doctype", "is a web page, not the file itself: download it again from its own address"),
    (b"<html", "is a web page, not the file itself: download it again from its own address"),
    (b"\x89HDF", "is an HDF5 file, which Keras writes: save the weights with torch or as safetensors"),
    (b"\x93NUMPY", "is a NumPy array: save a state dict with torch, or safetensors"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"GGUF", "is a GGUF file: save the weights with torch or as safetensors"),
)
"""How files begin that are often found under the name of weights, and what is said of them."""


@dataclass(frozen=True)
class Leaf:
    """One tensor of a file. `keys` lead to it from the file's top; `module` is the class of the pickled torch module
    that holds it, "" if it lies in plain containers."""

    keys: tuple[str, ...]
    tensor: Tensor
    module: str = ""

    @property
    def name(self) -> str:
        """All keys, joined by dots."""
        return ".".join(self.keys)


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    `entries`: the names at its top, those of numbers and settings beside the weights too. `notes`: one line each.
    """

    file: str
    leaves: tuple[Leaf, ...]
    entries: tuple[str, ...] = ()
    kind: Kind = "pickle"
    notes: tuple[str, ...] = field(default=())


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a file: safetensors, what `torch.save` wrote, or TorchScript (none of whose code is run).

    Floating point tensors come back as float32. Raises WeightsError, one line, for a missing, unsafe or unreadable
    file, and for one without tensors.
    """
    kind = kind_of(path)
    if kind == "export":
        raise WeightsError(
            f"{path.name} is a torch.export archive, a whole network: name it as the architecture (torch:{path.name}) "
            "with --trust, or save a state dict"
        )
    content = _read_safetensors(path) if kind == "safetensors" else _read_torch(path, kind)
    if not isinstance(content, dict | list | tuple) and type(content).__name__ != "Inert":
        raise WeightsError(
            f"{path.name} holds a {type(content).__name__}: it must hold a state dict, which maps names to tensors"
        )
    leaves = tuple(_leaves(content))
    if not leaves:
        what = "a list" if isinstance(content, list) else "no tensors"
        raise WeightsError(f"{path.name} holds {what}: it must hold a state dict, which maps names to tensors")
    narrow = sorted({_words(leaf.tensor.dtype) for leaf in leaves if _is_narrow(leaf.tensor)})
    leaves = tuple(Leaf(x.keys, x.tensor.float(), x.module) if x.tensor.is_floating_point() else x for x in leaves)
    notes = [f"The weights were stored as {' and '.join(narrow)} and are used as float32."] if narrow else []
    if kind == "torchscript":
        notes.append(f"{path.name} is TorchScript: its weights were taken out of it, and none of its code was run.")
    entries = tuple(str(key) for key in content) if isinstance(content, dict) else ()
    return Checkpoint(path.name, leaves, entries, kind, tuple(notes))


def _words(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize < 4


def kind_of(path: Path) -> Kind:
    """What a file of weights is, by its first bytes. Raises WeightsError for what is none."""
    if not path.is_file():
        raise WeightsError(f"there is no file of weights at {path}")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsError(f"{path.name} is empty: it must hold safetensors or a state dict saved by torch")
    for begin, line in _FOREIGN:
        if head.lstrip().startswith(begin):
            raise WeightsError(f"{path.name} {line}")
    if (path.suffix == ".safetensors" and head[:2] != b"PK") or (head[8:9] == b"{" and head[6:8] == b"\0\0"):
        return "safetensors"
    if head[:2] == b"PK":
        return _kind_of_zip(path)
    if not head.startswith(b"\x80"):
        raise WeightsError(f"{path.name} holds no weights: it must hold safetensors or a state dict saved by torch")
    return "pickle"


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "pickle"  # torch tells what is wrong with it
    inside = {name.partition("/")[2] for name in names}
    if any(name == "archive_format" or (name.startswith("models/") and name.endswith(".json")) for name in inside) or (
        "serialized_exported_program.json" in {*inside, *names}
    ):
        return "export"
    if "constants.pkl" in inside:
        return "torchscript"
    if "data.pkl" not in inside:
        if any(name.endswith(".npy") for name in names):
            raise WeightsError(f"{path.name} is a NumPy archive: save a state dict with torch, or safetensors")
        raise WeightsError(f"{path.name} is a zip file of other things (such as {names[0] if names else 'nothing'})")
    return "pickle"


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.name} cannot be read as safetensors: {one_line(error)}") from None


def _read_torch(path: Path, kind: Kind) -> Any:
    """What torch reads by itself without running code, or else the same file with stand-ins for what it refuses."""
    import torch

    refused = ""
    if kind == "pickle":
        try:
            with warnings.catch_warnings():
                # A plain pickle of a newer protocol is warned about before it is refused.
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            refused = one_line(error)
    from fovea.models.inert_pickle import Damaged, RunsCode, read_stream, read_zip

    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(path):
                return read_stream(file, path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            inner = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
            return read_zip(path, archive, inner.removesuffix("data.pkl"))
    except RunsCode as error:
        raise WeightsError(
            f"{path.name} is a pickle that would run code ({error}), none of which was run: save a state dict or "
            "safetensors instead"
        ) from None
    except (Damaged, OSError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        told = refused or one_line(error)
        raise WeightsError(f"{path.name} is damaged, or torch did not save it: {told}") from None


# --- what lies in it -----------------------------------------------------------------------------------------


def _leaves(content: Any) -> Iterator[Leaf]:
    """Every dense tensor in nested mappings, lists and stand-ins, each with its keys."""
    left = MOST_TENSORS
    for leaf in _walk(content, (), "", ()):
        if left == 0:
            return
        left -= 1
        yield leaf


def _walk(value: Any, keys: tuple[str, ...], module: str, above: tuple[int, ...]) -> Iterator[Leaf]:
    import numpy as np
    import torch

    from fovea.models.inert_pickle import Inert, array

    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu":
            yield Leaf(keys, value.detach(), module)
        return
    if id(value) in above or len(keys) > MOST_DEPTH:
        return
    above = (*above, id(value))
    if isinstance(value, Inert):
        numbers = array(value)
        if numbers is not None:
            yield Leaf(keys, torch.from_numpy(numbers), module)
            return
        inside, module = _inside(value, module)
        for key, item in inside:
            yield from _walk(item, (*keys, key) if key else keys, module, above)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        yield Leaf(keys, torch.from_numpy(np.ascontiguousarray(value)), module)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*keys, str(key)), module, above)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*keys, str(index)), module, above)


def _inside(stand_in: Any, module: str) -> tuple[Iterator[tuple[str, Any]], str]:
    """The named parts of a stand-in, and the class of the torch module that it belongs to, if to one."""
    state = stand_in.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] if isinstance(state[0], dict) else {}), **state[1]}
    parts = dict(state) if isinstance(state, dict) else {}
    if "_parameters" in parts and "_modules" in parts:
        own = [parts.get(key) for key in ("_parameters", "_buffers", "_modules")]
        left_out = _members(parts.get("_non_persistent_buffers_set"))
        inner = [(key, item) for part in own for key, item in _pairs(part) if key not in left_out]
        return iter(inner), module or str(stand_in.kind)
    inside = [*parts.items(), *stand_in.mapping.items(), *((str(i), x) for i, x in enumerate(stand_in.items))]
    inside += [("", x) for x in stand_in.args if isinstance(x, dict)]
    if state is not None and not parts:
        inside.append(("", state))
    return iter([(str(key), item) for key, item in inside]), module


def _members(part: Any) -> set[Any]:
    """The members of a pickled set of names, which may be a stand-in."""
    listed = [*getattr(part, "items", ()), *(x for args in getattr(part, "args", ()) for x in args)]
    return part if isinstance(part, set) else {name for name in listed if isinstance(name, str)}


def _pairs(part: Any) -> list[tuple[str, Any]]:
    """The items of a pickled mapping, which may be a stand-in itself."""
    mapping = part if isinstance(part, dict) else getattr(part, "mapping", {})
    return [(str(key), item) for key, item in mapping.items()]


def one_line(error: BaseException) -> str:
    """What an error says, in one short line."""
    text = str(getattr(error, "reason", None) or error).strip()
    return (text.splitlines() or [type(error).__name__])[0][:160].rstrip(".") or type(error).__name__
