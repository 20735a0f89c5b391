"""The options of a method that lets its user choose an attack: its own, and those that the attacks declare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import pydantic
from pydantic.fields import FieldInfo

from fovea.engine.make.attack.shared.attack import Attack, attacks
from fovea.engine.options import Options, option

OptionsT = TypeVar("OptionsT", bound=Options)


def listed(names: Iterable[str], last: str = "and") -> str:
    """Names in a sentence: "bim, pgd and pgd_l2"."""
    *before, end = names
    return f"{', '.join(before)} {last} {end}" if before else end


def by_attack(value: Callable[[Attack[Any]], str]) -> str:
    """What differs between attacks, in words: "1 for fgsm; 10 for bim and pgd". Attacks of an empty value are left out.

    Each value is told once, with all attacks that have it.
    """
    names: dict[str, list[str]] = {}
    for attack in attacks().values():
        if value(attack):
            names.setdefault(value(attack), []).append(attack.name)
    return "; ".join(f"{words} for {listed(group)}" for words, group in names.items())


def with_attacks(options: type[OptionsT], chosen: str, help: str) -> type[OptionsT]:
    """The options, with every attack as a choice of `attack` and with the options that only attacks read.

    `chosen` is the default and `help` the beginning of the choice's help, which goes on with what each attack does.
    The help of an option that attacks declare ends in which of them read it.
    """
    choices = "; ".join(f"{attack.name} {attack.summary} ({attack.paper})" for attack in attacks().values())
    fields: dict[str, Any] = {
        "attack": (Literal.__getitem__(tuple(attacks())), option(chosen, f"{help} The choices: {choices}."))
    }
    return pydantic.create_model(options.__name__, __base__=options, __doc__=options.__doc__, **fields, **_own_fields())


def _own_fields() -> dict[str, Any]:
    """The options that attacks declare, for `create_model`. Raises TypeError where two declare one differently."""
    declared: dict[str, FieldInfo] = {}
    readers: dict[str, list[str]] = {}
    for attack in attacks().values():
        for name, info in attack.options.model_fields.items():
            known = declared.setdefault(name, info)
            if (known.annotation, known.default, known.metadata) != (info.annotation, info.default, info.metadata):
                raise TypeError(
                    f"the attack {attack.name} declares the option {name} in another way than {readers[name]}"
                )
            readers.setdefault(name, []).append(attack.name)
    fields: dict[str, Any] = {}
    for name, info in declared.items():
        told = copy.copy(info)
        reads = "reads" if len(readers[name]) == 1 else "read"
        told.description = f"{info.description} Only {listed(readers[name])} {reads} it."
        fields[name] = (info.annotation, told)
    return fields


def own_options(attack: Attack[OptionsT], options: Options) -> OptionsT:
    """The part of a method's options that only this attack reads."""
    return attack.options.parse({name: getattr(options, name) for name in attack.options.model_fields})
