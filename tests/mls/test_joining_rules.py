"""RFC 9420 §12.4.3, rule by rule: Welcomes into a tree or an epoch that breaks one, made with real keys.

The committer tells the newcomer of another tree or context than it built, with secrets, tags and signatures that fit:
only the rule under test stands between the newcomer and a group that does not exist.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from heliograph.mls.codec import Reader, Writer
from heliograph.mls.errors import DecodeError, MLSError, StateError, ValidationError, VerificationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import Group
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import join, join_external
from heliograph.mls.proposal import PreSharedKeyID
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.forge import KEYS, NONCE, Forger, Invitation, flipped, psk

GREASE = (0x0A0A, 0x7A7A, 0xEAEA)


def accept(invitation: Invitation, newcomer: Person, **options: object) -> Group:
    tree, key = invitation.tree.encode(), newcomer.signature_key.private
    return join(invitation.welcome, tree, invitation.bundle, key, now_s=NOW_S, **options)  # pyright: ignore[reportArgumentType]


def refuse(
    spoiled: Invitation,
    fault: str,
    error: type[MLSError] = ValidationError,
    *,
    newcomer: Person,
    honest: Invitation,
    **options: object,
) -> None:
    """Hold that a Welcome is refused, and its honest twin is not."""
    with pytest.raises(error, match=fault):
        accept(spoiled, newcomer, **options)
    assert accept(honest, newcomer, **options).epoch > 0


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def grown(company: Company, ada: Person) -> Company:
    """The company with eve at leaf 4 and hal at 6, and the node above them by hal; finn will come to leaf 5 there."""
    company.add(ada, *map(company.person, ("eve", "gil", "hal")))
    company.remove(ada, company["gil"])
    company.commit(company["hal"])
    return company


ABOVE_EVE_AND_HAL = NodeIndex(11)
BEFORE, AFTER = "before the path", "after the path"


def with_parent(**changes: object) -> Callable[[RatchetTree], RatchetTree]:
    """Change the node above eve, hal and the newcomer, before the committer's path stands for it."""

    def change(tree: RatchetTree) -> RatchetTree:
        nodes, found = tree.nodes(), tree.parent(ABOVE_EVE_AND_HAL)
        assert found is not None
        nodes[ABOVE_EVE_AND_HAL] = replace(found, **changes)  # pyright: ignore[reportArgumentType]
        return RatchetTree(nodes)

    return change


@pytest.mark.parametrize(
    ("unmerged", "when", "fault"),
    [
        pytest.param(
            (1, 5), BEFORE, "not a descendant", marks=pytest.mark.rule("hostile input", "unmerged-not-descendant")
        ),
        # No committer can seal to these, so the tree is changed when its path is made, and a parent hash is wrong too.
        pytest.param((5, 2**32 - 1), AFTER, "not a descendant"),
        pytest.param((5, 7), AFTER, "is blank"),
        pytest.param(
            (5, 5), BEFORE, "increasing order", marks=pytest.mark.rule("RFC 9420 §7.1", "unmerged-leaves-sorted")
        ),
    ],
)
@pytest.mark.rule("RFC 9420 §12.4.3.1", "unmerged-leaves")
def test_a_newcomer_refuses_unmerged_leaves_that_cannot_be(
    unmerged: tuple[int, ...], when: str, fault: str, grown: Company, joiner: Person
):
    ada = grown["ada"]
    forger = Forger(ada.group, grown.random)
    honest = forger.welcome(ada, joiner)
    above = honest.tree.parent(ABOVE_EVE_AND_HAL)
    assert above is not None
    assert above.unmerged_leaves == (5,)
    leaves = tuple(map(LeafIndex, unmerged))
    change = with_parent(unmerged_leaves=leaves)
    if when == BEFORE:
        spoiled = forger.welcome(ada, joiner, tree_before_path=change)
    else:
        spoiled = forger.welcome(ada, joiner, tree=change)
    refuse(spoiled, fault, newcomer=joiner, honest=honest)


@pytest.mark.parametrize("changes", [{"encryption_key": bytes([9]) + bytes(31)}, {"parent_hash": bytes(32)}])
@pytest.mark.rule("RFC 9420 §12.4.3.1", "parent-hash-valid")
@pytest.mark.rule("RFC 9420 §7.9.2", "every-parent-node")
@pytest.mark.rule("hostile input", "parent-hash-mismatch")
def test_a_newcomer_refuses_a_parent_node_that_nobody_signed_for(
    changes: dict[str, bytes], grown: Company, joiner: Person
):
    ada = grown["ada"]
    forger = Forger(ada.group, grown.random)
    spoiled = forger.welcome(ada, joiner, tree_before_path=with_parent(**changes))
    refuse(spoiled, "parent-hash valid", newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "parent-keys-unique")
