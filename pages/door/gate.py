"""The first thing that every request meets: foreign hosts and origins are refused, and nobody else frames an answer.

It stands before Streamlit's own checks, which guard only its WebSocket, let every port of localhost in, and depend on
how the server was started.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fovea.pages.door.hosts import Allowed, split_host

SAFE = ("GET", "HEAD", "OPTIONS")
"""Requests that change nothing; all others, and the WebSocket through which pages act, must come from our pages."""

FRAMES = "frame-ancestors 'self'"
"""Components are frames of our own; nobody else's page may show ours and have a visitor click in it unawares."""

log = logging.getLogger("fovea")


class Gate:
    """Answers 400 to a foreign Host and 403 to what a foreign page would change; adds who may frame the answer."""

    def __init__(self, app: ASGIApp, allowed: Callable[[], Allowed]) -> None:
        self.app = app
        self.allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        foreign = False
        headers, allowed = Headers(scope=scope), self.allowed()
        refusal = self._host_refused(scope, headers, allowed)
        if refusal is None and "origin" in headers:
            host, origins = headers["host"], headers.getlist("origin")
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
            foreign = len(origins) != 1 or not allowed.may_change(origins[0], scheme, host)
            if foreign and (scope["type"] == "websocket" or scope["method"] not in SAFE):
                refusal = _refused(
                    403,
                    f"Pages of {_shown(origins[0])} may change nothing here: open this server's own address, "
                    f"{scheme}://{host}. If a proxy stands before it, start it with ALLOWED_HOSTS={_shown(origins[0])}",
                )
        out = _framed(send, foreign)
        if refusal is None:
            await self.app(scope, receive, out)
        elif scope["type"] == "http":
            await refusal(scope, receive, out)
        else:
            await _refuse_socket(refusal, scope, receive, out)

    def _host_refused(self, scope: Scope, headers: Headers, allowed: Allowed) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or split_host(hosts[0]) is None or not scope["path"].startswith("/"):
            return _refused(400, "A request must name one host in its Host header, and a path.")
        if not allowed.answers(hosts[0]):
            name = _shown(hosts[0])
            return _refused(
                400,
                f"This server does not answer to the host {name}. If it is yours, start it with ALLOWED_HOSTS={name} "
                f"(make app) or --allowed-host {name} (fovea app).",
            )
        return None


def _shown(text: str) -> str:
    return "".join(sign for sign in text[:100] if sign.isprintable())


def _refused(status: int, line: str) -> Response:
    log.warning("refused with %d: %s", status, line)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return PlainTextResponse(line + "\n", status_code=status, headers=headers)


async def _refuse_socket(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is accepted, with the status where the server can say one."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await refusal(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


def _framed(send: Send, foreign: bool) -> Send:
    """`send`, with the headers that say who may frame an answer; a foreign page may read none."""

    async def framed(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            policy = headers.get("content-security-policy", "")
            if "frame-ancestors" not in policy:
                headers["content-security-policy"] = f"{policy}; {FRAMES}" if policy else FRAMES
            headers["x-frame-options"] = "SAMEORIGIN"
            if foreign:
                for name in ("origin", "credentials", "methods", "headers"):
                    del headers[f"access-control-allow-{name}"]
        await send(message)

    return framed
