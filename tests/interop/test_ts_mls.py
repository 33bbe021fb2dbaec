"""Our library and ts-mls in one group: each feature in both directions, then hundreds of random stories by seed.

HELIOGRAPH_INTEROP_SEEDS=1000 plays more of them for each cipher suite. ts-mls runs with the mends of `node/mends.mjs`;
what it does without them is in `test_ts_mls_as_it_is.py`.
"""

import os
import random
from typing import Any

import pytest

from heliograph.mls.extension import Extension
from heliograph.mls.proposal import (
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    ReInit,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.suite import cipher_suite
from tests.interop.peer import Peer, PeerFailed, PeerRefused
from tests.interop.players import EXTENSION_TYPE, Ours, Player, TsMls, add_of
from tests.interop.room import GROUP_ID, REFUSALS, Room
from tests.interop.scripts import play

SUITES = (0x0001, 0x0002, 0x0003, 0xF04E)
SEEDS = int(os.environ.get("HELIOGRAPH_INTEROP_SEEDS", "60"))


class Cast:
    """Makes the players of one test. first: the kind of the founder; the others take turns."""

    def __init__(self, suite_id: int, first: str, peer: Peer) -> None:
        self.suite_id = suite_id
        self.first = first
        self.peer = peer
        self.count = 0
        self.random = random.Random(suite_id).randbytes

    def next(self, kind: str | None = None) -> Player:
        """Return a player of the kind whose turn it is, or of the kind that is named."""
        is_ours = (kind == "ours") if kind else (self.first == "ours") == (self.count % 2 == 0)
        self.count += 1
        name = f"player {self.count}"
        return Ours(name, self.suite_id, self.random) if is_ours else TsMls(name, self.suite_id, self.peer)

    def room(self, size: int, *, with_tree: bool = False) -> Room:
        """Return a room of players who take turns, all added by the founder; each has committed once."""
        room = Room(self.next())
        newcomers = [self.next() for _ in range(size - 1)]
        adds = [add_of(newcomer.key_package()) for newcomer in newcomers]
        room.commit(room.members[0], adds, newcomers=newcomers, with_tree=with_tree)
        for member in room.members:
            room.commit(member)
        return room

    def psk(self, *knowing: Player) -> PreSharedKeyProposal:
        for player in knowing:
            player.know_psk(b"spoken at the door", b"only by friends")
        nonce = self.random(cipher_suite(self.suite_id).hash_length)
        return PreSharedKeyProposal(PreSharedKeyID.external(b"spoken at the door", nonce))


@pytest.fixture(params=SUITES, ids=hex)
def suite_id(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=["ours", "ts-mls"])
def cast(request: pytest.FixtureRequest, suite_id: int, peer: Peer) -> Cast:
    return Cast(suite_id, request.param, peer)


@pytest.mark.parametrize("with_tree", [False, True], ids=["out of band", "in band"])
def test_one_founds_a_group_and_the_other_joins_it(cast: Cast, with_tree: bool):
    room = Room(cast.next())
    newcomer = cast.next()
    room.commit(room.members[0], [add_of(newcomer.key_package())], newcomers=[newcomer], with_tree=with_tree)
    assert {member.kind for member in room.members} == {"ours", "ts-mls"}


def test_each_reads_what_the_others_say_and_the_data_that_it_authenticates(cast: Cast):
    room = cast.room(3)
    for speaker in room.members:
        room.say(speaker, b"hello", b"seen by all, changed by none")
        room.say(speaker, b"", b"")
        room.say(speaker, bytes(70_000))


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_each_follows_a_commit_that_only_renews_keys(cast: Cast, public: bool):
    room = cast.room(4)
    for member in room.members:
        room.commit(member, public=public, aad=b"a reason")


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_each_removes_a_member_of_the_other_kind(cast: Cast, public: bool):
    room = cast.room(5)
    first, second, third, fourth, _ = room.members
    room.commit(first, [Remove(fourth.leaf)], removed=[fourth], public=public)
    room.commit(second, [Remove(third.leaf)], removed=[third], public=public)
    for member in room.members:
        room.say(member, b"among ourselves")


def test_each_fills_a_place_that_became_free(cast: Cast):
    room = cast.room(5)
    for index, adder in enumerate((room.members[3], room.members[4])):
        gone, newcomer = room.members[1], cast.next("ours" if index else "ts-mls")
        room.commit(adder, [Remove(gone.leaf), add_of(newcomer.key_package())], newcomers=[newcomer], removed=[gone])
        room.commit(newcomer)


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_each_commits_what_the_other_has_proposed(cast: Cast, public: bool):
    room = cast.room(4)
    first, second, third, fourth = room.members
    newcomer = cast.next()
    room.propose(second, None, public=public)
    room.propose(third, None, public=public)
    room.propose(fourth, add_of(newcomer.key_package()), public=public, aad=b"a friend")
    room.commit(first, newcomers=[newcomer], public=public)
    room.propose(first, None, public=public)
    room.propose(first, Remove(third.leaf), public=public)
    room.commit(second, removed=[third], public=public)
    room.commit(newcomer)


def test_an_update_of_the_committer_is_left_out(cast: Cast):
    room = cast.room(2)
    for member in room.members:
        room.propose(member, None)
        room.commit(member)


@pytest.mark.parametrize("with_tree", [False, True], ids=["out of band", "in band"])
def test_each_lets_the_other_in_from_outside(cast: Cast, with_tree: bool):
    room = cast.room(2)
    for witness, kind in zip(list(room.members), ("ours", "ts-mls"), strict=True):
        joiner = cast.next(kind)
        room.join_from_outside(joiner, witness, with_tree=with_tree, aad=b"by the side door")
        room.commit(joiner)
        room.say(witness, b"welcome")


def test_each_comes_back_from_outside_in_place_of_what_it_lost(cast: Cast):
    room = cast.room(4)
    for returning in list(room.members):
        witness = room.others(returning)[0]
        room.join_from_outside(returning, witness, returning=True)
    assert len(room.members) == 4
    for member in list(room.members):
        room.commit(member)


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_a_pre_shared_key_goes_into_the_epoch_and_its_welcome(cast: Cast, public: bool):
    room = cast.room(2)
    newcomer = cast.next()
    for committer in list(room.members):
        psk = cast.psk(*room.members, newcomer)
        if newcomer in room.members:
            room.commit(committer, [psk], public=public)
        else:
            add = add_of(newcomer.key_package())
            room.commit(committer, [psk, add], newcomers=[newcomer], public=public)


def test_the_key_of_an_epoch_goes_into_the_next_one(cast: Cast):
    room = cast.room(3)
    for member in room.members:
        nonce = cast.random(cipher_suite(cast.suite_id).hash_length)
        epoch = member.status().epoch
        psk = PreSharedKeyID.resumption(ResumptionPSKUsage.APPLICATION, GROUP_ID, epoch - 1, nonce)
        room.commit(member, [PreSharedKeyProposal(psk)])


def test_a_newcomer_asks_to_be_added_and_is(cast: Cast):
    room = cast.room(2)
    for committer, kind in zip(list(room.members), ("ours", "ts-mls"), strict=True):
        newcomer = cast.next(kind)
        room.ask_to_join(newcomer, committer)
        room.commit(committer, newcomers=[newcomer])
        room.say(newcomer, b"thank you")


@pytest.mark.parametrize("new_suite", [0x0003, 0xF04E], ids=hex)
def test_a_group_that_is_closed_goes_on_under_other_terms(cast: Cast, new_suite: int):
    for closer, founder in ((0, 1), (1, 0)):
        room = cast.room(3)
        terms = ReInit(b"the new group", 1, new_suite, (Extension(EXTENSION_TYPE, b"new"),))
        room.commit(room.members[closer], [terms])
        for member in room.members:
            with pytest.raises(REFUSALS):
                member.seal(b"to a closed group")
        after = room.follow_with(room.members[founder], new_suite)
        for member in after.members:
            after.commit(member)
            after.say(member, b"here we are again")


def test_a_group_branches_off_another(cast: Cast):
    room = cast.room(3)
    for founder in room.members[:2]:
        branch = room.follow_with(founder, cast.suite_id, b"a branch")
        for member in branch.members:
            branch.commit(member)
        room.say(founder, b"and here all goes on")


def test_who_lacks_a_pre_shared_key_stays_where_it_is_until_it_knows_it(cast: Cast):
    room = cast.room(2)
    committer, without = room.members
    made = committer.commit([cast.psk(committer)])
    before = without.status()
    with pytest.raises(REFUSALS):
        without.receive(made.commit)
    assert without.status() == before
    cast.psk(without)
    assert without.receive(made.commit).kind == "commit"
    committer.take_up()
    room.check_agreement()


def test_each_changes_the_extensions_of_the_group(cast: Cast):
    room = cast.room(3)
    for number, member in enumerate(room.members):
        changed = GroupContextExtensions((Extension(EXTENSION_TYPE, bytes([number])),))
        room.commit(member, [changed])
        assert member.status().extension_types == (EXTENSION_TYPE,)


def test_messages_are_read_out_of_order_and_after_the_epoch_has_ended(cast: Cast):
    room = cast.room(2)
    for speaker in room.members:
        sent = [(speaker, speaker.seal(bytes([number])), bytes([number])) for number in range(6)]
        for one in (sent[4], sent[0], sent[5]):
            room.hear(*one)
        room.commit(speaker)
        for one in (sent[3], sent[1]):
            room.hear(*one)


def test_nobody_reads_a_message_twice(cast: Cast):
    room = cast.room(2)
    for speaker, hearer in (room.members, reversed(room.members)):
        message = speaker.seal(b"once")
        hearer.receive(message)
        with pytest.raises(REFUSALS):
            hearer.receive(message)


def test_who_loses_a_race_goes_along_with_the_winner(cast: Cast):
    room = cast.room(3)
    for winner, loser in ((0, 1), (1, 0)):
        room.members[loser].commit(public=False)
        room.commit(room.members[winner], public=False)
        for member in room.members:
            room.say(member, b"together")


def test_a_group_of_thirty_agrees_on_its_tree(peer: Peer):
    cast = Cast(1, "ours", peer)
    room = Room(cast.next())
    for adder, with_tree in ((0, False), (1, True), (2, False)):
        newcomers = [cast.next() for _ in range(10)]
        adds = [add_of(newcomer.key_package()) for newcomer in newcomers]
        room.commit(room.members[adder], adds, newcomers=newcomers, with_tree=with_tree)
    gone = room.members[3:9]
    room.commit(room.members[9], [Remove(player.leaf) for player in gone], removed=gone)
    for member in room.members[::5]:
        room.commit(member)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("suite", SUITES, ids=hex)
def test_a_random_story_ends_in_agreement(suite: int, seed: int, peer: Peer):
    play(seed, suite, peer)


# --- the peer itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["", "no json", "[]", "null", "{}", '{"do": "fly"}', '{"do": "seal", "client": -1}', '{"do": "new_client"}'],
)
def test_the_peer_answers_bad_input_and_lives(peer: Peer, line: str):
    with pytest.raises(PeerRefused):
        peer.send(line)
    assert TsMls("alive", 1, peer).key_package()


@pytest.mark.usefixtures("peer")
def test_a_peer_that_dies_is_not_taken_for_one_that_refuses():
    with Peer() as peer:
        peer._process.kill()
        with pytest.raises(PeerFailed):
            peer.ask("status", client=1)


class LyingPeer(Peer):
    """Exports other secrets than the group has."""

    def ask(self, do: str, **fields: Any) -> Any:
        answer = super().ask(do, **fields)
        return bytes(32).hex() if do == "export" else answer


@pytest.mark.usefixtures("peer")
def test_a_story_that_fails_tells_its_seed_and_steps():
    with LyingPeer() as peer, pytest.raises(AssertionError) as failed:
        play(3, 1, peer)
    (note,) = failed.value.__notes__
    assert "seed 3, suite 0x0001" in note
    assert "founds the group" in note
