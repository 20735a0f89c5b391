"""The second thing that a request meets where a log-in is set up: without it there is the page that asks for it, and no
more."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from time import monotonic

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fovea.pages.door.team import Team

GUARDED = frozenset({"artifacts", "photos", "exports", "media", "component", "app", "_stcore"})
"""The first parts of all paths that give anything but the dashboard's own script, which asks for the log-in."""

OPEN = frozenset({("_stcore", "health"), ("_stcore", "host-config"), ("_stcore", "stream")})
"""What that script needs before anybody has logged in; the pages that come through the stream ask for it first."""

SAFE = ("GET", "HEAD", "OPTIONS")
DAY = 24 * 3600.0


def is_open(path: str, base: str = "") -> bool:
    """Whether a path is answered without a log-in; `base` is the path that Streamlit serves below, if any."""
    parts = [part for part in path.split("/") if part]
    below = [part for part in base.split("/") if part]
    if below and parts[: len(below)] == below:
        parts = parts[len(below) :]
    return not parts or parts[0] not in GUARDED or tuple(parts) in OPEN


class LogIn:
    """Answers 401 where a log-in is set up and the visitor has none, 403 where their role does not allow it."""

    def __init__(self, app: ASGIApp, team: Callable[[], Team | None], base: Callable[[], str] = str) -> None:
        self.app, self.team, self.base = app, team, base
        self.uploads = Uploads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what the visitor may have."""
        team = self.team() if scope["type"] == "http" else None
        if team is None or is_open(scope["path"], self.base()):
            await self.app(scope, receive, send)
            return
        visitor = team.visitor(HTTPConnection(scope).cookies)
        refusal = None
        if visitor is None:
            refusal = _refused(401, "Log in first: open the dashboard and press Log in.")
        elif not visitor.may_look:
            refusal = _refused(403, f"{visitor.name} has no access here. Ask an admin of this server.")
        elif scope["method"] not in SAFE and not visitor.may_run:
            refusal = _refused(403, "You may look here, but not upload anything.")
        elif scope["method"] not in SAFE and self.uploads.taken(visitor.name) >= team.quota.upload_bytes:
            refusal = _refused(429, "You have uploaded as much as one visitor may in a day. Try again tomorrow.")
        if refusal is not None:
            await refusal(scope, receive, send)
        elif visitor is not None and scope["method"] not in SAFE:
            await self.app(scope, self.uploads.counted(visitor.name, receive), send)
        else:
            await self.app(scope, receive, send)


class Uploads:
    """How many bytes each visitor has sent in the last day; known to this process alone."""

    def __init__(self) -> None:
        self._sent: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def taken(self, name: str) -> int:
        """The bytes that a visitor sent in the last day."""
        sent = self._sent[name]
        while sent and monotonic() - sent[0][0] > DAY:
            sent.popleft()
        return sum(count for _, count in sent)

    def counted(self, name: str, receive: Receive) -> Receive:
        """`receive`, counting what comes."""
        place = [monotonic(), 0]

        async def counting() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                place[1] += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                self._sent[name].append((place[0], int(place[1])))
                place[1] = 0
            return message

        return counting


def _refused(status: int, line: str) -> PlainTextResponse:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return PlainTextResponse(line + "\n", status_code=status, headers=headers)
