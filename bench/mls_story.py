"""The story that `bench_mls` plays with our own library; `mls_peer.mjs` plays the same with ts-mls.

    create          a founder alone
    add all         the founder adds everybody else, from the bytes of their key packages to those of
                    Commit, Welcome and tree
    join            the last one joins with the Welcome and the tree out of band
    commit cold     a commit that renews the path in a tree without parent nodes: one ciphertext for every member
    process cold    the last one follows it
    commit warm     the same where every subtree beside the path has a key: one ciphertext a level
    process warm    the last one follows it
    encrypt         an application message of 100 bytes, not the sender's first
    decrypt         the last one reads it

The committer is at the first leaf and the receiver at the last: of all receivers, the one who must derive the fewest
keys, and so the one whose time is most our own. Every operation goes from bytes to bytes and is timed alone; the best
of its rounds counts. Values are never used twice where a cache could remember the first time: cold rounds begin with
members who have just joined, warm rounds and messages go on from each other.

Groups of more than `PORTION` are made in portions, since a commit covers at most 2048 proposals. What is left out: key
packages share their signature keys' seeds with nobody, but are made by one process, and credentials are basic.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random as Generator
from typing import TypeVar

from heliograph.mls import tree_math
from heliograph.mls.credential import Credential
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.membership import create_group, join
from heliograph.mls.proposal import Add
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, SignatureKeyPair, cipher_suite
from heliograph.mls.tree_math import LeafIndex

PORTION = 2000
NOW_S = 1_790_000_000
LIFETIME = Lifetime(NOW_S - 3600, NOW_S + 30 * 86_400)
DATA = bytes(100)
MS_A_SECOND = 1000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Someone with a key package that is not used yet."""

    signature_key: SignatureKeyPair
    bundle: KeyPackageBundle
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Path:
    """The shape of a commit with a path: nodes on the sender's path, ciphertexts, and nodes that a receiver derives."""

    nodes: int
    sealed: int
    derived: int

    @classmethod
    def of(cls, tree: RatchetTree, sender: LeafIndex, receiver: LeafIndex) -> "Path":
        """Return the shape of what `sender` commits upon `tree`, as `receiver` follows it."""
        steps = tree.filtered_direct_path(sender)
        own = tree_math.leaf_to_node(receiver)
        return cls(
            nodes=len(steps),
            sealed=sum(len(tree.resolution(child)) for _, child in steps),
            derived=sum(tree_math.is_ancestor(node, own) for node, _ in steps),
        )


@dataclass
class Told:
    """What the story tells: the best time of each operation, and the sizes on which a time depends."""

    took_ms: dict[str, float] = field(default_factory=dict[str, float])
    paths: dict[str, Path] = field(default_factory=dict[str, Path])
    message_bytes: dict[str, int] = field(default_factory=dict[str, int])
    key_package_bytes: int = 0
    leaf_bytes: int = 0
    state_bytes: int = 0
    saved_bytes: int = 0

    def repeated(self, operation: str, rounds: int, act: Callable[[], Result]) -> Result:
        """Do something several times, and return what came out at last."""
        for _ in range(rounds - 1):
            self.timed(operation, act)
        return self.timed(operation, act)

    def timed(self, operation: str, act: Callable[[], Result]) -> Result:
        """Do something, and remember how long it took if it never went faster."""
        gc.disable()
        started = time.perf_counter()
        result = act()
        took_ms = (time.perf_counter() - started) * MS_A_SECOND
        gc.enable()
        self.took_ms[operation] = min(took_ms, self.took_ms.get(operation, took_ms))
        return result


