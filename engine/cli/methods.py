"""One command for each method of the registry: it computes a request in this process and says how it goes."""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from fovea.engine.cli.flags import common_parameters, option_parameters, value_of
from fovea.engine.cli.say import FAILED, INTERRUPTED, complain, errors, json_failure, print_json, told_progress
from fovea.engine.method import VERBS, Method


def add_method(app: typer.Typer, method: Method[Any, Any]) -> None:
    """A command with a flag for each field of the method's options; values are read and judged by the options."""

    def command(**given: Any) -> None:
        run_method(method, given)

    parameters = [*common_parameters(method), *option_parameters(method)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = f"{method.question} {method.summary}"
    app.command(method.name, short_help=f"{VERBS[method.verb]}: {method.question}")(command)


def run_method(method: Method[Any, Any], given: Mapping[str, Any]) -> None:
    """Run a method with what its flags gave."""
    fields = method.options.model_fields
    options = {
        name: value_of(info, given[f"option_{name}"])
        for name, info in fields.items()
        if given.get(f"option_{name}") is not None
    }
    with errors(given["debug"], json_failure if given["as_json"] else None):
        from fovea.engine.run.record import Request

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
        compute_request(request, fresh=given["fresh"], as_json=given["as_json"], debug=given["debug"])


def compute_request(request: Any, *, fresh: bool, as_json: bool, debug: bool) -> None:
    """Compute a request in this process, say how it goes, and exit as it ended."""
    from fovea.engine.run.execute import execute
    from fovea.engine.store import Store

    store = Store()
    with _terminated_as_interrupted(), told_progress() as listener:
        record = execute(request, store, fresh=fresh, listener=listener, announce=_announce)
    run = store.run(record.id)
    if as_json:
        print_json(_as_json(record, run.folder))
    elif record.status == "done":
        _print_run(record, run.folder)
    for warning in record.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if record.status == "done":
        return
    if debug and (run.folder / "error.txt").is_file():
        print((run.folder / "error.txt").read_text(encoding="utf-8"), file=sys.stderr)
    complain(record.error or f"the run was {record.status}")
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
    from fovea.engine.run.title import run_title

    print(f"{run_title(record)}: {record.status} in {record.seconds:.1f} s")
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
