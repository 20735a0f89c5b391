"""`networks`: which there are, what is known of each, and your own."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.engine.cli.methods import run_method
from fovea.engine.cli.say import Debug, Json, alone, card_of, errors, group, print_json, print_table
from fovea.engine.errors import OptionsError
from fovea.engine.method import find_method
from fovea.models.output import OUTPUT_HELP, OUTPUT_NAME_HELP

networks_app = group("List the networks that can be used, and register your own.")


@networks_app.command("list")
def list_networks(
    as_json: Json = False, text: Annotated[str, typer.Argument(help="Show only names that contain this text.")] = ""
) -> None:
    """List the networks that can be named after --network."""
    with errors():
        from fovea.models.zoo import known_networks

        known = [network for network in known_networks() if text.lower() in network.name.lower()]
        if as_json:
            facts = [{"name": n.name, "title": n.title, "source": n.source, "weights": list(n.weights)} for n in known]
            print_json({"networks": facts})
            return
        print_table([(network.name, network.source, ", ".join(network.weights)) for network in known])


alone(networks_app, list_networks)


@networks_app.command("show")
def show_network(network: str, as_json: Json = False, debug: Debug = False) -> None:
    """Show what is known of a network, which is loaded first if it never was."""
    with errors(debug):
        card = card_of(network)
        if as_json:
            print_json(card.model_dump(mode="json"))
            return
        preprocessing = card.preprocessing
        rows: list[tuple[Any, ...]] = [
            ("name", card.name),
            ("title", card.title),
            ("architecture", card.architecture),
            ("weights", f"{card.weights} (sha256 {card.sha256[:16]}…)"),
            ("parameters", f"{card.parameters:,}"),
            ("layers", len(card.layers)),
            ("classes", f"{len(card.classes)} ({', '.join(card.classes[:4])}{' …' if len(card.classes) > 4 else ''})"),
            ("output", f"{card.output}: {card.meaning.words}{f' ({card.output_name})' if card.output_name else ''}"),
            (
                "input",
                f"{preprocessing.channels}×{preprocessing.size[0]}×{preprocessing.size[1]} {preprocessing.order}",
            ),
            ("resize", f"{preprocessing.resize or 'stretched'}, {preprocessing.interpolation}"),
            ("range", f"{preprocessing.range}, mean {preprocessing.mean}, std {preprocessing.std}"),
            (
                "gradients",
                "yes" if card.gradients else "no (autograd is off)" if card.has_module else "no (an ONNX file)",
            ),
            *(("note", note) for note in card.notes),
        ]
        print_table(rows)


@networks_app.command("add")
def add_network(
    name: str,
    architecture: Annotated[
        str,
        typer.Option(
            help="What builds the network: torchvision:NAME, timm:NAME, onnx:PATH, package.module:callable, or "
            "/path/net.py:NAME, where NAME is a class, a function that returns the network, or a finished module. "
            "torch:PATH is a file that brings its whole network and needs --trust."
        ),
    ] = "",
    weights: Annotated[
        str,
        typer.Option(
            help="The file of its weights: safetensors, a checkpoint that torch saved, or TorchScript. Without it the "
            "weights are those that your own code loads, or random ones where it loads none."
        ),
    ] = "",
    weights_key: Annotated[
        str,
        typer.Option(
            help="The entry of the checkpoint that holds the weights, such as teacher or model.ema. Say it where "
            "several entries fit; by default averaged weights (EMA, a teacher) come first, then the most complete."
        ),
    ] = "",
    random: Annotated[
        bool, typer.Option("--random", help="Use random weights, even if the code loads weights of its own.")
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Allow a file that brings a network of its own: a whole pickled module, TorchScript or a torch.export "
            "archive. Such a file can run any code on this machine, so say this only if you trust whoever made it.",
        ),
    ] = False,
    classes: Annotated[
        str,
        typer.Option(
            help="A file of class names: one a line, with or without an index, CSV with a header, or JSON; or the "
            "names themselves with commas, such as no,yes. The word imagenet stands for its 1000 classes."
        ),
    ] = "",
    size: Annotated[
        str, typer.Option(help="The height and width of its input in pixels, such as 224 or 224,320.")
    ] = "",
    resize: Annotated[
        str,
        typer.Option(
            help="The short side in pixels to which a photo is resized before the centre crop; 0 stretches it instead."
        ),
    ] = "",
    interpolation: Annotated[
        str, typer.Option(help="How a photo is resized, by Pillow's name: bilinear, bicubic and so on.")
    ] = "",
    mean: Annotated[
        str, typer.Option(help="The mean that is subtracted, one value a channel, such as 0.485,0.456,0.406.")
    ] = "",
    std: Annotated[
        str, typer.Option(help="The deviation that is divided by, one value a channel, such as 0.229,0.224,0.225.")
    ] = "",
    range: Annotated[
        str, typer.Option(help="The values of black and white before mean and deviation, such as 0,1 or 0,255.")
    ] = "",
    channels: Annotated[str, typer.Option(help="The number of input channels: 1, 3 or 4.")] = "",
    order: Annotated[str, typer.Option(help="The order of the colour channels, RGB or BGR.")] = "",
    output: Annotated[str, typer.Option(help=OUTPUT_HELP)] = "",
    output_name: Annotated[str, typer.Option(help=OUTPUT_NAME_HELP)] = "",
    title: Annotated[str, typer.Option(help="A title that people read in lists.")] = "",
    argument: Annotated[
        list[str] | None, typer.Option(help="An argument for the architecture, NAME=VALUE; can be given several times.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Register a network of your own in networks.toml. Its Python is only ever run from here."""
    with errors(debug):
        from fovea.models.registry import register, registered, unregister
        from fovea.models.zoo import load

        before = registered().get(name)
        given: dict[str, Any] = {
            "size": _numbers(size),
            "resize": _number(resize),
            "interpolation": interpolation,
            "mean": _numbers(mean),
            "std": _numbers(std),
            "range": _numbers(range),
            "channels": _number(channels),
            "order": order,
        }
        if isinstance(given["size"], list) and len(given["size"]) == 1:
            given["size"] *= 2
        if not architecture:
            if not weights:
                raise OptionsError("--architecture must be given: torchvision:NAME, timm:NAME or /path/net.py:Net")
            architecture, weights = f"torch:{weights}", ""
        fields: dict[str, Any] = {
            "architecture": _architecture_from_here(architecture),
            "weights": _from_here(weights),
            "weights_key": weights_key,
            "random": random,
            "trust": trust,
            "classes": _from_here(classes),
            "output": output,
            "output_name": output_name,
            "title": title,
            "input": {key: value for key, value in given.items() if value not in ("", None, [])},
            "arguments": _arguments(argument or []),
        }
        register(name, **{key: value for key, value in fields.items() if value})
        try:
            card = load(name).card
        except BaseException:
            unregister(name)
            if before is not None:
                register(name, **before)
            raise
        print(f"{name}: {card.architecture}, {len(card.layers)} layers, {len(card.classes)} classes")
        for note in card.notes:
            print(f"  {note}")


