"""Rooms: people talk, come and go, bring second devices, and lose nothing."""

import asyncio
import shutil
from pathlib import Path

import pytest

from heliograph.client.client import Client
from heliograph.client.errors import NotPossible, StoreBusy
from heliograph.client.told import MemberChanged, ProtocolFault, RoomJoined, RoomLeft, RoomMessage, RoomNamed
from heliograph.wire.problems import Problem
from tests.scenarios.people import people


async def test_two_devices_talk_in_a_room(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)

        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await p.hears(bob, RoomNamed, name="Harbour")
        await alice.send(room, "The light is on.")
        heard = await p.reads(bob, "The light is on.")
        await bob.send(room, "I see it.", reply_to=heard.message_id)
        answer = await p.reads(alice, "I see it.")

        assert (answer.in_reply_to, answer.handle) == (heard.message_id, "bob")


async def test_a_direct_room_is_for_two_and_is_found_again(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)

        room = await alice.create_direct_room("bob")
        joined = await p.hears(bob, RoomJoined, room=room)
        await bob.send(room, "Only us.")

        assert joined.direct
        assert (await p.reads(alice, "Only us.")).sender == bob.identity.account
        assert await bob.create_direct_room("alice") == room


async def test_nobody_is_added_who_has_not_agreed(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, _ = await p.register("alice"), await p.register("bob")

        with pytest.raises(Problem) as refused:
            await alice.create_room("Trap", ["bob"])

        assert refused.value.slug == "no-consent"


async def test_a_contact_token_stands_for_consent(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        token = await bob.create_contact_token()

        room = await alice.create_room("Invited", ["bob"], contact_tokens={"bob": token})

        await p.hears(bob, RoomJoined, room=room)


async def test_members_come_and_go_and_read_only_their_time(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, carol = await p.register("alice"), await p.register("bob"), await p.register("carol")
        await p.acquainted(alice, bob, carol)
        room = await alice.create_room("Harbour", ["bob"])
        await alice.send(room, "before carol")
        await alice.add_people(room, ["carol"])
        await p.hears(carol, RoomJoined, room=room)
        await p.hears(carol, RoomNamed, name="Harbour")
        await alice.send(room, "with carol")
        await p.reads(carol, "with carol")
        await p.reads(bob, "with carol")

        await alice.remove_people(room, ["bob"])
        await p.hears(bob, RoomLeft, room=room)
        await alice.send(room, "after bob")
        await p.reads(carol, "after bob")

        assert [one.text for one in carol.messages(room)] == ["with carol", "after bob"]
        assert [one.text for one in bob.messages(room)] == ["before carol", "with carol"]
        assert {one.handle for one in alice.members(room)} == {"alice", "carol"}
        with pytest.raises(NotPossible):
            await bob.send(room, "still here?")


async def test_who_leaves_is_out_after_the_next_commit(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, carol = await p.register("alice"), await p.register("bob"), await p.register("carol")
        await p.acquainted(alice, bob, carol)
        room = await alice.create_room("Harbour", ["bob", "carol"])
        await p.hears(bob, RoomJoined, room=room)
        await p.hears(carol, RoomJoined, room=room)

        await bob.leave_room(room)
        await p.hears(bob, RoomLeft, room=room)
        await p.hears(carol, MemberChanged, left=[bob.identity.account])

        assert {one.handle for one in carol.members(room)} == {"alice", "carol"}


async def test_the_last_owner_hands_over_before_leaving(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        await alice.leave_room(room)
        await p.hears(bob, MemberChanged, left=[alice.identity.account])

        assert [(one.handle, one.role) for one in bob.members(room)] == [("bob", "owner")]


async def test_a_member_may_not_remove_people(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        with pytest.raises(Problem) as refused:
            await bob.remove_people(room, ["alice"])

        assert refused.value.slug == "not-allowed"


async def test_everyone_may_commit_at_once_and_all_wishes_come_true(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        guests = [await p.register(f"guest_{number}") for number in range(3)]
        await p.acquainted(alice, bob, *guests)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        async with asyncio.TaskGroup() as tasks:
            for guest in guests:
                tasks.create_task(alice.add_people(room, [guest.identity.handle]))
            for number in range(3):
                tasks.create_task(bob.refresh_room(room))
                tasks.create_task(bob.send(room, f"meanwhile {number}"))
        for guest in guests:
            await p.hears(guest, RoomJoined, room=room)
        await bob.send(room, "all in")

        for guest in guests:
            await p.reads(guest, "all in")


async def test_messages_are_edited_deleted_and_reacted_to(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        sent = await alice.send(room, "The lihgt is on.")
        await p.reads(bob, "The lihgt is on.")

        await alice.edit(room, sent.message_id, "The light is on.")
        edited = await p.hears(bob, RoomMessage, act="edit")
        await bob.react(room, sent.message_id, "\N{SPARKLES}")
        reaction = await p.hears(alice, RoomMessage, act="react")
        await alice.delete(room, sent.message_id)
        deleted = await p.hears(bob, RoomMessage, act="delete")

        assert (edited.text, edited.replaces) == ("The light is on.", sent.message_id)
        assert (reaction.text, reaction.in_reply_to) == ("\N{SPARKLES}", sent.message_id)
        assert deleted.replaces == sent.message_id


async def test_only_its_sender_edits_a_message(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        sent = await alice.send(room, "mine")
        await p.reads(bob, "mine")

        await bob.edit(room, sent.message_id, "forged")

        fault = await p.hears(alice, ProtocolFault, topic=room)
        assert "another sender" in fault.detail


async def test_a_second_device_joins_the_rooms_of_its_account(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        tablet = await p.second_device(alice, "alice-tablet")
        joined = await p.hears(tablet, RoomJoined, room=room)
        await p.hears(bob, MemberChanged, devices_added=[tablet.identity.device])
        await bob.send(room, "to both of you")
        await tablet.send(room, "from the tablet")

        assert tablet.rooms()[0].name == "Harbour"
        assert not joined.again
        await p.reads(alice, "to both of you")
        await p.reads(tablet, "to both of you")
        assert (await p.reads(bob, "from the tablet")).device == tablet.identity.device
        assert (await p.reads(alice, "from the tablet")).sender == alice.identity.account


async def test_both_devices_of_an_account_are_added_together(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        tablet = await p.second_device(bob, "bob-tablet")

        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await p.hears(tablet, RoomJoined, room=room)
        await tablet.send(room, "hello from the tablet")

        await p.reads(alice, "hello from the tablet")
        await p.reads(bob, "hello from the tablet")


async def test_a_removed_device_reads_nothing_more(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        tablet = await p.second_device(alice, "alice-tablet")
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(tablet, RoomJoined, room=room)
        await p.hears(bob, RoomJoined, room=room)

        await alice.remove_device(tablet.identity.device)
        await p.hears(bob, MemberChanged, devices_removed=[tablet.identity.device])
        await bob.send(room, "without the tablet")
        await p.reads(alice, "without the tablet")

        assert all(message.text != "without the tablet" for message in tablet.messages(room))
        with pytest.raises(Problem):
            await tablet.create_room("mine")


async def test_history_is_kept_over_a_restart(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await p.stop(bob)
        for number in range(5):
            await alice.send(room, f"while away {number}")

        bob = await p.reopen("bob")
        await p.reads(bob, "while away 4")
        await bob.send(room, "I am back.")

        await p.reads(alice, "I am back.")
        expected = [f"while away {number}" for number in range(5)]
        assert [one.text for one in bob.messages(room)] == [*expected, "I am back."]


async def test_a_device_that_lost_its_place_comes_back_from_outside(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await p.stop(bob)
        stolen = copy_of(p.home("bob"), p.home("bob-before"))
        bob = await p.reopen("bob")
        for _ in range(4):
            await bob.refresh_room(room)
        await alice.send(room, "four epochs later")
        await p.reads(bob, "four epochs later")
        await p.stop(bob)

        old = await p.start(await Client.open(stolen, world=p.surroundings()))
        again = await p.hears(old, RoomJoined, room=room, again=True)
        await alice.send(room, "welcome back")
        await p.reads(old, "welcome back")
        await old.send(room, "thank you")

        assert again.room == room
        await p.reads(alice, "thank you")


@pytest.mark.rule("RFC 9420 §12.4.3.1", "joins")
async def test_someone_who_was_put_out_and_asked_in_again_while_away_is_in_again(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await p.stop(bob)
        await alice.remove_people(room, ["bob"])
        await alice.add_people(room, ["bob"])

        bob = await p.reopen("bob")
        await p.hears(bob, RoomJoined, room=room, again=True)
        await alice.send(room, "welcome back")

        await p.reads(bob, "welcome back")


async def test_an_old_leaf_is_renewed_before_the_next_message(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        before = alice.rooms()[0].epoch

        await alice.send(room, "soon after")
        p.server.clock.advance_ms(8 * 86_400_000)
        await alice.send(room, "a week later")
        await p.reads(bob, "a week later")

        assert alice.rooms()[0].epoch == bob.rooms()[0].epoch == before + 1


async def test_who_left_a_direct_room_can_come_back(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_direct_room("bob")
        await p.hears(bob, RoomJoined, room=room)
        await bob.leave_room(room)
        await p.hears(bob, RoomLeft, room=room)

        await bob.rejoin_room(room)
        await bob.send(room, "I thought better of it.")

        await p.reads(alice, "I thought better of it.")


async def test_two_processes_never_share_a_store(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.register("alice")

        with pytest.raises(StoreBusy):
            await Client.open(p.home("alice"))


def copy_of(home: Path, other: Path) -> Path:
    """Copy a closed store, as a restored backup would."""
    shutil.copytree(home, other)
    return other
