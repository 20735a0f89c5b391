"""Makes `import torchvision` work beside a CPU-only torch; import this module before torchvision.

torchvision's wheel on the package index is built against CUDA torch. Beside a CPU-only torch its compiled
operators do not load, and its Python then stops at registering a fake kernel for an operator that does not
exist (`operator torchvision::nms does not exist`). Declaring the two operators is enough: classification
networks and transforms never call them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import torch


def _compiled_operators_load() -> bool:
    """Whether torchvision's own library loads, which then declares the operators itself."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        library = Path(spec.origin).with_name(f"_C{suffix}")
        if library.is_file():
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                return False
            return True
    return False


def _declare_missing_operators() -> torch.library.Library | None:
    if hasattr(torch.ops.torchvision, "nms") or _compiled_operators_load():
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library


# The operators live as long as this reference does.
_LIBRARY = _declare_missing_operators()
