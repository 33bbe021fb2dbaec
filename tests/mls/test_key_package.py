"""Key packages and leaf nodes: every rule of RFC 9420 §7.3 and §10.1 that concerns them alone, by its refusal."""

import contextlib
import datetime
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from heliograph.mls.errors import MLSError, UnsupportedError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, ExtensionType, RequiredCapabilities
from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import (
    LAST_RESORT_LIFETIME_LIMIT_S,
    LIFETIME_LIMIT_S,
    MAX_LEAF_NODE_BYTES,
    Capabilities,
    Credential,
    LeafNode,
    LeafNodeSource,
    Lifetime,
    Needs,
    check_supported_extensions,
)
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests import vectors
from tests.mls import honest
from tests.mls.honest import DAY_S, NOW_S


@pytest.fixture(params=vectors.EVERY_SUITE)
def alice(request: pytest.FixtureRequest, seeded_random: Random) -> honest.Client:
    return honest.Client.named("alice", seeded_random, request.param)


def validate(client: honest.Client, package: KeyPackage, now_s: int = NOW_S) -> None:
    package.validate(client.suite, now_s)


def resigned(client: honest.Client, package: KeyPackage, **changes: object) -> KeyPackage:
    return replace(package, **changes).sign(client.suite, client.keys.private)


def with_leaf(client: honest.Client, change: Callable[[LeafNode], LeafNode]) -> KeyPackage:
    """Return a package whose leaf was changed and which is signed throughout."""
    package = client.bundle().key_package
    leaf = change(package.leaf_node).sign(client.suite, client.keys.private, b"group", LeafIndex(0))
    return resigned(client, package, leaf_node=leaf)


@pytest.mark.rule("RFC 9420 §10", "init-key-unique")
def test_a_new_key_package_is_valid_and_names_itself(alice: honest.Client):
    bundle = alice.bundle()
    validate(alice, bundle.key_package)
    assert KeyPackage.decode(bundle.key_package.encode()) == bundle.key_package
    assert len(bundle.key_package.reference(alice.suite)) == alice.suite.hash_length
    assert bundle.key_package.reference(alice.suite) != alice.bundle().key_package.reference(alice.suite)


def test_the_private_keys_of_a_bundle_open_what_is_sealed_to_its_package(alice: honest.Client):
    bundle, suite = alice.bundle(), alice.suite
    for private, public in (
        (bundle.init_private_key, bundle.key_package.init_key),
        (bundle.encryption_private_key, bundle.key_package.leaf_node.encryption_key),
    ):
        sealed = suite.encrypt_with_label(public, "Welcome", b"", b"hello")
        assert suite.decrypt_with_label(private, "Welcome", b"", sealed) == b"hello"


# --- lifetimes ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §7.3", "lifetime-received")
@pytest.mark.bad_input(83)
@pytest.mark.parametrize(
    ("lifetime", "fault"),
    [
        (Lifetime(NOW_S - 2 * DAY_S, NOW_S - 1), "has ended"),
        (Lifetime(NOW_S + 1, NOW_S + DAY_S), "not begun"),
        (Lifetime(NOW_S, NOW_S + LIFETIME_LIMIT_S + 1), "longer than the limit"),
        (Lifetime(NOW_S - DAY_S, NOW_S + 3650 * DAY_S), "longer than the limit"),
        (Lifetime(0, 2**64 - 1), "longer than the limit"),
        (Lifetime(NOW_S + 1, NOW_S), "ends before it begins"),
    ],
)
@pytest.mark.rule("RFC 9420 §7.2", "lifetime-limit")
@pytest.mark.rule("RFC 9420 §10.1", "leaf-valid")
def test_a_lifetime_must_have_begun_not_have_ended_and_be_short(alice: honest.Client, lifetime: Lifetime, fault: str):
    with pytest.raises(ValidationError, match=fault):
        validate(alice, alice.bundle(lifetime=lifetime).key_package)


def test_a_lifetime_includes_both_its_ends_and_the_whole_limit(alice: honest.Client):
    lifetime = Lifetime(NOW_S, NOW_S + LIFETIME_LIMIT_S)
    package = alice.bundle(lifetime=lifetime).key_package
    validate(alice, package, lifetime.not_before)
    validate(alice, package, lifetime.not_after)


