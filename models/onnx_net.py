"""A network as an ONNX graph: exported once with every module's output named, cut per question, run by ONNX Runtime.

Torch and ONNX Runtime are imported inside the functions that need them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT, Card
from fovea.models.errors import NetworkError, ParityError, ProviderError, unknown
from fovea.models.home import home

if TYPE_CHECKING:
    import onnx
    from torch import nn

Array = NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")

OPSET = 17
PARITY_TOLERANCE = 1e-4
"""Largest difference between torch and ONNX at a tap, as a share of the tap's largest magnitude."""
_ROUNDINGS = 4
"""ONNX may be so many times as far from float64 as torch's float32 is: its additions come in another order."""
LARGEST_BYTES = 2_000_000_000
"""An ONNX file is one protobuf message, and those end at 2 GiB."""

_build_lock = threading.Lock()
OWN = "net/"
_TAPS = "fovea.taps"
_INPUT = "fovea.input"


# --- export --------------------------------------------------------------------------------------------------


def export(module: nn.Module, card: Card, path: Path) -> None:
    """Write a prepared `module` to `path` as ONNX with every module call's output as a named graph output.

    The graph is not optimised and its batch size is free. It is compared with torch at every tap before it is
    given its name. Raises NetworkError if it cannot be exported, ParityError naming the first tap that disagrees.
    """
    import onnx
    import torch

    size = sum(p.numel() * p.element_size() for p in [*module.parameters(), *module.buffers()])
    if size > LARGEST_BYTES:
        raise NetworkError(
            f"{card.name} has {size / 1e9:.1f} GB of weights, and ONNX files end at 2 GB: only torch methods work on it"
        )
    shape = (card.preprocessing.channels, *card.preprocessing.size)
    # Two images: with one, code that drops axes of size one would be recorded wrongly.
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    names = [*(layer.name for layer in card.layers), OUTPUT]
    input_name = "input" if "input" not in names else "network_input"
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        _trace(module, x, scratch, input_name, names)
        model = onnx.load(str(scratch))
        taps = {tap: f"{OWN}{tensor}" for tap, tensor in _merge_aliases(model, names).items()}
        own_names(model.graph)
        input_name = f"{OWN}{input_name}"
        for key, value in ((_TAPS, json.dumps(taps)), (_INPUT, input_name)):
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, str(scratch))
        del model
        check_parity(module, scratch, taps, input_name, shape, card.name)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _trace(module: nn.Module, x: Any, path: Path, input_name: str, names: list[str]) -> None:
    import torch
    from torch import nn

    from fovea.models import torch_net

    class AllTaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(torch_net.all_taps(self.network, x).values())

    wrapper = AllTaps().eval()
    exporter: Any = torch.onnx
    exporter.register_custom_op_symbolic("aten::adaptive_avg_pool2d", _adaptive_average, OPSET)
    try:
        # The TorchScript exporter: it keeps the names of taps and needs no further package. It warns of its age and
        # of every Python branch on a shape; what a branch could break, the parity check at another batch size finds.
        # Where it fails it prints the whole graph, natively.
        with warnings.catch_warnings(), torch.no_grad(), _quiet_python(), _build_lock, _native_output(1, 2):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapper,
                (x,),
                str(path),
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in [input_name, *names]},
            )
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise NetworkError(f"the network cannot be exported to ONNX: {text[0][:200]}") from error


def _adaptive_average(g: Any, x: Any, output_size: Any) -> Any:
    """Adaptive average pooling for the exporter, which has none where the sizes do not divide.

    Rows and columns are averaged by one product each with a constant matrix.
    """
    import torch

    height, width = x.type().varyingSizes()[-2:]
    rows, columns = output_size.node().t("value").tolist()
    if (rows, columns) == (1, 1):
        return g.op("GlobalAveragePool", x)
    if height % rows == 0 and width % columns == 0:
        kernel = [height // rows, width // columns]
        return g.op("AveragePool", x, kernel_shape_i=kernel, strides_i=kernel)
    down = g.op("Constant", value_t=torch.from_numpy(_averages(height, rows)))
    across = g.op("Constant", value_t=torch.from_numpy(_averages(width, columns).T.copy()))
    return g.op("MatMul", g.op("MatMul", down, x), across)


def _averages(length: int, cells: int) -> NDArray[np.float32]:
    """(cells, length): row i holds the weights of the i-th cell of an adaptive average pooling."""
    weights = np.zeros((cells, length), np.float32)
    for i in range(cells):
        start, end = i * length // cells, -(-(i + 1) * length // cells)
        weights[i, start:end] = 1 / (end - start)
    return weights


def own_names(graph: onnx.GraphProto) -> None:
    """Let every tensor's name begin with `OWN`, so that what a question adds to the graph cannot meet it."""
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse):
        value.name = f"{OWN}{value.name}"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name and f"{OWN}{name}" for name in names]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                own_names(inner)


