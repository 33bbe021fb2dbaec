"""Who leaves, and who may put others out: what a member accepts, whatever the hub lets pass."""

import pytest

from heliograph.client import engine
from heliograph.client.changes import ChangeMembers, IntentAdded
from heliograph.client.identity import KnownAccount, next_state
from heliograph.client.room import PendingChange, join_from_outside
from heliograph.client.room_commits import Accounts, Wanted, leaving_uris, propose_leaving
from heliograph.client.step import Facts, Missing, Step
from heliograph.mls.proposal import Proposal, Remove
from heliograph.wire.account_state import DeviceEntry, DeviceRole, Signer, sign_state
from heliograph.wire.events import CommitEvent, ProposalEvent
from heliograph.wire.ids import RoomId, TopicId, device_id
from tests.client.hub import NOW_MS, SUITE, Hub, Phone


@pytest.fixture
def hub() -> Hub:
    """Return a hub that nobody uses yet."""
    return Hub()


@pytest.fixture
def alice(hub: Hub) -> Phone:
    """Return alice's device, who owns the room."""
    return hub.phone("alice")


@pytest.fixture
def bob(hub: Hub) -> Phone:
    """Return the device of a plain member."""
    return hub.phone("bob")


@pytest.fixture
def carol(hub: Hub) -> Phone:
    """Return the device of another."""
    return hub.phone("carol")


@pytest.fixture
def room(hub: Hub, alice: Phone, bob: Phone, carol: Phone) -> RoomId:
    """Return a room in which all three stand."""
    room = hub.room_of(alice, bob, carol)
    for one in (alice, bob, carol):
        for known in (alice, bob, carol):
            one.memory.accounts[known.identity.account] = known.known
    return room


