"""Consent: nobody takes key packages of an account that has not let him, and no refusal tells why."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.wire.accounts import AccountRequest, ContactToken, CreateContactToken
from heliograph.wire.ids import account_id
from tests.server.phones import Phone, link_phone, new_phone, refusal
from tests.world import World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def owner(w: World) -> Phone:
    phone = await new_phone(w, "alice")
    await phone.publish(5)
    return phone


async def token_of(owner: Phone, *, lives_s: int = 3600) -> str:
    answer: ContactToken = await owner.ask("create_contact_token", CreateContactToken(lives_s))
    return answer.token


async def test_without_consent_nothing_is_given(w: World, owner: Phone) -> None:
    stranger = await new_phone(w, "bob")
    assert await refusal(stranger.claim(owner.account)) == "no-consent"


async def test_an_account_that_does_not_exist_is_refused_in_the_same_words(w: World, owner: Phone) -> None:
    stranger = await new_phone(w, "bob")
    assert await refusal(stranger.claim(account_id(bytes(32)))) == "no-consent"


async def test_consent_lets_the_other_claim(w: World, owner: Phone) -> None:
    friend = await new_phone(w, "bob")
    await owner.consent(friend)
    assert len(await friend.claim(owner.account)) == 1


async def test_consent_is_not_mutual(w: World, owner: Phone) -> None:
    friend = await new_phone(w, "bob")
    await friend.publish(1)
    await owner.consent(friend)
    assert await refusal(owner.claim(friend.account)) == "no-consent"


async def test_consent_can_be_given_twice_and_taken_back_once_for_all(w: World, owner: Phone) -> None:
    friend = await new_phone(w, "bob")
    await owner.consent(friend, friend)
    await owner.ask("withdraw_consent", AccountRequest(friend.account))
    assert await refusal(friend.claim(owner.account)) == "no-consent"


async def test_consent_for_an_account_that_does_not_exist_is_refused(w: World, owner: Phone) -> None:
    request = AccountRequest(account_id(bytes(32)))
    assert await refusal(owner.ask("grant_consent", request)) == "not-found"


async def test_ones_own_devices_need_no_consent(w: World, owner: Phone) -> None:
    laptop = await link_phone(w, owner)
    assert len(await laptop.claim(owner.account)) == 1


async def test_who_shares_a_room_may_claim(w: World, owner: Phone) -> None:
    host, friend = await new_phone(w, "carol"), await new_phone(w, "bob")
    await friend.publish(1)
    await owner.consent(host)
    await friend.consent(host)
    room = await host.create_room()
    assert await refusal(friend.claim(owner.account)) == "no-consent"
    await host.add(room, owner, friend)
    assert len(await friend.claim(owner.account)) == 1


async def test_a_contact_token_opens_its_makers_packages(w: World, owner: Phone) -> None:
    stranger = await new_phone(w, "bob")
    token = await token_of(owner)
    assert len(await stranger.claim(owner.account, contact_token=token)) == 1


async def test_a_contact_token_opens_nobody_elses_packages(w: World, owner: Phone) -> None:
    stranger, other = await new_phone(w, "bob"), await new_phone(w, "carol")
    token = await token_of(other)
    assert await refusal(stranger.claim(owner.account, contact_token=token)) == "no-consent"


async def test_a_contact_token_ends(w: World, owner: Phone) -> None:
    stranger = await new_phone(w, "bob")
    token = await token_of(owner, lives_s=60)
    w.clock.advance_ms(60_000)
    assert await refusal(stranger.claim(owner.account, contact_token=token)) == "no-consent"


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "%" * 43, "ÿ" * 43])
async def test_a_made_up_token_is_refused_in_the_same_words(w: World, owner: Phone, token: str) -> None:
    stranger = await new_phone(w, "bob")
    assert await refusal(stranger.claim(owner.account, contact_token=token)) == "no-consent"


async def test_the_database_holds_no_list_of_contacts(w: World, owner: Phone) -> None:
    friend = await new_phone(w, "bob")
    await owner.consent(friend)
    ((pair,),) = await w.context.database.read(lambda reader: reader.all("SELECT pair FROM consents"))
    assert len(pair) == 32
    assert owner.account.encode() not in pair
    assert friend.account.encode() not in pair


async def test_a_token_is_kept_as_a_hash_alone(w: World, owner: Phone) -> None:
    token = await token_of(owner)
    rows = await w.context.database.read(lambda reader: reader.all("SELECT token_hash FROM contact_tokens"))
    assert [len(token_hash) for (token_hash,) in rows] == [32]
    assert token.encode() not in rows[0][0]


async def test_an_account_keeps_a_bounded_number_of_tokens(w: World, owner: Phone) -> None:
    limit = w.context.limits.contact_tokens_per_account
    await w.context.database.write(
        lambda tx: [
            tx.run(
                "INSERT INTO contact_tokens (token_hash, account, expires_at_ms) VALUES (?, ?, ?)",
                *(number.to_bytes(32), owner.account, w.clock() + 1_000_000 + number),
            )
            for number in range(limit)
        ]
    )
    await token_of(owner)
    ((count,),) = await w.context.database.read(lambda reader: reader.all("SELECT count(*) FROM contact_tokens"))
    assert count == limit
