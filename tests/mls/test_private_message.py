"""PrivateMessage: what members seal for each other, padded, and openable once."""

from dataclasses import replace
from typing import Any

import pytest

from heliograph.mls import private_message
from heliograph.mls.codec import Reader
from heliograph.mls.errors import DecodeError, StateError, VerificationError
from heliograph.mls.framing import (
    AuthenticatedContent,
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
    read_content,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.private_message import MIN_PADDED_BYTES, open_content, open_sender_data, padme_bytes, seal
from heliograph.mls.secret_tree import SecretTree
from heliograph.mls.suite import CipherSuite, Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests import vectors

SUITE = cipher_suite(1)
SENDER_DATA_SECRET = b"\x07" * 32
SENDER = LeafIndex(1)
CONTEXT = GroupContext(1, 1, b"group", 4, b"t" * 32, b"c" * 32)


@pytest.fixture
def key_pair(seeded_random: Random):
    return SUITE.generate_signature_key(seeded_random)


def tree() -> SecretTree:
    return SecretTree.create(SUITE, 4, 2, b"\x2a" * 32)


def signed(private: bytes, data: bytes = b"hello") -> AuthenticatedContent:
    content = FramedContent(b"group", 4, Sender.member(SENDER), b"aad", data)
    return content.sign(SUITE, private, WireFormat.PRIVATE_MESSAGE, CONTEXT)


def sealed(private: bytes, random: Random, data: bytes = b"hello") -> PrivateMessage:
    _, message = seal(SUITE, tree(), SENDER_DATA_SECRET, signed(private, data), random=random)
    return message


def opened(message: PrivateMessage, secret_tree: SecretTree | None = None):
    sender_data = open_sender_data(SUITE, SENDER_DATA_SECRET, message)
    return open_content(SUITE, secret_tree or tree(), sender_data, message)


# --- the official vectors -----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §6.2")
@pytest.mark.rule("RFC 9420 §6.3")
def test_messages_of_the_vectors_open_and_verify_and_ours_do_too(seeded_random: Random):
    for case in vectors.cases("mls/message-protection.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        context = GroupContext(
            version=1,
            cipher_suite=suite.id,
            group_id=bytes.fromhex(case["group_id"]),
            epoch=case["epoch"],
            tree_hash=bytes.fromhex(case["tree_hash"]),
            confirmed_transcript_hash=bytes.fromhex(case["confirmed_transcript_hash"]),
        )
        for name in ("proposal", "commit", "application"):
            raw = bytes.fromhex(case[name])
            content_type = ContentType[name.upper()]
            want = raw if name == "application" else read_content(Reader(raw), content_type)
            assert opened_vector(suite, context, case, bytes.fromhex(case[f"{name}_priv"])) == want
            if name != "application":
                assert verified_vector(suite, context, case, bytes.fromhex(case[f"{name}_pub"])) == want
            ours = FramedContent(context.group_id, context.epoch, Sender.member(SENDER), b"", want)
            tag = b"tag" if name == "commit" else None
            authenticated = ours.sign(
                suite, vectors.private_key(case, "signature_priv"), WireFormat.PRIVATE_MESSAGE, context, tag
            )
            _, message = seal(
                suite,
                vector_tree(suite, case),
                bytes.fromhex(case["sender_data_secret"]),
                authenticated,
                random=seeded_random,
            )
            assert opened_vector(suite, context, case, MLSMessage(message).encode()) == want


def vector_tree(suite: CipherSuite, case: dict[str, Any]) -> SecretTree:
    return SecretTree.create(suite, case["epoch"], 2, bytes.fromhex(case["encryption_secret"]))


def opened_vector(suite: CipherSuite, context: GroupContext, case: dict[str, Any], data: bytes):
    message = MLSMessage.decode(data).body
    assert isinstance(message, PrivateMessage)
    sender_data = open_sender_data(suite, bytes.fromhex(case["sender_data_secret"]), message)
    _, content = open_content(suite, vector_tree(suite, case), sender_data, message)
    content.authenticated_content.verify_signature(suite, bytes.fromhex(case["signature_pub"]), context)
    assert content.leaf_index == SENDER
    return content.authenticated_content.content.content


def verified_vector(suite: CipherSuite, context: GroupContext, case: dict[str, Any], data: bytes):
    message = MLSMessage.decode(data).body
    assert isinstance(message, PublicMessage)
    message.verify_membership_tag(suite, bytes.fromhex(case["membership_key"]), context)
    message.authenticated_content().verify_signature(suite, bytes.fromhex(case["signature_pub"]), context)
    return message.content.content


# --- the rules ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §9.2")
def test_a_message_opens_once(key_pair: Any, seeded_random: Random):
    message = sealed(key_pair.private, seeded_random)
    used, _ = opened(message)
    with pytest.raises(StateError):
        opened(message, used)


@pytest.mark.rule("RFC 9420 §6.3.1")
def test_a_repeated_generation_does_not_repeat_a_ciphertext(key_pair: Any, seeded_random: Random):
    first = sealed(key_pair.private, seeded_random)
    again = sealed(key_pair.private, seeded_random)
    assert first.ciphertext != again.ciphertext


@pytest.mark.rule("RFC 9420 §6.3.1")
@pytest.mark.parametrize("field", ["group_id", "authenticated_data", "encrypted_sender_data", "ciphertext"])
def test_a_changed_field_does_not_open(field: str, key_pair: Any, seeded_random: Random):
    message = sealed(key_pair.private, seeded_random)
    value = getattr(message, field)
    changed = replace(message, **{field: value[:-1] + bytes((value[-1] ^ 1,))})
    with pytest.raises(VerificationError):
        opened(changed)


@pytest.mark.rule("RFC 9420 §6.3.1")
def test_content_sealed_as_application_data_does_not_open_as_a_proposal(key_pair: Any, seeded_random: Random):
    message = replace(sealed(key_pair.private, seeded_random), content_type=ContentType.PROPOSAL)
    with pytest.raises(VerificationError):
        opened(message)


@pytest.mark.rule("RFC 9420 §6.3.1")
def test_padding_that_is_not_zero_is_refused(key_pair: Any):
    plaintext = private_message.PrivateMessageContent(b"x", signed(key_pair.private).auth).encode(
        ContentType.APPLICATION, 8
    )
    with pytest.raises(DecodeError):
        private_message.PrivateMessageContent.decode(plaintext[:-1] + b"\1", ContentType.APPLICATION)


@pytest.mark.rule("RFC 9420 §6.1")
def test_content_signed_for_a_public_message_is_not_sealed(key_pair: Any, seeded_random: Random):
    message = replace(signed(key_pair.private), wire_format=WireFormat.PUBLIC_MESSAGE)
    with pytest.raises(VerificationError):
        seal(SUITE, tree(), SENDER_DATA_SECRET, message, random=seeded_random)


@pytest.mark.rule("RFC 9420 §15.1")
def test_short_messages_have_one_length(key_pair: Any, seeded_random: Random):
    lengths = {len(sealed(key_pair.private, seeded_random, b"x" * size).ciphertext) for size in (0, 1, 50, 180)}
    assert lengths == {MIN_PADDED_BYTES + 16}


@pytest.mark.parametrize(
    ("length_bytes", "padded_bytes"),
    [(0, 256), (256, 256), (257, 272), (272, 272), (1000, 1024), (1025, 1088), (9, 256), (1 << 20, 1 << 20)],
)
def test_padme_rounds_up_to_few_lengths(length_bytes: int, padded_bytes: int):
    assert padme_bytes(length_bytes) == padded_bytes


@pytest.mark.rule("RFC 9420 §15.1")
def test_padme_adds_at_most_an_eighth():
    assert all(n <= padme_bytes(n) <= n * 1.125 for n in range(256, 20000))