class Story:
    """One suite and one size."""

    def __init__(self, suite_id: int, size: int, *, told: Told | None = None, seed: int = 1) -> None:
        self.suite: CipherSuite = cipher_suite(suite_id)
        self.size = size
        self.random = Generator(seed).randbytes
        self.capabilities = Capabilities(cipher_suites=(suite_id,))
        self.last = LeafIndex(size - 1)
        self.told = told or Told()

    def play(self, rounds: int, *, with_memory: bool = False) -> Told:
        """Play it through; `rounds` of what is short, fewer of what takes seconds."""
        long_rounds = max(3, min(rounds, 7000 // self.size))
        people = [self.newcomer(number) for number in range(self.size)]
        founder, packages = people[0].signature_key, [person.encoded for person in people[1:]]
        self.told.key_package_bytes = len(people[0].encoded) - 4
        self.told.leaf_bytes = len(people[0].bundle.key_package.leaf_node.encode())
        founded = self.told.repeated("create", rounds, lambda: self._create(founder))
        portions = self.told.repeated("add all", long_rounds, lambda: self._add_all(founded, packages))
        self.told.message_bytes["add all"] = sum(len(portion.commit) for portion in portions)
        for _ in range(long_rounds):
            self._play_cold(portions[-1], people[-1])
        if with_memory:
            self.told.state_bytes = self._measure_memory(portions[-1], people[-1])
        group, receiver = self._warm(portions, people)
        self._follow_and_talk(group, receiver, rounds)
        return self.told

    def pair(self) -> tuple[Group, Group]:
        """Return the states of the first and the last member of a warm group, untimed."""
        people = [self.newcomer(number) for number in range(self.size)]
        founded = self._create(people[0].signature_key)
        return self._warm(self._add_all(founded, [person.encoded for person in people[1:]]), people)

    def _follow_and_talk(self, group: Group, receiver: Group, rounds: int) -> None:
        for _ in range(rounds):
            group, receiver = self._commit_and_follow("warm", group, receiver)
        self._talk(group, receiver, 4 * rounds)

    # --- the operations -------------------------------------------------------------------------------------------

    def newcomer(self, number: int) -> Newcomer:
        """Return someone with a key package."""
        keys = self.suite.generate_signature_key(self.random)
        bundle = create_key_package(
            self.suite,
            Credential.basic(f"member {number}".encode()),
            keys.private,
            lifetime=LIFETIME,
            capabilities=self.capabilities,
            random=self.random,
        )
        return Newcomer(keys, bundle, MLSMessage(bundle.key_package).encode())

    def _create(self, keys: SignatureKeyPair) -> Group:
        return create_group(
            self.suite,
            b"the group",
            Credential.basic(b"founder"),
            keys.private,
            lifetime=LIFETIME,
            capabilities=self.capabilities,
            random=self.random,
        )

    def _add_all(self, group: Group, packages: Sequence[bytes]) -> list[PendingCommit]:
        """Add everybody without a path, so that the tree stays without parent nodes; return the portions' commits."""
        portions: list[PendingCommit] = []
        for start in range(0, len(packages), PORTION):
            portion = [Add(_key_package(encoded)) for encoded in packages[start : start + PORTION]]
            portions.append(group.commit(portion, random=self.random, now_s=NOW_S, force_path=False))
            group = portions[-1].group
        group.ratchet_tree()
        return portions

    def _join(self, added: PendingCommit, person: Newcomer, ratchet_tree: bytes | None = None) -> Group:
        private_key = person.signature_key.private
        return join(added.welcome or b"", ratchet_tree or added.ratchet_tree, person.bundle, private_key, now_s=NOW_S)

    def _play_cold(self, added: PendingCommit, last: Newcomer) -> None:
        receiver = self.told.timed("join", lambda: self._join(added, last))
        # The founder has made its tree itself; in life it comes to a cold commit with all hashes known, as here.
        self._commit_and_follow("cold", _reopened(added.group), receiver)

    def _commit_and_follow(self, kind: str, group: Group, receiver: Group) -> tuple[Group, Group]:
        self.told.paths[kind] = Path.of(group.tree, group.own_leaf_index, self.last)
        pending = self.told.timed(f"commit {kind}", lambda: group.commit(random=self.random, now_s=NOW_S))
        self.told.message_bytes[kind] = len(pending.commit)
        followed, _ = self.told.timed(f"process {kind}", lambda: receiver.receive(pending.commit, now_s=NOW_S))
        return group.take_up(pending.group), followed

    def _talk(self, group: Group, receiver: Group, messages: int) -> None:
        for _ in range(messages):
            group_rows, receiver_rows = group.rows(), receiver.rows()
            group, message = self.told.timed("encrypt", lambda group=group: group.seal(DATA, random=self.random))
            receiver, _ = self.told.timed(
                "decrypt",
                lambda receiver=receiver, message=message: receiver.receive(message, now_s=NOW_S),
            )
            self.told.message_bytes["talk"] = len(message)
            written = max(written_bytes(group_rows, group.rows()), written_bytes(receiver_rows, receiver.rows()))
            self.told.saved_bytes = max(self.told.saved_bytes, written)

    # --- around them ----------------------------------------------------------------------------------------------

    def _warm(self, portions: Sequence[PendingCommit], people: Sequence[Newcomer]) -> tuple[Group, Group]:
        """Let one member of each subtree beside the first leaf's path commit, the largest subtree first."""
        group, receiver = portions[-1].group, self._arrive(portions, people, self.last)
        leaves = [1 << level for level in reversed(range(self.last.bit_length()))]
        followers = {leaf: self._arrive(portions, people, leaf) for leaf in leaves if leaf != self.last}
        for leaf in leaves:
            follower = followers.pop(leaf, receiver)
            pending = follower.commit(random=self.random, now_s=NOW_S)
            group = _follow(group, pending)
            receiver = pending.group if follower is receiver else _follow(receiver, pending)
            followers = {other: _follow(member, pending) for other, member in followers.items()}
        return group, receiver

    def _arrive(self, portions: Sequence[PendingCommit], people: Sequence[Newcomer], leaf: int) -> Group:
        """Return the state of a member after all portions: joined with its own, and following those after it."""
        number = (leaf - 1) // PORTION
        group = self._join(portions[number], people[leaf])
        for later in portions[number + 1 :]:
            group = _follow(group, later)
        return group

    def _measure_memory(self, added: PendingCommit, person: Newcomer) -> int:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        group = self._join(added, person, bytes(bytearray(added.ratchet_tree)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return after - before if group.is_active else 0


def written_bytes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> int:
    """Return how many bytes of names and contents a store must write to come from one state's rows to the other's."""
    changed = {name: row for name, row in after.items() if before.get(name) != row}
    gone = before.keys() - after.keys()
    return sum(len(name) + len(row) for name, row in changed.items()) + sum(map(len, gone))


def _key_package(encoded: bytes) -> KeyPackage:
    body = MLSMessage.decode(encoded).body
    if not isinstance(body, KeyPackage):
        raise TypeError("not a key package")
    return body


def _follow(group: Group, pending: PendingCommit) -> Group:
    return group.receive(pending.commit, now_s=NOW_S)[0]


def _reopened(group: Group) -> Group:
    """Return the same state as a value that has remembered nothing, but for the tree hashes."""
    loaded = Group.load(group.rows())
    loaded.tree.tree_hash(loaded.suite)
    return loaded
