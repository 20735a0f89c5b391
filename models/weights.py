"""Weights: which ones torchvision offers, reading a checkpoint safely, fitting it to an architecture, downloading.

Nothing here runs code from a file: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.errors import WeightsError
from fovea.models.home import whole

if TYPE_CHECKING:
    from torch import Tensor, nn

RANDOM = "random"

_V1 = ("IMAGENET1K_V1",)
_V1_V2 = ("IMAGENET1K_V1", "IMAGENET1K_V2")
_SWAG = ("IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1")


def _words(text: str) -> list[str]:
    return text.split()


_ONE_SET = _words(
    """alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t
    mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v3_small resnet18 resnet34 resnext101_64x4d
    shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b
    swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16_bn vgg19 vgg19_bn vit_b_32
    vit_l_32"""
)
_TWO_SETS = _words(
    """efficientnet_b1 mobilenet_v2 mobilenet_v3_large regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf
    regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_1_6gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf
    regnet_y_8gf resnet101 resnet152 resnet50 resnext101_32x8d resnext50_32x4d wide_resnet101_2 wide_resnet50_2"""
)

TORCHVISION_WEIGHTS: dict[str, tuple[str, ...]] = dict(
    sorted(
        {
            **dict.fromkeys(_ONE_SET, _V1),
            **dict.fromkeys(_TWO_SETS, _V1_V2),
            "regnet_y_16gf": _V1_V2 + _SWAG,
            "regnet_y_32gf": _V1_V2 + _SWAG,
            "regnet_y_128gf": _SWAG,
            "vgg16": ("IMAGENET1K_V1", "IMAGENET1K_FEATURES"),
            "vit_b_16": _V1 + _SWAG,
            "vit_l_16": _V1 + _SWAG,
            "vit_h_14": _SWAG,
        }.items()
    )
)
"""torchvision's classification networks and the sets of weights of each: a table, so that listing imports no torch."""

TORCHVISION_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Heads that only training uses, and an initialisation that is slow and drawn anew here anyway.
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    # All of its weights are for images of another size than the architecture's default.
    "vit_h_14": {"image_size": 518},
}

