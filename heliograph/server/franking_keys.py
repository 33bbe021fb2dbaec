"""The keys of the hub's MACs: a new one each month, and the oldest forgotten after a year.

A frank names its key by `kid`, the month ("2026-11"). Once a key is deleted, what it stamped can no longer be checked
by the hub: older reports become unverifiable, by design. The signature over each batch can still be checked by anyone.
Keys are counted, not dated: a clock that jumps adds a key and takes the oldest away, and no more.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from heliograph.mls.suite import Secret
from heliograph.server import secrets as key_files
from heliograph.server.secrets import Secrets

KEYS_KEPT = 13
"""The running month and the twelve before it: the report window."""


def kid_of_month(now_ms: int) -> str:
    """Return the name of the key of the month (UTC) in which `now_ms` lies."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")


def rotate(secrets: Secrets, now_ms: int, random: Callable[[int], bytes]) -> None:
    """Make the month's key if it is not there, and forget the oldest beyond `KEYS_KEPT`. Writes files."""
    key_files.add_hub_mac_key(secrets, kid_of_month(now_ms), random)
    for kid in sorted(secrets.hub_mac_keys)[:-KEYS_KEPT]:
        key_files.delete_hub_mac_key(secrets, kid)


def current_key(secrets: Secrets, now_ms: int) -> tuple[bytes, Secret]:
    """Return the kid and key to stamp with: the newest that is not of a later month, or the oldest of all.

    Raises:
        ValueError: there is no key; `rotate` makes the first one.
    """
    month = kid_of_month(now_ms)
    kids = sorted(secrets.hub_mac_keys)
    if not kids:
        raise ValueError("the hub has no MAC key")
    kid = max((kid for kid in kids if kid <= month), default=kids[0])
    return kid.encode(), secrets.hub_mac_keys[kid]


def find_key(secrets: Secrets, kid: bytes) -> Secret | None:
    """Return the key of a kid, None where it has been forgotten or never was."""
    return secrets.hub_mac_keys.get(kid.decode("ascii", "replace"))
