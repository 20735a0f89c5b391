"""The server: the dashboard of `pages/shell.py`, the door before it, routes for what runs saved, the workers' lifespan.

Start it with `streamlit run app.py` (or `make app`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import mimetypes
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent
if (ROOT / "fovea").is_dir() and str(ROOT) not in sys.path:  # in a checkout; an installed package is found anyway
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402
from starlette.concurrency import run_in_threadpool  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import FileResponse, PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: E402

from fovea.engine.errors import FoveaError  # noqa: E402
from fovea.engine.store import Store  # noqa: E402
from fovea.engine.store.archive import zip_bytes  # noqa: E402
from fovea.pages.door.gate import Gate  # noqa: E402
from fovea.pages.door.listening import allowed_here, open_door, team_here  # noqa: E402
from fovea.pages.door.login import LogIn  # noqa: E402

INERT = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox"
"""What a served file may do when a browser opens it as a page: show itself."""

REPORT = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "sandbox allow-scripts allow-downloads"
)
"""What a report may do: run its own scripts on its own data, and fetch nothing."""

PHOTO = re.compile(r"sample:[\w.-]{1,80}|photo:[0-9a-f]{64}")
THUMBNAIL_SIZES = range(16, 2049)


def _headers(policy: str, *, cache: str = "no-store", download: str = "") -> dict[str, str]:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": cache,
    }
    if download:
        headers["Content-Disposition"] = f'attachment; filename="{download}"'
    return headers


def _missing(line: str) -> Response:
    return PlainTextResponse(line + "\n", status_code=404, headers=_headers(INERT))


def _route(path: str, answer: Callable[[Request], Response]) -> Route:
    """A GET route whose function runs off the event loop and whose mistakes become one line."""

    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request)
        except FoveaError as error:
            return _missing(str(error))

    return Route(path, endpoint, methods=["GET"])


def artifact(request: Request) -> Response:
    """A file of a run: a picture, an array, a table, its record."""
    run_id, name = request.path_params["run"], request.path_params["name"]
    path = Store().artifact(run_id, name)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers=_headers(INERT, cache="private, no-cache"))


def photo(request: Request) -> Response:
    """A photo by its content, as a JPEG of at most `size` pixels; never a path."""
    from fovea.engine.data.photos import thumbnail

    reference, size = request.path_params["reference"], request.query_params.get("size", "320")
    if not PHOTO.fullmatch(reference) or not size.isdecimal() or int(size) not in THUMBNAIL_SIZES:
        return _missing("There is no such photo.")
    buffer = io.BytesIO()
    thumbnail(reference, int(size)).save(buffer, "JPEG", quality=88)
    return Response(buffer.getvalue(), media_type="image/jpeg", headers=_headers(INERT, cache="private, max-age=86400"))


def export(request: Request) -> Response:
    """A whole run as one HTML file or one zip, as a download."""
    name = request.path_params["name"]
    run_id, _, kind = name.rpartition(".")
    if kind not in ("html", "zip"):
        return _missing("There is no such export: a run is exported as RUN.html or RUN.zip.")
    if kind == "html":
        from fovea.engine.report.report import report_html

        return Response(
            report_html(Store().run(run_id)),
            media_type="text/html",
            headers=_headers(REPORT, download=f"fovea-{run_id}.html"),
        )
    headers = _headers(INERT, download=f"fovea-{run_id}.zip")
    return Response(zip_bytes(Store().run(run_id)), media_type="application/zip", headers=headers)


class NoClimbing:
    """Answers 404, in one line, to any path with a `..` in it, however it is encoded."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on."""
        if scope["type"] == "http" and _climbs(scope["path"]):
            await _missing("There is no such file.")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _climbs(path: str) -> bool:
    """Whether a decoded path, or what is left of it when it is decoded again, goes upwards."""
    for _ in range(3):
        if ".." in path or "\\" in path or "\0" in path:
            return True
        path = unquote(path)
    return False


def tell_in_one_line(error: Exception) -> bool:
    """Show a page's mistake as one line; the traceback goes to the server's log."""
    logging.getLogger("fovea").error("a page failed", exc_info=error)
    line = " ".join(str(error).split())[:300]
    st.error(line if isinstance(error, FoveaError) else f"This page failed: {type(error).__name__}: {line}")
    return True


@contextlib.asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Say who is answered, and keep the workers running as long as the server runs."""
    from fovea.engine.work.supervise import start_workers, stop_workers

    open_door()
    await run_in_threadpool(start_workers)
    try:
        yield {}
    finally:
        await run_in_threadpool(stop_workers)


ROUTES = [
    _route("/artifacts/{run}/{name:path}", artifact),
    _route("/photos/{reference}", photo),
    _route("/exports/{name}", export),
]

MIDDLEWARE = [
    Middleware(Gate, allowed=allowed_here),
    Middleware(NoClimbing),
    Middleware(LogIn, team=team_here, base=lambda: str(st.get_option("server.baseUrlPath") or "")),
]
"""What every request meets before anything answers it, the first thing first."""

app = st.App(
    ROOT / "pages" / "shell.py",
    lifespan=lifespan,
    middleware=MIDDLEWARE,
    on_script_error=tell_in_one_line,
    routes=ROUTES,
)
