import itertools
import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from heliograph.tlog import ed25519
from heliograph.tlog.errors import ProofError

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
MESSAGE = b"what was said"
SIGNATURE = KEY.sign(MESSAGE)

# Points of order 1, 2, 4 and 8, as they are canonically encoded; the last four are the points of order 8.
SMALL_ORDER = [
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    (0).to_bytes(32, "little"),
    (1 << 255).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
]

# RFC 8032 §7.1: secret key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def openssl_accepts(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def we_accept(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        ed25519.verify(public_key, message, signature)
    except ProofError:
        return False
    return True


@pytest.mark.rule("RFC 8032 §7.1")
@pytest.mark.parametrize(("secret", "message", "signature"), RFC_8032)
def test_the_signatures_of_the_standard_verify(secret: str, message: str, signature: str) -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).public_key().public_bytes_raw()
    ed25519.verify(public, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.rule("RFC 8032 §5.1.7")
@pytest.mark.parametrize("length", [0, 1, 31, 64, 127, 128, 129, 1000])
def test_a_signature_made_elsewhere_verifies(length: int) -> None:
    private, message = Ed25519PrivateKey.generate(), os.urandom(length)
    ed25519.verify(private.public_key().public_bytes_raw(), message, private.sign(message))


@pytest.mark.bad_input(63)
@pytest.mark.parametrize("byte", range(0, 64, 3))
def test_a_flipped_bit_in_the_signature_is_refused_as_openssl_refuses_it(byte: int) -> None:
    tampered = bytearray(SIGNATURE)
    tampered[byte] ^= 1 << byte % 8
    assert not openssl_accepts(PUBLIC, MESSAGE, bytes(tampered))
    with pytest.raises(ProofError):
        ed25519.verify(PUBLIC, MESSAGE, bytes(tampered))


@pytest.mark.parametrize("byte", range(0, 32, 5))
def test_another_key_is_refused(byte: int) -> None:
    tampered = bytearray(PUBLIC)
    tampered[byte] ^= 0x10
    assert not openssl_accepts(bytes(tampered), MESSAGE, SIGNATURE)
    with pytest.raises(ProofError):
        ed25519.verify(bytes(tampered), MESSAGE, SIGNATURE)


def test_another_message_is_refused() -> None:
    with pytest.raises(ProofError, match="does not match"):
        ed25519.verify(PUBLIC, MESSAGE + b".", SIGNATURE)


@pytest.mark.rule("RFC 8032 §5.1.7")
def test_the_same_signature_with_the_group_order_added_is_refused() -> None:
    scalar = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    malleable = SIGNATURE[:32] + scalar.to_bytes(32, "little")
    with pytest.raises(ProofError, match="canonical"):
        ed25519.verify(PUBLIC, MESSAGE, malleable)


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8])
def test_a_key_of_small_order_is_refused_although_a_signature_could_be_made_for_it(point: bytes) -> None:
    with pytest.raises(ProofError):
        ed25519.verify(point, MESSAGE, SMALL_ORDER[0] + bytes(32))
    with pytest.raises(ProofError):
        ed25519.check_public_key(point)


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8])
def test_a_signature_whose_r_is_of_small_order_is_refused(point: bytes) -> None:
    with pytest.raises(ProofError):
        ed25519.verify(PUBLIC, MESSAGE, point + SIGNATURE[32:])


@pytest.mark.parametrize("y", [P, P + 1, P + 2, P + 18, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_point_that_is_not_in_canonical_form_is_refused(y: int, sign: int) -> None:
    encoded = (y | sign << 255).to_bytes(32, "little")
    with pytest.raises(ProofError):
        ed25519.check_public_key(encoded)


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_keys_and_signatures_of_another_size_are_refused(key: int, signature: int) -> None:
    with pytest.raises(ProofError):
        ed25519.verify(bytes(key), MESSAGE, bytes(signature))


def test_nothing_is_accepted_that_openssl_refuses() -> None:
    strange = [PUBLIC, SIGNATURE[:32], *SMALL_ORDER, (2).to_bytes(32, "little"), bytes([255] * 32)]
    scalars = [SIGNATURE[32:], bytes(32), (1).to_bytes(32, "little"), (ORDER - 1).to_bytes(32, "little")]
    for key, r, scalar in itertools.product(strange, strange, scalars):
        if we_accept(key, MESSAGE, r + scalar):
            assert openssl_accepts(key, MESSAGE, r + scalar)