@contextlib.contextmanager
def _quiet_python() -> Iterator[None]:
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield


def _merge_aliases(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Tap to tensor. Two names for one tensor (a dropout in eval mode) come out of the exporter as an Identity,
    which is taken out, so that a cut holds each tensor once."""
    graph = model.graph
    outputs = {o.name for o in graph.output}
    source = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.output[0] in outputs}
    alias: dict[str, str] = {}
    for name in source:
        end = name
        while end in source and source[end] in outputs:
            end = source[end]
        if end != name:
            alias[name] = end
    for node in list(graph.node):
        if node.op_type == "Identity" and node.output[0] in alias:
            graph.node.remove(node)
            continue
        for index, value in enumerate(node.input):
            if value in alias:
                node.input[index] = alias[value]
    for output in [o for o in graph.output if o.name in alias]:
        graph.output.remove(output)
    return {name: alias.get(name, name) for name in names}


@dataclass(frozen=True)
class Gap:
    """How far ONNX is from torch at a tap, as a share of the tap's largest magnitude (inf: one of them is not finite
    where the other is), and whether that passes."""

    difference: float
    agrees: bool


def compare(
    module: nn.Module,
    model: onnx.ModelProto | Path,
    taps: Mapping[str, str],
    input_name: str,
    shape: Sequence[int],
    name: str,
    batch: int = 1,
) -> dict[str, Gap]:
    """Torch against ONNX Runtime at every tap, in forward order.

    `shape` (C, H, W) of the input, which is `batch` images of normal noise: by default one, since the graph was
    recorded with two, so that a batch size that stuck in it is found. Up to `PARITY_TOLERANCE` agrees. Where the two
    differ by more, torch in float64 decides: ONNX may be `_ROUNDINGS` times as far from it as torch's own float32 is
    (a sigmoid of hundreds is near to a step: there float32 has few digits whoever computes it). Raises ParityError
    where a shape differs or the graph does not run.
    """
    import torch

    from fovea.models import torch_net

    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = {tap: value.numpy() for tap, value in torch_net.all_taps(module, x).items()}
    tensors = list(dict.fromkeys(taps.values()))
    session = Session(model, provider="cpu", optimise=False)
    try:
        found = dict(zip(tensors, session.run({input_name: x.numpy()}, tensors), strict=True))
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[-1]
        raise ParityError(f"{name}: the exported graph does not run with a batch of {batch}: {text[:200]}") from error
    differences: dict[str, float] = {}
    for tap, tensor in taps.items():
        want, got = expected[tap], found[tensor]
        if want.shape != got.shape:
            raise ParityError(f"{name}: at layer {tap} torch gives shape {want.shape} and ONNX {got.shape}")
        differences[tap] = _difference(want, got)
    allowed = dict.fromkeys(taps, True)
    if not all(difference <= PARITY_TOLERANCE for difference in differences.values()):
        exact = _exact(module, x)
        rounding = _rounding(exact, expected)
        for tap, difference in differences.items():
            if not difference <= PARITY_TOLERANCE:
                bound = max(PARITY_TOLERANCE, _ROUNDINGS * rounding.get(tap, 0.0))
                allowed[tap] = tap in exact and _difference(exact[tap], found[taps[tap]]) <= bound
    return {tap: Gap(differences[tap], allowed[tap]) for tap in taps}


def check_parity(
    module: nn.Module,
    model: onnx.ModelProto | Path,
    taps: Mapping[str, str],
    input_name: str,
    shape: Sequence[int],
    name: str,
    batch: int = 1,
) -> dict[str, float]:
    """The differences that `compare` finds. Raises ParityError that names the first tap, in forward order, where torch
    and ONNX do not agree."""
    gaps = compare(module, model, taps, input_name, shape, name, batch)
    for tap, gap in gaps.items():
        if not gap.agrees:
            raise ParityError(
                f"{name}: torch and ONNX disagree at layer {tap} by {gap.difference:.1e} of its largest value "
                f"(allowed {PARITY_TOLERANCE:.0e})"
            )
    return {tap: gap.difference for tap, gap in gaps.items()}


def _exact(module: nn.Module, x: Any) -> dict[str, Array]:
    """Every tap in float64; nothing where the network cannot run in it."""
    import copy

    import torch

    from fovea.models import torch_net

    try:
        with torch.inference_mode():
            taps = torch_net.all_taps(copy.deepcopy(module).double(), x.double())
    except Exception:
        return {}
    return {tap: value.numpy() for tap, value in taps.items()}


def _rounding(exact: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """How far torch's float32 is from `exact` at every tap or one before it."""
    largest, found = 0.0, {}
    for tap, value in exact.items():  # in forward order: what is lost early is not found again later
        if tap in expected:
            largest = max(largest, _difference(value, expected[tap]))
            found[tap] = largest
    return found


