"""What the gate refuses, before anything of ours or of Streamlit's has answered, and what it adds to each answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

ROOT = Path(__file__).resolve().parents[3]
PATHS = ("/", "/library", "/no/such/page", "/static/x.js", "/_stcore/health", "/_stcore/stream", "/exports/x.zip",
         "/artifacts/a/run.json", "/media/x", "/favicon.png", "/%2e%2e/secrets")  # fmt: skip


@pytest.fixture(scope="module")
def client() -> TestClient:
    from fovea.app import MIDDLEWARE, ROUTES

    async def answer(request: object) -> PlainTextResponse:
        return PlainTextResponse("in", headers={"Access-Control-Allow-Origin": "http://localhost:3000"})

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("in")

    routes = [*ROUTES, WebSocketRoute("/_stcore/stream", stream), Route("/{path:path}", answer, methods=["GET", "PUT"])]
    return TestClient(Starlette(routes=routes, middleware=MIDDLEWARE), base_url="http://localhost:8501")


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_host_gets_400_on_every_path(path: str, client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8501", "", "localhost@evil.example"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert answer.text.count("\n") == 1
    assert client.get(path).status_code != 400


def test_pages_of_foreign_origins_change_nothing(client: TestClient) -> None:
    assert client.put("/_stcore/upload_file/s/f").status_code == 200
    for origin, status in {"http://localhost:8501": 200, "http://localhost:3000": 403, "null": 403}.items():
        assert client.put("/_stcore/upload_file/s/f", headers={"Origin": origin}).status_code == status
        answer = client.get("/media/x", headers={"Origin": origin})
        assert answer.status_code == 200
        assert ("access-control-allow-origin" in answer.headers) is (status == 200)


def test_the_websocket_is_for_our_own_pages(client: TestClient) -> None:
    ours, stream = {"Host": "localhost:8501", "Origin": "http://localhost:8501"}, "/_stcore/stream"
    with client.websocket_connect(stream, headers=ours) as own:
        assert own.receive_text() == "in"
    for changed, status in (({"Origin": "http://localhost:3000"}, 403), ({"Host": "evil.example"}, 400)):
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect(stream, headers=ours | changed),
        ):
            pass
        assert refused.value.status_code == status


def test_nobody_else_frames_what_is_answered(client: TestClient, occlusion_run: str) -> None:
    for path in (
        "/",
        "/library",
        f"/exports/{occlusion_run}.html",
        f"/artifacts/{occlusion_run}/preview.png",
        "/x/../y",
    ):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'self'" in policy, path
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert policy.count("frame-ancestors") == 1
    assert "sandbox" in client.get(f"/exports/{occlusion_run}.html").headers["content-security-policy"]


STARTS = {
    "streamlit run": [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port"],
    "fovea app": [sys.executable, "-m", "fovea.engine", "app", "--allowed-host", "fovea.example", "--port"],
}


@pytest.fixture(scope="module", params=STARTS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real server, started in each of the ways there are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    home = tmp_path_factory.mktemp("door")
    environment = {**os.environ, "FOVEA_HOME": str(home), "FOVEA_IMMEDIATE": "1"}
    environment |= {"FOVEA_ALLOWED_HOSTS": "fovea.example"} if request.param == "streamlit run" else {}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*STARTS[request.param], str(port)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
        assert b"Fovea answers to these hosts and no others: localhost" in (home / "log").read_bytes()
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def asked(port: int, request: str) -> str:
    """The status line that a server gives to these very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        return connection.recv(4096).split(b"\r\n")[0].decode()


SOCKET = (
    "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\n"
)


def test_however_the_server_was_started(port: int) -> None:
    here = f"127.0.0.1:{port}"
    for path in ("/", "/library", "/no/such", "/_stcore/health", "/exports/x.zip", "/photos/sample:cat"):
        assert " 400 " in asked(port, f"GET {path} HTTP/1.1\nHost: evil.example\n\n"), path
        assert " 400 " in asked(port, f"GET {path} HTTP/1.0\n\n"), path
        assert " 400 " in asked(port, f"GET {path} HTTP/1.1\nHost: {here}\nHost: evil.example\n\n"), path
        assert " 400 " not in asked(port, f"GET {path} HTTP/1.1\nHost: {here}\n\n"), path
    assert " 200 " in asked(port, "GET / HTTP/1.1\nHost: FOVEA.example.:80\n\n")
    assert " 200 " in asked(port, f"GET / HTTP/1.1\nHost: [::1]:{port}\n\n")
    assert " 400 " in asked(port, f"GET http://evil.example/ HTTP/1.1\nHost: {here}\n\n")
    stream = "GET /_stcore/stream HTTP/1.1\n" + SOCKET
    assert " 400 " in asked(port, f"{stream}Host: evil.example\nOrigin: http://evil.example\n\n")
    assert " 403 " in asked(port, f"{stream}Host: {here}\nOrigin: http://127.0.0.1:{port + 1}\n\n")
    assert " 101 " in asked(port, f"{stream}Host: {here}\nOrigin: http://{here}\n\n")
    upload = f"PUT /_stcore/upload_file/a/b HTTP/1.1\nHost: {here}\nContent-Length: 0\n"
    assert " 403 " in asked(port, f"{upload}Origin: http://localhost:3000\n\n")
