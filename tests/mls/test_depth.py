"""Deep, long and wide input: nothing recurses on what a stranger sent, nothing is allocated because a number claimed
it, and the costliest sound input costs little more than twice as much when it is twice as large."""

import dataclasses
import graphlib
import sys
import tracemalloc
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from heliograph.mls.census import Node
from heliograph.mls.codec import MAX_DEPTH, Reader, Struct, Writer
from heliograph.mls.commit import MAX_PROPOSALS, Commit, UpdatePathNode
from heliograph.mls.errors import DecodeError, StateError, ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage, SenderData, WireFormat
from heliograph.mls.group_info import EncryptedGroupSecrets, Welcome
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.proposal import GroupContextExtensions, PreSharedKeyID, PreSharedKeyProposal, ProposalOrRef
from heliograph.mls.ratchet_tree import MAX_LEAVES, RatchetTree
from heliograph.mls.sealed_secrets import MAX_RECEIVERS
from heliograph.mls.secret_tree import MAX_STEPS
from heliograph.mls.suite import HPKECiphertext, Random, cipher_suite
from tests.mls.company import NOW_S, Company
from tests.mls.forge import Forger
from tests.mls.fuzz import seeds
from tests.mls.fuzz.genuine import PSKS, scene
from tests.mls.fuzz.targets import struct_kinds, targets
from tests.mls.worst import Counts, Grower, nested

SUITE = cipher_suite(1)
KIB = 1024
# The deepest of our structures, with the calls of the test itself, stays far below this.
CALLS = 120


# --- depth ------------------------------------------------------------------------------------------------------------


def holds(kind: type[Struct]) -> set[type[Struct]]:
    """Return the structures that a structure's fields can hold."""
    if kind is RatchetTree:
        return set(structures(Node))
    hints = typing.get_type_hints(kind)
    return {one for field in dataclasses.fields(kind) for one in structures(hints[field.name])}  # pyright: ignore[reportArgumentType]


def structures(hint: object) -> Iterator[type[Struct]]:
    if isinstance(hint, types.GenericAlias | types.UnionType) or typing.get_origin(hint) is not None:
        for inner in typing.get_args(hint):
            yield from structures(inner)
    elif isinstance(hint, type) and issubclass(hint, Struct):
        yield hint


def depth_of(kinds: list[type[Struct]]) -> int:
    """Return how deep the structures nest; raises CycleError where one can hold another of its own kind."""
    inside = {kind: holds(kind) for kind in kinds}
    depths: dict[type[Struct], int] = {}
    for kind in graphlib.TopologicalSorter(inside).static_order():
        depths[kind] = 1 + max((depths[one] for one in inside.get(kind, ())), default=0)
    return max(depths.values())


@dataclass(frozen=True)
class Nesting(Struct):
    """A planted fault: a structure that can hold itself."""

    inner: "Nesting | None"

    def write(self, writer: Writer) -> None:
        writer.optional(self.inner)

    @classmethod
    def read(cls, reader: Reader) -> "Nesting":
        return cls(reader.optional(cls.read))


@pytest.mark.bad_input(67)
def test_no_structure_can_hold_another_of_its_kind_so_that_depth_is_bounded_by_the_code():
    assert 6 <= depth_of(struct_kinds()) < MAX_DEPTH


def test_a_structure_that_holds_itself_would_be_noticed():
    with pytest.raises(graphlib.CycleError):
        depth_of([*struct_kinds(), Nesting])
    with pytest.raises(RecursionError):
        shallow(lambda: Nesting.decode(b"\1" * 10_000 + b"\0"))


def shallow(act: Callable[[], object]) -> None:
    """Do something with few calls on the stack to spare."""
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(used + CALLS)
    try:
        act()
    finally:
        sys.setrecursionlimit(before)


def vector(data: bytes) -> bytes:
    writer = Writer()
    writer.opaque(data)
    return writer.getvalue()


BOMBS = {
    "extensions in extensions": nested(10_000, lambda data: Extension(0x0A0A, data).encode()),
    "vectors in vectors": nested(10_000, vector),
    "ones": b"\1" * 10_000,
    "zeros": b"\0" * 10_000,
    "largest lengths": b"\xbf\xff\xff\xff" * 10_000,
    "proposals of extensions": b"\1\0\7" * 10_000,
    "optional of optional of": b"\1\0\1\1" * 10_000,
}


