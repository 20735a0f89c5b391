"""Who a visitor is where a log-in is set up, and what that lets them do.

Streamlit logs people in by OpenID Connect (`[auth]` in secrets.toml) and keeps who they are in a signed cookie. Pages
and routes read that cookie here, both in the same way, so that neither lets in whom the other does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from fovea.engine.errors import OptionsError

Role = Literal["admin", "member", "viewer", "stranger"]

COOKIE = "_streamlit_user"
"""Streamlit's cookie, signed with `cookie_secret` and the cookie's name by itsdangerous' timed serializer."""

LASTS_SECONDS = 30 * 24 * 3600
"""How long a log-in lasts; Streamlit gives its cookie the same time."""

CHUNKS = re.compile(r"chunks-([1-9][0-9]?)")
"""What stands in COOKIE when more is told of somebody than one cookie holds; it then lies in COOKIE_1, COOKIE_2 …"""

SIGNED_WITHIN = 5.0
"""Seconds between the first and the last part of one cookie; parts of two log-ins must not be put together."""

LEAST_SECRET = 16
GIGABYTE = 10**9


@dataclass(frozen=True)
class Quota:
    """How much one visitor may take: runs that wait or run, bytes of kept runs, bytes of uploads in a day."""

    queued_runs: int = 20
    stored_bytes: int = 50 * GIGABYTE
    upload_bytes: int = 5 * GIGABYTE


@dataclass(frozen=True)
class Visitor:
    """Who looks. `name` is the e-mail address, or what the provider calls somebody who has none; "" without log-in."""

    name: str
    role: Role

    @property
    def may_look(self) -> bool:
        """Whether runs, photos and pages are shown."""
        return self.role != "stranger"

    @property
    def may_run(self) -> bool:
        """Whether they may start runs, upload and import."""
        return self.role in ("admin", "member")

    def may_change(self, owner: str) -> bool:
        """Whether they may delete, rename, pin or cancel a run of `owner`."""
        return self.role == "admin" or (self.may_run and owner != "" and owner == self.name)


ANYBODY = Visitor("", "admin")
"""The visitor where no log-in is set up: whoever reaches the server, which by itself listens on this machine alone."""


@dataclass(frozen=True)
class Team:
    """The log-in and roles of secrets.toml. `origin`: where the provider sends people back to, as browsers write it."""

    secret: str
    origin: str
    admins: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    quota: Quota = Quota()

    def visitor(self, cookies: Mapping[str, str]) -> Visitor | None:
        """Who these cookies belong to; None without a log-in, and for a cookie that is expired, forged or another's."""
        told = self._told(cookies)
        if told is None or told.get("is_logged_in") is not True or told.get("origin") != self.origin:
            return None
        name = name_of(told)
        return Visitor(name, self.role(name)) if name else None

    def role(self, name: str) -> Role:
        """The role of a visitor: the first list that names them; members are all others unless members are listed."""
        lists: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("admin", self.admins),
            ("member", self.members),
            ("viewer", self.viewers),
        )
        for role, names in lists:
            if any(fnmatchcase(name, pattern) for pattern in names):
                return role
        return "stranger" if self.members else "member"

    def _told(self, cookies: Mapping[str, str]) -> dict[str, Any] | None:
        """What was told of somebody at the log-in, from one cookie or from its parts, signed in one moment."""
        names = [COOKIE]
        first = self._signed(cookies, COOKIE)
        if first is not None and (chunks := CHUNKS.fullmatch(first[0])):
            names = [f"{COOKIE}_{number + 1}" for number in range(int(chunks[1]))]
        parts = [part for part in (self._signed(cookies, name) for name in names) if part is not None]
        if len(parts) < len(names) or not parts:
            return None
        moments = [moment for _, moment in parts]
        if max(moments) - min(moments) > SIGNED_WITHIN:
            return None
        try:
            told = json.loads("".join(text for text, _ in parts))
        except ValueError:
            return None
        return told if isinstance(told, dict) else None

    def _signed(self, cookies: Mapping[str, str], name: str) -> tuple[str, float] | None:
        """What was signed under this name, and when, if the signature is ours and no older than a log-in lasts."""
        from itsdangerous import BadData, URLSafeTimedSerializer

        signer = URLSafeTimedSerializer(self.secret, salt=name)
        try:
            text, moment = signer.loads(cookies.get(name, ""), max_age=LASTS_SECONDS, return_timestamp=True)
        except (BadData, UnicodeError):
            return None
        return (text, moment.timestamp()) if isinstance(text, str) else None


def name_of(claims: Mapping[str, Any]) -> str:
    """What a visitor is called: the e-mail address unless the provider says that it is not theirs, else the subject."""
    email, subject = claims.get("email"), claims.get("sub")
    if isinstance(email, str) and email and str(claims.get("email_verified", True)).lower() != "false":
        return email.strip().lower()
    provider = str(claims.get("provider", "default"))
    if not isinstance(subject, str) or not subject:
        return ""
    subject = subject.replace("@", "%40")  # it must not pass for an address
    return subject if provider == "default" else f"{provider}:{subject}"


def team_of(secrets: Mapping[str, Any], origin: str | None) -> Team | None:
    """The team that secrets.toml tells of, or None where it sets up no log-in. Raises OptionsError, one line.

    `origin`: that of `redirect_uri`. What is half set up is refused, because it would leave the door open.
    """
    auth, told = secrets.get("auth"), secrets.get("fovea", {})
    if not isinstance(told, Mapping):
        raise OptionsError("[fovea] in secrets.toml must be a table")
    if auth is None:
        if any(told.get(role) for role in ("admins", "members", "viewers")):
            raise OptionsError("[fovea] in secrets.toml names roles, but without [auth] nobody can log in")
        return None
    if not isinstance(auth, Mapping) or len(str(auth.get("cookie_secret", ""))) < LEAST_SECRET:
        raise OptionsError(f"[auth] in secrets.toml must have a cookie_secret of at least {LEAST_SECRET} signs")
    if not origin:
        raise OptionsError("[auth] in secrets.toml must have a redirect_uri, such as https://HOST/oauth2callback")
    unknown = set(told) - {"admins", "members", "viewers", "queued_runs", "stored_gb", "upload_gb_a_day"}
    if unknown:
        raise OptionsError(f"[fovea] in secrets.toml has no setting {min(unknown)!r}")
    return Team(
        str(auth["cookie_secret"]),
        origin,
        *(_names(told, role) for role in ("admins", "members", "viewers")),
        quota=Quota(
            int(_number(told, "queued_runs", Quota.queued_runs)),
            int(_number(told, "stored_gb", Quota.stored_bytes / GIGABYTE) * GIGABYTE),
            int(_number(told, "upload_gb_a_day", Quota.upload_bytes / GIGABYTE) * GIGABYTE),
        ),
    )


def _names(told: Mapping[str, Any], role: str) -> tuple[str, ...]:
    names = told.get(role, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise OptionsError(f"{role} in [fovea] of secrets.toml must be a list of names, such as ['ann@example.com']")
    return tuple(name.strip().lower() if "@" in name else name for name in names)


def _number(told: Mapping[str, Any], name: str, default: float) -> float:
    value = told.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise OptionsError(f"{name} in [fovea] of secrets.toml must be a number of at least 0, not {value!r}")
    return value
