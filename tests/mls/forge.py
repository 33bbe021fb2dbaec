"""The forger: a member, or an outsider, who holds real keys and breaks the rules with them.

Honest code cannot send what these functions send. Each takes everything from a real state (`Group`), so that all that
the test does not spoil on purpose is true: signatures, tags, parent hashes, path secrets and transcript are those that
a rule-breaking client would really make. A refusal is then due to the one rule that was broken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from heliograph.mls import key_schedule, private_message, treekem
from heliograph.mls.commit import Commit, UpdatePath
from heliograph.mls.committing import Committer, FreshLeaf, build, public_commit
from heliograph.mls.epoch import Epoch, Provisional, advance, provisional_context
from heliograph.mls.errors import MLSError
from heliograph.mls.extension import ExternalPub
from heliograph.mls.framing import (
    AuthenticatedContent,
    Content,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    Sender,
    SenderData,
    SenderType,
    WireFormat,
)
from heliograph.mls.group import Group
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.leaf_node import LeafNode, LeafNodeSource
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalOrRef,
    Remove,
    Update,
)
from heliograph.mls.proposal_rules import Applied, SentProposal
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random, Secret
from heliograph.mls.tree_math import LeafIndex, leaf_to_node
from heliograph.mls.treekem import PrivateKeys
from heliograph.mls.welcome import seal_welcome
from tests.mls.company import Company, Person

Value = TypeVar("Value")


def same(value: Value) -> Value:
    """Leave a value as it is."""
    return value


def flipped(data: bytes, position: int = -1) -> bytes:
    """Spoil one bit."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def epoch_of(group: Group) -> Epoch:
    """Return the secrets that a group value holds."""
    return group._slow.epoch


