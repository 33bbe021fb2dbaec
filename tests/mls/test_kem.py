"""Key encapsulation: the values of RFC 9180 and draft-ietf-hpke-pq, and keys that are refused."""

from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from heliograph.mls.dh_kem import P256, P384, P521, X25519, X25519_LOW_ORDER, NistCurveKem
from heliograph.mls.errors import DecodeError, VerificationError
from heliograph.mls.hpke import Hpke
from heliograph.mls.hybrid_kem import (
    KEM_OUTPUT_LENGTH,
    MLKEM768_X25519,
    MLKEM_CIPHERTEXT_LENGTH,
    MLKEM_PUBLIC_LENGTH,
    PUBLIC_LENGTH,
    SEED_LENGTH,
)
from heliograph.mls.kem import Kem
from heliograph.mls.suite import Random, cipher_suite
from tests import vectors

KEMS: dict[int, Kem] = {kem.kem_id: kem for kem in (P256, P384, X25519, MLKEM768_X25519)}
KDFS = {0x0001: KDF.HKDF_SHA256, 0x0002: KDF.HKDF_SHA384, 0x0010: KDF.SHAKE128, 0x0011: KDF.SHAKE256}
AEADS = {0x0001: AEAD.AES_128_GCM, 0x0002: AEAD.AES_256_GCM, 0x0003: AEAD.CHACHA20_POLY1305}
MLKEM_MODULUS = 3329
NIST_CURVES = (P256, P384, P521)


