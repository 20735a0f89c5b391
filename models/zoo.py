"""Which networks exist, and how each is brought: by name to a `Network` with its card.

Listing imports no torch: the bundled network, `networks.toml` and a static table of torchvision's are read only.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
import sys
import threading
import tomllib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.card import RESAMPLING, Card, Preprocessing
from fovea.models.errors import FoveaError, NetworkError, UnknownNameError, WeightsError, unknown
from fovea.models.home import home, write_whole
from fovea.models.network import Network
from fovea.models.weights import RANDOM, TORCHVISION_ARGUMENTS, TORCHVISION_WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from fovea.models.graph.onnx_file import Hints

BUNDLED = "fovea"
CARD_VERSION = 4
"""Raised when the card of the same network would come out different."""
RANDOM_NOTE = "the weights are random: pictures show the architecture, not what a trained network has learnt"
IMAGENET = "imagenet"
"""Stands for ImageNet's class names where a file of names is asked for."""
KEPT_LOADED = 4
"""Networks that stay in memory."""

_FIELDS = {
    "architecture": str, "weights": str, "classes": str, "input": dict, "output": str, "arguments": dict, "title": str
}  # fmt: skip
_INPUT_FIELDS = ("size", "resize", "crop", "interpolation", "mean", "std", "range", "channels", "order")
_OUTPUTS = ("logits", "probabilities", "features")


@dataclass(frozen=True)
class KnownNetwork:
    """A network that can be loaded. `weights`: the choices that may follow its name as `NAME@WEIGHTS`, best first."""

    name: str
    title: str
    source: str
    weights: tuple[str, ...] = ()


@dataclass
class _Built:
    """A torch network before its card."""

    module: nn.Module
    title: str
    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    weights: str
    random: bool = False
    output: str = "logits"
    notes: list[str] = field(default_factory=list)


# --- what exists ---------------------------------------------------------------------------------------------


def known_networks() -> list[KnownNetwork]:
    """The bundled network, the registered ones, then torchvision's classification networks. Imports no torch."""
    networks = [KnownNetwork(BUNDLED, "Fovea's own network", "bundled", ("trained", RANDOM))]
    for name, entry in sorted(registered().items()):
        networks.append(KnownNetwork(name, str(entry.get("title") or name), "registered"))
    for name, sets in TORCHVISION_WEIGHTS.items():
        networks.append(KnownNetwork(f"torchvision:{name}", name, "torchvision", (*reversed(sets), RANDOM)))
    return networks


def load(name: str) -> Network:
    """The network of that name, its weights loaded and its card computed; the last few stay in memory.

    `fovea`, `torchvision:NAME`, `timm:NAME`, each with `@random` or (torchvision) `@WEIGHTS`; `onnx:PATH`; a
    registered name. Raises UnknownNameError with near matches, WeightsError, NetworkError, each one line.
    """
    key = _content_key(name)
    with _load_lock:
        if key in _loaded:
            _loaded.move_to_end(key)
            if not _card_path(key).is_file():  # whoever asked for it waits for the card
                _store_card(key, _loaded[key].card)
            return _loaded[key]
        network = _load(name, key)
        _loaded[key] = network
        while len(_loaded) > KEPT_LOADED:
            _loaded.popitem(last=False)
        return network


def cached_card(name: str) -> Card | None:
    """The card that an earlier `load` computed for the same name and unchanged files, or None. Imports no torch.

    Raises UnknownNameError for a name that cannot exist.
    """
    path = _card_path(_content_key(name))
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def forget() -> None:
    """Let go of the networks that are kept in memory."""
    with _load_lock:
        _loaded.clear()


_loaded: OrderedDict[str, Network] = OrderedDict()
_load_lock = threading.RLock()


