"""How options are declared: one class for each method, one line for each option.

The declaration is the only one. Flags, forms, validation, run.json and the documentation are read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from fovea.engine.errors import OptionsError, unknown

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class Kind:
    """What an option's value is or names; each kind is one file of this folder.

    `name` is what `methods --json` and help call it; `widget` is the control that a form draws for it, by the name in
    `pages/ui`; `input` is the kind of thing that a run reads where the value names one ("photo", "dataset",
    "network"); `several`: the value is a list of them.
    """

    name: ClassVar[str] = "plain"
    widget: ClassVar[str] = "plain"
    input: ClassVar[str] = ""
    several: ClassVar[bool] = False

    @property
    def metavar(self) -> str:
        """What help shows in the place of a value; "" where the option's type tells it."""
        return "" if type(self) is Kind else self.name.upper()

    @property
    def needs(self) -> str:
        """What the thing that is named must have, in one word ("spatial", "weights"), or ""."""
        return ""

    def choices(self) -> tuple[str, ...]:
        """The values that it can have, where they are a list that is known only when it is read; else none."""
        return ()

    def references(self, value: Any) -> tuple[str, ...]:
        """The photos, data sets or networks that a value names."""
        return (str(value),) if self.input and value else ()

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise, in one line, if the value names what the network lacks. `method` is its name, for the message."""


@dataclass(frozen=True)
class Declared:
    """What `option` declares beside what pydantic knows: kept in the field's metadata."""

    kind: Kind
    unit: str
    advanced: bool
    slider: bool
    empty: str


class Options(BaseModel):
    """A method's options; declare each with `option`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validated options. Raises OptionsError: one line with the option, the limit and the value."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "options"
            if first["type"] == "extra_forbidden":
                raise OptionsError(str(unknown("option", name, cls.model_fields, cls.__name__))) from None
            message = first["msg"].removeprefix("Value error, ")
            message = (
                message.replace("Input should be", f"{name} must be", 1) if "Input" in message else f"{name}: {message}"
            )
            raise OptionsError(f"{message}, not {first['input']!r}") from None

    @classmethod
    def names(cls, kind: type[Kind]) -> list[str]:
        """The options of a kind, by name, as they are declared."""
        return [name for name, info in cls.model_fields.items() if type(declared(info).kind) is kind]

    def values(self, kind: type[Kind]) -> dict[str, Any]:
        """The values of the options of a kind, by the options' names."""
        return {name: getattr(self, name) for name in self.names(kind)}


def option(
    default: Any,
    help: str,
    *,
    kind: Kind | None = None,
    unit: str = "",
    advanced: bool = False,
    slider: bool = False,
    empty: str = "",
    **limits: Any,
) -> Any:
    """Declare one option: its default, its help (a full sentence), its unit ("px", "steps") and its limits.

    `kind` tells forms, flags and the run what the value names. `advanced` options sit behind a fold. `slider`: a
    number with limits on both sides, which a form draws as a slider. `empty`: what is taken where the option is left
    empty, in a few words ("the network's top class"). `limits` are pydantic's (ge, gt, le, lt, max_length, …). Choices
    are a `Literal` type on the field.
    """
    chosen = kind or Kind()
    told: dict[str, Any] = {
        "kind": chosen.name,
        "unit": unit,
        "advanced": advanced,
        "needs": chosen.needs,
        "slider": slider,
    }

    def describe(schema: dict[str, Any]) -> None:
        schema.update(told | ({"enum": list(chosen.choices())} if chosen.choices() else {}))

    info: FieldInfo = Field(default, description=help, json_schema_extra=describe, **limits)
    info.metadata.append(Declared(chosen, unit, advanced, slider, empty))
    return info


def declared(info: FieldInfo) -> Declared:
    """What `option` declared of a field."""
    for part in info.metadata:
        if isinstance(part, Declared):
            return part
    raise TypeError("an option is declared with fovea.engine.options.option")
