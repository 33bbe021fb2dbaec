"""The device's store: all of a step or nothing of it, and for its owner's eyes alone."""

import stat
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from heliograph.client.changes import (
    AccountLearned,
    ChangeDropped,
    ChangePending,
    CiphertextMade,
    CursorMoved,
    IntentAdded,
    IntentDone,
    JoinFromOutside,
    KeyPackagesMade,
    KeyPackagesOutlived,
    KeyPackageSpent,
    LaneUnsealed,
    MessageSaved,
    MetaSaved,
    RoomForgotten,
    RoomSaved,
    SendContent,
    StoredMessage,
    Tell,
    TendRoom,
)
from heliograph.client.errors import StoreBusy, StoreDamaged, StoreMissing
from heliograph.client.home import store_path
from heliograph.client.room import seal_message
from heliograph.client.room_commits import Wanted
from heliograph.client.store import MAX_WAITING_TOLD, Store
from heliograph.client.told import RoomLeft
from heliograph.content.franking import frank_message
from heliograph.wire.ids import RoomId, TopicId
from tests.client.hub import NOW_MS, SUITE, Hub, Phone


@pytest.fixture
def hub() -> Hub:
    """Return a hub."""
    return Hub()


@pytest.fixture
def alice(hub: Hub) -> Phone:
    """Return a device whose state is worth saving."""
    return hub.phone("alice")


@pytest.fixture
def room(hub: Hub, alice: Phone) -> RoomId:
    """Return a room of alice and bob."""
    return hub.room_of(alice, hub.phone("bob"))


def message_of(alice: Phone, room: RoomId, number: int = 1) -> StoredMessage:
    """Return a message to store."""
    return StoredMessage(
        room=room,
        message_id=number.to_bytes(32),
        sender=alice.identity.account,
        device=alice.identity.device,
        act="say",
        text=f"number {number}",
        application_data=b"sealed",
        state="waiting",
        created_at_ms=NOW_MS,
    )


def test_only_its_owner_can_read_a_store(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store.create(home)
    store.save([MetaSaved("session", b"secret")])

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.iterdir()]}
    store.close()

    assert modes.pop("home") == 0o700
    assert set(modes.values()) == {0o600}


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "home")

    with pytest.raises(StoreBusy):
        Store.open(tmp_path / "home")
    store.close()

    Store.open(tmp_path / "home").close()


def test_a_home_is_made_once_and_opened_only_if_made(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        Store.open(tmp_path / "home")
    Store.create(tmp_path / "home").close()

    with pytest.raises(StoreMissing):
        Store.create(tmp_path / "home")


def test_a_damaged_store_is_said_to_be_damaged(tmp_path: Path) -> None:
    Store.create(tmp_path / "home").close()
    store_path(tmp_path / "home").write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreDamaged):
        Store.open(tmp_path / "home")


def test_a_room_comes_back_as_it_was_saved(tmp_path: Path, alice: Phone, room: RoomId) -> None:
    held = replace(alice.memory.rooms[room], name="Harbour", topic="Ships", leaf_at_ms=77)
    store = Store.create(tmp_path / "home")
    store.save([RoomSaved(held)])
    store.close()

    store = Store.open(tmp_path / "home")
    found = store.room(room)
    store.close()

    assert found is not None
    assert (found.name, found.topic, found.seq, found.leaf_at_ms) == ("Harbour", "Ships", held.seq, 77)
    assert found.group.epoch_authenticator == held.group.epoch_authenticator
    assert dict(found.group.rows()) == dict(held.group.rows())


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, alice: Phone, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    held = alice.memory.rooms[room]
    store.save([RoomSaved(held)])
    after, _ = seal_message(held, frank_message(alice.composer(room).text("x")), random=alice.hub.random)
    too_large = CursorMoved(TopicId(room), 1 << 80)

    with pytest.raises((OverflowError, apsw.Error)):
        store.save([RoomSaved(after), MessageSaved(message_of(alice, room)), too_large])
    kept = store.room(room)
    store.close()

    assert kept is held
    store = Store.open(tmp_path / "home")
    assert store.message(room, message_of(alice, room).message_id) is None
    found = store.room(room)
    store.close()
    assert found is not None
    assert dict(found.group.rows()) == dict(held.group.rows())


def test_a_message_writes_little_of_a_room(tmp_path: Path, hub: Hub, alice: Phone) -> None:
    room = hub.room_of(alice, *(hub.phone(f"guest_{number}") for number in range(20)))
    held = alice.memory.rooms[room]
    after, _ = seal_message(held, frank_message(alice.composer(room).text("x")), random=hub.random)

    before_rows, after_rows = held.group.rows(), after.group.rows()
    changed = sum(len(value) for name, value in after_rows.items() if before_rows.get(name) != value)
    store = Store.create(tmp_path / "home")
    store.save([RoomSaved(held)])
    store.save([RoomSaved(after)])
    store.close()

    assert changed <= 4096


def test_the_ratchet_that_sealed_is_gone_from_disk(tmp_path: Path, hub: Hub, alice: Phone, room: RoomId) -> None:
    held = alice.memory.rooms[room]
    after, _ = seal_message(held, frank_message(alice.composer(room).text("x")), random=hub.random)
    spent = [value for name, value in held.group.rows().items() if after.group.rows().get(name) != value]
    store = Store.create(tmp_path / "home")
    store.save([RoomSaved(held)])
    store.save([RoomSaved(after)])
    store.close()

    disk = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())

    assert spent
    assert all(row[-32:] not in disk for row in spent)


