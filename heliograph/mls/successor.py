"""Groups that follow upon another one: its successor after a ReInit, and its branches (RFC 9420 §11.2, §11.3).

    old group                                           new group
    ReInit committed --> closed, group.reinit    -->    reinitialize(old, key_packages, ...)   same members, new terms
    any epoch                                    -->    branch(old, group_id, key_packages, ...)   some, same terms
                                                              |
                        founder's first commit: Adds and one PSK, the old epoch's resumption_psk
                                                              |
    each other member  --> join(welcome, ..., predecessor=old) --> check_succession

The resumption key proves that whoever founds the new group was a member of the old one. `check_succession` holds the
new group to what the old one allows: only then is it more than any group with a key in common.
"""

from collections.abc import Sequence

from heliograph.mls import joining, proposal_rules
from heliograph.mls.committing import Committer, FreshLeaf, build, public_commit
from heliograph.mls.credential import Credential, CredentialType
from heliograph.mls.epoch import Epoch
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import Sender
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.joining import Joined
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import Capabilities, Lifetime, ProtocolVersion
from heliograph.mls.proposal import (
    Add,
    PreSharedKeyID,
    PreSharedKeyProposal,
    ProposalOrRef,
    PSKType,
    ResumptionPSKUsage,
)
from heliograph.mls.proposal_rules import DEFAULT_POLICY, ProposalPolicy, SentProposal
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random, Secret, cipher_suite

_FIRST_EPOCH = 1
_SUCCEEDING = (ResumptionPSKUsage.REINIT, ResumptionPSKUsage.BRANCH)


def reinitialize(
    old: Group,
    key_packages: Sequence[KeyPackage],
    credential: Credential,
    signature_private_key: bytes,
    *,
    lifetime: Lifetime,
    capabilities: Capabilities,
    leaf_extensions: Sequence[Extension] = (),
    random: Random,
    now_s: int,
    force_path: bool = True,
    with_tree: bool = False,
    policy: ProposalPolicy = DEFAULT_POLICY,
) -> PendingCommit:
    """Return the founding commit of the successor of a group that a ReInit has closed.

    key_packages: one of each other member, of the successor's cipher suite; signature_private_key: of that suite too.
    The founder goes on with `.group` and sends `.welcome`; the commit itself concerns no one else. Raises StateError if
    the group is not closed, ValidationError, VerificationError or UnsupportedError. Source: RFC 9420 §11.2.
    """
    terms = old.reinit
    if terms is None or not old.is_active:
        raise StateError("no commit with a ReInit has closed this group")
    if terms.version != ProtocolVersion.MLS10:
        raise ValidationError("the ReInit is for another version of the protocol")
    founded = joining.found(
        cipher_suite(terms.cipher_suite),
        terms.group_id,
        credential,
        Secret(signature_private_key),
        lifetime=lifetime,
        capabilities=capabilities,
        extensions=terms.extensions,
        leaf_extensions=leaf_extensions,
        random=random,
    )
    return _populate(
        founded[0],
        old,
        ResumptionPSKUsage.REINIT,
        key_packages,
        random=random,
        now_s=now_s,
        force_path=force_path,
        with_tree=with_tree,
        policy=policy,
    )


def branch(
    old: Group,
    group_id: bytes,
    key_packages: Sequence[KeyPackage],
    credential: Credential,
    signature_private_key: bytes,
    *,
    extensions: Sequence[Extension] = (),
    lifetime: Lifetime,
    capabilities: Capabilities,
    leaf_extensions: Sequence[Extension] = (),
    random: Random,
    now_s: int,
    force_path: bool = True,
    with_tree: bool = False,
    policy: ProposalPolicy = DEFAULT_POLICY,
) -> PendingCommit:
    """Return the founding commit of a group of some of the members of another one, which goes on beside it.

    key_packages: fresh, one of each other member of the branch; the rest as for `reinitialize`.
    Source: RFC 9420 §11.3.
    """
    if not old.is_active:
        raise StateError("this member was removed from the group")
    if old.reinit is not None:
        raise StateError("the group was closed by a ReInit: it goes on in its successor")
    founded = joining.found(
        old.suite,
        group_id,
        credential,
        Secret(signature_private_key),
        lifetime=lifetime,
        capabilities=capabilities,
        extensions=extensions,
        leaf_extensions=leaf_extensions,
        random=random,
    )
    return _populate(
        founded[0],
        old,
        ResumptionPSKUsage.BRANCH,
        key_packages,
        random=random,
        now_s=now_s,
        force_path=force_path,
        with_tree=with_tree,
        policy=policy,
    )


