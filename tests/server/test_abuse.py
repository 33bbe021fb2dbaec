"""What one may not do to all: floods, held places, stale sessions, roles and rooms that nobody asked for."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.extension import Extension, ExtensionType
from heliograph.mls.proposal import GroupContextExtensions, Remove
from heliograph.server.admission import CAPACITY, Admission
from heliograph.server.bodies import Bodies
from heliograph.server.limits import Rate, Rates
from heliograph.wire.accounts import CreateContactToken, Empty, PutAccountState
from heliograph.wire.channels import PublicAttachment, SetChannelRole
from heliograph.wire.ids import device_id
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import SubmitProposal
from tests.server.phones import (
    joined_peer,
    link_phone,
    new_key,
    new_phone,
    policy_extensions,
    ready_peer,
    refusal,
    revoke_phone,
)
from tests.server.raw_socket import RawSocket, connect
from tests.server.town import new_reviewer, open_cases, open_channel, report, ruling, signed_post
from tests.world import START_MS, World, generous_limits, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


def limits_with(**rates: Rate) -> Any:
    """Return generous limits but for some rates."""
    limits = generous_limits()
    return generous_limits(rates=msgspec.structs.replace(limits.rates, **rates))


def raw_head(method: str, path: str, token: str, size_bytes: int) -> bytes:
    """Return a request's head that announces a body."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size_bytes}\r\n\r\n"
    ).encode()


# ------------------------------------------------------------------------------------------------ places to be held


async def test_open_sockets_are_no_requests_in_flight(tmp_path: Path) -> None:
    """As many people as like may be connected: that closes the door to nobody's requests."""
    async with world(tmp_path, limits=generous_limits(requests_in_flight=4)) as w, AsyncExitStack() as sockets:
        alice = await w.register("alice")
        for _ in range(8):
            await sockets.enter_async_context(w.stream(alice))
        assert (await w.call("list_rooms", Empty(), alice)).rooms == []


@pytest.mark.bad_input(27)
async def test_who_lets_bodies_wait_takes_no_places_from_others(tmp_path: Path) -> None:
    limits = generous_limits(waiting_bodies_per_payer=3, requests_in_flight=8)
    async with world(tmp_path, limits=limits) as w, AsyncExitStack() as stack:
        alice, mallory = await w.register("alice"), await w.register("mallory")
        raws: list[RawSocket] = []
        for _ in range(4):
            raws.append(await stack.enter_async_context(connect(w)))
            await raws[-1].send(raw_head("POST", "/v1/contact-tokens", mallory.token, 50) + b"{")
        heads = {asyncio.create_task(raw.head()): raw for raw in raws}
        (refused,), waiting = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result()[0] == 429
        await w.call("create_contact_token", CreateContactToken(60), alice)
        for head in waiting:
            await heads[head].send(b" " * 48 + b"}")
            assert (await head)[0] == 200
        await w.call("create_contact_token", CreateContactToken(60), mallory)


async def test_bodies_take_no_more_memory_together_than_they_may(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(bodies_bytes=3000)) as w, connect(w) as raw:
        alice = await w.register("alice")
        await raw.send(raw_head("POST", "/v1/contact-tokens", alice.token, 3000) + b" " * 2990)
        await asyncio.sleep(0.5)  # until they have been read: a call now would have them refused instead
        with pytest.raises(Problem, match="overloaded"):
            await w.call("create_contact_token", CreateContactToken(60), alice)
        await raw.send(b"        {}")
        assert (await raw.head())[0] == 200
        await w.call("create_contact_token", CreateContactToken(60), alice)


def test_what_bodies_took_is_given_back() -> None:
    bodies = Bodies(10, 1)
    bodies.take(10)
    with pytest.raises(Problem, match="overloaded"):
        bodies.take(1)
    bodies.give_back(10)
    bodies.take(10)
    bodies.begin("one")
    with pytest.raises(Problem, match="too-many-requests"):
        bodies.begin("one")
    bodies.end("one")
    bodies.begin("one")


# ------------------------------------------------------------------------------------------------------- sessions


@pytest.mark.bad_input(74)
@pytest.mark.parametrize("path", ["/v1/stream/ticket", "/v1/contact-tokens"])
async def test_a_request_that_was_begun_before_its_device_was_removed_is_refused(w: World, path: str) -> None:
    """Its body comes late, and with it a removed device would act, or even get a ticket for the stream."""
    alice = await w.register("alice")
    laptop = await w.add_device(alice)
    async with connect(w) as raw:
        await raw.send(raw_head("POST", path, laptop.token, 2) + b"{")
        await w.call("list_rooms", Empty(), laptop)
        await w.remove_device(alice, laptop.device)
        await raw.send(b"}")
        assert (await raw.head())[0] == 401


async def test_tokens_that_nobody_has_cannot_be_tried_without_end(tmp_path: Path) -> None:
    async with world(tmp_path, limits=limits_with(source=Rate(5, 0.001))) as w:
        alice = await w.register("alice")
        await w.call("list_rooms", Empty(), alice)
        answers = [await _refusal_of(w, secrets.token_urlsafe(32)) for _ in range(10)]
        assert set(answers) == {"not-logged-in", "too-many-requests"}
        assert answers[-1] == "too-many-requests"
        await w.call("list_rooms", Empty(), alice)


