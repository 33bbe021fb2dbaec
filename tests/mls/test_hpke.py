"""HPKE: the values of RFC 9180, and the three things that `cryptography` does not offer."""

import pytest

from heliograph.mls.errors import DecodeError
from heliograph.mls.kdf import hkdf_expand, hkdf_extract
from heliograph.mls.suite import CipherSuite, Random, cipher_suite
from tests import vectors

EXPORT_LABEL = b"MLS 1.0 external init secret"


@pytest.fixture(params=vectors.EVERY_SUITE)
def suite(request: pytest.FixtureRequest) -> CipherSuite:
    return cipher_suite(request.param)


@pytest.mark.rule("RFC 9180 §7.1.3")
def test_the_key_pairs_of_rfc_9180_appendix_a_are_derived():
    x25519 = cipher_suite(1).hpke
    private, public = x25519.derive_key_pair(
        bytes.fromhex("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234")
    )
    assert private.hex() == "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"
    assert public.hex() == "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    p256 = cipher_suite(2).hpke
    private, public = p256.derive_key_pair(
        bytes.fromhex("4270e54ffd08d79d5928020af4686d8f6b7d35dbe470265f1f5aa22816ce860e")
    )
    assert private.hex() == "4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb"
    assert public.hex().startswith("04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b32")


@pytest.mark.rule("RFC 9180 §5.3")
def test_the_exports_of_rfc_9180_appendix_a1_are_received():
    hpke = cipher_suite(1).hpke
    private = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    kem_output = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    exports = {
        b"": "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee",
        b"\0": "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5",
        b"TestContext": "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931",
    }
    for context, exported in exports.items():
        assert hpke.receive_and_export(private, kem_output, info, context, 32).hex() == exported


@pytest.mark.rule("RFC 9420 §8.3", "external-init-secret")
def test_both_sides_of_an_external_init_export_the_same_secret(suite: CipherSuite, seeded_random: Random):
    private, public = suite.derive_key_pair(seeded_random(32))
    kem_output, sent = suite.hpke.setup_and_export(public, b"", EXPORT_LABEL, 32, seeded_random)
    assert suite.hpke.receive_and_export(private, kem_output, b"", EXPORT_LABEL, 32) == sent
    assert suite.hpke.receive_and_export(private, kem_output, b"", b"other", 32) != sent
    with pytest.raises(DecodeError):
        suite.hpke.receive_and_export(private, kem_output[:-1], b"", EXPORT_LABEL, 32)


@pytest.mark.bad_input(87)
def test_an_export_to_a_point_of_low_order_is_refused(seeded_random: Random):
    hpke = cipher_suite(1).hpke
    with pytest.raises(DecodeError, match="unusable"):
        hpke.setup_and_export(bytes(32), b"", EXPORT_LABEL, 32, seeded_random)
    with pytest.raises(DecodeError, match="unusable"):
        hpke.receive_and_export(seeded_random(32), bytes(32), b"", EXPORT_LABEL, 32)


@pytest.mark.rule("RFC 9420 §8")
def test_official_external_keys_follow_from_their_secrets():
    for case in vectors.cases("mls/key-schedule.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        for epoch in case["epochs"]:
            _, public = suite.derive_key_pair(bytes.fromhex(epoch["external_secret"]))
            assert public.hex() == epoch["external_pub"]


def test_hkdf_gives_the_first_values_of_rfc_5869():
    prk = hkdf_extract("sha256", bytes(range(13)), b"\x0b" * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    expanded = hkdf_expand("sha256", prk, bytes(range(0xF0, 0xFA)), 42)
    assert expanded.hex().startswith("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")
    assert len(expanded) == 42
    with pytest.raises(ValueError, match="so many"):
        hkdf_expand("sha256", prk, b"", 255 * 32 + 1)
