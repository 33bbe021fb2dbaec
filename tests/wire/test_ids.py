"""Identifiers: what they look like, and that no text but their own form passes for one."""

import re
from typing import Any

import msgspec
import pytest

from heliograph.wire import accounts, channels, ids, moderation
from heliograph.wire.operations import OPERATIONS

SIXTEEN = bytes(range(16))


def test_an_id_shows_its_kind_by_its_prefix() -> None:
    made = [ids.device_id(SIXTEEN), ids.room_id(SIXTEEN), ids.channel_id(SIXTEEN), ids.account_id(bytes(32))]
    assert [one[0] for one in made] == ["d", "r", "c", "a"]


def test_a_rooms_group_id_is_its_sixteen_random_bytes() -> None:
    assert ids.group_id(ids.room_id(SIXTEEN)) == SIXTEEN


def test_a_device_uri_gives_back_its_account_and_device() -> None:
    account, device = ids.account_id(bytes(32)), ids.device_id(SIXTEEN)
    assert ids.parse_device_uri(ids.device_uri("example.org", account, device)) == ("example.org", account, device)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mimi://h/d/a/b",
        f"mimi://h/u/{'a' * 52}/{'a' * 26}",
        f"mimi://h/d/{'A' * 52}/{'a' * 26}",
        f"mimi://h/d/{'a' * 52}/{'a' * 26}\n",
        f"https://h/d/{'a' * 52}/{'a' * 26}",
    ],
)
def test_a_text_that_is_no_device_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="device URI"):
        ids.parse_device_uri(uri)


@pytest.mark.parametrize("text", ["ab1", "AB", "aaaaaaaaaaaaaaaaaaaaaaaaab"])
def test_base32_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base32|Non-base32|padding"):
        ids.base32_bytes(text)


def patterns() -> set[str]:
    """Return every pattern that a field of the contract is held to."""
    schemas = msgspec.json.schema_components([one.request for one in OPERATIONS.values()])
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            members: dict[str, Any] = value
            if isinstance(members.get("pattern"), str):
                found.add(members["pattern"])
            value = list(members.values())
        for one in value if isinstance(value, list | tuple) else ():
            walk(one)

    walk(list(schemas))
    return found


@pytest.mark.bad_input(109)
def test_no_pattern_of_the_contract_lets_a_last_newline_pass() -> None:
    assert len(found := patterns()) > 10
    assert [one for one in sorted(found) if not one.endswith(ids.END)] == []


@pytest.mark.bad_input(109)
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ids.HandleText, "alice"),
        (ids.AccountIdText, ids.account_id(bytes(32))),
        (ids.DeviceIdText, ids.device_id(SIXTEEN)),
        (ids.RoomIdText, ids.room_id(SIXTEEN)),
        (ids.TopicIdText, ids.channel_id(SIXTEEN)),
        (ids.CaseIdText, ids.case_id(SIXTEEN)),
        (channels.LanguageTag, "pt-BR"),
        (moderation.CountryCode, "PT"),
    ],
)
def test_a_text_with_a_newline_after_it_is_another_text_and_refused(kind: Any, text: str) -> None:
    assert msgspec.convert(text, kind) == text
    for spoilt in (text + "\n", "\n" + text, text + "\n\n", text + "\r"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(spoilt, kind)


def test_an_id_has_one_text_only() -> None:
    """The bits that base32 has left over are zero; another text of the same bytes is no id."""
    for account in ("a" + "a" * 51 + "b", "a" + "z" * 52):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"account": account}, accounts.AccountRequest)
        with pytest.raises(ValueError, match="user URI"):
            ids.parse_user_uri(f"mimi://h/u/{account[1:]}")
    for room in ("r" + "a" * 25 + "b", "r" + "z" * 26):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(room, ids.RoomIdText)


@pytest.mark.bad_input(105)
@pytest.mark.parametrize("handle", ["Admin", "аdmin", "admin\u200b", "ad\u202emin"])
def test_a_handle_with_letters_outside_ascii_or_in_capitals_is_refused(handle: str) -> None:
    assert re.search(ids.HANDLE_PATTERN, handle) is None


@pytest.mark.bad_input(106)
@pytest.mark.parametrize("handle", ["ａｌｉｃｅ", "İstanbul", "straße", "ﬁlip"])
def test_a_handle_that_only_looks_like_ascii_is_refused(handle: str) -> None:
    assert re.search(ids.HANDLE_PATTERN, handle) is None


@pytest.mark.bad_input(108)
@pytest.mark.parametrize("handle", ["", "   ", "a", "ab", "1abc", "_ab", "abc_", "a__b", "a" * 33])
def test_a_handle_of_the_wrong_shape_is_refused(handle: str) -> None:
    assert re.search(ids.HANDLE_PATTERN, handle) is None or len(handle) > 32


@pytest.mark.parametrize("handle", ["abc", "a_b_c", "alice", "news24", "a" * 32])
def test_plain_handles_pass(handle: str) -> None:
    assert re.search(ids.HANDLE_PATTERN, handle)