def test_a_package_of_last_resort_may_live_longer_but_not_for_ever(alice: honest.Client):
    def last_resort(lifetime: Lifetime) -> KeyPackage:
        return alice.bundle(
            lifetime=lifetime,
            extensions=[Extension(ExtensionType.LAST_RESORT, b"")],
            capabilities=replace(honest.CAPABILITIES, extensions=(ExtensionType.LAST_RESORT,)),
        ).key_package

    longest = last_resort(Lifetime(NOW_S, NOW_S + LAST_RESORT_LIFETIME_LIMIT_S))
    assert longest.is_last_resort
    validate(alice, longest)
    with pytest.raises(ValidationError, match="longer than the limit"):
        validate(alice, last_resort(Lifetime(NOW_S, NOW_S + LAST_RESORT_LIFETIME_LIMIT_S + 1)))


def test_the_caller_may_set_another_limit(alice: honest.Client):
    package = alice.bundle().key_package
    package.validate(alice.suite, NOW_S, lifetime_limit_s=30 * DAY_S + 3600)
    with pytest.raises(ValidationError, match="longer than the limit"):
        package.validate(alice.suite, NOW_S, lifetime_limit_s=DAY_S)


# --- suite, version, keys -----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §10.1", "version-and-suite")
def test_a_package_for_another_suite_or_version_is_refused(alice: honest.Client):
    package = alice.bundle().key_package
    with pytest.raises(ValidationError, match="cipher suite"):
        validate(alice, resigned(alice, package, cipher_suite=4))
    with pytest.raises(ValidationError, match="protocol version"):
        validate(alice, resigned(alice, package, version=2))


@pytest.mark.rule("RFC 9420 §10.1", "init-key-differs")
@pytest.mark.bad_input(87)
@pytest.mark.rule("RFC 9420 §10", "init-key-of-suite")
@pytest.mark.rule("RFC 9420 §10", "leaf-keys-of-suite")
def test_the_init_key_is_a_key_of_its_own(alice: honest.Client):
    package = alice.bundle().key_package
    with pytest.raises(ValidationError, match="one key"):
        validate(alice, resigned(alice, package, init_key=package.leaf_node.encryption_key))
    for bad in (b"", bytes(32), bytes(65)):
        with pytest.raises(ValidationError, match="init_key"):
            validate(alice, resigned(alice, package, init_key=bad))
        with pytest.raises(ValidationError, match="encryption_key"):
            validate(alice, with_leaf(alice, lambda leaf, bad=bad: replace(leaf, encryption_key=bad)))


@pytest.mark.rule("RFC 9420 §10", "envelope-version")
def test_a_key_package_inside_an_envelope_of_another_version_is_refused(alice: honest.Client):
    package = replace(alice.bundle().key_package, version=2)
    with pytest.raises(MLSError, match="version"):
        MLSMessage.decode(b"\0\1\0\5" + package.encode())


# --- signatures ---------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §10.1", "signature")
@pytest.mark.bad_input(84)
@pytest.mark.rule("RFC 9420 §10", "signature")
def test_a_package_signed_by_someone_else_is_refused(alice: honest.Client, seeded_random: Random):
    mallory = honest.Client.named("mallory", seeded_random, alice.suite.id)
    package = alice.bundle().key_package
    with pytest.raises(VerificationError):
        validate(alice, package.sign(alice.suite, mallory.keys.private))
    leaf = package.leaf_node.sign(alice.suite, mallory.keys.private)
    with pytest.raises(VerificationError):
        validate(alice, resigned(alice, package, leaf_node=leaf))
    stolen = replace(package.leaf_node, signature_key=mallory.keys.public)
    with pytest.raises(VerificationError):
        validate(alice, resigned(mallory, package, leaf_node=stolen))


@pytest.mark.bad_input(63)
def test_every_flipped_byte_of_a_key_package_is_refused(seeded_random: Random):
    client = honest.Client.named("alice", seeded_random)
    data = client.bundle().key_package.encode()
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(MLSError):
            validate(client, KeyPackage.decode(flipped))


