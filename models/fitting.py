"""Finding, in all that a checkpoint holds, the tensors that an architecture expects, and loading them into it.

Under which key a training script keeps the weights, and what it puts before their names, is searched, not listed: a set
fits if its names, after one beginning is taken off them, are the names that the network expects, with their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fovea.models.checkpoint import Checkpoint, Leaf
from fovea.models.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
"""Parts of a name that torch's own wrappers put in its middle where only a part of the network was wrapped."""
_AVERAGE = {"ema", "teacher", "average", "averaged", "averages", "avg", "swa", "shadow", "polyak"}
_OPTIMISER = re.compile(r"optim|exp_?avg|momentum_buffer|grad|scheduler", re.IGNORECASE)
_READINGS = 32
"""So many readings of a file are looked at closely, those that match most names."""
_NAMED = 6
"""So many names are told where something is left out."""


@dataclass
class _Fit:
    """One set of tensors as the network's: those whose names begin with `prefix`, which is taken off, `root` put on."""

    prefix: str
    root: str
    tensors: dict[str, Leaf] = field(default_factory=dict)
    left_over: list[Leaf] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    classes: int | None = None

    @property
    def complete(self) -> bool:
        """Whether these are the network's weights, a head of another size apart."""
        return not self.missing and not self.unexpected and (not self.misshapen or self.classes is not None)


@dataclass(frozen=True)
class Loaded:
    """A module with the weights of a file in it, and what had to be done for it, one line each."""

    module: nn.Module
    notes: tuple[str, ...]


def load_into(
    build: Callable[..., nn.Module],
    arguments: Mapping[str, Any],
    checkpoint: Checkpoint,
    title: str,
    key: str = "",
    trust: bool = False,
) -> Loaded:
    """A module made by `build(**arguments)` with the tensors of `checkpoint` that fit it.

    Of several sets that fit an average of the weights (EMA, a teacher) is taken first, then the most complete; `key`
    names the entry of the file to take instead. If only the head has another size, the module is built anew with that
    `num_classes`. `trust`: tensors may come out of a whole pickled module. Raises WeightsError that names the first
    missing and unexpected names.
    """
    module = build(**arguments)
    leaves = _chosen(checkpoint, key, title)
    plain = leaves if trust else [leaf for leaf in leaves if not leaf.module]
    expected = module.state_dict()
    optional = _tied(expected)
    fits = _ranked(plain, expected, optional)
    best = fits[0] if fits else None
    if best is None or not best.complete:
        whole = next((leaf.module for leaf in leaves if leaf.module), "")
        if whole and not trust:
            raise WeightsError(
                f"{checkpoint.file} is a whole pickled module ({whole}), which runs code when it is loaded: save its "
                "state_dict() instead, or say --trust if you trust whoever made it"
            )
        if best is None:
            raise WeightsError(f"these weights are not for {title}: there is no tensor under any name that it expects")
        raise WeightsError(f"these weights are not for {title}: {_what_is_wrong(best, expected)}")
    notes = _told(best, fits, checkpoint)
    if best.classes is not None:
        if "num_classes" in arguments:
            raise WeightsError(f"these weights are not for {title}: {_what_is_wrong(best, expected)}")
        try:
            module = build(**{**arguments, "num_classes": best.classes})
        except TypeError:
            raise WeightsError(
                f"the checkpoint has {best.classes} classes, but {title} takes no argument num_classes: "
                "give it the arguments that it was trained with"
            ) from None
        expected = module.state_dict()
        notes.append(f"The checkpoint has {best.classes} classes.")
        best.misshapen = [name for name, leaf in best.tensors.items() if leaf.tensor.shape != expected[name].shape]
        if best.misshapen:
            raise WeightsError(f"these weights are not for {title}: {_what_is_wrong(best, expected)}")
    module.load_state_dict({name: leaf.tensor for name, leaf in best.tensors.items()}, strict=False)
    return Loaded(module, tuple([*checkpoint.notes, *notes]))


def _chosen(checkpoint: Checkpoint, key: str, title: str) -> list[Leaf]:
    """The tensors below the entry `key`, all without one. Raises WeightsError if there is none."""
    if not key:
        return list(checkpoint.leaves)
    below = f"{key.rstrip('.')}."
    found = [leaf for leaf in checkpoint.leaves if leaf.name.startswith(below)]
    if not found:
        heads = list(dict.fromkeys(leaf.name.partition(".")[0] for leaf in checkpoint.leaves))
        raise WeightsError(f"{checkpoint.file} has no entry {key!r} with weights: it has {_some(heads)}")
    return found


