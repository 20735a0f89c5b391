"""Reading what torch pickled without importing or calling anything that the file names.

Whatever is no plain value and no tensor becomes an `Inert` stand-in, which keeps what the pickle says of the object and
does nothing. Both of torch's formats are read (the zip archive and the older row of pickles), and plain pickles.
"""

from __future__ import annotations

import enum
import io
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

_split = str.split
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class RunsCode(Exception):
    """The pickle calls a function; its text is the function's full name. The call was not made."""


class Damaged(Exception):
    """The bytes are no whole pickle, or one that contradicts itself."""


@dataclass(frozen=True)
class Named:
    """What the pickle names by its module: a class, a function, a value. Nothing was imported for it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """What stands for an object: its class, the arguments it was made with, and what was put into it afterwards."""

    kind: Named
    args: tuple[Any, ...] = ()
    state: Any = None
    mapping: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class _Storage:
    """The bytes of a tensor, and of which type its numbers are; `data` may be filled after tensors were made of it."""

    data: bytearray
    dtype: torch.dtype


def read_zip(path: Path, archive: zipfile.ZipFile, root: str) -> Any:
    """What torch saved as the zip archive `archive`, whose records lie below `root`. Raises RunsCode, Damaged."""
    kept: dict[str, _Storage] = {}

    def storage(kind: Any, key: Any, size: Any) -> _Storage:
        if key not in kept:
            dtype, width = _dtype_of_storage(kind)
            data = bytearray(archive.read(f"{root}data/{key}"))
            if len(data) < size * width:
                raise Damaged(f"the record data/{key} is too short")
            kept[key] = _Storage(data, dtype)
        return kept[key]

    return _guarded(lambda: _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load())


def read_stream(file: BinaryIO, size: int) -> Any:
    """What a file of `size` bytes holds in torch's older format, or as a plain pickle. Raises RunsCode, Damaged."""
    return _guarded(lambda: _read_stream(file, size))


def _read_stream(file: BinaryIO, size: int) -> Any:
    kept: dict[str, _Storage] = {}

    def storage(kind: Any, key: Any, count: Any) -> _Storage:
        if key not in kept:
            dtype, width = _dtype_of_storage(kind)
            if count < 0 or count * width > size:
                raise Damaged("a tensor is larger than the file")
            kept[key] = _Storage(bytearray(count * width), dtype)
        return kept[key]

    def load() -> Any:
        return _Unpickler(file, storage).load()

    first = load()
    if first != _LEGACY_MAGIC:
        return first
    load()  # the version of the format
    load()  # the machine it was saved on
    content = load()
    for key in load():
        target = kept.get(key)
        (count,) = struct.unpack("<q", file.read(8))
        if target is None:
            raise Damaged(f"no tensor uses the storage {key}")
        if file.readinto(memoryview(target.data)) != len(target.data) or count < 0:  # type: ignore[attr-defined]
            raise Damaged("it ends too early")
    return content