@pytest.mark.rule("hostile input", "duplicate-encryption-key")
def test_a_newcomer_refuses_a_parent_node_with_the_key_of_another_node(grown: Company, joiner: Person):
    ada = grown["ada"]
    forger = Forger(ada.group, grown.random)
    for taken in (grown["eve"].group.own_leaf.encryption_key, ada.group.tree.public_key(NodeIndex(5))):
        spoiled = forger.welcome(ada, joiner, tree_before_path=with_parent(encryption_key=taken))
        refuse(spoiled, "same encryption_key", newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "tree-hash")
@pytest.mark.rule("RFC 9420 §12.4.3.3", "tree-hash")
def test_a_newcomer_refuses_a_group_context_with_another_tree_hash(forger: Forger, ada: Person, joiner: Person):
    def elsewhere(context: GroupContext) -> GroupContext:
        return replace(context, tree_hash=flipped(context.tree_hash))

    spoiled = forger.welcome(ada, joiner, context=elsewhere)
    refuse(spoiled, "tree hash", VerificationError, newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.rule("RFC 9420 §12.4.3.3", "last-node-in-use")
def test_a_newcomer_refuses_a_tree_that_ends_with_a_blank_node(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner)
    written, padded = invitation.tree.encode(), Writer()
    padded.opaque(Reader(written).opaque() + b"\0")
    spoiled = padded.getvalue()
    key = joiner.signature_key.private
    with pytest.raises(DecodeError, match="does not end with a node in use"):
        join(invitation.welcome, spoiled, invitation.bundle, key, now_s=NOW_S)
    assert join(invitation.welcome, written, invitation.bundle, key, now_s=NOW_S).epoch > 0


@pytest.mark.rule("RFC 9420 §12.4.3.1", "path-secret-fits")
def test_a_newcomer_refuses_a_path_secret_for_a_node_that_is_blank(forger: Forger, ada: Person, joiner: Person):
    def without_root(tree: RatchetTree) -> RatchetTree:
        nodes = tree.nodes()
        nodes[len(nodes) // 2] = None
        return RatchetTree(nodes)

    spoiled = forger.welcome(ada, joiner, tree=without_root)
    honest = forger.welcome(ada, joiner)
    refuse(spoiled, "path secret does not give", VerificationError, newcomer=joiner, honest=honest)
    blank = forger.welcome(ada, joiner, tree=without_root, with_path_secret=False)
    assert accept(blank, joiner).epoch == ada.group.epoch + 1


# --- the epoch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"extensions": (Extension(0xF001, b""),)}, {"extensions": (Extension(3, b"\x02\xf0\x01\0\0"),)}],
    ids=["an extension", "a requirement"],
)
@pytest.mark.rule("RFC 9420 §12.4.3", "context-extensions-supported")
@pytest.mark.rule("RFC 9420 §13.4", "joiner-supports-context")
def test_a_newcomer_refuses_a_group_whose_context_it_does_not_support(
    changes: dict[str, tuple[Extension, ...]], seeded_random: Random
):
    company = Company("ada", "ben", random=seeded_random, capabilities=Capabilities(extensions=(0xF001,)))
    ada, able, unable = company["ada"], company.person("able"), company.person("unable")
    unable.capabilities = Capabilities()
    forger = Forger(ada.group, company.random)

    def asking(context: GroupContext) -> GroupContext:
        return replace(context, extensions=changes["extensions"])

    with pytest.raises(ValidationError, match="support"):
        accept(forger.welcome(ada, unable, context=asking), unable)
    accept(forger.welcome(ada, able, context=asking), able)
    accept(forger.welcome(ada, unable), unable)


@pytest.mark.parametrize("extension_type", [*GREASE, 0xF0F0])
@pytest.mark.rule("RFC 9420 §12.4.3", "unknown-extensions-ignored")
@pytest.mark.rule("RFC 9420 §13.4", "unknown-ignored")
@pytest.mark.rule("RFC 9420 §13.5", "ignored")
def test_unknown_extensions_of_a_group_info_are_passed_over(
    extension_type: int, forger: Forger, ada: Person, joiner: Person
):
    def greased(info: GroupInfo) -> GroupInfo:
        return replace(info, extensions=(Extension(extension_type, b"anything"), *info.extensions))

    assert accept(forger.welcome(ada, joiner, info=greased), joiner).epoch == ada.group.epoch + 1
    offered = MLSMessage(forger.group_info(change=greased)).encode()
    pending = join_external(
        offered,
        ada.group.ratchet_tree(),
        joiner.credential,
        joiner.signature_key.private,
        capabilities=joiner.capabilities,
        random=joiner.random,
        now_s=NOW_S,
    )
    assert pending.group.epoch == ada.group.epoch + 1


@pytest.mark.rule("RFC 9420 §13.4", "one-of-each-type")
def test_a_newcomer_refuses_a_group_info_with_one_extension_twice(forger: Forger, ada: Person, joiner: Person):
    def doubled(info: GroupInfo) -> GroupInfo:
        return replace(info, extensions=(*info.extensions, *info.extensions))

    refuse(forger.welcome(ada, joiner, info=doubled), "same type", newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.parametrize("changed", [{"cipher_suite": 3}, {"version": 2}])
@pytest.mark.rule("RFC 9420 §12.4.3.1", "group-info-suite")
def test_a_newcomer_refuses_a_group_of_another_suite_though_its_secrets_fit(
    changed: dict[str, int], forger: Forger, ada: Person, joiner: Person
):
    spoiled = forger.welcome(ada, joiner, context=lambda context: replace(context, **changed))
    refuse(spoiled, "another version or cipher suite", newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "confirmation-tag")
@pytest.mark.parametrize("field", ["confirmed_transcript_hash", "group_id"])
def test_a_newcomer_refuses_a_context_that_its_secrets_do_not_fit(
    field: str, forger: Forger, ada: Person, joiner: Person
):
    def other(info: GroupInfo) -> GroupInfo:
        return replace(info, group_context=replace(info.group_context, **{field: b"x" * 32}))

    # Another group_id spoils the signatures of the leaves that were made in the group, too.
    fault = "confirmation_tag" if field == "confirmed_transcript_hash" else "signature"
    spoiled = forger.welcome(ada, joiner, info=other)
    refuse(spoiled, fault, VerificationError, newcomer=joiner, honest=forger.welcome(ada, joiner))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "secrets-open")
def test_secrets_that_were_sealed_to_another_key_or_for_another_group_do_not_open(
    forger: Forger, ada: Person, joiner: Person
):
    bundle = joiner.key_package()
    other = replace(joiner.key_package(), key_package=bundle.key_package)
    honest = forger.welcome(ada, joiner, bundle=bundle)
    spoiled = replace(honest, bundle=replace(other, encryption_private_key=bundle.encryption_private_key))
    refuse(spoiled, "HPKE decryption", VerificationError, newcomer=joiner, honest=honest)
    elsewhere = forger.welcome(ada, joiner, bundle=bundle)
    mixed = forger.welcome(ada, joiner, bundle=bundle, welcome=lambda _: _mixed(honest, elsewhere))
    refuse(mixed, "HPKE decryption", VerificationError, newcomer=joiner, honest=honest)


def _mixed(one: Invitation, other: Invitation) -> Welcome:
    first, second = (MLSMessage.decode(invitation.welcome).body for invitation in (one, other))
    assert isinstance(first, Welcome)
    assert isinstance(second, Welcome)
    return replace(first, encrypted_group_info=second.encrypted_group_info)


# --- pre-shared keys --------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3.1", "psk-at-hand")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "group-info-opens")
@pytest.mark.rule("RFC 9420 §8.4", "never-invented")
@pytest.mark.rule("hostile input", "missing-psk")
def test_a_newcomer_without_the_key_or_with_another_does_not_enter(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner, psks=[(psk().psk, KEYS[b"the key"])])
    for psks, fault, error in (
        (None, "missing", StateError),
        ({b"another": b"shared too"}, "missing", StateError),
        ({b"the key": b"another"}, "AEAD", VerificationError),
    ):
        with pytest.raises(error, match=fault):
            accept(invitation, joiner, psks=psks)
    assert accept(invitation, joiner, psks=KEYS).epoch > 0


@pytest.mark.rule("RFC 9420 §8.4", "same-order")
@pytest.mark.rule("RFC 9420 §12.4.1", "welcome-names-psks")
def test_a_welcome_that_names_the_keys_in_another_order_or_not_does_not_open(
    forger: Forger, ada: Person, joiner: Person
):
    keys = [(one.psk, KEYS[one.psk.psk_id]) for one in (psk(), psk(b"another"))]
    honest = forger.welcome(ada, joiner, psks=keys)
    for named in (lambda names: names[::-1], lambda names: names[:1], lambda names: []):
        spoiled = forger.welcome(ada, joiner, psks=keys, named=named)
        refuse(spoiled, "AEAD", VerificationError, newcomer=joiner, honest=honest, psks=KEYS)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "psk-named-once")
def test_a_welcome_that_names_a_key_twice_is_refused(forger: Forger, ada: Person, joiner: Person):
    one = (psk().psk, KEYS[b"the key"])
    other = (PreSharedKeyID.external(b"the key", NONCE[::-1]), KEYS[b"the key"])
    spoiled = forger.welcome(ada, joiner, psks=[one, one])
    honest = forger.welcome(ada, joiner, psks=[one, other])
    refuse(spoiled, "twice", newcomer=joiner, honest=honest, psks=KEYS)
