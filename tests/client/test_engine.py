"""What entries lead to: honest ones to messages and members, dishonest ones to a fault and nothing else."""

from dataclasses import replace

import msgspec
import pytest

from heliograph.client import engine
from heliograph.client.changes import IntentAdded, JoinFromOutside, RoomSaved
from heliograph.client.identity import KnownAccount, next_state
from heliograph.client.room import create_room
from heliograph.client.room_commits import Wanted
from heliograph.client.step import Facts, Missing, Step
from heliograph.client.told import (
    DeviceListChanged,
    EntriesMissed,
    MemberChanged,
    ProtocolFault,
    RoomJoined,
    RoomMessage,
)
from heliograph.content.franking import Franked, frank_message
from heliograph.mls.group import LeafChanges
from heliograph.mls.proposal import Add, GroupContextExtensions, Proposal, Remove
from heliograph.wire.account_state import (
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    sign_state,
    signature_for_new_key,
)
from heliograph.wire.events import CommitEvent, DevicesEvent, ErasedEvent, MessageEvent, WelcomeEvent
from heliograph.wire.frank import Frank
from heliograph.wire.ids import RoomId, TopicId, device_id
from heliograph.wire.room_policy import APP_DATA_DICTIONARY, REQUIRED, Role, RoomPolicy
from tests.client.hub import NOW_MS, SUITE, Hub, Phone, sha256, welcome_event


@pytest.fixture
def hub() -> Hub:
    """Return a hub that nobody uses yet."""
    return Hub()


@pytest.fixture
def alice(hub: Hub) -> Phone:
    """Return alice's device."""
    return hub.phone("alice")


@pytest.fixture
def bob(hub: Hub) -> Phone:
    """Return bob's device."""
    return hub.phone("bob")


@pytest.fixture
def room(hub: Hub, alice: Phone, bob: Phone) -> RoomId:
    """Return a room of alice's in which bob stands."""
    return hub.room_of(alice, bob)


def last_fault(phone: Phone) -> str:
    """Return what the newest told thing complains of."""
    told = phone.told[-1]
    assert isinstance(told, ProtocolFault), told
    return told.detail


def nothing_shown(phone: Phone) -> bool:
    """Tell whether no message was shown or kept."""
    return not phone.memory.messages and not any(isinstance(told, RoomMessage) for told in phone.told)