def _difference(want: Array, got: Array) -> float:
    if not want.size:
        return 0.0
    want, got = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(want[finite]).max())
    gap = float(np.abs(want[finite] - got[finite]).max())
    return gap / scale if scale > 0 else gap


# --- the graph -----------------------------------------------------------------------------------------------


class TappedGraph:
    """An ONNX graph with named taps. `taps`: tap to tensor; `input`: the input's name; `input_shape`: (C, H, W);
    `batch`: the only batch size that it takes, None where any does (all but some users' ONNX files)."""

    def __init__(
        self,
        path: Path,
        taps: Mapping[str, str],
        input_name: str,
        input_shape: Sequence[int],
        model: onnx.ModelProto | None = None,
        batch: int | None = None,
    ) -> None:
        self.path = path
        self.taps = dict(taps)
        self.input = input_name
        self.input_shape = tuple(input_shape)
        self.batch = batch
        self._model = model
        self._extractor: Any = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, input_shape: Sequence[int]) -> TappedGraph:
        """The graph that `export` wrote to `path`."""

        graph = cls(path, {}, "", input_shape)
        model: onnx.ModelProto = graph._load().model
        facts = {entry.key: entry.value for entry in model.metadata_props}
        graph.taps, graph.input = dict(json.loads(facts[_TAPS])), facts[_INPUT]
        return graph

    def tensor(self, tap: str) -> str:
        """The tensor that a tap names. Raises UnknownNameError."""
        if tap not in self.taps:
            raise unknown("layer", tap, self.taps, self.path.stem)
        return self.taps[tap]

    def cut(self, taps: Sequence[str]) -> onnx.ModelProto:
        """A new model, the caller's own, that ends at `taps`: what they do not need is gone.

        Its outputs are the taps' tensors (see `taps`), each once, in the order given. Raises UnknownNameError.
        """
        tensors = list(dict.fromkeys(self.tensor(tap) for tap in taps))
        with self._lock:
            model: onnx.ModelProto = self._load().extract_model([self.input], tensors)
        return model

    def _load(self) -> Any:
        if self._extractor is None:
            import onnx
            import onnx.utils

            model = self._model or onnx.load(str(self.path), load_external_data=False)
            self._extractor = onnx.utils.Extractor(model)
        return self._extractor


# --- sessions ------------------------------------------------------------------------------------------------

_EXECUTION = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
PROVIDERS = ("cpu", "cuda", "tensorrt")
_SHORT = {long: short for short, long in _EXECUTION.items()}


