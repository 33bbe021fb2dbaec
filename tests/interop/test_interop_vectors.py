"""Stories with ts-mls that were written down, heard again: they need no Node, and hold on every platform."""

from collections import Counter
from typing import Any

import pytest

from heliograph.mls.errors import MLSError
from tests.interop import recorded
from tests.interop.players import Ours

SUITES = (0x0001, 0x0002, 0x0003, 0xF04E)
# What the stories of a suite together have at least.
LEAST = {"commit": 10, "proposal": 8, "application": 40}


def joined(case: dict[str, Any]) -> Ours:
    member = recorded.listener_of(case)
    tree = case["ratchet_tree"]
    member.join(bytes.fromhex(case["welcome"]), None if tree is None else bytes.fromhex(tree))
    return member


def hear(member: Ours, told: dict[str, Any]) -> str:
    heard = member.receive(bytes.fromhex(told["message"]))
    assert heard.kind == told["kind"]
    if heard.kind != "proposal":
        assert heard.authenticated_data.hex() == told["authenticated_data"]
    if heard.kind == "application":
        assert heard.data.hex() == told["data"]
    if heard.kind == "commit":
        assert member.group.epoch == told["epoch"]
        assert member.group.epoch_authenticator.hex() == told["epoch_authenticator"]
    return heard.kind


@pytest.mark.parametrize("suite_id", SUITES, ids=hex)
def test_every_story_that_was_written_down_is_heard_as_it_was_told(suite_id: int):
    kinds: Counter[str] = Counter()
    for case in recorded.read(suite_id):
        member = joined(case)
        assert member.group.epoch_authenticator.hex() == case["epoch_authenticator"]
        kinds.update(hear(member, told) for told in case["heard"])
    assert all(kinds[kind] >= least for kind, least in LEAST.items()), kinds


@pytest.mark.parametrize("suite_id", SUITES, ids=hex)
def test_a_listener_that_restarts_after_every_message_hears_the_same(suite_id: int):
    case = recorded.read(suite_id)[0]
    member = joined(case)
    for told in case["heard"]:
        hear(member, told)
        member.restart()


@pytest.mark.parametrize("suite_id", SUITES, ids=hex)
def test_a_byte_that_changed_on_the_way_is_refused_and_leaves_the_listener_whole(suite_id: int):
    case = recorded.read(suite_id)[0]
    member = joined(case)
    for told in case["heard"]:
        message = bytearray.fromhex(told["message"])
        message[-1] ^= 1
        before = dict(member.group.rows())
        with pytest.raises(MLSError):
            member.receive(bytes(message))
        assert member.group.rows() == before
        hear(member, told)
