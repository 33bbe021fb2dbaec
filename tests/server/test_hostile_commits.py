"""Commits from hostile hands: spoilt bytes, wrong GroupInfo and trees, and sizes that should hurt."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.commit import Commit
from heliograph.mls.extension import Extension, ExternalPub
from heliograph.mls.framing import (
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
)
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.proposal import (
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalOrRef,
    PSKType,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.tree_math import LeafIndex
from heliograph.server import commits
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import MAX_HANDSHAKE_SIZE_BYTES, SubmitCommit, SubmitProposal
from tests.server.phones import (
    SUITE,
    Phone,
    caller_of,
    joined_peer,
    new_key,
    new_phone,
    ready_peer,
    refusal,
)
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


def forged_commit(phone: Phone, room: RoomId, proposals: tuple[ProposalOrRef, ...]) -> bytes:
    """A signed commit that nobody's library would build."""
    group = phone.groups[room]
    content = FramedContent(group.group_id, group.epoch, Sender.member(group.own_leaf_index), b"", Commit(proposals))
    signed = content.sign(
        SUITE, phone.device_key, WireFormat.PUBLIC_MESSAGE, group.group_context, confirmation_tag=bytes(32)
    )
    return MLSMessage(PublicMessage(signed.content, signed.auth, bytes(32))).encode()


async def planner(w: World, phone: Phone, request: SubmitCommit) -> Callable[..., Any]:
    """What the server does with a commit before it writes, again and again on the same room."""
    caller = await caller_of(w, phone)
    base = await w.context.database.read(
        lambda reader: commits._base(reader, w.context.domain, caller, request, b"", b"")
    )
    assert isinstance(base, commits._Base)
    return lambda **changes: commits._plan(w.context, caller, msgspec.structs.replace(request, **changes), base)


@pytest.mark.bad_input(75)
async def test_a_resumption_psk_of_a_strange_group_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    psk = PreSharedKeyID(
        PSKType.RESUMPTION,
        secrets.token_bytes(32),
        usage=ResumptionPSKUsage.APPLICATION,
        psk_group_id=secrets.token_bytes(16),
        psk_epoch=3,
    )
    message = forged_commit(alice, room, (ProposalOrRef(proposal=PreSharedKeyProposal(psk)),))
    request = alice.submission(room, alice.build(room), commit=message)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


# -- GroupInfo and tree


@pytest.mark.bad_input(78)
async def test_a_stale_group_info_does_not_rewind_the_room(w: World, alice: Phone, room: RoomId) -> None:
    old = alice.groups[room]
    await alice.commit(room)
    request = alice.submission(room, alice.build(room), group_info=old.group_info())
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_a_group_info_that_another_member_signed_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    pending = alice.build(room)
    body = MLSMessage.decode(pending.group_info).body
    assert isinstance(body, GroupInfo)
    other = replace(body, signer=bob.groups[room].own_leaf_index).sign(SUITE, bob.device_key)
    request = alice.submission(room, pending, group_info=MLSMessage(other).encode())
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_a_group_info_that_shuts_the_door_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    body = MLSMessage.decode(pending.group_info).body
    assert isinstance(body, GroupInfo)
    low_order = (ExternalPub(bytes(31)).to_extension(),)
    for extensions in ((), low_order):
        shut = MLSMessage(replace(body, extensions=extensions).sign(SUITE, alice.device_key)).encode()
        request = alice.submission(room, pending, group_info=shut)
        assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_another_tree_than_the_commit_leads_to_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    for tree in (alice.groups[room].ratchet_tree(), pending.ratchet_tree + b"\x00", pending.ratchet_tree[:-1]):
        request = alice.submission(room, pending, tree=tree)
        assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


