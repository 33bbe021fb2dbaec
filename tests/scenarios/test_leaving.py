"""Leaving a room while others change it: nobody's wish is lost."""

from pathlib import Path
from typing import Any

from heliograph.client.told import MemberChanged, RoomJoined, RoomLeft
from heliograph.wire.rooms import SubmitCommit
from tests.scenarios.people import people


async def test_a_commit_that_crosses_a_leave_is_built_again(tmp_path: Path) -> None:
    """Alice's commit is on its way when Bob leaves: the server refuses it, and Alice takes both steps in one."""
    async with people(tmp_path) as p:
        alice, bob, carol = await p.register("alice"), await p.register("bob"), await p.register("carol")
        await p.acquainted(alice, bob, carol)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        transport = alice._device.transport  # pyright: ignore[reportPrivateUsage]
        call, sent = transport.call, list[str]()

        async def slow_call(name: str, request: Any, kind: Any) -> Any:
            if isinstance(request, SubmitCommit):
                sent.append(name)
                if len(sent) == 1:
                    await bob.leave_room(room)
                    await p.hears(bob, RoomLeft, room=room)
            return await call(name, request, kind)

        transport.call = slow_call  # type: ignore[method-assign]
        await alice.add_people(room, ["carol"])

        await p.hears(carol, RoomJoined, room=room)
        await p.hears(alice, MemberChanged, left=[bob.identity.account])
        assert {one.handle for one in carol.members(room)} == {"alice", "carol"}
        assert len(sent) >= 2


async def test_a_leaver_stays_out_though_its_account_is_still_listed(tmp_path: Path) -> None:
    """A plain member commits the leave first, and the owner takes the account off the list when she comes."""
    async with people(tmp_path) as p:
        alice, bob, carol = await p.register("alice"), await p.register("bob"), await p.register("carol")
        await p.acquainted(alice, bob, carol)
        room = await alice.create_room("Harbour", ["bob", "carol"])
        await p.hears(bob, RoomJoined, room=room)
        await p.hears(carol, RoomJoined, room=room)
        await p.stop(alice)

        await bob.leave_room(room)
        await p.hears(bob, RoomLeft, room=room)
        await carol.sync(5)
        await p.stop(bob)
        bob = await p.reopen("bob")
        assert room not in {one.room for one in bob.rooms()}

        alice = await p.reopen("alice")
        await p.hears(carol, MemberChanged, left=[bob.identity.account], within_s=20)
        assert {one.handle for one in carol.members(room)} == {"alice", "carol"}
        assert room not in {one.room for one in bob.rooms()}
