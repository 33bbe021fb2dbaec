"""Accounts without phone number or e-mail: a handle, a chain, invitations and roles."""

import asyncio
from pathlib import Path

import pytest

from heliograph.server.accounts import RESERVED_HANDLES
from heliograph.server.app import Server
from heliograph.wire.account_state import SignedAccountState, Signer, sign_state, verify_chain
from heliograph.wire.accounts import (
    AccountChain,
    AccountInfo,
    AccountRequest,
    CreateInvitation,
    Invitation,
    PutAccountState,
    Register,
    ResolvedHandle,
    ResolveHandle,
    SetRole,
)
from heliograph.wire.ids import Handle
from heliograph.wire.problems import Problem
from tests.world import world


async def test_a_registered_account_is_found_by_its_handle(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        found: ResolvedHandle = await w.call("resolve_handle", ResolveHandle(Handle("alice")))
        assert found == ResolvedHandle(Handle("alice"), account=alice.account)
        with pytest.raises(Problem, match="not-found"):
            await w.call("resolve_handle", ResolveHandle(Handle("nobody1")))


async def test_registering_again_with_the_same_state_gives_the_first_answer(tmp_path: Path) -> None:
    async with world(tmp_path, registration="invitation") as w:
        ada = await w.administrator()
        again = Register(ada.handle, ada.state.encode(), w.first_invitation)
        assert await w.call("register", again) == AccountInfo(ada.account, ada.handle, "administrator")
        with pytest.raises(Problem, match="handle-taken"):
            await w.call("register", Register(Handle("other"), ada.state.encode()))


@pytest.mark.bad_input(113)
async def test_one_of_two_who_take_a_handle_at_once_gets_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        results = await asyncio.gather(*(w.register("alice") for _ in range(4)), return_exceptions=True)
        refused = [one for one in results if isinstance(one, Problem)]
        assert [problem.slug for problem in refused] == 3 * ["handle-taken"]


@pytest.mark.bad_input(105)
@pytest.mark.parametrize("handle", ["admin", "adm1n", "a_d_m_i_n", "r00t", "support", "heliograph", "mod3rator"])
async def test_a_handle_that_speaks_for_the_server_is_refused(tmp_path: Path, handle: str) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(Problem, match="invalid-handle"):
            await w.register(handle)


@pytest.mark.bad_input(105)
@pytest.mark.parametrize(
    "handle", ["Admin", "аdmin", "admin\u200b", "ad\u202emin", "al", "a" * 33, "_alice", "ali__ce", ""]
)
async def test_a_handle_is_small_latin_letters_digits_and_single_lines(tmp_path: Path, handle: str) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(Problem, match="malformed"):
            await w.register(handle)


def test_the_names_that_servers_are_known_by_are_reserved() -> None:
    assert {"admin", "administrator", "moderator", "root", "security", "abuse"} <= RESERVED_HANDLES


async def test_a_server_by_invitation_takes_nobody_without_one(tmp_path: Path) -> None:
    async with world(tmp_path, registration="invitation") as w:
        for invitation in (None, "made-up", "A" * 43):
            with pytest.raises(Problem, match="invitation-refused"):
                await w.register("alice", invitation)


async def test_an_invitation_is_used_once_and_ends(tmp_path: Path) -> None:
    async with world(tmp_path, registration="invitation") as w:
        ada = await w.administrator()
        first: Invitation = await w.call("create_invitation", CreateInvitation(expires_in_s=60), ada)
        late: Invitation = await w.call("create_invitation", CreateInvitation(expires_in_s=60), ada)
        await w.register("alice", first.invitation)
        with pytest.raises(Problem, match="invitation-refused"):
            await w.register("bob", first.invitation)
        w.clock.advance_ms(60_000)
        with pytest.raises(Problem, match="invitation-refused"):
            await w.register("bob", late.invitation)


async def test_a_refused_handle_does_not_use_the_invitation_up(tmp_path: Path) -> None:
    async with world(tmp_path, registration="invitation") as w:
        ada = await w.administrator()
        made: Invitation = await w.call("create_invitation", CreateInvitation(), ada)
        with pytest.raises(Problem, match="handle-taken"):
            await w.register("ada", made.invitation)
        await w.register("alice", made.invitation)


async def test_the_first_invitation_makes_an_administrator_and_then_there_is_none(tmp_path: Path) -> None:
    async with world(tmp_path, registration="invitation") as w:
        unused = w.first_invitation
    async with world(tmp_path, registration="invitation") as w:
        with pytest.raises(Problem, match="invitation-refused"):
            await w.register("mallory", unused)
        await w.administrator()
    async with world(tmp_path, registration="invitation") as w:
        assert isinstance(w.server, Server) and w.first_invitation is None


@pytest.mark.bad_input(114)
async def test_only_administrators_invite_reviewers_and_give_roles(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("create_invitation", CreateInvitation("administrator"), alice)
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("set_role", SetRole(alice.account, "administrator"), alice)


@pytest.mark.bad_input(114)
async def test_the_last_administrator_stays_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, alice = await w.administrator(), await w.register("alice")
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("set_role", SetRole(ada.account, "member"), ada)
        await w.call("set_role", SetRole(alice.account, "administrator"), ada)
        await w.call("set_role", SetRole(ada.account, "member"), ada)


async def test_a_role_given_or_taken_counts_from_the_next_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, alice = await w.administrator(), await w.register("alice")
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("create_invitation", CreateInvitation("reviewer"), alice)
        await w.call("set_role", SetRole(alice.account, "administrator"), ada)
        await w.call("create_invitation", CreateInvitation("reviewer"), alice)
        await w.call("set_role", SetRole(alice.account, "member"), ada)
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("create_invitation", CreateInvitation("reviewer"), alice)


@pytest.mark.bad_input(47)
async def test_nobody_registers_with_a_role(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.new_person("alice")
        async with w.http.post(
            w.url + "/v1/accounts", json={"handle": "alice", "state": "AA", "role": "administrator"}
        ) as response:
            assert response.status == 400
        await w.call("register", Register(alice.handle, alice.state.encode()))


async def test_a_chain_grows_and_proves_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice, bob = await w.register("alice"), await w.register("bob")
        phone = await w.add_device(alice)
        await w.remove_device(alice, phone.device)
        chain: AccountChain = await w.call("get_account_chain", AccountRequest(alice.account), bob)
        newest = verify_chain(alice.account, [SignedAccountState.decode(state) for state in chain.states])
        assert (newest.seq, [entry.device for entry in newest.devices]) == (2, [alice.device])


async def test_a_stranger_cannot_read_the_chain_of_who_never_spoke_in_public(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        with pytest.raises(Problem, match="not-found"):
            await w.call("get_account_chain", AccountRequest(alice.account))


async def test_of_two_states_after_one_the_second_is_told_to_build_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        stale = w.next_state(alice, alice.state.state.devices)
        await w.add_device(alice)
        signed = sign_state(stale, Signer.ACCOUNT, alice.account_key, ())
        with pytest.raises(Problem, match="wrong-state"):
            await w.call("put_account_state", PutAccountState(alice.account, signed.encode()), alice)


async def test_a_state_sent_again_after_a_lost_reply_gives_the_first_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await w.add_device(alice)
        request = PutAccountState(alice.account, alice.state.encode())
        chain: AccountChain = await w.call("put_account_state", request, alice)
        assert len(chain.states) == 2


async def test_a_state_that_the_account_did_not_sign_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice, mallory = await w.register("alice"), await w.register("mallory")
        forged = w.next_state(alice, (*alice.state.state.devices, *mallory.state.state.devices))
        signed = sign_state(forged, Signer.ACCOUNT, mallory.account_key, (mallory.device_key,))
        for who in (None, alice):
            with pytest.raises(Problem, match="invalid-account-state"):
                await w.call("put_account_state", PutAccountState(alice.account, signed.encode()), who)
        with pytest.raises(Problem, match="not-allowed"):
            await w.call("put_account_state", PutAccountState(alice.account, signed.encode()), mallory)


async def test_a_device_id_is_given_out_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        phone = await w.add_device(alice)
        entry = next(one for one in alice.state.state.devices if one.device == phone.device)
        await w.remove_device(alice, phone.device)
        again = w.next_state(alice, (*alice.state.state.devices, entry))
        signed = sign_state(again, Signer.ACCOUNT, alice.account_key, (phone.device_key,))
        with pytest.raises(Problem, match="invalid-account-state"):
            await w.call("put_account_state", PutAccountState(alice.account, signed.encode()), alice)
