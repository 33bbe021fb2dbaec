"""Plain Ed25519 verification (RFC 8032), so that a proof can be checked where nothing but Python is installed.

Verification handles no secret, so it need not run in constant time; signing does, and is not here. The
rules are the strict ones, under which two verifiers cannot disagree: S below the group order, both points
in their canonical encoding, no point of small order, and the equation without the cofactor, [S]B = R +
[k]A, compared byte for byte.

Points are in extended coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z (RFC 8032 §5.1.4). The sum
[S]B + [k](-A) is computed in one pass over the bits of both scalars. About 2 ms a signature.
"""

import hashlib
from typing import Final

from heliograph.tlog.errors import ProofError

PUBLIC_KEY_SIZE_BYTES: Final = 32
SIGNATURE_SIZE_BYTES: Final = 64

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_2D: Final = 2 * _D % _P
_SQRT_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int, int, int]
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature: 32-byte public key, 64-byte signature.

    Raises:
        ProofError: the signature does not hold, or key or signature is not strictly encoded.

    Source: RFC 8032 §5.1.7.
    """
    if len(public_key) != PUBLIC_KEY_SIZE_BYTES or len(signature) != SIGNATURE_SIZE_BYTES:
        raise ProofError("An Ed25519 key has 32 bytes and a signature 64.")
    check_public_key(public_key)
    encoded_r, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    if scalar >= _ORDER:
        raise ProofError("The signature is not in canonical form.")
    if _is_small_order(_decompress(encoded_r)):
        raise ProofError("The signature contains a point of small order.")
    x, y, z, t = _decompress(public_key)
    challenge = hashlib.sha512(encoded_r + public_key + message).digest()
    k = int.from_bytes(challenge, "little") % _ORDER
    if _compress(_double_multiply(scalar, _BASE, k, (-x % _P, y, z, -t % _P))) != encoded_r:
        raise ProofError("The signature does not match.")


def check_public_key(public_key: bytes) -> None:
    """Refuse a public key that is no canonically encoded curve point, or one of small order; raises ProofError."""
    if len(public_key) != PUBLIC_KEY_SIZE_BYTES:
        raise ProofError("An Ed25519 public key has 32 bytes.")
    if _is_small_order(_decompress(public_key)):
        raise ProofError("The public key is a point of small order, under which anything would verify.")


def _decompress(encoded: bytes) -> _Point:
    """Decode a point (RFC 8032 §5.1.3), refusing every encoding but the canonical one."""
    value = int.from_bytes(encoded, "little")
    sign, y = value >> 255, value & ((1 << 255) - 1)
    if y >= _P:
        raise ProofError("A curve point is not in canonical form.")
    numerator, denominator = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = numerator * pow(denominator, 3, _P) * pow(numerator * pow(denominator, 7, _P), (_P - 5) // 8, _P) % _P
    if (denominator * x * x - numerator) % _P:
        x = x * _SQRT_MINUS_1 % _P
        if (denominator * x * x - numerator) % _P:
            raise ProofError("A key or signature is not a point of the curve.")
    if x == 0 and sign:
        raise ProofError("A curve point is not in canonical form.")
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _compress(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(p: _Point, q: _Point) -> _Point:
    x1, y1, z1, t1 = p
    x2, y2, z2, t2 = q
    a = (y1 - x1) * (y2 - x2) % _P
    b = (y1 + x1) * (y2 + x2) % _P
    c = t1 * _2D * t2 % _P
    d = 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(p: _Point) -> _Point:
    x, y, z, _ = p
    a, b = x * x % _P, y * y % _P
    c = 2 * z * z % _P
    h = a + b
    e = h - (x + y) * (x + y)
    g = a - b
    f = c + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double_multiply(m: int, p: _Point, n: int, q: _Point) -> _Point:
    """[m]P + [n]Q, both scalars read together from the top bit."""
    table = (None, p, q, _add(p, q))
    result = _NEUTRAL
    for bit in range(max(m.bit_length(), n.bit_length()) - 1, -1, -1):
        result = _double(result)
        addend = table[(m >> bit & 1) | (n >> bit & 1) << 1]
        if addend is not None:
            result = _add(result, addend)
    return result


def _is_small_order(point: _Point) -> bool:
    x, y, z, _ = _double(_double(_double(point)))
    return x % _P == 0 and (y - z) % _P == 0


_BASE: Final = _decompress((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
