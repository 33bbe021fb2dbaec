"""Everything in `heliograph.mls` that reads bytes which others made, each as a function of bytes that must not fail.

A `Target` runs one decoder, or one act of a member, newcomer or server, on any bytes and holds it to its promise
(`oracle`). Structures are found by walking the modules, so that a new one has its target at once. The other targets are
written out below; `tests/mls/test_fuzz.py` fails when there is a reader that neither covers.

The same functions run under atheris, which seeks new paths (`python3 dev.py fuzz`), and in every test run, by a short
list of changes that is always the same (`mutate`).
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import isabstract

import heliograph.mls
from heliograph.mls import key_schedule, private_message
from heliograph.mls import suite as suites
from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.commit import Commit
from heliograph.mls.credential import Credential
from heliograph.mls.errors import (
    DecodeError,
    MLSError,
    StateError,
    UnsupportedError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.framing import (
    ContentType,
    FramedContentAuthData,
    MLSMessage,
    PrivateMessage,
    PrivateMessageContent,
    SenderData,
)
from heliograph.mls.group import Group
from heliograph.mls.group_info import EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome
from heliograph.mls.proposal import decode_proposal, encode_proposal
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.saved_row import closed, content_of
from heliograph.mls.sealed_secrets import read_sealed_secrets
from heliograph.mls.suite import HPKECiphertext, cipher_suite
from tests.mls.company import NOW_S
from tests.mls.forge import Forger
from tests.mls.fuzz import seeds
from tests.mls.fuzz.genuine import scene
from tests.mls.fuzz.oracle import check_struct, hold

# All that are implemented.
SUITES = tuple(sorted(suites._SUITES))

Seeds = Callable[[], Sequence[bytes]]


@dataclass(frozen=True)
class Target:
    """Something that reads bytes: `run` returns whether it took them, and raises when it breaks its promise."""

    name: str
    run: Callable[[bytes], bool]
    seeds: Seeds


@cache
def targets() -> dict[str, Target]:
    """Return all targets by name."""
    found = [*map(_of_struct, struct_kinds()), *_written_out()]
    return {target.name: target for target in found}


def struct_kinds() -> list[type[Struct]]:
    """Return every structure of the library."""
    found = {
        thing
        for module in mls_modules()
        for thing in vars(importlib.import_module(module)).values()
        if isinstance(thing, type) and issubclass(thing, Struct) and not isabstract(thing)
    }
    return sorted(found, key=lambda kind: kind.__name__)


def mls_modules() -> Iterator[str]:
    """Return the names of the library's modules."""
    return (f"heliograph.mls.{module.name}" for module in pkgutil.iter_modules(heliograph.mls.__path__))


def _of_struct(kind: type[Struct]) -> Target:
    return Target(kind.__name__, lambda data: check_struct(kind, data), lambda: seeds.seeds_of(kind))


def _written_out() -> list[Target]:
    return [
        Target(
            "varint", varint, lambda: [bytes([1]), b"\x40\x40", b"\x7f\xff\0", b"\x80\0\x40\0", b"\xbf" + b"\xff" * 3]
        ),
        Target("Proposal", proposal, seeds.proposals),
        Target(
            "sealed_secrets",
            sealed_secrets,
            lambda: [_vector(b"\2ab\1c" * 3), _vector(b"\0\0"), _vector(b"\1a\0\0\1b")],
        ),
        Target("FramedContentAuthData", auth_data, lambda: [b"\1\1s", b"\3\1s\1t"]),
        Target("PrivateMessageContent", private_content, lambda: [b"\1\4data\1s\0\0", *_sealed_seeds()]),
        Target("certificate", certificate, lambda: [seeds.certificate()]),
        Target("keys_and_ciphertexts", keys_and_ciphertexts, _key_seeds),
        Target("saved_rows", saved_rows, _row_seeds),
        Target("member_receives", member_receives, seeds.messages),
        Target("member_receives_signed_commit", member_receives_signed_commit, lambda: seeds.seeds_of(Commit)),
        Target("member_receives_signed_proposal", member_receives_signed_proposal, seeds.proposals),
        Target("member_receives_sealed_content", member_receives_sealed_content, _sealed_seeds),
        Target("server_receives", server_receives, seeds.messages),
        Target("server_opens_group", server_opens_group, _group_seeds),
        Target("newcomer_joins", newcomer_joins, _welcome_seeds),
        Target("newcomer_opens_group_secrets", newcomer_opens_group_secrets, lambda: seeds.seeds_of(GroupSecrets)),
        Target("outsider_joins", outsider_joins, lambda: [scene().info]),
    ]


# --- readers that are no structures -----------------------------------------------------------------------------------


def varint(data: bytes) -> bool:
    """Read length headers to the end; each must be the one encoding of its value."""
    reader, writer = Reader(data), Writer()
    try:
        while reader.position < len(data):
            writer.varint(reader.varint())
    except DecodeError:
        return False
    hold(writer.getvalue() == data, "a length header has a second encoding")
    return True


def proposal(data: bytes) -> bool:
    """Read a proposal with its type."""
    try:
        value = decode_proposal(data)
    except DecodeError:
        return False
    hold(encode_proposal(value) == data, "a proposal has a second encoding")
    return True