async def _refusal_of(w: World, token: str) -> str:
    return await refusal(w.call("list_rooms", Empty(), token))


def test_forgetting_buckets_makes_much_room_at_once() -> None:
    """Else each newcomer to a full table would cost a walk through it."""
    admission = Admission(Rates(), secrets.token_bytes)
    for number in range(CAPACITY + 1):
        admission.charge("register", number.to_bytes(4), START_MS)
    assert len(admission._buckets) <= CAPACITY * 3 // 4


# ------------------------------------------------------------------------------------------------- accounts, packages


async def test_an_accounts_states_cannot_flood_the_mailboxes_of_others(tmp_path: Path) -> None:
    async with world(tmp_path, limits=limits_with(states=Rate(2, 0.001))) as w:
        alice = await w.register("alice")
        first = await w.add_device(alice)
        await w.remove_device(alice, first.device)
        assert await refusal(w.add_device(alice)) == "too-many-requests"
        bob = await w.register("bob")
        await w.add_device(bob)


async def test_a_stranger_cannot_use_up_the_states_of_an_account(tmp_path: Path) -> None:
    async with world(tmp_path, limits=limits_with(states=Rate(1, 0.001))) as w:
        alice, eve = await w.register("alice"), w.new_person("eve")
        for _ in range(3):
            spoilt = PutAccountState(alice.account, eve.state.encode())
            assert await refusal(w.call("put_account_state", spoilt)) == "wrong-state"
        await w.add_device(alice)


@pytest.mark.bad_input(90)
async def test_one_account_drains_another_slowly(tmp_path: Path) -> None:
    async with world(tmp_path, limits=limits_with(claim_target=Rate(2, 0.001))) as w:
        alice, carol = await new_phone(w, "alice"), await new_phone(w, "carol")
        bob = await ready_peer(w, alice)
        await bob.consent(carol)
        for _ in range(2):
            await alice.claim(bob.account)
        assert await refusal(alice.claim(bob.account)) == "too-many-requests"
        assert len(await carol.claim(bob.account)) == 1


async def test_registrations_without_a_right_to_it_do_not_use_up_those_of_the_server(tmp_path: Path) -> None:
    async with world(tmp_path, limits=limits_with(registrations=Rate(1, 0.001)), registration="invitation") as w:
        for number in range(3):
            for invitation in (None, "x" * 43):
                assert await refusal(w.register(f"eve_{number}", invitation)) == "invitation-refused"
        await w.administrator()


# ----------------------------------------------------------------------------------------------------------- rooms


async def test_nobody_is_put_into_a_room_without_having_agreed(w: World) -> None:
    """To share a room opens one's key packages: so to be listed in one takes a key package that was given."""
    mallory, victim = await new_phone(w, "mallory"), await new_phone(w, "victim")
    await victim.publish(2)
    room = await mallory.create_room()
    _, policy = mallory.addition(room, [], victim.account)
    pending = mallory.build(room, [], policy)
    assert await refusal(mallory.ask("submit_commit", mallory.submission(room, pending))) == "invalid-proposal"
    assert await refusal(mallory.claim(victim.account)) == "no-consent"
    assert (await victim.ask("list_rooms", Empty())).rooms == []


async def test_a_member_puts_nothing_of_its_own_into_the_group_context(w: World) -> None:
    alice = await new_phone(w, "alice")
    room = await alice.create_room()
    bob = await joined_peer(w, alice, room)
    group = bob.groups[room]
    same = policy_extensions(group, bob.policy_without(room))
    junk = Extension(ExtensionType.EXTERNAL_SENDERS, b"\x00")
    for extensions in ((*same, junk), ()):
        proposal = GroupContextExtensions(extensions)
        pending = group.commit([proposal], random=secrets.token_bytes, now_s=bob.now_s())
        assert await refusal(bob.ask("submit_commit", bob.submission(room, pending))) == "invalid-proposal"
        assert await refusal(bob.propose(room, proposal)) == "invalid-proposal"
        bob.groups[room] = group


async def test_a_revoked_device_is_removed_by_any_member_and_a_standing_one_is_not(w: World) -> None:
    alice = await new_phone(w, "alice")
    room = await alice.create_room()
    bob = await joined_peer(w, alice, room)
    tablet = await link_phone(w, alice)
    await tablet.join_from_outside(room)
    await bob.follow(room, 1)
    pending = bob.build(room, [Remove(bob.leaf_of(room, tablet))])
    assert await refusal(bob.ask("submit_commit", bob.submission(room, pending))) == "not-allowed"
    await revoke_phone(w, alice, tablet)
    assert (await bob.ask("submit_commit", bob.submission(room, pending))).seq == 3


# ------------------------------------------------------------------------------------------------------ moderation


