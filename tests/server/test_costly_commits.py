"""The dearest commits that a stranger can send: what is too large is refused unread, the rest is judged beside the
event loop, so that everyone else is answered meanwhile."""

import asyncio
import secrets
import threading
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.commit import Commit
from heliograph.mls.extension import Extension
from heliograph.mls.framing import FramedContent, MLSMessage, PublicMessage, Sender, WireFormat
from heliograph.mls.group_info import Welcome
from heliograph.mls.proposal import Add, GroupContextExtensions, Proposal, ProposalOrRef
from heliograph.server import commits
from heliograph.wire.accounts import Empty
from heliograph.wire.ids import RoomId, room_id
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import MAX_ADDED_DEVICES, PROPOSALS
from heliograph.wire.rooms import MAX_HANDSHAKE_SIZE_BYTES, MAX_TREE_SIZE_BYTES, SubmitCommit, SubmitProposal
from tests.server.phones import SUITE, Phone, caller_of, new_key, new_phone, refusal
from tests.world import Clock, World, world

PINGS = 20
MIB = 1024 * 1024


@dataclass
class HoldingClock(Clock):
    """A clock that keeps a worker thread waiting when it asks for the time, once it is told to.

    The event loop's own thread it never holds: were a commit judged there, nothing would wait, and a test would see it.
    """

    is_holding: bool = False
    held: list[str] = field(default_factory=list[str])
    release: threading.Event = field(default_factory=threading.Event)
    loop_thread: int = field(default_factory=threading.get_ident)

    def __call__(self) -> int:
        if self.is_holding and threading.current_thread().name.startswith("asyncio_"):
            self.held.append(threading.current_thread().name)
            assert threading.get_ident() != self.loop_thread
            assert self.release.wait(timeout=60)
        return self.now


@pytest.fixture
def clock() -> HoldingClock:
    return HoldingClock()


@pytest.fixture
async def w(tmp_path: Path, clock: HoldingClock) -> AsyncIterator[World]:
    async with world(tmp_path, clock=clock) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    return await alice.create_room()


def costly(phone: Phone, room: RoomId, count: int) -> SubmitCommit:
    """Return a commit that is sound but for its Welcome, which is found out last: it names a newcomer wrongly.

    It adds as many devices as it is told, made up by the phone: two signatures each, and all that the hub checks
    without a database.
    """
    people = [replace(phone, device_key=secrets.token_bytes(32)) for _ in range(count)]
    adds = [Add(person.key_package().key_package) for person in people]
    pending = phone.build(room, adds)
    assert pending.welcome is not None
    body = MLSMessage.decode(pending.welcome).body
    assert isinstance(body, Welcome)
    wrong = replace(body.secrets[-1], new_member=bytes(32))
    spoilt = MLSMessage(replace(body, secrets=(*body.secrets[:-1], wrong))).encode()
    return phone.submission(room, pending, welcome=spoilt)


# -- by size, unread


@pytest.mark.bad_input(76)
@pytest.mark.parametrize(
    ("part", "limit"),
    [
        ("commit", MAX_HANDSHAKE_SIZE_BYTES),
        ("group_info", MAX_HANDSHAKE_SIZE_BYTES),
        ("welcome", MAX_HANDSHAKE_SIZE_BYTES),
        ("tree", MAX_TREE_SIZE_BYTES),
    ],
)
async def test_a_part_of_a_bundle_that_is_too_large_is_refused_before_anything_is_looked_up(
    alice: Phone, room: RoomId, part: str, limit: int
) -> None:
    elsewhere = room_id(secrets.token_bytes(16))
    honest = alice.submission(room, alice.build(room))

    def sized(where: RoomId, size: int) -> SubmitCommit:
        return msgspec.structs.replace(honest, room=where, key=new_key(), **{part: bytes(size)})

    # Of a room that is not there one would hear "not-found", had the server looked; in the room, had it read the bytes,
    # that they are no MLS message.
    assert await refusal(alice.ask("submit_commit", sized(elsewhere, limit + 1))) == "malformed"
    assert await refusal(alice.ask("submit_commit", sized(room, limit + 1))) == "malformed"
    assert await refusal(alice.ask("submit_commit", sized(elsewhere, limit))) == "not-found"
    assert await refusal(alice.ask("submit_commit", sized(room, limit))) == "invalid-proposal"


