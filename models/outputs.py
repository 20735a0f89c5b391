"""Several outputs in whatever container: their names, and which of them is read by itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.models.errors import NetworkError, unknown

_NAMES = (
    "logits", "scores", "class_logits", "cls_logits", "class_scores", "prediction_logits", "pred_logits", "output",
    "outputs", "out", "y", "y_hat", "yhat", "pred", "preds", "prediction", "predictions", "probs", "probabilities",
    "prob", "classes", "cls", "class", "head", "classification",
)  # fmt: skip
"""What people call the scores of classes, the surest name first."""
_PARTS = ("logit", "score", "pred", "prob", "class")
_OTHERS = ("aux", "feat", "embed", "hidden", "attention", "attn", "loss", "mask", "box")
_DEPTH = 4


def entries(value: Any, is_tensor: Callable[[Any], bool], path: str = "", depth: int = _DEPTH) -> dict[str, Any]:
    """Every tensor that a network returned, by its path: "" for a tensor alone, "[1]", "logits", "head.logits"."""
    if is_tensor(value):
        return {path: value}
    found: dict[str, Any] = {}
    if depth:
        for key, item in _items(value):
            step = key if key.startswith("[") or not path else f".{key}"
            found |= entries(item, is_tensor, f"{path}{step}", depth - 1)
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", None) or [f"[{place}]" for place in range(len(value))]
        return list(zip(map(str, fields), value, strict=False))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if isinstance(value, (str, bytes, int, float, bool, type(None))) or callable(value):
        return []
    return [*getattr(value, "__dict__", {}).items(), *((name, getattr(value, name)) for name in slots)]


@dataclass(frozen=True)
class Output:
    """One of several outputs. `shape` without the batch. `inner`: another output was made of it. `floating`: it holds
    floating-point numbers."""

    path: str
    shape: tuple[int, ...]
    floating: bool = True
    inner: bool = False

    @property
    def width(self) -> int:
        """How many numbers it has for a photo where it is one row of them, (C,) or (C, 1, 1); else 0."""
        size = 1
        for side in self.shape:
            size *= side
        return size if size == max(self.shape, default=1) else 0

    @property
    def words(self) -> str:
        """Its path and shape for people."""
        return f"{self.path} ({' × '.join(map(str, self.shape)) or '1'})"


@dataclass(frozen=True)
class Choice:
    """The output that is read, and why."""

    output: Output
    why: str


def find_entry(outputs: Sequence[Output], name: str, network: str) -> Output:
    """The output that a registration names. Raises UnknownNameError."""
    spelled = re.sub(r"^\[?(\d+)\]?$", r"[\1]", name.strip())
    for output in outputs:
        if output.path in (name.strip(), spelled):
            return output
    if re.fullmatch(r"\[\d+\]", spelled) and int(spelled[1:-1]) < len(outputs):
        return outputs[int(spelled[1:-1])]  # a place among entries that have names
    for output in outputs:
        if output.path.lower() == name.strip().lower():
            return output
    raise unknown("output", name, [output.path or "[0]" for output in outputs], network)


def choose(outputs: Sequence[Output], classes: int, features: bool = False) -> Choice:
    """The output that is read where none is named. `classes`: how many names there are, 0 for none. `features`: it is
    registered as features. Raises NetworkError where there is none."""
    usable = [output for output in outputs if output.floating]
    if not usable:
        raise NetworkError("the network returned no tensor of floating-point numbers")
    if len(usable) == 1:
        return Choice(usable[0], "it is the only one of floating-point numbers")
    rows = [output for output in usable if output.width]
    if features or not rows:
        return Choice(usable[0], "it is the first")
    if classes:
        wide = [output for output in rows if output.width == classes]
        if wide:
            return Choice(_likeliest(wide), f"it is as wide as the list of {classes} classes")
    ranked = [
        (rank, output.inner, place) for place, output in enumerate(rows) if (rank := _rank(output.path)) is not None
    ]
    if ranked:
        return Choice(rows[min(ranked)[2]], "of its name")
    last = [output for output in rows if not output.inner] or rows
    if len(last) == 1:
        return Choice(last[0], "it is made last, of the others" if len(rows) > 1 else "it is the only row of numbers")
    return Choice(_likeliest(last), "it is the first of those that no other is made of")


def _likeliest(outputs: Sequence[Output]) -> Output:
    """The one of the surest name; of several without, the first that is not called like something else."""
    ranked = [(rank, place) for place, output in enumerate(outputs) if (rank := _rank(output.path)) is not None]
    if ranked:
        return outputs[min(ranked)[1]]
    plain = [output for output in outputs if not any(part in output.path.lower() for part in _OTHERS)]
    return (plain or list(outputs))[0]


def _rank(path: str) -> int | None:
    """How surely a path names the scores of classes, 0 the surest; None for any other."""
    last = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2].lower()
    if not last or any(part in path.lower() for part in _OTHERS):
        return None
    if last in _NAMES:
        return _NAMES.index(last)
    return next((len(_NAMES) + place for place, part in enumerate(_PARTS) if part in last), None)


def note_of(choice: Choice, outputs: Sequence[Output], named: bool) -> str:
    """What is told of which output is read."""
    others = ", ".join(output.words for output in outputs)
    if named:
        return f"Of its {len(outputs)} outputs, {others}, it reads {choice.output.path}, as registered."
    return (
        f"Of its {len(outputs)} outputs, {others}, it reads {choice.output.path}, because {choice.why} "
        "(--output-name takes another)."
    )