def _guarded(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (RunsCode, Damaged):
        raise
    except Exception as error:  # whatever a damaged pickle makes of a list of opcodes
        raise Damaged(f"{type(error).__name__}: {error}") from error


# --- what may be put together --------------------------------------------------------------------------------

_DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip


def _dtype_of_storage(kind: Any) -> tuple[torch.dtype, int]:
    dtype = _DTYPES.get(kind.name) if isinstance(kind, Named) else None
    if dtype is None:
        raise Damaged(f"there is no storage {kind}")
    return dtype, dtype.itemsize


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_tensor` and its later versions; the third names the type of the numbers itself."""
    if not isinstance(storage, _Storage):
        raise Damaged("a tensor without a storage")
    named = next((x for x in rest[2:3] if isinstance(x, Named)), None)
    dtype = getattr(torch, named.name, None) if named is not None and named.module == "torch" else storage.dtype
    if not isinstance(dtype, torch.dtype):
        raise Damaged(f"there is no type of numbers {named}")
    size, stride = tuple(size), tuple(stride)
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset < 0 or min((*size, *stride, 0)) < 0 or (last + 1) * dtype.itemsize > len(storage.data):
        raise Damaged("a tensor reaches beyond its storage")
    count = len(storage.data) // dtype.itemsize
    return torch.frombuffer(storage.data, dtype=dtype, count=count).as_strided(size, stride, offset)


def _first(data: Any = None, *_: Any) -> Any:
    """A parameter is its tensor."""
    return data


def _of_type(make: Any, _: Any, args: Any, *__: Any) -> Any:
    """A tensor of a class of its own: the plain tensor."""
    return _CALLS[str(make)](*args) if str(make) in _CALLS else Inert(make, tuple(args))


def _from_bytes(data: Any) -> Any:
    """What a plain pickle keeps of a storage: a whole file of torch's older format."""
    return _read_stream(io.BytesIO(data), len(data))


def _ordered(items: Any = (), *_: Any) -> dict[Any, Any]:
    return dict(items)


def _encoded(text: str, encoding: str = "latin1") -> Any:
    """How protocol 2 writes bytes."""
    return text.encode("latin1") if encoding in ("latin1", "latin-1") else text


_CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.storage._load_from_bytes": _from_bytes,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": tuple,
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encoded,
}
"""The only calls that are made, all of them functions of this file or plain containers."""


def array(value: Inert) -> np.ndarray[Any, Any] | None:
    """The NumPy array of numbers that a stand-in stands for; None if it is none."""
    name, state = value.kind.name, value.state
    if value.kind.module.split(".")[0] != "numpy":
        return None
    if name == "_reconstruct" and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, fortran, data = state
    elif name == "_frombuffer" and len(value.args) == 4:
        data, kind, shape, order = value.args
        fortran = order == "F"
    else:
        return None
    code = kind.args[0] if isinstance(kind, Inert) and kind.args else None
    if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?[fiub]\d", code):
        return None
    swapped = isinstance(kind.state, tuple) and len(kind.state) > 1 and kind.state[1] == ">"
    raw = data.encode("latin1") if isinstance(data, str) else data
    dtype = np.dtype(code.lstrip("<>=|")).newbyteorder(">" if swapped else "<")
    try:
        made = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError):
        return None
    return np.array(made, dtype=dtype.newbyteorder("="), order="C")


# --- what runs code ------------------------------------------------------------------------------------------

_PLAIN_MODULES = {
    "argparse", "pathlib", "datetime", "_datetime", "collections", "enum", "decimal", "_decimal", "fractions", "uuid",
    "ipaddress", "zoneinfo", "random", "dataclasses", "logging",
}  # fmt: skip
"""Modules of the standard library whose classes are data, and lie in the checkpoints that people have."""
_PLAIN_OBJECTS = set(
    _split(
        """datetime.datetime datetime.date datetime.time datetime.timedelta datetime.timezone _datetime.datetime
        collections.deque collections.defaultdict functools.partial logging.getLogger re._compile time.struct_time
        copyreg._reconstructor copy_reg._reconstructor array.array array._array_reconstructor types.SimpleNamespace
        types.MappingProxyType _codecs.encode"""
    )
)
"""The same of others, and what is not written like a class."""
_PLAIN_BUILTINS = set(
    _split(
        """set frozenset list dict tuple bytearray bytes complex int float str bool slice range object type Ellipsis
        NotImplemented unicode long xrange"""
    )
)
_CALLED_PLAIN = re.compile(r"_*(re)?(build|construct|unpickle|restore|make|create|from)(_|$)|.*(_ctor|reconstruct)$")
"""Names of functions by which packages put their data together again when they are unpickled."""
_PLAIN_CALLS = re.compile(
    r"(torch\.(device|dtype|Generator|Size)|torch\.jit\._pickle\.\w+|torch\.serialization\._get_layout"
    r"|numpy\.(dtype|ndarray|u?int\d*|float\d*|bool_?|str_|bytes_)|numpy\.(core|_core|random|ma)\.[\w.]+)"
)


def _demand_harmless(kind: Named, *, called: bool) -> None:
    """Raise RunsCode for what is no data. `called`: by a call rather than as a class whose object is made."""
    top = kind.module.split(".")[0]
    if top in ("builtins", "__builtin__", "__builtins__"):
        harmless = kind.name in _PLAIN_BUILTINS or kind.name.endswith(("Error", "Exception"))
    elif top in sys.stdlib_module_names or top in ("nt", "posix", "commands", "urllib2", "cPickle"):
        data = kind.module in _PLAIN_MODULES or top in ("pathlib", "zoneinfo")
        harmless = (data and kind.name[:1].isupper()) or str(kind) in _PLAIN_OBJECTS or _is_enum(kind)
    else:
        last = kind.name.rpartition(".")[2]
        harmless = (
            not called
            or last.lstrip("_")[:1].isupper()
            or _CALLED_PLAIN.match(last) is not None
            or _PLAIN_CALLS.fullmatch(str(kind)) is not None
        )
    if not harmless:
        raise RunsCode(str(kind))


def _is_enum(kind: Named) -> bool:
    """Whether it is an enumeration of a module of the standard library that is loaded anyway."""
    return isinstance(getattr(sys.modules.get(kind.module), kind.name, None), enum.EnumMeta)


_Base: Any = pickle._Unpickler


class _Unpickler(_Base):  # type: ignore[misc]
    """Python's own unpickler with every opcode replaced that looks something up, calls it, or writes into it.

    On its stack lie only plain values, tensors, `Named`, `Inert` and `_Storage`.
    """

    def __init__(self, file: BinaryIO, storage: Callable[[Any, Any, Any], _Storage]) -> None:
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Named:
        return Named(module, name)

    def get_extension(self, code: int) -> None:
        raise RunsCode(f"the registered extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            storage = self._storage(pid[1], pid[2], pid[4])
            view = pid[5] if len(pid) > 5 else None
            if view is not None:
                raise Damaged("it was saved by a torch that is too old")
            return storage
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]  # a class with its source code, as torch kept them once
        raise Damaged(f"an unknown reference {pid!r:.60}")

    def _instantiate(self, kind: Any, args: Any) -> None:
        self.append(_make(kind, tuple(args)))

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.append(_make(self.stack.pop(), args))

    def load_newobj_ex(self) -> None:
        named = self.stack.pop()
        args = self.stack.pop()
        made = _make(self.stack.pop(), args)
        if isinstance(made, Inert) and isinstance(named, dict):
            made.mapping.update(named)
        self.append(made)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        kind = self.stack[-1]
        call = _CALLS.get(str(kind)) if isinstance(kind, Named) else None
        if call is not None:
            self.stack[-1] = call(*args)
            return
        if not isinstance(kind, Named):
            raise RunsCode(f"a call of what {kind.kind} made" if isinstance(kind, Inert) else "a call of no function")
        _demand_harmless(kind, called=True)
        self.stack[-1] = Inert(kind, tuple(args))

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif isinstance(target, Inert):
            target.items.extend(items)
        else:
            raise Damaged("it appends to what is no list")

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._put([self.stack.pop(), value])

    def load_setitems(self) -> None:
        self._put(self.pop_mark())

    def _put(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        mapping = target.mapping if isinstance(target, Inert) else target
        if type(mapping) is not dict:
            raise Damaged("it sets items of what is no mapping")
        mapping.update(zip(pairs[::2], pairs[1::2], strict=True))

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if type(target) is set:
            target.update(items)
        elif isinstance(target, Inert):
            target.items.extend(items)
        else:
            raise Damaged("it adds to what is no set")

    dispatch: ClassVar[dict[int, Any]] = dict(_Base.dispatch)
    for _code, _load in (
        (pickle.NEWOBJ, load_newobj), (pickle.NEWOBJ_EX, load_newobj_ex), (pickle.REDUCE, load_reduce),
        (pickle.BUILD, load_build), (pickle.APPEND, load_append), (pickle.APPENDS, load_appends),
        (pickle.SETITEM, load_setitem), (pickle.SETITEMS, load_setitems), (pickle.ADDITEMS, load_additems),
    ):  # fmt: skip
        dispatch[_code[0]] = _load
    del _code, _load


def _make(kind: Any, args: Any) -> Any:
    """An object made without calling its class: its stand-in."""
    if str(kind) == "collections.OrderedDict":
        return {}
    if not isinstance(kind, Named):
        raise Damaged("it makes an object of no class")
    _demand_harmless(kind, called=False)
    return Inert(kind, tuple(args) if args else ())
