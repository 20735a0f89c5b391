"""The command line, made from the registry: `python -m engine METHOD …` and what looks after runs and networks.

Exit codes: 0 done, 1 failed (the last line of stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import numpy as np
import typer
from numpy.typing import NDArray

from fovea.engine import method as registry
from fovea.engine.errors import FoveaError, OptionsError, StoreError
from fovea.engine.method import VERBS, Method, option_extra

DONE, FAILED, INTERRUPTED = 0, 1, 130
RESERVED = ("network", "image", "seed", "device", "provider", "name", "json", "fresh", "debug")
SPARSE_SECONDS = 5.0
"""How often progress is printed where stderr is no terminal."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]
NetworkOption = Annotated[str, typer.Option(help="fovea, torchvision:NAME[@WEIGHTS], or a registered name.")]


def _typer(help: str) -> typer.Typer:
    return typer.Typer(help=help, rich_markup_mode=None, pretty_exceptions_enable=False)


def _alone(group: typer.Typer, command: Callable[..., None]) -> None:
    """Let a group of commands without one of them do what `command` does."""

    @group.callback(invoke_without_command=True)
    def _(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            command()


app = typer.Typer(
    name="python -m engine",
    help="Fovea: see what your network sees. Every command leaves a run that the dashboard shows, too.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
networks_app = _typer("The networks that can be used, and your own.")
datasets_app = _typer("The data sets that can be mined, and your own.")
runs_app = _typer("What was computed.")
app.add_typer(networks_app, name="networks")
app.add_typer(datasets_app, name="datasets")
app.add_typer(runs_app, name="runs")


@contextlib.contextmanager
def _errors(debug: bool = False, failed: Callable[[str], None] | None = None) -> Iterator[None]:
    """Turn what goes wrong into the exit codes of the contract; `failed` is told the line first."""
    try:
        yield
    except KeyboardInterrupt:
        _complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(FAILED) from None
    except FoveaError as error:
        line = str(error)
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    else:
        return
    if debug:
        traceback.print_exc()
    if failed is not None:
        failed(line)
    _complain(line)
    raise typer.Exit(FAILED)


def _complain(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr)


# One command for each method ---------------------------------------------------------------------------------


def _add_method(method: Method) -> None:
    """A command with a flag for each field of the method's options; values are read and judged by the options."""

    def command(**given: Any) -> None:
        _run_method(method, given)

    parameters = [*_common_parameters(method), *_option_parameters(method)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = f"{method.question} {method.summary}"
    app.command(method.name, short_help=f"{VERBS[method.verb]}: {method.question}")(command)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _common_parameters(method: Method) -> list[inspect.Parameter]:
    photo = "A photo: PATH or sample:NAME." + ("" if method.photo else " Not every use of this method needs one.")
    flags: list[tuple[str, Any, Any, str, str]] = [
        ("network", str, "fovea", "fovea, torchvision:NAME[@WEIGHTS], or a registered name.", ""),
        ("image", str | None, None, photo, "PATH|sample:NAME"),
        ("seed", int, 0, "Of everything random.", ""),
        ("device", str, "auto", "Where torch computes.", "[auto|cpu|cuda]"),
        ("provider", str, "auto", "Where ONNX Runtime computes.", "[auto|cpu|cuda|tensorrt]"),
        ("name", str, "", "A title for the run.", ""),
    ]
    parameters = [
        _keyword(name, Annotated[kind, typer.Option(f"--{name}", help=text, metavar=metavar or None)], default)
        for name, kind, default, text, metavar in flags
    ]
    fresh = Annotated[bool, typer.Option("--fresh", help="Ignore what was computed before.")]
    parameters += [_keyword("as_json", Json, False), _keyword("fresh", fresh, False), _keyword("debug", Debug, False)]
    return parameters


def _option_parameters(method: Method) -> list[inspect.Parameter]:
    parameters = []
    for name, info in method.options.model_fields.items():
        if name in RESERVED:
            raise ValueError(f"method {method.name} declares the option {name}, which every command has")
        flag = "--" + name.replace("_", "-")
        if info.annotation is bool:
            kind: Any = bool | None
            declared = typer.Option(f"{flag}/--no-{flag[2:]}", help=_help(info), show_default=False)
        else:
            kind = str | None
            declared = typer.Option(flag, help=_help(info), metavar=_metavar(info), show_default=False)
        parameters.append(_keyword(f"option_{name}", Annotated[kind, declared], None))
    return parameters


def _metavar(info: Any) -> str:
    """What the value looks like: the choices of a Literal, the kind that it names, or its type."""
    choices = [str(choice) for choice in _choices(info.annotation)]
    if choices:
        return f"[{'|'.join(choices)}]"
    kind = option_extra(info)["kind"]
    if kind != "plain":
        return str(kind).upper()
    plain = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind is not type(None)]
    names = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
    return "|".join(dict.fromkeys(names.get(kind, "VALUE") for kind in plain))


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def _help(info: Any) -> str:
    """The option's one line, with its unit, its limits and its default."""
    limits = []
    for limit in info.metadata:
        for sign, attribute in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
            if getattr(limit, attribute, None) is not None:
                limits.append(f"{sign} {getattr(limit, attribute)}")
    facts = [option_extra(info)["unit"], " and ".join(limits)]
    default = info.default
    if default not in (None, ""):
        facts.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    shown = ", ".join(fact for fact in facts if fact)
    return f"{info.description}{f' [{shown}]' if shown else ''}"


def _value(info: Any, given: Any) -> Any:
    """A flag's text as the options read it: "none" where nothing is allowed, commas for tuples and lists."""
    if not isinstance(given, str):
        return given
    parts = get_args(info.annotation) if get_origin(info.annotation) in (Union, types.UnionType) else (info.annotation,)
    if type(None) in parts and given.lower() == "none":
        return None
    if str not in parts and any(get_origin(part) in (tuple, list) for part in parts):
        return [piece.strip() for piece in given.split(",")]
    return given


def _run_method(method: Method, given: Mapping[str, Any]) -> None:
    fields = method.options.model_fields
    options = {
        name: _value(info, given[f"option_{name}"])
        for name, info in fields.items()
        if given.get(f"option_{name}") is not None
    }
    with _errors(given["debug"], _json_failure if given["as_json"] else None):
        from fovea.engine.run import Request

        request = Request(
            method=method.name,
            network=given["network"],
            image=given["image"],
            options=options,
            seed=given["seed"],
            device=given["device"],
            provider=given["provider"],
            name=given["name"],
        )
        _execute(request, fresh=given["fresh"], as_json=given["as_json"], debug=given["debug"])


def _json_failure(line: str) -> None:
    _print_json({"run": None, "folder": None, "status": "failed", "seconds": 0.0, "summary": {}, "error": line})


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def _execute(request: Any, *, fresh: bool, as_json: bool, debug: bool) -> None:
    """Compute a request in this process, say how it goes, and exit as it ended."""
    from fovea.engine.run import execute
    from fovea.engine.store import Store

    store = Store()
    with _terminated_as_interrupted(), _progress() as listener:
        record = execute(request, store, fresh=fresh, listener=listener, announce=_announce)
    run = store.run(record.id)
    if as_json:
        _print_json(_as_json(record, run.folder))
    elif record.status == "done":
        _print_run(record, run.folder)
    for warning in record.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if record.status == "done":
        return
    if debug and (run.folder / "error.txt").is_file():
        print((run.folder / "error.txt").read_text(encoding="utf-8"), file=sys.stderr)
    _complain(record.error or f"the run was {record.status}")
    raise typer.Exit(INTERRUPTED if record.status == "interrupted" else FAILED)


def _announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_json(record: Any, folder: Path) -> dict[str, Any]:
    shown = {
        "run": record.id,
        "folder": str(folder),
        "status": record.status,
        "seconds": record.seconds,
        "summary": record.summary,
    }
    return shown | ({"error": record.error} if record.error else {})


def _print_run(record: Any, folder: Path) -> None:
    print(f"{record.title}: {record.status} in {record.seconds:.1f} s")
    for name, value in record.summary.items():
        print(f"  {name}: {f'{value:.4g}' if isinstance(value, float) else value}")
    print(folder)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, so that it is stored as interrupted."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


Listener = Callable[[float, str, NDArray[np.uint8] | None, Mapping[str, float] | None], None]


@contextlib.contextmanager
def _progress() -> Iterator[Listener]:
    """Progress on stderr: a bar on a terminal, else a plain line every few seconds."""
    if not sys.stderr.isatty():
        last = [time.monotonic()]

        def say(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
            if time.monotonic() - last[0] >= SPARSE_SECONDS:
                last[0] = time.monotonic()
                print(f"{fraction:4.0%} {message}", file=sys.stderr, flush=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
            bar.update(task, completed=fraction, description=message.replace("[", "("))

        yield show


# What there is -----------------------------------------------------------------------------------------------


def _print_table(rows: list[tuple[Any, ...]], indent: str = "") -> None:
    """Columns wide enough for their values, two spaces apart, no lines: it can be cut and grepped."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))] if texts else []
    for row in texts:
        print((indent + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))).rstrip())


@app.command("methods")
def list_methods(as_json: Json = False) -> None:
    """All methods by verb, with the question that each answers."""
    with _errors():
        if as_json:
            facts = [
                {"name": m.name, "title": m.title, "verb": m.verb, "family": m.family, "question": m.question}
                | {"options": m.options.model_json_schema()["properties"] if m.options.model_fields else {}}
                for m in registry.methods().values()
            ]
            _print_json({"methods": facts})
            return
        for verb, title in VERBS.items():
            chosen = [(m.name, m.question) for m in registry.methods().values() if m.verb == verb]
            if chosen:
                print(title)
                _print_table(cast(list[tuple[Any, ...]], chosen), "  ")


@app.command("layers")
def list_layers(network: str, as_json: Json = False, debug: Debug = False) -> None:
    """The layers of a network in forward order: shape, units, receptive field, parameters."""
    with _errors(debug):
        card = _card(network)
        if as_json:
            _print_json({"network": card.name, "layers": [layer.model_dump(mode="json") for layer in card.layers]})
            return
        rows: list[tuple[Any, ...]] = [("layer", "kind", "shape", "units", "sees", "parameters")]
        for layer in card.layers:
            field = layer.receptive_field
            sees = "" if field is None else "whole image" if field.whole else f"{field.size[0]}×{field.size[1]} px"
            shape = "×".join(str(size) for size in layer.shape)
            rows.append((layer.name, layer.kind, shape, layer.units, sees, layer.parameters or ""))
        _print_table(rows)


def _card(network: str) -> Any:
    from fovea.models.zoo import cached_card, load

    return cached_card(network) or load(network).card


@networks_app.command("list")
def list_networks(
    as_json: Json = False, text: Annotated[str, typer.Argument(help="Only names that contain this.")] = ""
) -> None:
    """The networks that can be named after --network."""
    with _errors():
        from fovea.models.zoo import known_networks

        known = [network for network in known_networks() if text.lower() in network.name.lower()]
        if as_json:
            facts = [{"name": n.name, "title": n.title, "source": n.source, "weights": list(n.weights)} for n in known]
            _print_json({"networks": facts})
            return
        _print_table([(network.name, network.source, ", ".join(network.weights)) for network in known])


_alone(networks_app, list_networks)


@networks_app.command("show")
def show_network(network: str, as_json: Json = False, debug: Debug = False) -> None:
    """What is known of a network; it is loaded if it never was."""
    with _errors(debug):
        card = _card(network)
        if as_json:
            _print_json(card.model_dump(mode="json"))
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
            ("output", card.output),
            (
                "input",
                f"{preprocessing.channels}×{preprocessing.size[0]}×{preprocessing.size[1]} {preprocessing.order}",
            ),
            ("resize", f"{preprocessing.resize or 'stretched'}, {preprocessing.interpolation}"),
            ("range", f"{preprocessing.range}, mean {preprocessing.mean}, std {preprocessing.std}"),
            ("gradients", "yes" if card.gradients else "no (an ONNX file)"),
            *(("note", note) for note in card.notes),
        ]
        _print_table(rows)


@networks_app.command("add")
def add_network(
    name: str,
    architecture: Annotated[
        str, typer.Option(help="torchvision:NAME, timm:NAME, package.module:callable or /path/net.py:Net.")
    ],
    weights: Annotated[str, typer.Option(help="A safetensors file or a state dict; none: random.")] = "",
    classes: Annotated[str, typer.Option(help="A text file with one class name a line, or: imagenet.")] = "",
    size: Annotated[str, typer.Option(help="Input height and width in pixels: 224 or 224,320.")] = "",
    resize: Annotated[str, typer.Option(help="Short side before the centre crop in pixels; 0: stretched.")] = "",
    interpolation: Annotated[str, typer.Option(help="Pillow's name: bilinear, bicubic, …")] = "",
    mean: Annotated[str, typer.Option(help="One value a channel: 0.485,0.456,0.406.")] = "",
    std: Annotated[str, typer.Option(help="One value a channel: 0.229,0.224,0.225.")] = "",
    range: Annotated[str, typer.Option(help="The values of black and white before mean and std: 0,1.")] = "",
    channels: Annotated[str, typer.Option(help="1, 3 or 4.")] = "",
    order: Annotated[str, typer.Option(help="RGB or BGR.")] = "",
    output: Annotated[str, typer.Option(help="What it returns: logits, probabilities or features.")] = "",
    title: Annotated[str, typer.Option(help="A name for people.")] = "",
    argument: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the architecture; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Register a network of your own in networks.toml. Its Python is only ever run from here."""
    with _errors(debug):
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
        fields: dict[str, Any] = {
            "architecture": _architecture_from_here(architecture),
            "weights": _from_here(weights),
            "classes": _from_here(classes),
            "output": output,
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


def _from_here(path: str) -> str:
    """A file's full path, if it is there from this folder; networks.toml reads others from its own."""
    found = Path(path).expanduser()
    return str(found.resolve()) if path and found.is_file() else path


def _architecture_from_here(architecture: str) -> str:
    """The same for `net.py:Net` and `onnx:PATH`."""
    place, colon, name = architecture.rpartition(":")
    if place == "onnx":
        return f"onnx:{_from_here(name)}"
    return f"{_from_here(place)}{colon}{name}" if place.endswith(".py") else architecture


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
            found[name] = value
    return found


@networks_app.command("remove")
def remove_network(name: str) -> None:
    """Take a network out of networks.toml; its files and its runs stay."""
    with _errors():
        from fovea.models.registry import unregister

        unregister(name)
        print(f"removed {name}")


@networks_app.command("check")
def check_network(
    network: str,
    dataset: Annotated[str, typer.Option(help="Labelled images, for the accuracy: a name or a path.")] = "",
    images: Annotated[int, typer.Option(help="At most so many images, evenly spread (0: all).")] = 0,
    provider: Annotated[str, typer.Option(help="Where ONNX Runtime computes: auto, cpu, cuda, tensorrt.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore what was computed before.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare torch with ONNX at every layer, and measure accuracy on labelled images; the run of `check`."""
    given = {"network": network, "image": None, "seed": 0, "device": "auto", "provider": provider, "name": ""}
    given |= {"option_dataset": dataset, "option_images": images, "fresh": fresh, "as_json": as_json, "debug": debug}
    _run_method(registry.find_method("check"), given)


@datasets_app.command("list")
def list_datasets(as_json: Json = False) -> None:
    """The data sets that can be named after --dataset."""
    with _errors():
        from fovea.engine.data.dataset import known_datasets

        known = known_datasets()
        if as_json:
            _print_json({"datasets": {name: str(path) for name, path in _pairs(known)}})
            return
        _print_table([(name, path) for name, path in _pairs(known)])


_alone(datasets_app, list_datasets)


def _pairs(known: Any) -> list[tuple[str, Any]]:
    return list(known.items()) if isinstance(known, Mapping) else [(str(name), "") for name in known]


@datasets_app.command("add")
def add_dataset(name: str, path: str, debug: Debug = False) -> None:
    """Register a folder of images, or a list file, under a name."""
    with _errors(debug):
        from fovea.engine.data.dataset import open_dataset, register_dataset

        register_dataset(name, path)
        print(f"{name}: {len(open_dataset(name))} images")


@datasets_app.command("inspect")
def inspect_dataset(name: str, debug: Debug = False) -> None:
    """How many images a data set has, its labels, and which images cannot be read."""
    with _errors(debug):
        from fovea.engine.data import dataset as sets

        with _progress() as say:
            found = sets.inspect_dataset(
                sets.open_dataset(name),
                progress=lambda done, total: say(done / max(total, 1), f"{done:,} of {total:,} images", None, None),
            )
        labels = {label: count for label, count in sorted(found.labels.items()) if label}
        print(f"{found.name}: {len(labels)} labels")
        for label, count in labels.items():
            print(f"  {label}: {count}")
        for key, reason in found.unreadable:
            print(f"  unreadable: {key}: {reason}")
        print(", ".join(f"{fact}: {value}" for fact, value in found.summary().items()))


@datasets_app.command("mean")
def mean_of_dataset(
    name: str,
    network: Annotated[str, typer.Option(help="whose frame the images are brought into")] = "fovea",
    output: Annotated[Path | None, typer.Option(help="a PNG that the mean image is written to")] = None,
    limit: Annotated[int, typer.Option(min=1, help="images that are averaged at most, evenly spread")] = 2000,
    debug: Debug = False,
) -> None:
    """The mean colour of a data set, 0 to 255, and its mean image, as occlusion's fill takes them."""
    with _errors(debug):
        from fovea.engine.data import dataset as sets

        found = sets.mean_image(sets.open_dataset(name), _card(network).preprocessing, limit=limit)
        print("mean colour: " + ", ".join(f"{value:.1f}" for value in found.mean((0, 1))))
        if output is not None:
            from PIL import Image

            pixels = np.rint(found).astype(np.uint8)
            Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]).save(output)
            print(output)


@datasets_app.command("download")
def download_dataset(name: Annotated[str, typer.Argument()] = "", debug: Debug = False) -> None:
    """Fetch a public set and register it; without a name, list those that there are."""
    with _errors(debug):
        from fovea.engine.data import downloads

        if not name:
            for one in downloads.DOWNLOADS.values():
                print(f"{one.name}: {one.title}; {one.images:,} images, {one.megabytes} MB; {one.licence}")
            return
        wanted = downloads.DOWNLOADS.get(name)
        if wanted is not None:
            about = f"{wanted.title}, {wanted.megabytes} MB. Licence: {wanted.licence} ({wanted.home})"
            print(about, file=sys.stderr, flush=True)
        found = downloads.download_dataset(name)
        print(f"{name}: {len(found)} images ({downloads.DOWNLOADS[name].licence})")


@datasets_app.command("remove")
def remove_dataset(name: str) -> None:
    """Forget a data set's name; its files stay."""
    with _errors():
        from fovea.engine.data.dataset import unregister_dataset

        unregister_dataset(name)
        print(f"removed {name}")


# Runs --------------------------------------------------------------------------------------------------------


@runs_app.command("list")
def list_runs(
    method: str | None = None,
    network: str | None = None,
    text: Annotated[str | None, typer.Option(help="Words in its name, note, options or summary.")] = None,
    since: Annotated[str | None, typer.Option(help="An ISO date: 2026-11-23.")] = None,
    status: Annotated[str | None, typer.Option(help="queued, running, done, failed, cancelled, interrupted.")] = None,
    pinned: Annotated[bool, typer.Option("--pinned", help="Only pinned ones.")] = False,
    limit: int = 30,
    as_json: Json = False,
) -> None:
    """The runs of this home, newest first."""
    with _errors():
        from fovea.engine.store import Store

        store = Store()
        store.sweep()
        rows = store.list(method, network, text, since, status, pinned or None, limit)
        if as_json:
            facts = [
                {"run": row.id, "method": row.method, "network": row.network, "status": row.status, "name": row.name}
                | {
                    "created": row.created,
                    "seconds": row.seconds,
                    "summary": row.summary,
                    "folder": str(store.runs / row.id),
                }
                for row in rows
            ]
            _print_json({"runs": facts})
            return
        _print_table([(row.id, row.status, row.network, row.subject, row.name or row.error[:60]) for row in rows])


_alone(runs_app, list_runs)


@runs_app.command("show")
def show_run(run: str, as_json: Json = False) -> None:
    """A run's record, its summary and its files."""
    with _errors():
        from fovea.engine.store import Store

        stored = Store().run(run)
        if as_json:
            _print_json(json.loads(stored.record.to_json()))
            return
        record = stored.record
        print(f"{record.title}: {record.status}, {record.network.name}, {record.created}, {record.seconds:.1f} s")
        for title, values in (("options", record.options), ("summary", record.summary)):
            print(title)
            _print_table([(name, value) for name, value in values.items()], "  ")
        for line in [*record.warnings, *([record.error] if record.error else [])]:
            print(line)
        print(stored.folder)
        for name in stored.artifacts:
            print(f"  {name}")


@runs_app.command("repeat")
def repeat_run(run: str, as_json: Json = False, debug: Debug = False) -> None:
    """Compute a run again from its record; one that was interrupted goes on where it stopped."""
    with _errors(debug, _json_failure if as_json else None):
        from fovea.engine.store import Store

        record = Store().run(run).record
        _execute(record.request(), fresh=record.status == "done", as_json=as_json, debug=debug)


@runs_app.command("export")
def export_run(
    run: str,
    html: Annotated[str, typer.Option("--html", help="Write one HTML file that opens anywhere.", metavar="FILE")] = "",
    zip: Annotated[str, typer.Option("--zip", help="Write a zip that `runs import` reads.", metavar="FILE")] = "",
    debug: Debug = False,
) -> None:
    """Write a run as one HTML file or as a zip (default: RUN.zip here)."""
    with _errors(debug):
        from fovea.engine.store import Store

        store = Store()
        if html:
            from fovea.engine.report import report_html

            _write(Path(html), report_html(store.run(run)))
            print(html)
        if zip or not html:
            print(store.write_zip(run, Path(zip or f"{run}.zip")))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


@runs_app.command("import")
def import_run(file: Path, debug: Debug = False) -> None:
    """Take in a zip that `runs export` wrote."""
    with _errors(debug):
        from fovea.engine.store import Store

        print(Store().import_zip(file))


@runs_app.command("delete")
def delete_runs(runs: list[str]) -> None:
    """Delete runs and their folders."""
    with _errors():
        from fovea.engine.store import Store

        store = Store()
        for run in runs:
            store.delete(run)
            print(f"deleted {run}")


# Machinery ---------------------------------------------------------------------------------------------------


@app.command("worker")
def run_worker(
    lane: Annotated[Literal["interactive", "long"], typer.Option(help="Which queue to serve.")] = "interactive",
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Serve a queue of runs until stopped; the dashboard starts its own."""
    with _errors():
        from fovea.engine.worker import work

        work(lane, supervised)


@app.command("doctor")
def run_doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Which versions, devices and ONNX Runtime providers really work here."""
    with _errors(debug):
        from fovea.engine.doctor import diagnose, report

        found = diagnose()
        if as_json:
            _print_json(found)
        else:
            print(report(found))


def main() -> None:
    """Make the methods' commands and run the one that was asked for."""
    try:
        for method in registry.methods().values():
            _add_method(method)
    except FoveaError as error:
        _complain(str(error))
        sys.exit(FAILED)
    app()


if __name__ == "__main__":
    main()
