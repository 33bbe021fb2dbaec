"""Random stories of one group whose members are ours and ts-mls's, told from a seed.

    play(seed, suite_id, peer)

draws who founds, joins, proposes, commits, speaks and leaves; the `Room` holds after every commit that all agree. A
story that fails says its seed and steps; the same seed plays the same steps again, with the same bytes on our side as
far as `random` gives them.

With a ts-mls as it is, without mends, the dice leave out what its faults forbid: it commits nothing that needs a path,
joins only in the beginning, and is never in a tree whose left half is empty. All else it is offered.
"""

import random
from collections.abc import Callable, Sequence

from heliograph.mls.extension import Extension
from heliograph.mls.proposal import (
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.suite import cipher_suite
from tests.interop.peer import Peer
from tests.interop.players import EXTENSION_TYPE, Ours, Player, TsMls, add_of
from tests.interop.room import GROUP_ID, Room

MAX_MEMBERS = 6
STEPS = 7


def play(seed: int, suite_id: int, peer: Peer) -> None:
    """Play the story of a seed to its end; raises with the seed and the steps in a note."""
    Story(seed, suite_id, peer).tell()


class Story:
    """A room and the dice. listener: a member that is added first, only listens, and stays."""

    def __init__(self, seed: int, suite_id: int, peer: Peer, listener: Player | None = None) -> None:
        self.title = f"seed {seed}, suite {suite_id:#06x}"
        self.draw = random.Random(seed)
        self.bytes = random.Random(seed + 1).randbytes
        self.suite_id = suite_id
        self.nonce_length = cipher_suite(suite_id).hash_length
        self.peer = peer
        self.is_begun = False
        self.listener = listener
        self.steps: list[str] = []
        self.everyone: list[Player] = []
        self.psks: dict[bytes, bytes] = {}
        founder = self.newcomer()
        self.log(f"{founder} founds the group")
        self.room = Room(founder, self.extensions() if self.chance() else ())

    def tell(self) -> None:
        """Add the first members, then do what the dice say."""
        acts: Sequence[Callable[[], None]] = (
            self.add,
            self.remove,
            self.propose_and_commit,
            self.propose_and_commit,
            self.commit_alone,
            self.join_from_outside,
            self.race,
            self.restart,
        )
        try:
            self.add([] if self.listener is None else [self.listener])
            self.is_begun = True
            for _ in range(STEPS):
                self.draw.choice(acts)()
                self.talk()
        except Exception as error:
            error.add_note(f"{self.title}:\n  " + "\n  ".join(self.steps))
            raise
        finally:
            for player in self.everyone:
                if isinstance(player, TsMls):
                    player.forget()

    def log(self, step: str) -> None:
        self.steps.append(step)

    # --- dice -----------------------------------------------------------------------------------------------------

    def chance(self, of: float = 0.5) -> bool:
        return self.draw.random() < of

    def some(self, most: int = MAX_MEMBERS, apart_from: Sequence[Player] = ()) -> list[Player]:
        """Return some members in any order."""
        free = [one for one in self.room.members if one is not self.listener and one not in apart_from]
        return self.draw.sample(free, min(most, len(free)))

    def someone(self) -> Player:
        return self.some(1)[0]

    def path_makers(self) -> list[Player]:
        """Return, in any order, the members whose commits have a path where one is needed."""
        return [one for one in self.some() if isinstance(one, Ours) or not self.peer.as_it_is]

    def removable(self, most: int, apart_from: Sequence[Player]) -> list[Player]:
        free = self.some(MAX_MEMBERS, apart_from)
        return [one for one in free if one.leaf != 0 or not self.peer.as_it_is][:most]

    def space(self) -> int:
        return MAX_MEMBERS - len(self.room.members)

    def newcomer(self) -> Player:
        """Return a new client of one of the two kinds."""
        name = f"{len(self.everyone)}"
        if self.chance() or (self.is_begun and self.peer.as_it_is):
            player: Player = Ours(name, self.suite_id, self.bytes)
        else:
            player = TsMls(name, self.suite_id, self.peer)
        for psk_id, psk in self.psks.items():
            player.know_psk(psk_id, psk)
        self.everyone.append(player)
        return player

    def aad(self) -> bytes:
        return self.draw.randbytes(self.draw.choice((0, 0, 1, 70)))

    def extensions(self) -> tuple[Extension, ...]:
        return (Extension(EXTENSION_TYPE, self.draw.randbytes(self.draw.randrange(9))),)

    def psk(self) -> PreSharedKeyProposal:
        """Return a proposal of a pre-shared key, which from now on all know."""
        psk_id, psk = self.draw.randbytes(self.draw.randint(1, 20)), self.draw.randbytes(32)
        self.psks[psk_id] = psk
        for player in (*self.everyone, *([] if self.listener is None else [self.listener])):
            player.know_psk(psk_id, psk)
        return PreSharedKeyProposal(PreSharedKeyID.external(psk_id, self.draw.randbytes(self.nonce_length)))

    def key_of_the_epoch(self) -> PreSharedKeyProposal:
        epoch, nonce = self.someone().status().epoch, self.draw.randbytes(self.nonce_length)
        psk = PreSharedKeyID.resumption(ResumptionPSKUsage.APPLICATION, GROUP_ID, epoch, nonce)
        return PreSharedKeyProposal(psk)

    # --- acts -----------------------------------------------------------------------------------------------------

    def commit(
        self,
        committer: Player,
        proposals: Sequence[Proposal] = (),
        *,
        newcomers: Sequence[Player] = (),
        removed: Sequence[Player] = (),
    ) -> None:
        public, with_tree = self.chance(), self.chance()
        self.log(f"  {'public' if public else 'private'}, tree {'in' if with_tree else 'out of'} band")
        self.room.commit(
            committer,
            proposals,
            newcomers=newcomers,
            removed=removed,
            public=public,
            with_tree=with_tree,
            aad=self.aad(),
        )

    def add(self, first: Sequence[Player] = ()) -> None:
        if self.space() == 0:
            self.remove()
            return
        newcomers = [*first, *(self.newcomer() for _ in range(self.draw.randint(1, min(3, self.space()))))]
        proposals: list[Proposal] = [add_of(newcomer.key_package()) for newcomer in newcomers]
        if self.chance(0.2):
            proposals.append(self.psk())
        committer = self.someone()
        self.log(f"{committer} adds {', '.join(map(str, newcomers))}")
        self.commit(committer, proposals, newcomers=newcomers)

    def remove(self) -> None:
        committers = self.path_makers()
        removed = self.removable(self.draw.choice((1, 1, 2)), committers[:1])
        if not removed or not committers:
            return
        committer = committers[0]
        self.log(f"{committer} removes {', '.join(map(str, removed))}")
        self.commit(committer, [Remove(player.leaf) for player in removed], removed=removed)

    def commit_alone(self) -> None:
        committer = self.someone()
        proposals: list[Proposal] = []
        if self.chance(0.4):
            proposals.append(self.psk())
        if self.chance(0.3):
            proposals.append(self.key_of_the_epoch())
        if self.chance(0.3) and committer in self.path_makers():
            proposals.append(GroupContextExtensions(self.extensions()))
        self.log(f"{committer} commits {', '.join(type(one).__name__ for one in proposals) or 'nothing but a path'}")
        late = [(speaker, speaker.seal(b"late"), b"late") for speaker in self.some(2)] if self.chance() else []
        self.commit(committer, proposals)
        for one in late:
            self.room.hear(*one)

    def propose_and_commit(self) -> None:
        """Let several members propose what can stand together, and one of them or another commit it all."""
        committers = self.path_makers()
        if not committers:
            return
        committer = committers[0]
        newcomers: list[Player] = []
        removed: list[Player] = []
        updating: list[Player] = []
        has_extensions = False
        for _ in range(self.draw.randint(1, 4)):
            proposer = self.someone()
            proposal: Proposal | None = None
            what = self.draw.choice(("add", "asks", "remove", "update", "update", "psk", "extensions"))
            if what == "asks" and len(newcomers) < self.space():
                newcomers.append(self.newcomer())
                self.log(f"{newcomers[-1]} asks to be added")
                self.room.ask_to_join(newcomers[-1], proposer)
                continue
            if what == "add" and len(newcomers) < self.space():
                newcomers.append(self.newcomer())
                proposal = add_of(newcomers[-1].key_package())
            elif what == "remove" and (free := self.removable(1, (committer, proposer, *removed, *updating))):
                removed += free
                proposal = Remove(free[0].leaf)
            elif what == "update" and proposer not in (*removed, *updating):
                updating.append(proposer)
            elif what == "extensions" and not has_extensions:
                has_extensions = True
                proposal = GroupContextExtensions(self.extensions())
            elif what == "psk":
                proposal = self.psk()
            else:
                continue
            public = self.chance()
            self.log(f"{proposer} proposes {what} in {'public' if public else 'private'}")
            self.room.propose(proposer, proposal, public=public, aad=self.aad())
        self.log(f"{committer} commits what was proposed")
        by_value = [self.psk()] if self.chance(0.2) else []
        self.commit(committer, by_value, newcomers=newcomers, removed=removed)

    def join_from_outside(self) -> None:
        members = self.path_makers()
        if not members:
            return
        witness, *others = members
        returning = self.space() == 0 or self.chance(0.4)
        if returning and not others:
            return
        joiner = others[0] if returning else self.newcomer()
        self.log(f"{joiner} {'comes back' if returning else 'joins'} from outside by the word of {witness}")
        self.room.join_from_outside(joiner, witness, returning=returning, with_tree=self.chance(), aad=self.aad())

    def race(self) -> None:
        """Let two build a commit on one epoch; the one that loses goes along with the other's."""
        winner, *others = self.some(2)
        for loser in others:
            self.log(f"{winner} and {loser} commit at once, and {winner} is first")
            loser.commit(public=self.chance())
        self.commit(winner)

    def restart(self) -> None:
        for member in self.some():
            if isinstance(member, Ours):
                self.log(f"{member} restarts")
                member.restart()

    def talk(self) -> None:
        """Let some say several things at once, which arrive in any order."""
        sent: list[tuple[Player, bytes, bytes, bytes]] = []
        for speaker in self.some(2):
            for _ in range(self.draw.randint(1, 3)):
                data, aad = self.draw.randbytes(self.draw.choice((0, 5, 300))), self.aad()
                sent.append((speaker, speaker.seal(data, aad), data, aad))
        self.draw.shuffle(sent)
        for one in sent:
            self.room.hear(*one)
