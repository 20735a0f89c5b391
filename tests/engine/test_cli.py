"""The command line's contract: flags from the options, exit codes, one clear last line, one JSON object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fovea.engine.cli import main as cli
from fovea.engine.cli.methods import add_method
from fovea.engine.store import Store
from tests.engine import fakes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    fakes.install(monkeypatch.setattr)
    return Store()


def run(*arguments: str) -> Result:
    """The command line with the fake methods' commands."""
    known = {command.name for command in cli.app.registered_commands}
    for method in fakes.METHODS.values():
        if method.name not in known:
            add_method(cli.app, method)
    return CliRunner().invoke(cli.app, list(arguments))


def count(*arguments: str) -> Result:
    return run("count", "--network", "fake", "--device", "cpu", *arguments)


def test_done_prints_the_summary_and_the_folder(store: Store) -> None:
    result = count("--steps", "3", "--name", "Three")
    assert result.exit_code == 0
    (row,) = store.list()
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Three: done in ")
    assert "  steps: 3" in lines
    assert lines[-1] == str(store.runs / row.id)


def test_json_is_the_last_line(store: Store) -> None:
    result = count("--steps", "3", "--colour", "green", "--loud", "--json")
    found = json.loads(result.stdout.splitlines()[-1])
    assert set(found) == {"run", "folder", "status", "seconds", "summary"}
    assert (found["status"], found["summary"]["steps"]) == ("done", 3)
    assert Path(found["folder"], "run.json").is_file()
    record = store.run(found["run"]).record
    assert (record.options["colour"], record.options["loud"], record.options["steps"]) == ("green", True, 3)
    assert json.loads(count("--steps", "3", "--colour", "green", "--loud", "--json").stdout)["run"] == found["run"]
    fresh = json.loads(count("--steps", "3", "--colour", "green", "--loud", "--json", "--fresh").stdout)
    assert fresh["run"] != found["run"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--steps", "0"), "'0'"),
        (("--steps", "many"), "'many'"),
        (("--colour", "blue"), "'blue'"),
        (("--layer", "conw"), "'conw'"),
        (("--target", "cow"), "'cow'"),
        (("--image", "sample:cta"), "'cta'"),
        (("--image", "/nowhere/x.png"), "/nowhere/x.png"),
        (("--device", "tpu"), "'tpu'"),
        (("--provider", "rocm"), "'rocm'"),
        (("--seed", "-1"), "-1"),
    ],
)
def test_a_wrong_value_fails_with_one_line_that_names_it(store: Store, arguments: tuple[str, ...], says: str) -> None:
    result = count(*arguments, "--json")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr
    found = json.loads(result.stdout)
    assert (found["status"], found["run"]) == ("failed", None)
    assert store.count() == 0


def test_a_missing_photo_fails(store: Store) -> None:
    result = run("watch", "--network", "fake", "--device", "cpu")
    assert result.exit_code == 1
    assert "needs a photo" in result.stderr