def _load(name: str, key: str) -> Network:
    source, rest, choice = _parse(name)
    if source == "onnx":
        from fovea.models.graph import onnx_file

        network = onnx_file.load(name, Path(rest), onnx_file.Hints())
        _store_card(key, network.card)
        return network
    if source == "registered":
        entry = registered()[rest]
        if entry["architecture"].startswith("onnx:"):
            from fovea.models.graph import onnx_file

            network = onnx_file.load(name, _resolve(entry["architecture"][5:]), _hints(rest, entry))
            _store_card(key, network.card)
            return network
        built = _build_registered(rest, entry)
    elif source == "bundled":
        built = _build_bundled(choice)
    elif source == "torchvision":
        built = _build_torchvision(rest, choice)
    else:
        built = _build_timm(rest, choice, {}, None)
    network = _finish(name, built, cached_card(name))
    _store_card(key, network.card)
    return network


def _parse(name: str) -> tuple[str, str, str | None]:
    """Source, the name within it, and the choice of weights. Raises UnknownNameError."""
    source, colon, rest = name.partition(":")
    if colon and source == "onnx":
        return "onnx", rest, None
    base, at, choice = name.partition("@")
    wanted = choice if at else None
    if base == BUNDLED:
        if wanted not in (None, RANDOM, "trained"):
            raise unknown("set of weights", choice, ["trained", RANDOM], BUNDLED)
        return "bundled", BUNDLED, wanted
    if name in registered():
        return "registered", name, None
    source, colon, rest = base.partition(":")
    if colon and source == "torchvision":
        if rest not in TORCHVISION_WEIGHTS:
            raise unknown("network", base, [f"torchvision:{n}" for n in TORCHVISION_WEIGHTS])
        sets = (*TORCHVISION_WEIGHTS[rest], "DEFAULT", RANDOM)
        if wanted is not None and wanted not in sets:
            raise unknown("set of weights", wanted, sets, base)
        return "torchvision", rest, wanted
    if colon and source == "timm":
        if wanted not in (None, RANDOM):
            raise unknown("set of weights", choice, [RANDOM], base)
        return "timm", rest, wanted
    names = [n.name for n in known_networks()]
    if f"torchvision:{base}" in names:
        raise UnknownNameError(f"no network named {name!r}: did you mean torchvision:{name}?")
    raise unknown("network", name, names)


def _content_key(name: str) -> str:
    """The name and everything on disk that decides what it means, as one line of text."""
    source, rest, choice = _parse(name)
    facts: list[Any] = [CARD_VERSION, source, rest, choice]
    if source == "bundled":
        folder = Path(__file__).parent / "bundled"
        facts += [_stamp(folder / file) for file in ("net.py", "fovea.safetensors", "classes.txt")]
    elif source == "onnx":
        facts += [str(Path(rest).expanduser().resolve()), _stamp(Path(rest).expanduser())]
    elif source == "registered":
        entry = registered()[rest]
        facts.append(entry)
        facts += [_stamp(_resolve(entry[k])) for k in ("weights", "classes") if entry.get(k)]
        code = _code_file(entry["architecture"])
        if code is not None:
            facts.append(_stamp(code))
    return json.dumps(facts, sort_keys=True, default=str)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def _card_path(key: str) -> Path:
    return home() / "cards" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _store_card(key: str, card: Card) -> None:
    path = _card_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, card.model_dump_json().encode("utf-8"))


# --- building ------------------------------------------------------------------------------------------------