def test_a_message_is_opened_checked_and_told(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.say(alice, room, "The light is on.")

    bob.apply(room, seq, event)

    told = bob.told[-1]
    assert isinstance(told, RoomMessage)
    assert (told.text, told.sender, told.seq) == ("The light is on.", alice.identity.account, seq)


def test_an_entry_that_comes_twice_changes_nothing(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.say(alice, room, "once")
    bob.apply(room, seq, event)

    assert bob.apply(room, seq, event) == Step()


def test_a_message_that_is_replayed_under_a_new_number_is_not_shown(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId
) -> None:
    seq, event = hub.say(alice, room, "once")
    bob.apply(room, seq, event)

    bob.apply(room, seq + 1, event)

    assert "could not be opened" in last_fault(bob)
    assert len(bob.memory.messages) == 1


@pytest.mark.rule("RFC 9420 §12.2", "committer-checks-too")
@pytest.mark.parametrize("kind", ["policy", "ghost", "removal", "update"])
def test_a_commit_lends_nobody_its_makers_role(hub: Hub, alice: Phone, bob: Phone, room: RoomId, kind: str) -> None:
    carol, before = hub.phone("carol"), alice.memory.rooms[room]
    seq, event = hub.add(alice, room, carol)
    bob.apply(room, seq, event)
    group, policy = bob.memory.rooms[room].group, bob.memory.rooms[room].policy
    raised = replace(policy, participants={**policy.participants, bob.identity.account: Role.OWNER})
    wished: dict[str, Proposal] = {
        "policy": GroupContextExtensions((REQUIRED, raised.extension())),
        "ghost": Add(hub.phone("ghost").key_package().key_package),
        "removal": Remove(carol.memory.rooms[room].group.own_leaf_index),
    }
    now_s = NOW_MS // 1000
    if kind == "update":
        stolen = LeafChanges(credential=carol.identity.credential)
        _, message = group.update_leaf(stolen, random=hub.random, now_s=now_s)
    else:
        _, message = group.propose(wished[kind], random=hub.random, now_s=now_s)
    seq, event = hub.propose(alice, room, message)
    alice.apply(room, seq, event)

    pending = hub.build(alice, room, Wanted())

    assert before.policy.role(bob.identity.account) is Role.MEMBER
    assert RoomPolicy.from_extensions(pending.room.group.group_context.extensions) == policy
    assert pending.room.uris() == alice.memory.rooms[room].uris()


@pytest.mark.rule("RFC 9420 §9.2")
def test_a_message_that_came_while_a_commit_waited_is_not_opened_again_after_it(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId
) -> None:
    pending = hub.build(alice, room, Wanted())
    seq, event = hub.say(bob, room, "once")
    alice.apply(room, seq, event)
    alice.apply(room, *hub.commit(pending))

    alice.apply(room, hub.seq + 1, event)

    assert "could not be opened" in last_fault(alice)
    assert len(alice.memory.messages) == 1


def test_the_same_content_sealed_again_is_a_repetition(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    franked = frank_message(alice.composer(room).text("once"))
    for _ in range(2):
        event = hub.stamp(alice, room, 1, alice.seal(room, franked), franked.tag)
        bob.apply(room, hub.seq, event)

    assert "repetition" in last_fault(bob)
    assert len(bob.memory.messages) == 1


def test_a_message_that_names_another_sender_is_not_shown(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    franked = frank_message(bob.composer(room).text("I am bob"))
    event = hub.stamp(alice, room, 1, alice.seal(room, franked), franked.tag)

    bob.apply(room, hub.seq, event)

    assert "another sender" in last_fault(bob)
    assert nothing_shown(bob)


def test_a_message_that_names_another_room_is_not_shown(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    other = hub.room_of(alice)
    franked = frank_message(alice.composer(other).text("elsewhere"))
    event = hub.stamp(alice, room, 1, alice.seal(room, franked), franked.tag)

    bob.apply(room, hub.seq, event)

    assert "another room" in last_fault(bob)
    assert nothing_shown(bob)


def test_a_message_with_the_tag_of_another_is_not_shown(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    said, meant = (frank_message(alice.composer(room).text(text)) for text in ("said", "meant"))
    event = hub.stamp(alice, room, 1, alice.seal(room, Franked(said.application_data, meant.tag)), meant.tag)

    bob.apply(room, hub.seq, event)

    assert "tag" in last_fault(bob)
    assert nothing_shown(bob)


def test_a_message_without_a_true_stamp_is_not_shown(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.say(alice, room, "unstamped")
    forged = replace_frank(event, signature=bytes(64))

    bob.apply(room, seq, forged)

    assert nothing_shown(bob)
    assert isinstance(bob.told[-1], ProtocolFault)


def test_stamps_that_were_swapped_do_not_hold(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, one = hub.say(alice, room, "one")
    _, two = hub.say(alice, room, "two")
    swapped = MessageEvent(one.epoch, one.ciphertext, one.accepted_at_ms, two.frank)

    bob.apply(room, seq, swapped)

    assert nothing_shown(bob)


def test_a_live_message_with_an_absurd_time_is_not_shown(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.say(alice, room, "late")
    hub.now_ms += 6 * 60 * 1000

    bob.apply(room, seq, event, live=True)

    assert nothing_shown(bob)


def test_a_message_of_the_backlog_may_be_old(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.say(alice, room, "old")
    hub.now_ms += 6 * 60 * 1000

    bob.apply(room, seq, event, live=False)

    assert [one.text for one in bob.memory.messages.values()] == ["old"]


def test_garbage_harms_no_later_entry(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    garbage = hub.stamp(alice, room, 1, b"garbage", bytes(32))

    bob.apply(room, hub.seq, garbage)
    bob.apply(room, hub.seq + 1, ErasedEvent("expired"))
    hub.seq += 1
    bob.apply(room, *hub.say(alice, room, "genuine"))

    assert isinstance(bob.told[-2], ProtocolFault)
    assert [one.text for one in bob.memory.messages.values()] == ["genuine"]


def test_our_own_message_is_known_again_and_gets_its_number(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    del bob
    seq, event = hub.say(alice, room, "mine")
    alice.memory.ciphertexts[sha256(event.ciphertext)] = b"m" * 32
    step = alice.apply(room, seq, event)

    assert alice.memory.rooms[room].seq == seq
    assert any(isinstance(change, RoomSaved) for change in step.changes)
    assert not any(isinstance(told, ProtocolFault) for told in alice.told)


def test_a_commit_brings_members(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    carol = hub.phone("carol")

    seq, event = hub.add(alice, room, carol)
    bob.apply(room, seq, event)

    told = bob.told[-1]
    assert isinstance(told, MemberChanged)
    assert told.joined == [carol.identity.account]
    assert isinstance(carol.told[-1], RoomJoined)
    assert len({phone.memory.rooms[room].group.epoch_authenticator for phone in (alice, bob, carol)}) == 1


def test_a_ghost_device_is_never_accepted(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    """An evil server's own device under a member's name: no chain holds its key."""
    ghost = Phone(hub, "ghost")
    ghost.identity = replace(ghost.identity, account=bob.identity.account)
    before = bob.memory.rooms[room]
    pending = hub.build(alice, room, Wanted(add=[ghost.key_package().key_package]))
    seq, event = hub.commit(pending)

    step = bob.apply(room, seq, event)

    after = bob.memory.rooms[room]
    assert after.standing == "lost"
    assert after.group.epoch == before.group.epoch
    assert any(isinstance(one, IntentAdded) and isinstance(one.intent, JoinFromOutside) for one in step.changes)


def test_a_welcome_into_a_room_with_a_ghost_is_refused(hub: Hub, alice: Phone, bob: Phone) -> None:
    room = hub.room_of(alice)
    ghost = Phone(hub, "ghost")
    ghost.identity = replace(ghost.identity, account=alice.identity.account)
    pending = hub.build(
        alice,
        room,
        Wanted(add=[ghost.key_package().key_package, bob.key_package().key_package], join=[bob.identity.account]),
    )
    seq, event = hub.commit(pending)

    bob.apply(bob.identity.device, 1, welcome_event(room, pending, seq, event))

    assert bob.memory.rooms == {}
    assert "does not hold" in last_fault(bob)


def test_a_welcome_whose_server_swaps_the_franking_key_is_refused(hub: Hub, alice: Phone, bob: Phone) -> None:
    room = hub.room_of(alice)
    pending = hub.build(alice, room, Wanted(add=[bob.key_package().key_package], join=[bob.identity.account]))
    seq, event = hub.commit(pending)
    hub.franking_key = bytes(32)

    bob.apply(bob.identity.device, 1, welcome_event(room, pending, seq, event))

    assert bob.memory.rooms == {}


@pytest.mark.rule("RFC 9420 §12.4.3", "group-id-unique")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "group-id-unique")
def test_a_welcome_cannot_replace_a_room_in_which_this_device_stands(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId
) -> None:
    mallory, before = hub.phone("mallory"), bob.memory.rooms[room]
    mallory.memory.rooms[room] = create_room(
        mallory.identity, room, direct=False, franking_key=hub.franking_key, now_s=NOW_MS // 1000, random=hub.random
    )
    pending = hub.build(mallory, room, Wanted(add=[bob.key_package().key_package], join=[bob.identity.account]))
    seq, event = hub.commit(pending)

    step = bob.apply(bob.identity.device, 2, welcome_event(room, pending, seq, event))

    assert bob.memory.rooms[room] is before
    assert IntentAdded(room, JoinFromOutside(after=seq)) in step.changes


def test_a_welcome_for_nobody_here_is_answered_by_joining_from_outside(hub: Hub, alice: Phone, bob: Phone) -> None:
    room = hub.room_of(alice)
    pending = hub.build(alice, room, Wanted(add=[bob.key_package().key_package], join=[bob.identity.account]))
    seq, event = hub.commit(pending)
    bob.memory.bundles.clear()

    step = bob.apply(bob.identity.device, 1, welcome_event(room, pending, seq, event))

    assert any(isinstance(one, IntentAdded) and isinstance(one.intent, JoinFromOutside) for one in step.changes)


def test_a_welcome_that_is_no_mls_message_is_passed_over(hub: Hub, bob: Phone) -> None:
    bob.apply(bob.identity.device, 1, WelcomeEvent("r" + "a" * 26, "group", 1, 1, b"\x00", bytes(32), NOW_MS))

    assert bob.memory.cursors[bob.identity.device] == 1
    assert isinstance(bob.told[-1], ProtocolFault)
    del hub


def test_a_used_key_package_is_deleted_with_the_joining(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    del hub, alice, room

    assert bob.memory.bundles == {}


def test_a_missing_commit_makes_the_room_lost(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    seq, event = hub.commit(hub.build(alice, room, Wanted()))
    alice.apply(room, seq, event)
    seq, event = hub.commit(hub.build(alice, room, Wanted()))

    bob.apply(room, seq, event)

    assert bob.memory.rooms[room].standing == "lost"


def test_a_member_cannot_make_itself_owner(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    held = bob.memory.rooms[room]
    policy = replace(held.policy, participants={**held.policy.participants, bob.identity.account: Role.OWNER})
    others = [one for one in held.group.group_context.extensions if one.extension_type != APP_DATA_DICTIONARY]
    built = held.group.commit(
        [GroupContextExtensions((*others, policy.extension()))], random=hub.random, now_s=NOW_MS // 1000
    )
    hub.seq += 1
    alice.apply(room, hub.seq, CommitEvent(held.group.epoch, built.commit, NOW_MS, bytes(32)))

    assert alice.memory.rooms[room].policy.role(bob.identity.account) is Role.MEMBER
    assert alice.memory.rooms[room].standing == "lost"


def test_a_gap_is_told_and_the_cursor_moves(hub: Hub, bob: Phone, room: RoomId) -> None:
    del hub
    step = engine.apply_gap(bob.memory, TopicId(room), 2, 9, "expired")
    bob.memory.save(step.changes)

    assert bob.memory.rooms[room].seq == 9
    assert bob.told[-1] == EntriesMissed(TopicId(room), 2, 9, "expired")


def test_a_new_device_list_is_fetched_verified_and_told(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    del room
    grown, device = with_tablet(hub, alice)
    alice.known = grown

    bob.apply(bob.identity.device, 2, DevicesEvent(alice.identity.account, 1, NOW_MS))

    told = bob.told[-1]
    assert isinstance(told, DeviceListChanged)
    assert told.added == [device]
    assert bob.memory.accounts[alice.identity.account].state.seq == 1


def test_a_chain_that_the_server_cuts_short_is_not_believed(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    del room
    facts = Facts(bob.identity, hub.franking_key, NOW_MS, live=True, asked=frozenset({alice.identity.account}))

    step = engine.apply(
        bob.memory,
        facts,
        TopicId(bob.identity.device),
        2,
        DevicesEvent(alice.identity.account, 7, NOW_MS),
    )

    assert isinstance(step, Step)
    bob.memory.save(step.changes)
    assert "does not hold" in last_fault(bob)


def test_an_unknown_account_is_asked_for_before_its_leaf_is_judged(hub: Hub, alice: Phone, bob: Phone) -> None:
    room = hub.room_of(alice)
    pending = hub.build(alice, room, Wanted(add=[bob.key_package().key_package], join=[bob.identity.account]))
    seq, event = hub.commit(pending)
    welcome = welcome_event(room, pending, seq, event)
    facts = Facts(bob.identity, hub.franking_key, NOW_MS, live=True, trees={event.tree_hash: pending.tree})

    step = engine.apply(bob.memory, facts, TopicId(bob.identity.device), 1, welcome)

    assert step == Missing(accounts=frozenset({alice.identity.account}))


def test_what_a_device_says_after_it_left_its_account_is_not_shown(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId
) -> None:
    grown, tablet = with_tablet(hub, alice)
    without = next_state(
        grown.chain[-1],
        devices=tuple(entry for entry in grown.state.devices if entry.device == tablet),
        now_ms=NOW_MS,
        random=hub.random,
    )
    key = alice.identity.account_private_key
    assert key is not None
    shrunk = KnownAccount(grown.account, grown.handle, (*grown.chain, sign_state(without, Signer.ACCOUNT, key, ())))
    bob.memory.accounts[alice.identity.account] = shrunk
    seq, event = hub.say(alice, room, "from a stolen phone")

    bob.apply(room, seq, event, live=True)

    assert nothing_shown(bob)
    assert "left its account" in last_fault(bob)


def replace_frank(event: MessageEvent, **members: object) -> MessageEvent:
    """Return an event whose frank has other members."""
    frank: Frank = msgspec.structs.replace(event.frank, **members)
    return MessageEvent(event.epoch, event.ciphertext, event.accepted_at_ms, frank)


def with_tablet(hub: Hub, phone: Phone) -> tuple[KnownAccount, str]:
    """Return an account with another device, and that device."""
    keys = SUITE.generate_signature_key(hub.random)
    device = device_id(hub.random(16))
    newest = phone.known.chain[-1]
    devices = (*newest.state.devices, DeviceEntry(device, keys.public, DeviceRole.FULL))
    state = next_state(newest, devices=devices, now_ms=NOW_MS, random=hub.random)
    key = phone.identity.account_private_key
    assert key is not None
    signed = sign_state(state, Signer.ACCOUNT, key, ())
    signed = SignedAccountState(state, signed.signer, signed.signature, (signature_for_new_key(state, keys.private),))
    return KnownAccount(phone.known.account, phone.known.handle, (*phone.known.chain, signed)), device
