import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.tlog import decision_leaf
from heliograph.tlog.decision_leaf import DecisionLeaf
from heliograph.tlog.errors import ProofError

NONCE = bytes(range(32))
LEAF = DecisionLeaf(
    hour="2026-11-24T13",
    week="2026-W48",
    subject_kind="channel",
    category="STATEMENT_CATEGORY_VIOLENCE",
    keywords=("KEYWORD_INCITEMENT_VIOLENCE_HATRED",),
    ground="DECISION_GROUND_ILLEGAL_CONTENT",
    measures=("block-channel",),
    territory=(),
    language="de",
    source="SOURCE_ARTICLE_16",
    automated_detection=False,
    automated_decision=False,
    minutes_to_action="15-59",
    subscribers="1000-9999",
    refers_to=None,
    commitment=decision_leaf.commitment_text(NONCE, "dc1", "c1"),
)


def entry(**changes: Any) -> bytes:
    """The leaf's JSON in canonical form, with members changed, added, or (given None as `drop`) left out."""
    members = json.loads(LEAF.encode())
    dropped = changes.pop("drop", None)
    members.update(changes)
    members.pop(dropped, None)
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_a_leaf_is_read_as_it_was_written() -> None:
    assert DecisionLeaf.parse(LEAF.encode()) == LEAF
    assert entry() == LEAF.encode()


def test_a_leaf_names_neither_the_decision_nor_its_subject() -> None:
    secret = replace(LEAF, commitment=decision_leaf.commitment_text(NONCE, "dcsecretdecision", "csecretsubject"))
    assert b"secret" not in secret.encode()


def test_the_commitment_is_the_hash_that_the_specification_writes() -> None:
    expected = hashlib.sha256(NONCE + b"dc1" + b"\x00" + b"c1").digest()
    assert decision_leaf.commit(NONCE, "dc1", "c1") == expected


def test_the_commitment_opens_to_what_it_was_made_of() -> None:
    LEAF.check_opening(NONCE, "dc1", "c1")


@pytest.mark.parametrize(
    ("nonce", "decision", "subject"),
    [
        (bytes(32), "dc1", "c1"),
        (NONCE, "dc2", "c1"),
        (NONCE, "dc1", "c2"),
        (NONCE[:31], "dc1", "c1"),
        (NONCE + b"d", "c1", "c1"),
        (NONCE, "dc1\x00c", "1"),
        (NONCE, "dc", "1\x00c1"),
    ],
)
def test_the_commitment_opens_to_nothing_else(nonce: bytes, decision: str, subject: str) -> None:
    with pytest.raises(ProofError):
        LEAF.check_opening(nonce, decision, subject)


@pytest.mark.bad_input(46)
def test_an_unknown_member_is_refused() -> None:
    with pytest.raises(ProofError, match="not known here: 'handle'"):
        DecisionLeaf.parse(entry(handle="@alice"))


@pytest.mark.parametrize("name", sorted(json.loads(LEAF.encode())))
def test_a_missing_member_is_refused(name: str) -> None:
    with pytest.raises(ProofError, match=f"no member `{name}`"):
        DecisionLeaf.parse(entry(drop=name))


@pytest.mark.bad_input(45)
@pytest.mark.parametrize("value", [1.5, {}, "", "a b", 'x"', "x" * 81, -1, [1], [[]], ["a"] * 65, "\u00e9"])
@pytest.mark.parametrize("name", sorted(json.loads(LEAF.encode())))
def test_a_member_of_another_type_or_form_is_refused(name: str, value: object) -> None:
    with pytest.raises(ProofError):
        DecisionLeaf.parse(entry(**{name: value}))


def test_true_is_not_taken_for_one() -> None:
    for name in ("v", "refers_to"):
        with pytest.raises(ProofError):
            DecisionLeaf.parse(entry(**{name: True}))
    with pytest.raises(ProofError):
        DecisionLeaf.parse(entry(automated_detection=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b":", b": ", 1),
        lambda data: data + b"\n",
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b'"de"', b'"d\\u0065"'),
        lambda data: json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode(),
        lambda data: data.replace(b'"v":1', b'"v":1,"v":1'),
        lambda data: data.replace(b'"v":1', b'"v":1.0'),
        lambda data: data[:-1],
        lambda data: b"[" * 100_000,
        lambda data: b"null",
        lambda data: b"",
        lambda data: data.decode().encode("utf-16"),
        lambda data: b" " * 9000 + data,
    ],
    ids=range(13),
)
@pytest.mark.bad_input(42)
def test_json_in_any_other_form_is_refused(change) -> None:
    with pytest.raises(ProofError):
        DecisionLeaf.parse(change(LEAF.encode()))


@pytest.mark.bad_input(43)
@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"9" * 5000, b"18446744073709551616"])
def test_numbers_that_are_none_are_refused(number: bytes) -> None:
    with pytest.raises(ProofError):
        DecisionLeaf.parse(LEAF.encode().replace(b'"refers_to":null', b'"refers_to":' + number))


def test_a_time_is_cut_to_its_hour_and_week_in_utc() -> None:
    assert decision_leaf.hour_and_week(1_790_000_000_123) == ("2026-09-21T14", "2026-W39")
    assert decision_leaf.hour_and_week(1_609_459_199_999) == ("2020-12-31T23", "2020-W53")


@given(value=st.integers(0, 10**9))
def test_a_count_lies_within_the_range_that_stands_for_it(value: int) -> None:
    for text in (decision_leaf.minutes_range(value), decision_leaf.subscribers_range(value)):
        lower, _, upper = text.rstrip("+").partition("-")
        assert int(lower) <= value <= int(upper or value)


def test_a_clock_that_ran_backwards_counts_as_no_time() -> None:
    assert decision_leaf.minutes_range(-5) == "0-14"
