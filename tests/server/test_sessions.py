"""Login by a device's signature; tokens that end; equal answers for who is not there."""

from pathlib import Path

import pytest

from heliograph.server.db.database import Reader
from heliograph.server.sessions import save_seen
from heliograph.wire.accounts import Challenge, CreateChallenge, CreateSession, Empty
from heliograph.wire.problems import Problem
from tests.world import Person, World, world


async def challenge(w: World, person: Person) -> Challenge:
    return await w.call("create_challenge", CreateChallenge(person.account, person.device))


def session_request(person: Person, given: Challenge, signature: bytes) -> CreateSession:
    return CreateSession(person.account, person.device, given.challenge, signature)


async def refused(w: World, request: CreateSession) -> Problem:
    with pytest.raises(Problem) as caught:
        await w.call("create_session", request)
    return caught.value


async def test_a_login_gives_a_token_that_works(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await w.call("list_rooms", Empty(), alice)


async def test_a_challenge_opens_one_session(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        given = await challenge(w, alice)
        request = session_request(alice, given, w.login_signature(alice, given))
        await w.call("create_session", request)
        assert (await refused(w, request)).slug == "login-failed"


async def test_a_challenge_is_good_for_a_minute(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        given = await challenge(w, alice)
        w.clock.advance_ms(60_000)
        assert (await refused(w, session_request(alice, given, w.login_signature(alice, given)))).slug == "login-failed"


async def test_every_failure_sounds_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice, bob, ghost = await w.register("alice"), await w.register("bob"), w.new_person("ghost")
        given, for_bob, for_ghost = await challenge(w, alice), await challenge(w, bob), await challenge(w, ghost)
        signature = w.login_signature(alice, given)
        made_up = Challenge(bytes(32), given.expires_at_ms)
        failures = [
            await refused(w, session_request(ghost, for_ghost, w.login_signature(ghost, for_ghost))),
            await refused(w, session_request(alice, given, bytes(64))),
            await refused(w, session_request(alice, given, b"")),
            await refused(w, session_request(bob, given, w.login_signature(bob, given))),
            await refused(w, session_request(alice, for_bob, signature)),
            await refused(w, session_request(alice, made_up, w.login_signature(alice, made_up))),
            await refused(w, session_request(alice, given, w.login_signature(alice, given, domain="evil.example"))),
        ]
        assert {(one.slug, one.body.detail) for one in failures} == {(failures[0].slug, failures[0].body.detail)}
        assert (len(for_ghost.challenge), for_ghost.expires_at_ms) == (32, given.expires_at_ms)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "Bearer", "é"])
async def test_a_made_up_token_is_nobody(tmp_path: Path, token: str) -> None:
    async with world(tmp_path) as w:
        headers = {"Authorization": f"Bearer {token}"}
        async with w.http.get(w.url + "/v1/rooms", headers=headers) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_session_ends_when_it_idles_or_grows_old(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        day_ms = 86_400_000
        for _ in range(5):
            w.clock.advance_ms(29 * day_ms)
            await w.call("list_rooms", Empty(), alice)
        w.clock.advance_ms(30 * day_ms)
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), alice)
        await w.login(alice)
        for _ in range(6):
            w.clock.advance_ms(29 * day_ms)
            await w.call("list_rooms", Empty(), alice)
        w.clock.advance_ms(6 * day_ms)
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), alice)


async def test_an_administrators_session_idles_for_half_an_hour(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada = await w.administrator()
        w.clock.advance_ms(29 * 60_000)
        await w.call("list_rooms", Empty(), ada)
        w.clock.advance_ms(30 * 60_000)
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), ada)


async def test_use_of_a_session_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        w.clock.advance_ms(29 * 86_400_000)
        await w.call("list_rooms", Empty(), alice)
        await save_seen(w.context)
        clock = w.clock
    clock.advance_ms(29 * 86_400_000)
    async with world(tmp_path, clock=clock) as w:
        await w.call("list_rooms", Empty(), alice)


async def test_a_session_that_has_ended_stays_ended_over_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await w.call("end_session", Empty(), alice)
    async with world(tmp_path) as w:
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), alice)


async def test_no_token_lies_in_the_database(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")

        def query(reader: Reader) -> str:
            return repr(reader.all("SELECT * FROM sessions"))

        shown = await w.context.database.read(query)
        assert alice.token not in shown and alice.device in shown


async def test_a_device_keeps_few_sessions_and_the_oldest_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        first = alice.token
        for _ in range(w.context.limits.sessions_per_device):
            w.clock.advance_ms(1)
            await w.login(alice)
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), first)
        await w.call("list_rooms", Empty(), alice)
