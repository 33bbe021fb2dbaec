"""From one epoch's init secret to all secrets of the next (RFC 9420 §8).

                      init_secret[n-1]
                            |
      commit_secret --> Extract
                            |
              ExpandWithLabel("joiner", GroupContext[n])
                            |
                       joiner_secret ............ goes to new members, in the Welcome
                            |
         psk_secret --> Extract
                            +--> "welcome"  = welcome_secret
                            |
              ExpandWithLabel("epoch", GroupContext[n])
                            |
                       epoch_secret
                            +--> "sender data"      sender_data_secret    protects who sent (private_message.py)
                            +--> "encryption"       encryption_secret     root of the secret tree (secret_tree.py)
                            +--> "exporter"         exporter_secret       keys for other protocols
                            +--> "external"         external_secret       key pair for joining from outside
                            +--> "confirm"          confirmation_key      MAC over the transcript
                            +--> "membership"       membership_key        MAC that a PublicMessage comes from a member
                            +--> "resumption"       resumption_psk        proves past membership
                            +--> "authentication"   epoch_authenticator   for comparison by people
                            +--> "init"             init_secret[n]        seeds the next epoch

`encryption_secret` is not kept with the others: the secret tree takes it and deletes it when a leaf is first used.
`joiner_secret`, `welcome_secret` and `epoch_secret` live only as long as the commit that needs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.group_context import GroupContext
from heliograph.mls.proposal import PreSharedKeyID, PSKType
from heliograph.mls.suite import CipherSuite, Random, Secret

_EXTERNAL_INIT_CONTEXT = b"MLS 1.0 external init secret"


@dataclass(frozen=True, slots=True)
class EpochSecrets(Struct):
    """The secrets of one epoch that stay until the next; each has the suite's hash length."""

    sender_data_secret: Secret
    exporter_secret: Secret
    external_secret: Secret
    confirmation_key: Secret
    membership_key: Secret
    resumption_psk: Secret
    epoch_authenticator: Secret
    init_secret: Secret

    def write(self, writer: Writer) -> None:
        """Append all secrets, each with its length."""
        for secret in (
            self.sender_data_secret,
            self.exporter_secret,
            self.external_secret,
            self.confirmation_key,
            self.membership_key,
            self.resumption_psk,
            self.epoch_authenticator,
            self.init_secret,
        ):
            writer.opaque(secret)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read what `write` wrote; raises DecodeError."""
        return cls(*(Secret(reader.opaque()) for _ in range(8)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """What one turn of the key schedule yields; only `epoch` outlives the commit."""

    joiner_secret: Secret
    welcome_secret: Secret
    encryption_secret: Secret
    epoch: EpochSecrets


def zero_secret(suite: CipherSuite) -> Secret:
    """Return the all-zero string that stands for an absent commit_secret or psk_secret.

    Source: RFC 9420 §8.
    """
    return Secret(bytes(suite.hash_length))


def next_epoch(
    suite: CipherSuite,
    *,
    init_secret: bytes,
    commit_secret: bytes,
    psk_secret: bytes,
    group_context: GroupContext,
) -> Schedule:
    """Return the secrets of the epoch that `group_context` describes, as a member of the epoch before.

    Source: RFC 9420 §8.
    """
    joiner_secret = suite.expand_with_label(
        suite.extract(init_secret, commit_secret), "joiner", group_context.encode(), suite.hash_length
    )
    return epoch_from_joiner(suite, joiner_secret=joiner_secret, psk_secret=psk_secret, group_context=group_context)


def epoch_from_joiner(
    suite: CipherSuite, *, joiner_secret: bytes, psk_secret: bytes, group_context: GroupContext
) -> Schedule:
    """Return the secrets of an epoch from the joiner_secret of a Welcome.

    Source: RFC 9420 §8.
    """
    member_secret = suite.extract(joiner_secret, psk_secret)
    epoch_secret = suite.expand_with_label(member_secret, "epoch", group_context.encode(), suite.hash_length)
    return Schedule(
        joiner_secret=Secret(joiner_secret),
        welcome_secret=suite.derive_secret(member_secret, "welcome"),
        encryption_secret=suite.derive_secret(epoch_secret, "encryption"),
        epoch=_epoch_secrets(suite, epoch_secret),
    )


def welcome_secret(suite: CipherSuite, *, joiner_secret: bytes, psk_secret: bytes) -> Secret:
    """Return the secret that opens a Welcome's GroupInfo, before the GroupContext is known.

    Source: RFC 9420 §12.4.3.1.
    """
    return suite.derive_secret(suite.extract(joiner_secret, psk_secret), "welcome")


def first_epoch(suite: CipherSuite, epoch_secret: bytes) -> Schedule:
    """Return the secrets of a new group's epoch 0, whose random epoch_secret no one else ever learns.

    Source: RFC 9420 §11.
    """
    nothing = Secret(b"")
    return Schedule(
        joiner_secret=nothing,
        welcome_secret=nothing,
        encryption_secret=suite.derive_secret(epoch_secret, "encryption"),
        epoch=_epoch_secrets(suite, epoch_secret),
    )


def _epoch_secrets(suite: CipherSuite, epoch_secret: bytes) -> EpochSecrets:
    def derive(label: str) -> Secret:
        return suite.derive_secret(epoch_secret, label)

    return EpochSecrets(
        sender_data_secret=derive("sender data"),
        exporter_secret=derive("exporter"),
        external_secret=derive("external"),
        confirmation_key=derive("confirm"),
        membership_key=derive("membership"),
        resumption_psk=derive("resumption"),
        epoch_authenticator=derive("authentication"),
        init_secret=derive("init"),
    )


def confirmation_tag(suite: CipherSuite, confirmation_key: bytes, confirmed_transcript_hash: bytes) -> bytes:
    """Return the MAC by which a commit proves that its sender reached the same epoch.

    Source: RFC 9420 §8.1.
    """
    return suite.mac(confirmation_key, confirmed_transcript_hash)


def export(suite: CipherSuite, exporter_secret: bytes, label: str, context: bytes, length: int) -> Secret:
    """Return `length` bytes for another protocol, bound to the label and to the hash of the context.

    Source: RFC 9420 §8.5.
    """
    derived = suite.derive_secret(exporter_secret, label)
    return suite.expand_with_label(derived, "exported", suite.hash(context), length)


def welcome_key_and_nonce(suite: CipherSuite, welcome_secret: bytes) -> tuple[Secret, bytes]:
    """Return the AEAD key and nonce of a Welcome's encrypted GroupInfo.

    Source: RFC 9420 §12.4.3.
    """
    key = suite.expand_with_label(welcome_secret, "key", b"", suite.aead_key_length)
    return key, suite.expand_with_label(welcome_secret, "nonce", b"", suite.aead_nonce_length)


def external_key_pair(suite: CipherSuite, external_secret: bytes) -> tuple[Secret, bytes]:
    """Return the private and public key to which outsiders send their ExternalInit.

    Source: RFC 9420 §8.3.
    """
    return suite.derive_key_pair(external_secret)


def start_external_init(suite: CipherSuite, external_pub: bytes, random: Random) -> tuple[bytes, Secret]:
    """Return the kem_output for an ExternalInit and the init_secret that it carries, as the joiner.

    Raises DecodeError for an unusable key. Source: RFC 9420 §8.3.
    """
    return suite.hpke.setup_and_export(external_pub, b"", _EXTERNAL_INIT_CONTEXT, suite.hash_length, random)


def receive_external_init(suite: CipherSuite, external_secret: bytes, kem_output: bytes) -> Secret:
    """Return the init_secret that an ExternalInit carries, as a member.

    Raises DecodeError for an unusable kem_output. Source: RFC 9420 §8.3.
    """
    private, _ = external_key_pair(suite, external_secret)
    return suite.hpke.receive_and_export(private, kem_output, b"", _EXTERNAL_INIT_CONTEXT, suite.hash_length)


# --- pre-shared keys (RFC 9420 §8.4) ------------------------------------------------------------------------------


def psk_secret(suite: CipherSuite, psks: Sequence[tuple[PreSharedKeyID, bytes]]) -> Secret:
    """Return the one secret into which pre-shared keys are chained, in the order of their proposals.

    Raises ValidationError for more than 65535 keys. Source: RFC 9420 §8.4.
    """
    if len(psks) > 0xFFFF:
        raise ValidationError("more pre-shared keys than a uint16 can count")
    chained: bytes = zero_secret(suite)
    for index, (psk_id, psk) in enumerate(psks):
        extracted = suite.extract(zero_secret(suite), psk)
        label = Writer()
        psk_id.write(label)
        label.uint16(index)
        label.uint16(len(psks))
        psk_input = suite.expand_with_label(extracted, "derived psk", label.getvalue(), suite.hash_length)
        chained = suite.extract(psk_input, chained)
    return Secret(chained)


@dataclass(frozen=True, slots=True)
class KnownPsks:
    """The pre-shared keys that a member holds: external ones by `psk_id`, resumption ones by group and epoch."""

    external: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes], repr=False)
    resumption: Mapping[tuple[bytes, int], bytes] = field(default_factory=dict[tuple[bytes, int], bytes], repr=False)

    def find(self, identifiers: Sequence[PreSharedKeyID]) -> list[tuple[PreSharedKeyID, bytes]]:
        """Pair each identifier with its key.

        Raises StateError if one is missing, since a key is never invented; ValidationError for the same identifier
        twice. Source: RFC 9420 §8.4, §12.4.3.1.
        """
        if len(set(identifiers)) != len(identifiers):
            raise ValidationError("the same pre-shared key is named twice")
        found: list[tuple[PreSharedKeyID, bytes]] = []
        for identifier in identifiers:
            if identifier.psktype is PSKType.EXTERNAL:
                psk = self.external.get(identifier.psk_id)
            else:
                psk = self.resumption.get((identifier.psk_group_id, identifier.psk_epoch))
            if psk is None:
                raise StateError("a pre-shared key that this epoch needs is missing")
            found.append((identifier, psk))
        return found
