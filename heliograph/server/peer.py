"""Whose request it is, by address: the socket's peer, or what a proxy that the operator trusts says of it.

Whoever reaches the server directly can write any `X-Forwarded-For`, so it is read only where the peer is a named
proxy, and only its last address that is not such a proxy itself: everything before that is hearsay.
"""

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from heliograph.server.config import Proxy
from heliograph.server.context import Context

FORWARDED = "X-Forwarded-For"


def address(context: Context, request: web.Request) -> str | None:
    """Return the address that pays for a request without a session."""
    proxies = context.config.trusted_proxies
    peer = request.remote
    if not proxies or not _is_trusted(peer, proxies):
        return peer
    hops = [hop.strip() for line in request.headers.getall(FORWARDED, ()) for hop in line.split(",")]
    return next((hop for hop in reversed(hops) if not _is_trusted(hop, proxies)), peer)


def _is_trusted(text: str | None, proxies: Sequence[Proxy]) -> bool:
    try:
        ip = ipaddress.ip_address(text or "")
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip.version == proxy.version and ip in proxy for proxy in proxies)
