"""Who is let in and how fast: a token bucket for each payer and rate, in memory.

A payer is a device, or the network prefix of who brings no session. Prefixes are kept as an HMAC under a key that
changes every day, so that nothing here tells who was there.
"""

import hmac
import ipaddress
from collections.abc import Callable

from heliograph.server.limits import Bucket, Rate, Rates
from heliograph.wire.problems import Problem

DAY_MS = 86_400_000
CAPACITY = 200_000
_IPV4_PREFIX, _IPV6_PREFIX = 24, 56


class Admission:
    """The buckets of one process."""

    def __init__(self, rates: Rates, random: Callable[[int], bytes]) -> None:
        self._rates = {name.replace("_", "-"): getattr(rates, name) for name in rates.__struct_fields__}
        self._random = random
        self._day = -1
        self._key = b""
        self._buckets: dict[tuple[str, str | bytes], Bucket] = {}

    def charge(self, limit: str, payer: str | bytes, now_ms: int, cost: float = 1) -> None:
        """Take `cost` from the payer's bucket of the rate named `limit`.

        Raises:
            Problem: `too-many-requests`, with the seconds to wait.
        """
        bucket = self._buckets.get((limit, payer))
        if bucket is None:
            if len(self._buckets) >= CAPACITY:
                self._make_room(now_ms)
            bucket = self._buckets[limit, payer] = Bucket(self.rate(limit), now_ms)
        wait_s = bucket.take(now_ms, cost)
        if wait_s:
            raise Problem("too-many-requests", f"wait {wait_s} s and try again", retry_after_s=wait_s)

    def require(self, limit: str, payer: str | bytes, now_ms: int) -> None:
        """Refuse who has nothing left in the bucket of the rate named `limit`; take nothing.

        Raises:
            Problem: `too-many-requests`, with the seconds to wait.
        """
        bucket = self._buckets.get((limit, payer))
        wait_s = 0 if bucket is None else bucket.wait_s(now_ms)
        if wait_s:
            raise Problem("too-many-requests", f"wait {wait_s} s and try again", retry_after_s=wait_s)

    def rate(self, limit: str) -> Rate:
        """Return the rate of this name."""
        return self._rates[limit]

    def source(self, address: str | None, now_ms: int) -> bytes:
        """Return what stands for the network prefix of an address today (16 bytes)."""
        day = now_ms // DAY_MS
        if day != self._day:
            self._day, self._key = day, self._random(32)
        return hmac.digest(self._key, _prefix(address), "sha256")[:16]

    def _make_room(self, now_ms: int) -> None:
        """Forget who has nothing to pay for; and if that does not make much room, the older half."""
        for key in [key for key, bucket in self._buckets.items() if bucket.full(now_ms)]:
            del self._buckets[key]
        if len(self._buckets) > CAPACITY * 3 // 4:
            for key in list(self._buckets)[: CAPACITY // 2]:
                del self._buckets[key]


def _prefix(address: str | None) -> bytes:
    try:
        ip = ipaddress.ip_address((address or "").split("%", 1)[0])
    except ValueError:
        return b"unknown"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    bits = _IPV4_PREFIX if ip.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((ip, bits), strict=False)).encode()
