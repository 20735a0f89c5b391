"""A team at the door: a real OpenID provider on loopback, the dashboard behind it, three members in Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fovea.engine.store import Store
from tests.browser.conftest import NETWORK, ROOT, Server, _free_port, _wait

pytestmark = pytest.mark.browser
WAIT = 60_000
SECRETS = """
[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "a secret of this test alone"
client_id = "fovea"
client_secret = "nobody checks it"
server_metadata_url = "{provider}/.well-known/openid-configuration"

[fovea]
admins = ["ann@team.example"]
members = ["*@team.example"]
viewers = ["*@guests.example"]
"""
PEOPLE = {"ann": "ann@team.example", "bob": "bob@team.example", "eve": "eve@team.example"} | {
    "vic": "vic@guests.example",
    "zed": "zed@evil.example",
}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard as a team's, and its provider."""
    folder = tmp_path_factory.mktemp("team")
    port, other, log = _free_port(), _free_port(), folder / "server.log"
    url, provider = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}"
    (folder / "home").mkdir()
    (folder / "home" / "seeded").touch()
    secrets = str(folder / "secrets.toml")
    Path(secrets).write_text(SECRETS.format(url=url, provider=provider))
    claims = [json.dumps({"sub": name, "email": email}) for name, email in PEOPLE.items()]
    users = [word for claim in claims for word in ("--user-claims", claim)]
    environment = {**os.environ, "FOVEA_HOME": str(folder / "home")}
    commands = [
        [sys.executable, "-m", "oidc_provider_mock", "--host", "127.0.0.1", "--port", str(other), *users],
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--secrets.files", secrets],
    ]
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as output:
        try:
            for command in commands:
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                    )
                )
            _wait(url, processes[1], log)
            yield Server(url, folder / "home")
        finally:
            for process in processes:
                process.terminate()
                process.wait(20)


@pytest.fixture
def come(browser: Any, team: Server) -> Iterator[Callable[[str], Any]]:
    """Log somebody in, in a browser of their own; the page they then see."""
    contexts = []

    def log_in(name: str) -> Any:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{team.url}/library")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_url(re.compile(re.escape(team.url)))
        return page

    yield log_in
    for context in contexts:
        context.close()


def status(url: str, **headers: str) -> int:
    """What somebody gets who has no cookie, or these headers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_team_logs_in(team: Server, come: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_HOME", str(team.home))
    bob = come("bob")
    bob.get_by_text("bob@team.example").wait_for()
    bob.get_by_role("heading", name="See what your network sees").wait_for()
    store = Store(team.home)
    for _ in range(600):
        rows = store.list(method="classify", status="done")
        if rows:
            break
        time.sleep(0.1)
    run_id = rows[0].id
    assert store.run(run_id).record.owner == "bob@team.example"
    files = [f"/artifacts/{run_id}/run.json", f"/exports/{run_id}.html", f"/exports/{run_id}.zip", "/photos/sample:cat"]
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in bob.context.cookies() if c["name"] == "_streamlit_user")
    for path in files:
        assert status(team.url + path) == 401, path
        assert status(team.url + path, Cookie="_streamlit_user=forged") == 401, path
        assert status(team.url + path, Cookie=cookie[:-12] + "A" * 12) == 401, path
        assert status(team.url + path, Cookie=cookie) == 200, path
        assert bob.request.get(team.url + path).status == 200, path

    def seen_by(page: Any, button: str) -> bool:
        page.goto(f"{team.url}/run?id={run_id}")
        page.get_by_text("asked by bob").wait_for()
        return bool(page.get_by_role("button", name=button).is_enabled())

    assert seen_by(bob, "Delete")
    eve = come("eve")
    assert not seen_by(eve, "Delete")
    assert seen_by(eve, "Repeat with changes")
    vic = come("vic")
    assert not seen_by(vic, "Pin")
    vic.goto(f"{team.url}/occlusion?network=fovea&photo=sample:cat")
    vic.get_by_role("button", name="Run", exact=True).wait_for()
    assert vic.get_by_role("button", name="Run", exact=True).is_disabled()
    zed = come("zed")
    zed.get_by_text("has no access here").wait_for()
    assert zed.request.get(team.url + files[0]).status == 403
    ann = come("ann")
    assert seen_by(ann, "Delete")
    ann.get_by_role("button", name="Delete").click()
    ann.get_by_role("button", name="Delete it").click()
    ann.wait_for_url(re.compile("/library"))
    assert store.count(method="classify", owner="bob@team.example") == 0
    bob.goto(f"{team.url}/library")
    bob.get_by_role("button", name="Log out").click()
    bob.wait_for_url(re.compile("end_session|oauth2callback|/$"))  # the provider ends its own log-in, too
    bob.goto(f"{team.url}/library")
    bob.get_by_role("button", name="Log in").wait_for()
    assert bob.request.get(f"{team.url}/photos/sample:cat").status == 401


def test_a_page_of_another_origin_shows_no_frame_of_ours(server: Server, browser: Any) -> None:
    """And a page of another port of this machine reaches neither the stream nor an answer."""
    import http.server
    import threading

    html = f"""<iframe id="ours" src="{server.url}/?network={NETWORK}"></iframe><script>
    window.said = [];
    const socket = new WebSocket("{server.url.replace("http", "ws")}/_stcore/stream", ["streamlit"]);
    socket.onopen = () => said.push("stream open");
    socket.onerror = () => said.push("stream refused");
    fetch("{server.url}/_stcore/health").then(() => said.push("read"), () => said.push("unread"));
    fetch("{server.url}/_stcore/upload_file/a/b", {{method: "DELETE"}}).then(
        () => said.push("changed"), () => said.push("unchanged"));
    </script>"""

    class Foreign(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            return

    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{foreign.server_address[1]}/")
        page.wait_for_function("window.said.length == 3", timeout=WAIT)
        assert sorted(page.evaluate("window.said")) == ["stream refused", "unchanged", "unread"]
        frame = page.query_selector("#ours").content_frame()
        assert "See what your network sees" not in frame.content()
        assert "stApp" not in frame.content()
    finally:
        context.close()
        foreign.shutdown()
        foreign.server_close()


def test_the_dashboard_works_at_every_loopback_name(server: Server, browser: Any) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.url.replace("127.0.0.1", "localhost") + "/?network=fovea&photo=sample:cat")
        page.get_by_role("heading", name="See what your network sees").wait_for(timeout=WAIT)
    finally:
        context.close()


def test_secrets_that_cannot_be_read_open_no_door(tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text("[auth\n")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(_free_port())]
    done = subprocess.run(
        [*command, "--secrets.files", str(tmp_path / "secrets.toml")],
        cwd=ROOT, env={**os.environ, "FOVEA_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "secrets.toml cannot be read" in done.stdout + done.stderr