@pytest.mark.bad_input(67)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bytes_that_nest_ten_thousand_deep_are_read_with_a_shallow_stack_and_little_memory(bomb: str):
    data = BOMBS[bomb]
    assert len(data) >= 10_000
    # What is made once is not counted.
    given = {target: (data, *(seed[:-1] + data for seed in target.seeds()[:1])) for target in targets().values()}
    for target, spoilt in given.items():
        target.run(spoilt[0][:1])
        tracemalloc.start()
        for one in spoilt:
            shallow(lambda target=target, one=one: target.run(one))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 512 * KIB + 100 * len(data), target.name


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.bad_input(65)
@pytest.mark.rule("RFC 9420 §2.1.2")
def test_a_length_that_claims_a_gigabyte_allocates_nothing():
    for kind in struct_kinds():
        for seed in seeds.seeds_of(kind)[:1]:
            tracemalloc.start()
            for at in range(len(seed)):
                for data in (seed[:at] + b"\xbf\xff\xff\xff" + seed[at:], seed[:at] + b"\xbf\xff\xff\xff"):
                    targets()[kind.__name__].run(data)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak <= 64 * KIB + 60 * len(seed), kind.__name__


def repeated(item: bytes, total: int) -> bytes:
    return vector(item * (total // len(item)))


MANY = 200_000
EMPTY_PROPOSALS = {
    "references": repeated(b"\2\0", MANY) + b"\0",
    "unknown proposals": repeated(b"\1\xff\xff\0", 2 * MANY) + b"\0",
}
EMPTY_ELEMENTS = {
    "extensions": (GroupContextExtensions, repeated(b"\0\x09\0", MANY)),
    "welcome secrets": (Welcome, b"\0\1" + repeated(b"\0\0\0", MANY) + b"\0"),
}


@pytest.mark.bad_input(76)
@pytest.mark.parametrize("name", EMPTY_ELEMENTS)
def test_a_hundred_thousand_empty_elements_take_memory_in_proportion_to_their_bytes(name: str):
    kind, data = EMPTY_ELEMENTS[name]
    tracemalloc.start()
    kind.decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 60 * len(data)


@pytest.mark.parametrize("name", EMPTY_PROPOSALS)
def test_a_commit_of_a_hundred_thousand_proposals_is_given_up_when_it_has_too_many(name: str):
    tracemalloc.start()
    with pytest.raises(DecodeError, match="more items than it may"):
        Commit.decode(EMPTY_PROPOSALS[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 300 * MAX_PROPOSALS


@pytest.mark.bad_input(76)
def test_a_commit_covers_2048_proposals_and_not_one_more(seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random)
    names = [PreSharedKeyID.external(b"shared key", number.to_bytes(32)) for number in range(2049)]
    proposals = [PreSharedKeyProposal(name) for name in names]
    ada, ben = company["ada"], company["ben"]
    pending = ada.commit(proposals[:2048], psks=PSKS)
    assert ben.group.receive(pending.commit, now_s=NOW_S, psks=PSKS)[0].epoch == ada.group.epoch + 1
    with pytest.raises(ValidationError, match="more proposals than it may"):
        ada.commit(proposals, psks=PSKS)
    forger = Forger(ada.group, seeded_random)
    signed = forger.signed(Commit(tuple(ProposalOrRef(proposal=one) for one in proposals)))
    message = forger.public(replace(signed, auth=replace(signed.auth, confirmation_tag=bytes(32))))
    with pytest.raises(ValidationError, match="more proposals than it may"):
        ben.receive(message, psks=PSKS)


@pytest.mark.bad_input(76)
def test_a_member_whose_capabilities_fill_100_thousand_entries_is_refused():
    finn = scene().newcomers[0]
    finn_lists = replace(finn.capabilities, extensions=(*finn.capabilities.extensions, *[0x0A0A] * 100_000))
    wide = dataclasses.replace(finn, capabilities=finn_lists).key_package().key_package
    with pytest.raises(ValidationError, match="larger than it may be"):
        wide.validate(SUITE, NOW_S)
    assert Capabilities.decode(finn_lists.encode()) == finn_lists


def test_a_newcomer_finds_its_entry_among_ten_thousand_and_is_refused_where_there_is_none():
    welcome = scene().genuine()["welcome with its tree"].message
    body = MLSMessage.decode(welcome).body
    assert isinstance(body, Welcome)
    others = tuple(
        EncryptedGroupSecrets(number.to_bytes(32), HPKECiphertext(bytes(32), bytes(48))) for number in range(10_000)
    )
    mine = body.secrets[0]
    crowded = MLSMessage(replace(body, secrets=(*others, mine))).encode()
    assert scene().newcomer(crowded, None) == scene().newcomer(welcome, None)
    with pytest.raises(StateError, match="not for this key package"):
        scene().newcomer(MLSMessage(replace(body, secrets=others)).encode(), None)


@pytest.mark.rule("RFC 9420 §9.2")
@pytest.mark.parametrize("ahead", [MAX_STEPS, 1 << 31, (1 << 32) - 1])
def test_a_message_of_a_far_generation_is_refused_and_the_next_one_is_read(ahead: int, seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random)
    forger = Forger(company["ada"].group, seeded_random)
    signed = forger.signed(b"from the far future", WireFormat.PRIVATE_MESSAGE)

    def far(sender_data: SenderData) -> SenderData:
        return replace(sender_data, generation=ahead)

    with pytest.raises(ValidationError, match="messages ahead"):
        company["ben"].receive(forger.private(signed, sender_data=far))
    assert company["ben"].read(company["ada"].seal(b"of now")) == b"of now"


# --- trees ------------------------------------------------------------------------------------------------------------


@pytest.mark.bad_input(76)
@pytest.mark.rule("RFC 9420 §12.4.3.3", "last-node-in-use")
def test_a_tree_of_blanks_has_a_largest_size_and_ends_with_a_node_in_use():
    node = b"\1\1" + scene().ada.group.own_leaf.encode()
    for blanks in (b"", b"\0", b"\0" * (2 * MAX_LEAVES - 1)):
        with pytest.raises(DecodeError):
            RatchetTree.decode(vector(blanks))
    with pytest.raises(DecodeError, match="more leaves than it may"):
        RatchetTree.decode(vector(b"\0" * (2 * MAX_LEAVES) + node))
    widest = RatchetTree.decode(vector(b"\0" * (2 * MAX_LEAVES - 2) + node))
    counts = Counts.of(SUITE)
    shallow(lambda: widest.tree_hash(counts))
    assert counts.hashes[0] == 2 * MAX_LEAVES - 1


WIDTHS = (64, 128, 256, 512)


def test_the_costliest_sound_tree_is_checked_with_one_signature_a_leaf_and_few_hashes_a_node(seeded_random: Random):
    hashes: list[int] = []
    for width in WIDTHS:
        grower = Grower(SUITE, seeded_random)
        tree = RatchetTree.decode(grower.tree(width).encode())
        counts = Counts.of(SUITE)
        shallow(
            lambda tree=tree, counts=counts, grower=grower: tree.validate(counts, grower.context(tree), now_s=NOW_S)
        )
        assert counts.signatures[0] == width
        hashes.append(counts.hashes[0])
        levels = width.bit_length() - 1
        assert counts.hashes[0] <= 2 * width * (levels + 3)
    # Twice the leaves cost at most a little more than twice the hashes.
    assert all(after <= 2.4 * before for before, after in pairwise(hashes))


def test_a_resolution_never_has_more_nodes_than_there_are_members_below(seeded_random: Random):
    tree = Grower(SUITE, seeded_random).tree(256)
    for leaf in range(0, 256, 17):
        path = tree.filtered_direct_path(tree.members()[leaf].leaf_index)
        reached = [node for _, child in path for node in tree.resolution(child)]
        assert len(reached) == len(set(reached)) < 256


def test_a_path_has_no_more_nodes_and_ciphertexts_than_a_tree_could_ask_for():
    first, second = HPKECiphertext(b"", b"").encode(), HPKECiphertext(b"", b"1").encode()
    writer = Writer()
    writer.opaque(b"")
    writer.opaque(second + first * MAX_RECEIVERS)
    with pytest.raises(DecodeError, match="more sealed secrets"):
        UpdatePathNode.decode(writer.getvalue())
