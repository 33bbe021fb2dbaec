"""ts-mls without mends: the stories that it can play, what it does against RFC 9420, and that we do not go along.

Each fault of `node/mends.mjs` has its test here. When a newer ts-mls no longer has one, the test fails, and the mend
may go.
"""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import DecodeError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders
from heliograph.mls.proposal import GroupContextExtensions, Proposal, Remove
from tests.interop.peer import Peer, PeerRefused
from tests.interop.players import EXTENSION_TYPE, Ours, Player, TsMls, add_of
from tests.interop.room import Room
from tests.interop.scripts import play

SUITES = (0x0001, 0x0002, 0x0003, 0xF04E)
SEEDS = 15


class Cast:
    """Makes players of suite 1."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.random = random.Random(9420).randbytes

    def ours(self, name: str) -> Ours:
        return Ours(name, 1, self.random)

    def theirs(self, name: str) -> TsMls:
        return TsMls(name, 1, self.peer)

    def room(self, *players: Player) -> Room:
        """Return a room of these, all added by the first, who is ours: then its commit has a path."""
        founder, *newcomers = players
        room = Room(founder, (Extension(EXTENSION_TYPE, b"at first"),))
        room.commit(founder, [add_of(newcomer.key_package()) for newcomer in newcomers], newcomers=newcomers)
        return room


@pytest.fixture
def cast(peer_as_it_is: Peer) -> Cast:
    return Cast(peer_as_it_is)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("suite", [1, 3, 0xF04E], ids=hex)
def test_a_random_story_without_mends_ends_in_agreement(suite: int, seed: int, peer_as_it_is: Peer):
    play(seed, suite, peer_as_it_is)


# --- what it sends that we refuse ------------------------------------------------------------------------------------


def removal(room: Room) -> Proposal:
    return Remove(room.members[2].leaf)


def extensions(_: Room) -> Proposal:
    return GroupContextExtensions((Extension(EXTENSION_TYPE, b"other"),))


@pytest.mark.rule("RFC 9420 §12.4", "extensions-need-path")
@pytest.mark.parametrize("needs_path", [removal, extensions])
def test_its_commit_of_what_needs_a_path_has_none_and_is_refused(cast: Cast, needs_path: Callable[[Room], Proposal]):
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("ours"), theirs, cast.ours("third"))
    made = theirs.commit([needs_path(room)])
    with pytest.raises(ValidationError, match="lacks the path"):
        room.members[0].receive(made.commit)


@pytest.mark.rule("RFC 9420 §12.4", "update-needs-path")
def test_its_commit_of_one_update_has_no_path_and_is_refused(cast: Cast):
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("ours"), theirs)
    room.propose(room.members[0], None)
    made = theirs.commit()
    with pytest.raises(ValidationError, match="lacks the path"):
        room.members[0].receive(made.commit)


# RFC 9420 §7.5
def test_its_path_is_sealed_to_the_keys_from_before_the_updates(cast: Cast):
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("ours"), cast.ours("second"), theirs)
    room.propose(room.members[0], None)
    room.propose(room.members[1], None)
    made = theirs.commit()  # two Updates: with a path
    before = room.members[0].status()
    with pytest.raises(VerificationError, match="HPKE decryption failed"):
        room.members[0].receive(made.commit)
    assert room.members[0].status() == before


# RFC 9420 §7.5
def test_its_path_is_sealed_to_those_whom_the_commit_adds_too(cast: Cast):
    theirs, newcomer = cast.theirs("theirs"), cast.ours("newcomer")
    room = cast.room(cast.ours("first"), cast.ours("second"), cast.ours("third"), theirs)
    removals = [Remove(room.members[1].leaf), Remove(room.members[2].leaf)]
    made = theirs.commit([*removals, add_of(newcomer.key_package())])
    with pytest.raises(ValidationError, match="one ciphertext for each receiver"):
        room.members[0].receive(made.commit)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
def test_neither_reads_the_external_key_of_the_other(cast: Cast):
    room = cast.room(cast.ours("ours"), cast.theirs("theirs"))
    ours, theirs = room.members
    with pytest.raises(DecodeError):
        cast.ours("joiner").join_external(theirs.group_info(), theirs.ratchet_tree())
    with pytest.raises(PeerRefused, match="Invalid public key"):
        cast.theirs("joiner").join_external(ours.group_info(), ours.ratchet_tree())


# RFC 9420 §5.1.1
def test_its_compressed_points_are_no_signature_keys(peer_as_it_is: Peer):
    ours = Ours("ours", 2, random.Random(2).randbytes)
    ours.create_group(b"the group")
    with pytest.raises(VerificationError):
        ours.commit([add_of(TsMls("theirs", 2, peer_as_it_is).key_package())])


# --- what it refuses, or does otherwise, though we keep to the rules -------------------------------------------------


# RFC 9420 §7.9.2
def test_it_joins_no_tree_whose_ancestors_list_different_unmerged_leaves(cast: Cast):
    room = cast.room(*(cast.ours(f"{number}") for number in range(5)))
    first, second, *_, last = room.members
    room.commit(first, [Remove(second.leaf)], removed=[second])  # its path: the root and the left half's root
    newcomer = cast.theirs("newcomer")
    made = last.commit([add_of(newcomer.key_package())])  # unmerged in the left half, not at the root
    with pytest.raises(PeerRefused, match="must list leaf node in its unmerged_leaves"):
        newcomer.join(made.welcome or b"", made.ratchet_tree)


# RFC 9420 §7.4
def test_it_does_not_follow_where_the_left_half_of_the_tree_is_empty(cast: Cast):
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("first"), cast.ours("second"), theirs, cast.ours("fourth"))
    first, second, _, fourth = room.members
    made = fourth.commit([Remove(first.leaf), Remove(second.leaf)])
    with pytest.raises(PeerRefused, match="confirmation tag"):
        theirs.receive(made.commit)


@pytest.mark.rule("RFC 9420 §12.1.7", "whole-list-replaced")
def test_it_keeps_the_extensions_when_a_commit_clears_them(cast: Cast):
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("ours"), theirs)
    made = room.members[0].commit([GroupContextExtensions(())])
    with pytest.raises(PeerRefused, match="OpenError"):  # the path is sealed in the new extensions' context
        theirs.receive(made.commit)


@pytest.mark.rule("RFC 9420 §12.1.8.1", "signed-with-listed-key")
def test_it_takes_the_list_of_external_senders_for_one_sender(cast: Cast):
    ours, theirs = cast.ours("ours"), cast.theirs("theirs")
    sender = ExternalSender(ours.signature_key.public, Credential.basic(b"moderator"))
    ours.create_group(b"the group", [ExternalSenders((sender,)).to_extension()])
    made = ours.commit([add_of(theirs.key_package())])
    with pytest.raises(PeerRefused, match="Could not decode group info"):
        theirs.join(made.welcome or b"", made.ratchet_tree)


# --- what it accepts and we refuse -----------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
def test_it_adds_a_client_whose_leaf_does_not_support_the_cipher_suite(cast: Cast):
    theirs, stranger = cast.theirs("theirs"), cast.ours("stranger")
    stranger.capabilities = replace(stranger.capabilities, cipher_suites=(7,))
    room = cast.room(cast.ours("ours"), theirs)
    made = theirs.commit([add_of(stranger.key_package())])
    with pytest.raises(ValidationError, match="does not support the cipher suite"):
        room.members[0].receive(made.commit)


@pytest.mark.rule("RFC 9420 §7.3", "unique-encryption-key")
def test_it_adds_a_client_whose_encryption_key_is_in_the_tree_already(cast: Cast):
    twins = [Ours(name, 1, cast.random) for name in ("one", "two")]
    for twin in twins:
        twin.random = random.Random(5).randbytes
    theirs = cast.theirs("theirs")
    room = cast.room(cast.ours("ours"), theirs, twins[0])
    made = theirs.commit([add_of(twins[1].key_package())])
    with pytest.raises(ValidationError, match="key"):
        room.members[0].receive(made.commit)
