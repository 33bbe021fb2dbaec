"""HKDF (RFC 5869), and the type that secrets have."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Final, Protocol

Random = Callable[[int], bytes]


class Digest(Protocol):
    """A hash that has taken its input."""

    @property
    def digest_size(self) -> int:
        """Return the length of the digest in bytes."""
        ...

    def digest(self) -> bytes:
        """Return the digest."""
        ...


# The hashes that the cipher suites name; `hashlib.new` would look them up anew for every input.
HASHES: Final[dict[str, Callable[[bytes], Digest]]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}


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
    block = hmac.digest(prk, info + b"\x01", hash_name)
    if length <= len(block):  # as it is for all but P-521 private keys
        return Secret(block[:length])
    if length > 255 * len(block):
        raise ValueError("HKDF-Expand cannot give so many bytes")
    output = block
    counter = 1
    while len(output) < length:
        counter += 1
        block = hmac.digest(prk, block + info + bytes((counter,)), hash_name)
        output += block
    return Secret(output[:length])
