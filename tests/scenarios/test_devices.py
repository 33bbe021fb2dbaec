"""Devices of one account: added, removed, lost and brought back."""

from pathlib import Path

import pytest

from heliograph.client.client import Client
from heliograph.client.identity import CredentialError
from heliograph.client.told import DeviceListChanged, MemberChanged, RoomJoined
from heliograph.server.db.database import Transaction
from heliograph.wire.account_state import DeviceRole
from heliograph.wire.problems import Problem
from tests.scenarios.people import People, people


async def test_a_recovery_code_brings_an_account_back_to_its_rooms(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        lost, code = await Client.register(p.home("alice"), p.server.url, "alice", world=p.surroundings())
        await p.start(lost)
        bob = await p.register("bob")
        await p.acquainted(lost, bob)
        room = await lost.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        found = await Client.recover(p.home("found"), p.server.url, "alice", code, world=p.surroundings())
        await p.start(found)
        await p.hears(found, RoomJoined, room=room)
        changed = await p.hears(bob, DeviceListChanged)
        await p.hears(bob, MemberChanged, devices_added=[found.identity.device])
        await bob.send(room, "welcome back")
        heard = await p.reads(found, "welcome back")
        await found.send(room, "everything was lost")

        assert (await p.reads(bob, "everything was lost")).sender == lost.identity.account
        assert changed.by_recovery
        assert heard.room == room
        assert [len(one.devices) for one in bob.members(room)] == [1, 1]
        with pytest.raises(Problem):
            await lost.create_room("stolen")


async def test_the_code_of_another_account_brings_nothing_back(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.register("alice")
        other, code = await Client.register(p.home("bob"), p.server.url, "bob", world=p.surroundings())
        await p.start(other)

        with pytest.raises(Problem) as refused:
            await Client.recover(p.home("thief"), p.server.url, "alice", code, world=p.surroundings())

        assert refused.value.slug == "login-failed"
        assert not (p.home("thief") / "store.sqlite").exists()


async def test_a_limited_device_talks_and_adds_no_devices(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        request = await Client.prepare_device(p.home("browser"), p.server.url, "alice", world=p.surroundings())
        grant = await alice.add_device(request, DeviceRole.LIMITED)
        browser = await p.start(await Client.finish_device(p.home("browser"), grant, world=p.surroundings()))
        await p.hears(browser, RoomJoined, room=room)

        await browser.send(room, "from the browser")
        await p.reads(bob, "from the browser")
        another = await Client.prepare_device(p.home("another"), p.server.url, "alice", world=p.surroundings())

        with pytest.raises(CredentialError):
            await browser.add_device(another)


async def test_a_request_for_another_account_is_not_signed(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, _ = await p.register("alice"), await p.register("bob")
        request = await Client.prepare_device(p.home("tablet"), p.server.url, "bob", world=p.surroundings())

        with pytest.raises(CredentialError):
            await alice.add_device(request)


async def test_a_grant_goes_stale_when_the_account_moves_on(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice = await p.register("alice")
        first = await Client.prepare_device(p.home("first"), p.server.url, "alice", world=p.surroundings())
        grant = await alice.add_device(first)
        await p.second_device(alice, "second")

        with pytest.raises(Problem) as refused:
            await Client.finish_device(p.home("first"), grant, world=p.surroundings())
        fresh = await alice.add_device(first)
        tablet = await p.start(await Client.finish_device(p.home("first"), fresh, world=p.surroundings()))

        assert refused.value.slug == "wrong-state"
        assert len(tablet.devices()) == 3


async def test_a_device_of_last_resort_renews_its_leaf(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        bob = await p.register("bob")
        friends = [await p.register(f"friend_{number}") for number in range(3)]
        for friend in friends:
            await bob.grant_consent(friend.identity.handle)
        await p.stop(bob)
        await drop_one_time_packages(p, bob)

        rooms = [await friend.create_room("Harbour", ["bob"]) for friend in friends]
        bob = await p.reopen("bob")
        for room in rooms:
            await p.hears(bob, RoomJoined, room=room)
        for room, friend in zip(rooms, friends, strict=True):
            await friend.send(room, "are you there?")
            await p.reads(bob, "are you there?")
        assert await bob.flush(10)

        assert all(one.leaf_at_ms for one in bob._store.rooms())


async def drop_one_time_packages(p: People, client: Client) -> None:
    """Leave a device nothing to offer but its package of last resort."""

    def act(tx: Transaction) -> None:
        tx.run("DELETE FROM key_packages WHERE device = ? AND last_resort = 0", client.identity.device)

    await p.server.context.database.write(act)