def _finish(name: str, built: _Built, known: Card | None) -> Network:
    """A `Network` from a module: frozen, traced (unless `known` is its card), its classes checked."""
    from fovea.models import torch_net
    from fovea.models.weights import fingerprint

    module = torch_net.prepare(built.module)
    # Runs and exports are found again by this: how a photo is prepared decides what they show, as weights do.
    facts = f"{fingerprint(module)} {built.preprocessing.model_dump_json()} {built.output}"
    sha256 = hashlib.sha256(facts.encode()).hexdigest()
    if known is not None and known.sha256 == sha256 and known.name == name:
        return Network(name, known, module)
    shape = (built.preprocessing.channels, *built.preprocessing.size)
    try:
        layers, output = torch_net.trace(module, shape)
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise NetworkError(f"{name} does not run on an input of shape {shape}: {text}") from error
    classes = built.classes
    if built.output != "features":
        units = output[0] if len(output) == 1 else 0
        if not units:
            raise NetworkError(
                f"{name} returns shape {output}, not one score a class: register it with output = 'features'"
            )
        if classes and len(classes) != units:
            raise NetworkError(f"{name} gives {units} scores but there are {len(classes)} class names")
        classes = classes or tuple(f"class {i}" for i in range(units))
    notes = tuple(built.notes) + ((RANDOM_NOTE,) if built.random else ())
    card = Card(
        name=name,
        title=built.title,
        architecture=built.architecture,
        preprocessing=built.preprocessing,
        classes=classes if built.output != "features" else (),
        layers=layers,
        parameters=sum(p.numel() for p in module.parameters()),
        sha256=sha256,
        weights=built.weights,
        random=built.random,
        output=built.output,  # type: ignore[arg-type]
        notes=notes,
    )
    return Network(name, card, module)


def _build_bundled(choice: str | None) -> _Built:
    from fovea.models import torch_net
    from fovea.models.bundled import net
    from fovea.models.weights import read_state_dict

    module: nn.Module = net.FoveaNet()
    random = choice == RANDOM
    if random:
        torch_net.randomise(module)
    else:
        if not net.WEIGHTS.is_file():
            raise WeightsError(
                f"the bundled network has no weights yet: {net.WEIGHTS.name} is missing (try fovea@random)"
            )
        state, _ = read_state_dict(net.WEIGHTS)
        module.load_state_dict(state)
    classes = tuple(net.class_names()) if net.CLASSES.is_file() else ()
    return _Built(
        module=module,
        title="Fovea's own network",
        architecture="fovea",
        preprocessing=Preprocessing(
            size=(net.INPUT_SIZE, net.INPUT_SIZE),
            resize=net.RESIZE,
            interpolation=net.INTERPOLATION,
            mean=net.MEAN,
            std=net.STD,
        ),
        classes=classes,
        weights=RANDOM if random else "bundled",
        random=random,
    )


