"""Running a torch network and reading its layers: taps, the layer table, random weights.

One forward hook sits on every module for good. It does nothing until the calling thread has a tape, so two
threads can tap one network at the same time, and nothing has to be taken off afterwards.
"""

from __future__ import annotations

import copy
import functools
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fovea.models.card import INPUT_OF, MOST_EXTRA_TOKENS, OUTPUT, Layer
from fovea.models.errors import NO_GRADIENT, NetworkError, unknown
from fovea.models.opaque import Opaque
from fovea.models.receptive.coordinates import PLANES, receptive_field
from fovea.models.receptive.seen import Seen, SharedWrite, copying
from fovea.models.receptive.torch_network import coordinates, roles_of, settle_roles

# The fused path of transformer layers skips their submodules, which then could not be tapped.
torch.backends.mha.set_fastpath_enabled(False)

_PATH = "_fovea_path"
_PLAIN = "_fovea_plain"
"""Where a network whose forward was adapted keeps what it was (a `_Plain`)."""


class _Stop(Exception):
    """Raised when the last wanted tap has been produced: the rest of the network need not run."""


class _Tape:
    """What one forward pass of one thread records."""

    def __init__(self, wanted: Iterable[str] | None) -> None:
        self.wanted = None if wanted is None else set(wanted)
        self.values: dict[str, Tensor] = {}
        self.modules: dict[str, nn.Module] = {}
        self.settle: Callable[[Tensor, Tensor | None], None] | None = None
        self.calls: dict[str, int] = {}
        self.links: _Links | None = None
        self.piece: _Piece | None = None

    def name_call(self, path: str) -> str:
        count = self.calls[path] = self.calls.get(path, 0) + 1
        # A module that is called like the tap of the network's own output keeps its number.
        return path if count == 1 and path != OUTPUT else f"{path}#{count}"


class _Links:
    """Which call read the very output of which other call, nothing done to it between."""

    def __init__(self) -> None:
        self.read: dict[str, str] = {}
        self._handed: dict[int, tuple[str, Tensor, Tensor | None]] = {}

    def note(self, name: str, source: Tensor | None, tensor: Tensor, handed: Tensor) -> None:
        """The call `name` read `source` and returned `tensor`, with whose copy `handed` the network goes on."""
        made_by = self._maker(source)
        if made_by:
            self.read[name] = made_by
        # (what holds other modules hands on what its last one returned)
        self._handed[id(handed)] = self._maker(tensor) or name, handed, getattr(handed, "seen", None)

    def _maker(self, tensor: Tensor | None) -> str:
        """The call that returned this tensor, "" if none did or it was written to since."""
        name, kept, seen = self._handed.get(id(tensor), ("", None, None))
        # A write in place gives an activation new coordinates, or goes through a view of it.
        untouched = seen is not None and kept.seen is seen and not kept.has_views  # type: ignore[union-attr]
        return name if untouched else ""


class _Thread(threading.local):
    tape: _Tape | None = None


_thread = _Thread()


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in what a module returned (itself, or in a tuple, list, dict or named output)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            tensor = first_tensor(item)
            if tensor is not None:
                return tensor
    return None


def _replace_first(value: Any, new: Tensor) -> Any:
    """`value` with its first tensor replaced; what cannot be rebuilt is returned as it is."""
    if isinstance(value, Tensor):
        return new
    if type(value) in (tuple, list):
        items = list(value)
        for index, item in enumerate(items):
            if first_tensor(item) is not None:
                items[index] = _replace_first(item, new)
                break
        return type(value)(items)
    return value


