"""Those who follow a handshake and must say the same of it: a member with secrets, a public group without.

A test of a broken rule shows both of them the spoiled message and then its honest twin, which differs in nothing but
the one fault. The refusal is then due to the fault alone: a test cannot pass because something else was wrong too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from heliograph.mls.commit import Commit
from heliograph.mls.errors import MLSError, ValidationError
from heliograph.mls.framing import MLSMessage, PublicMessage
from heliograph.mls.group import ReceivedCommit
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.public_group import PublicGroup
from tests.mls.company import NOW_S, Person


def open_public(member: Person) -> PublicGroup:
    """Return the group of a member as a delivery service begins to follow it."""
    info = MLSMessage.decode(member.group.group_info()).body
    assert isinstance(info, GroupInfo)
    return PublicGroup.open(info, member.group.tree, now_s=NOW_S)


@dataclass
class Followers:
    """A member of a group, and a public group in the same epoch."""

    member: Person
    public: PublicGroup

    @classmethod
    def of(cls, member: Person) -> "Followers":
        """Let the public group open on what this member says of the epoch."""
        return cls(member, open_public(member))

    def hear(self, *messages: bytes) -> list[bytes]:
        """Let both keep proposals; return their references."""
        references: list[bytes] = []
        for message in messages:
            self.public, received = self.public.receive_proposal(message, now_s=NOW_S)
            self.member.receive(message)
            references.append(received.reference)
        return references

    def accept(self, message: bytes, *, psks: Mapping[bytes, bytes] | None = None) -> None:
        """Hold that both accept a handshake and come to the same epoch; neither keeps what follows."""
        group, received = self.member.group.receive(message, now_s=NOW_S, psks=psks)
        if not is_commit(message):
            after, _ = self.public.receive_proposal(message, now_s=NOW_S)
            assert len(after.proposals) == len(group.pending_proposals)
            return
        assert isinstance(received, ReceivedCommit)
        assert not received.removed_self
        after, _ = self.public.receive_commit(message, now_s=NOW_S)
        assert (after.group_context, after.tree) == (group.group_context, group.tree)

    def refuse(
        self,
        spoiled: bytes,
        fault: str,
        error: type[MLSError] = ValidationError,
        *,
        honest: bytes | Sequence[bytes],
        psks: Mapping[bytes, bytes] | None = None,
        without_secrets: bool = True,
    ) -> None:
        """Hold that both refuse a spoiled handshake, stay as they were, and then accept its honest twins.

        fault: a pattern that the words of both refusals match; without_secrets: False for a fault that only a member
        can see.
        """
        with pytest.raises(error, match=fault):
            self.member.receive(spoiled, psks=psks)
        if without_secrets:
            before = self.public.encode()
            with pytest.raises(error, match=fault):
                receive_public(self.public, spoiled)
            assert self.public.encode() == before
        for twin in [honest] if isinstance(honest, bytes) else honest:
            self.accept(twin, psks=psks)


def receive_public(group: PublicGroup, message: bytes) -> PublicGroup:
    """Let a public group take up a handshake."""
    if is_commit(message):
        return group.receive_commit(message, now_s=NOW_S)[0]
    return group.receive_proposal(message, now_s=NOW_S)[0]


def is_commit(message: bytes) -> bool:
    """Tell whether a PublicMessage holds a commit."""
    body = MLSMessage.decode(message).body
    assert isinstance(body, PublicMessage)
    return isinstance(body.content.content, Commit)
