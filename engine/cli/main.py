"""The command line, made from the registry: `fovea METHOD …` and what looks after runs and networks.

Exit codes: 0 done, 1 failed (the last line of stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from fovea.engine.cli import machinery
from fovea.engine.cli.datasets import datasets_app
from fovea.engine.cli.methods import add_method
from fovea.engine.cli.networks import networks_app
from fovea.engine.cli.runs import runs_app
from fovea.engine.cli.say import FAILED, complain
from fovea.engine.errors import FoveaError
from fovea.engine.method import methods

app = typer.Typer(
    help="Fovea: see what your network sees. Every command leaves a run that the dashboard shows, too.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(networks_app, name="networks")
app.add_typer(datasets_app, name="datasets")
app.add_typer(runs_app, name="runs")
machinery.add_commands(app)


def main() -> None:
    """Make the methods' commands and run the one that was asked for."""
    try:
        for method in methods().values():
            add_method(app, method)
    except FoveaError as error:
        complain(str(error))
        sys.exit(FAILED)
    app(prog_name="python -m engine" if Path(sys.argv[0]).name == "__main__.py" else "fovea")