def _torchvision() -> Any:
    importlib.import_module("fovea.models.torchvision_compat")
    return importlib.import_module("torchvision.models")


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    builder = _torchvision().get_model_builder(name)

    def build(**arguments: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: nn.Module = builder(weights=None, **arguments)
        return module

    return build


def _torchvision_preset(weights: Any) -> Preprocessing:
    preset = weights.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    return Preprocessing(
        size=(crop, crop),
        resize=resize,
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _build_torchvision(name: str, choice: str | None) -> _Built:
    from fovea.models import torch_net
    from fovea.models.weights import download

    sets = _torchvision().get_model_weights(name)
    random = choice == RANDOM
    weights = sets["DEFAULT"] if choice in (None, RANDOM) else sets[choice]
    classes = tuple(weights.meta.get("categories") or ())
    notes = []
    if random:
        module = torch_net.randomise(_torchvision_builder(name)(**TORCHVISION_ARGUMENTS.get(name, {})))
    else:
        download(weights.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = _torchvision().get_model_builder(name)(weights=weights, progress=False)
        metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
        if "acc@1" in metrics:
            notes.append(f"top-1 on ImageNet {metrics['acc@1']:.1f} %, top-5 {metrics['acc@5']:.1f} %")
    return _Built(
        module=module,
        title=name,
        architecture=f"torchvision:{name}",
        preprocessing=_torchvision_preset(weights),
        classes=classes,
        weights=RANDOM if random else weights.name,
        random=random,
        notes=notes,
    )


def _build_timm(name: str, choice: str | None, arguments: Mapping[str, Any], state: Any) -> _Built:
    """A timm network: its own weights, random ones (`choice`), or those of `state`, a file's tensors."""
    if importlib.util.find_spec("timm") is None:
        raise NetworkError(f"timm:{name} needs the package timm: pip install timm")
    from fovea.models import torch_net
    from fovea.models.weights import load_into

    _torchvision()  # before timm, which imports it
    timm: Any = importlib.import_module("timm")

    if not timm.is_model(name):
        raise unknown("network", f"timm:{name}", [f"timm:{n}" for n in timm.list_models()])
    random = choice == RANDOM

    def build(**given: Any) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=False, **given)
        return module

    notes: list[str] = []
    if state is not None:
        module, notes = load_into(build, arguments, state, f"timm:{name}")
    elif random:
        module = torch_net.randomise(build(**arguments))
    else:
        try:
            module = timm.create_model(name, pretrained=True, **arguments)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise WeightsError(
                f"the weights of timm:{name} could not be had ({text}): take timm:{name}@random, or register a file"
            ) from None
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    resize = int(min(height, width) / float(config.get("crop_pct") or 1.0))
    return _Built(
        module=module,
        title=name,
        architecture=f"timm:{name}",
        preprocessing=Preprocessing(
            size=(height, width),
            resize=None if config.get("crop_mode") == "squash" else resize,
            interpolation=config["interpolation"] if config["interpolation"] in RESAMPLING else "bicubic",
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            channels=channels,
        ),
        classes=(),
        weights=RANDOM if random else "timm",
        random=random,
        notes=notes,
    )


def _build_registered(name: str, entry: Mapping[str, Any]) -> _Built:
    from fovea.models import torch_net
    from fovea.models.weights import load_into, read_state_dict

    architecture: str = entry["architecture"]
    arguments: dict[str, Any] = dict(entry.get("arguments", {}))
    notes: list[str] = []
    weights_path = _resolve(entry["weights"]) if entry.get("weights") else None
    state = None
    if weights_path is not None:
        state, notes = read_state_dict(weights_path)
    preprocessing = Preprocessing()
    classes: tuple[str, ...] = ()
    build = None
    if architecture.startswith("torchvision:"):
        base = architecture.partition(":")[2]
        if base not in TORCHVISION_WEIGHTS:
            raise unknown("network", architecture, [f"torchvision:{n}" for n in TORCHVISION_WEIGHTS])
        default = _torchvision().get_model_weights(base)["DEFAULT"]
        preprocessing, classes = _torchvision_preset(default), tuple(default.meta.get("categories") or ())
        build = _torchvision_builder(base)
        arguments = {**TORCHVISION_ARGUMENTS.get(base, {}), **arguments}
    elif not architecture.startswith("timm:"):
        build = _own_builder(name, architecture)
    try:
        if build is None:
            built = _build_timm(architecture[5:], None if state is not None else RANDOM, arguments, state)
            module, preprocessing, more = built.module, built.preprocessing, built.notes
        elif state is not None:
            module, more = load_into(build, arguments, state, architecture)
        else:
            module, more = torch_net.randomise(build(**arguments)), []
    except FoveaError:
        raise
    except Exception as error:
        raise _not_built(architecture, arguments, error) from error
    preprocessing = preprocessing_from(entry.get("input", {}), preprocessing, name)
    if entry.get("classes"):
        classes = class_names(entry["classes"])
    elif classes and not _gives(module, len(classes)):
        classes = ()
    return _Built(
        module=module,
        title=str(entry.get("title") or name),
        architecture=architecture,
        preprocessing=preprocessing,
        classes=classes,
        weights=weights_path.name if weights_path is not None else RANDOM,
        random=weights_path is None,
        output=entry.get("output", "logits"),
        notes=[*notes, *more],
    )


def _not_built(architecture: str, arguments: Mapping[str, Any], error: Exception) -> NetworkError:
    """The one line for code that raised while it built a network; a TypeError tells which argument it lacks."""
    text = (str(error).splitlines() or [type(error).__name__])[0][:200]
    given = f"with arguments {dict(arguments)}" if arguments else "without arguments"
    hint = " (give --argument NAME=VALUE)" if isinstance(error, TypeError) else ""
    return NetworkError(f"{architecture} cannot be built {given}: {text}{hint}")


def _gives(module: nn.Module, classes: int) -> bool:
    """Whether the last layer with weights has that many outputs."""
    weighted = [p for p in module.parameters() if p.dim() > 1]
    return bool(weighted) and weighted[-1].shape[0] == classes


def _own_builder(name: str, architecture: str) -> Callable[..., nn.Module]:
    """The callable that a user's `/path/net.py:Net` or `package.module:callable` names."""
    from torch import nn

    place, _, attribute = architecture.rpartition(":")
    try:
        module = _private_module(_resolve(place)) if place.endswith(".py") else importlib.import_module(place)
    except NetworkError:
        raise
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        raise NetworkError(f"{place} cannot be imported: {type(error).__name__}: {text}") from error
    if not hasattr(module, attribute):
        raise unknown("callable", attribute, [n for n in vars(module) if not n.startswith("_")], place)
    make = getattr(module, attribute)

    def build(**arguments: Any) -> nn.Module:
        result = make(**arguments)
        if not isinstance(result, nn.Module):
            raise NetworkError(f"{architecture} returned a {type(result).__name__}: expected a torch.nn.Module")
        return result

    return build


def _private_module(path: Path) -> Any:
    """A user's file under a name of its own: users' code often lives in a package called `models`, as ours does."""
    if not path.is_file():
        raise NetworkError(f"no Python file at {path}")
    tag = hashlib.sha256(f"{path.resolve()}:{_stamp(path)}".encode()).hexdigest()[:16]
    private = f"_fovea_user_{tag}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise NetworkError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module


def class_names(given: str) -> tuple[str, ...]:
    """What `classes` of networks.toml stands for: a file's lines, or `imagenet`, its 1000 in their usual order.

    Raises NetworkError.
    """
    if given != IMAGENET:
        return read_classes(_resolve(given))
    importlib.import_module("fovea.models.torchvision_compat")
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line. Raises NetworkError for a missing, empty or unreadable file."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"class names cannot be read from {path}: {type(error).__name__}") from None
    if not names:
        raise NetworkError(f"{path} holds no class names: expected one a line")
    return names


def preprocessing_from(given: Mapping[str, Any], default: Preprocessing, name: str) -> Preprocessing:
    """`default` with what the `input` table of networks.toml says instead. Raises NetworkError."""
    extra = [key for key in given if key not in _INPUT_FIELDS]
    if extra:
        raise NetworkError(f"{name}: input has no {extra[0]!r}: there are {', '.join(_INPUT_FIELDS)}")
    facts: dict[str, Any] = default.model_dump()
    size = given.get("crop", given.get("size"))
    if size is not None:
        facts["size"] = (size, size) if isinstance(size, int) else tuple(size)
    if "resize" in given:
        facts["resize"] = given["resize"] or None
    elif size is not None and tuple(facts["size"]) != default.size:
        # The usual margin about a centre crop.
        facts["resize"] = round(min(facts["size"]) * 256 / 224)
    for key in ("interpolation", "channels", "order"):
        if key in given:
            facts[key] = given[key]
    if "range" in given:
        facts["range"] = tuple(given["range"])
    channels = int(facts["channels"])
    for key, plain in (("mean", 0.0), ("std", 1.0)):
        if key in given:
            value = given[key]
            facts[key] = (float(value),) * channels if isinstance(value, (int, float)) else tuple(value)
        elif channels != default.channels or "range" in given:
            facts[key] = (plain,) * channels
        if len(facts[key]) != channels:
            raise NetworkError(f"{name}: {key} has {len(facts[key])} values but there are {channels} channels")
    if facts["interpolation"] not in RESAMPLING:
        raise unknown("interpolation", str(facts["interpolation"]), RESAMPLING, name)
    if channels not in (1, 3, 4):
        raise NetworkError(f"{name}: channels is {channels}: expected 1, 3 or 4")
    try:
        return Preprocessing(**facts)
    except ValueError as error:
        lines = str(error).splitlines()
        raise NetworkError(f"{name}: input {' '.join(x.strip() for x in lines[1:3])}") from None


# --- networks.toml -------------------------------------------------------------------------------------------


def _toml() -> Path:
    return home() / "networks.toml"


def registered() -> dict[str, dict[str, Any]]:
    """The entries of `$FOVEA_HOME/networks.toml` by name. Raises NetworkError if the file is not valid."""
    path = _toml()
    if not path.is_file():
        return {}
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("networks", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NetworkError(f"{path} is not valid TOML: {error}") from None
    for name, entry in entries.items():
        _check_entry(name, entry)
    return dict(entries)


def register(name: str, **fields: Any) -> None:
    """Write `[networks.NAME]` to networks.toml: architecture, and weights, classes, input, output, arguments, title.

    Paths may be relative to the folder of networks.toml. Replaces an entry of the same name. Raises NetworkError.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == BUNDLED:
        raise NetworkError(f"{name!r} cannot be a network's name: letters, digits, '_', '.', '-', and not {BUNDLED!r}")
    entry = {key: value for key, value in fields.items() if value is not None}
    _check_entry(name, entry)
    for key in ("weights", "classes"):
        if key in entry and entry[key] != IMAGENET and not _resolve(entry[key]).is_file():
            raise WeightsError(f"{name}: no file at {_resolve(entry[key])} ({key})")
    entries = registered()
    entries[name] = entry
    _write(entries)


def unregister(name: str) -> None:
    """Take a network out of networks.toml; its files stay. Raises UnknownNameError."""
    entries = registered()
    if name not in entries:
        raise unknown("registered network", name, entries)
    del entries[name]
    _write(entries)


def _check_entry(name: str, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise NetworkError(f"networks.toml: {name} is not a table")
    for key, value in entry.items():
        if key not in _FIELDS:
            raise NetworkError(f"{name}: no field {key!r}: there are {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[key]):
            raise NetworkError(f"{name}: {key} is {value!r}: expected {_FIELDS[key].__name__}")
    architecture = entry.get("architecture", "")
    if ":" not in architecture:
        raise NetworkError(
            f"{name}: architecture is {architecture!r}: expected torchvision:NAME, timm:NAME, onnx:PATH, "
            "package.module:callable or /path/net.py:Net"
        )
    if entry.get("output", "logits") not in _OUTPUTS:
        raise NetworkError(f"{name}: output is {entry['output']!r}: expected {', '.join(_OUTPUTS)}")
    if isinstance(entry.get("input"), dict):
        preprocessing_from(entry["input"], Preprocessing(), name)


def _resolve(path: str) -> Path:
    """A path of networks.toml, relative ones against its folder."""
    return (_toml().parent / Path(path).expanduser()).resolve()


def _code_file(architecture: str) -> Path | None:
    place = architecture.rpartition(":")[0]
    if architecture.startswith("onnx:"):
        return _resolve(architecture[5:])
    return _resolve(place) if place.endswith(".py") else None


def _hints(name: str, entry: Mapping[str, Any]) -> Hints:
    from fovea.models.graph.onnx_file import Hints

    classes = class_names(entry["classes"]) if entry.get("classes") else ()
    return Hints(entry.get("input"), classes, entry.get("output"), str(entry.get("title") or name))


def _write(entries: Mapping[str, Mapping[str, Any]]) -> None:
    lines = []
    for name, entry in sorted(entries.items()):
        lines += _table(f"networks.{_key(name)}", entry)
    write_whole(_toml(), ("\n".join(lines).lstrip("\n") + "\n").encode("utf-8"))


def _table(title: str, entry: Mapping[str, Any]) -> list[str]:
    lines = ["", f"[{title}]"]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in entry.items() if not isinstance(v, Mapping) and v is not None]
    for key, value in entry.items():
        if isinstance(value, Mapping):
            lines += _table(f"{title}.{_key(key)}", value)
    return lines


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(v) for v in value)}]"
    # A TOML basic string is a JSON string, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