@pytest.mark.parametrize("method", ["fail", "crash"])
def test_a_failed_run_is_kept_and_said(store: Store, method: str) -> None:
    result = run(method, "--network", "fake", "--device", "cpu", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["status"] == "failed"
    assert store.run(found["run"]).record.error == result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_debug_prints_the_traceback(store: Store) -> None:
    assert "Traceback" in run("crash", "--network", "fake", "--device", "cpu", "--debug").stderr


@pytest.mark.parametrize(
    "arguments",
    [("count", "--bogus"), ("coutn",), ("layers",), ("runs", "show"), ("count", "--seed", "x"), ("runs", "x")],
)
def test_wrong_usage(store: Store, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert "─" not in result.stderr


def test_help_comes_from_the_options(store: Store) -> None:
    text = " ".join(run("count", "--help").stdout.split())
    assert "--steps INTEGER" in text
    assert "How many steps. [steps, >= 1 and <= 10000, default 5]" in text
    assert "--colour [red|green]" in text
    assert "--loud / --no-loud" in text or "--loud/--no-loud" in text
    for flag in ("--network", "--image", "--seed", "--device", "--provider", "--json", "--fresh", "--debug", "--name"):
        assert flag in text


def test_an_interrupt_is_130_and_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fakes.time, "sleep", interrupt)
    result = count("--steps", "3")
    assert result.exit_code == 130
    (row,) = store.list()
    assert row.status == "interrupted"
    monkeypatch.undo()
    monkeypatch.setenv("FOVEA_HOME", str(store.home))
    fakes.install(monkeypatch.setattr)
    repeated = run("runs", "repeat", row.id, "--json")
    assert json.loads(repeated.stdout.splitlines()[-1])["status"] == "done"


def test_runs_are_looked_after(store: Store, tmp_path: Path) -> None:
    found = json.loads(count("--json").stdout)
    assert found["run"] in run("runs", "list").stdout
    assert json.loads(run("runs", "list", "--json").stdout)["runs"][0]["run"] == found["run"]
    assert "arrays.npz" in run("runs", "show", found["run"]).stdout
    assert json.loads(run("runs", "show", found["run"], "--json").stdout)["id"] == found["run"]
    path = tmp_path / "run.zip"
    assert run("runs", "export", found["run"], "--zip", str(path)).exit_code == 0
    assert run("runs", "delete", found["run"]).exit_code == 0
    assert store.count() == 0
    assert run("runs", "import", str(path)).stdout.strip() == found["run"]
    (tmp_path / "not.zip").write_text("hello")
    result = run("runs", "import", str(tmp_path / "not.zip"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    result = run("runs", "export", found["run"], "--zip", str(tmp_path / "no" / "such" / "run.zip"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_what_there_is_can_be_listed(store: Store, tmp_path: Path) -> None:
    assert "What does count do?" in run("methods").stdout
    assert "count" in {one["name"] for one in json.loads(run("methods", "--json").stdout)["methods"]}
    assert "conv" in run("layers", "fake").stdout
    assert "fovea" in run("networks", "list").stdout
    assert "fovea" in run("networks").stdout
    assert "cat, dog" in run("networks", "show", "fake").stdout
    assert "sample" in run("datasets", "list").stdout
    options = ["--limit", "2", "--network", "fake", "--output", str(tmp_path / "mean.png")]
    assert "mean colour: " in run("datasets", "mean", "sample", *options).stdout
    assert (tmp_path / "mean.png").is_file()


def python(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FOVEA_HOME": str(home)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy(own_home: Path) -> None:
    code = (
        "import sys, fovea.engine.cli.main as cli; [cli.add_method(cli.app, m) for m in cli.methods().values()]; "
        "print(sorted({'torch', 'torchvision', 'onnxruntime', 'timm', 'faiss', 'pandas', 'rich'} & set(sys.modules)))"
    )
    assert python("-c", code, home=own_home).stdout.strip() == "[]"


def test_a_real_method_keeps_the_contract(fovea_home: Path) -> None:
    arguments = ("occlusion", "--network", "torchvision:squeezenet1_1@random", "--image", "sample:cat")
    quick = ("--window", "112", "--stride", "56", "--device", "cpu")
    done = python("-m", "engine", *arguments, *quick, "--json", home=fovea_home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == "done"
    assert Path(found["folder"], "arrays.npz").is_file()
    wrong = python("-m", "engine", *arguments, "--window", "0", home=fovea_home)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert len(wrong.stderr.splitlines()) == 1
    usage = python("-m", "engine", "occlusion", "--bogus", home=fovea_home)
    assert usage.returncode == 2


def hear_interrupts() -> None:
    """Undo what a shell does to commands in the background: they ignore an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_real_interrupt_is_stored(own_home: Path) -> None:
    code = (
        "import sys; from tests.engine import fakes; fakes.install(setattr); import fovea.engine.cli.main as cli; "
        "sys.argv = ['engine', 'count', '--network', 'fake', '--device', 'cpu', '--steps', '1000', '--wait', '0.1']; "
        "cli.main()"
    )
    environment = os.environ | {"FOVEA_HOME": str(own_home)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE, preexec_fn=hear_interrupts
    )
    store = Store()
    end = time.monotonic() + 60
    while not store.list(status="running"):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "interrupted"
    assert [row.status for row in store.list()] == ["interrupted"]
