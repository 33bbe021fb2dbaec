"""Whatever bytes come in, the answer is a value or an MLSError: never another exception, never a changed state.

First every cut and every flip of a genuine message of each kind and of saved rows; then what Hypothesis thinks of.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.mls.commit import Commit
from heliograph.mls.errors import MLSError, StateError, UnsupportedError
from heliograph.mls.framing import MLSMessage, PublicMessage, WireFormat
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.membership import join, join_external
from heliograph.mls.proposal import Add, Remove
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.forge import Forger, by_value, external_commit
from tests.mls.fuzz.genuine import HYBRID, Genuine, State, scene

KINDS = tuple(scene().genuine())
# Every bit is flipped up to here, and one bit of each byte behind.
ALL_BITS_BYTES = 64


@cache
def genuine(suite_id: int) -> dict[str, Genuine]:
    return scene(suite_id).genuine()


def flips(message: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """Return the message with one bit flipped, and in which byte: all bits at its head, then one of every `step`th."""
    for at in (*range(min(ALL_BITS_BYTES, len(message))), *range(ALL_BITS_BYTES, len(message), step)):
        bits = range(8) if at < ALL_BITS_BYTES and step == 1 else (at % 8,)
        for bit in bits:
            yield at, message[:at] + bytes((message[at] ^ 1 << bit,)) + message[at + 1 :]


def refused(case: Genuine, spoilt: bytes) -> State | None:
    """Return the state that spoilt bytes lead to, or None where they are refused."""
    try:
        return case.take(spoilt)
    except MLSError as error:
        assert type(error) in MLSError.__subclasses__(), "a refusal says what to do about it"
        return None


def hold(case: Genuine, step: int) -> None:
    """Hold that no cut and no flip gets through, but for flips of what this taker does not look at."""
    after = case.take(case.message)
    for length in range(0, len(case.message), step):
        assert refused(case, case.message[:length]) is None, f"cut at {length}"
    for at, spoilt in flips(case.message, step):
        assert refused(case, spoilt) == (after if at in case.unseen else None), f"flipped at {at}"
    assert refused(case, case.message + b"\0") is None
    assert case.take(case.message) == after


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
@pytest.mark.bad_input(64)
@pytest.mark.rule("RFC 9420 §6")
@pytest.mark.rule("RFC 9420 §6.2")
@pytest.mark.rule("RFC 9420 §6.3")
@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_and_every_flipped_byte_of_a_message_is_refused_and_the_genuine_one_is_taken_then(kind: str):
    hold(genuine(1)[kind], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suite_id", "step"), [(2, 1), (HYBRID, 23)])
def test_cuts_and_flipped_bytes_are_refused_whatever_the_cipher_suite(suite_id: int, step: int, kind: str):
    hold(genuine(suite_id)[kind], step)


# --- saved rows -------------------------------------------------------------------------------------------------------


def damaged(rows: State) -> Iterator[dict[str, bytes]]:
    for name, row in rows.items():
        yield {other: kept for other, kept in rows.items() if other != name}
        yield {**rows, f"{name}0": row}
        for length in range(len(row)):
            yield {**rows, name: row[:length]}
        for at in range(len(row)):
            yield {**rows, name: row[:at] + bytes((row[at] ^ 1 << at % 8,)) + row[at + 1 :]}


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
def test_every_cut_and_every_flipped_byte_of_a_saved_group_is_noticed_when_it_is_loaded():
    ada = scene().ada.group
    rows = dict(ada.rows())
    assert {name.split("/")[0] for name in rows} == {"epoch", "tree", "past", "proposal", "secret_tree"}
    for spoilt in damaged(rows):
        with pytest.raises((StateError, UnsupportedError)):
            Group.load(spoilt)
    assert Group.load(rows).rows() == rows


# --- changes by chance ------------------------------------------------------------------------------------------------

# Where to cut, how many bytes to drop there, and what to put in their place.
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=3)


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, dropped, put in changes:
        start = int(place * len(data))
        data = data[:start] + put + data[start + dropped :]
    return data


class Stage:
    """A group, someone who is being added to it, and one genuine message of each kind."""

    def __init__(self) -> None:
        self.company = Company("ada", "ben", "cleo", "dan", random=random.Random(7).randbytes)
        for person in self.company.everyone:
            self.company.commit(person)
        self.ada, self.ben = self.company["ada"], self.company["ben"]
        self.forger = Forger(self.ada.group, self.company.random)
        self.finn: Person = self.company.person("finn")
        self.bundle: KeyPackageBundle = self.finn.key_package()
        self.pending: PendingCommit = self.ada.commit([Add(self.bundle.key_package)])
        removal = Remove(LeafIndex(2))
        self.messages = (
            self.pending.commit,
            self.ada.seal(b"hello"),
            self.forger.public(self.forger.signed(removal)),
            self.forger.private(self.forger.signed(removal, WireFormat.PRIVATE_MESSAGE)),
            external_commit(self.ada.group, self.company.person("gwen"), by_value),
        )


@cache
def stage() -> Stage:
    return Stage()


def only_mls_errors(act: Callable[[], object]) -> None:
    with contextlib.suppress(MLSError):
        act()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), CHANGES)
def test_a_member_that_receives_anything_answers_with_a_value_or_an_mls_error(
    kind: int, changes: list[tuple[float, int, bytes]]
):
    message = changed(stage().messages[kind], changes)
    only_mls_errors(lambda: stage().ben.act(lambda group: group.receive(message, now_s=NOW_S)))


@settings(max_examples=150, deadline=None)
@given(CHANGES)
def test_a_member_that_receives_a_well_signed_but_garbled_commit_answers_with_an_mls_error(
    changes: list[tuple[float, int, bytes]],
):
    body = MLSMessage.decode(stage().pending.commit).body
    assert isinstance(body, PublicMessage)
    assert isinstance(body.content.content, Commit)
    try:
        garbled = Commit.decode(changed(body.content.content.encode(), changes))
    except MLSError:
        return
    signed = stage().forger.signed(garbled)
    tagged = replace(signed, auth=replace(signed.auth, confirmation_tag=body.auth.confirmation_tag))
    message = stage().forger.public(tagged)
    only_mls_errors(lambda: stage().ben.act(lambda group: group.receive(message, now_s=NOW_S)))


@settings(max_examples=100, deadline=None)
@given(CHANGES, st.booleans())
def test_a_newcomer_that_is_sent_anything_answers_with_a_value_or_an_mls_error(
    changes: list[tuple[float, int, bytes]], in_tree: bool
):
    pending = stage().pending
    assert pending.welcome is not None
    welcome = pending.welcome if in_tree else changed(pending.welcome, changes)
    tree = changed(pending.ratchet_tree, changes) if in_tree else pending.ratchet_tree
    private = stage().finn.signature_key.private
    only_mls_errors(lambda: join(welcome, tree, stage().bundle, private, now_s=NOW_S))


@settings(max_examples=100, deadline=None)
@given(CHANGES)
def test_an_outsider_that_is_shown_anything_answers_with_a_value_or_an_mls_error(
    changes: list[tuple[float, int, bytes]],
):
    finn, info = stage().finn, changed(stage().pending.group_info, changes)
    only_mls_errors(
        lambda: join_external(
            info,
            stage().pending.ratchet_tree,
            finn.credential,
            finn.signature_key.private,
            capabilities=finn.capabilities,
            random=finn.random,
            now_s=NOW_S,
        )
    )