def _record(module: nn.Module, inputs: Any, output: Any) -> Any:
    """The permanent hook."""
    tape = _thread.tape
    path = getattr(module, _PATH, "")
    if tape is None or not path:
        return None
    name = tape.name_call(path)
    if tape.wanted is not None and f"{INPUT_OF}{name}" in tape.wanted:
        read = first_tensor(inputs)
        if read is not None:
            tape.values[f"{INPUT_OF}{name}"] = tape.piece.own(read) if tape.piece is not None else read
            tape.modules[f"{INPUT_OF}{name}"] = module
            if len(tape.values) == len(tape.wanted):
                raise _Stop
    if tape.wanted is not None and name not in tape.wanted:
        return None
    tensor = first_tensor(output)
    if tensor is None:
        return None
    own = tensor if tape.piece is None else tape.piece.own(tensor)
    tape.values[name] = own
    tape.modules[name] = module
    if tape.settle is not None:
        tape.settle(tensor, first_tensor(inputs))
    if tape.wanted is not None and len(tape.values) == len(tape.wanted):
        raise _Stop
    # The network goes on with a copy: what it does to it in place (`out += identity`) must not reach the tap.
    handed = own.clone() if tape.piece is None else tape.piece.filled(own, tensor).clone()
    if tape.links is not None:
        tape.links.note(name, first_tensor(inputs), tensor, handed)
    return _replace_first(output, handed)


@contextmanager
def _taping(wanted: Iterable[str] | None) -> Iterator[_Tape]:
    before = _thread.tape
    tape = _thread.tape = _Tape(wanted)
    try:
        yield tape
    finally:
        _thread.tape = before


def prepare(module: nn.Module) -> nn.Module:
    """Freeze `module` in place and make it tappable; returns it.

    Eval mode, no parameter requires a gradient, every `inplace` flag off (an in-place ReLU overwrites the tensor
    that a tap of the layer before it reads), one hook on every module but those inside of TorchScript.
    """
    module.eval()
    for parameter in module.parameters():  # a scripted module does not do this itself
        parameter.requires_grad_(False)
    sealed = {id(part) for whole in module.modules() if isinstance(whole, Opaque) for part in whole.network.modules()}
    for path, child in module.named_modules():
        if id(child) in sealed:
            continue
        if getattr(child, "inplace", None) is True:
            child.inplace = False
        if not hasattr(child, _PATH):
            child.register_forward_hook(_record)
        setattr(child, _PATH, path)
    return module


def adapt(module: nn.Module, batch: int | None, larger: bool = False, squeezed: bool = False) -> nn.Module:
    """Let a prepared network take any batch and return plain scores; returns it. It may be told again, and anew.

    `batch`: how many images its own forward takes at once (None: any number), and with `larger` any number above, too.
    More go through it in pieces, and a piece that is too small repeats its last image; every tap is joined again.
    Gradients flow from the output to the taps of a single piece, and to the images always. `squeezed`: axes of length
    one are taken off its scores, (N, C, 1, 1) becomes (N, C).
    """
    own = vars(module)[_PLAIN].own if _PLAIN in vars(module) else vars(module).get("forward")
    vars(module).pop("forward", None)
    vars(module).pop(_PLAIN, None)
    if own is not None:
        vars(module)["forward"] = own
    if batch is not None or squeezed:
        vars(module)[_PLAIN] = _Plain(own, batch, larger, squeezed)
        vars(module)["forward"] = types.MethodType(_adapted_forward, module)
    return module


class _Plain(NamedTuple):
    """A network's own forward, where its instance brought one, and what it asks for (see `adapt`)."""

    own: Any
    batch: int | None
    larger: bool
    squeezed: bool


def _takes_one_batch(module: nn.Module) -> bool:
    return _PLAIN in vars(module) and vars(module)[_PLAIN].batch is not None


def _adapted_forward(module: nn.Module, x: Tensor) -> Any:
    plain: _Plain = vars(module)[_PLAIN]
    run = plain.own if plain.own is not None else functools.partial(type(module).forward, module)
    whole = plain.batch is None or len(x) == plain.batch != 1 or (plain.larger and len(x) > plain.batch)
    value = run(x) if whole else _in_pieces(run, x, plain.batch or 1)
    scores = first_tensor(value)
    if plain.squeezed and scores is not None and scores.dim() > 2:
        value = _replace_first(value, scores.flatten(1))
    return value


class _Piece(NamedTuple):
    """A part of a batch: the first `kept` of `size` images are its own, the others repeat the last of them."""

    kept: int
    size: int

    def own(self, value: Tensor) -> Tensor:
        """What belongs to its own images, with the batch axis that one image alone may have lost."""
        if self.size == 1 and value.shape[:1] != (1,):
            return value.unsqueeze(0)
        return value[: self.kept] if value.shape[:1] == (self.size,) and self.kept < self.size else value

    def filled(self, own: Tensor, like: Tensor) -> Tensor:
        """`own` as the network goes on with it: of the shape of `like`."""
        if own.dim() != like.dim():
            return own.squeeze(0)
        missing = len(like) - len(own) if own.dim() else 0
        return torch.cat([own, own[-1:].expand(missing, *own.shape[1:])]) if missing else own


