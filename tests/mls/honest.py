"""Honest members at the level of structures, for tests of what can be checked without secrets.

They sign with real keys and place real public keys in real trees; only what no outsider can check is made up: the
confirmation and membership tags, and the ciphertexts of path secrets. Each function takes changes, so that a test can
spoil exactly one thing and leave the rest true.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from heliograph.mls.commit import Commit, UpdatePath, UpdatePathNode
from heliograph.mls.extension import Extension
from heliograph.mls.framing import (
    AuthenticatedContent,
    Content,
    FramedContent,
    MLSMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Credential, LeafNode, LeafNodeSource, Lifetime
from heliograph.mls.proposal import Add, ExternalInit, Proposal, ProposalOrRef, Remove
from heliograph.mls.proposal_rules import SentProposal, apply
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import (
    AEAD_TAG_LENGTH,
    CipherSuite,
    HPKECiphertext,
    Random,
    SignatureKeyPair,
    cipher_suite,
)
from heliograph.mls.tree_math import LeafIndex
from tests import vectors

NOW_S = 1_790_000_000
DAY_S = 86_400
GROUP_ID = b"a group"
LIFETIME = Lifetime(NOW_S - 3600, NOW_S + 30 * DAY_S)
CAPABILITIES = Capabilities(cipher_suites=vectors.EVERY_SUITE)
KEM_OUTPUT = bytes([9]) + bytes(31)
SUITE = cipher_suite(1)

Change = Callable[[LeafNode], LeafNode]


def same(leaf_node: LeafNode) -> LeafNode:
    return leaf_node


@dataclass(frozen=True)
class Client:
    """Someone with a name and a signature key."""

    suite: CipherSuite
    credential: Credential
    keys: SignatureKeyPair
    random: Random

    @classmethod
    def named(cls, name: str, random: Random, suite_id: int = 1) -> "Client":
        suite = cipher_suite(suite_id)
        return cls(suite, Credential.basic(name.encode()), suite.generate_signature_key(random), random)

    def bundle(
        self,
        *,
        lifetime: Lifetime = LIFETIME,
        capabilities: Capabilities = CAPABILITIES,
        extensions: Sequence[Extension] = (),
        leaf_extensions: Sequence[Extension] = (),
    ) -> KeyPackageBundle:
        return create_key_package(
            self.suite,
            self.credential,
            self.keys.private,
            lifetime=lifetime,
            capabilities=capabilities,
            extensions=extensions,
            leaf_extensions=leaf_extensions,
            random=self.random,
        )

    def fresh_key(self) -> bytes:
        return self.suite.derive_key_pair(self.random(self.suite.hash_length))[1]

    def fresh_kem_output(self) -> bytes:
        return self.suite.hpke.kem.encapsulate(self.fresh_key(), self.random)[1]

    def update(self, leaf_index: int, change: Change = same, *, group_id: bytes = GROUP_ID) -> LeafNode:
        """Return a leaf for an Update proposal, signed after the change."""
        leaf_node = LeafNode(
            encryption_key=self.fresh_key(),
            signature_key=self.keys.public,
            credential=self.credential,
            capabilities=CAPABILITIES,
            leaf_node_source=LeafNodeSource.UPDATE,
        )
        return change(leaf_node).sign(self.suite, self.keys.private, group_id, LeafIndex(leaf_index))


def clients(count: int, random: Random, suite_id: int = 1) -> list[Client]:
    return [Client.named(f"client {i}", random, suite_id) for i in range(count)]


def tree_of(members: Sequence[Client]) -> RatchetTree:
    """Return a tree of these members' key packages, without parent nodes."""
    tree = RatchetTree.of_leaf(members[0].bundle().key_package.leaf_node)
    for member in members[1:]:
        tree, _ = tree.add_leaf(member.bundle().key_package.leaf_node)
    return tree


def context_of(
    suite: CipherSuite, tree: RatchetTree, extensions: Sequence[Extension] = (), epoch: int = 1
) -> GroupContext:
    return GroupContext(
        1, suite.id, GROUP_ID, epoch, tree.tree_hash(suite), b"\5" * suite.hash_length, tuple(extensions)
    )


def group_info(
    client: Client,
    signer: int,
    context: GroupContext,
    *,
    confirmation_tag: bytes | None = None,
    extensions: Sequence[Extension] = (),
) -> GroupInfo:
    tag = b"\6" * client.suite.hash_length if confirmation_tag is None else confirmation_tag
    unsigned = GroupInfo(context, tuple(extensions), tag, LeafIndex(signer))
    return unsigned.sign(client.suite, client.keys.private)


def group_of(members: Sequence[Client], extensions: Sequence[Extension] = ()) -> PublicGroup:
    """Return the public group of these members at epoch 1."""
    tree = tree_of(members)
    context = context_of(members[0].suite, tree, extensions)
    return PublicGroup.open(group_info(members[0], 0, context), tree, now_s=NOW_S)


