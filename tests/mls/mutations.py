"""Commits by chance: well-formed, signed by a real member or joiner, and wrong in as many ways as one can draw.

A `Stage` is a group with a history, a server that follows it, and a source of chance. `forge` returns the next message
of someone who holds real keys and keeps few rules: proposals of every kind by value and by reference, leaves, paths and
key packages that are spoilt or only odd. All else in the commit is as an honest client would make it, the confirmation
tag included, so that what the others say of it follows from the rules alone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heliograph.mls import key_schedule, treekem
from heliograph.mls.commit import Commit, UpdatePath, UpdatePathNode
from heliograph.mls.credential import Credential
from heliograph.mls.epoch import Provisional, advance, provisional_context
from heliograph.mls.errors import MLSError
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders, RequiredCapabilities
from heliograph.mls.framing import MLSMessage, Sender
from heliograph.mls.group import Group
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackage, create_key_package
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalOrRef,
    ReInit,
    Remove,
    ResumptionPSKUsage,
    UnknownProposal,
    Update,
)
from heliograph.mls.proposal_rules import SentProposal
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import HPKECiphertext, Secret
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import DAY_S, GROUP_ID, LIFETIME, NOW_S, Company, Person
from tests.mls.forge import Forger, by_value, external_commit, flipped, same

CAPABILITIES = Capabilities(extensions=(0xF001, 0xF002, 0x000A), proposals=(0xF100,), credentials=(1, 0xF00C))
PSKS = {b"shared key": b"\x17" * 32}
STRANGE_CREDENTIAL = Credential(0xF00C, b"of a type that all can read")


@dataclass(frozen=True)
class Forged:
    """A message and whoever made it, who does not receive it."""

    maker: Person
    message: bytes


class Stage:
    """A group after some history, with proposals waiting, and a server that has followed it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        extensions = self.chance.choice(
            [(), (Extension(0xF001, b"x"),), (RequiredCapabilities((0xF002,)).to_extension(),)]
        )
        names = [f"member {number}" for number in range(self.chance.randrange(2, 8))]
        self.company = Company(*names, random=self.chance.randbytes, capabilities=CAPABILITIES, extensions=extensions)
        self.hub = self.company.person("hub")
        for number in range(self.chance.randrange(8)):
            self._live(f"newcomer {number}")
        self._name_hub()
        self.server = self._follow()
        for _ in range(self.chance.randrange(4)):
            self._propose()

    def someone(self) -> Person:
        return self.chance.choice(self.company.everyone)

    def forge(self) -> Forged | None:
        """Return the next message, or None where the draw gave nothing that can be built."""
        try:
            return self._external_commit() if self.chance.random() < 0.25 else self._commit()
        except (MLSError, ValueError):
            return None

    # --- history --------------------------------------------------------------------------------------------------

    def _live(self, newcomer: str) -> None:
        actor, other = self.someone(), self.someone()
        act = self.chance.choice(["add", "remove", "commit", "update", "join"])
        if act == "add":
            self.company.add(actor, self.company.person(newcomer))
        elif act == "join":
            self.company.join_from_outside(self.company.person(newcomer), actor)
        elif act == "remove" and actor is not other and len(self.company.people) > 2:
            self.company.remove(actor, other)
        elif act == "update" and actor is not other:
            self.company.propose(actor)
            self.company.commit(other)
        else:
            self.company.commit(actor)

    def _name_hub(self) -> None:
        founder = self.company.everyone[0]
        senders = ExternalSenders((ExternalSender(self.hub.signature_key.public, self.hub.credential),))
        extensions = (*founder.group.group_context.extensions, senders.to_extension())
        self.company.commit(founder, GroupContextExtensions(extensions))

    def _follow(self) -> PublicGroup:
        group = self.company.everyone[0].group
        info = MLSMessage.decode(group.group_info()).body
        assert isinstance(info, GroupInfo)
        return PublicGroup.open(info, RatchetTree.decode(group.ratchet_tree()), now_s=NOW_S)

    def _propose(self) -> None:
        actor, other = self.someone(), self.someone()
        kind = self.chance.choice(["update", "update", "remove", "add", "hub"])
        if kind == "hub":
            forger = Forger(actor.group, self.chance.randbytes)
            signing_key = self.hub.signature_key.private
            message = forger.public(
                forger.signed(Remove(other.leaf), sender=Sender.external(0), signing_key=signing_key)
            )
            for person in self.company.everyone:
                person.receive(message)
        else:
            added = Add(self.company.person("proposed").key_package().key_package)
            message = self.company.propose(actor, {"remove": Remove(other.leaf), "add": added}.get(kind))
        self.server, _ = self.server.receive_proposal(message, now_s=NOW_S)

    # --- ingredients ----------------------------------------------------------------------------------------------

    def key_package(self) -> KeyPackage:
        who, draw = self.company.person("new"), self.chance.random()
        if draw < 0.15:
            who.signature_key = self.someone().signature_key
        changes: dict[str, Any] = self.chance.choice(
            [
                *({}, {}, {}, {}),
                {"lifetime": Lifetime(NOW_S - DAY_S, NOW_S - 1)},
                {"lifetime": Lifetime(NOW_S + 1, NOW_S + DAY_S)},
                {"lifetime": Lifetime(NOW_S, NOW_S + 80 * DAY_S)},
                {"lifetime": Lifetime(NOW_S, NOW_S + 80 * DAY_S), "extensions": (Extension(0x000A, b""),)},
                {"capabilities": Capabilities()},
                {"capabilities": replace(CAPABILITIES, credentials=(1,))},
                {"credential": STRANGE_CREDENTIAL},
                {"leaf_extensions": (Extension(0xF009, b""),)},
                {"leaf_extensions": (Extension(0xF001, b""),) * 2},
                {"extensions": (Extension(0xF009, b""),)},
            ]
        )
        made: dict[str, Any] = {
            "credential": who.credential,
            "lifetime": LIFETIME,
            "capabilities": CAPABILITIES,
            **changes,
        }
        private, credential = who.signature_key.private, made.pop("credential")
        package = create_key_package(who.suite, credential, private, random=self.chance.randbytes, **made).key_package
        taken = self.someone().group.own_leaf.encryption_key
        spoil: Callable[[KeyPackage], KeyPackage] = self.chance.choice(
            [
                *(same,) * 6,
                lambda one: replace(one, signature=flipped(one.signature)),
                lambda one: replace(one, init_key=one.leaf_node.encryption_key).sign(who.suite, private),
                lambda one: replace(
                    one, leaf_node=replace(one.leaf_node, encryption_key=taken).sign(who.suite, private)
                ).sign(who.suite, private),
            ]
        )
        return spoil(package)

    def extensions(self) -> tuple[Extension, ...]:
        odd = [
            *(Extension(0xF002, b"y"), Extension(0xF001, b"z"), Extension(0xF00F, b""), Extension(0x0A0A, b"")),
            *(Extension(3, b"junk"), Extension(5, b"junk"), Extension(5, b"\0")),
            RequiredCapabilities((0xF001,)).to_extension(),
            RequiredCapabilities((0xF0FF,)).to_extension(),
            RequiredCapabilities((), (0xF100,), (0xF00C,)).to_extension(),
        ]
        present = self.company.everyone[0].group.group_context.extensions if self.chance.random() < 0.7 else ()
        return (*present, *self.chance.sample(odd, self.chance.randrange(3)))

    def proposal(self, forger: Forger) -> Proposal:
        group = forger.group
        leaves = [*(member.leaf_index for member in group.members()), LeafIndex(9), LeafIndex(1 << 31)]
        nonce = bytes(group.suite.hash_length)
        kinds: list[Callable[[], Proposal]] = [
            *(lambda: Add(self.key_package()),) * 9,
            *(lambda: Remove(self.chance.choice(leaves)),) * 6,
            *(lambda: GroupContextExtensions(self.extensions()),) * 4,
            lambda: Update(self._own_update(forger)),
            *(lambda: PreSharedKeyProposal(self.psk(group.epoch, nonce)),) * 2,
            lambda: ReInit(b"another", 1, 1),
            lambda: ExternalInit(bytes([9]) + bytes(31)),
            lambda: UnknownProposal(0xF100, b""),
        ]
        return self.chance.choice(kinds)()

    def psk(self, epoch: int, nonce: bytes) -> PreSharedKeyID:
        """Name a key: one that all have, that nobody has, that is still to come, or of a usage not for here."""
        usage, branch = ResumptionPSKUsage.APPLICATION, ResumptionPSKUsage.BRANCH
        return self.chance.choice(
            [
                *(PreSharedKeyID.external(b"shared key", nonce),) * 4,
                PreSharedKeyID.external(b"shared key", nonce[1:]),
                PreSharedKeyID.external(b"nobody's key", nonce),
                PreSharedKeyID.resumption(usage, GROUP_ID, epoch, nonce),
                PreSharedKeyID.resumption(usage, GROUP_ID, epoch + 1, nonce),
                PreSharedKeyID.resumption(branch, GROUP_ID, epoch, nonce),
            ]
        )

    def _own_update(self, forger: Forger) -> LeafNode:
        group = forger.group
        _, fresh = group.suite.derive_key_pair(self.chance.randbytes(32))
        unsigned = replace(
            group.own_leaf,
            encryption_key=fresh,
            leaf_node_source=LeafNodeSource.UPDATE,
            parent_hash=None,
            lifetime=None,
        )
        return unsigned.sign(group.suite, forger.epoch.signature_private_key, group.group_id, group.own_leaf_index)

    def leaf_change(self) -> Callable[[LeafNode], LeafNode]:
        taken = self.someone().group.own_leaf.encryption_key
        return self.chance.choice(
            [
                *(same,) * 14,
                lambda leaf: replace(leaf, capabilities=Capabilities()),
                lambda leaf: replace(leaf, capabilities=replace(CAPABILITIES, credentials=(1,))),
                lambda leaf: replace(leaf, capabilities=replace(CAPABILITIES, versions=(2,))),
                lambda leaf: replace(leaf, capabilities=replace(CAPABILITIES, extensions=(0xF001, 0xF002, 0x0A0A))),
                lambda leaf: replace(leaf, credential=STRANGE_CREDENTIAL),
                lambda leaf: replace(leaf, credential=Credential(0xF00D, b"")),
                lambda leaf: replace(leaf, credential=Credential.basic(b"somebody else")),
                lambda leaf: replace(leaf, extensions=(Extension(0xF00F, b""),)),
                lambda leaf: replace(leaf, extensions=(Extension(0xF001, b""),) * 2),
                lambda leaf: replace(leaf, extensions=(Extension(1, b"app"),)),
                lambda leaf: replace(leaf, encryption_key=taken),
                lambda leaf: replace(leaf, encryption_key=bytes(32)),
                lambda leaf: replace(leaf, parent_hash=flipped(leaf.parent_hash or b"hash")),
                lambda leaf: replace(leaf, leaf_node_source=LeafNodeSource.UPDATE, parent_hash=None),
                lambda leaf: replace(
                    leaf, leaf_node_source=LeafNodeSource.KEY_PACKAGE, parent_hash=None, lifetime=LIFETIME
                ),
            ]
        )

    def path_change(self, path: UpdatePath) -> UpdatePath:
        if not path.nodes or self.chance.random() < 0.75:
            return path
        at = self.chance.randrange(len(path.nodes))
        node = path.nodes[at]
        sealed = node.encrypted_path_secret
        taken = self.someone().group.own_leaf.encryption_key
        changed: Sequence[UpdatePathNode] = self.chance.choice(
            [
                (),
                (node, node),
                (replace(node, encrypted_path_secret=(*sealed, HPKECiphertext(bytes(32), bytes(48)))),),
                (replace(node, encrypted_path_secret=sealed[:-1]),),
                (replace(node, encrypted_path_secret=(HPKECiphertext(b"", b""),) * len(sealed)),),
                (replace(node, encryption_key=path.nodes[0].encryption_key),),
                (replace(node, encryption_key=taken),),
                (replace(node, encryption_key=bytes(32)),),
                (replace(node, encryption_key=b"short"),),
            ]
        )
        return replace(path, nodes=(*path.nodes[:at], *changed, *path.nodes[at + 1 :]))

    # --- commits --------------------------------------------------------------------------------------------------

    def _commit(self) -> Forged:
        maker = self.someone()
        forger = Forger(maker.group, self.chance.randbytes)
        group, epoch, own = forger.group, forger.epoch, forger.group.own_leaf_index
        by_reference = [one for one in group.pending_proposals if self.chance.random() < 0.6]
        given = [self.proposal(forger) for _ in range(self.chance.choice([0, 1, 1, 2, 3]))]
        entries = [
            *(ProposalOrRef(reference=one.reference) for one in by_reference),
            *(ProposalOrRef(proposal=one) for one in given),
        ]
        self.chance.shuffle(entries)
        proposals = [*(one.sent() for one in by_reference), *(SentProposal(one, Sender.member(own)) for one in given)]
        added = [one.proposal.key_package for one in proposals if isinstance(one.proposal, Add)]
        tree, places = _changed_tree(group.tree, proposals, own)
        contexts = [one.proposal.extensions for one in proposals if isinstance(one.proposal, GroupContextExtensions)]
        extensions = contexts[0] if contexts else group.group_context.extensions
        path, commit_secret = None, key_schedule.zero_secret(group.suite)
        if self.chance.random() < 0.85:
            tree, path, commit_secret = self._path(forger, tree, extensions, places if added else ())
        signed = forger.signed(Commit(tuple(entries), path))
        provisional = Provisional(
            tree=tree,
            extensions=extensions,
            private_keys=epoch.private_keys,
            signature_private_key=epoch.signature_private_key,
            commit_secret=commit_secret,
            psk_secret=_psk_secret(
                group, [one.proposal.psk for one in proposals if isinstance(one.proposal, PreSharedKeyProposal)]
            ),
            init_secret=epoch.secrets.init_secret,
        )
        following, _ = advance(group.suite, group.group_context, epoch.interim_transcript_hash, signed, provisional)
        tagged = replace(signed, auth=replace(signed.auth, confirmation_tag=following.confirmation_tag))
        return Forged(maker, forger.public(tagged))

    def _path(
        self, forger: Forger, tree: RatchetTree, extensions: tuple[Extension, ...], places: Sequence[LeafIndex]
    ) -> tuple[RatchetTree, UpdatePath, Secret]:
        group, suite, own = forger.group, forger.group.suite, forger.group.own_leaf_index
        fresh, other = suite.generate_signature_key(self.chance.randbytes), self.someone().signature_key
        kept = (group.own_leaf.signature_key, forger.epoch.signature_private_key)
        public, private = self.chance.choice(
            [*(kept,) * 8, (fresh.public, fresh.private), (other.public, other.private)]
        )
        _, encryption_key = suite.derive_key_pair(self.chance.randbytes(32))
        steps, commit_secret = treekem.create_path(suite, tree, own, self.chance.randbytes)
        tree, parent_hash = tree.merge_path(suite, own, [step.public_key for step in steps])
        honest = replace(
            group.own_leaf,
            encryption_key=encryption_key,
            signature_key=public,
            leaf_node_source=LeafNodeSource.COMMIT,
            lifetime=None,
            parent_hash=parent_hash,
        )
        leaf = self.leaf_change()(honest).sign(suite, private, group.group_id, own)
        tree = tree.set_leaf(own, leaf)
        context = provisional_context(suite, group.group_context, tree, extensions)
        nodes = treekem.seal_path(suite, tree, own, steps, context.encode(), places)
        return tree, self.path_change(UpdatePath(leaf, nodes)), commit_secret

    def _external_commit(self) -> Forged:
        helper, target, joiner = self.someone(), self.someone(), self.company.person("outsider")
        if self.chance.random() < 0.5:
            joiner.name = target.name
            joiner.signature_key = self.chance.choice([joiner.signature_key, target.signature_key])
        forger = Forger(helper.group, self.chance.randbytes)

        def listed(init: ExternalInit) -> list[ProposalOrRef]:
            proposals: list[Proposal] = [init] if self.chance.random() < 0.95 else []
            if self.chance.random() < 0.5:
                proposals.append(Remove(target.leaf))
            if self.chance.random() < 0.15:
                proposals.append(self.chance.choice([init, self.proposal(forger), Remove(self.someone().leaf)]))
            return by_value(*proposals)

        return Forged(joiner, external_commit(helper.group, joiner, listed, leaf=self.leaf_change()))


