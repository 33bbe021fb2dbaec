"""Where fuzzing begins: the encodings of every structure that stands anywhere in a group's genuine messages.

All are made here, by code, from the scene of `genuine`: what is in the messages is found by walking through them. What
no message shows openly (secrets, saved state) is taken from the members' states.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from heliograph.mls import private_message
from heliograph.mls.codec import Struct
from heliograph.mls.commit import UpdatePathNode
from heliograph.mls.credential import Credential
from heliograph.mls.extension import ApplicationId, ExternalPub, ExternalSenders, RequiredCapabilities
from heliograph.mls.framing import AuthenticatedContent, MLSMessage, PrivateMessage, PublicMessage, SenderData
from heliograph.mls.group_info import GroupSecrets, PathSecret
from heliograph.mls.proposal import PreSharedKeyID, ResumptionPSKUsage, UnknownProposal, encode_proposal
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.mls.suite import HPKECiphertext, Secret
from tests.mls.fuzz.genuine import Scene, scene

MOST_PER_KIND = 12


@cache
def seeds_of(kind: type[Struct]) -> tuple[bytes, ...]:
    """Return different encodings of this kind of structure, short ones first; none where nothing holds one."""
    return tuple(sorted(_all_seeds().get(kind, {}), key=lambda one: (len(one), one))[:MOST_PER_KIND])


@cache
def messages() -> tuple[bytes, ...]:
    """Return the genuine messages of the scene that travel as an MLSMessage."""
    return tuple(one.message for name, one in scene().genuine().items() if "ratchet tree" not in name)


@cache
def proposals() -> tuple[bytes, ...]:
    """Return the encodings of proposals, with their types."""
    unknown = UnknownProposal(0xF002, b"of a type that is not known")
    return tuple(encode_proposal(one) for one in (*scene().proposals.values(), unknown))


@cache
def _all_seeds() -> Mapping[type[Struct], dict[bytes, None]]:
    found: dict[type[Struct], dict[bytes, None]] = {}
    for value in _genuine_values(scene()):
        for part in _parts(value):
            found.setdefault(type(part), {})[part.encode()] = None
    return found


def _parts(value: Any) -> Iterator[Struct]:
    if isinstance(value, Struct):
        yield value
    if isinstance(value, RatchetTree):
        for node in value.nodes():
            yield from _parts(node)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from _parts(getattr(value, one.name))
    elif isinstance(value, tuple | list):
        for item in cast("tuple[Any, ...]", value):
            yield from _parts(item)
    elif isinstance(value, Mapping):
        yield from _parts(list(cast("Mapping[Any, Any]", value).values()))


def _genuine_values(of: Scene) -> Iterator[Any]:
    for message in messages():
        decoded = MLSMessage.decode(message)
        yield decoded
        body = decoded.body
        if isinstance(body, PublicMessage):
            yield body.authenticated_content()
        if isinstance(body, PrivateMessage):
            yield _opened(of, body)
    group = of.ada.group
    extensions = group.group_context.extensions
    yield (
        group._slow.epoch,
        group.tree,
        of.server,
        RequiredCapabilities.of(extensions),
        ExternalSenders.of(extensions),
    )
    yield (ApplicationId(b"app"), ExternalPub(group.external_pub), UnknownProposal(0xF002, b"?"))
    psks = (
        PreSharedKeyID.external(b"shared key", bytes(32)),
        PreSharedKeyID.resumption(ResumptionPSKUsage.BRANCH, b"the group", 3, bytes(32)),
    )
    yield GroupSecrets(Secret(bytes(32)), PathSecret(Secret(bytes(32))), psks)
    yield GroupSecrets(Secret(bytes(32)))
    sealed = HPKECiphertext(bytes(32), bytes(48))
    yield UpdatePathNode(bytes(32), (sealed, sealed, sealed))
    yield SafeAAD((SafeAADItem(1, b"one"), SafeAADItem(0xF001, bytes(100))))
    yield Credential.x509((certificate(), certificate()))


@cache
def sealed_contents() -> tuple[AuthenticatedContent, ...]:
    """Return what is inside the scene's PrivateMessages, as their receiver sees it."""
    decoded = (MLSMessage.decode(message).body for message in messages())
    return tuple(_opened(scene(), body)[1] for body in decoded if isinstance(body, PrivateMessage))


def _opened(of: Scene, message: PrivateMessage) -> tuple[SenderData, AuthenticatedContent]:
    group = of.ben.group
    secret = group._slow.epoch.secrets.sender_data_secret
    sender_data = private_message.open_sender_data(of.suite, secret, message)
    _, opened = private_message.open_content(of.suite, group._secret_trees[group.epoch], sender_data, message)
    return sender_data, opened.authenticated_content


@cache
def certificate() -> bytes:
    """Return a self-signed certificate, always the same, in DER."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ada")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(17)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    return made.public_bytes(Encoding.DER)