def update_path(
    client: Client,
    sender: int,
    tree: RatchetTree,
    added: Sequence[int] = (),
    change: Change = same,
) -> UpdatePath:
    """Return a path with true keys and made-up ciphertexts; the leaf is signed after the change."""
    suite, index = client.suite, LeafIndex(sender)
    steps = tree.filtered_direct_path(index)
    keys = [client.fresh_key() for _ in steps]
    _, parent_hash = tree.merge_path(suite, index, keys)
    leaf_node = LeafNode(
        encryption_key=client.fresh_key(),
        signature_key=client.keys.public,
        credential=client.credential,
        capabilities=CAPABILITIES,
        leaf_node_source=LeafNodeSource.COMMIT,
        parent_hash=parent_hash,
    )
    signed = change(leaf_node).sign(suite, client.keys.private, GROUP_ID, index)
    new = {2 * leaf for leaf in added}
    sealed = HPKECiphertext(client.fresh_kem_output(), bytes(suite.hash_length + AEAD_TAG_LENGTH))
    nodes = tuple(
        UpdatePathNode(key, (sealed,) * len(set(tree.resolution(child)) - new))
        for key, (_, child) in zip(keys, steps, strict=True)
    )
    return UpdatePath(signed, nodes)


def framed(
    client: Client,
    sender: Sender,
    group: PublicGroup,
    content: Content,
    *,
    group_id: bytes = GROUP_ID,
    epoch: int | None = None,
) -> AuthenticatedContent:
    """Return content signed by a client, with a made-up confirmation tag if it is a commit."""
    framed_content = FramedContent(group_id, group.epoch if epoch is None else epoch, sender, b"authenticated", content)
    is_outside = sender.sender_type in (SenderType.EXTERNAL, SenderType.NEW_MEMBER_PROPOSAL)
    tag = b"\7" * client.suite.hash_length if isinstance(content, Commit) else None
    context = None if is_outside else group.group_context
    return framed_content.sign(client.suite, client.keys.private, WireFormat.PUBLIC_MESSAGE, context, tag)


def travelling(content: AuthenticatedContent, suite: CipherSuite = SUITE) -> bytes:
    """Return the MLSMessage of public content, with a made-up membership tag if a member sends it."""
    is_member = content.content.sender.sender_type is SenderType.MEMBER
    tag = b"\x08" * suite.hash_length if is_member else None
    return MLSMessage(PublicMessage(content.content, content.auth, tag)).encode()


def proposal_message(client: Client, sender: Sender, group: PublicGroup, proposal: Proposal) -> bytes:
    return travelling(framed(client, sender, group, proposal), client.suite)


def commit_message(
    client: Client,
    sender: int,
    group: PublicGroup,
    proposals: Sequence[Proposal] = (),
    references: Sequence[bytes] = (),
    *,
    with_path: bool = True,
    change_leaf: Change = same,
    change_path: Callable[[UpdatePath], UpdatePath] = lambda path: path,
) -> bytes:
    """Return a member's commit of proposals by value, then by reference."""
    member = Sender.member(LeafIndex(sender))
    path = None
    if with_path:
        sent = [SentProposal(proposal, member) for proposal in proposals]
        sent += [group.proposals[reference].sent() for reference in references]
        applied = apply(group.suite, group.group_context, group.tree, sent, committer=LeafIndex(sender), now_s=NOW_S)
        added = [new.leaf_index for new in applied.added]
        path = change_path(update_path(client, sender, applied.tree, added, change_leaf))
    return travelling(framed(client, member, group, commit_of(proposals, references, path)), client.suite)


def commit_of(
    proposals: Sequence[Proposal] = (), references: Sequence[bytes] = (), path: UpdatePath | None = None
) -> Commit:
    by_value = [ProposalOrRef(proposal=proposal) for proposal in proposals]
    return Commit((*by_value, *(ProposalOrRef(reference=reference) for reference in references)), path)


def external_commit_message(
    client: Client,
    group: PublicGroup,
    proposals: Sequence[Proposal] | None = None,
    references: Sequence[bytes] = (),
    *,
    with_path: bool = True,
    change_leaf: Change = same,
) -> bytes:
    """Return a joiner's external commit, by default with an ExternalInit alone."""
    listed = [ExternalInit(client.fresh_kem_output())] if proposals is None else list(proposals)
    removed = [proposal.removed for proposal in listed if isinstance(proposal, Remove)]
    tree, _ = group.tree.apply(updated={}, removed=set(removed), added=())
    tree, place = tree.reserve_leaf()
    path = update_path(client, place, tree, change=change_leaf) if with_path else None
    sender = Sender(SenderType.NEW_MEMBER_COMMIT)
    return travelling(framed(client, sender, group, commit_of(listed, references, path)))


def resigned(client: Client, leaf_node: LeafNode, leaf_index: int, **changes: object) -> LeafNode:
    """Return a leaf with some fields changed and signed again."""
    changed = replace(leaf_node, **changes)
    return changed.sign(client.suite, client.keys.private, GROUP_ID, LeafIndex(leaf_index))


def add_of(client: Client) -> Add:
    return Add(client.bundle().key_package)
