"""Sealing and opening a Welcome (RFC 9420 §12.4.3.1).

    GroupInfo      --AEAD, key from welcome_secret-->            encrypted_group_info      once
    GroupSecrets   --HPKE to the newcomer's init_key-->          encrypted_group_secrets   once for each newcomer
                     context: encrypted_group_info

A newcomer's GroupSecrets hold the joiner_secret, from which the welcome_secret follows, the path secret of the lowest
node that it shares with the committer, and the names of the pre-shared keys in play. What the opened GroupInfo claims
is checked against the ratchet tree by whoever joins (`joining.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from heliograph.mls import key_schedule, treekem
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.group_info import EncryptedGroupSecrets, GroupInfo, GroupSecrets, PathSecret, Welcome
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.key_schedule import KnownPsks, Schedule
from heliograph.mls.proposal import PreSharedKeyID
from heliograph.mls.suite import CipherSuite, Secret, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.mls.treekem import PathStep

_LABEL = "Welcome"


@dataclass(frozen=True, slots=True)
class OpenedWelcome:
    """What a Welcome held for one newcomer; the GroupInfo's signature is not yet verified."""

    suite: CipherSuite
    group_info: GroupInfo
    psks: tuple[PreSharedKeyID, ...]
    path_secret: Secret | None = field(repr=False)
    schedule: Schedule = field(repr=False)


def seal_welcome(
    suite: CipherSuite,
    *,
    group_info: GroupInfo,
    schedule: Schedule,
    sender: LeafIndex,
    steps: Sequence[PathStep],
    newcomers: Sequence[tuple[LeafIndex, KeyPackage]],
    psks: Sequence[PreSharedKeyID] = (),
) -> Welcome:
    """Return the Welcome for all members that one commit adds.

    steps: of the committer's path; empty if the commit has none. Source: RFC 9420 §12.4.3.1.
    """
    key, nonce = key_schedule.welcome_key_and_nonce(suite, schedule.welcome_secret)
    encrypted_group_info = suite.seal(key, nonce, b"", group_info.encode())
    secrets: list[EncryptedGroupSecrets] = []
    for leaf_index, key_package in newcomers:
        path_secret = PathSecret(treekem.path_secret_for(steps, sender, leaf_index)) if steps else None
        group_secrets = GroupSecrets(schedule.joiner_secret, path_secret, tuple(psks))
        sealed = suite.encrypt_with_label(key_package.init_key, _LABEL, encrypted_group_info, group_secrets.encode())
        secrets.append(EncryptedGroupSecrets(key_package.reference(suite), sealed))
    return Welcome(suite.id, tuple(secrets), encrypted_group_info)


def open_welcome(welcome: Welcome, bundle: KeyPackageBundle, psks: KnownPsks) -> OpenedWelcome:
    """Return what the Welcome holds for the owner of this key package.

    psks: at hand. Raises StateError if it is for other key packages or needs a pre-shared key that is missing,
    VerificationError if it does not decrypt. Source: RFC 9420 §12.4.3.1.
    """
    suite = cipher_suite(welcome.cipher_suite)
    key_package = bundle.key_package
    if key_package.cipher_suite != suite.id:
        raise ValidationError("welcome is for another cipher suite than the key package")
    reference = key_package.reference(suite)
    sealed = [entry for entry in welcome.secrets if entry.new_member == reference]
    if not sealed:
        raise StateError("welcome is not for this key package")
    group_secrets = GroupSecrets.decode(
        suite.decrypt_with_label(
            bundle.init_private_key, _LABEL, welcome.encrypted_group_info, sealed[0].encrypted_group_secrets
        )
    )
    psk_secret = key_schedule.psk_secret(suite, psks.find(group_secrets.psks))
    joiner_secret = group_secrets.joiner_secret
    welcome_secret = key_schedule.welcome_secret(suite, joiner_secret=joiner_secret, psk_secret=psk_secret)
    key, nonce = key_schedule.welcome_key_and_nonce(suite, welcome_secret)
    group_info = GroupInfo.decode(suite.open(key, nonce, b"", welcome.encrypted_group_info))
    context = group_info.group_context
    if (context.version, context.cipher_suite) != (key_package.version, key_package.cipher_suite):
        raise ValidationError("welcome is for a group of another version or cipher suite than the key package")
    schedule = key_schedule.epoch_from_joiner(
        suite, joiner_secret=joiner_secret, psk_secret=psk_secret, group_context=context
    )
    path_secret = group_secrets.path_secret
    return OpenedWelcome(
        suite, group_info, group_secrets.psks, path_secret.path_secret if path_secret else None, schedule
    )