def unhex(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


@pytest.mark.rule("RFC 9180 §7.1")
def test_official_key_pairs_shared_secrets_ciphertexts_and_exports_are_reached():
    for case in vectors.cases("hpke-pq/test-vectors.json", kems=tuple(KEMS)):
        kem = KEMS[case["kem_id"]]
        ikm, private, public, kem_output, shared_secret = unhex(case, "ikmR", "skRm", "pkRm", "enc", "shared_secret")
        assert kem.derive_key_pair(ikm) == (private, public)
        kem.check_public_key(public)
        kem.check_kem_output(kem_output)
        assert kem.decapsulate(private, kem_output) == shared_secret
        check_sending(kem, case, public, kem_output, shared_secret)
        if case["kdf_id"] in KDFS:
            check_opening(kem, case, private, kem_output)
        if case["kdf_id"] == 0x0001:
            check_exports(kem, case, private, kem_output)


def check_sending(kem: Kem, case: dict[str, Any], public: bytes, kem_output: bytes, shared_secret: bytes) -> None:
    """Hold what is sent with the vector's randomness to the vector, as far as that randomness can be given."""
    ikm = bytes.fromhex(case["ikmE"])
    if kem is MLKEM768_X25519:
        # `cryptography` draws ML-KEM's half, the first 32 bytes of ikmE, by itself.
        _, sent = kem.encapsulate(public, lambda length: ikm[-length:])
        assert len(sent) == len(kem_output)
        assert sent[MLKEM_CIPHERTEXT_LENGTH:] == kem_output[MLKEM_CIPHERTEXT_LENGTH:]
    else:
        assert kem.encapsulate(public, lambda _: ikm) == (shared_secret, kem_output)


def check_opening(kem: Kem, case: dict[str, Any], private: bytes, kem_output: bytes) -> None:
    """Open the first ciphertext; its AAD is not empty, as ours always is, so that `cryptography` is asked itself."""
    first = case["encryptions"][0]
    aad, ciphertext, plaintext = unhex(first, "aad", "ct", "pt")
    suite = Suite(kem.kem, KDFS[case["kdf_id"]], AEADS[case["aead_id"]])
    key, info = kem.private_key(private), bytes.fromhex(case["info"])
    assert openssl.hpke._decrypt_with_aad(suite, kem_output + ciphertext, key, info, aad) == plaintext


def check_exports(kem: Kem, case: dict[str, Any], private: bytes, kem_output: bytes) -> None:
    hpke = Hpke(kem, KDF.HKDF_SHA256, 1, "sha256", AEADS[case["aead_id"]], case["aead_id"])
    info = bytes.fromhex(case["info"])
    for export in case["exports"]:
        context, exported = unhex(export, "exporter_context", "exported_value")
        assert hpke.receive_and_export(private, kem_output, info, context, export["L"]) == exported


# The first set of values of RFC 9180 §A.6: DHKEM(P-521, HKDF-SHA512), HKDF-SHA512, AES-256-GCM.
A6_IKM_E = (
    "7f06ab8215105fc46aceeb2e3dc5028b44364f960426eb0d8e4026c2f8b5d7e7"
    "a986688f1591abf5ab753c357a5d6f0440414b4ed4ede71317772ac98d9239f70904"
)
A6_PRIVATE_E = (
    "014784c692da35df6ecde98ee43ac425dbdd0969c0c72b42f2e708ab9d535415"
    "a8569bdacfcc0a114c85b8e3f26acf4d68115f8c91a66178cdbd03b7bcc5291e374b"
)
A6_PUBLIC_E = (
    "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab8900aaeed46ed73a49055758425a0ce36507c"
    "54b29cc5b85a5cee6bae0cf1c21f2731ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd2898de12051f1e"
    "d0692237fb02b2f8d1dc1c73e9b366b529eb436e98a996ee522aef863dd5739d2f29b0"
)
A6_PRIVATE_R = (
    "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c271"
    "96a3916956655523a6a2556a7af62c5cadabe2ef9da3760bb21e005202f7b2462847"
)
A6_SHARED_SECRET = (
    "776ab421302f6eff7d7cb5cb1adaea0cd50872c71c2d63c30c4f1d5e43653336"
    "fef33b103c67e7a98add2d3b66e2fda95b5b2a667aa9dac7e59cc1d46d30e818"
)


@pytest.mark.rule("RFC 9180 §7.1.3")
def test_the_keys_and_the_secret_of_rfc_9180_appendix_a6_are_reached_on_p521():
    assert [key.hex() for key in P521.derive_key_pair(bytes.fromhex(A6_IKM_E))] == [A6_PRIVATE_E, A6_PUBLIC_E]
    private, kem_output = bytes.fromhex(A6_PRIVATE_R), bytes.fromhex(A6_PUBLIC_E)
    assert P521.decapsulate(private, kem_output).hex() == A6_SHARED_SECRET
    public = P521.public_bytes(P521.private_key(private))
    sent = P521.encapsulate(public, lambda length: bytes.fromhex(A6_IKM_E)[:length])
    assert [part.hex() for part in sent] == [A6_SHARED_SECRET, A6_PUBLIC_E]


@pytest.mark.rule("RFC 9180 §4")
@pytest.mark.parametrize("kem", [X25519, *NIST_CURVES, MLKEM768_X25519])
def test_both_sides_of_an_encapsulation_share_a_secret_that_no_one_else_has(kem: Kem, seeded_random: Random):
    private, public = kem.derive_key_pair(seeded_random(32))
    other, _ = kem.derive_key_pair(seeded_random(32))
    shared_secret, kem_output = kem.encapsulate(public, seeded_random)
    kem.check_kem_output(kem_output)
    assert len(kem_output) == kem.kem.enc_length()
    assert kem.decapsulate(private, kem_output) == shared_secret
    assert kem.decapsulate(other, kem_output) != shared_secret


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("curve", NIST_CURVES)
def test_a_scalar_that_is_zero_too_large_or_of_another_width_is_refused(curve: NistCurveKem):
    width, order = curve.private_length, curve.curve.group_order
    scalars = (0, order, order + 1, (1 << 8 * width) - 1)
    keys = [scalar.to_bytes(width) for scalar in scalars]
    for key in (*keys, b"", (1).to_bytes(width - 1), (1).to_bytes(width + 1)):
        with pytest.raises(DecodeError, match="not a private key"):
            curve.private_key(key)
    for scalar in (1, order - 1):
        assert curve.private_key(scalar.to_bytes(width)).private_numbers().private_value == scalar


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("curve", NIST_CURVES)
def test_a_public_key_that_is_no_uncompressed_point_of_the_curve_is_refused(curve: NistCurveKem):
    private, point = curve.derive_key_pair(b"\1" * 32)
    width = curve.private_length
    off_curve = point[:-1] + bytes([point[-1] ^ 1])
    compressed = bytes([2 + point[-1] % 2]) + point[1 : width + 1]
    hybrid = bytes([6 + point[-1] % 2]) + point[1:]
    too_large = b"\4" + b"\xff" * (2 * width)
    wrong = (b"", b"\0", point[:-1], point + b"\0", b"\4" + bytes(2 * width), off_curve, compressed, hybrid, too_large)
    for key in wrong:
        for use in (curve.check_public_key, curve.check_kem_output):
            with pytest.raises(DecodeError):
                use(key)
        with pytest.raises(DecodeError):
            curve.encapsulate(key, lambda length: b"\2" * length)
        with pytest.raises(DecodeError):
            curve.decapsulate(private, key)


@pytest.mark.bad_input(87)
def test_every_point_of_low_order_is_refused_by_us_and_by_cryptography(seeded_random: Random):
    hpke = cipher_suite(1).hpke
    for u in X25519_LOW_ORDER:
        for high_bit in (0, 1 << 255):
            point = (u | high_bit).to_bytes(32, "little")
            with pytest.raises(DecodeError):
                X25519.check_public_key(point)
            with pytest.raises(DecodeError):
                X25519.encapsulate(point, seeded_random)
            with pytest.raises(DecodeError):
                hpke.seal(point, b"", b"hello")


# --- the hybrid ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hybrid_pair() -> tuple[bytes, bytes]:
    return MLKEM768_X25519.derive_key_pair(b"\3" * 32)


def test_the_keys_of_the_hybrid_have_the_lengths_of_the_draft(hybrid_pair: tuple[bytes, bytes]):
    assert tuple(map(len, hybrid_pair)) == (SEED_LENGTH, PUBLIC_LENGTH) == (32, 1216)
    assert KEM_OUTPUT_LENGTH == 1120 == KEM.MLKEM768_X25519.enc_length()


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("position", [0, 1, 2, 3, MLKEM_PUBLIC_LENGTH - 32 - 3])
@pytest.mark.parametrize("coefficient", [MLKEM_MODULUS, 4095])
def test_an_ml_kem_key_with_a_coefficient_that_is_not_below_the_modulus_is_refused(
    hybrid_pair: tuple[bytes, bytes], position: int, coefficient: int
):
    public = hybrid_pair[1]
    start = position - position % 3
    pair = int.from_bytes(public[start : start + 3], "little")
    low, high = pair & 0xFFF, pair >> 12
    low, high = (low, coefficient) if position % 3 else (coefficient, high)

    def changed(low: int, high: int) -> bytes:
        return public[:start] + (low | high << 12).to_bytes(3, "little") + public[start + 3 :]

    with pytest.raises(DecodeError, match="encapsulation key"):
        MLKEM768_X25519.check_public_key(changed(low, high))
    with pytest.raises(DecodeError, match="encapsulation key"):
        MLKEM768_X25519.encapsulate(changed(low, high), lambda length: b"\4" * length)
    with pytest.raises(DecodeError, match="encapsulation key"):
        cipher_suite(0xF04E).encrypt_with_label(changed(low, high), "A", b"", b"secret")
    MLKEM768_X25519.check_public_key(changed(min(low, MLKEM_MODULUS - 1), min(high, MLKEM_MODULUS - 1)))


@pytest.mark.bad_input(87)
def test_a_hybrid_key_or_kem_output_of_another_length_is_refused(hybrid_pair: tuple[bytes, bytes]):
    private, public = hybrid_pair
    _, kem_output = MLKEM768_X25519.encapsulate(public, lambda length: b"\4" * length)
    for key in (b"", public[:-1], public + b"\0", public[:MLKEM_PUBLIC_LENGTH], public[MLKEM_PUBLIC_LENGTH:]):
        with pytest.raises(DecodeError, match="1216 bytes"):
            MLKEM768_X25519.check_public_key(key)
    for output in (b"", kem_output[:-1], kem_output + b"\0", kem_output[:MLKEM_CIPHERTEXT_LENGTH]):
        with pytest.raises(DecodeError, match="1120 bytes"):
            MLKEM768_X25519.check_kem_output(output)
        with pytest.raises(DecodeError, match="1120 bytes"):
            MLKEM768_X25519.decapsulate(private, output)
    for seed in (b"", private[:-1], private + b"\0", bytes(64), bytes(96)):
        with pytest.raises(DecodeError, match="32 bytes"):
            MLKEM768_X25519.decapsulate(seed, kem_output)


@pytest.mark.bad_input(87)
def test_an_x25519_half_of_low_order_is_refused_on_either_side(hybrid_pair: tuple[bytes, bytes]):
    private, public = hybrid_pair
    _, kem_output = MLKEM768_X25519.encapsulate(public, lambda length: b"\4" * length)
    for u in X25519_LOW_ORDER:
        point = u.to_bytes(32, "little")
        key, output = public[:MLKEM_PUBLIC_LENGTH] + point, kem_output[:MLKEM_CIPHERTEXT_LENGTH] + point
        with pytest.raises(DecodeError, match="low order"):
            MLKEM768_X25519.check_public_key(key)
        with pytest.raises(DecodeError, match="low order"):
            MLKEM768_X25519.check_kem_output(output)
        with pytest.raises(DecodeError, match="unusable"):
            MLKEM768_X25519.encapsulate(key, lambda length: b"\4" * length)
        with pytest.raises(DecodeError, match="unusable"):
            MLKEM768_X25519.decapsulate(private, output)


def test_a_tampered_ml_kem_ciphertext_gives_another_secret_and_opens_nothing(hybrid_pair: tuple[bytes, bytes]):
    private, public = hybrid_pair
    shared_secret, kem_output = MLKEM768_X25519.encapsulate(public, lambda length: b"\4" * length)
    hpke = cipher_suite(0xF04E).hpke
    sealed, ciphertext = hpke.seal(public, b"info", b"secret")
    for position in (0, MLKEM_CIPHERTEXT_LENGTH - 1):
        output = flipped(kem_output, position)
        first = MLKEM768_X25519.decapsulate(private, output)
        assert first != shared_secret
        assert MLKEM768_X25519.decapsulate(private, output) == first
        with pytest.raises(VerificationError):
            hpke.open(private, b"info", flipped(sealed, position), ciphertext)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
