"""Who may change a room: the one function that the hub and every client ask."""

from dataclasses import replace

import pytest

from heliograph.mls.codec import Writer
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.wire.ids import AccountId, account_id, device_id, device_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import APP_DATA_DICTIONARY, Change, Role, RoomPolicy, check_change, check_roles

ANNA, BEN, CLEO, DORA = (account_id(bytes([number]) * 32) for number in range(1, 5))
ROOM = RoomPolicy(
    "h", direct=False, participants={ANNA: Role.OWNER, BEN: Role.ADMIN, CLEO: Role.MEMBER}, franking_key=bytes(32)
)


def uri(account: AccountId, number: int = 1, domain: str = "h") -> str:
    return device_uri(domain, account, device_id(bytes([number]) * 16))


def leaves(policy: RoomPolicy) -> tuple[str, ...]:
    return tuple(uri(account) for account in sorted(policy.present()))


def roles(**changes: Role | None) -> RoomPolicy:
    names = {"anna": ANNA, "ben": BEN, "cleo": CLEO, "dora": DORA}
    participants = {**ROOM.participants, **{names[name]: role for name, role in changes.items() if role is not None}}
    for name, role in changes.items():
        if role is None:
            del participants[names[name]]
    return replace(ROOM, participants=participants)


def change(by: AccountId, after: RoomPolicy, before: RoomPolicy = ROOM, **other: object) -> None:
    plain: dict[str, object] = {"external": False, "added": (), "removed": (), "present": leaves(after)}
    check_change(before, after, Change(committer=by, **{**plain, **other}))  # pyright: ignore[reportArgumentType]


def refused(slug: str, by: AccountId, after: RoomPolicy, before: RoomPolicy = ROOM, **other: object) -> None:
    with pytest.raises(Problem) as caught:
        change(by, after, before, **other)
    assert caught.value.slug == slug


def test_the_policy_comes_back_from_its_extension() -> None:
    assert RoomPolicy.from_extensions([ROOM.extension()]) == ROOM


def test_an_admin_adds_and_removes_members() -> None:
    change(BEN, roles(dora=Role.MEMBER), added=(uri(DORA),))
    change(BEN, roles(cleo=None), removed=(uri(CLEO),))


def test_nobody_is_listed_without_a_device_that_was_given() -> None:
    """Key packages are given with consent; who is only listed shares a room with people that they never agreed to."""
    refused("invalid-proposal", BEN, roles(dora=Role.MEMBER))
    refused("invalid-proposal", BEN, roles(dora=Role.MEMBER), added=(uri(CLEO, 2),))


def test_a_proposal_may_list_whom_another_proposal_adds() -> None:
    check_roles(ROOM, roles(dora=Role.MEMBER), BEN)
    with pytest.raises(Problem, match="only admins"):
        check_roles(ROOM, roles(dora=Role.MEMBER), CLEO)


def without(policy: RoomPolicy, *gone: str) -> tuple[str, ...]:
    return tuple(one for one in leaves(policy) if one not in gone)


def test_a_member_removes_no_device_of_another_who_stays() -> None:
    one = uri(BEN)
    refused("not-allowed", CLEO, ROOM, removed=(one,), present=without(ROOM, one))
    change(ANNA, ROOM, removed=(one,), present=without(ROOM, one))


def test_a_member_may_not_replace_a_device_of_another_either() -> None:
    refused("not-allowed", CLEO, ROOM, removed=(uri(BEN),), added=(uri(BEN),))


def test_a_member_may_remove_a_device_of_its_own() -> None:
    change(CLEO, ROOM, removed=(uri(CLEO, 2),))


def test_a_member_may_remove_a_device_that_its_account_has_dropped() -> None:
    one, dropped = uri(BEN), frozenset({uri(BEN)})
    change(CLEO, ROOM, removed=(one,), present=without(ROOM, one), dropped=dropped)
    refused("not-allowed", CLEO, ROOM, removed=(uri(ANNA),), present=without(ROOM, uri(ANNA)), dropped=dropped)


def test_a_member_may_commit_the_leave_of_another() -> None:
    one = uri(BEN)
    change(CLEO, ROOM, removed=(one,), present=without(ROOM, one), leaving=frozenset({one}))


@pytest.mark.parametrize("by", [ANNA, CLEO])
def test_a_commit_takes_out_everyone_who_waits_to_leave(by: AccountId) -> None:
    refused("invalid-proposal", by, ROOM, leaving=frozenset({uri(BEN)}))


def test_a_commit_from_outside_may_leave_a_leaver_in() -> None:
    change(CLEO, ROOM, external=True, added=(uri(CLEO),), removed=(uri(CLEO),), leaving=frozenset({uri(BEN)}))


