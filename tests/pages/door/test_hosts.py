"""Which hosts and origins are let in."""

from __future__ import annotations

import pytest

from fovea.pages.door.hosts import Allowed, allowed, from_environment, own_names

LOOPBACK = allowed("127.0.0.1")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8501", "localhost.", "127.0.0.1:8501", "127.8.9.1", "[::1]:8501", "[0:0:0:0:0:0:0:1]",
     "[::ffff:127.0.0.1]", "localhost:9000"],
)  # fmt: skip
def test_loopback_is_answered(host: str) -> None:
    assert LOOPBACK.answers(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8501", "localhost.evil.example", "127.0.0.1.evil.example", "evil.localhost",
     "10.0.0.1", "0.0.0.0:8501", "[::2]", "[::]", "localhost:8501:8501", "localhost:99999", "user@localhost",
     "localhost/evil", "http://localhost", "localhost, evil.example", "localhost evil", "2130706433", "127.1",
     "[localhost]", "localhost..", ".localhost", "\u212aocalhost", "localhost\x00"],
)  # fmt: skip
def test_foreign_hosts_are_not(host: str) -> None:
    assert not LOOPBACK.answers(host)


def test_what_the_server_was_told_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_ALLOWED_HOSTS", "Fovea.Example.com., *.lab.example 2001:db8::1,https://proxy.example")
    told = allowed("192.0.2.7", from_environment())
    for host in ("fovea.example.com:8501", "a.lab.example", "[2001:DB8:0::1]", "192.0.2.7", "proxy.example"):
        assert told.answers(host), host
    for host in ("example.com", "lab.example", "evillab.example", "192.0.2.8"):
        assert not told.answers(host), host
    with pytest.raises(ValueError, match="must be host names"):
        allowed("127.0.0.1", ["*"])


def test_listening_everywhere_answers_to_the_machines_own_names_unless_told() -> None:
    assert own_names()
    for name in own_names():
        shown = f"[{name}]" if ":" in name else name
        assert allowed("0.0.0.0").answers(shown), name
        assert allowed("").answers(shown), name
    assert not allowed("0.0.0.0").answers("evil.example")
    assert not allowed("0.0.0.0", ["fovea.example"]).answers("192.0.2.200")
    assert "fovea.example" in allowed("0.0.0.0", ["fovea.example"]).told()


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "may"),
    [
        ("http://127.0.0.1:8501", "http", "127.0.0.1:8501", True),
        ("http://LOCALHOST:8501", "http", "localhost:8501", True),
        ("http://[::1]:8501", "http", "[0::1]:8501", True),
        ("http://localhost", "http", "localhost:80", True),
        ("http://localhost:3000", "http", "localhost:8501", False),
        ("http://127.0.0.1:8501", "http", "localhost:8501", False),
        ("https://localhost:8501", "http", "localhost:8501", False),
        ("https://localhost", "http", "localhost", False),
        ("https://localhost", "https", "localhost", True),
        ("null", "http", "localhost:8501", False),
        ("", "http", "localhost:8501", False),
        ("file://", "http", "localhost:8501", False),
        ("http://evil.example", "http", "localhost:8501", False),
        ("http://localhost:8501.evil.example", "http", "localhost:8501", False),
        ("http://localhost:8501@evil.example", "http", "localhost:8501", False),
    ],
)
def test_only_our_own_pages_change_things(origin: str, scheme: str, host: str, may: bool) -> None:
    assert LOOPBACK.may_change(origin, scheme, host) is may


def test_a_proxys_origin_is_allowed_when_told() -> None:
    told = allowed("127.0.0.1", ["https://fovea.example"])
    assert told.may_change("https://fovea.example", "http", "127.0.0.1:8501")
    assert not told.may_change("http://fovea.example", "http", "127.0.0.1:8501")
    assert not Allowed().may_change("https://fovea.example", "http", "fovea.example")
