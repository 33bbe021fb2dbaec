"""People who share a group: the stage on which the stories of this folder play.

A `Person` owns a signature key and, once in a group, the current `Group` value. Each of its acts is wrapped: the rows
of the value before the act must be the same afterwards, whether the act went well or raised, since state is a value.
A `Company` delivers what one says or commits to all others, as a delivery service would.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from heliograph.mls.credential import Credential
from heliograph.mls.extension import Extension
from heliograph.mls.group import (
    Group,
    PendingCommit,
    Received,
    ReceivedApplication,
    ReceivedCommit,
)
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.membership import create_group, join, join_external
from heliograph.mls.proposal import Add, Proposal, Remove
from heliograph.mls.suite import CipherSuite, Random, SignatureKeyPair, cipher_suite
from heliograph.mls.tree_math import LeafIndex

Result = TypeVar("Result")

NOW_S = 1_790_000_000
DAY_S = 86_400
LIFETIME = Lifetime(NOW_S - 3600, NOW_S + 30 * DAY_S)
GROUP_ID = b"the group"


@dataclass(eq=False)
class Person:
    """One client: its name, keys and present state."""

    name: str
    suite: CipherSuite
    random: Random
    capabilities: Capabilities
    signature_key: SignatureKeyPair = field(repr=False)
    held: Group | None = None

    @property
    def group(self) -> Group:
        assert self.held is not None, f"{self.name} is in no group"
        return self.held

    @property
    def credential(self) -> Credential:
        return Credential.basic(self.name.encode())

    @property
    def leaf(self) -> LeafIndex:
        return self.group.own_leaf_index

    def key_package(self, *, lifetime: Lifetime = LIFETIME) -> KeyPackageBundle:
        return create_key_package(
            self.suite,
            self.credential,
            self.signature_key.private,
            lifetime=lifetime,
            capabilities=self.capabilities,
            random=self.random,
        )

    def act(self, act: Callable[[Group], Result]) -> Result:
        """Do something with the state, and hold that the state itself did not change."""
        group = self.group
        rows = dict(group.rows())
        try:
            return act(group)
        finally:
            assert group.rows() == rows, f"{self.name}'s state changed in place"

    def commit(self, proposals: Sequence[Proposal] = (), **options: object) -> PendingCommit:
        return self.act(lambda group: group.commit(proposals, random=self.random, now_s=NOW_S, **options))  # pyright: ignore[reportArgumentType]

    def seal(self, data: bytes, authenticated_data: bytes = b"") -> bytes:
        self.held, message = self.act(
            lambda group: group.seal(
                data, random=self.random, authenticated_data=authenticated_data, before_commit=True
            )
        )
        return message

    def propose(self, proposal: Proposal) -> bytes:
        self.held, message = self.act(lambda group: group.propose(proposal, random=self.random, now_s=NOW_S))
        return message

    def update_leaf(self) -> bytes:
        self.held, message = self.act(lambda group: group.update_leaf(random=self.random, now_s=NOW_S))
        return message

    def receive(self, message: bytes, **options: object) -> Received:
        self.held, received = self.act(lambda group: group.receive(message, now_s=NOW_S, **options))  # pyright: ignore[reportArgumentType]
        return received

    def read(self, message: bytes) -> bytes:
        received = self.receive(message)
        assert isinstance(received, ReceivedApplication)
        return received.application_data

    def follow(self, message: bytes) -> ReceivedCommit:
        received = self.receive(message)
        assert isinstance(received, ReceivedCommit)
        return received


class Company:
    """People in one group, and a delivery service that loses nothing."""

    def __init__(
        self,
        *names: str,
        random: Random,
        suite_id: int = 1,
        capabilities: Capabilities | None = None,
        extensions: Sequence[Extension] = (),
    ) -> None:
        """Found a group with the first name and add the others in one commit."""
        self.suite = cipher_suite(suite_id)
        self.random = random
        self.capabilities = capabilities or Capabilities(cipher_suites=(suite_id,))
        self.people: dict[str, Person] = {}
        founder = self.person(names[0])
        founder.held = create_group(
            self.suite,
            GROUP_ID,
            founder.credential,
            founder.signature_key.private,
            lifetime=LIFETIME,
            capabilities=self.capabilities,
            extensions=extensions,
            random=random,
        )
        self.people[names[0]] = founder
        if names[1:]:
            self.add(founder, *map(self.person, names[1:]))

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    @property
    def everyone(self) -> list[Person]:
        return list(self.people.values())

    def person(self, name: str) -> Person:
        """Return someone who is not in the group yet."""
        key = self.suite.generate_signature_key(self.random)
        return Person(name, self.suite, self.random, self.capabilities, key)

    def add(self, adder: Person, *newcomers: Person) -> PendingCommit:
        bundles = [newcomer.key_package() for newcomer in newcomers]
        pending = adder.commit([Add(bundle.key_package) for bundle in bundles])
        self.accept(adder, pending)
        assert pending.welcome is not None
        for newcomer, bundle in zip(newcomers, bundles, strict=True):
            newcomer.held = join(
                pending.welcome,
                pending.ratchet_tree,
                bundle,
                newcomer.signature_key.private,
                now_s=NOW_S,
            )
            self.people[newcomer.name] = newcomer
        return pending

    def accept(self, committer: Person, pending: PendingCommit) -> None:
        """Deliver a commit: the committer takes its own up, all others follow."""
        for person in self.everyone:
            if person is not committer:
                person.follow(pending.commit)
        # A joiner from outside has no state to go on from.
        is_member = committer.name in self.people
        committer.held = committer.group.take_up(pending.group) if is_member else pending.group
        self.people = {person.name: person for person in self.everyone if person.group.is_active}

    def commit(self, committer: Person, *proposals: Proposal) -> PendingCommit:
        pending = committer.commit(proposals)
        self.accept(committer, pending)
        return pending

    def propose(self, proposer: Person, proposal: Proposal | None = None) -> bytes:
        """Deliver a proposal, or an Update if none is named."""
        message = proposer.update_leaf() if proposal is None else proposer.propose(proposal)
        for person in self.everyone:
            if person is not proposer:
                person.receive(message)
        return message

    def remove(self, remover: Person, removed: Person) -> PendingCommit:
        return self.commit(remover, Remove(removed.leaf))

    def join_from_outside(self, joiner: Person, helper: Person, resync_leaf: LeafIndex | None = None) -> PendingCommit:
        pending = join_external(
            helper.group.group_info(),
            helper.group.ratchet_tree(),
            joiner.credential,
            joiner.signature_key.private,
            capabilities=joiner.capabilities,
            resync_leaf=resync_leaf,
            random=self.random,
            now_s=NOW_S,
        )
        self.people.pop(joiner.name, None)
        self.accept(joiner, pending)
        joiner.held = pending.group
        self.people[joiner.name] = joiner
        return pending

    def check_agreement(self) -> None:
        """Hold that all are in one epoch with the same secrets and tree, and that each reads the others."""
        first = self.everyone[0].group
        for person in self.everyone:
            group = person.group
            assert group.epoch_authenticator == first.epoch_authenticator
            assert group.tree == first.tree
            assert group.group_context == first.group_context
            assert group.export("label", b"context", 16) == first.export("label", b"context", 16)
            assert group.external_pub == first.external_pub
        for speaker in self.everyone:
            message = speaker.seal(speaker.name.encode())
            for listener in self.everyone:
                if listener is not speaker:
                    assert listener.read(message) == speaker.name.encode()
