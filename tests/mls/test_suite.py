"""Cipher suites: the official values of the labelled functions, and refusals that never return a bool."""

from typing import Any

import pytest

from heliograph.mls.errors import DecodeError, UnsupportedError, VerificationError
from heliograph.mls.suite import CIPHER_SUITES, CipherSuite, HPKECiphertext, Random, Secret, cipher_suite
from tests import vectors


def unhex(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


@pytest.fixture(params=vectors.EVERY_SUITE)
def suite(request: pytest.FixtureRequest) -> CipherSuite:
    return cipher_suite(request.param)


@pytest.mark.rule("RFC 9420 §5.1.2")
@pytest.mark.rule("RFC 9420 §5.1.3")
@pytest.mark.rule("RFC 9420 §5.2")
@pytest.mark.rule("RFC 9420 §8")
def test_official_values_of_the_labelled_functions():
    for case in vectors.cases("mls/crypto-basics.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        check_derivations(suite, case)
        check_signature(suite, case["sign_with_label"])
        check_encryption(suite, case["encrypt_with_label"])


def check_derivations(suite: CipherSuite, case: dict[str, Any]) -> None:
    value, out = unhex(case["ref_hash"], "value", "out")
    assert suite.ref_hash(case["ref_hash"]["label"], value) == out
    secret, context, out = unhex(case["expand_with_label"], "secret", "context", "out")
    label, length = case["expand_with_label"]["label"], case["expand_with_label"]["length"]
    assert suite.expand_with_label(secret, label, context, length) == out
    secret, out = unhex(case["derive_secret"], "secret", "out")
    assert suite.derive_secret(secret, case["derive_secret"]["label"]) == out
    tree = case["derive_tree_secret"]
    secret, out = unhex(tree, "secret", "out")
    assert suite.derive_tree_secret(secret, tree["label"], tree["generation"], tree["length"]) == out


def check_signature(suite: CipherSuite, case: dict[str, Any]) -> None:
    private, public, content, signature = unhex(case, "priv", "pub", "content", "signature")
    assert suite.signature_public_key(private) == public
    suite.verify_with_label(public, case["label"], content, signature)
    suite.verify_with_label(public, case["label"], content, suite.sign_with_label(private, case["label"], content))


def check_encryption(suite: CipherSuite, case: dict[str, Any]) -> None:
    private, public, context, plaintext = unhex(case, "priv", "pub", "context", "plaintext")
    given = HPKECiphertext(*unhex(case, "kem_output", "ciphertext"))
    assert suite.decrypt_with_label(private, case["label"], context, given) == plaintext
    ours = suite.encrypt_with_label(public, case["label"], context, plaintext)
    assert suite.decrypt_with_label(private, case["label"], context, ours) == plaintext


@pytest.mark.rule("RFC 9420 §5.1.2")
def test_a_signature_holds_for_its_key_label_and_content_only(suite: CipherSuite, seeded_random: Random):
    pair, other = suite.generate_signature_key(seeded_random), suite.generate_signature_key(seeded_random)
    signature = suite.sign_with_label(pair.private, "A", b"content")
    suite.verify_with_label(pair.public, "A", b"content", signature)
    for public, label, content, tag in (
        (other.public, "A", b"content", signature),
        (pair.public, "B", b"content", signature),
        (pair.public, "A", b"other", signature),
        (pair.public, "A", b"content", b""),
        (pair.public, "A", b"content", signature[:-1]),
        (b"", "A", b"content", signature),
        (bytes(len(pair.public)), "A", b"content", signature),
    ):
        with pytest.raises(VerificationError):
            suite.verify_with_label(public, label, content, tag)


@pytest.mark.rule("RFC 9420 §5.1.3")
def test_an_encryption_opens_with_its_key_label_and_context_only(suite: CipherSuite):
    private, public = suite.derive_key_pair(b"\1" * 32)
    other, _ = suite.derive_key_pair(b"\2" * 32)
    sealed = suite.encrypt_with_label(public, "A", b"context", b"hello")
    assert suite.decrypt_with_label(private, "A", b"context", sealed) == b"hello"
    flipped = HPKECiphertext(sealed.kem_output, sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1]))
    for key, label, context, ciphertext in (
        (other, "A", b"context", sealed),
        (private, "B", b"context", sealed),
        (private, "A", b"", sealed),
        (private, "A", b"context", flipped),
        (private, "A", b"context", HPKECiphertext(sealed.kem_output, b"")),
    ):
        with pytest.raises(VerificationError):
            suite.decrypt_with_label(key, label, context, ciphertext)
    with pytest.raises(DecodeError):
        suite.decrypt_with_label(private, "A", b"context", HPKECiphertext(b"", sealed.ciphertext))


