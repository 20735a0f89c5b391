"""Reading a user's ONNX file: its weights, also those in files beside it, and the one line for what cannot be read."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from fovea.models.errors import NetworkError
from fovea.models.graph.export import LARGEST_BYTES
from fovea.models.what_file import what_file

if TYPE_CHECKING:
    import onnx

# The standard's own operators, and ONNX Runtime's built-in ones.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_LOCATION = re.compile(rb"\x0a\x08location\x12(?:([\x01-\x7f])|([\x80-\xff][\x01-\x7f]))", re.DOTALL)
"""How a protobuf begins the name of another file: a field of the text "location", then one of so many bytes."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model in a file, all its weights inside. Raises NetworkError, one line, for what cannot be read or is
    refused: weights in files out of its folder, custom operators, control flow."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise NetworkError(f"there is no ONNX file at {path}")
    if path.stat().st_size > LARGEST_BYTES:
        raise NetworkError(f"{path.name} is larger than 2 GB, which is the most that an ONNX file can hold")
    words = what_file(path)
    if words:
        raise NetworkError(f"{path.name} is not an ONNX file: it is {words}")
    try:
        model: onnx.ModelProto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError, RuntimeError):
        raise NetworkError(f"{path.name} is not an ONNX file{_torch_hint(path)}, or it is damaged") from None
    if not model.graph.node or not model.graph.output:
        raise NetworkError(f"{path.name} is not an ONNX file{_torch_hint(path)}, or it is empty")
    _refuse(model, path)
    _read_other_files(model, path)
    return model


def other_files(path: Path) -> list[Path]:
    """The files beside an ONNX file that it names for its weights, without reading it as a graph or importing onnx."""
    try:
        if not path.stat().st_size:
            return []
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = set()
            for match in _LOCATION.finditer(content):
                low, high = match[1] or match[2][:1], match[2][1:] if match[2] else b"\0"
                length = (low[0] & 0x7F) + 128 * high[0]
                names.add(content[match.end() : match.end() + length])
    except (OSError, ValueError):
        return []
    return [path.parent / name.decode(errors="replace") for name in sorted(names) if b"\0" not in name]


def _torch_hint(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith((b"PK", b"\x80\x02", b"\x80\x04")) or head[8:10] == b'{"':
        return " but weights, as torch or safetensors save them (give the architecture, and these as its weights)"
    return ""


def _refuse(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    local = {(f.domain, f.name) for f in model.functions}
    for node in model.graph.node:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in local:
            raise NetworkError(
                f"{path.name} uses the custom operator {node.domain}::{node.op_type}, which cannot be run"
            )
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise NetworkError(f"{path.name} branches or loops ({node.op_type}): such a graph cannot be cut at a layer")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors


def _read_other_files(model: onnx.ModelProto, path: Path) -> None:
    """Take the weights that lie in other files into the model. Raises NetworkError."""
    import onnx

    room = LARGEST_BYTES - path.stat().st_size
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        file = _file_beside(path, facts.get("location", ""))
        tensor.raw_data = _bytes_of(file, facts, path, room)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        room -= len(tensor.raw_data)


def _file_beside(path: Path, location: str) -> Path:
    """The other file that an ONNX file names: in its folder or below, links followed. Raises NetworkError."""
    place = PurePosixPath(location.replace("\\", "/"))
    folders = [path.parent.resolve()]
    if path.is_symlink():  # a cache keeps files under other names in one folder, and links to them
        folders.append(path.resolve().parent)
    inside = bool(location) and not place.is_absolute() and not PureWindowsPath(location).drive
    file = path.parent / place
    if not inside or ".." in place.parts or not any(file.resolve().is_relative_to(folder) for folder in folders):
        raise NetworkError(
            f"{path.name} keeps its weights in another file ({location or '?'}), which is not in its folder: "
            "put both into one folder and save it there again, or save it as one file"
        )
    if not file.is_file():
        raise NetworkError(
            f"{path.name} keeps its weights in another file, {location}, which is missing: put it beside {path.name}"
        )
    words = what_file(file) if file.stat().st_size < 4096 else ""
    if words.startswith(("a Git LFS pointer", "a web page", "empty")):
        raise NetworkError(f"{path.name} keeps its weights in another file, {location}, which is {words}")
    return file


def _bytes_of(file: Path, facts: Mapping[str, str], path: Path, room: int) -> bytes:
    """The bytes of a tensor in another file. Raises NetworkError where they are not there, or too many."""
    try:
        offset = int(facts.get("offset") or 0)
        length = int(facts.get("length") or file.stat().st_size - offset)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise NetworkError(
            f"{path.name} and {file.name} do not belong together: it asks for more of {file.name} than there is"
        )
    if length > room:
        raise NetworkError(f"{path.name} and its weights are larger than 2 GB, which is the most that can be read")
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
