"""Which host names and origins the server answers to.

A page of another site can point a name of its own at this machine (DNS rebinding) and then read what it answers; it
cannot choose the Host and Origin headers that the browser sends. So foreign names are refused whatever is asked, and
what changes things is taken only from pages that this server itself gave.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

ENVIRONMENT = "FOVEA_ALLOWED_HOSTS"
"""Names that the server also answers to, with commas or spaces between them."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,255})(?::([0-9]{1,5}))?")
PORTS = {"http": 80, "https": 443}
ANY = ("", "0.0.0.0", "::")
"""Addresses to listen on that mean all of the machine's."""

Origin = tuple[str, str, int]
"""Scheme, host and port, as browsers compare them."""


def split_host(header: str, scheme: str = "http") -> tuple[str, int] | None:
    """The host of a Host header in its one spelling, and its port; None for anything that is no host."""
    parts = HOST.fullmatch(header)
    if parts is None:
        return None
    port = int(parts[2]) if parts[2] else PORTS.get(scheme, 0)
    name = _spelled(parts[1])
    return (name, port) if name and port < 1 << 16 else None


def _spelled(name: str) -> str:
    """A host in lower case without the dot of a full name; an address in its short form; "" for what is neither."""
    name = name.lower()
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "" if name.startswith("[") else name.removesuffix(".")
    return str(getattr(address, "ipv4_mapped", None) or address)


def split_origin(origin: str) -> Origin | None:
    """An Origin header in its parts; None for "null" and anything else that is no origin of a web page."""
    scheme, mark, rest = origin.partition("://")
    place = split_host(rest, scheme.lower()) if mark and scheme.lower() in PORTS else None
    return (scheme.lower(), *place) if place is not None else None


@dataclass(frozen=True)
class Allowed:
    """The hosts that the server answers to, beside this machine's loopback, and the origins of proxies before it.

    `hosts`: names and addresses as `split_host` spells them; `*.example.com` stands for all names below it.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[Origin] = frozenset()

    def answers(self, header: str) -> bool:
        """Whether a request with this Host header is answered. The port may be another: a tunnel has its own."""
        place = split_host(header)
        if place is None:
            return False
        name = place[0]
        if name == "localhost" or name in self.hosts or _loopback(name):
            return True
        return any(host.startswith("*.") and name.endswith(host[1:]) for host in self.hosts)

    def may_change(self, origin: str, scheme: str, host: str) -> bool:
        """Whether a page of `origin` may change things: it came from this very scheme, host and port, or a proxy's."""
        asked, place = split_origin(origin), split_host(host, scheme)
        return asked is not None and place is not None and (asked == (scheme, *place) or asked in self.origins)

    def told(self) -> str:
        """What is allowed, for one line at the start."""
        return ", ".join(["localhost", "127.0.0.0/8", "[::1]", *sorted(self.hosts)])


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def allowed(address: str, names: Iterable[str] = (), origins: Iterable[str] = ()) -> Allowed:
    """What a server that listens on `address` answers to.

    `names`: names, addresses or whole origins (`https://fovea.example.com`, for a proxy that ends TLS), from whoever
    started it. Without any, a server that listens everywhere answers to the machine's own addresses and names.
    """
    names = tuple(names)
    hosts: set[str] = set()
    pages: set[Origin] = set()
    for name in (*names, *origins):
        origin = split_origin(name.rstrip("/")) if "://" in name else None
        host = "" if "://" in name and origin is None else origin[1] if origin else _named(name)
        if not host:
            raise ValueError(f"{ENVIRONMENT} must be host names such as fovea.example.com, not {name[:80]!r}")
        hosts.add(host)
        pages |= {origin} if origin else set()
    if address in ANY:
        hosts |= {address or "0.0.0.0"}
        hosts |= own_names() if not names else set()
    else:
        hosts.add(_named(address))
    return Allowed(frozenset(host for host in hosts if not (host == "localhost" or _loopback(host))), frozenset(pages))


def _named(name: str) -> str:
    """The one spelling of a host that somebody typed, IPv6 without brackets and a leading `*.` too; "" for others."""
    star, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    place = split_host(rest) or split_host(f"[{rest}]")
    return star + place[0] if place else ""


@cache
def own_names() -> frozenset[str]:
    """The names and addresses that this machine has in its networks."""
    import psutil

    name = socket.gethostname().lower().removesuffix(".")
    names = {name, f"{name.partition('.')[0]}.local"} if name else set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                names.add(_spelled(f"[{address.address.partition('%')[0]}]"))
    return frozenset(names - {""})


def from_environment() -> list[str]:
    """The names in FOVEA_ALLOWED_HOSTS."""
    return os.environ.get(ENVIRONMENT, "").replace(",", " ").split()