def _tied(expected: Mapping[str, Tensor]) -> set[str]:
    """The names of tensors that a file may lack: counters, and those that are another one's very values."""
    seen: dict[tuple[int, Any], str] = {}
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    for name, value in expected.items():
        first = seen.setdefault((value.data_ptr(), value.shape), name)
        if first != name and value.numel():
            optional |= {name, first}
    return optional


# --- the search ----------------------------------------------------------------------------------------------


def _ranked(leaves: Sequence[Leaf], expected: Mapping[str, Tensor], optional: set[str]) -> list[_Fit]:
    """Every way to read the tensors as the network's, the best first."""
    fits = _fits(leaves, expected, optional)
    if not any(fit.complete for fit in fits):
        fits += _fits([_unwrapped(leaf) for leaf in leaves], expected, optional)

    def rank(fit: _Fit) -> tuple[Any, ...]:
        return (
            not fit.complete,
            fit.classes is not None,
            bool(_OPTIMISER.search(fit.prefix)),
            not _is_average(fit.prefix) if fit.complete else 0,
            -len(fit.tensors),
            len(fit.left_over),
        )

    return sorted(fits, key=rank)


def _unwrapped(leaf: Leaf) -> Leaf:
    keys = (".".join(part for part in key.split(".") if part not in _WRAPPERS) for key in leaf.keys)
    return Leaf(tuple(key for key in keys if key), leaf.tensor, leaf.module)


def _is_average(prefix: str) -> bool:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", prefix)
    return any(word.lower() in _AVERAGE for word in words)


def _fits(leaves: Sequence[Leaf], expected: Mapping[str, Tensor], optional: set[str]) -> list[_Fit]:
    fits: dict[tuple[str, str], _Fit] = {}
    for root in _roots(expected):
        wanted = {name[len(root) :] for name in expected}
        for leaf in leaves:
            for start in _starts(leaf.name):
                if leaf.name[start:] in wanted:
                    prefix = leaf.name[:start]
                    fit = fits.setdefault((prefix, root), _Fit(prefix, root))
                    fit.tensors.setdefault(root + leaf.name[start:], leaf)
    # A single tensor's name alone ("weight") is found everywhere: only the fullest readings are looked at.
    most = sorted(fits.values(), key=lambda fit: -len(fit.tensors))[:_READINGS]
    parts = _parts(expected)
    for fit in most:
        _complete(fit, leaves, expected, optional, parts)
    return most


