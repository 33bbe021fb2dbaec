"""The structures of the protocol: one encoding each, unknown numbers carried, malformed bytes refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heliograph.mls.codec import Struct
from heliograph.mls.commit import Commit
from heliograph.mls.errors import DecodeError, MLSError, UnsupportedError, ValidationError, VerificationError
from heliograph.mls.extension import (
    ApplicationId,
    Extension,
    ExtensionType,
    ExternalPub,
    ExternalSender,
    ExternalSenders,
    RequiredCapabilities,
    check_unique,
    find,
)
from heliograph.mls.framing import (
    AuthenticatedContent,
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PrivateMessageContent,
    PublicMessage,
    Sender,
    SenderData,
    SenderType,
    WireFormat,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo, GroupSecrets, Welcome
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import Credential, LeafNode
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyProposal,
    ProposalOrRef,
    ReInit,
    Remove,
    UnknownProposal,
    Update,
    decode_proposal,
    encode_proposal,
)
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import HPKECiphertext, Random, Secret, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests import vectors
from tests.mls import honest

STRUCTS: dict[str, type[Struct]] = {
    "mls_welcome": MLSMessage,
    "mls_group_info": MLSMessage,
    "mls_key_package": MLSMessage,
    "ratchet_tree": RatchetTree,
    "group_secrets": GroupSecrets,
    "add_proposal": Add,
    "update_proposal": Update,
    "remove_proposal": Remove,
    "pre_shared_key_proposal": PreSharedKeyProposal,
    "re_init_proposal": ReInit,
    "external_init_proposal": ExternalInit,
    "group_context_extensions_proposal": GroupContextExtensions,
    "commit": Commit,
    "public_message_application": MLSMessage,
    "public_message_proposal": MLSMessage,
    "public_message_commit": MLSMessage,
    "private_message": MLSMessage,
}


def test_official_messages_round_trip():
    for case in vectors.cases("mls/messages.json"):
        assert case.keys() == STRUCTS.keys()
        for name, value in case.items():
            data = bytes.fromhex(value)
            assert STRUCTS[name].decode(data).encode() == data, name


def official_message(name: str) -> bytes:
    return bytes.fromhex(vectors.load("mls/messages.json")[0][name])


# --- malformed bytes ----------------------------------------------------------------------------------------------


@pytest.mark.bad_input(62)
@pytest.mark.parametrize("name", STRUCTS)
def test_every_truncation_of_every_structure_is_refused(name: str):
    data = official_message(name)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            STRUCTS[name].decode(data[:length])


@pytest.mark.bad_input(64)
@pytest.mark.parametrize("name", STRUCTS)
@pytest.mark.rule("hostile input", "trailing-bytes")
def test_a_trailing_byte_after_any_structure_is_refused(name: str):
    with pytest.raises(DecodeError, match="trailing"):
        STRUCTS[name].decode(official_message(name) + b"\0")


@pytest.mark.bad_input(63)
@pytest.mark.parametrize("name", STRUCTS)
def test_a_flipped_byte_is_refused_or_decodes_to_exactly_those_bytes(name: str):
    data = official_message(name)
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        try:
            decoded = STRUCTS[name].decode(flipped)
        except MLSError:
            continue
        assert decoded.encode() == flipped


@pytest.mark.bad_input(61)
def test_no_bytes_are_no_message():
    with pytest.raises(DecodeError):
        MLSMessage.decode(b"")


@pytest.mark.bad_input(66)
def test_another_version_or_an_unknown_wire_format_is_refused():
    body = official_message("private_message")[4:]
    for version in (b"\0\0", b"\0\2", b"\xff\xff"):
        with pytest.raises(UnsupportedError, match="version"):
            MLSMessage.decode(version + b"\0\2" + body)
    for wire_format in (b"\0\0", b"\0\6", b"\x0a\x0a"):
        with pytest.raises(DecodeError, match="WireFormat"):
            MLSMessage.decode(b"\0\1" + wire_format + body)


def test_random_bytes_never_raise_anything_but_an_mls_error(seeded_random: Random):
    for wire_format in range(1, 6):
        for length in range(0, 200, 7):
            with pytest.raises(MLSError):
                MLSMessage.decode(b"\0\1" + wire_format.to_bytes(2) + seeded_random(length) + b"\xff")


# --- unknown numbers ----------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §13.2")
def test_an_unknown_proposal_is_carried_as_it_came():
    data = b"\x7a\x7a\x05hello"
    assert decode_proposal(data) == UnknownProposal(0x7A7A, b"hello")
    assert encode_proposal(UnknownProposal(0x7A7A, b"hello")) == data
    listed = ProposalOrRef(proposal=UnknownProposal(0x7A7A, b"hello"))
    assert ProposalOrRef.decode(listed.encode()) == listed
    with pytest.raises(DecodeError, match="with its type"):
        UnknownProposal.decode(data)


@pytest.mark.rule("RFC 9420 §13.4")
@pytest.mark.rule("RFC 9420 §13.5")
@pytest.mark.rule("RFC 9420 §10", "unknown-ignored")
@pytest.mark.rule("RFC 9420 §7.2", "unknown-ignored")
@pytest.mark.rule("RFC 9420 §13.4", "unknown-ignored")
@pytest.mark.rule("RFC 9420 §13.5", "ignored")
def test_unknown_extensions_and_capabilities_of_a_key_package_are_ignored(seeded_random: Random):
    grease = (0x0A0A, 0x1A1A)
    capabilities = replace(
        honest.CAPABILITIES,
        cipher_suites=(1, *grease),
        extensions=grease,
        proposals=grease,
        credentials=(1, *grease),
    )
    alice = honest.Client.named("alice", seeded_random)
    package = alice.bundle(
        capabilities=capabilities,
        extensions=[Extension(0x0A0A, b"x")],
        leaf_extensions=[Extension(0x1A1A, b"y")],
    ).key_package
    KeyPackage.decode(package.encode()).validate(alice.suite, honest.NOW_S)


@pytest.mark.rule("RFC 9420 §13.3")
def test_an_unknown_credential_is_carried_and_only_its_meaning_is_refused():
    credential = Credential(0x4A4A, b"opaque")
    assert Credential.decode(credential.encode()) == credential
    with pytest.raises(UnsupportedError):
        _ = credential.identity
    with pytest.raises(UnsupportedError):
        _ = credential.certificates


@pytest.mark.rule("RFC 9420 §5.3")
def test_credentials_of_both_kinds_round_trip():
    basic = Credential.decode(Credential.basic(b"alice").encode())
    assert basic.identity == b"alice"
    chain = (b"end entity", b"issuer")
    assert Credential.decode(Credential.x509(chain).encode()).certificates == chain
    with pytest.raises(DecodeError):
        Credential.decode(Credential(2, b"\x05abc").encode())


@pytest.mark.rule("RFC 9420 §13.4")
def test_a_list_has_no_type_of_extension_twice():
    check_unique([Extension(1, b""), Extension(2, b"")])
    with pytest.raises(ValidationError, match="same type"):
        check_unique([Extension(1, b""), Extension(1, b"x")])


# --- typed extensions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        ApplicationId(b"id"),
        RequiredCapabilities((7,), (8,), (1, 2)),
        ExternalPub(b"key"),
        ExternalSenders((ExternalSender(b"key", Credential.basic(b"hub")),)),
    ],
)
def test_typed_extensions_round_trip(value: Struct):
    assert type(value).decode(value.encode()) == value


@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
def test_external_pub_is_written_with_its_length():
    assert ExternalPub(b"key").encode() == b"\x03key"
    with pytest.raises(DecodeError):
        ExternalPub.of([Extension(ExtensionType.EXTERNAL_PUB, b"key")])


def test_extensions_are_found_by_type():
    required = RequiredCapabilities(extension_types=(6,))
    extensions = [Extension(0x0A0A, b""), required.to_extension()]
    assert RequiredCapabilities.of(extensions) == required
    assert find(extensions, 0x0A0A) == b""
    assert ExternalSenders.of(extensions) is None


# --- senders and framing ------------------------------------------------------------------------------------------

CONTEXT = GroupContext(1, 1, b"group", 4, b"t" * 32, b"c" * 32)
SUITE = cipher_suite(1)


@pytest.mark.rule("RFC 9420 §6.1")
@pytest.mark.rule("RFC 9420 §12.1.8", "types")
@pytest.mark.parametrize(
    ("sender", "content"),
    [
        (Sender(SenderType.NEW_MEMBER_COMMIT), b"data"),
        (Sender(SenderType.NEW_MEMBER_COMMIT), Remove(LeafIndex(0))),
        (Sender(SenderType.NEW_MEMBER_PROPOSAL), Remove(LeafIndex(0))),
        (Sender(SenderType.NEW_MEMBER_PROPOSAL), Commit(())),
        (Sender.external(0), b"data"),
        (Sender.external(0), Commit(())),
        (Sender.external(0), ExternalInit(b"")),
        (Sender.external(0), UnknownProposal(0x7A7A, b"")),
    ],
)
@pytest.mark.rule("RFC 9420 §6.1", "external-sends-proposals")
def test_a_kind_of_sender_sends_only_what_it_may(sender: Sender, content: Any):
    with pytest.raises(ValidationError):
        FramedContent(b"group", 4, sender, b"", content).check_sender()


def test_a_kind_of_sender_may_send_what_the_rfc_gives_it():
    for sender, content in (
        (Sender.member(LeafIndex(0)), b"data"),
        (Sender(SenderType.NEW_MEMBER_COMMIT), Commit(())),
        (Sender.external(0), Remove(LeafIndex(0))),
        (Sender.external(0), ReInit(b"", 1, 1)),
    ):
        FramedContent(b"group", 4, sender, b"", content).check_sender()


@pytest.fixture
def alice(seeded_random: Random) -> honest.Client:
    return honest.Client.named("alice", seeded_random)


def signed_by(client: honest.Client, sender: Sender, content: Any = b"data") -> AuthenticatedContent:
    framed = FramedContent(b"group", 4, sender, b"aad", content)
    return framed.sign(SUITE, client.keys.private, WireFormat.PUBLIC_MESSAGE, CONTEXT)


def test_content_that_was_read_and_then_changed_is_encoded_anew():
    written = FramedContent(b"group", 1, Sender.member(LeafIndex(0)), b"", Remove(LeafIndex(2)))
    read = FramedContent.decode(written.encode())
    assert (read, hash(read), read.encode()) == (written, hash(written), written.encode())
    for changes in ({"epoch": 2}, {"content": Remove(LeafIndex(3))}, {"group_id": b"another"}):
        changed = replace(read, **changes)
        assert changed.encode() == replace(written, **changes).encode() != read.encode()


@pytest.mark.rule("RFC 9420 §6.1")
def test_a_members_signature_covers_content_wire_format_and_group_context(alice: honest.Client):
    message = signed_by(alice, Sender.member(LeafIndex(0)))
    key = alice.keys.public
    message.verify_signature(SUITE, key, CONTEXT)
    for changed, context in (
        (replace(message, content=replace(message.content, content=b"other")), CONTEXT),
        (replace(message, content=replace(message.content, authenticated_data=b"")), CONTEXT),
        (replace(message, content=replace(message.content, epoch=5)), CONTEXT),
        (replace(message, wire_format=WireFormat.PRIVATE_MESSAGE), CONTEXT),
        (message, replace(CONTEXT, tree_hash=b"u" * 32)),
    ):
        with pytest.raises(VerificationError):
            changed.verify_signature(SUITE, key, context)


@pytest.mark.rule("RFC 9420 §6.1")
def test_an_outsiders_signature_does_not_cover_the_group_context(alice: honest.Client):
    message = signed_by(alice, Sender.external(0), Remove(LeafIndex(0)))
    message.verify_signature(SUITE, alice.keys.public, None)
    with pytest.raises(ValueError, match="group context"):
        signed_by(alice, Sender.member(LeafIndex(0))).verify_signature(SUITE, alice.keys.public, None)


@pytest.mark.rule("RFC 9420 §6.2")
def test_a_membership_tag_covers_content_and_authentication(alice: honest.Client):
    key = b"membership key"
    message = signed_by(alice, Sender.member(LeafIndex(0))).to_public_message(SUITE, key, CONTEXT)
    message.verify_membership_tag(SUITE, key, CONTEXT)
    flipped = replace(message, auth=replace(message.auth, signature=bytes(64)))
    for changed, other_key in ((message, b"other key"), (flipped, key)):
        with pytest.raises(VerificationError, match="MAC"):
            changed.verify_membership_tag(SUITE, other_key, CONTEXT)
    with pytest.raises(VerificationError, match="MAC"):
        replace(message, membership_tag=b"").verify_membership_tag(SUITE, key, CONTEXT)


@pytest.mark.rule("RFC 9420 §6.2")
def test_an_outsiders_message_has_no_membership_tag(alice: honest.Client):
    message = signed_by(alice, Sender.external(0), Remove(LeafIndex(0)))
    public = message.to_public_message(SUITE, None, CONTEXT)
    assert public.membership_tag is None
    assert PublicMessage.decode(public.encode()) == public


@pytest.mark.rule("RFC 9420 §5.2")
def test_a_proposal_reference_changes_with_every_part_of_its_message(alice: honest.Client):
    message = signed_by(alice, Sender.member(LeafIndex(0)), Remove(LeafIndex(1)))
    reference = message.proposal_reference(SUITE)
    assert len(reference) == 32
    assert replace(message, auth=replace(message.auth, signature=b"")).proposal_reference(SUITE) != reference


@pytest.mark.rule("RFC 9420 §6.3.1")
def test_padding_is_zeros_and_nothing_else():
    content = PrivateMessageContent(b"hello", signed_by_nobody().auth)
    padded = content.encode(ContentType.APPLICATION, padding_bytes=100)
    assert PrivateMessageContent.decode(padded, ContentType.APPLICATION) == content
    with pytest.raises(DecodeError, match="padding"):
        PrivateMessageContent.decode(padded[:-1] + b"\1", ContentType.APPLICATION)


def signed_by_nobody() -> AuthenticatedContent:
    return AuthenticatedContent.decode(
        b"\0\1" + FramedContent(b"group", 4, Sender.member(LeafIndex(0)), b"", b"hello").encode() + b"\x03sig"
    )


def test_the_additional_data_of_a_private_message_are_its_first_fields():
    message = PrivateMessage(b"group", 4, ContentType.COMMIT, b"aad", b"sender", b"ciphertext")
    assert message.encode().startswith(message.content_aad())
    assert message.content_aad().startswith(message.sender_data_aad())
    sender_data = SenderData(LeafIndex(3), 7, b"\1\2\3\4")
    assert SenderData.decode(sender_data.encode()) == sender_data


# --- secrets do not show ------------------------------------------------------------------------------------------


def test_structures_with_secrets_print_none(seeded_random: Random):
    secrets = GroupSecrets(Secret(b"joiner secret!"))
    bundle = honest.Client.named("alice", seeded_random).bundle()
    assert "joiner" not in repr(secrets)
    assert repr(bundle.init_private_key) == "<32 secret bytes>"
    assert "init_private_key" not in repr(bundle)


# --- GroupInfo ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3.1", "signature")
def test_a_group_info_is_verified_with_the_leaf_at_its_signer_index(seeded_random: Random):
    members = honest.clients(3, seeded_random)
    tree = honest.tree_of(members)
    info = honest.group_info(members[1], 1, honest.context_of(SUITE, tree))
    info.verify_signature(SUITE, tree)
    with pytest.raises(VerificationError):
        honest.group_info(members[1], 2, info.group_context).verify_signature(SUITE, tree)
    with pytest.raises(VerificationError):
        replace(info, signer=LeafIndex(2)).verify_signature(SUITE, tree)
    for signer in (3, 4, 2**32 - 1):
        with pytest.raises(ValidationError, match="blank"):
            honest.group_info(members[1], signer, info.group_context).verify_signature(SUITE, tree)


@pytest.mark.bad_input(63)
def test_every_flipped_byte_of_a_group_info_is_refused(seeded_random: Random):
    members = honest.clients(2, seeded_random)
    tree = honest.tree_of(members)
    data = honest.group_info(members[1], 1, honest.context_of(SUITE, tree)).encode()
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(MLSError):
            GroupInfo.decode(flipped).verify_signature(SUITE, tree)


# --- a field that must be there ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: ProposalOrRef().encode(),
        lambda: Sender(SenderType.MEMBER).encode(),
        lambda: Sender(SenderType.EXTERNAL).encode(),
        lambda: replace(leaf(), lifetime=None).encode(),
    ],
)
def test_an_incomplete_structure_cannot_be_written(spoil: Callable[[], bytes]):
    with pytest.raises(ValueError, match=r"need|absent"):
        spoil()


def leaf() -> LeafNode:
    return honest.Client.named("alice", lambda length: b"\1" * length).bundle().key_package.leaf_node


def test_a_welcome_for_many_keeps_their_order():
    welcome = Welcome(1, (), b"sealed")
    assert Welcome.decode(welcome.encode()) == welcome
    assert HPKECiphertext.decode(HPKECiphertext(b"a", b"b").encode()) == HPKECiphertext(b"a", b"b")
