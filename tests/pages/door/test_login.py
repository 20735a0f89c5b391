"""Routes behind the log-in: nothing is given without one, and roles and quotas hold there, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fovea.pages.door.login import LogIn, is_open
from fovea.pages.door.team import Quota, Team
from tests.pages.door.test_team import ORIGIN, SECRET, cookies

TEAM = Team(
    SECRET,
    ORIGIN,
    admins=("ann@example.com",),
    members=("bob@example.com",),
    viewers=("vic@example.com",),
    quota=Quota(upload_bytes=1000),
)


def jar(email: str, secret: str = SECRET) -> dict[str, str]:
    return cookies({"email": email, "origin": ORIGIN, "is_logged_in": True, "provider": "default"}, secret)


@pytest.fixture
def client() -> Iterator[TestClient]:
    from fovea.app import ROUTES

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    rest = Route("/{path:path}", answer, methods=["GET", "HEAD", "PUT", "POST", "DELETE"])
    with TestClient(Starlette(routes=[*ROUTES, rest], middleware=[Middleware(LogIn, team=lambda: TEAM)])) as client:
        yield client


def ask(client: TestClient, path: str, email: str = "", method: str = "GET", **more: Any) -> int:
    client.cookies.clear()
    for name, value in (jar(email) if email else {}).items():
        client.cookies.set(name, value)
    return int(client.request(method, path, **more).status_code)


def test_routes_need_a_log_in(client: TestClient, occlusion_run: str) -> None:
    for path in (
        f"/artifacts/{occlusion_run}/run.json",
        f"/artifacts/{occlusion_run}/preview.png",
        f"/exports/{occlusion_run}.html",
        f"/exports/{occlusion_run}.zip",
        "/photos/sample:cat?size=64",
        "/media/abc.png",
        "/_stcore/metrics",
        "/_stcore/upload_file/a/b",
        "/_stcore/upload_file/a/health",
        "/_stcore/bidi-components/x",
        "/component/x/index.html",
    ):
        assert ask(client, path) == 401, path
        assert ask(client, path, method="HEAD") == 401, path
        for email in ("ann@example.com", "bob@example.com", "vic@example.com"):
            assert ask(client, path, email) == 200, path
        assert ask(client, path, "eve@example.com") == 403, path
        client.cookies.clear()
        for name, value in jar("ann@example.com", "another secret").items():
            client.cookies.set(name, value)
        assert client.get(path).status_code == 401, path
    for path in ("/", "/library", "/_stcore/health", "/_stcore/host-config", "/static/js/x.js", "/oauth2callback"):
        assert ask(client, path) == 200, path


def test_every_route_is_guarded_or_needed_by_the_log_in() -> None:
    """What Streamlit may add in another version is seen here."""
    from streamlit.runtime import Runtime
    from streamlit.web.server.starlette.starlette_app import create_streamlit_routes

    from fovea.app import ROUTES, app

    if Runtime.exists():
        Runtime._instance = None
    routes = [*ROUTES, *create_streamlit_routes(app._create_runtime())]
    Runtime._instance = None
    opened = {path for route in routes if is_open(path := getattr(route, "path", "/"))}
    assert opened == {
        "/_stcore/health", "/_stcore/host-config", "/_stcore/stream", "/auth/login", "/auth/logout", "/oauth2callback",
        "",  # the mount of the dashboard's own script
    }  # fmt: skip
    assert is_open("/team/library", "team")
    assert not is_open("/team/media/x", "/team/")
    assert not is_open("/media/x", "/team/")


def test_viewers_upload_nothing_and_members_up_to_their_quota(client: TestClient) -> None:
    path = "/_stcore/upload_file/a/b"
    assert ask(client, path, method="PUT", content=b"x") == 401
    assert ask(client, path, "vic@example.com", "PUT", content=b"x") == 403
    assert ask(client, path, "bob@example.com", "PUT", content=b"x" * 600) == 200
    assert ask(client, path, "bob@example.com", "PUT", content=b"x" * 600) == 200
    assert ask(client, path, "bob@example.com", "PUT", content=b"x") == 429
    assert ask(client, path, "ann@example.com", "PUT", content=b"x") == 200