def _populate(
    epoch: Epoch,
    old: Group,
    usage: ResumptionPSKUsage,
    key_packages: Sequence[KeyPackage],
    *,
    random: Random,
    now_s: int,
    force_path: bool,
    with_tree: bool,
    policy: ProposalPolicy,
) -> PendingCommit:
    """Return the commit that adds everyone to a group of one and ties it to the old group."""
    suite, context, founder = epoch.suite, epoch.group_context, Sender.member(epoch.own_leaf_index)
    psk = PreSharedKeyID.resumption(usage, old.group_id, old.epoch, random(suite.hash_length))
    adds = [Add(key_package) for key_package in key_packages]
    for add in adds:
        sent = SentProposal(add, founder)
        proposal_rules.check_proposal(suite, context, epoch.tree, sent, now_s=now_s, policy=policy)
    # No list of proposals that others see may hold a PSK of this usage: it is lawful here alone.
    proposals = [*adds, PreSharedKeyProposal(psk)]
    applied = proposal_rules.combine(
        context, epoch.tree, [SentProposal(proposal, founder) for proposal in proposals], committer=epoch.own_leaf_index
    )
    committer = Committer.member(epoch)
    built = build(
        committer,
        [ProposalOrRef(proposal=proposal) for proposal in proposals],
        applied,
        fresh_leaf=FreshLeaf.of(epoch, None) if force_path else None,
        psks=old.known_psks(None).find(applied.psks),
        authenticated_data=b"",
        random=random,
        with_tree=with_tree,
    )
    group = Group.enter(built.epoch, built.encryption_secret)
    _check_terms(built.epoch, old, psk)
    return PendingCommit.of(built, public_commit(committer, built), group)


def check_succession(joined: Joined, predecessor: Group | None, expected: ResumptionPSKUsage | None) -> None:
    """Raise ValidationError unless a group that claims to succeed or to branch from another one lawfully does.

    predecessor: the group that the joiner expects; one that a ReInit has closed is followed by its successor only;
    expected: REINIT or BRANCH, if the joiner expects no other group than a successor or branch.
    Raises StateError if the Welcome is for the successor of a group that is not at hand. Source: RFC 9420 §11.2, §11.3,
    §12.4.2, §12.4.3.1.
    """
    claims = [psk for psk in joined.psks if psk.usage in _SUCCEEDING]
    if expected is not None and [psk.usage for psk in claims] != [expected]:
        raise ValidationError(f"the welcome is not for the expected {expected.name.lower()}")
    is_closed = predecessor is not None and predecessor.reinit is not None
    if is_closed and ResumptionPSKUsage.REINIT not in [psk.usage for psk in claims]:
        raise ValidationError("the group was closed by a ReInit, and the welcome does not succeed it")
    if not claims:
        return
    if len([psk for psk in joined.psks if psk.psktype is PSKType.RESUMPTION]) > 1:
        raise ValidationError("a welcome into a successor or branch names another resumption key")
    claim = claims[0]
    if predecessor is None:
        raise StateError("the welcome is for the successor of a group that is not at hand")
    if claim.psk_group_id != predecessor.group_id:
        raise ValidationError("the welcome succeeds another group than this")
    _check_terms(joined.epoch, predecessor, claim)


def _check_terms(epoch: Epoch, old: Group, claim: PreSharedKeyID) -> None:
    if epoch.group_context.epoch != _FIRST_EPOCH:
        raise ValidationError("a successor or branch does not begin with epoch 1")
    if claim.usage is ResumptionPSKUsage.REINIT:
        _check_successor(epoch, old, claim.psk_epoch)
    else:
        _check_branch(epoch, old, old.tree_at(claim.psk_epoch))


def _check_successor(epoch: Epoch, old: Group, psk_epoch: int) -> None:
    """Hold a group to the terms of the ReInit, and to having the same members. Source: RFC 9420 §11.2."""
    context, terms = epoch.group_context, old.reinit
    if terms is None or psk_epoch != old.epoch:
        raise ValidationError("the welcome succeeds a group that no ReInit has closed")
    parameters = (context.group_id, context.version, context.cipher_suite, context.extensions)
    if parameters != (terms.group_id, terms.version, terms.cipher_suite, terms.extensions):
        raise ValidationError("the successor has other parameters than the ReInit")
    if not _are_among(old.tree, epoch.tree):
        raise ValidationError("the successor has not all members of the group")
    if not _are_among(epoch.tree, old.tree):
        raise ValidationError("the successor has a member that the group had not")
    if len(epoch.tree.members()) != len(old.tree.members()):
        raise ValidationError("the successor has more or fewer members than the group")


def _check_branch(epoch: Epoch, old: Group, old_tree: RatchetTree) -> None:
    """Hold a group to the parameters of the one that it comes from, and to its members. Source: RFC 9420 §11.3."""
    context = epoch.group_context
    if context.group_id == old.group_id:
        raise ValidationError("a branch has the group_id of the group that it comes from")
    if (context.version, context.cipher_suite) != (old.group_context.version, old.suite.id):
        raise ValidationError("a branch has another version or cipher suite than its group")
    if not _are_among(epoch.tree, old_tree):
        raise ValidationError("a branch has a member that the group had not")


def _are_among(some: RatchetTree, others: RatchetTree) -> bool:
    """Say whether each member of one tree is in the other too, by its credential.

    A credential of another type than basic may change with its key: whether it names the same client as before is for
    the application to judge, from the members of both.
    """
    known = {leaf.credential for leaf in others.leaf_nodes()}
    credentials = (leaf.credential for leaf in some.leaf_nodes())
    return all(one in known for one in credentials if one.credential_type == CredentialType.BASIC)