def sealed_secrets(data: bytes) -> bool:
    """Read ciphertexts as a table, and hold that this is the same as reading them one by one."""

    def outcome(read: Callable[[Reader], Sequence[HPKECiphertext]]) -> tuple[HPKECiphertext, ...] | None:
        reader = Reader(data)
        try:
            found = tuple(read(reader))
            reader.finish()
        except DecodeError:
            return None
        return found

    found = outcome(read_sealed_secrets)
    hold(found == outcome(lambda reader: reader.vector(HPKECiphertext.read)), "a table reads otherwise than its rows")
    return found is not None


def _vector(data: bytes) -> bytes:
    writer = Writer()
    writer.opaque(data)
    return writer.getvalue()


def auth_data(data: bytes) -> bool:
    """Read a signature and, for a commit, the confirmation tag; the first byte says of what."""
    reader, writer = Reader(data), Writer()
    try:
        content_type = reader.enum8(ContentType)
        value = FramedContentAuthData.read(reader, content_type)
        reader.finish()
    except DecodeError:
        return False
    value.write(writer, content_type)
    hold(writer.getvalue() == data[1:], "FramedContentAuthData has a second encoding")
    return True


def private_content(data: bytes) -> bool:
    """Read what a PrivateMessage seals; the first byte says what it is."""
    try:
        content_type = Reader(data).enum8(ContentType)
        value = PrivateMessageContent.decode(data[1:], content_type)
    except DecodeError:
        return False
    encoded = value.encode(content_type)
    hold(value.encode(content_type, len(data) - 1 - len(encoded)) == data[1:], "sealed content has a second encoding")
    return True


def certificate(data: bytes) -> bool:
    """Judge a certificate of an x509 credential."""
    credential = Credential.x509((data,))
    hold(credential.certificates == (data,), "a credential holds another certificate than was put in")
    try:
        credential.check_key(bytes(32))
    except ValidationError as error:
        return "another key" in str(error)
    return True


def keys_and_ciphertexts(data: bytes) -> bool:
    """Use bytes as a public key, KEM output, signature and ciphertext of a cipher suite that the first byte names."""
    suite = cipher_suite(SUITES[data[0] % len(SUITES)]) if data else cipher_suite(1)
    data = data[1:]
    private, _ = suite.derive_key_pair(bytes(suite.hash_length))
    taken = False
    for act in (
        lambda: suite.validate_hpke_public_key(data),
        lambda: suite.validate_kem_output(data),
        lambda: suite.verify_with_label(data, "a label", b"content", bytes(64)),
        lambda: suite.verify_with_label(_signing_key(suite.id), "a label", b"content", data),
        lambda: suite.encrypt_with_label(data, "a label", b"", b"plaintext"),
        lambda: suite.decrypt_with_label(private, "a label", b"", HPKECiphertext(data[:-48], data[-48:])),
        lambda: key_schedule.receive_external_init(suite, bytes(suite.hash_length), data),
        lambda: suite.open(bytes(suite.aead_key_length), bytes(12), b"", data),
    ):
        try:
            act()
            taken = True
        except (DecodeError, VerificationError, ValidationError):
            continue
    return taken


@cache
def _signing_key(suite_id: int) -> bytes:
    suite = cipher_suite(suite_id)
    return suite.generate_signature_key(bytes).public


def _key_seeds() -> list[bytes]:
    found: list[bytes] = []
    for number, suite_id in enumerate(SUITES):
        suite = cipher_suite(suite_id)
        _, public = suite.derive_key_pair(bytes(suite.hash_length))
        sealed = suite.encrypt_with_label(public, "a label", b"", bytes(32))
        found += [bytes([number]) + one for one in (public, sealed.kem_output, sealed.kem_output + sealed.ciphertext)]
    return found


# --- saved state ------------------------------------------------------------------------------------------------------


def saved_rows(data: bytes) -> bool:
    """Load a group one of whose rows, named by the first byte, holds these bytes and the right digest."""
    rows = dict(scene().ada.group.rows())
    name = sorted(rows)[data[0] % len(rows)] if data else "epoch"
    spoilt = {**rows, name: closed(name, data[1:])}
    try:
        group = Group.load(spoilt)
    except (StateError, UnsupportedError):
        return False
    hold(group.rows() == spoilt, "a loaded group saves other rows than it was loaded from")
    return True


def _row_seeds() -> list[bytes]:
    rows = scene().ada.group.rows()
    return [bytes([position]) + content_of(rows[name]) for position, name in enumerate(sorted(rows))]


# --- what members, servers and newcomers do with bytes ----------------------------------------------------------------


def refused(act: Callable[[], object]) -> bool:
    """Return whether an act was refused by one of the five kinds of error."""
    try:
        act()
    except MLSError as error:
        hold(type(error) in MLSError.__subclasses__(), "a refusal does not say what to do about it")
        return True
    return False


def member_receives(data: bytes) -> bool:
    """Let a member receive any bytes."""
    return not refused(lambda: scene().member(data))