def _parts(expected: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """What lies directly in each module of the network, by the module's name with its dot ("" is the network)."""
    parts: dict[str, set[str]] = {}
    for name in expected:
        for start in _starts(name):
            parts.setdefault(name[:start], set()).add(name[start:].partition(".")[0])
    return parts


def _starts(name: str) -> list[int]:
    """Where a name may begin if something was put before it."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]


def _roots(expected: Mapping[str, Tensor]) -> list[str]:
    """What all names of the network begin with, "" first: a file may hold only what is inside of the wrapper."""
    names = list(expected)
    roots = [""]
    while names:
        head = names[0][len(roots[-1]) :].partition(".")
        root = f"{roots[-1]}{head[0]}."
        if not head[1] or not all(name.startswith(root) for name in names):
            break
        roots.append(root)
    return roots


def _complete(
    fit: _Fit,
    leaves: Sequence[Leaf],
    expected: Mapping[str, Tensor],
    optional: set[str],
    parts: Mapping[str, set[str]],
) -> None:
    """Say what the reading lacks and what it leaves over."""
    groups = _tied_groups(expected)
    for name in expected:
        if name not in fit.tensors and name not in optional:
            fit.missing.append(name)
        elif name not in fit.tensors and not name.endswith("num_batches_tracked"):
            twin = next((other for other in groups.get(name, ()) if other in fit.tensors), None)
            if twin is None:
                fit.missing.append(name)
    own = set(map(id, fit.tensors.values()))
    for leaf in leaves:
        if leaf.name.startswith(fit.prefix) and id(leaf) not in own:
            name = fit.root + leaf.name[len(fit.prefix) :]
            if name.endswith("num_batches_tracked"):
                continue
            if _belongs(name, leaf, parts):
                fit.unexpected.append(name)
            else:
                fit.left_over.append(leaf)
    fit.misshapen = [name for name, leaf in fit.tensors.items() if leaf.tensor.shape != expected[name].shape]
    sizes: set[tuple[int, int]] = set()
    for name in fit.misshapen:
        value, wanted = fit.tensors[name].tensor, expected[name]
        if value.dim() == 0 or value.shape[1:] != wanted.shape[1:]:
            return
        sizes.add((value.shape[0], wanted.shape[0]))
    fit.classes = sizes.pop()[0] if len(sizes) == 1 else None


def _tied_groups(expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    by_place: dict[tuple[int, Any], list[str]] = {}
    for name, value in expected.items():
        by_place.setdefault((value.data_ptr(), value.shape), []).append(name)
    return {name: group for group in by_place.values() if len(group) > 1 for name in group}


def _belongs(name: str, leaf: Leaf, parts: Mapping[str, set[str]]) -> bool:
    """Whether a tensor that the network has no place for shows that the weights are another architecture's.

    A further block beside numbered ones, or a bias where the network has none, does; a head that only training uses
    or a number that the script counted does not.
    """
    if leaf.tensor.dim() == 0:
        return False
    for start in _starts(name):
        inside = parts.get(name[:start])
        if inside is None:
            return False
        head, dot, _ = name[start:].partition(".")
        if not dot:
            return head in {"weight", "bias"} and bool({"weight", "bias"} & inside)
        if head not in inside:
            stem = re.sub(r"\d+", "#", head)
            return "#" in stem and any(re.sub(r"\d+", "#", other) == stem for other in inside)
    return False


# --- what is said of it --------------------------------------------------------------------------------------


def _what_is_wrong(fit: _Fit, expected: Mapping[str, Tensor]) -> str:
    parts = []
    extra = [*fit.unexpected, *(leaf.name for leaf in fit.left_over if leaf.name.startswith(fit.prefix))]
    if fit.missing:
        parts.append(f"{len(fit.missing)} missing of its {len(expected)} tensors (the first is {fit.missing[0]})")
    if extra and (fit.missing or fit.unexpected):
        parts.append(f"{len(extra)} unexpected (the first is {extra[0]})")
    if parts:
        return f"there are {' and '.join(parts)}"
    name = fit.misshapen[0]
    shape = tuple(fit.tensors[name].tensor.shape)
    return f"{name} has shape {shape}, but it must have {tuple(expected[name].shape)}"


def _told(best: _Fit, fits: Sequence[_Fit], checkpoint: Checkpoint) -> list[str]:
    """What was taken off, what else fitted, and what was left out."""
    notes = []
    entry, prefix = _split(best)
    if entry:
        notes.append(f"The weights were taken from the entry {entry!r} of the checkpoint.")
    if prefix:
        notes.append(f"The prefix {prefix!r} was taken off the names of the weights.")
    if best.root:
        notes.append(f"The prefix {best.root!r}, which the network's own names have, was put before those of the file.")
    if whole := next((leaf.module for leaf in best.tensors.values() if leaf.module), ""):
        notes.append(f"The weights were taken out of a whole pickled module ({whole}), none of whose code was run.")
    others = [
        fit.prefix.rstrip(".") or "its top"
        for fit in fits[1:]
        if fit.complete and fit.classes == best.classes and not _OPTIMISER.search(fit.prefix) and not _same(fit, best)
    ]
    if others:
        notes.append(
            f"Several sets of weights in the file fit: {best.prefix.rstrip('.') or 'that at its top'} was taken; "
            f"--weights-key takes another ({_some(dict.fromkeys(others))})."
        )
    inside = {leaf.keys[0] for leaf in best.tensors.values()}
    over = [leaf for leaf in best.left_over if leaf.keys[0] in inside]
    if over:
        many = "tensors were left over, because the network has no place for them"
        single = "tensor was left over, because the network has no place for it"
        notes.append(
            f"{len(over)} {many if len(over) > 1 else single}: {_some(leaf.name[len(best.prefix) :] for leaf in over)}."
        )
    beside = [name for name in checkpoint.entries if name not in inside and not name.endswith("num_batches_tracked")]
    if beside:
        notes.append(f"Left out of the checkpoint, beside the weights: {_some(beside)}.")
    return notes


def _split(fit: _Fit) -> tuple[str, str]:
    """The keys that lead to the set in its file, joined by dots, and what stood before each name there."""
    first = next(iter(fit.tensors.values()))
    entry = ""
    for key in first.keys[:-1]:
        if not fit.prefix.startswith(f"{entry}{key}."):
            break
        entry += f"{key}."
    return entry.rstrip("."), fit.prefix[len(entry) :]


def _same(one: _Fit, other: _Fit) -> bool:
    """Whether two sets are the same values under two names."""
    if one.tensors.keys() != other.tensors.keys():
        return False
    return all(
        leaf.tensor is other.tensors[name].tensor or leaf.tensor.equal(other.tensors[name].tensor)
        for name, leaf in one.tensors.items()
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"
