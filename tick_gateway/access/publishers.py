"""Who may publish: clients with the token or, if none is set, only this machine.

With publishing over the network turned off, nobody may.

A loopback peer is not enough to be this machine: a local reverse proxy is one, and so is a browser that runs a web
page's script. Both leave a trace in the request, and requests with such a trace are refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterator
from typing import Final

from aiohttp import HttpVersion11, web

from ..errors import NotAllowed
from ..settings import Settings

_TRACES: Final = frozenset(
    {"origin", "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
)
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def authorize(request: web.Request, settings: Settings) -> None:
    """Check that a request may publish.

    Raises:
        NotAllowed: 401 if a token would help, else 403.
    """
    if not settings.publish_network:
        raise NotAllowed("nobody publishes to this gateway over the network (setting publish_network)")
    if settings.publish_token:
        _only_with_token(request, settings.publish_token)
    else:
        _only_this_machine(request, settings)


def _only_with_token(request: web.Request, token: str) -> None:
    header = request.headers.get("Authorization", "")
    scheme, _, given = header.partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if scheme.lower() == "bearer" and right:
        return
    if scheme.lower() == "bearer":
        cause = "; the one that came is not"
    else:  # do not repeat it: it may be the token
        cause = ", the word Bearer before" if header else " with"
    raise NotAllowed(f"publishing needs the header Authorization: Bearer TOKEN{cause} the gateway's token", 401)


def _only_this_machine(request: web.Request, settings: Settings) -> None:
    if not is_loopback(request.remote or ""):
        raise NotAllowed("without a token only this machine may publish (setting publish_token)")
    if request.version < HttpVersion11:
        raise NotAllowed(
            "without a token a publisher must speak HTTP/1.1: HTTP/1.0 is what reverse proxies speak by default, and "
            "they hide who asks (setting publish_token)"
        )
    host = host_name(request.headers.get("Host", ""))
    ours = {name.strip().lower() for name in settings.publish_hosts.split(",")} - {""}
    if not is_loopback(host) and host.lower() not in ours:
        raise NotAllowed(
            f"without a token the Host of a publisher must be localhost, not {host!r:.80} (settings "
            "publish_token and, for another name of this machine, publish_hosts)"
        )
    for name in _traces(request):
        raise NotAllowed(f"without a token a publisher's request may not carry {name:.40} (setting publish_token)")


def _traces(request: web.Request) -> Iterator[str]:
    for name in request.headers:
        if name.lower() in _TRACES or name.lower().startswith("x-forwarded-"):
            yield name


def is_near(request: web.Request) -> bool:
    """Whether a publisher seems to be on this machine, so that bytes to it cost no network. Not a proof."""
    return is_loopback(request.remote or "") and not any(_traces(request))


def host_name(host: str) -> str:
    """The value of a Host header without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a name or address is the machine's own: localhost, 127.0.0.0/8, ::1, or an IPv4-mapped one."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