def _psk_secret(group: Group, psks: Sequence[PreSharedKeyID]) -> bytes:
    """Mix in the keys that are at hand; who lacks one cannot make a true confirmation tag, and need not."""
    try:
        return key_schedule.psk_secret(group.suite, group.known_psks(PSKS).find(psks))
    except MLSError:
        return key_schedule.zero_secret(group.suite)


def _changed_tree(
    tree: RatchetTree, proposals: Sequence[SentProposal], own: LeafIndex
) -> tuple[RatchetTree, tuple[LeafIndex, ...]]:
    """Make the changes of a list as far as they go, legal or not."""
    updated: dict[LeafIndex, LeafNode] = {}
    removed: list[LeafIndex] = []
    for one in proposals:
        sender, proposal = one.sender.leaf_index, one.proposal
        if isinstance(proposal, Update) and sender is not None and sender != own:
            updated[sender] = proposal.leaf_node
    for one in proposals:
        if isinstance(one.proposal, Remove) and one.proposal.removed not in (own, *updated, *removed):
            removed.append(one.proposal.removed)
    return tree.apply(
        updated=updated,
        removed=[index for index in removed if tree.leaf(index) is not None],
        added=[one.proposal.key_package.leaf_node for one in proposals if isinstance(one.proposal, Add)],
    )
