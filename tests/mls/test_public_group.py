"""The public group: what a server that holds no secret accepts, refuses, and knows after each commit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heliograph.mls.commit import Commit
from heliograph.mls.errors import (
    DecodeError,
    MLSError,
    StateError,
    UnsupportedError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.extension import Extension, ExtensionType, ExternalPub, ExternalSender, ExternalSenders
from heliograph.mls.framing import FramedContent, MLSMessage, PublicMessage, Sender, SenderType, WireFormat
from heliograph.mls.group_context import GroupContext
from heliograph.mls.proposal import (
    ExternalInit,
    GroupContextExtensions,
    Proposal,
    ProposalType,
    Remove,
    UnknownProposal,
    Update,
)
from heliograph.mls.proposal_rules import ProposalPolicy
from heliograph.mls.public_group import MAX_EPOCH, MAX_PENDING_BYTES, MAX_PENDING_PROPOSALS, PublicGroup
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from tests import vectors
from tests.mls import honest
from tests.mls.honest import NOW_S

SUITE = cipher_suite(1)


@pytest.fixture
def members(seeded_random: Random) -> list[honest.Client]:
    return honest.clients(8, seeded_random)


@pytest.fixture
def hub(seeded_random: Random) -> honest.Client:
    return honest.Client.named("hub", seeded_random)


@pytest.fixture
def group(members: list[honest.Client], hub: honest.Client) -> PublicGroup:
    """A group of five with the hub as its external sender, after a commit by member 2."""
    senders = ExternalSenders((ExternalSender(hub.keys.public, hub.credential),))
    group = honest.group_of(members[:5], [senders.to_extension()])
    return commit(group, honest.commit_message(members[2], 2, group))


def commit(group: PublicGroup, message: bytes) -> PublicGroup:
    return group.receive_commit(message, now_s=NOW_S)[0]


def propose(group: PublicGroup, client: honest.Client, sender: int, proposal: Proposal) -> PublicGroup:
    member = Sender.member(LeafIndex(sender))
    message = honest.proposal_message(client, member, group, proposal)
    return group.receive_proposal(message, now_s=NOW_S)[0]


def refuse_commit(group: PublicGroup, message: bytes, fault: str, error: type[MLSError] = ValidationError) -> None:
    with pytest.raises(error, match=fault):
        group.receive_commit(message, now_s=NOW_S)


def refuse_proposal(group: PublicGroup, message: bytes, fault: str, error: type[MLSError] = ValidationError) -> None:
    with pytest.raises(error, match=fault):
        group.receive_proposal(message, now_s=NOW_S)


def remove(leaf_index: int) -> Remove:
    return Remove(LeafIndex(leaf_index))


# --- opening -------------------------------------------------------------------------------------------------------


def test_a_group_opens_on_a_signed_group_info_and_its_tree(members: list[honest.Client]):
    tree = honest.tree_of(members[:3])
    info = honest.group_info(members[1], 1, honest.context_of(SUITE, tree))
    group = PublicGroup.open(info, tree, now_s=NOW_S)
    assert [member.leaf_index for member in group.members()] == [0, 1, 2]
    assert (group.epoch, group.suite.id) == (1, 1)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "signature")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "signer-in-use")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "tree-hash")
def test_a_group_info_of_another_signer_tree_or_version_does_not_open(members: list[honest.Client]):
    tree = honest.tree_of(members[:3])
    context = honest.context_of(SUITE, tree)

    def refuse(signer: int, changed: GroupContext, fault: str, error: type[MLSError]) -> None:
        with pytest.raises(error, match=fault):
            PublicGroup.open(honest.group_info(members[1], signer, changed), tree, now_s=NOW_S)

    refuse(2, context, "signature", VerificationError)
    refuse(3, context, "blank", ValidationError)
    refuse(1, replace(context, tree_hash=bytes(32)), "tree hash", VerificationError)
    refuse(1, replace(context, version=2), "version", ValidationError)
    refuse(1, replace(context, cipher_suite=0x0A0A), "0x0a0a", UnsupportedError)
    twice = (Extension(1, b""), Extension(1, b""))
    refuse(1, replace(context, extensions=twice), "same type", ValidationError)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
def test_an_external_pub_must_be_a_key(members: list[honest.Client]):
    tree = honest.tree_of(members[:2])
    context = honest.context_of(SUITE, tree)
    for key, data in ((bytes(32), None), (None, b"\x05short")):
        extension = ExternalPub(key).to_extension() if key is not None else Extension(4, data or b"")
        info = honest.group_info(members[0], 0, context, extensions=[extension])
        with pytest.raises((ValidationError, DecodeError)):
            PublicGroup.open(info, tree, now_s=NOW_S)


def test_a_confirmation_tag_has_the_length_of_one(members: list[honest.Client]):
    tree = honest.tree_of(members[:2])
    info = honest.group_info(members[0], 0, honest.context_of(SUITE, tree), confirmation_tag=b"short")
    with pytest.raises(VerificationError, match="tag"):
        PublicGroup.open(info, tree, now_s=NOW_S)


# --- commits that are right -----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.2", "new-epoch")
def test_a_commit_moves_the_group_to_the_next_epoch(members: list[honest.Client], group: PublicGroup):
    message = honest.commit_message(members[1], 1, group)
    after, summary = group.receive_commit(message, now_s=NOW_S)
    body = MLSMessage.decode(message).body
    assert isinstance(body, PublicMessage)
    confirmed = confirmed_transcript_hash(SUITE, group.interim_transcript_hash, body.authenticated_content())
    assert after.epoch == group.epoch + 1
    assert after.group_context.tree_hash == after.tree.tree_hash(SUITE) != group.group_context.tree_hash
    assert after.group_context.confirmed_transcript_hash == confirmed
    assert after.interim_transcript_hash == interim_transcript_hash(SUITE, confirmed, b"\7" * 32)
    assert (summary.committer, summary.external) == (1, False)
    assert [member.leaf_index for member in summary.updated] == [1]
    assert (summary.added, summary.removed) == ((), ())
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


def test_the_group_that_received_a_commit_stays_as_it_was(members: list[honest.Client], group: PublicGroup):
    before = group.encode()
    commit(group, honest.commit_message(members[1], 1, group, [remove(4), honest.add_of(members[5])]))
    assert group.encode() == before


def test_a_commit_tells_whom_it_added_removed_and_updated(members: list[honest.Client], group: PublicGroup):
    update = members[3].update(3)
    group = propose(group, members[3], 3, Update(update))
    add = honest.add_of(members[5])
    message = honest.commit_message(members[0], 0, group, [add, remove(4)], list(group.proposals))
    after, summary = group.receive_commit(message, now_s=NOW_S)
    assert [(m.leaf_index, m.leaf_node) for m in summary.added] == [(4, add.key_package.leaf_node)]
    assert [(m.leaf_index, m.leaf_node) for m in summary.removed] == [(4, group.tree.leaf(LeafIndex(4)))]
    assert [m.leaf_index for m in summary.updated] == [3, 0]
    assert after.tree.leaf(LeafIndex(3)) == update
    assert not after.proposals
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


def test_a_commit_of_adds_alone_may_have_no_path(members: list[honest.Client], group: PublicGroup):
    message = honest.commit_message(members[0], 0, group, [honest.add_of(members[5])], with_path=False)
    after, summary = group.receive_commit(message, now_s=NOW_S)
    assert [member.leaf_index for member in summary.added] == [5]
    assert summary.updated == ()
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


def test_a_long_history_of_commits_leads_to_the_tree_that_a_newcomer_would_check(
    members: list[honest.Client], group: PublicGroup
):
    for step in range(24):
        committer = [0, 1, 3][step % 3]
        proposals: Sequence[Proposal] = [[], [honest.add_of(members[5])], [remove(5)], []][step % 4]
        group = commit(group, honest.commit_message(members[committer], committer, group, proposals))
        group.tree.validate(SUITE, group.group_context, now_s=NOW_S)
    assert group.epoch == 26


def test_a_commit_hashes_only_what_it_touched(members: list[honest.Client], group: PublicGroup):
    group.tree.tree_hash(SUITE)
    after = commit(group, honest.commit_message(members[0], 0, group))
    untouched = map(NodeIndex, [4, 5, 6, 8, 9, 10])
    assert all(after.tree._root.at(node) is group.tree._root.at(node) for node in untouched)


# --- who may send, and where ----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.2", "epoch")
@pytest.mark.bad_input(69)
@pytest.mark.bad_input(70)
def test_a_commit_for_another_group_or_epoch_is_refused(members: list[honest.Client], group: PublicGroup):
    sender = Sender.member(LeafIndex(0))
    content = Commit((), honest.update_path(members[0], 0, group.tree))
    for epoch in (group.epoch - 1, group.epoch + 1, 0, MAX_EPOCH):
        wrong = honest.framed(members[0], sender, group, content, epoch=epoch)
        refuse_commit(group, honest.travelling(wrong), "another epoch", StateError)
    wrong = honest.framed(members[0], sender, group, content, group_id=b"another group")
    refuse_commit(group, honest.travelling(wrong), "another group", StateError)


@pytest.mark.bad_input(71)
def test_of_two_commits_for_one_epoch_the_second_is_refused(members: list[honest.Client], group: PublicGroup):
    first, second = (honest.commit_message(members[i], i, group) for i in (0, 1))
    refuse_commit(commit(group, first), second, "another epoch", StateError)


@pytest.mark.bad_input(74)
def test_a_removed_member_cannot_commit(members: list[honest.Client], group: PublicGroup):
    after = commit(group, honest.commit_message(members[0], 0, group, [remove(4)]))
    sender = Sender.member(LeafIndex(4))
    message = honest.framed(members[4], sender, after, Commit((), None))
    refuse_commit(after, honest.travelling(message), "blank leaf")


@pytest.mark.rule("RFC 9420 §6.1")
def test_a_commit_signed_by_another_member_is_refused(members: list[honest.Client], group: PublicGroup):
    message = honest.commit_message(members[1], 0, group)
    refuse_commit(group, message, "signature", VerificationError)


def test_an_old_commit_sent_again_for_this_epoch_is_refused(members: list[honest.Client], group: PublicGroup):
    body = MLSMessage.decode(honest.commit_message(members[0], 0, group)).body
    assert isinstance(body, PublicMessage)
    after = commit(group, honest.commit_message(members[1], 1, group))
    replayed = replace(body, content=replace(body.content, epoch=after.epoch))
    refuse_commit(after, MLSMessage(replayed).encode(), "signature", VerificationError)


@pytest.mark.bad_input(68)
def test_what_is_no_public_commit_is_refused(members: list[honest.Client], group: PublicGroup):
    package = MLSMessage(members[5].bundle().key_package).encode()
    refuse_commit(group, package, "not a PublicMessage")
    sender = Sender.member(LeafIndex(0))
    refuse_commit(group, honest.proposal_message(members[0], sender, group, remove(1)), "not a commit")
    refuse_proposal(group, honest.commit_message(members[0], 0, group), "not a proposal")
    application = honest.travelling(honest.framed(members[0], sender, group, b"application data"))
    refuse_commit(group, application, "not a commit")
    refuse_proposal(group, application, "not a proposal")


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
@pytest.mark.bad_input(64)
def test_every_truncated_or_flipped_byte_of_a_commit_but_its_tags_is_refused(
    members: list[honest.Client], group: PublicGroup
):
    data = honest.commit_message(members[0], 0, group, [remove(4)])
    for length in range(len(data)):
        with pytest.raises(MLSError):
            group.receive_commit(data[:length], now_s=NOW_S)
    with pytest.raises(DecodeError, match="trailing"):
        group.receive_commit(data + b"\0", now_s=NOW_S)
    # The last 66 bytes are the two tags, each with its length.
    in_tags = {*range(len(data) - 65, len(data) - 33), *range(len(data) - 32, len(data))}
    for position in set(range(len(data))) - in_tags:
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(MLSError):
            group.receive_commit(flipped, now_s=NOW_S)


def test_a_tag_that_is_no_mac_is_refused_even_by_one_who_cannot_check_it(
    members: list[honest.Client], group: PublicGroup
):
    body = MLSMessage.decode(honest.commit_message(members[0], 0, group)).body
    assert isinstance(body, PublicMessage)
    for spoiled in (
        replace(body, membership_tag=b""),
        replace(body, auth=replace(body.auth, confirmation_tag=b"short")),
    ):
        refuse_commit(group, MLSMessage(spoiled).encode(), "tag", VerificationError)


# --- the list, through the whole ------------------------------------------------------------------------------------


def by_value(client: honest.Client, sender: int, group: PublicGroup, *proposals: Proposal) -> bytes:
    """Return a commit with a path that fits the tree before its proposals, whatever they are."""
    path = honest.update_path(client, sender, group.tree)
    content = honest.commit_of(proposals, (), path)
    return honest.travelling(honest.framed(client, Sender.member(LeafIndex(sender)), group, content))


@pytest.mark.rule("RFC 9420 §12.4.2", "valid-list")
def test_a_commit_with_an_invalid_list_is_refused(members: list[honest.Client], group: PublicGroup):
    def refuse(fault: str, *proposals: Proposal, error: type[MLSError] = ValidationError) -> None:
        refuse_commit(group, by_value(members[0], 0, group, *proposals), fault, error)

    refuse("Update by the committer", Update(members[0].update(0)))
    refuse("removes the committer", remove(0))
    refuse("same leaf twice", remove(1), remove(1))
    refuse("already in the group", honest.add_of(members[1]))
    refuse("contains an ExternalInit", ExternalInit(honest.KEM_OUTPUT))
    refuse("does not support", UnknownProposal(0xF001, b""))


@pytest.mark.rule("RFC 9420 §12.4", "known-references")
def test_a_commit_names_only_proposals_of_this_epoch(members: list[honest.Client], group: PublicGroup):
    proposed = propose(group, members[1], 1, remove(4))
    message = honest.commit_message(members[0], 0, proposed, references=list(proposed.proposals))
    refuse_commit(group, message, "not received", StateError)
    after = commit(proposed, honest.commit_message(members[2], 2, proposed))
    stale = by_reference(members[0], after, list(proposed.proposals))
    refuse_commit(after, stale, "not received", StateError)
    assert commit(proposed, message).tree.leaf(LeafIndex(4)) is None


def by_reference(client: honest.Client, group: PublicGroup, references: Sequence[bytes]) -> bytes:
    content = honest.commit_of((), references, honest.update_path(client, 0, group.tree))
    return honest.travelling(honest.framed(client, Sender.member(LeafIndex(0)), group, content))


# --- proposals ------------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1", "kept-by-reference")
def test_a_proposal_is_kept_by_its_reference_once(members: list[honest.Client], group: PublicGroup):
    message = honest.proposal_message(members[1], Sender.member(LeafIndex(1)), group, remove(4))
    after, received = group.receive_proposal(message, now_s=NOW_S)
    assert after.proposals == {received.reference: received}
    assert (received.proposal, received.sender.leaf_index) == (remove(4), 1)
    again, _ = after.receive_proposal(message, now_s=NOW_S)
    assert again is after
    assert not group.proposals


def test_a_proposal_signed_by_another_or_for_another_epoch_is_refused(members: list[honest.Client], group: PublicGroup):
    sender = Sender.member(LeafIndex(1))
    refuse_proposal(
        group, honest.proposal_message(members[2], sender, group, remove(4)), "signature", VerificationError
    )
    early = honest.framed(members[1], sender, group, remove(4), epoch=group.epoch + 1)
    refuse_proposal(group, honest.travelling(early), "another epoch", StateError)
    nobody = honest.proposal_message(members[1], Sender.member(LeafIndex(7)), group, remove(4))
    refuse_proposal(group, nobody, "blank leaf")


def test_an_invalid_proposal_is_refused_when_it_comes(members: list[honest.Client], group: PublicGroup):
    sender = Sender.member(LeafIndex(1))
    for proposal, fault in (
        (remove(7), "blank leaf"),
        (Update(members[1].bundle().key_package.leaf_node), "not update"),
        (GroupContextExtensions((Extension(1, b""), Extension(1, b""))), "same type"),
    ):
        refuse_proposal(group, honest.proposal_message(members[1], sender, group, proposal), fault)
    unknown = honest.proposal_message(members[1], sender, group, UnknownProposal(0xF001, b""))
    refuse_proposal(group, unknown, "0xf001", UnsupportedError)


@pytest.mark.rule("RFC 9420 §12.1.8", "types")
def test_the_hub_may_propose_what_the_rfc_and_the_policy_permit(
    members: list[honest.Client], hub: honest.Client, group: PublicGroup
):
    sender = Sender.external(0)
    after, _ = group.receive_proposal(honest.proposal_message(hub, sender, group, remove(4)), now_s=NOW_S)
    committed = honest.commit_message(members[0], 0, after, references=list(after.proposals))
    assert commit(after, committed).tree.leaf(LeafIndex(4)) is None
    add = honest.proposal_message(hub, sender, group, honest.add_of(members[5]))
    with pytest.raises(ValidationError, match="not permitted"):
        group.receive_proposal(add, now_s=NOW_S, policy=ProposalPolicy(external=frozenset({ProposalType.REMOVE})))
    assert len(group.receive_proposal(add, now_s=NOW_S)[0].proposals) == 1
    update = honest.proposal_message(hub, sender, group, Update(members[1].update(1)))
    refuse_proposal(group, update, "may not send this type")


@pytest.mark.rule("RFC 9420 §12.1.8.1", "signed-with-listed-key")
def test_an_external_sender_is_one_that_the_group_names(
    members: list[honest.Client], hub: honest.Client, group: PublicGroup
):
    unknown = honest.proposal_message(hub, Sender.external(1), group, remove(4))
    refuse_proposal(group, unknown, "external_senders")
    forged = honest.proposal_message(members[0], Sender.external(0), group, remove(4))
    refuse_proposal(group, forged, "signature", VerificationError)
    nobody = honest.group_of(members[:5])
    refuse_proposal(nobody, honest.proposal_message(hub, Sender.external(0), nobody, remove(4)), "external_senders")


def test_a_stranger_may_ask_to_be_added_unless_the_policy_forbids_it(members: list[honest.Client], group: PublicGroup):
    sender = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    message = honest.proposal_message(members[5], sender, group, honest.add_of(members[5]))
    with pytest.raises(ValidationError, match="not permitted"):
        group.receive_proposal(message, now_s=NOW_S, policy=ProposalPolicy(new_member=frozenset()))
    after, _ = group.receive_proposal(message, now_s=NOW_S)
    assert len(after.proposals) == 1
    forged = honest.proposal_message(members[6], sender, group, honest.add_of(members[5]))
    refuse_proposal(group, forged, "signature", VerificationError)


@pytest.mark.bad_input(77)
def test_an_epoch_holds_so_many_proposals_and_no_more(members: list[honest.Client], group: PublicGroup):
    received = propose(group, members[1], 1, remove(4))
    (entry,) = received.proposals.values()
    many = {i.to_bytes(4): replace(entry, reference=i.to_bytes(4)) for i in range(MAX_PENDING_PROPOSALS)}
    full = replace(group, proposals=many)
    message = honest.proposal_message(members[1], Sender.member(LeafIndex(1)), group, remove(3))
    refuse_proposal(full, message, "as many proposals", StateError)


@pytest.mark.bad_input(76)
def test_the_proposals_of_an_epoch_have_a_largest_size(members: list[honest.Client], group: PublicGroup):
    vast = GroupContextExtensions((Extension(ExtensionType.APPLICATION_ID, bytes(MAX_PENDING_BYTES // 3)),))
    for sender in (0, 1):
        group = propose(group, members[sender], sender, vast)
    message = honest.proposal_message(members[2], Sender.member(LeafIndex(2)), group, vast)
    refuse_proposal(group, message, "larger than they may", StateError)


# --- external commits ------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3.2", "leftmost-leaf")
def test_a_joiner_takes_the_leftmost_blank_leaf(members: list[honest.Client], group: PublicGroup):
    message = honest.external_commit_message(members[5], group)
    after, summary = group.receive_commit(message, now_s=NOW_S)
    assert (summary.committer, summary.external) == (5, True)
    assert [member.leaf_index for member in summary.added] == [5]
    assert summary.updated == ()
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.4.2", "external-place")
def test_a_full_tree_grows_for_a_joiner(members: list[honest.Client]):
    group = honest.group_of(members[:4])
    after, summary = group.receive_commit(honest.external_commit_message(members[5], group), now_s=NOW_S)
    assert (summary.committer, after.tree.leaf_count) == (4, 8)
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.2", "external-one-remove")
def test_a_member_that_lost_its_state_takes_its_own_place(members: list[honest.Client], group: PublicGroup):
    proposals = [ExternalInit(honest.KEM_OUTPUT), remove(1)]
    after, summary = group.receive_commit(honest.external_commit_message(members[1], group, proposals), now_s=NOW_S)
    assert (summary.committer, [member.leaf_index for member in summary.removed]) == (1, [1])
    assert [member.leaf_index for member in summary.added] == [1]
    after.tree.validate(SUITE, after.group_context, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
def test_a_resync_cannot_push_another_member_out(members: list[honest.Client], group: PublicGroup):
    proposals = [ExternalInit(honest.KEM_OUTPUT), remove(1)]
    message = honest.external_commit_message(members[5], group, proposals)
    refuse_commit(group, message, "another client")


@pytest.mark.rule("RFC 9420 §12.4.3.2", "path-present")
@pytest.mark.rule("RFC 9420 §12.2", "external-one-init")
def test_an_external_commit_without_path_or_external_init_is_refused(members: list[honest.Client], group: PublicGroup):
    refuse_commit(group, honest.external_commit_message(members[5], group, with_path=False), "has no path")
    refuse_commit(group, honest.external_commit_message(members[5], group, []), "exactly one ExternalInit")


@pytest.mark.rule("RFC 9420 §12.4.3.2", "signed-by-joiner")
def test_an_external_commit_is_signed_with_the_key_of_its_path(members: list[honest.Client], group: PublicGroup):
    tree, place = group.tree.reserve_leaf()
    path = honest.update_path(members[5], place, tree)
    content = honest.commit_of([ExternalInit(honest.KEM_OUTPUT)], (), path)
    sender = Sender(SenderType.NEW_MEMBER_COMMIT)
    forged = honest.framed(members[6], sender, group, content)
    refuse_commit(group, honest.travelling(forged), "signature", VerificationError)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "no-references")
def test_an_external_commit_includes_no_proposal_by_reference(members: list[honest.Client], group: PublicGroup):
    proposed = propose(group, members[1], 1, remove(4))
    message = honest.external_commit_message(members[5], proposed, references=list(proposed.proposals))
    refuse_commit(proposed, message, "by reference")


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_a_member_cannot_join_a_second_time(members: list[honest.Client], group: PublicGroup):
    refuse_commit(group, honest.external_commit_message(members[1], group), "signature_key of another member")


# --- the committer's GroupInfo ---------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3", "states-this-epoch")
@pytest.mark.bad_input(78)
def test_a_group_info_must_state_exactly_this_state(members: list[honest.Client], group: PublicGroup):
    context = group.group_context

    def info(signer: int = 2, tag: bytes = group.confirmation_tag, **changes: object) -> bytes:
        stated = replace(context, **changes)
        signed = honest.group_info(members[signer], signer, stated, confirmation_tag=tag)
        return MLSMessage(signed).encode()

    assert group.check_group_info(info(), committer=LeafIndex(2)).signer == 2
    assert group.check_group_info(info(0)).signer == 0
    for data, fault in (
        (info(0), "another member than the committer"),
        (info(epoch=context.epoch - 1), "another group or epoch"),
        (info(group_id=b"another"), "another group or epoch"),
        (info(tree_hash=bytes(32)), "tree_hash"),
        (info(confirmed_transcript_hash=bytes(32)), "confirmed_transcript_hash"),
        (info(extensions=()), "extensions"),
        (info(tag=bytes(32)), "confirmation_tag"),
        (MLSMessage(members[5].bundle().key_package).encode(), "not a GroupInfo"),
    ):
        with pytest.raises(ValidationError, match=fault):
            group.check_group_info(data, committer=LeafIndex(2))


@pytest.mark.rule("RFC 9420 §12.4.3", "signature")
@pytest.mark.rule("hostile input", "group-info-of-another-signer")
def test_a_group_info_signed_by_another_leaf_than_its_signer_is_refused(
    members: list[honest.Client], group: PublicGroup
):
    tag = group.confirmation_tag
    forged = honest.group_info(members[1], 2, group.group_context, confirmation_tag=tag)
    with pytest.raises(VerificationError):
        group.check_group_info(MLSMessage(forged).encode(), committer=LeafIndex(2))


@pytest.mark.rule("RFC 9420 §13.4", "one-of-each-type")
@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
def test_a_group_info_with_an_extension_twice_or_without_a_key_is_refused(
    members: list[honest.Client], group: PublicGroup
):
    good, bad = ExternalPub(members[0].fresh_key()).to_extension(), ExternalPub(bytes(32)).to_extension()

    def check(*extensions: Extension) -> None:
        context, tag = group.group_context, group.confirmation_tag
        info = honest.group_info(members[2], 2, context, confirmation_tag=tag, extensions=extensions)
        group.check_group_info(MLSMessage(info).encode(), committer=LeafIndex(2))
        PublicGroup.open(info, group.tree, now_s=NOW_S)

    check(good)
    for spoiled, fault in (((good, good), "same type"), ((bad,), "not a key")):
        with pytest.raises(ValidationError, match=fault):
            check(*spoiled)


# --- saving ----------------------------------------------------------------------------------------------------------


def test_a_saved_group_goes_on_as_if_it_had_not_stopped(members: list[honest.Client], group: PublicGroup):
    proposed = propose(group, members[1], 1, remove(4))
    loaded = PublicGroup.decode(proposed.encode())
    assert loaded == proposed
    message = honest.commit_message(members[0], 0, proposed, references=list(proposed.proposals))
    assert commit(loaded, message) == commit(proposed, message)


def test_a_saved_group_of_another_version_is_refused(group: PublicGroup):
    with pytest.raises(DecodeError, match="version"):
        PublicGroup.decode(b"\xff" + group.encode()[1:])


def test_the_last_epoch_there_can_be_has_no_next(members: list[honest.Client]):
    tree = honest.tree_of(members[:2])
    context = honest.context_of(SUITE, tree, epoch=MAX_EPOCH)
    group = PublicGroup.open(honest.group_info(members[0], 0, context), tree, now_s=NOW_S)
    refuse_commit(group, honest.commit_message(members[0], 0, group), "last epoch", StateError)


@pytest.mark.parametrize("suite_id", vectors.EVERY_SUITE)
def test_other_suites_follow_the_same_rules(seeded_random: Random, suite_id: int):
    members = honest.clients(4, seeded_random, suite_id)
    group = honest.group_of(members[:3])
    add = honest.add_of(members[3])
    after = commit(group, honest.commit_message(members[1], 1, group, [add, remove(0)]))
    after.tree.validate(cipher_suite(suite_id), after.group_context, now_s=NOW_S)
    assert [member.leaf_index for member in after.members()] == [0, 1, 2]


def test_a_message_signed_for_another_wire_format_is_refused(members: list[honest.Client], group: PublicGroup):
    content = FramedContent(honest.GROUP_ID, group.epoch, Sender.member(LeafIndex(0)), b"", remove(4))
    signed = content.sign(SUITE, members[0].keys.private, WireFormat.PRIVATE_MESSAGE, group.group_context)
    refuse_proposal(group, honest.travelling(signed), "signature", VerificationError)