def forged(hub: Hub, committer: Phone, room: RoomId, *proposals: Proposal) -> tuple[int, CommitEvent]:
    """Return a commit that its builder did not ask the policy about, and no pending proposal goes into."""
    group = committer.memory.rooms[room].group
    built = group.commit(list(proposals), random=hub.random, now_s=NOW_MS // 1000)
    hub.seq += 1
    return hub.seq, CommitEvent(group.epoch, built.commit, NOW_MS, bytes(32))


def leave(hub: Hub, leaver: Phone, room: RoomId, *readers: Phone) -> None:
    """Let somebody propose to leave, and others read it."""
    after, proposals = propose_leaving(
        leaver.memory.rooms[room], leaver.identity.account, random=hub.random, now_s=NOW_MS // 1000
    )
    leaver.memory.rooms[room] = after
    for proposal in proposals:
        hub.seq += 1
        for reader in readers:
            reader.apply(room, hub.seq, ProposalEvent(after.group.epoch, proposal, NOW_MS))


def leaf_of(phone: Phone, room: RoomId, other: Phone) -> Remove:
    """Return the Remove of another's device."""
    devices = phone.memory.rooms[room].devices()
    return Remove(next(index for index, (account, _) in devices.items() if account == other.identity.account))


def test_a_members_commit_that_removes_another_is_not_followed(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    seq, event = forged(hub, bob, room, leaf_of(bob, room, carol))
    alice.apply(room, seq, event)
    assert alice.memory.rooms[room].standing == "lost"


def test_before_a_removal_is_refused_the_accounts_newest_state_is_asked_for(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    seq, event = forged(hub, bob, room, leaf_of(bob, room, carol))
    facts = Facts(alice.identity, hub.franking_key, NOW_MS, live=True)
    step = engine.apply(alice.memory, facts, TopicId(room), seq, event)
    assert step == Missing(accounts=frozenset({carol.identity.account}))


def test_a_members_commit_that_removes_a_dropped_device_is_followed(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    carol.known = without_its_device(hub, carol)
    seq, event = forged(hub, bob, room, leaf_of(bob, room, carol))
    alice.apply(room, seq, event)
    assert alice.memory.rooms[room].standing == "active"
    assert len(alice.memory.rooms[room].devices()) == 2


def without_its_device(hub: Hub, phone: Phone) -> KnownAccount:
    """Return the chain of an account that has put its first device out, for another one."""
    key, new = phone.identity.account_private_key, SUITE.generate_signature_key(hub.random)
    assert key is not None
    entry = DeviceEntry(device_id(hub.random(16)), new.public, DeviceRole.FULL)
    state = next_state(phone.known.chain[-1], devices=(entry,), now_ms=NOW_MS, random=hub.random)
    signed = sign_state(state, Signer.ACCOUNT, key, [new.private])
    return KnownAccount(phone.known.account, phone.known.handle, (*phone.known.chain, signed))


def test_a_member_commits_the_leave_of_an_owner(hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId) -> None:
    leave(hub, alice, room, bob, carol)
    pending: PendingChange = hub.build(bob, room, Wanted())
    seq, event = hub.commit(pending)
    carol.apply(room, seq, event)
    assert carol.memory.rooms[room].standing == "active"
    assert alice.identity.account not in {account for account, _ in carol.memory.rooms[room].devices().values()}


def test_a_commit_that_leaves_a_leaver_in_is_not_followed(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    _, event = forged(hub, alice, room)
    leave(hub, carol, room, bob)
    bob.apply(room, hub.seq + 1, event)
    assert bob.memory.rooms[room].standing == "lost"


def test_ones_own_proposal_may_not_have_been_taken(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    leave(hub, bob, room)
    assert leaving_uris(bob.memory.rooms[room]) == frozenset()
    seq, event = forged(hub, alice, room)
    bob.apply(room, seq, event)
    assert bob.memory.rooms[room].standing == "active"


def test_after_a_commit_from_outside_an_admin_takes_the_leaver_out(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    group = carol.memory.rooms[room].group
    leave(hub, bob, room, alice, carol)
    pending = join_from_outside(
        carol.identity,
        room,
        group.group_info(),
        group.ratchet_tree(),
        franking_key=hub.franking_key,
        accounts=Accounts({one.identity.account: one.known for one in hub.phones}),
        least_epoch=0,
        now_s=NOW_MS // 1000,
        random=hub.random,
    )
    seq, event = hub.commit(pending)
    step = alice.apply(room, seq, event)
    assert isinstance(step, Step)
    wanted = [one.intent for one in step.changes if isinstance(one, IntentAdded)]
    assert ChangeMembers(remove=[bob.identity.account]) in wanted


def spoilt(event: ProposalEvent, at: int) -> ProposalEvent:
    """Return a proposal with one byte wrong, counted from its end."""
    body = bytearray(event.proposal)
    body[at] ^= 1
    return ProposalEvent(event.epoch, bytes(body), event.accepted_at_ms)


def test_a_leave_that_only_members_can_see_is_spoilt_does_not_stop_the_room(
    hub: Hub, alice: Phone, bob: Phone, carol: Phone, room: RoomId
) -> None:
    """The server cannot check the membership tag, and asks every commit for the leave."""
    _, (message,) = propose_leaving(
        bob.memory.rooms[room], bob.identity.account, random=hub.random, now_s=NOW_MS // 1000
    )
    event = spoilt(ProposalEvent(1, message, NOW_MS), -1)
    wanted = {}
    for one in (alice, carol):
        step = one.apply(room, hub.seq + 1, event)
        wanted[one] = [change.intent for change in step.changes if isinstance(change, IntentAdded)]
    assert wanted == {alice: [ChangeMembers(remove=[bob.identity.account])], carol: []}


def test_a_leave_that_nobody_signed_puts_nobody_out(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    _, (message,) = propose_leaving(
        bob.memory.rooms[room], bob.identity.account, random=hub.random, now_s=NOW_MS // 1000
    )
    step = alice.apply(room, hub.seq + 1, spoilt(ProposalEvent(1, message, NOW_MS), -40))
    assert not [change for change in step.changes if isinstance(change, IntentAdded)]