# -- spoilt bytes


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
@pytest.mark.bad_input(64)
async def test_every_cut_flip_and_trailing_byte_of_a_commit_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    """All but the membership tag, which only members can check."""
    bob = await ready_peer(w, alice)
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    request = alice.submission(room, alice.build(room, proposals, policy))
    plan = await planner(w, alice, request)
    assert plan()
    cuts = [request.commit[:size] for size in range(1, len(request.commit))]
    flips = [_flipped(request.commit, at) for at in range(len(request.commit) - SUITE.hash_length)]
    for spoilt in (*cuts, *flips, request.commit + b"\x00"):
        with pytest.raises(Problem, match=r"invalid-proposal|not-allowed"):
            plan(commit=spoilt)
    for at in range(len(request.group_info)):
        with pytest.raises(Problem, match="invalid-proposal"):
            plan(group_info=_flipped(request.group_info, at))


def _flipped(message: bytes, at: int) -> bytes:
    return message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]


@pytest.mark.bad_input(65)
@pytest.mark.bad_input(66)
@pytest.mark.parametrize(
    ("at", "instead"),
    [(0, b"\x00\x02"), (2, b"\x00\x09"), (2, b"\x00\x02"), (4, b"\x40\x10"), (4, b"\xd0"), (4, b"\x80\xff\xff\xff")],
    ids=["version-2", "unknown-format", "other-format", "long-varint", "prefix-3", "past-the-end"],
)
async def test_a_malformed_head_is_refused(w: World, alice: Phone, room: RoomId, at: int, instead: bytes) -> None:
    pending = alice.build(room)
    replaced = 1 if at == 4 else len(instead)
    spoilt = pending.commit[:at] + instead + pending.commit[at + replaced :]
    assert spoilt != pending.commit
    answer = await refusal(alice.ask("submit_commit", alice.submission(room, pending, commit=spoilt)))
    assert answer == "invalid-proposal"


@pytest.mark.bad_input(67)
async def test_extensions_in_extensions_are_bytes_and_cost_nothing(w: World, alice: Phone, room: RoomId) -> None:
    data = b""
    for _ in range(10_000):
        data = Extension(0x0A0A, data[:200_000]).encode()
    deep = GroupContextExtensions((Extension(0x0A0A, data),))
    message = forged_commit(alice, room, (ProposalOrRef(proposal=deep),))
    request = alice.submission(room, alice.build(room), commit=message)
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2


@pytest.mark.bad_input(68)
async def test_a_handshake_that_hides_from_the_policy_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    group = alice.groups[room]
    hidden = PrivateMessage(group.group_id, 0, ContentType.COMMIT, b"", bytes(32), secrets.token_bytes(500))
    message = MLSMessage(hidden).encode()
    request = alice.submission(room, alice.build(room), commit=message)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    proposal = SubmitProposal(room, new_key(), 0, message)
    assert await refusal(alice.ask("submit_proposal", proposal)) == "invalid-proposal"


@pytest.mark.bad_input(76)
async def test_a_commit_of_50_kib_is_taken_and_one_of_5_mib_is_not(w: World, alice: Phone, room: RoomId) -> None:
    group = alice.groups[room]
    pending = group.commit(
        random=secrets.token_bytes, now_s=alice.now_s(), authenticated_data=secrets.token_bytes(50 * 1024)
    )
    large = alice.submission(room, pending, commit=bytes(5 * 1024 * 1024))
    assert await refusal(alice.ask("submit_commit", large)) == "malformed"
    assert (await alice.ask("submit_commit", alice.submission(room, pending))).seq == 1


@pytest.mark.bad_input(76)
async def test_ten_thousand_proposals_are_refused_quickly(w: World, alice: Phone, room: RoomId) -> None:
    many: tuple[Proposal, ...] = tuple(Remove(LeafIndex(number)) for number in range(10_000))
    message = forged_commit(alice, room, tuple(ProposalOrRef(proposal=one) for one in many))
    request = alice.submission(room, alice.build(room), commit=message)
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2


@pytest.mark.bad_input(76)
async def test_a_tree_of_ten_thousand_leaves_is_refused_quickly(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.submission(room, alice.build(room), tree=bytes(MAX_HANDSHAKE_SIZE_BYTES))
    creation = msgspec.structs.replace(alice.creation(), tree=b"\x80\x0f\xff\xfc" + bytes(0xFFFFC))
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert await refusal(alice.ask("create_room", creation)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2
