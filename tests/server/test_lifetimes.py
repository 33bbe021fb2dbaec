"""Key packages that expire while the server is busy: members judge them by the time that stands beside the entry."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.mls.leaf_node import Lifetime
from heliograph.mls.proposal import Add
from heliograph.server import commits
from heliograph.wire.accounts import PublishKeyPackages
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import SubmitProposal
from tests.server.phones import Phone, caller_of, encoded, new_key, new_phone
from tests.world import World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    return await alice.create_room()


@pytest.fixture
async def bob(w: World, alice: Phone) -> Phone:
    """Someone whose one key package ends a second from now."""
    bob = await new_phone(w, "bob")
    bundle = bob.key_package(lifetime=Lifetime(bob.now_s() - 3600, bob.now_s() + 1))
    await bob.ask("publish_key_packages", PublishKeyPackages((encoded(bundle),)))
    await bob.consent(alice)
    return bob


@pytest.mark.rule("RFC 9420 §7.3", "lifetime-received")
@pytest.mark.parametrize("waited_ms", [1000, 2000])
async def test_a_commit_is_not_accepted_at_a_time_at_which_members_would_refuse_it(
    waited_ms: int, w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    request = alice.submission(room, alice.build(room, proposals, policy))
    caller = await caller_of(w, alice)
    base = await w.context.database.read(
        lambda reader: commits._base(reader, w.context.domain, caller, request, b"", b"")
    )
    assert isinstance(base, commits._Base)
    plan = commits._plan(w.context, caller, request, base)
    w.clock.advance_ms(waited_ms)
    accept = w.context.database.write(lambda tx: commits._accept(tx, w.context, caller, request, plan))
    if waited_ms == 1000:
        await accept
    else:
        with pytest.raises(Problem, match="lifetime has ended"):
            await accept


@pytest.mark.rule("RFC 9420 §7.3", "lifetime-received")
async def test_a_proposal_is_not_accepted_at_a_time_at_which_members_would_refuse_it(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    (package,) = await alice.claim(bob.account)
    alice.groups[room], message = alice.groups[room].propose(Add(package), random=os.urandom, now_s=alice.now_s())
    request = SubmitProposal(room, new_key(), alice.groups[room].epoch, message)
    caller = await caller_of(w, alice)
    base = await w.context.database.read(
        lambda reader: commits._base(reader, w.context.domain, caller, request, b"", b"")
    )
    assert isinstance(base, commits._Base)
    group, received = commits._receive_proposal(w.context, caller, request, base)
    checked = (group.encode(), received, None, base.revision)
    w.clock.advance_ms(2000)
    with pytest.raises(Problem, match="lifetime has ended"):
        await w.context.database.write(lambda tx: commits._accept_proposal(tx, w.context, caller, request, checked))