# --- the leaf -----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §7.3", "source-key-package")
@pytest.mark.rule("RFC 9420 §10", "leaf-source")
def test_the_leaf_of_a_key_package_says_that_it_is_one(alice: honest.Client):
    def from_update(leaf: LeafNode) -> LeafNode:
        return replace(leaf, leaf_node_source=LeafNodeSource.UPDATE, lifetime=None)

    def from_commit(leaf: LeafNode) -> LeafNode:
        return replace(leaf, leaf_node_source=LeafNodeSource.COMMIT, lifetime=None, parent_hash=b"")

    for change in (from_update, from_commit):
        with pytest.raises(ValidationError, match="leaf_node_source is not key_package"):
            validate(alice, with_leaf(alice, change))


@pytest.mark.rule("RFC 9420 §7.2")
@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"versions": ()}, "MLS 1.0"),
        ({"versions": (2,)}, "MLS 1.0"),
        ({"cipher_suites": (4, 0x0A0A)}, "cipher suite"),
        ({"credentials": ()}, "own credential type"),
        ({"credentials": (2,)}, "own credential type"),
    ],
)
@pytest.mark.rule("RFC 9420 §10.1", "leaf-valid")
def test_a_leaf_supports_what_it_uses(alice: honest.Client, changes: dict[str, tuple[int, ...]], fault: str):
    capabilities = replace(honest.CAPABILITIES, **changes)
    with pytest.raises(ValidationError, match=fault):
        validate(alice, alice.bundle(capabilities=capabilities).key_package)


@pytest.mark.rule("RFC 9420 §7.3", "own-extensions-listed")
@pytest.mark.rule("RFC 9420 §10", "extensions-listed")
def test_extensions_must_be_listed_in_the_capabilities(alice: honest.Client):
    unlisted = [Extension(0xF001, b"")]
    with pytest.raises(ValidationError, match="do not list"):
        validate(alice, alice.bundle(leaf_extensions=unlisted).key_package)
    with pytest.raises(ValidationError, match="do not list"):
        validate(alice, alice.bundle(extensions=unlisted).key_package)
    listed = replace(honest.CAPABILITIES, extensions=(0xF001,))
    validate(
        alice,
        alice.bundle(leaf_extensions=unlisted, extensions=unlisted, capabilities=listed).key_package,
    )


@pytest.mark.rule("RFC 9420 §7.2")
def test_default_extensions_need_not_be_listed(alice: honest.Client):
    extensions = [Extension(ExtensionType.APPLICATION_ID, b"\2id")]
    validate(alice, alice.bundle(leaf_extensions=extensions).key_package)


@pytest.mark.rule("RFC 9420 §13.4")
def test_a_list_of_extensions_has_no_type_twice(alice: honest.Client):
    twice = [Extension(ExtensionType.APPLICATION_ID, b"")] * 2
    with pytest.raises(ValidationError, match="same type"):
        validate(alice, alice.bundle(leaf_extensions=twice).key_package)
    with pytest.raises(ValidationError, match="same type"):
        validate(alice, alice.bundle(extensions=twice).key_package)


@pytest.mark.rule("RFC 9420 §7.2")
def test_a_leaf_made_in_a_group_is_signed_for_that_group_and_place(alice: honest.Client):
    leaf = alice.update(3)
    leaf.verify_signature(alice.suite, honest.GROUP_ID, LeafIndex(3))
    for group_id, index in ((b"another group", 3), (honest.GROUP_ID, 2)):
        with pytest.raises(VerificationError):
            leaf.verify_signature(alice.suite, group_id, LeafIndex(index))
    with pytest.raises(ValueError, match="leaf_index"):
        leaf.verify_signature(alice.suite)


@pytest.mark.rule("RFC 9420 §11.1")
@pytest.mark.parametrize(
    ("required", "fault"),
    [
        (RequiredCapabilities(extension_types=(0xF001,)), "extension"),
        (RequiredCapabilities(proposal_types=(0xF001,)), "proposal"),
        (RequiredCapabilities(credential_types=(2,)), "credential"),
    ],
)
def test_required_capabilities_must_be_listed_unless_default(required: RequiredCapabilities, fault: str):
    Capabilities().check_required(Needs.of(RequiredCapabilities((1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7), (1,))))
    with pytest.raises(ValidationError, match=fault):
        Capabilities().check_required(Needs.of(required))


