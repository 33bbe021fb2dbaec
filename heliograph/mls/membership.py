"""The ways into a group: found it, be welcomed, come from outside, or ask to be added (RFC 9420 §11, §12.1.8, §12.4.3).

    create_group(...)            alone, at epoch 0
    join(welcome, ...)           by the Welcome of a member who added one's key package
    join_external(info, ...)     by a commit of one's own, upon a GroupInfo that a member or the delivery service offers
    propose_joining(info, ...)   a request that a member may commit; the Welcome comes then
    propose_from_outside(...)    what an external sender, such as a moderator's service, asks of a group that lists it

`joining` holds what these do to an epoch; a group that follows upon another one (§11.2, §11.3) is `successor`'s.
"""

from collections.abc import Mapping, Sequence

from heliograph.mls import joining, successor
from heliograph.mls.committing import public_commit
from heliograph.mls.credential import Credential
from heliograph.mls.credential_check import CredentialCheck, check_group
from heliograph.mls.epoch import Epoch
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import FramedContent, MLSMessage, Sender, SenderType, WireFormat
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.proposal import Add, PreSharedKeyID, Proposal, ResumptionPSKUsage
from heliograph.mls.suite import CipherSuite, Random, Secret, cipher_suite
from heliograph.mls.tree_math import LeafIndex


def create_group(
    suite: CipherSuite,
    group_id: bytes,
    credential: Credential,
    signature_private_key: bytes,
    *,
    lifetime: Lifetime,
    capabilities: Capabilities,
    extensions: Sequence[Extension] = (),
    leaf_extensions: Sequence[Extension] = (),
    random: Random,
) -> Group:
    """Return a new group whose only member is its creator.

    extensions: of the group context. Raises ValidationError if the creator's own leaf does not meet them.
    Source: RFC 9420 §11.
    """
    epoch, encryption_secret = joining.found(
        suite,
        group_id,
        credential,
        Secret(signature_private_key),
        lifetime=lifetime,
        capabilities=capabilities,
        extensions=extensions,
        leaf_extensions=leaf_extensions,
        random=random,
    )
    return Group.enter(epoch, encryption_secret)


def join(
    welcome: bytes,
    ratchet_tree: bytes | None,
    bundle: KeyPackageBundle,
    signature_private_key: bytes,
    *,
    now_s: int,
    psks: Mapping[bytes, bytes] | None = None,
    predecessor: Group | None = None,
    succession: ResumptionPSKUsage | None = None,
    check_credential: CredentialCheck | None = None,
    lifetime_limit_s: int | None = None,
) -> Group:
    """Return the group into which a Welcome invites the owner of a key package.

    welcome: an MLSMessage; ratchet_tree: None if it is in the Welcome's GroupInfo; psks: external pre-shared keys by
    `psk_id`; predecessor: a group of which the joiner is or was a member, whose keys are at hand for a Welcome into its
    successor or branch; succession: REINIT or BRANCH, to follow no Welcome but into the one or the other;
    check_credential: called for all members and external senders; lifetime_limit_s: the longest lifetime of a leaf, by
    default 91 days. The caller judges the credentials of `members()`
    before it keeps the group, here or after. Raises MLSError of any kind; StateError means that the Welcome is not for
    this key package or needs something that is missing. Source: RFC 9420 §12.4.3.1.
    """
    known = KnownPsks(psks or {}) if predecessor is None else predecessor.known_psks(psks)
    joined = joining.join_by_welcome(
        welcome,
        ratchet_tree,
        bundle,
        signature_private_key,
        psks=known,
        now_s=now_s,
        lifetime_limit_s=lifetime_limit_s,
    )
    successor.check_succession(joined, predecessor, succession)
    _check_credentials(joined.epoch, check_credential)
    return Group.enter(joined.epoch, joined.encryption_secret)


def join_external(
    group_info: bytes,
    ratchet_tree: bytes | None,
    credential: Credential,
    signature_private_key: bytes,
    *,
    capabilities: Capabilities,
    leaf_extensions: Sequence[Extension] = (),
    resync_leaf: LeafIndex | None = None,
    psk_ids: Sequence[PreSharedKeyID] = (),
    psks: Mapping[bytes, bytes] | None = None,
    random: Random,
    now_s: int,
    authenticated_data: bytes = b"",
    check_credential: CredentialCheck | None = None,
    with_tree: bool = False,
    lifetime_limit_s: int | None = None,
) -> PendingCommit:
    """Return a commit by which an outsider adds itself; its group holds if the commit is accepted.

    resync_leaf: the same client's old leaf, which the commit removes; psk_ids: external pre-shared keys to mix in, out
    of `psks`; check_credential: called for all members and external senders; with_tree: let the GroupInfo carry the
    ratchet tree; lifetime_limit_s: as for `join`. Source: RFC 9420 §12.4.3.2.
    """
    committer, built = joining.commit_from_outside(
        group_info,
        ratchet_tree,
        credential,
        Secret(signature_private_key),
        capabilities=capabilities,
        leaf_extensions=leaf_extensions,
        resync_leaf=resync_leaf,
        psks=KnownPsks(psks or {}).find(psk_ids),
        random=random,
        now_s=now_s,
        authenticated_data=authenticated_data,
        with_tree=with_tree,
        lifetime_limit_s=lifetime_limit_s,
    )
    _check_credentials(built.epoch, check_credential)
    return PendingCommit.of(built, public_commit(committer, built), Group.enter(built.epoch, built.encryption_secret))


def propose_joining(
    group_info: bytes,
    bundle: KeyPackageBundle,
    signature_private_key: bytes,
    *,
    authenticated_data: bytes = b"",
) -> bytes:
    """Return an MLSMessage in which the owner of a key package asks the group to add it in this epoch.

    group_info: an MLSMessage, not verified: a group that it does not describe refuses the proposal. Raises DecodeError,
    ValidationError or UnsupportedError. Source: RFC 9420 §12.1.8.
    """
    sender = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    proposal = Add(bundle.key_package)
    return _propose(group_info, proposal, sender, signature_private_key, authenticated_data)


def propose_from_outside(
    group_info: bytes,
    proposal: Proposal,
    *,
    sender_index: int,
    signature_private_key: bytes,
    authenticated_data: bytes = b"",
) -> bytes:
    """Return an MLSMessage with the proposal of an external sender for this epoch.

    sender_index: place in the group's `external_senders`; group_info: as for `propose_joining`. Raises DecodeError,
    ValidationError or UnsupportedError. Source: RFC 9420 §12.1.8.1.
    """
    sender = Sender.external(sender_index)
    return _propose(group_info, proposal, sender, signature_private_key, authenticated_data)


def _propose(
    group_info: bytes, proposal: Proposal, sender: Sender, signature_private_key: bytes, authenticated_data: bytes
) -> bytes:
    context = joining.open_group_info(group_info).group_context
    suite = cipher_suite(context.cipher_suite)
    content = FramedContent(context.group_id, context.epoch, sender, authenticated_data, proposal)
    content.check_sender()
    if isinstance(proposal, Add) and proposal.key_package.cipher_suite != suite.id:
        raise ValidationError("key package is for another cipher suite than the group")
    signed = content.sign(suite, signature_private_key, WireFormat.PUBLIC_MESSAGE, None)
    return MLSMessage(signed.to_public_message(suite, None, context)).encode()


def _check_credentials(epoch: Epoch, check: CredentialCheck | None) -> None:
    check_group(check, epoch.tree.leaf_nodes(), epoch.group_context.extensions)