@dataclass(frozen=True)
class Forger:
    """A member gone bad."""

    group: Group
    random: Random

    @property
    def epoch(self) -> Epoch:
        return epoch_of(self.group)

    # --- messages -------------------------------------------------------------------------------------------------

    def signed(
        self,
        content: Content,
        wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
        *,
        sender: Sender | None = None,
        signing_key: bytes | None = None,
        change: Callable[[FramedContent], FramedContent] = same,
    ) -> AuthenticatedContent:
        """Sign content as anyone, with any key."""
        framed = FramedContent(
            group_id=self.group.group_id,
            epoch=self.group.epoch,
            sender=sender or Sender.member(self.group.own_leaf_index),
            authenticated_data=b"",
            content=content,
        )
        key = self.epoch.signature_private_key if signing_key is None else signing_key
        return change(framed).sign(self.group.suite, key, wire_format, self.group.group_context)

    def public(self, signed: AuthenticatedContent, *, membership_key: bytes | None = None) -> bytes:
        """Frame signed content as a PublicMessage."""
        key = self.epoch.secrets.membership_key if membership_key is None else membership_key
        return MLSMessage(signed.to_public_message(self.group.suite, key, self.group.group_context)).encode()

    def private(
        self,
        signed: AuthenticatedContent,
        *,
        signature: bytes | None = None,
        sender_data: Callable[[SenderData], SenderData] = same,
    ) -> bytes:
        """Seal signed content as a PrivateMessage, with another signature or other sender data."""
        if signature is not None:
            signed = replace(signed, auth=replace(signed.auth, signature=signature))
        suite, secret = self.group.suite, self.epoch.secrets.sender_data_secret
        tree = self.group._secret_trees[self.group.epoch]
        _, message = private_message.seal(suite, tree, secret, signed, random=self.random)
        honest = private_message.open_sender_data(suite, secret, message)
        return MLSMessage(self._with_sender_data(message, sender_data(honest))).encode()

    def _with_sender_data(self, message: PrivateMessage, sender_data: SenderData) -> PrivateMessage:
        suite, secret = self.group.suite, self.epoch.secrets.sender_data_secret
        key, nonce = private_message.sender_data_key_and_nonce(suite, secret, message.ciphertext)
        sealed = suite.seal(key, nonce, message.sender_data_aad(), sender_data.encode())
        return replace(message, encrypted_sender_data=sealed)

    # --- commits --------------------------------------------------------------------------------------------------

    def sent(self, proposals: Sequence[Proposal], references: Sequence[bytes]) -> list[SentProposal]:
        """Return those of a commit's proposals that are known here, with their senders: references come first."""
        own = Sender.member(self.group.own_leaf_index)
        pending = {received.reference: received.sent() for received in self.group.pending_proposals}
        referred = [pending[reference] for reference in references if reference in pending]
        return [*referred, *(SentProposal(proposal, own) for proposal in proposals)]

    def applied(self, listed: Sequence[SentProposal]) -> Applied:
        """Make the changes of a list, legal or not; where that is impossible the tree stays as it is."""
        proposals = [sent.proposal for sent in listed]
        adds = [proposal.key_package for proposal in proposals if isinstance(proposal, Add)]
        removed = dict.fromkeys(proposal.removed for proposal in proposals if isinstance(proposal, Remove))
        contexts = [proposal.extensions for proposal in proposals if isinstance(proposal, GroupContextExtensions)]
        tree, places = self.group.tree, ()
        try:
            tree, places = tree.apply(
                updated={
                    sent.sender.leaf_index: sent.proposal.leaf_node
                    for sent in listed
                    if isinstance(sent.proposal, Update) and sent.sender.leaf_index is not None
                },
                removed=list(removed),
                added=[package.leaf_node for package in adds],
            )
        except MLSError:
            adds = []
        return Applied(
            tree,
            contexts[-1] if contexts else self.group.group_context.extensions,
            newcomers=tuple(zip(places, adds, strict=True)) if adds else (),
            psks=tuple(proposal.psk for proposal in proposals if isinstance(proposal, PreSharedKeyProposal)),
        )

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        references: Sequence[bytes] = (),
        with_path: bool = True,
        leaf: Callable[[LeafNode], LeafNode] = same,
        leaf_after_signing: Callable[[LeafNode], LeafNode] = same,
        path: Callable[[UpdatePath], UpdatePath] = same,
        tag: Callable[[bytes], bytes] = same,
        first_path_secret: Callable[[bytes], bytes] = same,
        path_keys: Callable[[Sequence[bytes]], Sequence[bytes]] = same,
        path_context: Callable[[GroupContext], GroupContext] = same,
        new_signing_key: bytes | None = None,
        psks: Sequence[bytes] = (),
        membership_key: bytes | None = None,
        wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
        sender_data: Callable[[SenderData], SenderData] = same,
    ) -> bytes:
        """Commit any list; spoil the leaf, the path, the sealed path secrets or the confirmation tag.

        path_keys: other public keys for the nodes of the path, for which the leaf's parent hash then stands;
        path_context: under which the path secrets are sealed; new_signing_key: of the leaf in the path; psks: the keys
        behind the PreSharedKey proposals, in their order; sender_data: of a commit in a PrivateMessage.
        """
        epoch, suite, own = self.epoch, self.group.suite, self.group.own_leaf_index
        applied = self.applied(self.sent(proposals, references))
        tree, private_keys = applied.tree, epoch.private_keys
        commit_secret: bytes = key_schedule.zero_secret(suite)
        update_path: UpdatePath | None = None
        signing_key = epoch.signature_private_key if new_signing_key is None else Secret(new_signing_key)
        if with_path:
            leaf_private, leaf_public = suite.derive_key_pair(self.random(suite.hash_length))
            steps, commit_secret = treekem.create_path(suite, tree, own, self.random)
            public_keys = path_keys([step.public_key for step in steps])
            steps = tuple(replace(step, public_key=key) for step, key in zip(steps, public_keys, strict=True))
            tree, parent_hash = tree.merge_path(suite, own, public_keys)
            unsigned = replace(
                self.group.own_leaf,
                encryption_key=leaf_public,
                signature_key=suite.signature_public_key(signing_key),
                leaf_node_source=LeafNodeSource.COMMIT,
                lifetime=None,
                parent_hash=parent_hash,
            )
            signed_leaf = leaf(unsigned).sign(suite, signing_key, self.group.group_id, own)
            signed_leaf = leaf_after_signing(signed_leaf)
            tree = tree.set_leaf(own, signed_leaf)
            context = provisional_context(suite, self.group.group_context, tree, applied.extensions)
            added = [index for index, _ in applied.newcomers]
            sealed = [replace(step, path_secret=Secret(first_path_secret(step.path_secret))) for step in steps]
            nodes = treekem.seal_path(suite, tree, own, sealed, path_context(context).encode(), added)
            update_path = path(UpdatePath(signed_leaf, nodes))
            private_keys = PrivateKeys(own, {leaf_to_node(own): leaf_private}).with_path(steps)
        listed = [
            *(ProposalOrRef(reference=reference) for reference in references),
            *(ProposalOrRef(proposal=proposal) for proposal in proposals),
        ]
        signed = self.signed(Commit(tuple(listed), update_path), wire_format)
        provisional = Provisional(
            tree=tree,
            extensions=applied.extensions,
            private_keys=private_keys,
            signature_private_key=signing_key,
            commit_secret=commit_secret,
            psk_secret=key_schedule.psk_secret(suite, list(zip(applied.psks, psks, strict=False))),
            init_secret=epoch.secrets.init_secret,
        )
        context = self.group.group_context
        following, _ = advance(suite, context, epoch.interim_transcript_hash, signed, provisional)
        confirmation_tag = tag(following.confirmation_tag)
        tagged = replace(signed, auth=replace(signed.auth, confirmation_tag=confirmation_tag))
        if wire_format is WireFormat.PRIVATE_MESSAGE:
            return self.private(tagged, sender_data=sender_data)
        return self.public(tagged, membership_key=membership_key)

    # --- invitations ----------------------------------------------------------------------------------------------

    def group_info(
        self,
        *,
        change: Callable[[GroupInfo], GroupInfo] = same,
        change_after_signing: Callable[[GroupInfo], GroupInfo] = same,
    ) -> GroupInfo:
        """Sign any GroupInfo."""
        info = change(self.epoch.group_info()).sign(self.group.suite, self.epoch.signature_private_key)
        return change_after_signing(info)

    def welcome(
        self,
        adder: Person,
        newcomer: Person,
        *,
        bundle: KeyPackageBundle | None = None,
        tree_before_path: Callable[[RatchetTree], RatchetTree] = same,
        tree: Callable[[RatchetTree], RatchetTree] = same,
        context: Callable[[GroupContext], GroupContext] = same,
        info: Callable[[GroupInfo], GroupInfo] = same,
        info_after_signing: Callable[[GroupInfo], GroupInfo] = same,
        path_secret: Callable[[bytes], bytes] = same,
        with_path_secret: bool = True,
        psks: Sequence[tuple[PreSharedKeyID, bytes]] = (),
        named: Callable[[Sequence[PreSharedKeyID]], Sequence[PreSharedKeyID]] = same,
        welcome: Callable[[Welcome], Welcome] = same,
    ) -> "Invitation":
        """Add a newcomer honestly, then spoil the Welcome.

        tree_before_path: upon which the committer puts its path, so that its parent hashes stand for it;
        tree, context: what the newcomer is told of the epoch; secrets, confirmation tag and tree hash follow from that;
        psks: mixed into those secrets; named: which of them the Welcome names.
        """
        bundle = newcomer.key_package() if bundle is None else bundle
        suite, epoch = adder.suite, epoch_of(adder.group)
        grown, place = adder.group.tree.add_leaf(bundle.key_package.leaf_node)
        newcomers = ((place, bundle.key_package),)
        applied = Applied(tree_before_path(grown), adder.group.group_context.extensions, newcomers=newcomers)
        drawn: list[bytes] = []

        def draw(size: int) -> bytes:
            drawn.append(self.random(size))
            return drawn[-1]

        built = build(
            Committer.member(epoch),
            [ProposalOrRef(proposal=Add(bundle.key_package))],
            applied,
            fresh_leaf=FreshLeaf.of(epoch, None),
            psks=(),
            authenticated_data=b"",
            random=draw,
        ).epoch
        nodes = [node for node, _ in built.tree.filtered_direct_path(epoch.own_leaf_index)]
        # A commit draws the new leaf's key first and the path secret second.
        steps, commit_secret = treekem.derive_path(suite, nodes, drawn[1])
        told = tree(built.tree)
        described = context(replace(built.group_context, tree_hash=told.tree_hash(suite)))
        schedule = key_schedule.next_epoch(
            suite,
            init_secret=epoch.secrets.init_secret,
            commit_secret=commit_secret,
            psk_secret=key_schedule.psk_secret(suite, psks),
            group_context=described,
        )
        confirmed = described.confirmed_transcript_hash
        unsigned = replace(
            built.group_info(),
            group_context=described,
            confirmation_tag=key_schedule.confirmation_tag(suite, schedule.epoch.confirmation_key, confirmed),
        )
        sealed = seal_welcome(
            suite,
            group_info=info_after_signing(info(unsigned).sign(suite, built.signature_private_key)),
            schedule=schedule,
            sender=epoch.own_leaf_index,
            steps=[
                replace(step, path_secret=Secret(path_secret(step.path_secret))) for step in steps if with_path_secret
            ],
            newcomers=newcomers,
            psks=named([identifier for identifier, _ in psks]),
        )
        return Invitation(MLSMessage(welcome(sealed)).encode(), told, bundle)