def _runtime() -> Any:
    """onnxruntime, silent and without telemetry."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


class Session:
    """One model (a proto, its bytes, or a file) on one provider of ONNX Runtime.

    `provider`: "auto" takes TensorRT if its libraries are there, else CUDA, else the CPU, and says nothing; a named
    one that does not work raises ProviderError with the reason. `self.provider` is the one that really runs.
    `threads`: of the CPU provider (None: all cores). `optimise`: fold and fuse the graph. `profile`: for TensorRT,
    input name to its smallest, usual and largest shape (default: batch 1, 16 and 64 of the model's own shape).
    `yielding`: its threads rest between two runs, for sessions that run one after another; else they wait awake.
    """

    def __init__(
        self,
        model: onnx.ModelProto | bytes | Path,
        provider: str = "auto",
        threads: int | None = None,
        *,
        optimise: bool = True,
        profile: Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] | None = None,
        yielding: bool = False,
    ) -> None:
        if provider != "auto" and provider not in PROVIDERS:
            raise ProviderError(f"no provider named {provider!r}: there are auto, {', '.join(PROVIDERS)}")
        content = model if isinstance(model, (bytes, Path)) else model.SerializeToString()
        wanted = (
            [provider] if provider != "auto" else [p for p in ("tensorrt", "cuda") if _missing(p) is None] + ["cpu"]
        )
        self._threads, self._optimise, self._profile, self._yielding = threads, optimise, profile, yielding
        last = ""
        for name in wanted:
            last = _missing(name) or ""
            if last:
                continue
            try:
                self._session = self._build(content, name)
            except ProviderError as error:
                last = str(error)
                continue
            self.provider = name
            self.inputs = [i.name for i in self._session.get_inputs()]
            self.outputs = [o.name for o in self._session.get_outputs()]
            return
        raise ProviderError(f"provider {provider} does not work here: {last}" if provider != "cpu" else last)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs (all, unless named) for `feeds` (input name to array).

        Raises NetworkError, one line, for feeds that the graph does not take; running out of memory stays what it is
        (see `out_of_memory`).
        """
        try:
            result: list[Array] = self._session.run(list(outputs) if outputs is not None else None, dict(feeds))
        except Exception as error:
            if out_of_memory(error):
                raise
            sizes = ", ".join(f"{name} {tuple(np.shape(value))}" for name, value in feeds.items())
            raise NetworkError(f"the graph does not run on {sizes}: {_reason(str(error))}") from error
        return result

    def _build(self, content: bytes | Path, provider: str) -> Any:
        ort = _runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self._threads:
            options.intra_op_num_threads = self._threads
        if self._yielding:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if not self._optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers: list[Any] = [(_EXECUTION[provider], self._provider_options(content, provider))]
        if provider == "tensorrt":
            # Nodes that TensorRT does not know run on CUDA.
            providers.append((_EXECUTION["cuda"], {}))
        if provider != "cpu":
            providers.append(_EXECUTION["cpu"])
        # Provider libraries write to the process's own stderr; sessions of one process are built one after another.
        with _build_lock, _native_output(2) as said:
            if provider != "cpu":
                _preload()
            try:
                source = str(content) if isinstance(content, Path) else content
                session = ort.InferenceSession(source, options, providers=providers)
            except Exception as error:
                raise ProviderError(_reason(str(error))) from None
        if _EXECUTION[provider] not in session.get_providers():
            raise ProviderError(_reason(said()) or "ONNX Runtime fell back to another provider")
        if hasattr(session, "disable_fallback"):
            session.disable_fallback()
        return session

    def _provider_options(self, content: bytes | Path, provider: str) -> dict[str, str]:
        if provider == "cuda":
            # TF32 keeps ten bits of the mantissa: too few for maps that are compared with the CPU's.
            return {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        if provider != "tensorrt":
            return {}
        folder = home() / "tensorrt"
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        profile = self._profile or _default_profile(content)
        for place, key in enumerate(("min", "opt", "max")):
            facts[f"trt_profile_{key}_shapes"] = ",".join(
                f"{name}:{'x'.join(str(v) for v in shapes[place])}" for name, shapes in profile.items()
            )
        return facts if profile else {k: v for k, v in facts.items() if "profile" not in k}


def _default_profile(content: bytes | Path) -> dict[str, tuple[Sequence[int], Sequence[int], Sequence[int]]]:
    import onnx

    profile: dict[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] = {}
    model = onnx.load(str(content)) if isinstance(content, Path) else onnx.load_from_string(content)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value for d in dims]
        if all(shape[1:]) and shape and shape[0] == 0:
            profile[value.name] = ([1, *shape[1:]], [16, *shape[1:]], [64, *shape[1:]])
    return profile


def first_provider(provider: str) -> str:
    """The provider that a session for `provider` ("auto" or a name) tries first."""
    if provider != "auto":
        return provider
    return next((name for name in ("tensorrt", "cuda") if _missing(name) is None), "cpu")


def _missing(provider: str) -> str | None:
    """Why a provider cannot even be tried, or None."""
    if provider == "cpu":
        return None
    if _EXECUTION[provider] not in _runtime().get_available_providers():
        return f"this onnxruntime was built without {provider}"
    if not _gpu_there():
        return "no NVIDIA GPU with a working driver"
    if provider == "tensorrt" and not _load_tensorrt():
        return "TensorRT's library libnvinfer.so.10 is not installed (pip install 'tensorrt-cu13>=10.16,<11')"
    return None


def _gpu_there() -> bool:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def _load_tensorrt() -> bool:
    """Load libnvinfer from the wheel that carries it, or from the system, so that the provider finds it."""
    spec = importlib.util.find_spec("tensorrt_libs")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for name in ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10"):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(folder) / name), mode=ctypes.RTLD_GLOBAL)
    try:
        ctypes.CDLL("libnvinfer.so.10", mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL("libnvonnxparser.so.10", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


_preloaded = False


def _preload() -> None:
    """CUDA's and cuDNN's libraries from the nvidia-* wheels, unless torch has loaded its own."""
    global _preloaded
    torch = sys.modules.get("torch")
    if _preloaded or (torch is not None and torch.version.cuda is not None):
        return
    ort = _runtime()
    if hasattr(ort, "preload_dlls"):
        with _quiet_python():
            ort.preload_dlls()
    _preloaded = True


@contextlib.contextmanager
def _native_output(*descriptors: int) -> Iterator[Callable[[], str]]:
    """What native code writes to the process's `descriptors` goes to a file; yields a function that reads it."""
    with tempfile.TemporaryFile() as sink:

        def said() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.dup2(sink.fileno(), descriptor)
        try:
            yield said
        finally:
            for descriptor, copy in zip(descriptors, saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _reason(text: str) -> str:
    """The telling line of a native error text."""
    lines = [line.strip() for line in text.replace("\x1b", " ").splitlines() if line.strip()]
    telling = [x for x in lines if "cannot open shared object" in x or "rror" in x] or lines
    return telling[0][:300] if telling else ""


def check_providers() -> list[dict[str, Any]]:
    """For "cpu", "cuda" and "tensorrt": `name`, `works` after a small convolution really ran on it, `reason`."""
    rows: list[dict[str, Any]] = []
    for name in PROVIDERS:
        try:
            x = np.ones((1, 3, 8, 8), np.float32)
            result = Session(_small_convolution(), name).run({"x": x})[0]
            right = result.shape == (1, 4, 8, 8) and abs(float(result[0, 0, 4, 4]) - 27.0) < 1e-2
            rows.append({"name": name, "works": right, "reason": "" if right else "a small convolution came out wrong"})
        except Exception as error:
            lines = str(error).splitlines() or [type(error).__name__]
            rows.append(
                {"name": name, "works": False, "reason": lines[0].removeprefix(f"provider {name} does not work here: ")}
            )
    return rows


def _small_convolution() -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "small_convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


# --- memory --------------------------------------------------------------------------------------------------


_MEMORY_SIGNS = (
    "out of memory",
    "out_of_memory",
    "failed to allocate",
    "could not allocate",
    "bad_alloc",
    "bad alloc",
    "allocate memory",
    "bfcarena",
    "cudnn_status_alloc_failed",
    "defaultcpuallocator",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, ONNX Runtime, CUDA or Python ran out of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY_SIGNS)


def run_halving(run: Callable[[Sequence[T]], R], items: Sequence[T], batch: int) -> Iterator[tuple[R, int]]:
    """`run` on `items`, `batch` of them at a time; where memory runs out, half as many, and so on from there.

    Yields each result and the batch size it was made with. Raises what `run` raised when one item is too many.
    """
    start = 0
    while start < len(items):
        part = items[start : start + batch]
        try:
            result = run(part)
        except Exception as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
            batch = max(1, len(part) // 2)
            continue
        yield result, len(part)
        start += len(part)