def _from_here(path: str) -> str:
    """A file's full path, if it is there from this folder; networks.toml reads others from its own."""
    found = Path(path).expanduser()
    return str(found.resolve()) if path and found.is_file() else path


def _architecture_from_here(architecture: str) -> str:
    """The same for `net.py:Net`, `onnx:PATH`, `torch:PATH`, and `package.module:Net` whose package lies in this folder.

    A file that is named alone brings its whole network.
    """
    place, colon, name = architecture.rpartition(":")
    if place == "hf":
        return f"hf:{Path(name).expanduser().resolve()}"
    if place in ("onnx", "torch"):
        return f"{place}:{_from_here(name)}"
    if not colon and Path(architecture).expanduser().is_file():
        return f"torch:{_from_here(architecture)}"
    if place.endswith(".py"):
        return f"{_from_here(place)}{colon}{name}"
    inside = Path(*place.split(".")) if place and "/" not in place else Path(place)
    for file in (inside.with_suffix(".py"), inside / "__init__.py"):
        if file.is_file() and place.split(".")[0] != "fovea":
            return f"{file.resolve()}{colon}{name}"
    return architecture


def _number(text: str) -> Any:
    """A number, or the text itself for `register` to refuse."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _numbers(text: str) -> list[Any]:
    return [_number(part.strip()) for part in text.split(",") if part.strip()]


def _arguments(pairs: list[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise OptionsError(f"argument must be NAME=VALUE, not {pair!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = _from_here(value) if "." in value or "/" in value else value
    return found


@networks_app.command("remove")
def remove_network(name: str) -> None:
    """Take a network out of networks.toml; its files and its runs stay."""
    with errors():
        from fovea.models.registry import unregister

        unregister(name)
        print(f"removed {name}")


@networks_app.command("check")
def check_network(
    network: str,
    dataset: Annotated[
        str, typer.Option(help="The labelled images on which accuracy is measured, a registered name or a path.")
    ] = "",
    images: Annotated[
        int, typer.Option(help="The largest number of images to measure on, spread evenly over the set; 0 takes all.")
    ] = 0,
    provider: Annotated[
        str, typer.Option(help="The provider on which ONNX Runtime computes: auto, cpu, cuda or tensorrt.")
    ] = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compute anew even if the same request is done already.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare torch with ONNX at every layer, and measure accuracy on labelled images. This is a run of `check`."""
    given = {"network": network, "image": None, "seed": 0, "device": "auto", "provider": provider, "name": ""}
    given |= {"option_dataset": dataset, "option_images": images, "fresh": fresh, "as_json": as_json, "debug": debug}
    run_method(find_method("check"), given)
