"""Whatever bytes come in, the answer is a value or an MLSError: never another exception, never a changed state."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.mls.commit import Commit
from heliograph.mls.errors import MLSError
from heliograph.mls.framing import MLSMessage, PublicMessage, WireFormat
from heliograph.mls.group import PendingCommit, join, join_external
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.proposal import Add, Remove
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.forge import Forger, by_value, external_commit

# Where to cut, how many bytes to drop there, and what to put in their place.
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=3)


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, dropped, put in changes:
        start = int(place * len(data))
        data = data[:start] + put + data[start + dropped :]
    return data


class Scene:
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
def scene() -> Scene:
    return Scene()


def only_mls_errors(act: Callable[[], object]) -> None:
    with contextlib.suppress(MLSError):
        act()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), CHANGES)
def test_a_member_that_receives_anything_answers_with_a_value_or_an_mls_error(
    kind: int, changes: list[tuple[float, int, bytes]]
):
    message = changed(scene().messages[kind], changes)
    only_mls_errors(lambda: scene().ben.act(lambda group: group.receive(message, now_s=NOW_S)))


@settings(max_examples=150, deadline=None)
@given(CHANGES)
def test_a_member_that_receives_a_well_signed_but_garbled_commit_answers_with_an_mls_error(
    changes: list[tuple[float, int, bytes]],
):
    body = MLSMessage.decode(scene().pending.commit).body
    assert isinstance(body, PublicMessage)
    assert isinstance(body.content.content, Commit)
    try:
        garbled = Commit.decode(changed(body.content.content.encode(), changes))
    except MLSError:
        return
    signed = scene().forger.signed(garbled)
    tagged = replace(signed, auth=replace(signed.auth, confirmation_tag=body.auth.confirmation_tag))
    message = scene().forger.public(tagged)
    only_mls_errors(lambda: scene().ben.act(lambda group: group.receive(message, now_s=NOW_S)))


@settings(max_examples=100, deadline=None)
@given(CHANGES, st.booleans())
def test_a_newcomer_that_is_sent_anything_answers_with_a_value_or_an_mls_error(
    changes: list[tuple[float, int, bytes]], in_tree: bool
):
    pending = scene().pending
    assert pending.welcome is not None
    welcome = pending.welcome if in_tree else changed(pending.welcome, changes)
    tree = changed(pending.ratchet_tree, changes) if in_tree else pending.ratchet_tree
    private = scene().finn.signature_key.private
    only_mls_errors(lambda: join(welcome, tree, scene().bundle, private, now_s=NOW_S))


@settings(max_examples=100, deadline=None)
@given(CHANGES)
def test_an_outsider_that_is_shown_anything_answers_with_a_value_or_an_mls_error(
    changes: list[tuple[float, int, bytes]],
):
    finn, info = scene().finn, changed(scene().pending.group_info, changes)
    only_mls_errors(
        lambda: join_external(
            info,
            scene().pending.ratchet_tree,
            finn.credential,
            finn.signature_key.private,
            capabilities=finn.capabilities,
            random=finn.random,
            now_s=NOW_S,
        )
    )