def test_a_pending_commit_survives_and_is_dropped(tmp_path: Path, hub: Hub, alice: Phone, room: RoomId) -> None:
    pending = hub.build(alice, room, Wanted())
    store = Store.create(tmp_path / "home")
    store.save([RoomSaved(alice.memory.rooms[room]), ChangePending(pending)])
    store.close()

    store = Store.open(tmp_path / "home")
    found = store.pending(room)
    assert found is not None
    assert (found.commit, found.epoch, found.tree) == (pending.commit, pending.epoch, pending.tree)
    assert found.room.group.epoch_authenticator == pending.room.group.epoch_authenticator
    store.save([ChangeDropped(room)])
    store.close()

    store = Store.open(tmp_path / "home")
    assert store.pending(room) is None
    store.close()


def test_a_spent_key_package_has_no_private_keys_any_more(tmp_path: Path, alice: Phone) -> None:
    bundle = alice.key_package()
    reference = bundle.key_package.reference(SUITE)
    store = Store.create(tmp_path / "home")
    store.save([KeyPackagesMade((bundle,), NOW_MS)])
    assert store.key_package(reference) == bundle

    store.save([KeyPackageSpent(reference)])
    store.close()
    disk = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())

    assert bytes(bundle.init_private_key) not in disk


def test_outlived_key_packages_are_deleted(tmp_path: Path, alice: Phone) -> None:
    old, new = alice.key_package(), alice.key_package()
    store = Store.create(tmp_path / "home")
    store.save([KeyPackagesMade((old,), NOW_MS), KeyPackagesMade((new,), NOW_MS + 10)])

    store.save([KeyPackagesOutlived(NOW_MS + 5, 0)])
    kept = [store.key_package(one.key_package.reference(SUITE)) for one in (old, new)]
    store.close()

    assert kept == [None, new]


def test_what_is_urgent_comes_first_in_its_lane(tmp_path: Path, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    sealed = IntentAdded(room, SendContent(b"a"), b"sealed")
    store.save([sealed, IntentAdded(room, JoinFromOutside()), LaneUnsealed(room)])

    first = store.next_intent(room)
    requests = [one.request for one in store.intents()]
    store.close()

    assert first is not None
    assert isinstance(first.intent, JoinFromOutside)
    assert requests == [b"", b""]


def test_intents_keep_their_order_in_a_lane(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "home")
    ids = store.save(
        [IntentAdded("one", SendContent(b"a")), IntentAdded("two", TendRoom()), IntentAdded("one", TendRoom())]
    )

    first = store.next_intent("one")
    assert first is not None
    assert (first.intent_id, first.intent) == (ids[0], SendContent(b"a"))
    store.save([IntentDone(ids[0])])
    second = store.next_intent("one")
    store.close()

    assert second is not None
    assert second.intent_id == ids[2]


def test_what_was_told_is_told_no_more(tmp_path: Path, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    store.save([Tell(RoomLeft(room, seq)) for seq in (1, 2, 3)])
    ((first, _), *_) = store.waiting_told(10)
    store.taken([first])
    store.close()

    store = Store.open(tmp_path / "home")
    waiting = [told for _, told in store.waiting_told(10)]
    store.close()

    assert waiting == [RoomLeft(room, 2), RoomLeft(room, 3)]


def test_what_nobody_asks_for_does_not_grow_without_bound(tmp_path: Path, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    store.save([Tell(RoomLeft(room, seq)) for seq in range(MAX_WAITING_TOLD + 7)])

    store.drop_oldest_told()
    ((_, oldest), *others) = store.waiting_told(MAX_WAITING_TOLD + 100)
    store.close()

    assert len(others) + 1 == MAX_WAITING_TOLD
    assert oldest == RoomLeft(room, 7)


def test_messages_stay_when_the_room_is_forgotten(tmp_path: Path, alice: Phone, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    made = CiphertextMade(room, bytes(32), bytes(32))
    store.save([RoomSaved(alice.memory.rooms[room]), MessageSaved(message_of(alice, room)), made])

    store.save([RoomForgotten(room)])
    store.close()
    store = Store.open(tmp_path / "home")

    assert store.room(room) is None
    assert store.left_rooms() == {room}
    assert [one.text for one in store.messages(room, 10)] == ["number 1"]
    assert TopicId(room) not in store.cursors
    store.close()


def test_history_comes_oldest_first_and_the_waiting_last(tmp_path: Path, alice: Phone, room: RoomId) -> None:
    store = Store.create(tmp_path / "home")
    messages = [replace(message_of(alice, room, number), seq=seq) for number, seq in ((1, 5), (2, 0), (3, 4), (4, 9))]
    store.save([MessageSaved(message) for message in messages])

    newest = [one.text for one in store.messages(room, 3)]
    before = [one.text for one in store.messages(room, 10, before_seq=9)]
    store.close()

    assert newest == ["number 1", "number 4", "number 2"]
    assert before == ["number 3", "number 1"]


def test_accounts_come_back_with_their_chains(tmp_path: Path, alice: Phone) -> None:
    store = Store.create(tmp_path / "home")
    store.save([AccountLearned(alice.known)])
    store.close()

    store = Store.open(tmp_path / "home")
    found = dict(store.accounts)
    store.close()

    assert found == {alice.identity.account: alice.known}
