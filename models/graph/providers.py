"""Which of ONNX Runtime's providers work on this machine, and loading the libraries that they need."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from fovea.models.graph.native import quiet_python

EXECUTION = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
PROVIDERS = ("cpu", "cuda", "tensorrt")


def runtime() -> Any:
    """onnxruntime, silent and without telemetry."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def first_provider(provider: str) -> str:
    """The provider that a session for `provider` ("auto" or a name) tries first."""
    if provider != "auto":
        return provider
    return next((name for name in ("tensorrt", "cuda") if missing(name) is None), "cpu")


def missing(provider: str) -> str | None:
    """Why a provider cannot even be tried, or None."""
    if provider == "cpu":
        return None
    if EXECUTION[provider] not in runtime().get_available_providers():
        return f"the installed ONNX Runtime was built without {provider}"
    if not _gpu_there():
        return "there is no NVIDIA GPU with a working driver"
    if provider == "tensorrt" and not _load_tensorrt():
        return "the library of TensorRT, libnvinfer.so.10, is not installed (pip install 'tensorrt-cu13>=10.16,<11')"
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


def preload() -> None:
    """CUDA's and cuDNN's libraries from the nvidia-* wheels, unless torch has loaded its own."""
    global _preloaded
    torch = sys.modules.get("torch")
    if _preloaded or (torch is not None and torch.version.cuda is not None):
        return
    ort = runtime()
    if hasattr(ort, "preload_dlls"):
        with quiet_python():
            ort.preload_dlls()
    _preloaded = True