# A training script wraps what it saves: the first of these keys that holds tensors is taken, the average first.
_CONTAINERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model",
               "net", "network", "weights", "params")  # fmt: skip
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.", "net.", "network.", "encoder.", "ema.")
_TRAINING_HEADS = ("aux1.", "aux2.", "AuxLogits.")


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint by name, and one line for each wrapper that was taken off.

    `path`: safetensors, or what `torch.save` wrote of a state dict (or of a dict that holds one). Floating point
    tensors come back as float32. Raises WeightsError, one line, for a missing, unsafe or unreadable file.
    """
    import torch

    if not path.is_file():
        raise WeightsError(f"there is no file of weights at {path}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path.name} is empty: it must hold safetensors or a state dict saved by torch")
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    else:
        content = _read_torch(path)
    notes: list[str] = []
    content = _unwrap(content, path, notes)
    state = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, notes


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.name} cannot be read as safetensors: {_one_line(error)}") from None


def _read_torch(path: Path) -> Any:
    import pickle

    import torch

    with path.open("rb") as file:
        head = file.read(2)
    if head != b"PK" and not head.startswith(b"\x80"):
        raise WeightsError(f"{path.name} holds no weights: it must hold safetensors or a state dict saved by torch")
    try:
        with warnings.catch_warnings():
            # A plain pickle of a newer protocol is warned about before it is refused.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "weights_only" in str(error).lower():
            wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f" ({wanted.group(1)})" if wanted else ""
            raise WeightsError(
                f"{path.name} is a pickle that would run code{what}: save a state dict or safetensors instead"
            ) from None
        raise WeightsError(f"{path.name} is damaged, or torch did not save it: {_one_line(error)}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path.name} is damaged, or torch did not save it: {_one_line(error)}") from None


def _unwrap(content: Any, path: Path, notes: list[str]) -> Mapping[str, Any]:
    import torch

    for _ in range(4):
        if not isinstance(content, Mapping):
            raise WeightsError(
                f"{path.name} holds a {type(content).__name__}: it must hold a state dict, which maps names to tensors"
            )
        if any(isinstance(value, torch.Tensor) for value in content.values()):
            return content
        inner = next((key for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        notes.append(f"The weights were taken from the entry {inner!r} of the checkpoint.")
        content = content[inner]
    raise WeightsError(f"{path.name} holds no tensors: it must hold a state dict, which maps names to tensors")


def load_into(
    build: Callable[..., nn.Module], arguments: Mapping[str, Any], state: Mapping[str, Tensor], title: str
) -> tuple[nn.Module, list[str]]:
    """A module made by `build(**arguments)` with the tensors of `state`, and what had to be done for it.

    Wrapper prefixes are taken off. If only the head has another size, the module is built anew with that
    `num_classes`. Raises WeightsError that names the first missing and unexpected keys.
    """
    module = build(**arguments)
    expected = module.state_dict()
    state, notes = _strip(state, expected)
    dropped = [k for k in state if k not in expected and k.startswith(_TRAINING_HEADS)]
    if dropped:
        state = {k: v for k, v in state.items() if k not in dropped}
        notes.append("The heads that only training uses were left out.")
    classes = _other_head(state, expected)
    if classes is not None and "num_classes" not in arguments:
        try:
            module = build(**{**arguments, "num_classes": classes})
        except TypeError:
            raise WeightsError(
                f"the checkpoint has {classes} classes, but {title} takes no argument num_classes: "
                "give it the arguments that it was trained with"
            ) from None
        expected = module.state_dict()
        notes.append(f"The checkpoint has {classes} classes.")
    _check(state, expected, title)
    module.load_state_dict(dict(state), strict=False)
    return module, notes


def _strip(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], list[str]]:
    """Take off the prefixes with which wrappers (DDP, compile, Lightning) save, while this makes more names match."""
    taken = ""
    while True:
        matching = sum(key in expected for key in state)
        best: tuple[int, str, dict[str, Tensor]] | None = None
        for prefix in _PREFIXES:
            inside = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            if not inside:
                continue
            score = sum(key in expected for key in inside)
            deeper = any(all(k.startswith(p) for k in inside) for p in _PREFIXES)
            better = score > matching or (deeper and len(inside) == len(state) and score >= matching)
            if better and (best is None or score > best[0]):
                best = (score, prefix, inside)
        if best is None:
            break
        taken, state = taken + best[1], best[2]
    return state, [f"The prefix {taken!r} was taken off the names of the weights."] if taken else []


def _other_head(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int | None:
    """The number of classes of `state`, if its tensors differ from `expected` in that number alone."""
    sizes: set[tuple[int, int]] = set()
    for key, value in state.items():
        if key in expected and value.shape != expected[key].shape:
            if value.dim() == 0 or value.shape[1:] != expected[key].shape[1:]:
                return None
            sizes.add((value.shape[0], expected[key].shape[0]))
    return sizes.pop()[0] if len(sizes) == 1 else None


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], title: str) -> None:
    optional = "num_batches_tracked"
    missing = [k for k in expected if k not in state and not k.endswith(optional)]
    unexpected = [k for k in state if k not in expected and not k.endswith(optional)]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing of its {len(expected)} tensors (the first is {missing[0]})")
        if unexpected:
            parts.append(f"{len(unexpected)} unexpected (the first is {unexpected[0]})")
        raise WeightsError(f"these weights are not for {title}: there are {' and '.join(parts)}")
    for key, value in state.items():
        if key in expected and value.shape != expected[key].shape:
            raise WeightsError(
                f"these weights are not for {title}: {key} has shape {tuple(value.shape)}, "
                f"but it must have {tuple(expected[key].shape)}"
            )


def fingerprint(module: nn.Module) -> str:
    """sha256 of every parameter and buffer (names, types, shapes, bytes) and of the code of a user's own modules.

    The code belongs to it: a network whose `forward` was edited is another network with the same weights.
    """
    import torch

    digest = hashlib.sha256(repr(module).encode())
    for name, value in sorted(module.state_dict().items()):
        data = value.detach().cpu().contiguous()
        digest.update(f"{name}:{data.dtype}:{tuple(data.shape)};".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data if data.numel() else b"")
    for kind in sorted({type(child) for child in module.modules()}, key=lambda k: (k.__module__, k.__qualname__)):
        if not kind.__module__.startswith(("torch.", "torchvision.", "timm.")):
            with contextlib.suppress(OSError, TypeError):
                digest.update(inspect.getsource(kind).encode())
    return digest.hexdigest()


def download(url: str) -> Path:
    """The file of `url` in torch's own cache folder, downloaded with progress on stderr if it is not there.

    Its name carries the first digits of its sha256, which are checked. Raises WeightsError, one line that says
    which file is wanted and where to put it, if it cannot be had.
    """
    import torch

    name = url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / name
    if target.is_file():
        return target
    where = f"download {url} by hand and put it at {target}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(url, target)
    except OSError as error:
        raise WeightsError(f"{name} could not be downloaded ({_one_line(error)}): {where}") from None
    return target


def _fetch(url: str, target: Path) -> None:
    import urllib.request

    wanted = re.search(r"-([0-9a-f]{8,})\.", target.name)
    digest, done = hashlib.sha256(), 0
    with whole(target) as part:
        with urllib.request.urlopen(url, timeout=20) as source, part.open("wb") as file:
            total = int(source.headers.get("Content-Length") or 0)
            while chunk := source.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                share = f" of {total / 1e6:.0f}" if total else ""
                sys.stderr.write(f"\r{target.name}: {done / 1e6:.0f}{share} MB")
                sys.stderr.flush()
        sys.stderr.write("\n")
        if wanted and not digest.hexdigest().startswith(wanted.group(1)):
            raise WeightsError(
                f"{target.name} arrived damaged, its sha256 does not begin with {wanted.group(1)}: try again"
            )


def _one_line(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error).strip()
    return (text.splitlines() or [type(error).__name__])[0][:160].rstrip(".") or type(error).__name__
