"""What is there and how it works: methods, layers, the worker, the doctor, the dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import fovea.version
from fovea.engine import method as registry
from fovea.engine.cli.say import Debug, Json, card_of, errors, print_json, print_table
from fovea.engine.errors import OptionsError
from fovea.engine.method import VERBS


def list_methods(as_json: Json = False) -> None:
    """List all methods by verb, with the question that each answers."""
    with errors():
        if as_json:
            facts = [
                {"name": m.name, "title": m.title, "verb": m.verb, "family": m.family, "question": m.question}
                | {"options": m.options.model_json_schema()["properties"] if m.options.model_fields else {}}
                for m in registry.methods().values()
            ]
            print_json({"methods": facts})
            return
        for verb, title in VERBS.items():
            chosen: list[tuple[Any, ...]] = [
                (m.name, m.question) for m in registry.methods().values() if m.verb == verb
            ]
            if chosen:
                print(title)
                print_table(chosen, "  ")


def list_layers(network: str, as_json: Json = False, debug: Debug = False) -> None:
    """List the layers of a network in forward order with shape, units, receptive field and parameters."""
    with errors(debug):
        card = card_of(network)
        if as_json:
            print_json({"network": card.name, "layers": [layer.model_dump(mode="json") for layer in card.layers]})
            return
        rows: list[tuple[Any, ...]] = [("layer", "kind", "shape", "units", "sees", "parameters")]
        for layer in card.layers:
            field = layer.receptive_field
            sees = "" if field is None else "whole image" if field.whole else f"{field.size[0]}×{field.size[1]} px"
            shape = "×".join(str(size) for size in layer.shape)
            rows.append((layer.name, layer.kind, shape, layer.units, sees, layer.parameters or ""))
        print_table(rows)


def run_worker(
    lane: Annotated[Literal["interactive", "long"], typer.Option(help="The queue to serve.")] = "interactive",
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Serve a queue of runs until stopped; the dashboard starts its own."""
    with errors():
        from fovea.engine.work.worker import work

        work(lane, supervised)


def run_doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Tell which versions, devices and ONNX Runtime providers really work here."""
    with errors(debug):
        from fovea.engine.doctor import diagnose, report

        found = diagnose()
        if as_json:
            print_json(found)
        else:
            print(report(found))


def run_app(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 serves other machines, too.")] = "",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 8501,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name that the dashboard also answers to, such as fovea.example.com, or the whole origin of a "
            "proxy before it, such as https://fovea.example.com. Give the option once for each."
        ),
    ] = None,
) -> None:
    """Start the dashboard."""
    with errors():
        import importlib.util

        if importlib.util.find_spec("streamlit") is None:
            raise OptionsError('the dashboard needs Streamlit, which is not installed: pip install "fovea-vision[app]"')
        import subprocess

        root = Path(fovea.version.__file__).resolve().parent
        script = root / "app.py" if (root / "app.py").is_file() else root.parent / "app.py"
        address = ["--server.address", host] if host else []
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port), *address]
        names = {"FOVEA_ALLOWED_HOSTS": " ".join(allowed_host)} if allowed_host else {}
        raise typer.Exit(subprocess.call(command, env=os.environ | names))


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, command in (
        ("methods", list_methods),
        ("layers", list_layers),
        ("worker", run_worker),
        ("doctor", run_doctor),
        ("app", run_app),
    ):
        app.command(name)(command)
