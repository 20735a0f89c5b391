"""`runs`: what was computed, to list, show, repeat, export, import and delete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fovea.engine.cli.methods import compute_request
from fovea.engine.cli.say import Debug, Json, alone, errors, group, json_failure, print_json, print_table
from fovea.engine.errors import StoreError

runs_app = group("List, show, repeat and share what was computed.")


@runs_app.command("list")
def list_runs(
    method: str | None = None,
    network: str | None = None,
    text: Annotated[
        str | None, typer.Option(help="Show only runs with these words in their name, note, options or summary.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Show only runs since this ISO date, such as 2026-11-23.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Show only runs that are queued, running, done, failed, cancelled or interrupted."),
    ] = None,
    pinned: Annotated[bool, typer.Option("--pinned", help="Show only pinned runs.")] = False,
    limit: int = 30,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    with errors():
        from fovea.engine.store import Store

        store = Store()
        store.sweep()
        rows = store.list(
            limit, method=method, network=network, text=text, since=since, status=status, pinned=pinned or None
        )
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
            print_json({"runs": facts})
            return
        print_table([(row.id, row.status, row.network, row.subject, row.name or row.error[:60]) for row in rows])


alone(runs_app, list_runs)


@runs_app.command("show")
def show_run(run: str, as_json: Json = False) -> None:
    """Show a run's record, its summary and its files."""
    with errors():
        from fovea.engine.run.title import run_title
        from fovea.engine.store import Store

        stored = Store().run(run)
        if as_json:
            print_json(json.loads(stored.record.to_json()))
            return
        record = stored.record
        print(f"{run_title(record)}: {record.status}, {record.network.name}, {record.created}, {record.seconds:.1f} s")
        for title, values in (("options", record.options), ("summary", record.summary)):
            print(title)
            print_table([(name, value) for name, value in values.items()], "  ")
        for line in [*record.warnings, *([record.error] if record.error else [])]:
            print(line)
        print(stored.folder)
        for name in stored.artifacts:
            print(f"  {name}")


@runs_app.command("repeat")
def repeat_run(run: str, as_json: Json = False, debug: Debug = False) -> None:
    """Compute a run again from its record. A run that was interrupted goes on where it stopped."""
    with errors(debug, json_failure if as_json else None):
        from fovea.engine.store import Store

        record = Store().run(run).record
        compute_request(record.request(), fresh=record.status == "done", as_json=as_json, debug=debug)


@runs_app.command("export")
def export_run(
    run: str,
    html: Annotated[str, typer.Option("--html", help="Write one HTML file that opens anywhere.", metavar="FILE")] = "",
    zip: Annotated[str, typer.Option("--zip", help="Write a zip that `runs import` reads.", metavar="FILE")] = "",
    debug: Debug = False,
) -> None:
    """Write a run as one HTML file or as a zip. Without either option it is written to RUN.zip in this folder."""
    with errors(debug):
        from fovea.engine.store import Store

        store = Store()
        if html:
            from fovea.engine.report.report import report_html

            _write(Path(html), report_html(store.run(run)))
            print(html)
        if zip or not html:
            from fovea.engine.store.archive import write_zip

            print(write_zip(store.run(run), Path(zip or f"{run}.zip")))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


@runs_app.command("import")
def import_run(file: Path, debug: Debug = False) -> None:
    """Take in a zip that `runs export` wrote."""
    with errors(debug):
        from fovea.engine.store import Store

        print(Store().import_zip(file))


@runs_app.command("delete")
def delete_runs(runs: list[str]) -> None:
    """Delete runs and their folders."""
    with errors():
        from fovea.engine.store import Store

        store = Store()
        for run in runs:
            store.delete(run)
            print(f"deleted {run}")