def test_a_mac_and_an_aead_refuse_what_was_changed(suite: CipherSuite):
    tag = suite.mac(b"key", b"data")
    suite.verify_mac(b"key", b"data", tag)
    with pytest.raises(VerificationError, match="MAC"):
        suite.verify_mac(b"key", b"Data", tag)
    key, nonce = bytes(suite.aead_key_length), bytes(suite.aead_nonce_length)
    sealed = suite.seal(key, nonce, b"aad", b"hello")
    assert suite.open(key, nonce, b"aad", sealed) == b"hello"
    for aad, ciphertext in ((b"", sealed), (b"aad", sealed[:-1]), (b"aad", b"")):
        with pytest.raises(VerificationError, match="AEAD"):
            suite.open(key, nonce, aad, ciphertext)


@pytest.mark.bad_input(87)
@pytest.mark.rule("RFC 9420 §5.1.1")
def test_a_public_key_to_which_nothing_can_be_sealed_is_refused():
    x25519, p256, hybrid = cipher_suite(1), cipher_suite(2), cipher_suite(0xF04E)
    one = (1).to_bytes(32, "little")
    prime = ((1 << 255) - 19).to_bytes(32, "little")
    for key in (b"", bytes(31), bytes(32), one, prime, prime[:-1] + b"\xff"):
        with pytest.raises(DecodeError):
            x25519.validate_hpke_public_key(key)
    for key in (b"", bytes(65), b"\4" + bytes(64), b"\2" + bytes(32)):
        with pytest.raises(DecodeError):
            p256.validate_hpke_public_key(key)
    for key in (b"", bytes(1216), b"\xff" * 1184 + b"\x09" * 32):
        with pytest.raises(DecodeError):
            hybrid.validate_hpke_public_key(key)


def test_a_private_key_that_is_none_is_refused(suite: CipherSuite):
    for private in (b"", bytes(31), bytes(33), bytes(65), bytes(67)):
        with pytest.raises(DecodeError):
            suite.sign_with_label(private, "A", b"")
        with pytest.raises(DecodeError):
            suite.hpke.kem.private_key(private)
    with pytest.raises(DecodeError):
        cipher_suite(2).sign_with_label(bytes(32), "A", b"")


@pytest.mark.rule("RFC 9420 §17.1")
@pytest.mark.bad_input(86)
@pytest.mark.parametrize("suite_id", [0, *vectors.ABSENT_SUITES, 8, 0x0A0A, 0xF04F, 0xFFFF])
def test_a_cipher_suite_that_is_not_built_is_refused_by_number(suite_id: int):
    with pytest.raises(UnsupportedError, match=f"0x{suite_id:04x}"):
        cipher_suite(suite_id)


@pytest.mark.rule("RFC 9420 §17.1")
def test_the_suites_that_are_built_are_the_ones_that_are_tested():
    assert CIPHER_SUITES == vectors.EVERY_SUITE
    for suite_id in CIPHER_SUITES:
        suite = cipher_suite(suite_id)
        assert suite.id == suite_id
        assert f"_SHA{8 * suite.hash_length}_" in suite.name
        assert f"_AES{8 * suite.aead_key_length}GCM_" in suite.name or "_CHACHA20POLY1305_" in suite.name


def test_a_secret_does_not_show_itself():
    secret = Secret(b"hunter2 hunter2!")
    assert repr(secret) == str(secret) == f"{secret}" == "<16 secret bytes>"
    assert "hunter2" not in f"{[secret]} {secret!r:>40} %s" % secret
    assert secret == b"hunter2 hunter2!"


def test_the_same_randomness_gives_the_same_keys(suite: CipherSuite):
    keys = [suite.generate_signature_key(lambda length: b"\7" * length) for _ in range(2)]
    assert keys[0] == keys[1]
    assert suite.signature_public_key(keys[0].private) == keys[0].public
