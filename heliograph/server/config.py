"""What the operator says when the server starts. Numbers that bound strangers are in `limits.py`."""

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal

Registration = Literal["invitation", "open"]
Proxy = IPv4Network | IPv6Network

SMALLEST_PREFIX: Final = {4: 8, 6: 16}


class ProxyError(Exception):
    """A network that nobody should trust to speak for others."""


def parse_proxy(text: str) -> Proxy:
    """Read the address or network of a trusted proxy.

    Raises:
        ProxyError: it is neither, or so wide that strangers stand in it.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ProxyError(f"{text} is not an address or a network, such as 127.0.0.1 or 10.1.0.0/16") from None
    if network.prefixlen < SMALLEST_PREFIX[network.version]:
        raise ProxyError(f"{text} is too wide: whoever stands in it could speak for anybody")
    return network


@dataclass(frozen=True, slots=True)
class Config:
    """One server's settings.

    `data` is the directory that holds everything; `domain` is fixed at the first start (None: as it stands, or
    "localhost"); `origins` are the browser origins that may call besides the server's own; `hosts` are the only
    names (with their ports) by which it answers, where any are given; `trusted_proxies` are the networks whose
    `X-Forwarded-For` is believed; `metrics_port` opens a loopback listener for Prometheus.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8470
    domain: str | None = None
    registration: Registration = "invitation"
    limits_file: Path | None = None
    checkpoint_interval_s: int = 60
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Proxy, ...] = ()
    metrics_port: int | None = None