@pytest.mark.bad_input(76)
async def test_a_proposal_that_is_too_large_is_refused_before_anything_is_looked_up(alice: Phone, room: RoomId) -> None:
    for where in (room, room_id(secrets.token_bytes(16))):
        large = SubmitProposal(where, new_key(), 0, bytes(MAX_HANDSHAKE_SIZE_BYTES + 1))
        assert await refusal(alice.ask("submit_proposal", large)) == "malformed"


@pytest.mark.bad_input(76)
async def test_a_body_that_is_too_large_is_refused_by_what_its_head_says(w: World, alice: Phone, room: RoomId) -> None:
    limit = OPERATIONS["submit_commit"].body_limit_bytes
    headers = {"Authorization": f"Bearer {alice.token}", "Content-Type": "application/json"}
    async with w.http.post(
        f"{w.url}/v1/rooms/{room}/commits", data=BytesIO(bytes(limit + 1)), headers=headers
    ) as response:
        assert (await response.json())["type"].endswith("too-large")


# -- by work, in a thread


@pytest.mark.bad_input(76)
async def test_others_are_answered_while_the_costliest_commit_is_judged(
    w: World, alice: Phone, room: RoomId, clock: HoldingClock
) -> None:
    bob = await new_phone(w, "bob")
    request = costly(alice, room, MAX_ADDED_DEVICES)
    clock.is_holding = True
    judged = asyncio.create_task(refusal(alice.ask("submit_commit", request)))
    for _ in range(PINGS):
        await bob.ask("list_rooms", Empty())
    async with asyncio.timeout(60):
        while not clock.held:
            await bob.ask("list_rooms", Empty())
    for _ in range(PINGS):
        await bob.ask("list_rooms", Empty())
    assert not judged.done()
    clock.release.set()
    assert await judged == "invalid-proposal"
    assert clock.held


async def test_a_room_goes_on_after_the_costliest_commit_was_refused(alice: Phone, room: RoomId) -> None:
    request = costly(alice, room, MAX_ADDED_DEVICES)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert (await alice.commit(room)).seq == 1


@pytest.mark.bad_input(76)
async def test_a_commit_covers_no_more_proposals_than_a_room_permits_and_no_signature_is_verified_then(
    alice: Phone, room: RoomId
) -> None:
    package = alice.key_package().key_package
    # Unsigned: were one of them looked at, the refusal would name its signature.
    adds: list[Proposal] = [Add(replace(package, signature=b"")) for _ in range(PROPOSALS.commit_proposals_max + 1)]
    message = forged(alice, room, adds)
    with pytest.raises(Problem, match="more proposals than it may"):
        await alice.ask("submit_commit", alice.submission(room, alice.build(room), commit=message))


def forged(phone: Phone, room: RoomId, proposals: list[Proposal]) -> bytes:
    """Return a commit of a member that keeps few rules."""
    group = phone.groups[room]
    commit = Commit(tuple(ProposalOrRef(proposal=one) for one in proposals))
    content = FramedContent(group.group_id, group.epoch, Sender.member(group.own_leaf_index), b"", commit)
    context, tag = group.group_context, bytes(32)
    signed = content.sign(SUITE, phone.device_key, WireFormat.PUBLIC_MESSAGE, context, confirmation_tag=tag)
    return MLSMessage(PublicMessage(signed.content, signed.auth, tag)).encode()


# -- by memory


async def plan(w: World, phone: Phone, request: SubmitCommit) -> Any:
    """Judge a commit as the server does, in this thread."""
    caller = await caller_of(w, phone)
    base = await w.context.database.read(
        lambda reader: commits._base(reader, w.context.domain, caller, request, b"", b"")
    )
    assert isinstance(base, commits._Base)
    return commits._plan(w.context, caller, request, base)


@pytest.mark.bad_input(76)
async def test_a_welcome_is_not_multiplied_by_its_newcomers_before_what_they_share_is_known_to_be_small(
    w: World, alice: Phone, room: RoomId
) -> None:
    people = [replace(alice, device_key=secrets.token_bytes(32)) for _ in range(MAX_ADDED_DEVICES)]
    adds: list[Proposal] = [Add(person.key_package().key_package) for person in people]
    large = Extension(alice.policy().extension().extension_type, bytes(700_000))
    for proposals in (adds, [*adds, GroupContextExtensions((large,))]):
        pending = alice.build(room, proposals)
        body = MLSMessage.decode(pending.welcome or b"").body
        assert isinstance(body, Welcome)
        heavy = MLSMessage(replace(body, encrypted_group_info=bytes(700_000))).encode()
        request = alice.submission(room, pending, welcome=heavy)
        tracemalloc.start()
        with pytest.raises(Problem):
            await plan(w, alice, request)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 32 * MIB
