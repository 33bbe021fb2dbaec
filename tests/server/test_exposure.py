"""What somebody could learn who should not: from refusals, from numbers, from files."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.server import retention
from heliograph.wire.accounts import AccountInfo, CreateInvitation, Empty, Register, ResolvedHandle, ResolveHandle
from heliograph.wire.events import Ended, Head, Ready, Resync, Subscribe
from heliograph.wire.ids import Handle, RoomId, TopicId, room_id
from heliograph.wire.problems import Problem, ProblemBody
from heliograph.wire.rooms import Acknowledge, ReadTopic
from tests.server.phones import Phone, joined_peer, new_phone, refusal
from tests.server.town import new_reviewer, open_channel, report_and_decide
from tests.world import START_MS, World, world

NOWHERE = TopicId(room_id(bytes(16)))


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    made = await alice.create_room()
    for _ in range(3):
        await alice.send(made)
    return made


# -------------------------------------------------------------------------------------------------- on the disk


async def test_nobody_else_on_the_machine_can_read_a_file_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    async with world(tmp_path) as w:
        await w.register("alice")
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"heliograph.db", "heliograph.db-wal", "heliograph.db-shm", "lock"}
        assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


async def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    async with world(tmp_path):
        pass
    database = tmp_path / "data" / "heliograph.db"
    database.chmod(0o644)
    async with world(tmp_path):
        assert stat.S_IMODE(database.stat().st_mode) == 0o600


# --------------------------------------------------------------------------------------------------- on the stream


async def told_of(w: World, token: str, topic: str, after: int) -> ProblemBody:
    """Subscribe to a topic that one may not read and return what is said of it; nothing else may be."""
    async with w.stream(token) as stream:
        await stream.until(Head)
        await stream.send(Subscribe(TopicId(topic), after))
        answer = await stream.receive()
        assert isinstance(answer, Ended), answer
        return answer.problem


@pytest.mark.bad_input(31)
async def test_a_stranger_to_a_room_learns_neither_its_head_nor_that_it_is_there(
    w: World, alice: Phone, room: RoomId
) -> None:
    eve = await new_phone(w, "eve")
    nothing = await told_of(w, eve.token, NOWHERE, 10**9)
    assert nothing.type == "not-found"
    for topic in (room, alice.device):
        assert await told_of(w, eve.token, topic, 10**9) == nothing
        assert await told_of(w, eve.token, topic, 0) == nothing


@pytest.mark.bad_input(31)
async def test_cursors_in_a_hello_tell_nothing_of_topics_of_others(w: World, alice: Phone, room: RoomId) -> None:
    eve = await new_phone(w, "eve")
    cursors = {TopicId(room): 10**9, TopicId(alice.device): 10**9, NOWHERE: 10**9}
    for incarnation in (w.context.incarnation, "another"):
        async with w.stream(eve.token, cursors, incarnation) as stream:
            ended: dict[str, ProblemBody] = {}
            while len(ended) < len(cursors):
                frame = await stream.receive()
                assert isinstance(frame, Ended | Resync | Ready | Head), frame
                if isinstance(frame, Resync):
                    assert frame.heads.keys() <= {eve.device}
                if isinstance(frame, Ended):
                    ended[frame.topic] = frame.problem
            assert len({(one.type, one.detail) for one in ended.values()}) == 1


async def test_who_was_removed_does_not_see_a_room_go_on(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    out = (await alice.remove(room, bob)).seq
    for _ in range(3):
        await alice.send(room)
    assert (await bob.ask("read_topic", ReadTopic(TopicId(room)))).head_seq == out
    assert await refusal(bob.ask("read_topic", ReadTopic(TopicId(room), out + 1))) == "incarnation-changed"
    async with w.stream(bob.token, {TopicId(room): out + 1}, w.context.incarnation) as stream:
        assert (await stream.until(Resync)).heads == {room: out}


# ------------------------------------------------------------------------------------------------------- by name


async def test_a_blocked_channel_is_found_by_no_name(w: World) -> None:
    owner, reviewer = await w.register("oscar"), await new_reviewer(w)
    channel = await open_channel(w, owner)
    found: ResolvedHandle = await w.call("resolve_handle", ResolveHandle(Handle("news")))
    assert found.channel == channel
    decided = await report_and_decide(w, reviewer, channel, "block-channel")
    with pytest.raises(Problem) as refused:
        await w.call("resolve_handle", ResolveHandle(Handle("news")))
    assert (refused.value.slug, refused.value.body.decision) == ("channel-restricted", decided.decision)


async def test_the_genesis_of_a_reviewer_does_not_tell_that_it_is_one(w: World) -> None:
    """Whoever posts has a public chain: sent again as a registration it must not be answered with the role."""
    ada = await w.administrator()
    made = await w.call("create_invitation", CreateInvitation("reviewer"), ada)
    rita = w.new_person("rita")
    mine = Register(rita.handle, rita.state.encode(), made.invitation)
    first: AccountInfo = await w.call("register", mine)
    assert await w.call("register", mine) == first
    assert first.role == "reviewer"
    for guess in (None, "x" * 43):
        again = Register(rita.handle, rita.state.encode(), guess)
        assert (await w.call("register", again)).role == "member"


# -------------------------------------------------------------------------------------------------- what is kept


async def test_an_acknowledgement_of_a_channel_is_not_kept(w: World) -> None:
    """It would tell who reads what, and nothing waits for it."""
    owner, reader = await w.register("oscar"), await w.register("reader")
    channel = await open_channel(w, owner)
    await w.call("acknowledge", Acknowledge(TopicId(channel), 0), reader)
    rows = await w.context.database.read(lambda r: r.all("SELECT * FROM acknowledgements WHERE topic = ?", channel))
    assert rows == []


async def test_invitations_that_nobody_used_are_forgotten(w: World) -> None:
    ada = await w.administrator()
    await w.call("create_invitation", CreateInvitation(expires_in_s=60), ada)
    w.clock.advance_ms(61_000)
    assert w.clock() > START_MS
    await retention.sweep(w.context)
    rows = await w.context.database.read(lambda r: r.all("SELECT used_by FROM invitations"))
    assert rows == [(ada.account,)]
    assert (await w.call("list_rooms", Empty(), ada)).rooms == []
