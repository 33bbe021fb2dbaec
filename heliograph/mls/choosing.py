"""Which of the proposals that wait a committer takes along (RFC 9420 §12.2, §12.4).

Anyone may propose anything, so some of what waits is stale, or at odds with the rest, and none of it may keep others
from committing. Three sieves, each coarser and cheaper than trying all combinations would be:

    alone       does it hold by itself, with every key at hand, upon the tree without those who leave?   each once
    claims      does another that was chosen before claim the same leaf, key, or place?   sets, no tree
    together    do they lead to a sound tree?      tried whole; if not, in halves, and no more than `_ATTEMPTS` times

What is left undecided after that waits for another commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from heliograph.mls import proposal_rules
from heliograph.mls.epoch import Epoch, PastEpoch
from heliograph.mls.errors import MLSError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import Sender
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import LeafNode, ProtocolVersion
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyProposal,
    Proposal,
    ProposalType,
    ReInit,
    Remove,
    Update,
)
from heliograph.mls.proposal_rules import Applied, ProposalPolicy, ReceivedProposal, SentProposal
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CIPHER_SUITES
from heliograph.mls.tree_math import LeafIndex

_Claim: TypeAlias = tuple[str, bytes | int]
_CLOSING: _Claim = ("closing", b"")
_ATTEMPTS = 64
# Where a Remove and an Update are for one leaf, the Remove goes first and so wins; a ReInit stands alone or not at all,
# and so yields to any other. Source: RFC 9420 §12.2.
_PRECEDENCE: Mapping[int, int] = {ProposalType.REMOVE: 0, ProposalType.REINIT: 2}


def choose_proposals(
    epoch: Epoch,
    waiting: Sequence[ReceivedProposal],
    by_value: Sequence[Proposal],
    *,
    psks: KnownPsks,
    past: Sequence[PastEpoch],
    now_s: int,
    policy: ProposalPolicy,
) -> tuple[list[ReceivedProposal], Applied]:
    """Return those of the waiting proposals that can be committed with the ones by value, and what all lead to.

    psks: at hand; a waiting proposal of another is left out, and so is one of a key of the `past` epochs that somebody
    who is here now may lack. Raises what `proposal_rules.apply` raises, for `by_value` alone.
    Source: RFC 9420 §12.2, §12.4.
    """
    own = Sender.member(epoch.own_leaf_index)
    given = [SentProposal(proposal, own) for proposal in by_value]
    for sent in given:
        _check_alone(epoch, sent, now_s=now_s, policy=policy)
    shared = _shared_psks(epoch, waiting, psks, past)
    permitted = [one for one in waiting if _may_commit(epoch, one, psks=shared, now_s=now_s, policy=policy)]

    def combine(chosen: Sequence[ReceivedProposal]) -> Applied:
        proposals = [*(received.sent() for received in chosen), *given]
        return proposal_rules.combine(
            epoch.group_context, epoch.tree, proposals, committer=epoch.own_leaf_index, policy=policy
        )

    chosen, applied = list[ReceivedProposal](), combine([])
    staying = _without_leavers(epoch.tree, [*given, *(one.sent() for one in permitted)])
    sound = sorted(
        (one for one in permitted if _fits(staying, applied.extensions, one.sent())),
        key=lambda received: _PRECEDENCE.get(received.proposal.proposal_type, 1),
    )
    parts = [_without_rivals(given, sound)]
    for _ in range(_ATTEMPTS):
        if not parts:
            break
        part = parts.pop()
        try:
            applied = combine([*chosen, *part])
        except MLSError:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]] if middle else []
        else:
            chosen += part
    return chosen, applied


def _may_commit(
    epoch: Epoch, received: ReceivedProposal, *, psks: KnownPsks, now_s: int, policy: ProposalPolicy
) -> bool:
    """Say whether a waiting proposal holds alone, and neither needs nor changes what this committer may not."""
    own, proposal = epoch.own_leaf_index, received.proposal
    if isinstance(proposal, Update) and received.sender.leaf_index == own:
        return False
    if isinstance(proposal, Remove) and proposal.removed == own:
        return False
    if isinstance(proposal, ReInit) and not _may_follow(proposal):
        return False
    try:
        _check_alone(epoch, received.sent(), now_s=now_s, policy=policy)
        if isinstance(proposal, PreSharedKeyProposal):
            psks.find([proposal.psk])
    except MLSError:
        return False
    return True


def _may_follow(reinit: ReInit) -> bool:
    # A group that goes on where nobody can is only closed.
    return reinit.version == ProtocolVersion.MLS10 and reinit.cipher_suite in CIPHER_SUITES


def _check_alone(epoch: Epoch, sent: SentProposal, *, now_s: int, policy: ProposalPolicy) -> None:
    proposal_rules.check_proposal(epoch.suite, epoch.group_context, epoch.tree, sent, now_s=now_s, policy=policy)


def _shared_psks(
    epoch: Epoch, waiting: Sequence[ReceivedProposal], known: KnownPsks, past: Sequence[PastEpoch]
) -> KnownPsks:
    """Return the keys without those of past epochs that some members have not lived through.

    One proposal of such a key, taken along by whoever holds it, would leave all others behind. Where no waiting
    proposal asks for a key, past trees are not read.
    """
    if not any(isinstance(received.proposal, PreSharedKeyProposal) for received in waiting):
        return known
    here = _standing(epoch.tree)
    lived = {one.group_context.epoch for one in past if here <= _standing(one.saved_tree.tree)}
    lived.add(epoch.group_context.epoch)
    return replace(known, resumption={name: psk for name, psk in known.resumption.items() if name[1] in lived})


def _standing(tree: RatchetTree) -> set[tuple[LeafIndex, bytes]]:
    return {(member.leaf_index, member.leaf_node.signature_key) for member in tree.members()}


def _without_leavers(tree: RatchetTree, proposals: Sequence[SentProposal]) -> RatchetTree:
    removed = {sent.proposal.removed for sent in proposals if isinstance(sent.proposal, Remove)}
    return tree.apply(updated={}, removed=removed, added=())[0]


def _fits(tree: RatchetTree, extensions: Sequence[Extension], sent: SentProposal) -> bool:
    """Say whether a proposal leads to a sound tree by itself.

    Only so does one that could never be committed keep no other from it, by a claim or by being tried again and again.
    """
    proposal, leaf_index = sent.proposal, sent.sender.leaf_index
    try:
        if isinstance(proposal, Add):
            tree, _ = tree.add_leaf(proposal.key_package.leaf_node)
        elif isinstance(proposal, Update) and leaf_index is not None:
            tree = tree.update_leaf(leaf_index, proposal.leaf_node)
        elif isinstance(proposal, GroupContextExtensions):
            extensions = proposal.extensions
        else:
            return True
        tree.check_unique_keys()
        tree.check_capabilities(extensions)
    except MLSError:
        return False
    return True


def _without_rivals(given: Sequence[SentProposal], sound: Sequence[ReceivedProposal]) -> list[ReceivedProposal]:
    """Return those of `sound`, in order, that claim nothing which `given` or one before them has."""
    taken = {claim for sent in given for claim in _claims(sent)}
    kept: list[ReceivedProposal] = []
    for received in sound:
        claims = _claims(received.sent())
        if not taken.isdisjoint(claims) or (_CLOSING in claims and (given or kept)):
            continue
        kept.append(received)
        taken.update(claims)
        if _CLOSING in taken:
            break
    return [] if any(_CLOSING in _claims(sent) for sent in given) else kept


def _claims(sent: SentProposal) -> set[_Claim]:
    """Return what no two proposals of one commit may be about. Source: RFC 9420 §12.2."""
    proposal = sent.proposal
    if isinstance(proposal, Remove):
        return {("leaf", proposal.removed)}
    if isinstance(proposal, Update):
        return {("leaf", sent.sender.leaf_index or 0), *_keys(proposal.leaf_node)}
    if isinstance(proposal, Add):
        return _keys(proposal.key_package.leaf_node)
    if isinstance(proposal, PreSharedKeyProposal):
        return {("psk", proposal.psk.encode())}
    if isinstance(proposal, GroupContextExtensions):
        return {("extensions", b"")}
    return {_CLOSING} if isinstance(proposal, ReInit) else set()


def _keys(leaf_node: LeafNode) -> set[_Claim]:
    return {("signature_key", leaf_node.signature_key), ("encryption_key", leaf_node.encryption_key)}
