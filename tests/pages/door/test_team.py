"""Who a visitor is, by Streamlit's own cookie, and what secrets.toml may say of a team."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from itsdangerous import URLSafeTimedSerializer
from streamlit.auth_util import set_cookie_with_chunks
from streamlit.web.server.starlette import starlette_server_config as streamlits
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from fovea.engine.errors import OptionsError
from fovea.pages.door.team import COOKIE, LASTS_SECONDS, Team, Visitor, name_of, team_of

SECRET, ORIGIN = "a secret of many signs", "https://fovea.example"
TEAM = Team(SECRET, ORIGIN, admins=("ann@example.com",), viewers=("*@guests.example",))
ANN = {"email": "Ann@example.com", "sub": "1", "origin": ORIGIN, "is_logged_in": True, "provider": "default"}

GROUPS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(200)]
"""More than one cookie holds, however it is packed."""


def cookies(claims: dict[str, Any], secret: str = SECRET) -> dict[str, str]:
    """The cookies that Streamlit itself sets for somebody with these claims."""
    jar: dict[str, str] = {}

    def keep(name: str, value: str) -> None:
        jar[name] = create_signed_value(secret, name, value).decode()

    set_cookie_with_chunks(
        keep, lambda name, value: create_signed_value(secret, name, value), COOKIE, claims, cookie_attr_size=80
    )
    return jar


def test_streamlits_own_cookies_are_read() -> None:
    assert (streamlits.USER_COOKIE_NAME, streamlits.AUTH_COOKIE_MAX_AGE_SECONDS) == (COOKIE, LASTS_SECONDS)
    assert TEAM.visitor(cookies(ANN)) == Visitor("ann@example.com", "admin")
    long = cookies(ANN | {"groups": GROUPS})
    assert len(long) > 3
    assert TEAM.visitor(long) == Visitor("ann@example.com", "admin")


def test_forged_and_foreign_cookies_are_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    good = cookies(ANN)
    long = cookies(ANN | {"groups": GROUPS})
    other = cookies({"email": "eve@example.com", "groups": GROUPS, "origin": ORIGIN, "is_logged_in": True})
    forged = URLSafeTimedSerializer("another secret", salt=COOKIE).dumps(json.dumps(ANN))
    unsalted = URLSafeTimedSerializer(SECRET, salt="_streamlit_user_tokens").dumps(json.dumps(ANN))
    for jar in (
        {},
        {COOKIE: ""},
        {COOKIE: "x" * 5000},
        {COOKIE: "\xff\xfe"},
        {COOKIE: good[COOKIE][:-9] + good[COOKIE][-9:].swapcase()},
        {COOKIE: forged},
        {COOKIE: unsalted},
        cookies(ANN | {"origin": "https://other.example"}),
        cookies(ANN | {"is_logged_in": False}),
        cookies({"origin": ORIGIN, "is_logged_in": True}),
        {name: value for name, value in long.items() if not name.endswith("_2")},
        long | {f"{COOKIE}_1": long[f"{COOKIE}_2"]},
        {COOKIE: create_signed_value(SECRET, COOKIE, "[1, 2]").decode()},
        {COOKIE: create_signed_value(SECRET, COOKIE, "chunks-99").decode()},
    ):
        assert TEAM.visitor(jar) is None
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    later = cookies(ANN | {"groups": GROUPS})
    mixed = {**later, f"{COOKIE}_1": other[f"{COOKIE}_1"]}
    assert TEAM.visitor(mixed) is None  # parts of two log-ins


def test_an_expired_cookie_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    jar, now = cookies(ANN), time.time
    monkeypatch.setattr(time, "time", lambda: now() + LASTS_SECONDS - 60)
    assert TEAM.visitor(jar) is not None
    monkeypatch.setattr(time, "time", lambda: now() + LASTS_SECONDS + 60)
    assert TEAM.visitor(jar) is None


def test_a_name_is_an_address_only_if_it_is_theirs() -> None:
    assert name_of({"email": "Bob@Example.com", "sub": "7"}) == "bob@example.com"
    assert name_of({"email": "ann@example.com", "email_verified": False, "sub": "7"}) == "7"
    assert name_of({"email": "ann@example.com", "email_verified": "false", "sub": "7", "provider": "x"}) == "x:7"
    assert "@" not in name_of({"sub": "ann@example.com"})
    assert name_of({"email": 3}) == ""


def test_roles() -> None:
    assert [TEAM.role(name) for name in ("ann@example.com", "bob@example.com", "x@guests.example")] == [
        "admin",
        "member",
        "viewer",
    ]
    closed = Team(SECRET, ORIGIN, admins=("ann@x.y",), members=("*@x.y",), viewers=("*@z.y",))
    assert [closed.role(name) for name in ("ann@x.y", "bob@x.y", "eve@z.y", "eve@evil.example")] == [
        "admin",
        "member",
        "viewer",
        "stranger",
    ]
    ann, bob, eve = Visitor("ann", "admin"), Visitor("bob", "member"), Visitor("eve", "viewer")
    assert ann.may_change("bob")
    assert ann.may_change("")
    assert bob.may_change("bob")
    assert not bob.may_change("ann")
    assert not bob.may_change("")
    assert not eve.may_change("eve")
    assert not eve.may_run
    assert not Visitor("", "stranger").may_change("")


def test_what_is_half_set_up_does_not_start() -> None:
    auth = {"cookie_secret": SECRET, "redirect_uri": f"{ORIGIN}/oauth2callback"}
    team = team_of({"auth": auth, "fovea": {"admins": ["Ann@Example.com"], "queued_runs": 3, "stored_gb": 0.5}}, ORIGIN)
    assert team is not None
    assert (team.admins, team.quota.queued_runs, team.quota.stored_bytes) == (("ann@example.com",), 3, 5 * 10**8)
    assert team_of({}, None) is None
    for secrets, origin in (
        ({"auth": {}}, ORIGIN),
        ({"auth": {"cookie_secret": "short"}}, ORIGIN),
        ({"auth": auth}, None),
        ({"auth": "yes"}, ORIGIN),
        ({"fovea": {"admins": ["ann@example.com"]}}, None),
        ({"auth": auth, "fovea": {"admins": "ann@example.com"}}, ORIGIN),
        ({"auth": auth, "fovea": {"admin": ["ann@example.com"]}}, ORIGIN),
        ({"auth": auth, "fovea": {"queued_runs": -1}}, ORIGIN),
        ({"auth": auth, "fovea": []}, ORIGIN),
    ):
        with pytest.raises(OptionsError) as caught:
            team_of(secrets, origin)
        assert "\n" not in str(caught.value)
