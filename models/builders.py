"""From a source to a torch network: Fovea's own, torchvision's and timm's, and registered architectures with weights.

Torch and the packages of architectures are imported inside the functions that need them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models import bundled
from fovea.models.card import Card, Preprocessing
from fovea.models.checkpoint import read_checkpoint
from fovea.models.class_list import class_notes
from fovea.models.entry import IMAGENET, class_names, preprocessing_from, resolve
from fovea.models.errors import FoveaError, NetworkError, WeightsError, unknown
from fovea.models.home import stamp
from fovea.models.network import TorchNetwork
from fovea.models.output import OutputKind
from fovea.models.own_weights import Weighted, as_made, opaque_notes
from fovea.models.timm_input import timm_preprocessing
from fovea.models.weights import RANDOM, TORCHVISION_ARGUMENTS, TORCHVISION_WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from fovea.models.torch_account import Tried
    from fovea.models.user_code import UserCode

RANDOM_NOTE = "The weights are random: pictures show the architecture, not what a trained network has learnt."

Builder = Callable[..., "nn.Module"]
"""Makes an architecture from named arguments; what weights it has is of no account."""


@dataclass
class Built:
    """A torch network before its card. `output`: what it means, None where that is to be found out; `account`: the card
    tells all that was tried."""

    module: nn.Module
    title: str
    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    weights: str
    random: bool = False
    output: OutputKind | None = "logits"
    output_name: str = ""
    account: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Blueprint:
    """An architecture that weights can be loaded into: how it is built, and what holds for it unless a user says more.

    `preprocessing` is told by the module that was built: timm's depends on the arguments. `code`: the architecture is
    a user's own code, which may load weights by itself.
    """

    build: Builder
    preprocessing: Callable[[nn.Module], Preprocessing]
    classes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    code: UserCode | None = None


def finish(name: str, built: Built, known: Card | None) -> TorchNetwork:
    """A network from a module: frozen, traced (unless `known` is its card), its classes checked."""
    from fovea.models import torch_net
    from fovea.models.torch_account import try_out
    from fovea.models.torch_trial import runs_on
    from fovea.models.weights import fingerprint

    shape = (built.preprocessing.channels, *built.preprocessing.size)
    module = torch_net.prepare(_in_float32(built, lambda each: runs_on(each.eval(), shape)))
    weights = fingerprint(module)
    if known is not None and known.name == name and known.sha256 == _sha256(weights, built, known):
        return TorchNetwork(name, known, module)
    tried = try_out(module, name, built.preprocessing, built.output, built.output_name, built.classes)
    card = Card(
        name=name,
        title=built.title,
        architecture=built.architecture,
        preprocessing=built.preprocessing,
        classes=tried.classes,
        layers=tried.layers,
        parameters=sum(p.numel() for p in module.parameters()),
        sha256=_sha256(weights, built, tried),
        weights=built.weights,
        random=built.random,
        gradients=not tried.no_gradients,
        no_gradients=tried.no_gradients,
        varies=tried.varies,
        output=tried.output,
        output_name=tried.output_name,
        batch=tried.batch,
        larger_batches=tried.larger_batches,
        squeezed=tried.squeezed,
        notes=(
            *built.notes,
            *(tried.account if built.account else ()),
            *tried.notes,
            *((RANDOM_NOTE,) if built.random else ()),
        ),
    )
    return TorchNetwork(name, card, module)


def _sha256(weights: str, built: Built, read: Card | Tried) -> str:
    """Runs and exports are found again by this: how a photo is prepared decides what they show, as weights do."""
    facts = f"{weights} {built.preprocessing.model_dump_json()} {read.output}"
    if read.output_name:
        facts += f" {read.output_name}"
    return hashlib.sha256(facts.encode()).hexdigest()


def _in_float32(built: Built, runs: Callable[[nn.Module], bool]) -> nn.Module:
    """The module with its parameters in float32 where they have another precision, and a note; as it is where its code
    asks for that precision, so that it does not run in float32."""
    import copy

    import torch

    kinds = {p.dtype for p in built.module.parameters() if p.is_floating_point()}
    other = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}))
    if not other:
        return built.module
    wide = copy.deepcopy(built.module).float()
    if runs(wide) or not runs(built.module):
        built.notes.append(f"Its weights are {other}: it is computed in float32.")
        return wide
    built.notes.append(f"Its weights are {other}, and its code asks for that: it is computed in it, with fewer digits.")
    return built.module


def build_bundled(choice: str | None) -> Built:
    from fovea.models import torch_net
    from fovea.models.bundled import net

    module: nn.Module = net.FoveaNet()
    random = choice == RANDOM
    if random:
        torch_net.randomise(module)
    else:
        if not net.WEIGHTS.is_file():
            raise WeightsError(
                f"the bundled network has no weights, because {net.WEIGHTS.name} is missing: "
                f"install Fovea anew, or use {bundled.NAME}@random"
            )
        module.load_state_dict({leaf.name: leaf.tensor for leaf in read_checkpoint(net.WEIGHTS).leaves})
    classes = tuple(net.class_names()) if net.CLASSES.is_file() else ()
    return Built(
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


# --- torchvision ---------------------------------------------------------------------------------------------


def torchvision_models() -> Any:
    """The module `torchvision.models`, also beside a torch that its compiled operators do not fit."""
    importlib.import_module("fovea.models.torchvision_compat")
    return importlib.import_module("torchvision.models")


def torchvision_builder(name: str) -> Builder:
    """What makes torchvision's architecture of that name, without weights and without its warnings."""
    builder = torchvision_models().get_model_builder(name)

    def build(**arguments: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: nn.Module = builder(weights=None, **arguments)
        return module

    return build


def _torchvision_blueprint(name: str) -> Blueprint:
    if name not in TORCHVISION_WEIGHTS:
        raise unknown("network", f"torchvision:{name}", [f"torchvision:{n}" for n in TORCHVISION_WEIGHTS])
    default = torchvision_models().get_model_weights(name)["DEFAULT"]
    return Blueprint(
        torchvision_builder(name),
        lambda module: _torchvision_preset(default),
        tuple(default.meta.get("categories") or ()),
        TORCHVISION_ARGUMENTS.get(name, {}),
    )


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


def build_torchvision(name: str, choice: str | None) -> Built:
    """torchvision's network with the set of weights `choice`: its best set unless told, or random ones."""
    from fovea.models import torch_net
    from fovea.models.weights import download

    sets = torchvision_models().get_model_weights(name)
    random = choice == RANDOM
    weights = sets["DEFAULT"] if choice in (None, RANDOM) else sets[choice]
    notes = []
    if random:
        module = torch_net.randomise(torchvision_builder(name)(**TORCHVISION_ARGUMENTS.get(name, {})))
    else:
        download(weights.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torchvision_models().get_model_builder(name)(weights=weights, progress=False)
        metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
        if "acc@1" in metrics:
            notes.append(
                f"Its accuracy on ImageNet is {metrics['acc@1']:.1f} % (top-1) and {metrics['acc@5']:.1f} % (top-5)."
            )
    return Built(
        module=module,
        title=name,
        architecture=f"torchvision:{name}",
        preprocessing=_torchvision_preset(weights),
        classes=tuple(weights.meta.get("categories") or ()),
        weights=RANDOM if random else weights.name,
        random=random,
        notes=notes,
    )


# --- timm ----------------------------------------------------------------------------------------------------


def _timm(name: str) -> Any:
    """The package timm, which has a network of that name."""
    if importlib.util.find_spec("timm") is None:
        raise NetworkError(f"timm:{name} needs the package timm: install it with pip install timm")
    torchvision_models()  # before timm, which imports it
    timm: Any = importlib.import_module("timm")
    if not timm.is_model(name):
        raise unknown("network", f"timm:{name}", [f"timm:{n}" for n in timm.list_models()])
    return timm


def _timm_blueprint(name: str) -> Blueprint:
    timm = _timm(name)

    def build(**arguments: Any) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        return module

    return Blueprint(build, timm_preprocessing)


def build_timm(name: str, choice: str | None) -> Built:
    """timm's network with its own weights, or with random ones where that is the `choice`."""
    from fovea.models import torch_net

    timm = _timm(name)
    random = choice == RANDOM
    if random:
        module = torch_net.randomise(_timm_blueprint(name).build())
    else:
        try:
            module = timm.create_model(name, pretrained=True)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise WeightsError(
                f"the weights of timm:{name} cannot be downloaded ({text}): use timm:{name}@random, or register a "
                "file of weights"
            ) from None
    return Built(
        module=module,
        title=name,
        architecture=f"timm:{name}",
        preprocessing=timm_preprocessing(module),
        classes=(),
        weights=RANDOM if random else "timm",
        random=random,
    )


# --- registered ----------------------------------------------------------------------------------------------

_BLUEPRINTS: Mapping[str, Callable[[str], Blueprint]] = {
    "torchvision": _torchvision_blueprint,
    "timm": _timm_blueprint,
}
"""The packages of architectures, by what stands before the colon; all else is a user's own code."""


def saved_folder(architecture: str) -> Path | None:
    """The folder that `hf:FOLDER` names, which brings its whole network; None for any other architecture."""
    source, _, path = architecture.partition(":")
    return resolve(path) if source == "hf" else None


def build_saved(name: str, folder: Path, entry: Mapping[str, Any]) -> Built:
    """The network in a folder that `save_pretrained` wrote; `entry` is what a user says of it."""
    from fovea.models.huggingface import open_folder

    saved = open_folder(folder)
    classes, notes = saved.classes, list(saved.notes)
    if entry.get("classes"):
        classes = class_names(entry["classes"])
    return Built(
        module=saved.module,
        title=str(entry.get("title") or folder.name),
        architecture=f"hf:{folder}",
        preprocessing=preprocessing_from(entry.get("input", {}), saved.preprocessing, name),
        classes=classes,
        weights=saved.weights,
        output=entry.get("output"),
        output_name=str(entry.get("output_name", "")),
        account=True,
        notes=notes,
    )


def whole_file(architecture: str) -> Path | None:
    """The file that `torch:PATH` names, which brings its whole network; None for any other architecture."""
    source, _, path = architecture.partition(":")
    return resolve(path) if source == "torch" else None


def argument_files(entry: Mapping[str, Any]) -> list[Path]:
    """The files that an entry's arguments name: weights that a builder loads, for example."""
    texts = [value for value in entry.get("arguments", {}).values() if isinstance(value, str) and "." in value[:255]]
    return [path for path in map(resolve, texts) if stamp(path) is not None and path.is_file()]


def _blueprint(architecture: str) -> Blueprint:
    package, _, name = architecture.partition(":")
    if package in _BLUEPRINTS:
        return _BLUEPRINTS[package](name)
    from fovea.models.user_code import user_code

    code = user_code(architecture)
    return Blueprint(code.make, lambda module: Preprocessing(), code=code)


def build_registered(name: str, entry: Mapping[str, Any]) -> Built:
    """The network that an entry of networks.toml describes.

    Without a file of weights what a user's own code made is used as it is, if it loaded weights; else they are random.
    """
    architecture: str = entry["architecture"]
    if (folder := saved_folder(architecture)) is not None:
        return build_saved(name, folder, entry)
    classes: tuple[str, ...] = ()
    preprocessing = Preprocessing()
    arguments: dict[str, Any] = dict(entry.get("arguments", {}))
    try:
        if (file := whole_file(architecture)) is not None:
            weighted = _opened(file, entry)
        else:
            blueprint = _blueprint(architecture)
            arguments = {**blueprint.arguments, **arguments}
            weighted = _weighted(blueprint, arguments, entry)
            preprocessing, classes = blueprint.preprocessing(weighted.module), blueprint.classes
    except FoveaError:
        raise
    except Exception as error:
        raise _not_built(architecture, arguments, error) from error
    notes = list(weighted.notes)
    if entry.get("classes"):
        classes = class_names(entry["classes"])
        notes += class_notes(classes) if entry["classes"] != IMAGENET else []
    elif classes and not _gives(weighted.module, len(classes)):
        classes = ()
    return Built(
        module=weighted.module,
        title=str(entry.get("title") or name),
        architecture=architecture,
        preprocessing=preprocessing_from(entry.get("input", {}), preprocessing, name),
        classes=classes,
        weights=weighted.weights,
        random=weighted.random,
        output=entry.get("output"),
        output_name=str(entry.get("output_name", "")),
        account=True,
        notes=notes,
    )


def _opened(file: Path, entry: Mapping[str, Any]) -> Weighted:
    """The network that a file brings whole. Raises WeightsError unless the entry says that the file is trusted."""
    from fovea.models.whole_file import open_file

    module = open_file(file, bool(entry.get("trust")), str(entry.get("weights_key", "")))
    return Weighted(module, file.name, notes=tuple(opaque_notes(module)))


def _weighted(blueprint: Blueprint, arguments: Mapping[str, Any], entry: Mapping[str, Any]) -> Weighted:
    """The architecture with the weights that the entry names, its own, or random ones."""
    from fovea.models import torch_net

    architecture = entry["architecture"]
    if entry.get("weights"):
        from fovea.models.fitting import load_into

        path = resolve(entry["weights"])
        checkpoint = read_checkpoint(path)
        key, trust = str(entry.get("weights_key", "")), bool(entry.get("trust"))
        loaded = load_into(blueprint.build, arguments, checkpoint, architecture, key, trust)
        return Weighted(loaded.module, path.name, notes=(*loaded.notes, *opaque_notes(loaded.module)))
    if blueprint.code is None or entry.get("random"):
        return Weighted(torch_net.randomise(blueprint.build(**arguments)), RANDOM, random=True)
    return as_made(architecture, blueprint.code, arguments)


def _not_built(architecture: str, arguments: Mapping[str, Any], error: Exception) -> NetworkError:
    """The one line for code that raised while it built a network; a TypeError tells which argument it lacks."""
    text = (str(error).splitlines() or [type(error).__name__])[0][:200]
    how = f"with arguments {dict(arguments)}" if arguments else "without arguments"
    hint = " (give what it needs as --argument NAME=VALUE)" if isinstance(error, TypeError) else ""
    if isinstance(error, FileNotFoundError) and error.filename and not Path(str(error.filename)).is_absolute():
        hint = " (it is looked for where Fovea was started: let the code name it by Path(__file__).with_name)"
    return NetworkError(f"{architecture} cannot be built {how}: {text}{hint}")


def _gives(module: nn.Module, classes: int) -> bool:
    """Whether the last layer with weights has that many outputs."""
    weighted = [p for p in module.parameters() if p.dim() > 1]
    return bool(weighted) and weighted[-1].shape[0] == classes
