"""Key packages: only a device's own sound packages are offered, and each is handed out once."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.framing import MLSMessage
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.server import key_packages
from heliograph.wire.accounts import ClaimKeyPackages, Empty, KeyPackageCount, PublishKeyPackages
from heliograph.wire.events import KeyPackagesLowEvent
from heliograph.wire.ids import AccountId
from heliograph.wire.problems import Problem
from tests.server.phones import DAY_S, SUITE, Phone, encoded, link_phone, new_phone, refusal, revoke_phone
from tests.world import World, generous_limits, world

HOUR_S = 3600


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


async def publish(phone: Phone, *packages: bytes, last_resort: bytes | None = None) -> KeyPackageCount:
    return await phone.ask("publish_key_packages", PublishKeyPackages(packages, last_resort))


def spoiled(phone: Phone, **changes: Any) -> bytes:
    """A package that is changed and then signed by its own key, so that only the change is wrong."""
    package = phone.key_package().key_package
    return MLSMessage(replace(package, **changes).sign(SUITE, phone.device_key)).encode()


async def claimed_references(phone: Phone, account: AccountId) -> list[bytes]:
    return [package.reference(SUITE) for package in await phone.claim(account)]


async def test_what_a_device_publishes_is_counted(w: World) -> None:
    phone = await new_phone(w, "alice")
    await phone.publish(3, last_resort=True)
    assert await phone.ask("count_key_packages", Empty()) == KeyPackageCount(3, last_resort=True)


async def test_a_claim_gives_one_package_of_each_device(w: World) -> None:
    phone, reader = await new_phone(w, "alice"), await new_phone(w, "bob")
    laptop = await link_phone(w, phone)
    await phone.publish(2)
    await laptop.publish(2)
    await phone.consent(reader)
    reply = await reader.ask("claim_key_packages", ClaimKeyPackages(phone.account))
    assert {one.device for one in reply.key_packages} == {phone.device, laptop.device}


async def test_a_package_is_handed_out_once(w: World) -> None:
    phone, reader = await new_phone(w, "alice"), await new_phone(w, "bob")
    await phone.publish(2)
    await phone.consent(reader)
    first, second = await claimed_references(reader, phone.account), await claimed_references(reader, phone.account)
    assert len({*first, *second}) == 2
    assert await reader.claim(phone.account) == []


async def test_a_claim_for_a_suite_gives_packages_of_that_suite_alone(w: World) -> None:
    phone = await new_phone(w, "alice")
    await publish(phone, encoded(phone.key_package(suite_id=3)), encoded(phone.key_package()))
    assert [package.cipher_suite for package in await phone.claim(phone.account, suite=3)] == [3]


@pytest.mark.bad_input(91)
async def test_fifty_takers_at_once_get_fifty_packages(w: World) -> None:
    phone, readers = await new_phone(w, "alice"), [await new_phone(w, f"bob{number}") for number in range(10)]
    await phone.publish(50)
    await phone.consent(*readers)
    taken = await asyncio.gather(*(claimed_references(readers[turn % 10], phone.account) for turn in range(50)))
    assert len({reference for references in taken for reference in references}) == 50


@pytest.mark.bad_input(90)
async def test_an_empty_pool_gives_the_last_resort_marked_as_such(w: World) -> None:
    phone, reader = await new_phone(w, "alice"), await new_phone(w, "bob")
    await phone.publish(1, last_resort=True)
    await phone.consent(reader)
    replies = [await reader.ask("claim_key_packages", ClaimKeyPackages(phone.account)) for _ in range(3)]
    assert [reply.key_packages[0].last_resort for reply in replies] == [False, True, True]


@pytest.mark.bad_input(90)
async def test_whoever_drains_an_account_is_slowed_down(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(claims_per_account_and_hour=5)) as w:
        phone, reader = await new_phone(w, "alice"), await new_phone(w, "bob")
        await phone.publish(10)
        await phone.consent(reader)
        for _ in range(5):
            await reader.claim(phone.account)
        assert await refusal(reader.claim(phone.account)) == "too-many-requests"
        w.clock.advance_ms(HOUR_S * 1000)
        assert len(await reader.claim(phone.account)) == 1


async def test_the_owner_is_told_once_that_few_are_left_and_when_the_last_resort_is_used(w: World) -> None:
    phone = await new_phone(w, "alice")
    await phone.publish(21, last_resort=True)
    for _ in range(25):
        await phone.claim(phone.account)
    events = [event for event in await phone.entries(phone.device) if isinstance(event, KeyPackagesLowEvent)]
    assert [(event.one_time, event.last_resort_used) for event in events] == [(19, False), (0, True)]


async def test_a_new_last_resort_takes_the_place_of_the_old_one(w: World) -> None:
    phone = await new_phone(w, "alice")
    await phone.publish(0, last_resort=True)
    newer = phone.key_package(last_resort=True)
    await publish(phone, last_resort=encoded(newer))
    assert await claimed_references(phone, phone.account) == [newer.key_package.reference(SUITE)]


@pytest.mark.bad_input(83)
async def test_a_package_whose_lifetime_has_ended_is_not_handed_out(w: World) -> None:
    phone = await new_phone(w, "alice")
    await publish(phone, encoded(phone.key_package(lifetime=Lifetime(phone.now_s(), phone.now_s() + HOUR_S))))
    w.clock.advance_ms(HOUR_S * 1000)
    assert await phone.claim(phone.account) == []
    assert await phone.ask("count_key_packages", Empty()) == KeyPackageCount(0, last_resort=False)


@pytest.mark.bad_input(83)
@pytest.mark.parametrize(
    ("starts_in_s", "ends_in_s"),
    [(-30 * DAY_S, -1), (HOUR_S, DAY_S), (DAY_S, -DAY_S), (-HOUR_S, 3650 * DAY_S), (-HOUR_S, 31 * DAY_S)],
    ids=["over", "not-yet", "ends-before-it-begins", "ten-years", "an-hour-too-long"],
)
async def test_a_lifetime_that_cannot_be_used_is_refused(w: World, starts_in_s: int, ends_in_s: int) -> None:
    phone = await new_phone(w, "alice")
    lifetime = Lifetime(phone.now_s() + starts_in_s, phone.now_s() + ends_in_s)
    assert await refusal(publish(phone, encoded(phone.key_package(lifetime=lifetime)))) == "invalid-key-package"


@pytest.mark.bad_input(83)
async def test_a_last_resort_may_live_91_days_and_no_longer(w: World) -> None:
    phone = await new_phone(w, "alice")

    def lasting(days: int) -> bytes:
        lifetime = Lifetime(phone.now_s(), phone.now_s() + days * DAY_S)
        return encoded(phone.key_package(last_resort=True, lifetime=lifetime))

    assert (await publish(phone, last_resort=lasting(91))).last_resort
    assert await refusal(publish(phone, last_resort=lasting(92))) == "invalid-key-package"


@pytest.mark.bad_input(84)
async def test_a_package_with_a_wrong_signature_is_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    package = phone.key_package().key_package
    forged = replace(package, signature=bytes(64))
    assert await refusal(publish(phone, MLSMessage(forged).encode())) == "invalid-key-package"


@pytest.mark.bad_input(84)
async def test_a_package_that_another_devices_key_signed_is_refused(w: World) -> None:
    phone, other = await new_phone(w, "alice"), await new_phone(w, "bob")
    forged = phone.key_package(signature_private_key=other.device_key)
    assert await refusal(publish(phone, encoded(forged))) == "invalid-key-package"


@pytest.mark.bad_input(85)
async def test_a_credential_of_another_account_is_refused(w: World) -> None:
    phone, other = await new_phone(w, "alice"), await new_phone(w, "bob")
    forged = phone.key_package(credential=other.credential)
    assert await refusal(publish(phone, encoded(forged))) == "invalid-key-package"


@pytest.mark.bad_input(85)
@pytest.mark.parametrize("identity", [b"", b"alice", b"\xff\xfe", b"mimi://elsewhere/d/x/y"])
async def test_a_credential_that_is_no_device_uri_of_this_server_is_refused(w: World, identity: bytes) -> None:
    phone = await new_phone(w, "alice")
    forged = phone.key_package(credential=Credential.basic(identity))
    assert await refusal(publish(phone, encoded(forged))) == "invalid-key-package"


@pytest.mark.bad_input(85)
async def test_a_package_of_ones_own_other_device_is_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    laptop = await link_phone(w, phone)
    assert await refusal(publish(phone, encoded(laptop.key_package()))) == "invalid-key-package"


@pytest.mark.bad_input(86)
async def test_a_suite_that_is_not_supported_is_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    assert await refusal(publish(phone, spoiled(phone, cipher_suite=0x0A0A))) == "invalid-key-package"


@pytest.mark.bad_input(86)
async def test_capabilities_of_grease_alone_are_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    grease = phone.key_package(capabilities=Capabilities(cipher_suites=(0x0A0A, 0x1A1A)))
    assert await refusal(publish(phone, encoded(grease))) == "invalid-key-package"


@pytest.mark.bad_input(87)
async def test_one_key_for_two_purposes_is_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    package = phone.key_package().key_package
    twice = replace(package, init_key=package.leaf_node.encryption_key).sign(SUITE, phone.device_key)
    assert await refusal(publish(phone, MLSMessage(twice).encode())) == "invalid-key-package"


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("init_key", [bytes(32), b"\x01" + bytes(31), b"", bytes(31)])
async def test_an_init_key_that_hides_nothing_is_refused(w: World, init_key: bytes) -> None:
    phone = await new_phone(w, "alice")
    assert await refusal(publish(phone, spoiled(phone, init_key=init_key))) == "invalid-key-package"


@pytest.mark.bad_input(88)
async def test_the_same_package_is_refused_the_second_time_even_after_it_was_claimed(w: World) -> None:
    phone = await new_phone(w, "alice")
    (bundle,) = await phone.publish(1)
    assert await refusal(publish(phone, encoded(bundle))) == "invalid-key-package"
    await phone.claim(phone.account)
    assert await refusal(publish(phone, encoded(bundle))) == "invalid-key-package"


@pytest.mark.bad_input(88)
async def test_a_package_of_another_account_cannot_be_offered_as_ones_own(w: World) -> None:
    phone, other = await new_phone(w, "alice"), await new_phone(w, "bob")
    (bundle,) = await phone.publish(1)
    assert await refusal(publish(other, encoded(bundle))) == "invalid-key-package"


@pytest.mark.bad_input(89)
async def test_a_device_offers_at_most_a_hundred(w: World) -> None:
    phone = await new_phone(w, "alice")
    packages = [encoded(phone.key_package()) for _ in range(101)]
    assert await refusal(publish(phone, *packages)) == "malformed"
    await publish(phone, *packages[:100])
    assert await refusal(publish(phone, packages[100])) == "invalid-key-package"
    assert (await phone.ask("count_key_packages", Empty())).one_time == 100


@pytest.mark.bad_input(92)
async def test_a_removed_device_offers_nothing_and_can_add_nothing(w: World) -> None:
    phone = await new_phone(w, "alice")
    lost = await link_phone(w, phone)
    await lost.publish(3)
    late = encoded(lost.key_package())
    answers = await asyncio.gather(publish(lost, late), revoke_phone(w, phone, lost), return_exceptions=True)
    assert all(answer is None or isinstance(answer, Problem | KeyPackageCount) for answer in answers)
    assert await phone.claim(phone.account) == []
    assert await refusal(publish(lost, late)) == "not-logged-in"


@pytest.mark.bad_input(61)
@pytest.mark.parametrize(
    "message", [b"", b"\x00\x01\x00\x05", b"\x00\x02\x00\x05", b"\x00\x01\x00\x09", secrets.token_bytes(300)]
)
async def test_what_is_no_key_package_is_refused(w: World, message: bytes) -> None:
    phone = await new_phone(w, "alice")
    assert await refusal(publish(phone, message)) == "invalid-key-package"


async def test_every_cut_and_every_flipped_byte_of_a_package_is_refused(w: World) -> None:
    phone = await new_phone(w, "alice")
    message = encoded(phone.key_package())
    cut = [message[:size] for size in range(len(message))]
    flipped = [message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :] for at in range(len(message))]

    def read(encoding: bytes) -> object:
        return key_packages._read_offer(encoding, w.clock(), last_resort=False)

    for spoilt in (*cut, *flipped, message + b"\x00"):
        with pytest.raises(Problem, match="invalid-key-package"):
            read(spoilt)
    assert isinstance(read(message), key_packages._Offer)


async def test_a_claimed_package_is_no_longer_there_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        phone = await new_phone(w, "alice")
        await phone.publish(2)
        first = await claimed_references(phone, phone.account)
    async with world(tmp_path) as w:
        row = await w.context.database.read(lambda reader: reader.all("SELECT reference FROM key_packages"))
        assert len(row) == 1
        assert row[0][0] not in first