@dataclass(frozen=True)
class Invitation:
    """What a newcomer is sent, and its own key package."""

    welcome: bytes
    tree: RatchetTree
    bundle: KeyPackageBundle


def external_commit(
    group: Group,
    joiner: Person,
    proposals: Callable[[ExternalInit], Sequence[ProposalOrRef]],
    *,
    with_path: bool = True,
    leaf: Callable[[LeafNode], LeafNode] = same,
    place: LeafIndex | None = None,
    signing_key: bytes | None = None,
    psks: Sequence[bytes] = (),
) -> bytes:
    """Commit any list from outside a group, with a right ExternalInit at hand.

    place: the leaf to take, by default the leftmost blank one; signing_key: of the message, not of the leaf; psks: the
    keys behind the PreSharedKey proposals, in their order.
    """
    suite, context, epoch = group.suite, group.group_context, epoch_of(group)
    kem_output, init_secret = key_schedule.start_external_init(suite, group.external_pub, joiner.random)
    listed = proposals(ExternalInit(kem_output))
    named = [entry.proposal.psk for entry in listed if isinstance(entry.proposal, PreSharedKeyProposal)]
    removed = [entry.proposal.removed for entry in listed if isinstance(entry.proposal, Remove)]
    tree, _ = group.tree.apply(updated={}, removed=removed, added=())
    tree, leftmost = tree.reserve_leaf()
    own = leftmost if place is None else place
    unsigned = LeafNode(
        encryption_key=b"",
        signature_key=joiner.signature_key.public,
        credential=joiner.credential,
        capabilities=joiner.capabilities,
        leaf_node_source=LeafNodeSource.COMMIT,
    )
    committer = Committer(
        suite=suite,
        group_context=context,
        interim_transcript_hash=epoch.interim_transcript_hash,
        init_secret=init_secret,
        membership_key=None,
        sender=Sender(SenderType.NEW_MEMBER_COMMIT),
        private_keys=PrivateKeys(own, {}),
        signature_private_key=joiner.signature_key.private if signing_key is None else Secret(signing_key),
    )
    if not with_path:
        # Without a path the joiner has no leaf to be signed by, so it stands on a leaf of its own making.
        tree = tree.set_leaf(own, replace(leaf(unsigned), parent_hash=b""))
    built = build(
        committer,
        listed,
        Applied(tree, context.extensions),
        fresh_leaf=FreshLeaf(leaf(unsigned), joiner.signature_key.private) if with_path else None,
        psks=list(zip(named, psks, strict=False)),
        authenticated_data=b"",
        random=joiner.random,
    )
    return public_commit(committer, built)


