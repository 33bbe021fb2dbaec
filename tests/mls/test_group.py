"""Stories of groups: who reads what, through joining, changing, leaving and coming back."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import MLSError, StateError, ValidationError, VerificationError
from heliograph.mls.extension import ApplicationId, Extension, ExtensionType
from heliograph.mls.group import PAST_EPOCHS, LeafChanges, ReceivedApplication
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.proposal import Add, GroupContextExtensions, Remove
from heliograph.mls.signature import Ed25519
from heliograph.mls.suite import Random
from heliograph.mls.tree_math import LeafIndex
from tests import vectors
from tests.mls.company import Company, Person

PRIVATE_EXTENSION = 0xF001
FIVE = ("ada", "ben", "cleo", "dan", "eve")


@pytest.fixture
def two(seeded_random: Random) -> Company:
    return Company("ada", "ben", random=seeded_random)


@pytest.fixture
def five(seeded_random: Random) -> Company:
    return Company(*FIVE, random=seeded_random)


# --- two members --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite_id", vectors.EVERY_SUITE)
def test_two_members_read_each_other_in_every_suite(suite_id: int, seeded_random: Random):
    Company("ada", "ben", random=seeded_random, suite_id=suite_id).check_agreement()


def test_what_is_read_names_its_sender_epoch_and_authenticated_data(two: Company):
    message = two["ada"].seal(b"hello", authenticated_data=b"seen by all")
    received = two["ben"].receive(message)
    assert isinstance(received, ReceivedApplication)
    assert (received.sender, received.epoch, received.generation) == (two["ada"].leaf, 1, 0)
    assert (received.application_data, received.authenticated_data) == (b"hello", b"seen by all")
    assert received.leaf_node.credential == Credential.basic(b"ada")


def test_a_group_of_one_can_be_founded_and_committed_in(seeded_random: Random):
    alone = Company("ada", random=seeded_random)
    alone.commit(alone["ada"])
    assert alone["ada"].group.epoch == 1


@pytest.mark.rule("RFC 9420 §14")
def test_building_a_commit_changes_nothing_until_it_is_taken_up(two: Company):
    pending = two["ada"].commit()
    assert two["ada"].group.epoch == 1
    assert pending.group.epoch == 2


@pytest.mark.rule("RFC 9420 §12.4.2", "own-commit")
def test_ones_own_commit_is_taken_up_and_not_received(two: Company):
    pending = two["ada"].commit()
    with pytest.raises(StateError, match="PendingCommit"):
        two["ada"].receive(pending.commit)


@pytest.mark.rule("RFC 9420 §9.2")
def test_keys_that_are_used_while_a_commit_waits_stay_used_once_it_is_taken_up(two: Company):
    ada, ben = two["ada"], two["ben"]
    pending = ada.commit()
    while_waiting = ben.seal(b"pay once")
    ada.receive(while_waiting)
    two.accept(ada, pending)
    with pytest.raises(StateError, match="replay"):
        ada.receive(while_waiting)
    two.check_agreement()


def test_past_epochs_that_are_forgotten_while_a_commit_waits_stay_forgotten(two: Company):
    ada = two["ada"]
    two.commit(ada)
    pending = ada.commit()
    ada.held = ada.group.forget_past_epochs()
    two.accept(ada, pending)
    assert "past/1" not in ada.group.rows()
    assert "past/2" in ada.group.rows()


@pytest.mark.rule("RFC 9420 §12.4.2", "own-commit")
def test_only_a_commit_on_the_present_state_is_taken_up(two: Company):
    ada, late = two["ada"], two["ada"].commit()
    with pytest.raises(StateError, match="another state"):
        two["ben"].group.take_up(late.group)
    two.commit(two["ben"])
    with pytest.raises(StateError, match="another state"):
        ada.group.take_up(late.group)


def test_the_loser_of_a_race_drops_its_commit_and_follows_the_other(two: Company):
    lost = two["ada"].commit()
    won = two["ben"].commit()
    two.accept(two["ben"], won)
    assert lost.group.epoch_authenticator != two["ada"].group.epoch_authenticator
    two.check_agreement()


def test_a_commit_without_a_path_keeps_the_leaf(two: Company):
    before = two["ada"].group.own_leaf
    pending = two["ada"].commit(force_path=False, proposals=[Add(two.person("cleo").key_package().key_package)])
    two.accept(two["ada"], pending)
    assert two["ada"].group.own_leaf == before
    two.check_agreement()


# --- many members -------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.1", "others-agree")
@pytest.mark.rule("RFC 9420 §12.4.2", "new-epoch")
def test_five_members_agree_after_everyone_has_committed(five: Company):
    for person in five.everyone:
        five.commit(person)
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.4.1", "welcome-for-all")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "joins")
def test_members_are_added_one_by_one_by_different_members(seeded_random: Random):
    company = Company("ada", random=seeded_random)
    for adder, newcomer in pairwise(FIVE):
        company.add(company[adder], company.person(newcomer))
        company.check_agreement()


@pytest.mark.rule("RFC 9420 §12.1.2", "keys-taken-up")
def test_an_update_is_taken_up_by_another_members_commit(five: Company):
    before = five["dan"].group.own_leaf
    five.propose(five["dan"])
    five.commit(five["ada"])
    assert five["dan"].group.own_leaf.encryption_key != before.encryption_key
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.4", "all-included")
def test_proposals_of_several_members_are_committed_together(five: Company):
    five.propose(five["ben"])
    five.propose(five["cleo"], Remove(five["eve"].leaf))
    five.propose(five["dan"], Add(five.person("finn").key_package().key_package))
    pending = five.commit(five["ada"])
    assert [member.leaf_node.credential.identity for member in pending.group.members()] == [
        b"ada",
        b"ben",
        b"cleo",
        b"dan",
        b"finn",
    ]
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.2", "remove-preferred")
def test_a_remove_wins_over_an_update_of_the_same_leaf(five: Company):
    five.propose(five["eve"])
    five.propose(five["ben"], Remove(five["eve"].leaf))
    five.commit(five["ada"])
    assert five.people.keys() == {"ada", "ben", "cleo", "dan"}
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.2", "no-update-by-committer")
@pytest.mark.rule("RFC 9420 §12.2", "no-removal-of-committer")
def test_a_committer_leaves_out_its_own_update_and_its_own_removal(five: Company):
    five.propose(five["ada"])
    five.propose(five["ben"], Remove(five["ada"].leaf))
    five.commit(five["ada"])
    assert "ada" in five.people
    five.check_agreement()


def test_a_proposal_that_cannot_stand_beside_others_does_not_block_the_group(five: Company):
    for proposer in ("ben", "cleo", "dan"):
        five.propose(five[proposer], Remove(five["eve"].leaf))
    finn = five.person("finn")
    five.propose(five["ben"], Add(finn.key_package().key_package))
    five.propose(five["cleo"], Add(finn.key_package().key_package))
    pending = five.commit(five["ada"])
    assert len(pending.group.members()) == 5


@pytest.mark.bad_input(77)
@pytest.mark.rule("RFC 9420 §12.4", "all-included")
def test_a_flood_of_proposals_that_clash_costs_each_signature_once(five: Company, monkeypatch: pytest.MonkeyPatch):
    packages = [five.person(f"ghost {number}").key_package().key_package for number in range(20)]
    for package in packages * 2:
        five.propose(five["ben" if package in packages[:10] else "cleo"], Add(package))
    five.propose(five["dan"], Add(packages[0]))
    verified: list[bytes] = []
    verify = Ed25519.verify

    def counted(self: Ed25519, public: bytes, message: bytes, signature: bytes) -> None:
        verified.append(signature)
        verify(self, public, message, signature)

    monkeypatch.setattr(Ed25519, "verify", counted)
    pending = five["ada"].commit()
    assert len(pending.group.members()) == 25
    # The leaf's and the key package's, for each of the proposals that wait.
    assert len(verified) <= 2 * len(five["ada"].group.pending_proposals)


@pytest.mark.rule("RFC 9420 §12.4", "all-included")
def test_a_committer_leaves_out_what_it_will_not_answer_for(five: Company):
    five.propose(five["ben"], Remove(five["eve"].leaf))
    five.propose(five["cleo"], Add(five.person("ghost").key_package().key_package))
    unwanted = five["ada"].group.pending_proposals[1].reference
    five.accept(five["ada"], five["ada"].commit(leave_out=[unwanted]))
    assert five.people.keys() == {"ada", "ben", "cleo", "dan"}
    assert len(five["ada"].group.members()) == 4
    five.check_agreement()


def test_pending_proposals_end_with_their_epoch(two: Company):
    two.propose(two["ben"])
    two.commit(two["ada"])
    assert two["ben"].group.pending_proposals == ()


def test_a_member_that_hears_its_own_proposal_again_changes_nothing(two: Company):
    message = two.propose(two["ada"], Add(two.person("cleo").key_package().key_package))
    before = dict(two["ada"].group.rows())
    two["ada"].receive(message)
    assert two["ada"].group.rows() == before


@pytest.mark.rule("RFC 9420 §12.4.2", "valid-list")
def test_a_member_that_lost_its_own_proposal_learns_it_again_and_follows_its_commit(five: Company):
    ada, saved = five["ada"], five["ada"].group
    message = five.propose(ada, Remove(five["eve"].leaf))
    ada.held = saved
    ada.receive(message)
    five.commit(five["ben"])
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.1.2", "keys-taken-up")
def test_a_member_that_lost_the_keys_of_its_own_update_says_so(two: Company):
    ada, saved = two["ada"], two["ada"].group
    message = two.propose(ada)
    ada.held = saved
    with pytest.raises(StateError, match="keys are gone"):
        ada.receive(message)


def test_credential_and_signature_key_change_with_a_commit(two: Company):
    fresh = two.suite.generate_signature_key(two.random)
    changes = LeafChanges(
        signature_private_key=fresh.private,
        extensions=(Extension(ExtensionType.APPLICATION_ID, ApplicationId(b"new").encode()),),
    )
    two.accept(two["ada"], two["ada"].commit(changes=changes))
    assert two["ben"].group.tree.leaf(two["ada"].leaf) == two["ada"].group.own_leaf
    assert two["ada"].group.own_leaf.signature_key == fresh.public
    two.check_agreement()


@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
@pytest.mark.rule("RFC 9420 §7.3", "own-extensions-listed")
@pytest.mark.parametrize(
    "changes",
    [
        LeafChanges(extensions=(Extension(PRIVATE_EXTENSION, b""),)),
        LeafChanges(capabilities=Capabilities(cipher_suites=(2,))),
        LeafChanges(capabilities=Capabilities(credentials=())),
        LeafChanges(credential=Credential(7, b"of a type that nobody reads")),
    ],
)
@pytest.mark.rule("RFC 9420 §12.4.1", "list-verified")
def test_a_commit_whose_own_leaf_all_others_would_refuse_is_not_made(changes: LeafChanges, two: Company):
    with pytest.raises(ValidationError):
        two["ada"].commit(changes=changes)


@pytest.mark.rule("RFC 9420 §12.1.7", "whole-list-replaced")
def test_group_context_extensions_change_for_all(seeded_random: Random):
    capabilities = Capabilities(extensions=(PRIVATE_EXTENSION,))
    company = Company("ada", "ben", random=seeded_random, capabilities=capabilities)
    extensions = (Extension(PRIVATE_EXTENSION, b"a policy"),)
    company.commit(company["ben"], GroupContextExtensions(extensions))
    assert company["ada"].group.group_context.extensions == extensions
    company.check_agreement()


# --- coming and going ---------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.2", "removed-member")
def test_a_removed_member_learns_of_it_and_cannot_act(five: Company):
    eve = five["eve"]
    pending = five["ada"].commit([Remove(eve.leaf)])
    assert eve.follow(pending.commit).removed_self
    assert not eve.group.is_active
    for act in (
        lambda: eve.seal(b"still here"),
        eve.commit,
        eve.update_leaf,
        eve.group.group_info,
    ):
        with pytest.raises(StateError, match="removed"):
            act()


@pytest.mark.rule("RFC 9420 §16.6")
@pytest.mark.rule("RFC 9420 §12.4.2", "removed-member")
def test_a_removed_member_cannot_read_the_next_epoch(five: Company):
    eve = five["eve"]
    five.remove(five["ada"], eve)
    message = five["ben"].seal(b"without eve")
    with pytest.raises(StateError):
        eve.receive(message)


@pytest.mark.rule("RFC 9420 §16.6")
def test_a_removed_member_cannot_follow_the_commit_that_removes_it(five: Company):
    eve = five["eve"]
    state = eve.group
    pending = five.remove(five["ada"], eve)
    eve.held = state
    eve.follow(pending.commit)
    assert eve.group.epoch_authenticator != five["ada"].group.epoch_authenticator


def test_a_removed_member_still_reads_what_was_sent_before(five: Company):
    late = five["ben"].seal(b"before")
    eve = five["eve"]
    five.remove(five["ada"], eve)
    assert eve.read(late) == b"before"


@pytest.mark.rule("RFC 9420 §16.6")
def test_a_newcomer_cannot_read_the_past(two: Company):
    past = two["ada"].seal(b"before cleo")
    cleo = two.person("cleo")
    two.add(two["ben"], cleo)
    with pytest.raises(StateError):
        cleo.receive(past)


@pytest.mark.rule("RFC 9420 §12.1.1", "leftmost-leaf")
def test_a_newcomer_takes_the_place_of_one_who_left(five: Company):
    place = five["cleo"].leaf
    five.remove(five["ada"], five["cleo"])
    finn = five.person("finn")
    five.add(five["eve"], finn)
    assert finn.leaf == place
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.1.3", "tree-cut-back")
def test_the_tree_shrinks_when_its_right_half_is_empty(five: Company):
    five.remove(five["ada"], five["eve"])
    assert five["ada"].group.tree.leaf_count == 4
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.4.3.2", "joins")
def test_an_outsider_joins_by_an_external_commit(five: Company):
    finn = five.person("finn")
    five.join_from_outside(finn, five["cleo"])
    assert len(five["ada"].group.members()) == 6
    five.check_agreement()


@pytest.mark.rule("RFC 9420 §12.4.3.2", "joins")
def test_a_commit_tells_that_it_is_external_and_who_joined(two: Company):
    cleo = two.person("cleo")
    ada = two["ada"]
    state = ada.group
    pending = two.join_from_outside(cleo, two["ben"])
    ada.held = state
    told = ada.follow(pending.commit)
    assert told.external
    assert [member.leaf_node.credential.identity for member in told.added] == [b"cleo"]
    assert told.committer == cleo.leaf


@pytest.mark.rule("RFC 9420 §12.4.3.2", "joins")
def test_a_member_that_lost_its_state_comes_back_in_its_own_place(five: Company):
    dan, place = five["dan"], five["dan"].leaf
    five.join_from_outside(dan, five["ada"], resync_leaf=place)
    assert dan.leaf == place
    assert len(five["ada"].group.members()) == 5
    five.check_agreement()


def test_an_outsider_can_add_others_once_it_is_in(two: Company):
    cleo = two.person("cleo")
    two.join_from_outside(cleo, two["ada"])
    two.add(cleo, two.person("dan"))
    two.check_agreement()


# --- messages late, lost and out of order -------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §9.2")
@pytest.mark.rule("RFC 9420 §15.3")
def test_messages_are_read_in_any_order(two: Company):
    messages = [two["ada"].seal(b"%d" % number) for number in range(8)]
    for number in (7, 2, 0, 5, 1, 6, 3, 4):
        assert two["ben"].read(messages[number]) == b"%d" % number


@pytest.mark.rule("RFC 9420 §9.2")
@pytest.mark.rule("RFC 9420 §15.3")
def test_a_lost_message_does_not_hold_up_those_after_it(two: Company):
    two["ada"].seal(b"lost")
    assert two["ben"].read(two["ada"].seal(b"after")) == b"after"


@pytest.mark.rule("RFC 9420 §9.2")
@pytest.mark.rule("hostile input", "replayed-private-message")
def test_a_message_is_read_once(two: Company):
    message = two["ada"].seal(b"once")
    two["ben"].receive(message)
    with pytest.raises(StateError, match="replay"):
        two["ben"].receive(message)


def test_messages_of_two_past_epochs_are_read_and_older_ones_are_not(two: Company):
    late = [two["ada"].seal(b"epoch 1")]
    for epoch in (2, 3):
        two.commit(two["ben"])
        late.append(two["ada"].seal(b"epoch %d" % epoch))
    assert [two["ben"].read(message) for message in late] == [b"epoch 1", b"epoch 2", b"epoch 3"]
    too_late = two["ada"].seal(b"epoch 3 again")
    for _ in range(PAST_EPOCHS + 1):
        two.commit(two["ben"])
    with pytest.raises(StateError, match="epoch"):
        two["ben"].receive(too_late)


@pytest.mark.rule("RFC 9420 §9.2")
def test_a_late_message_of_a_past_epoch_is_read_once(two: Company):
    late = two["ada"].seal(b"late")
    two.commit(two["ben"])
    two["ben"].receive(late)
    with pytest.raises(StateError, match="replay"):
        two["ben"].receive(late)


def test_a_late_message_names_its_sender_though_the_leaf_has_a_new_owner(five: Company):
    late = five["cleo"].seal(b"goodbye")
    five.remove(five["ada"], five["cleo"])
    five.add(five["ada"], five.person("finn"))
    received = five["ben"].receive(late)
    assert isinstance(received, ReceivedApplication)
    assert received.leaf_node.credential == Credential.basic(b"cleo")


def test_the_secrets_of_epochs_that_are_too_old_are_gone(two: Company):
    first = two["ben"].group.rows()
    for _ in range(PAST_EPOCHS + 1):
        two.commit(two["ada"])
    kept = two["ben"].group.rows()
    old = [name for name in first if name.startswith(("secret_tree/1/", "tree/1", "past/1"))]
    assert old
    assert not set(old) & set(kept)


@pytest.mark.rule("RFC 9420 §9.2")
def test_past_epochs_can_be_forgotten_before_their_turn(two: Company):
    late = two["ada"].seal(b"late")
    two.commit(two["ben"])
    assert two["ben"].group.forget_past_epochs(keep=1).rows() == two["ben"].group.rows()
    two["ben"].held = two["ben"].group.forget_past_epochs()
    assert not any("/1" in name for name in two["ben"].group.rows() if not name.startswith("secret_tree/2"))
    with pytest.raises(StateError, match="epoch"):
        two["ben"].receive(late)
    two.check_agreement()


@pytest.mark.rule("RFC 9420 §6.3.1")
def test_ones_own_application_message_is_not_read(two: Company):
    message = two["ada"].seal(b"mine")
    with pytest.raises(StateError, match="own message"):
        two["ada"].receive(message)


# --- what members agree on ----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §8.5")
def test_an_exported_secret_is_the_same_for_all_and_new_in_each_epoch(five: Company):
    before = {person.group.export("label", b"", 32) for person in five.everyone}
    five.commit(five["eve"])
    after = {person.group.export("label", b"", 32) for person in five.everyone}
    assert (len(before), len(after), len(before | after)) == (1, 1, 2)


@pytest.mark.rule("RFC 9420 §8.7")
def test_members_whose_histories_differ_have_different_epoch_authenticators(two: Company):
    assert two["ada"].commit().group.epoch_authenticator != two["ben"].commit().group.epoch_authenticator


def test_a_forged_message_of_a_past_epoch_is_refused(two: Company):
    late = two["ada"].seal(b"late")
    two.commit(two["ben"])
    with pytest.raises(VerificationError):
        two["ben"].receive(late[:-1] + bytes((late[-1] ^ 1,)))


def test_every_act_leaves_the_old_state_whole(five: Company):
    # The acts of `Person` hold this for each call; here for those that raise.
    acts: list[Callable[[Person], object]] = [
        lambda person: person.receive(b""),
        lambda person: person.receive(five["ada"].seal(b"x")[:-1]),
        lambda person: person.commit([Remove(person.leaf)]),
        lambda person: person.propose(Remove(LeafIndex(77))),
    ]
    for act in acts:
        with pytest.raises(MLSError):
            act(five["ben"])
    five.check_agreement()