def member_receives_signed_commit(data: bytes) -> bool:
    """Let a member receive a commit of these bytes that another has signed; server and member must then agree."""
    try:
        commit = Commit.decode(data)
    except DecodeError:
        return False
    forger = _forger()
    signed = forger.signed(commit)
    message = forger.public(replace(signed, auth=replace(signed.auth, confirmation_tag=bytes(32))))
    refused(lambda: scene().server.receive_commit(message, now_s=NOW_S))
    hold(refused(lambda: scene().member(message)), "a commit without a confirmation tag was taken")
    return True


def member_receives_signed_proposal(data: bytes) -> bool:
    """Let a member and a server receive a proposal of these bytes that another has signed: they must agree on it."""
    try:
        value = decode_proposal(data)
    except DecodeError:
        return False
    forger = _forger()
    message = forger.public(forger.signed(value))
    member = refused(lambda: scene().member(message))
    server = refused(lambda: scene().server.receive_proposal(message, now_s=NOW_S))
    hold(member == server, "a member and a server disagree about a proposal")
    return not member


def member_receives_sealed_content(data: bytes) -> bool:
    """Let a member receive a PrivateMessage whose plaintext is these bytes; the first byte says what it is."""
    try:
        content_type = Reader(data).enum8(ContentType)
    except DecodeError:
        return False
    message = _sealed(content_type, data[1:])
    return not refused(lambda: scene().member(message))


def server_receives(data: bytes) -> bool:
    """Let a server receive any bytes as a commit, a proposal and a GroupInfo."""
    server = scene().server
    encoded = server.encode()
    acts = (
        lambda: server.receive_commit(data, now_s=NOW_S),
        lambda: server.receive_proposal(data, now_s=NOW_S),
        lambda: server.check_group_info(data),
    )
    taken = [not refused(act) for act in acts]
    hold(server.encode() == encoded, "the state of a server changed in place")
    return any(taken)


def server_opens_group(data: bytes) -> bool:
    """Let a server open a group from a tree of these bytes, which a member has signed for."""
    try:
        tree = RatchetTree.decode(data)
        info = MLSMessage.decode(scene().info).body
    except DecodeError:
        return False
    if not isinstance(info, GroupInfo):
        return False
    # As its own maker a hostile member would state the right tree hash.
    context = replace(info.group_context, tree_hash=tree.tree_hash(scene().suite))
    forged = replace(info, group_context=context).sign(
        scene().suite, scene().ada.group._slow.epoch.signature_private_key
    )
    return not refused(lambda: PublicGroup.open(forged, tree, now_s=NOW_S))


def newcomer_joins(data: bytes) -> bool:
    """Let a newcomer take up any bytes as a Welcome."""
    return not refused(lambda: scene().newcomer(data, None))


def newcomer_opens_group_secrets(data: bytes) -> bool:
    """Let a newcomer take up a Welcome that holds these bytes as its GroupSecrets."""
    package = scene().bundles[0].key_package
    sealed = scene().suite.encrypt_with_label(package.init_key, "Welcome", b"sealed", data)
    entry = EncryptedGroupSecrets(package.reference(scene().suite), sealed)
    message = MLSMessage(Welcome(scene().suite.id, (entry,), b"sealed")).encode()
    hold(refused(lambda: scene().newcomer(message, scene().tree)), "a Welcome without a GroupInfo was taken")
    return True


def outsider_joins(data: bytes) -> bool:
    """Let an outsider read any bytes as a GroupInfo."""
    return not refused(lambda: scene().outsider(data))


def _forger() -> Forger:
    return Forger(scene().ada.group, bytes)


def _sealed(content_type: ContentType, plaintext: bytes) -> bytes:
    """Return an MLSMessage in which ada has sealed a plaintext that may be anything."""
    group = scene().ada.group
    suite, epoch = group.suite, group._slow.epoch
    _, message_key = group._secret_trees[group.epoch].next_key(group.own_leaf_index, content_type)
    bare = PrivateMessage(group.group_id, group.epoch, content_type, b"", b"", b"")
    # A reuse guard of zeros leaves the nonce as it is.
    ciphertext = suite.seal(message_key.key, message_key.nonce, bare.content_aad(), plaintext)
    secret = epoch.secrets.sender_data_secret
    key, nonce = private_message.sender_data_key_and_nonce(suite, secret, ciphertext)
    sender_data = SenderData(group.own_leaf_index, message_key.generation, bytes(4)).encode()
    sealed = suite.seal(key, nonce, bare.sender_data_aad(), sender_data)
    return MLSMessage(replace(bare, encrypted_sender_data=sealed, ciphertext=ciphertext)).encode()


def _sealed_seeds() -> list[bytes]:
    return [
        bytes([one.content.content_type])
        + PrivateMessageContent(one.content.content, one.auth).encode(one.content.content_type)
        for one in seeds.sealed_contents()
        if not one.content.authenticated_data
    ]


def _group_seeds() -> list[bytes]:
    return [scene().tree, *(one.message for name, one in scene().genuine().items() if "ratchet tree" in name)]


def _welcome_seeds() -> list[bytes]:
    return [one.message for name, one in scene().genuine().items() if name.startswith("welcome")]