def without_length(info: GroupInfo) -> GroupInfo:
    """Put the bare key into `external_pub`, as a library did that forgot its length."""
    bare = [
        replace(extension, extension_data=ExternalPub.decode(extension.extension_data).external_pub)
        for extension in info.extensions
    ]
    return replace(info, extensions=tuple(bare))


def by_value(*proposals: Proposal) -> list[ProposalOrRef]:
    """Name proposals by value."""
    return [ProposalOrRef(proposal=proposal) for proposal in proposals]


# --- ingredients ------------------------------------------------------------------------------------------------------

NONCE = bytes(range(32))
KEYS = {b"the key": b"shared before", b"another": b"shared too"}


def psk(psk_id: bytes = b"the key", nonce: bytes = NONCE) -> PreSharedKeyProposal:
    """Name one of `KEYS`, for suites whose hash has 32 bytes."""
    return PreSharedKeyProposal(PreSharedKeyID.external(psk_id, nonce))


def add(company: Company, name: str) -> Add:
    """Return an Add of someone new."""
    return Add(company.person(name).key_package().key_package)


def fresh_update(person: Person) -> Update:
    """Return an Update of a member's leaf, rightly signed."""
    suite, leaf = person.suite, person.group.own_leaf
    unsigned = replace(
        leaf,
        encryption_key=suite.derive_key_pair(person.random(suite.hash_length))[1],
        leaf_node_source=LeafNodeSource.UPDATE,
        lifetime=None,
        parent_hash=None,
    )
    return Update(unsigned.sign(suite, person.signature_key.private, person.group.group_id, person.leaf))