def test_a_member_adds_nobody() -> None:
    refused("not-allowed", CLEO, roles(dora=Role.MEMBER))


def test_a_member_may_leave() -> None:
    change(CLEO, roles(cleo=None))


def test_a_stranger_commits_nothing() -> None:
    refused("not-allowed", DORA, ROOM)


def test_an_admin_cannot_make_or_unmake_admins_and_owners() -> None:
    refused("not-allowed", BEN, roles(cleo=Role.ADMIN))
    refused("not-allowed", BEN, roles(anna=None))


@pytest.mark.bad_input(114)
def test_the_last_owner_cannot_step_down() -> None:
    refused("not-allowed", ANNA, roles(anna=Role.MEMBER))


def test_a_device_of_someone_who_takes_no_part_cannot_stand_in_the_group() -> None:
    refused("invalid-proposal", BEN, ROOM, present=(*leaves(ROOM), uri(DORA)))


def test_a_device_of_another_server_cannot_stand_in_the_group() -> None:
    refused("invalid-proposal", BEN, ROOM, present=(*leaves(ROOM), uri(CLEO, domain="elsewhere")))


def test_a_device_stands_in_a_room_once() -> None:
    refused("invalid-proposal", BEN, ROOM, present=(*leaves(ROOM), uri(CLEO)))


def test_who_joins_from_outside_brings_only_a_device_of_its_own() -> None:
    joined = (*leaves(ROOM), uri(CLEO, 2))
    change(CLEO, ROOM, external=True, added=(uri(CLEO, 2),), present=joined)
    refused("not-allowed", CLEO, ROOM, external=True, added=(uri(BEN, 2),), present=(*leaves(ROOM), uri(BEN, 2)))


def test_who_joins_from_outside_removes_only_the_device_that_it_replaces() -> None:
    change(CLEO, ROOM, external=True, added=(uri(CLEO),), removed=(uri(CLEO),))
    refused("not-allowed", CLEO, ROOM, external=True, added=(uri(CLEO),), removed=(uri(BEN),))


def test_who_joins_from_outside_changes_nobodys_role() -> None:
    refused("not-allowed", ANNA, roles(dora=Role.MEMBER), external=True, added=(uri(ANNA, 2),))


def test_the_franking_key_and_the_kind_of_room_never_change() -> None:
    refused("invalid-proposal", ANNA, replace(ROOM, franking_key=b"x" * 32))
    refused("invalid-proposal", ANNA, replace(ROOM, direct=True))


def test_a_direct_room_keeps_its_two_people() -> None:
    pair = replace(ROOM, direct=True, participants={ANNA: Role.OWNER, BEN: Role.OWNER})
    refused("not-allowed", ANNA, replace(pair, participants={**pair.participants, CLEO: Role.MEMBER}), before=pair)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x03\x00\x02", ROOM.extension().extension_data + b"\x00"])
def test_a_policy_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(Problem, match="policy"):
        RoomPolicy.from_extensions([Extension(APP_DATA_DICTIONARY, data)])


def test_a_policy_with_a_component_that_nobody_knows_is_refused() -> None:
    known = ROOM.extension().extension_data
    writer = Writer()
    writer.opaque(known[2:] + b"\x80\x02\x01\x00")
    with pytest.raises(Problem, match="0x8002"):
        RoomPolicy.from_extensions([Extension(APP_DATA_DICTIONARY, writer.getvalue())])


@pytest.mark.parametrize(
    "other",
    [
        Extension(0x0005, b"\x00"),
        Extension(0x0A0A, bytes(1000)),
        RequiredCapabilities(extension_types=(APP_DATA_DICTIONARY, 0x0A0A)).to_extension(),
    ],
    ids=["external-senders", "unknown", "more-capabilities"],
)
def test_nothing_else_stands_in_the_group_context(other: Extension) -> None:
    with pytest.raises(Problem, match="nothing else"):
        RoomPolicy.from_extensions([ROOM.extension(), other])


def test_the_policy_may_stand_beside_the_capabilities_that_it_needs() -> None:
    required = RequiredCapabilities(extension_types=(APP_DATA_DICTIONARY,)).to_extension()
    assert RoomPolicy.from_extensions([required, ROOM.extension()]) == ROOM


def test_a_policy_is_bounded_before_anything_is_kept_for_each_newcomer() -> None:
    with pytest.raises(Problem, match="franking key"):
        RoomPolicy.from_extensions([replace(ROOM, franking_key=bytes(1 << 20)).extension()])


def test_a_group_without_a_policy_is_refused() -> None:
    with pytest.raises(Problem, match="no policy"):
        RoomPolicy.from_extensions([])
