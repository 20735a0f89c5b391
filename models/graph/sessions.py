"""An ONNX model on one of ONNX Runtime's providers: a session, built and run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.errors import NetworkError, ProviderError
from fovea.models.graph import OPSET
from fovea.models.graph.native import build_lock, native_output
from fovea.models.graph.providers import EXECUTION, PROVIDERS, missing, preload, runtime
from fovea.models.home import home
from fovea.models.memory import out_of_memory

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]


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
            raise ProviderError(
                f"there is no provider named {provider!r}: choose auto or one of {', '.join(PROVIDERS)}"
            )
        content = model if isinstance(model, (bytes, Path)) else model.SerializeToString()
        wanted = [provider] if provider != "auto" else [p for p in ("tensorrt", "cuda") if missing(p) is None] + ["cpu"]
        self._threads, self._optimise, self._profile, self._yielding = threads, optimise, profile, yielding
        last = ""
        for name in wanted:
            last = missing(name) or ""
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
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self._threads:
            options.intra_op_num_threads = self._threads
        if self._yielding:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if not self._optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers: list[Any] = [(EXECUTION[provider], self._provider_options(content, provider))]
        if provider == "tensorrt":
            # Nodes that TensorRT does not know run on CUDA.
            providers.append((EXECUTION["cuda"], {}))
        if provider != "cpu":
            providers.append(EXECUTION["cpu"])
        # Provider libraries write to the process's own stderr; sessions of one process are built one after another.
        with build_lock, native_output(2) as said:
            if provider != "cpu":
                preload()
            try:
                source = str(content) if isinstance(content, Path) else content
                session = ort.InferenceSession(source, options, providers=providers)
            except Exception as error:
                raise ProviderError(_reason(str(error))) from None
        if EXECUTION[provider] not in session.get_providers():
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


_REASONS = (
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "its IR version {} is newer than this ONNX Runtime reads, which knows up to {}: "
        "save it for an older one, or update ONNX Runtime",
    ),
    (
        r"Opset (\d+) is under development.*?support for domain (\S+) is till opset (\d+)",
        "its opset {0} of {1} is newer than this ONNX Runtime reads, which knows up to {2}: "
        "save it with an older opset, or update ONNX Runtime",
    ),
    (r"No Op registered for (\S+) with domain_version of (\d+)", "ONNX Runtime knows no operator {} in opset {}"),
    (r"([\w.]+):(\w+)\(-?\d+\) is not a registered function", "ONNX Runtime knows no operator {1} in the domain {0}"),
    (r"Could not find an implementation for (\w+)\((\d+)\)", "ONNX Runtime cannot compute the operator {} of opset {}"),
    (r"Type '([^']+)' of input parameter \(\S*\) of operator \((\w+)\)", "the operator {1} does not take {0}"),
)
"""What ONNX Runtime says, and the same in words."""


def _reason(text: str) -> str:
    """The telling line of a native error text, in words where they are known."""
    for pattern, words in _REASONS:
        match = re.search(pattern, text, re.DOTALL)
        if match:
            return words.format(*match.groups())
    lines = [line.strip() for line in text.replace("\x1b", " ").splitlines() if line.strip()]
    telling = [x for x in lines if "cannot open shared object" in x or "rror" in x] or lines
    if not telling:
        return ""
    # The code's number, and the place and signature of the native function that raised it, say nothing to people.
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", telling[0])
    line = line.rpartition("Status Message: ")[2]
    line = re.sub(r"^(?:Exception during \w+: )?/\S+\.(?:cc|h|cpp):\d+ .*?\) (?:\S+ was false\. )?(?=\S)", "", line)
    return line[:300]


def check_providers() -> list[dict[str, Any]]:
    """For "cpu", "cuda" and "tensorrt": `name`, `works` after a small convolution really ran on it, `reason`."""
    rows: list[dict[str, Any]] = []
    for name in PROVIDERS:
        try:
            x = np.ones((1, 3, 8, 8), np.float32)
            result = Session(_small_convolution(), name).run({"x": x})[0]
            right = result.shape == (1, 4, 8, 8) and abs(float(result[0, 0, 4, 4]) - 27.0) < 1e-2
            rows.append(
                {"name": name, "works": right, "reason": "" if right else "a small convolution gave a wrong result"}
            )
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
