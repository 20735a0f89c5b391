"""Options -> flags: every flag of a method is made from the declaration of its option."""

from __future__ import annotations

import inspect
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from fovea.engine.cli.say import NETWORK_HELP, Debug, Json
from fovea.engine.method import Method
from fovea.engine.options import declared

RESERVED = ("network", "image", "seed", "device", "provider", "name", "json", "fresh", "debug")


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def common_parameters(method: Method[Any, Any]) -> list[inspect.Parameter]:
    """The flags that every method has."""
    photo = "The photo to look at, as a path or sample:NAME." + (
        "" if method.photo else " This method can do without one."
    )
    flags: list[tuple[str, Any, Any, str, str]] = [
        ("network", str, "fovea", NETWORK_HELP, ""),
        ("image", str | None, None, photo, "PATH|sample:NAME"),
        ("seed", int, 0, "The seed of everything random; the same seed gives the same result.", ""),
        (
            "device",
            str,
            "auto",
            "The device on which PyTorch computes; auto takes CUDA where it works, then Apple's mps, then the CPU.",
            "[auto|cpu|cuda|mps]",
        ),
        (
            "provider",
            str,
            "auto",
            "The provider on which ONNX Runtime computes; auto takes the fastest that works.",
            "[auto|cpu|cuda|tensorrt]",
        ),
        ("name", str, "", "A title for the run, shown in the Library.", ""),
    ]
    parameters = [
        keyword(name, Annotated[kind, typer.Option(f"--{name}", help=text, metavar=metavar or None)], default)
        for name, kind, default, text, metavar in flags
    ]
    fresh = Annotated[bool, typer.Option("--fresh", help="Compute anew even if the same request is done already.")]
    parameters += [keyword("as_json", Json, False), keyword("fresh", fresh, False), keyword("debug", Debug, False)]
    return parameters


def option_parameters(method: Method[Any, Any]) -> list[inspect.Parameter]:
    """A flag for each of the method's options."""
    parameters = []
    for name, info in method.options.model_fields.items():
        if name in RESERVED:
            raise ValueError(f"method {method.name} declares the option {name}, which every command has")
        flag = "--" + name.replace("_", "-")
        if info.annotation is bool:
            kind: Any = bool | None
            shown = typer.Option(f"{flag}/--no-{flag[2:]}", help=help_of(info), show_default=False)
        else:
            kind = str | None
            shown = typer.Option(flag, help=help_of(info), metavar=metavar_of(info), show_default=False)
        parameters.append(keyword(f"option_{name}", Annotated[kind, shown], None))
    return parameters


def metavar_of(info: Any) -> str:
    """What the value looks like: the choices of a Literal, the kind that it names, or its type."""
    choices = [str(choice) for choice in _choices(info.annotation)]
    if choices:
        return f"[{'|'.join(choices)}]"
    named = declared(info).kind.metavar
    if named:
        return named
    plain = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind not in (type(None), ...)]
    names = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
    return "|".join(dict.fromkeys(names.get(kind, "VALUE") for kind in plain))


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def help_of(info: Any) -> str:
    """The option's one line, with its unit, its limits and its default."""
    limits = []
    for limit in info.metadata:
        for sign, attribute in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
            if getattr(limit, attribute, None) is not None:
                limits.append(f"{sign} {getattr(limit, attribute)}")
    facts = [declared(info).unit, " and ".join(limits)]
    default = info.default
    if default in (None, "", ()):
        facts.append(f"default: {declared(info).empty}" if declared(info).empty else "")
    else:
        facts.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    shown = ", ".join(fact for fact in facts if fact)
    return f"{info.description}{f' [{shown}]' if shown else ''}"


def value_of(info: Any, given: Any) -> Any:
    """A flag's text as the options read it: "none" where nothing is allowed, commas for tuples and lists."""
    if not isinstance(given, str):
        return given
    parts = get_args(info.annotation) if get_origin(info.annotation) in (Union, types.UnionType) else (info.annotation,)
    if type(None) in parts and given.lower() == "none":
        return None
    if str not in parts and any(get_origin(part) in (tuple, list) for part in parts):
        return [piece.strip() for piece in given.split(",")]
    return given