@pytest.mark.bad_input(114)
async def test_an_owner_cannot_disarm_every_reviewer_with_a_role(w: World) -> None:
    owner, reviewer = await w.register("oscar"), await new_reviewer(w)
    channel = await open_channel(w, owner)
    press = SetChannelRole(channel, reviewer.account, "moderator")
    await w.call("set_channel_role", press, owner)
    w.clock.advance_ms(1000)
    await report(w, None, channel)
    case = (await open_cases(w, reviewer))[-1].case
    assert await refusal(w.call("decide", ruling(case, "block-channel"), reviewer)) == "not-allowed"

    await w.call("set_channel_role", SetChannelRole(channel, reviewer.account), reviewer)
    w.clock.advance_ms(1000)
    await w.call("set_channel_role", press, owner)
    await w.call("decide", ruling(case, "block-channel"), reviewer)


@pytest.mark.bad_input(114)
async def test_who_has_acted_in_a_channel_does_not_decide_though_the_role_is_gone(w: World) -> None:
    owner, reviewer = await w.register("oscar"), await new_reviewer(w)
    channel = await open_channel(w, owner)
    await w.call("set_channel_role", SetChannelRole(channel, reviewer.account, "editor"), owner)
    await w.call("submit_post", signed_post(w, reviewer, channel), reviewer)
    await w.call("set_channel_role", SetChannelRole(channel, reviewer.account), reviewer)
    await report(w, None, channel)
    case = (await open_cases(w, reviewer))[-1].case
    assert await refusal(w.call("decide", ruling(case, "block-channel"), reviewer)) == "not-allowed"
    other = await new_reviewer(w, "rolf")
    await w.call("decide", ruling(case, "block-channel"), other)


# ------------------------------------------------------------------------------------------------------- odd input


@pytest.mark.bad_input(109)
async def test_a_handle_with_a_newline_is_nobodys(w: World) -> None:
    await w.register("alice")
    assert await refusal(w.register("alice\n")) == "malformed"


@pytest.mark.parametrize("account", ["a" + "z" * 52, "a" + "a" * 51 + "b"])
async def test_an_id_that_no_bytes_have_is_malformed(w: World, account: str) -> None:
    device = device_id(bytes(16))
    body = msgspec.json.encode({"account": account, "device": device, "challenge": "A" * 43, "signature": ""})
    headers = {"Content-Type": "application/json"}
    async with w.http.post(w.url + "/v1/sessions", data=body, headers=headers) as answer:
        assert answer.status == 400


@pytest.mark.bad_input(77)
async def test_proposals_that_fill_an_epoch_keep_nobody_from_leaving(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(proposals_per_epoch=2)) as w:
        alice = await new_phone(w, "alice")
        room = await alice.create_room()
        bob = await joined_peer(w, alice, room)
        for _ in range(2):
            _, update = alice.groups[room].update_leaf(random=secrets.token_bytes, now_s=alice.now_s())
            await alice.ask("submit_proposal", SubmitProposal(room, new_key(), 1, update))
        assert (await bob.propose(room, Remove(bob.groups[room].own_leaf_index))).seq == 4


async def test_a_socket_ends_with_its_session_though_memory_has_forgotten_it(tmp_path: Path) -> None:
    limits = generous_limits(cached_sessions=1, ping_every_s=1, session_lives_s=60)
    async with world(tmp_path, limits=limits) as w:
        alice, bob = await w.register("alice"), await w.register("bob")
        async with w.stream(alice) as stream:
            await w.call("list_rooms", Empty(), bob)
            w.clock.advance_ms(59_000)
            with pytest.raises(TimeoutError):
                await stream.ending(within_s=2.5)
            await w.login(bob)
            await w.call("list_rooms", Empty(), bob)
            w.clock.advance_ms(2_000)
            assert await stream.ending() == 4401


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://example.org/\nx"},
        {"url": "https://example.org/ x"},
        {"url": "javascript:alert(1)"},
        {"media_type": "image/png\r\nX: y"},
        {"media_type": ""},
        {"description": "a\u202egnp.exe"},
    ],
)
async def test_an_attachment_says_nothing_that_could_mislead(w: World, changes: dict[str, Any]) -> None:
    owner = await w.register("oscar")
    channel = await open_channel(w, owner)
    plain: dict[str, Any] = {
        "url": "https://example.org/x.png",
        "media_type": "image/png",
        "size_bytes": 1,
        "sha256": bytes(32),
    }
    good = PublicAttachment(**plain)
    bad = PublicAttachment(**(plain | changes))
    await w.call("submit_post", signed_post(w, owner, channel, attachments=(good,)), owner)
    assert await refusal(w.call("submit_post", signed_post(w, owner, channel, attachments=(bad,)), owner)) == (
        "invalid-post"
    )


@pytest.mark.bad_input(52)
@pytest.mark.parametrize("host", ['evil"><script>alert(1)</script>', "evil>; rel=x, <y", "a b", "a:b", "a:999999", ""])
async def test_a_host_that_is_no_host_is_refused_and_stands_on_no_page(w: World, host: str) -> None:
    await open_channel(w, await w.register("oscar"))
    async with connect(w) as raw:
        await raw.send(f"GET /c/news HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        status, head = await raw.head()
        assert status == 400
        assert "evil" not in head