def _in_pieces(run: Callable[[Tensor], Any], x: Tensor, size: int) -> Tensor:
    """The output of `run` for `x`, `size` images at a time. The thread's tape gets every tap of the whole batch."""
    tape = _thread.tape
    outputs: list[Tensor] = []
    tapes: list[_Tape] = []
    for start in range(0, len(x), size):
        own = x[start : start + size]
        piece = _Piece(len(own), size)
        with _taping(tape.wanted if tape is not None else {""}) as inner, suppress(_Stop):
            inner.piece = piece
            output = first_tensor(run(piece.filled(own, own.new_empty(size, *own.shape[1:]))))
            if output is None:
                raise NetworkError("the network returned no tensor")
            outputs.append(piece.own(output))
        tapes.append(inner)
    if tape is not None:
        for name, value in tapes[0].values.items():
            parts = [inner.values[name] for inner in tapes]
            # What is nothing of the images (a bias of attention) has no batch to be joined along.
            joined = len(parts) > 1 and value.shape[:1] == (min(size, len(x)),)
            tape.values[name] = torch.cat(parts) if joined else value
            tape.modules[name] = tapes[0].modules[name]
        if tape.wanted is not None and len(tape.values) == len(tape.wanted):
            raise _Stop
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def forward_taps(module: nn.Module, x: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    """The output of each of `taps` for the input `x` (N, C, H, W); `OUTPUT` is what the network returns.

    The forward pass ends at the last tap that is wanted. Gradients flow if `x` requires them. Safe to call from
    several threads on one module. Raises UnknownNameError for a tap that the network does not have.
    """
    wanted = list(dict.fromkeys(taps))
    inner = [tap for tap in wanted if tap != OUTPUT]
    output: Tensor | None = None
    # The empty name is no module's: it is never reached, and the network runs to its end.
    with _taping(inner if OUTPUT not in wanted else [*inner, ""]) as tape, suppress(_Stop):
        output = first_tensor(module(x))
    values = dict(tape.values)
    if OUTPUT in wanted:
        if output is None:
            raise NetworkError("the network returned no tensor")
        values[OUTPUT] = output
    if x.requires_grad and torch.is_grad_enabled() and values:
        last = [values[OUTPUT]] if OUTPUT in values else list(values.values())
        if not any(value.requires_grad for value in last):
            raise NetworkError(NO_GRADIENT)
    missing = [tap for tap in wanted if tap not in values]
    if missing:
        names = [path for path, _ in module.named_modules() if path]
        raise unknown("layer", missing[0], [*names, OUTPUT])
    return {tap: values[tap] for tap in wanted}


def all_taps(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output of every module call, in the order in which the calls end, and `OUTPUT` last."""
    with _taping(None) as tape:
        output = first_tensor(module(x))
    if output is None:
        raise NetworkError("the network returned no tensor")
    return {**tape.values, OUTPUT: output}


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a start value drawn with `seed`: the same weights every time.

    Modules initialise themselves where they can (`reset_parameters`); convolutions and linear layers are drawn
    as He's, so that activations neither vanish nor grow through the depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for child in module.modules():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()
            if isinstance(child, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    return module


def trace(module: nn.Module, input_shape: Sequence[int]) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """The layers of a prepared `module` for an input (C, H, W), and the shape of its output without the batch.

    The network is run on coordinates (see `fovea.models.receptive.coordinates`), which also gives receptive fields and
    axes; a network whose code reads values out of its activations is run on a grey image instead, without fields.
    """
    channels, height, width = (int(v) for v in input_shape)
    with torch.inference_mode():
        if _takes_one_batch(module):
            tape, output = _on_grey(module, (channels, height, width))
            _add_coordinates(module, (channels, height, width), tape)
        else:
            try:
                tape, output = _on_coordinates(module, (channels, height, width))
            except Exception:
                tape, output = _on_grey(module, (channels, height, width))
    if output is None:
        raise NetworkError("the network returned no tensor")
    layers: list[Layer] = []
    grid = (1, 1)
    for name, value in tape.values.items():
        layer = _layer(name, tape.modules[name], value, grid, (height, width))
        if tape.links is not None and _grows(tape.modules[name]):
            layer = layer.model_copy(update={"activates": tape.links.read.get(name, "")})
        if layer.axes in ("NCHW", "NHWC") and layer.grid != (1, 1):
            grid = layer.grid
        layers.append(layer)
    return tuple(layers), tuple(output.shape[1:])


def _grows(module: nn.Module) -> bool:
    """Whether the module is an activation that grows with every value above zero, without end."""
    return type(module) in (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus)


def _on_grey(module: nn.Module, shape: tuple[int, int, int]) -> tuple[_Tape, Tensor | None]:
    """The network run on a grey image: the shapes of its activations, and no fields."""
    with _taping(None) as tape:
        like = next(iter(module.parameters()), torch.zeros(()))
        grey = torch.zeros(PLANES, *shape, device=like.device, dtype=like.dtype)
        return tape, first_tensor(module(grey))


def _add_coordinates(module: nn.Module, shape: tuple[int, int, int], tape: _Tape) -> None:
    """Give the activations of a network that runs in pieces their coordinates, up to where a whole batch goes wrong."""
    whole = adapt(copy.deepcopy(module), None)
    dtype = next(iter(module.parameters()), torch.zeros(())).dtype
    with _taping(None) as told, suppress(Exception):
        told.settle = settle_roles
        whole(coordinates(*shape, dtype=dtype))
    for name, value in told.values.items():
        if name not in tape.values or tape.values[name].shape != value.shape:
            return
        tape.values[name] = value


def _on_coordinates(module: nn.Module, shape: tuple[int, int, int]) -> tuple[_Tape, Tensor | None]:
    dtype = next(iter(module.parameters()), torch.zeros(())).dtype

    def run() -> tuple[_Tape, Tensor | None]:
        with _taping(None) as tape:
            tape.settle = settle_roles
            tape.links = _Links()
            return tape, first_tensor(module(coordinates(*shape, dtype=dtype)))

    try:
        return run()
    except SharedWrite:
        with copying():
            return run()


def _layer(name: str, module: nn.Module, value: Tensor, grid: tuple[int, int], frame: tuple[int, int]) -> Layer:
    shape = tuple(value.shape[1:])
    facts: dict[str, Any] = {
        "name": name,
        "kind": type(module).__name__,
        "shape": shape if value.shape[:1] == (PLANES,) else tuple(value.shape),
        "parameters": sum(p.numel() for p in module.parameters(recurse=False)),
        "leaf": not any(True for _ in module.children()),
        "axes": "none",
        "units": 0,
    }
    if value.dim() < 2 or value.shape[0] != PLANES or 0 in shape:
        return Layer(**facts)
    roles = roles_of(value)
    if value.dim() == 2:
        facts |= {"axes": "vector", "units": shape[0], "grid": (1, 1)}
    elif value.dim() == 4 and roles[0] == 1:
        facts |= {"axes": "NCHW", "units": shape[0], "grid": shape[1:]}
    elif value.dim() == 4 and roles == (3, 1, 2):
        facts |= {"axes": "NHWC", "units": shape[2], "grid": shape[:2]}
    elif value.dim() == 3 and roles[0] == 2:
        places = grid[0] * grid[1]
        extra = shape[0] - places
        if places > 1 and 0 <= extra <= MOST_EXTRA_TOKENS:
            facts |= {"axes": "tokens", "units": shape[1], "grid": grid, "extra_tokens": extra}
    layer = Layer(**facts)
    if not isinstance(value, Seen):
        return layer
    seen_field = receptive_field(value.seen, layer.axes, layer.grid, layer.extra_tokens, frame)
    return layer.model_copy(update={"receptive_field": seen_field})


def in_float64(values: Tensor) -> Tensor:
    """The values in float64: where they are, or on the CPU where their device (Apple's) has no such numbers."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
