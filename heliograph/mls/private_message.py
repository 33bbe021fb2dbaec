"""Sealing and opening a PrivateMessage (RFC 9420 §6.3).

    FramedContent, signature, padding   --AEAD, key from the sender's ratchet-->        ciphertext
    leaf_index, generation, reuse_guard --AEAD, key from a sample of the ciphertext-->  encrypted_sender_data

The sender data say which key opens the content, and only members can read them. The reuse guard is mixed into the
nonce, so that a sender who was restored from a backup and uses a generation twice does not also use a nonce twice.

Opening takes the key out of the secret tree, so that a message opens once; the signature is still to be verified by
the caller, who knows the sender's leaf in that epoch. Both directions return a new secret tree and leave the old whole.
"""

from dataclasses import dataclass

from heliograph.mls.errors import VerificationError
from heliograph.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    PrivateMessage,
    PrivateMessageContent,
    Sender,
    SenderData,
    WireFormat,
)
from heliograph.mls.secret_tree import MessageKey, SecretTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.tree_math import LeafIndex

MIN_PADDED_BYTES = 256
_GUARD_BYTES = 4


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """Decrypted content whose signature is not yet verified, and the generation that sealed it."""

    authenticated_content: AuthenticatedContent
    leaf_index: LeafIndex
    generation: int


def padme_bytes(length_bytes: int) -> int:
    """Return the Padmé length for a plaintext: at least `MIN_PADDED_BYTES`, at most about 12 % more than its own.

    Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019, §4.
    """
    if length_bytes <= MIN_PADDED_BYTES:
        return MIN_PADDED_BYTES
    exponent = length_bytes.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (length_bytes + mask) & ~mask


def seal(
    suite: CipherSuite,
    secret_tree: SecretTree,
    sender_data_secret: bytes,
    message: AuthenticatedContent,
    *,
    random: Random,
    padding_bytes: int | None = None,
) -> tuple[SecretTree, PrivateMessage]:
    """Return the tree without the key that was used, and the sealed message of a member.

    padding_bytes: how many zero bytes to add; None pads to the Padmé length. Raises VerificationError if the content
    was not signed for this wire format, StateError if the ratchet is spent. Source: RFC 9420 §6.3.
    """
    content = message.content
    if message.wire_format is not WireFormat.PRIVATE_MESSAGE or content.sender.leaf_index is None:
        raise VerificationError("content was not signed by a member for a PrivateMessage")
    content_type = content.content_type
    inner = PrivateMessageContent(content.content, message.auth)
    plaintext = inner.encode(content_type, padding_bytes or 0)
    if padding_bytes is None:
        plaintext = plaintext.ljust(padme_bytes(len(plaintext)), b"\0")
    secret_tree, message_key = secret_tree.next_key(content.sender.leaf_index, content_type)
    guard = random(_GUARD_BYTES)
    unsealed = PrivateMessage(content.group_id, content.epoch, content_type, content.authenticated_data, b"", b"")
    ciphertext = suite.seal(message_key.key, _guarded(message_key, guard), unsealed.content_aad(), plaintext)
    key, nonce = sender_data_key_and_nonce(suite, sender_data_secret, ciphertext)
    sender_data = SenderData(content.sender.leaf_index, message_key.generation, guard).encode()
    return secret_tree, PrivateMessage(
        group_id=content.group_id,
        epoch=content.epoch,
        content_type=content_type,
        authenticated_data=content.authenticated_data,
        encrypted_sender_data=suite.seal(key, nonce, unsealed.sender_data_aad(), sender_data),
        ciphertext=ciphertext,
    )


def open_sender_data(suite: CipherSuite, sender_data_secret: bytes, message: PrivateMessage) -> SenderData:
    """Return who sealed a message; raises VerificationError if no member of the epoch did.

    Source: RFC 9420 §6.3.2.
    """
    key, nonce = sender_data_key_and_nonce(suite, sender_data_secret, message.ciphertext)
    return SenderData.decode(suite.open(key, nonce, message.sender_data_aad(), message.encrypted_sender_data))


def open_content(
    suite: CipherSuite, secret_tree: SecretTree, sender_data: SenderData, message: PrivateMessage
) -> tuple[SecretTree, OpenedMessage]:
    """Return the tree without the key that was used, and the content of a message.

    Raises VerificationError if it does not decrypt, StateError if its key was used before. Source: RFC 9420 §6.3.1.
    """
    leaf_index = sender_data.leaf_index
    secret_tree, message_key = secret_tree.take_key(leaf_index, message.content_type, sender_data.generation)
    nonce = _guarded(message_key, sender_data.reuse_guard)
    plaintext = suite.open(message_key.key, nonce, message.content_aad(), message.ciphertext)
    inner = PrivateMessageContent.decode(plaintext, message.content_type)
    content = FramedContent(
        group_id=message.group_id,
        epoch=message.epoch,
        sender=Sender.member(leaf_index),
        authenticated_data=message.authenticated_data,
        content=inner.content,
    )
    opened = AuthenticatedContent(WireFormat.PRIVATE_MESSAGE, content, inner.auth)
    return secret_tree, OpenedMessage(opened, leaf_index, message_key.generation)


def sender_data_key_and_nonce(
    suite: CipherSuite, sender_data_secret: bytes, ciphertext: bytes
) -> tuple[Secret, Secret]:
    """Return the key and nonce of the sender data that go with a ciphertext.

    Source: RFC 9420 §6.3.2.
    """
    sample = ciphertext[: suite.hash_length]
    key = suite.expand_with_label(sender_data_secret, "key", sample, suite.aead_key_length)
    return key, suite.expand_with_label(sender_data_secret, "nonce", sample, suite.aead_nonce_length)


def _guarded(message_key: MessageKey, guard: bytes) -> bytes:
    """Mix the guard into the first bytes of the nonce. Source: RFC 9420 §6.3.1."""
    mixed = bytes(a ^ b for a, b in zip(message_key.nonce, guard, strict=False))
    return mixed + message_key.nonce[_GUARD_BYTES:]
