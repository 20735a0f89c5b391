"""What every command says, and how: errors as exit codes, JSON, tables, progress."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer

from fovea.engine.errors import FoveaError
from fovea.engine.progress import Tell

FAILED, INTERRUPTED = 1, 130
"""Exit codes beside 0 (done) and 2 (wrong usage, typer's own)."""
SPARSE_SECONDS = 5.0
"""How often progress is printed where stderr is no terminal."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback where something goes wrong.")]
NETWORK_HELP = "The network: fovea, torchvision:NAME[@WEIGHTS], timm:NAME, onnx:PATH, or a name that you registered."


def group(help: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help, rich_markup_mode=None, pretty_exceptions_enable=False)


def alone(group: typer.Typer, command: Callable[..., None]) -> None:
    """Let a group of commands without one of them do what `command` does."""

    @group.callback(invoke_without_command=True)
    def _(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            command()


@contextlib.contextmanager
def errors(debug: bool = False, failed: Callable[[str], None] | None = None) -> Iterator[None]:
    """Turn what goes wrong into the exit codes of the contract; `failed` is told the line first."""
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted")
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
    complain(line)
    raise typer.Exit(FAILED)


def complain(line: str) -> None:
    """One line on stderr."""
    print(" ".join(line.split()), file=sys.stderr)


def json_failure(line: str) -> None:
    """What --json prints of a request that could not start."""
    print_json({"run": None, "folder": None, "status": "failed", "seconds": 0.0, "summary": {}, "error": line})


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object in one line."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def print_table(rows: list[tuple[Any, ...]], indent: str = "") -> None:
    """Columns wide enough for their values, two spaces apart, no lines: it can be cut and grepped."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))] if texts else []
    for row in texts:
        print((indent + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))).rstrip())


@contextlib.contextmanager
def told_progress() -> Iterator[Tell]:
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


def card_of(network: str) -> Any:
    """What is known of a network; it is loaded if it never was."""
    from fovea.models.zoo import cached_card, load

    return cached_card(network) or load(network).card
