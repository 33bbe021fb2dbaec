"""HKDF (RFC 5869), and the type that secrets have."""

import hmac
from collections.abc import Callable

Random = Callable[[int], bytes]


class Secret(bytes):
    """Secret bytes that do not show themselves when printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secret bytes>"

    __str__ = __repr__

    def __format__(self, _: str, /) -> str:
        return repr(self)


def hkdf_extract(hash_name: str, salt: bytes, ikm: bytes) -> Secret:
    """Return HKDF-Extract. Source: RFC 5869 §2.2."""
    return Secret(hmac.digest(salt, ikm, hash_name))


def hkdf_expand(hash_name: str, prk: bytes, info: bytes, length: int) -> Secret:
    """Return HKDF-Expand to `length` bytes, at most 255 times the hash length. Source: RFC 5869 §2.3."""
    block = b""
    output = b""
    counter = 1
    while len(output) < length:
        if counter > 255:
            raise ValueError("HKDF-Expand cannot give so many bytes")
        block = hmac.digest(prk, block + info + bytes((counter,)), hash_name)
        output += block
        counter += 1
    return Secret(output[:length])
