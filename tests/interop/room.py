"""One group of players, and a delivery service that hands everything that one says to all others.

After every commit the room holds that all agree on the epoch, its authenticator, the tree, an exported secret and the
list of members, and that whoever was removed is shut out.
"""

from collections.abc import Sequence
from copy import copy

from heliograph.mls.errors import MLSError
from heliograph.mls.extension import Extension
from heliograph.mls.proposal import Proposal
from tests.interop.peer import PeerRefused
from tests.interop.players import Committed, Player

GROUP_ID = b"the group"
REFUSALS = (MLSError, PeerRefused)


class Room:
    """The members of one group."""

    def __init__(self, founder: Player, extensions: Sequence[Extension] = ()) -> None:
        """Let the first member found the group."""
        founder.create_group(GROUP_ID, extensions)
        self.members = [founder]

    def others(self, player: Player) -> list[Player]:
        return [member for member in self.members if member is not player]

    def propose(self, proposer: Player, proposal: Proposal | None, *, public: bool = True, aad: bytes = b"") -> None:
        """Deliver a proposal; None stands for an Update."""
        if proposal is None:
            message = proposer.propose_update(public=public, aad=aad)
        else:
            message = proposer.propose(proposal, public=public, aad=aad)
        for member in self.others(proposer):
            assert member.receive(message).kind == "proposal"

    def ask_to_join(self, newcomer: Player, witness: Player) -> None:
        """Deliver a newcomer's own proposal that it be added."""
        message = newcomer.propose_joining(witness.group_info())
        for member in self.members:
            assert member.receive(message).kind == "proposal"

    def follow_with(self, founder: Player, suite_id: int, branch_id: bytes = b"") -> "Room":
        """Return the room of the group that follows upon this one, founded by a member for all."""
        others = self.others(founder)
        heirs = [member.reborn(suite_id) for member in others]
        head = founder.reborn(suite_id)
        made = head.found_successor(founder, [heir.key_package() for heir in heirs], branch_id)
        head.take_up()
        assert made.welcome is not None
        for member, heir in zip(others, heirs, strict=True):
            heir.join(made.welcome, made.ratchet_tree, member)
        room = copy(self)
        room.members = [head, *heirs]
        room.check_agreement()
        return room

    def commit(
        self,
        committer: Player,
        proposals: Sequence[Proposal] = (),
        *,
        newcomers: Sequence[Player] = (),
        removed: Sequence[Player] = (),
        public: bool = True,
        with_tree: bool = False,
        aad: bytes = b"",
    ) -> None:
        """Deliver a commit of `proposals` and all that waits, and its Welcome to the newcomers."""
        made = committer.commit(proposals, public=public, with_tree=with_tree, aad=aad)
        self._deliver(committer, made, aad, removed)
        for newcomer in newcomers:
            assert made.welcome is not None
            newcomer.join(made.welcome, None if with_tree else made.ratchet_tree)
        self.members = [*(member for member in self.members if member not in removed), *newcomers]
        self.check_agreement()
        self._check_shut_out(removed)

    def join_from_outside(
        self, joiner: Player, witness: Player, *, returning: bool = False, with_tree: bool = False, aad: bytes = b""
    ) -> None:
        """Let someone join upon a witness's GroupInfo; returning: in the place of its own old leaf."""
        group_info = witness.group_info(with_tree=with_tree)
        tree = None if with_tree else witness.ratchet_tree()
        made = joiner.join_external(group_info, tree, resync=returning, aad=aad)
        self._deliver(joiner, made, aad)
        self.members = [*self.others(joiner), joiner]
        self.check_agreement()

    def say(self, speaker: Player, data: bytes, aad: bytes = b"") -> None:
        """Deliver an application message."""
        self.hear(speaker, speaker.seal(data, aad), data, aad)

    def hear(self, speaker: Player, message: bytes, data: bytes, aad: bytes = b"") -> None:
        """Hold that all others read in an application message what its sender said."""
        for member in self.others(speaker):
            heard = member.receive(message)
            assert (heard.kind, heard.data, heard.authenticated_data) == ("application", data, aad)

    def check_agreement(self) -> None:
        first, *rest = self.members
        status, exported = first.status(), first.export("interop", b"context", 32)
        assert len(status.members) == len(self.members)
        for member in rest:
            assert member.status() == status, f"{member} and {first} do not agree"
            assert member.export("interop", b"context", 32) == exported

    def _deliver(self, committer: Player, made: Committed, aad: bytes, removed: Sequence[Player] = ()) -> None:
        for member in self.others(committer):
            heard = member.receive(made.commit)
            assert (heard.kind, heard.authenticated_data) == ("commit", aad)
            assert heard.removed == (member in removed), f"{member} thinks otherwise of its removal"
        committer.take_up()

    def _check_shut_out(self, removed: Sequence[Player]) -> None:
        if not removed:
            return
        message = self.members[-1].seal(b"not for those who left")
        for player in removed:
            assert _refuses(player, message)
        for member in self.members[:-1]:
            assert member.receive(message).data == b"not for those who left"


def _refuses(player: Player, message: bytes) -> bool:
    try:
        player.receive(message)
    except REFUSALS:
        pass
    else:
        return False
    try:
        player.seal(b"still here")
    except REFUSALS:
        return True
    return False
