"""One genuine message of every kind, and who takes it: what hostile bytes are made from.

A `Scene` is a group of four with some history, two newcomers, an outsider and an external sender, all of one cipher
suite. `genuine()` lists its messages; each comes with `take`, which hands bytes to the one whom the message is for and
returns the state that this leads to, always from the same state before. So what became of spoilt bytes can be compared
with what becomes of the genuine ones.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders, RequiredCapabilities
from heliograph.mls.framing import ContentType, MLSMessage, PublicMessage, WireFormat
from heliograph.mls.group import PendingCommit
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import join, join_external, propose_from_outside, propose_joining
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ReInit,
    Remove,
)
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from tests.mls.company import NOW_S, Company

PSKS = {b"shared key": b"\x17" * 32}
HYBRID = 0xF04E

State = Mapping[str, bytes]
Take = Callable[[bytes], State]


@dataclass(frozen=True)
class Genuine:
    """A message, the act of taking it, and the places in it that this taker does not look at."""

    message: bytes
    take: Take
    unseen: frozenset[int] = frozenset()


class Scene:
    """A group of four (ada, ben, cleo, dan) that lists an external sender, and people at its door."""

    def __init__(self, suite_id: int = 1) -> None:
        self.company = Company(
            *("ada", "ben", "cleo", "dan"),
            random=random.Random(suite_id).randbytes,
            suite_id=suite_id,
            capabilities=Capabilities(cipher_suites=(suite_id,), extensions=(0xF001,), proposals=(0xF002,)),
            extensions=(RequiredCapabilities((0xF001,)).to_extension(),),
        )
        self.suite = self.company.suite
        self.ada, self.ben, self.cleo = (self.company[name] for name in ("ada", "ben", "cleo"))
        self.hub = self.company.person("hub")
        sender = ExternalSender(self.hub.signature_key.public, self.hub.credential)
        context = (*self.ada.group.group_context.extensions, ExternalSenders((sender,)).to_extension())
        self.company.commit(self.ada, GroupContextExtensions((*context, Extension(0xF001, b"of the group"))))
        for person in (self.ben, self.cleo):
            self.company.commit(person)
        self.info = self.ada.group.group_info(with_tree=True)
        self.tree = self.ada.group.ratchet_tree()
        # One proposal waits, so that commits refer to it.
        self.server = self._server(self.company.propose(self.cleo))
        self.newcomers = [self.company.person(name) for name in ("finn", "gwen")]
        self.bundles: list[KeyPackageBundle] = [person.key_package() for person in self.newcomers]

    # --- what ada says --------------------------------------------------------------------------------------------

    @property
    def proposals(self) -> dict[str, Proposal]:
        """One proposal of each type that a member may propose, Update excepted."""
        nonce = bytes(self.suite.hash_length)
        return {
            "add": Add(self.company.person("hal").key_package().key_package),
            "remove": Remove(self.company["dan"].leaf),
            "external psk": PreSharedKeyProposal(PreSharedKeyID.external(b"shared key", nonce)),
            "reinit": ReInit(b"the next group", 1, self.suite.id, (Extension(0xF001, b"next"),)),
            "extensions": GroupContextExtensions(self.ada.group.group_context.extensions),
        }

    def commit(self, wire_format: WireFormat, *, with_tree: bool = False) -> PendingCommit:
        """Return ada's commit that refers to cleo's Update and adds both newcomers and a pre-shared key."""
        psk = PreSharedKeyProposal(PreSharedKeyID.external(b"shared key", bytes(self.suite.hash_length)))
        adds = [Add(bundle.key_package) for bundle in self.bundles]
        return self.ada.commit([*adds, psk], psks=PSKS, wire_format=wire_format, with_tree=with_tree)

    def propose(self, proposal: Proposal, wire_format: WireFormat) -> bytes:
        return self.ada.group.propose(proposal, random=self.company.random, now_s=NOW_S, wire_format=wire_format)[1]

    # --- what others make of it -----------------------------------------------------------------------------------

    def member(self, message: bytes) -> State:
        """Let ben receive something."""
        return self.ben.act(lambda group: group.receive(message, now_s=NOW_S, psks=PSKS))[0].rows()

    def server_that_has(self, group_info: bytes) -> Take:
        """Return how a server takes a commit, or a proposal, that holds no secret of the group's.

        group_info: of the committer, which tells the server of a confirmation tag what it cannot check itself.
        """

        def take(message: bytes) -> State:
            body = MLSMessage.decode(message).body
            if isinstance(body, PublicMessage) and body.content.content_type is ContentType.PROPOSAL:
                return {"server": self.server.receive_proposal(message, now_s=NOW_S)[0].encode()}
            after, _ = self.server.receive_commit(message, now_s=NOW_S)
            after.check_group_info(group_info)
            return {"server": after.encode()}

        return take

    def newcomer(self, welcome: bytes, tree: bytes | None) -> State:
        """Let finn take up a Welcome."""
        private = self.newcomers[0].signature_key.private
        return join(welcome, tree, self.bundles[0], private, now_s=NOW_S, psks=PSKS).rows()

    def outsider(self, info: bytes, tree: bytes | None = None) -> State:
        """Let gwen come in from outside; its state is made of chance, so what it read is told instead."""
        gwen = self.newcomers[1]
        pending = join_external(
            info,
            tree,
            gwen.credential,
            gwen.signature_key.private,
            capabilities=gwen.capabilities,
            random=random.Random(5).randbytes,
            now_s=NOW_S,
        )
        return {"group": pending.group.group_id, "extensions": repr(pending.group.group_context.extensions).encode()}

    def adder(self, message: bytes) -> State:
        """Let someone look at a key package whose owner is to be added."""
        package = MLSMessage.decode(message).body
        if not isinstance(package, KeyPackage):
            raise ValidationError("the message is not a KeyPackage")
        package.validate(self.suite, NOW_S)
        return {"key package": package.encode()}

    # --- all of it ------------------------------------------------------------------------------------------------

    def genuine(self) -> dict[str, Genuine]:
        """Return a message of each kind by name, with its taker."""
        found: dict[str, Genuine] = {}
        for wire_format in (WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE):
            said = wire_format.name.lower().removesuffix("_message")
            pending = self.commit(wire_format)
            found[f"{said} commit"] = Genuine(pending.commit, self.member)
            for name, proposal in self.proposals.items():
                found[f"{said} {name}"] = Genuine(self.propose(proposal, wire_format), self.member)
            update = self.ada.group.update_leaf(random=self.company.random, now_s=NOW_S, wire_format=wire_format)
            found[f"{said} update"] = Genuine(update[1], self.member)
            if wire_format is WireFormat.PUBLIC_MESSAGE:
                take = self.server_that_has(pending.group_info)
                for kind, message in {"commit": pending.commit, "update": update[1]}.items():
                    found[f"{kind} at a server"] = Genuine(message, take, self._membership_tag(message))
        sealed = self.ada.group.seal(
            b"hello", random=self.company.random, authenticated_data=b"beside it", before_commit=True
        )[1]
        found["application message"] = Genuine(sealed, self.member)
        found |= self._invitations()
        found["external commit"] = Genuine(self._external_commit(), self.member)
        found["new member's proposal"] = Genuine(self._asks_to_join(), self.member)
        found["external sender's proposal"] = Genuine(self._hub_proposes(), self.member)
        return found

    def _invitations(self) -> dict[str, Genuine]:
        pending = self.commit(WireFormat.PUBLIC_MESSAGE)
        carrying = self.commit(WireFormat.PUBLIC_MESSAGE, with_tree=True)
        welcome, with_tree, tree = pending.welcome or b"", carrying.welcome or b"", pending.ratchet_tree
        package, bare = MLSMessage(self.bundles[0].key_package).encode(), self.ada.group.group_info()
        return {
            "welcome": Genuine(welcome, lambda one: self.newcomer(one, tree), _entry_of_another(welcome, 1)),
            "welcome with its tree": Genuine(
                with_tree, lambda one: self.newcomer(one, None), _entry_of_another(with_tree, 1)
            ),
            "ratchet tree for a newcomer": Genuine(tree, lambda one: self.newcomer(welcome, one)),
            "group info": Genuine(self.info, self.outsider),
            "ratchet tree for an outsider": Genuine(self.tree, lambda one: self.outsider(bare, one)),
            "key package": Genuine(package, self.adder),
        }

    def _external_commit(self) -> bytes:
        joiner = self.company.person("ida")
        return join_external(
            self.info,
            None,
            joiner.credential,
            joiner.signature_key.private,
            capabilities=joiner.capabilities,
            random=self.company.random,
            now_s=NOW_S,
        ).commit

    def _asks_to_join(self) -> bytes:
        return propose_joining(self.info, self.bundles[0], self.newcomers[0].signature_key.private)

    def _hub_proposes(self) -> bytes:
        removal = Remove(self.company["dan"].leaf)
        key = self.hub.signature_key.private
        return propose_from_outside(self.info, removal, sender_index=0, signature_private_key=key)

    def _server(self, waiting: bytes) -> PublicGroup:
        info = MLSMessage.decode(self.info).body
        assert isinstance(info, GroupInfo)
        server = PublicGroup.open(info, RatchetTree.decode(self.tree), now_s=NOW_S)
        return server.receive_proposal(waiting, now_s=NOW_S)[0]

    def _membership_tag(self, message: bytes) -> frozenset[int]:
        # It stands last, and only members can check it.
        return frozenset(range(len(message) - self.suite.hash_length, len(message)))


def _entry_of_another(message: bytes, position: int) -> frozenset[int]:
    """Return where the entry of another newcomer stands in a Welcome, but for its lengths."""
    welcome = MLSMessage.decode(message).body
    assert isinstance(welcome, Welcome)
    entry = welcome.secrets[position]
    sealed = entry.encrypted_group_secrets
    starts = {part: message.index(part) for part in (entry.new_member, sealed.kem_output, sealed.ciphertext)}
    return frozenset(at for part, start in starts.items() for at in range(start, start + len(part)))


@cache
def scene(suite_id: int = 1) -> Scene:
    """Return the scene of a suite, made once."""
    return Scene(suite_id)