@pytest.mark.bad_input(76)
@pytest.mark.parametrize(
    "changes",
    [
        {"credential": Credential.basic(bytes(MAX_LEAF_NODE_BYTES))},
        {"capabilities": Capabilities(extensions=tuple(range(9000)))},
        {"extensions": (Extension(1, bytes(MAX_LEAF_NODE_BYTES)),)},
    ],
)
def test_a_leaf_has_a_largest_size(changes: dict[str, Any], alice: honest.Client):
    leaf = alice.bundle().key_package.leaf_node
    with pytest.raises(ValidationError, match="larger than it may"):
        replace(leaf, **changes).validate(alice.suite)


@pytest.mark.rule("RFC 9420 §11.1")
def test_long_lists_of_capabilities_meet_long_requirements_in_good_time():
    # One by one, 60 000 against 60 000 would take minutes, at every member and at the server.
    listed = tuple(range(5000, 65000))
    able = Capabilities(extensions=listed, proposals=listed)
    started = time.process_time()
    able.check_required(Needs.of(RequiredCapabilities(listed[-1:] * 60_000, listed[-1:] * 60_000)))
    check_supported_extensions([Extension(number, b"") for number in reversed(listed)], able)
    assert time.process_time() - started < 1


# --- certificates -------------------------------------------------------------------------------------------------


def certificate(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365))
    )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


@pytest.mark.rule("RFC 9420 §5.3", "certificate-key")
def test_a_certificate_must_hold_the_key_that_the_leaf_signs_with():
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
    Credential.x509((certificate(key), b"issuer")).check_key(key.public_key().public_bytes_raw())
    curve_key = ec.derive_private_key(12345, ec.SECP256R1())
    point = curve_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    Credential.x509((certificate(curve_key),)).check_key(point)
    with pytest.raises(ValidationError, match="another key"):
        Credential.x509((certificate(key),)).check_key(bytes(32))


@pytest.mark.rule("RFC 9420 §5.3")
def test_a_chain_without_a_readable_certificate_is_refused():
    with pytest.raises(ValidationError, match="no certificate"):
        Credential.x509(()).check_key(b"")
    with pytest.raises(ValidationError, match="cannot be read"):
        Credential.x509((b"not DER",)).check_key(b"")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(ValidationError, match="does not use"):
        Credential.x509((certificate(key),)).check_key(b"")


@pytest.mark.rule("RFC 9420 §5.3")
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_flipped_bit_of_a_certificate_is_refused_or_read_but_never_crashes():
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
    der = certificate(key)
    for bit in range(8 * len(der)):
        spoiled = bytearray(der)
        spoiled[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValidationError):
            Credential.x509((bytes(spoiled),)).check_key(key.public_key().public_bytes_raw())


def test_a_basic_credential_claims_no_key():
    Credential.basic(b"alice").check_key(b"any")
    with pytest.raises(UnsupportedError):
        _ = Credential.basic(b"alice").certificates


def test_a_key_package_with_a_certificate_is_valid_where_its_type_is_supported(seeded_random: Random):
    suite = cipher_suite(1)
    keys = suite.generate_signature_key(seeded_random)
    der = certificate(ed25519.Ed25519PrivateKey.from_private_bytes(keys.private))
    client = honest.Client(suite, Credential.x509((der,)), keys, seeded_random)
    validate(client, client.bundle(capabilities=Capabilities(credentials=(2,))).key_package)


@pytest.mark.rule("RFC 9420 §5.3", "certificate-key")
@pytest.mark.rule("RFC 9420 §10.1", "leaf-valid")
def test_a_key_package_with_a_certificate_for_another_key_is_refused(seeded_random: Random):
    suite = cipher_suite(1)
    keys, others = (suite.generate_signature_key(seeded_random) for _ in range(2))

    def package(certified: bytes) -> KeyPackage:
        der = certificate(ed25519.Ed25519PrivateKey.from_private_bytes(certified))
        client = honest.Client(suite, Credential.x509((der,)), keys, seeded_random)
        return client.bundle(capabilities=Capabilities(credentials=(2,))).key_package

    with pytest.raises(ValidationError, match="another key"):
        package(others.private).validate(suite, NOW_S)
    package(keys.private).validate(suite, NOW_S)
