"""RFC 9420 §7.3, rule by rule, in each of the three places where a group meets a new leaf: Add, Update and path.

Each test spoils one thing about one leaf and has it signed again, so that nothing else is wrong with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import ValidationError, VerificationError
from heliograph.mls.extension import Extension, ExtensionType, RequiredCapabilities
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from heliograph.mls.membership import join
from heliograph.mls.proposal import Add, Update
from heliograph.mls.suite import Random, SignatureKeyPair
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import DAY_S, LIFETIME, NOW_S, Company
from tests.mls.followers import Followers
from tests.mls.forge import Forger, flipped, same

Change = Callable[[LeafNode], LeafNode]

ABLE = Capabilities(cipher_suites=(1,), extensions=(0xF001, 0xF002), proposals=(0xF003,), credentials=(1, 0xF00A))
ASKED = (
    Extension(0xF001, b""),
    RequiredCapabilities((0xF002,), (0xF003,), (0xF00A,)).to_extension(),
)


@dataclass
class Stage:
    """Ada commits, cleo updates, finn is added; ben and a public group judge."""

    company: Company
    followers: Followers

    @property
    def forger(self) -> Forger:
        return Forger(self.company["ada"].group, self.company.random)

    # Each way returns a commit by ada, or for `update` the proposal by cleo, whose leaf was changed.

    def add(self, leaf: Change = same, after: Change = same, key: SignatureKeyPair | None = None) -> bytes:
        return self.forger.commit([Add(self.package(leaf, after, key).key_package)])

    def package(self, leaf: Change, after: Change, key: SignatureKeyPair | None = None) -> KeyPackageBundle:
        finn = self.company.person("finn")
        finn.signature_key = key or finn.signature_key
        bundle, suite, private = finn.key_package(), self.company.suite, finn.signature_key.private
        signed = after(leaf(bundle.key_package.leaf_node).sign(suite, private, b"", LeafIndex(0)))
        return replace(bundle, key_package=replace(bundle.key_package, leaf_node=signed).sign(suite, private))

    def update(self, leaf: Change = same, after: Change = same, key: SignatureKeyPair | None = None) -> bytes:
        cleo, suite = self.company["cleo"], self.company.suite
        private = (key or cleo.signature_key).private
        unsigned = replace(
            cleo.group.own_leaf,
            encryption_key=suite.derive_key_pair(self.company.random(32))[1],
            signature_key=suite.signature_public_key(private),
            leaf_node_source=LeafNodeSource.UPDATE,
            parent_hash=None,
        )
        forger = Forger(cleo.group, self.company.random)
        return forger.public(forger.signed(Update(after(leaf(unsigned).sign(suite, private, b"the group", cleo.leaf)))))

    def committed_update(self, leaf: Change = same, after: Change = same, key: SignatureKeyPair | None = None) -> bytes:
        message = self.update(leaf, after, key)
        references = self.followers.hear(message)
        self.company["ada"].receive(message)
        return self.forger.commit(references=references)

    def path(self, leaf: Change = same, after: Change = same, key: SignatureKeyPair | None = None) -> bytes:
        return self.forger.commit(
            leaf=leaf, leaf_after_signing=after, new_signing_key=None if key is None else key.private
        )


# How a leaf comes into the group; the first three are refused as soon as they are seen.
Way = Callable[..., bytes]
AT_ONCE = pytest.mark.parametrize("way", [Stage.add, Stage.update, Stage.path])
IN_A_COMMIT = pytest.mark.parametrize("way", [Stage.add, Stage.committed_update, Stage.path])


@pytest.fixture
def stage(company: Company, followers: Followers) -> Stage:
    return Stage(company, followers)


@pytest.fixture
def asking(seeded_random: Random) -> Stage:
    """A group whose context asks for things that all its members support."""
    company = Company("ada", "ben", "cleo", random=seeded_random, capabilities=ABLE, extensions=ASKED)
    return Stage(company, Followers.of(company["ben"]))


# --- what concerns the leaf alone -------------------------------------------------------------------------------------


@AT_ONCE
@pytest.mark.rule("RFC 9420 §7.3", "signature")
@pytest.mark.rule("RFC 9420 §12.1.2", "leaf-valid")
def test_a_leaf_with_a_spoiled_signature_is_refused(way: Way, stage: Stage):
    spoiled = way(stage, after=lambda leaf: replace(leaf, signature=flipped(leaf.signature)))
    stage.followers.refuse(spoiled, "signature", VerificationError, honest=way(stage))


@pytest.mark.parametrize("way", [Stage.update, Stage.path])
@pytest.mark.parametrize(("group_id", "offset"), [(b"another group", 0), (b"the group", 1)])
@pytest.mark.rule("RFC 9420 §7.3", "signature")
@pytest.mark.rule("RFC 9420 §7.2", "signed-for-group-and-place")
def test_a_leaf_signed_for_another_group_or_place_is_refused(way: Way, group_id: bytes, offset: int, stage: Stage):
    owner = stage.company["cleo" if way is Stage.update else "ada"]

    def elsewhere(leaf: LeafNode) -> LeafNode:
        place = LeafIndex(owner.leaf + offset)
        return leaf.sign(stage.company.suite, owner.signature_key.private, group_id, place)

    stage.followers.refuse(way(stage, after=elsewhere), "signature", VerificationError, honest=way(stage))


@AT_ONCE
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"versions": (2,)}, "MLS 1.0", marks=pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")),
        pytest.param({"cipher_suites": (2,)}, "suite", marks=pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")),
        pytest.param(
            {"credentials": (2,)}, "own credential", marks=pytest.mark.rule("RFC 9420 §7.2", "own-credential-listed")
        ),
    ],
)
def test_a_leaf_that_lacks_what_it_uses_is_refused(way: Way, changes: dict[str, tuple[int]], fault: str, stage: Stage):
    def lacking(leaf: LeafNode) -> LeafNode:
        return replace(leaf, capabilities=replace(leaf.capabilities, **changes))

    stage.followers.refuse(way(stage, lacking), fault, honest=way(stage))


@AT_ONCE
@pytest.mark.rule("RFC 9420 §7.3", "own-extensions-listed")
@pytest.mark.rule("RFC 9420 §7.2", "own-extensions-listed")
def test_a_leaf_with_an_extension_that_it_does_not_list_is_refused(way: Way, stage: Stage):
    def unlisted(leaf: LeafNode) -> LeafNode:
        return replace(leaf, extensions=(Extension(0xF009, b""),))

    def listed(leaf: LeafNode) -> LeafNode:
        return replace(unlisted(leaf), capabilities=replace(leaf.capabilities, extensions=(0xF009,)))

    stage.followers.refuse(way(stage, unlisted), "do not list", honest=way(stage, listed))


@AT_ONCE
@pytest.mark.rule("RFC 9420 §13.4", "one-of-each-type")
def test_a_leaf_with_one_extension_twice_is_refused(way: Way, stage: Stage):
    one = Extension(ExtensionType.APPLICATION_ID, b"\2id")
    spoiled = way(stage, lambda leaf: replace(leaf, extensions=(one, one)))
    stage.followers.refuse(spoiled, "same type", honest=way(stage, lambda leaf: replace(leaf, extensions=(one,))))


@AT_ONCE
@pytest.mark.parametrize("key", [b"", bytes(32), b"short", bytes(33)])
@pytest.mark.rule("RFC 9420 §10", "leaf-keys-of-suite")
def test_a_leaf_with_a_key_that_is_none_of_the_suite_is_refused(way: Way, key: bytes, stage: Stage):
    spoiled = way(stage, lambda leaf: replace(leaf, encryption_key=key))
    stage.followers.refuse(spoiled, "of the cipher suite", honest=way(stage))


@AT_ONCE
@pytest.mark.parametrize("key", [b"", bytes(31), b"\xff" * 32])
@pytest.mark.rule("RFC 9420 §10", "leaf-keys-of-suite")
def test_a_leaf_with_a_signature_key_that_is_none_is_refused(way: Way, key: bytes, stage: Stage):
    spoiled = way(stage, lambda leaf: replace(leaf, signature_key=key))
    stage.followers.refuse(spoiled, "signature", VerificationError, honest=way(stage))


def other_sources(source: LeafNodeSource) -> list[Change]:
    """Return the changes by which a leaf says that it comes from elsewhere."""
    changes: dict[LeafNodeSource, Change] = {
        LeafNodeSource.KEY_PACKAGE: lambda leaf: replace(
            leaf, leaf_node_source=LeafNodeSource.KEY_PACKAGE, lifetime=LIFETIME, parent_hash=None
        ),
        LeafNodeSource.UPDATE: lambda leaf: replace(
            leaf, leaf_node_source=LeafNodeSource.UPDATE, lifetime=None, parent_hash=None
        ),
        LeafNodeSource.COMMIT: lambda leaf: replace(
            leaf, leaf_node_source=LeafNodeSource.COMMIT, lifetime=None, parent_hash=leaf.parent_hash or b""
        ),
    }
    return [change for named, change in changes.items() if named is not source]


@pytest.mark.parametrize(
    ("way", "source"),
    [
        pytest.param(
            Stage.add, LeafNodeSource.KEY_PACKAGE, marks=pytest.mark.rule("RFC 9420 §7.3", "source-key-package")
        ),
        pytest.param(Stage.update, LeafNodeSource.UPDATE, marks=pytest.mark.rule("RFC 9420 §7.3", "source-update")),
        pytest.param(Stage.path, LeafNodeSource.COMMIT, marks=pytest.mark.rule("RFC 9420 §7.3", "source-commit")),
    ],
)
def test_a_leaf_that_says_it_comes_from_elsewhere_is_refused(way: Way, source: LeafNodeSource, stage: Stage):
    for change in other_sources(source):
        stage.followers.refuse(way(stage, change), "leaf_node_source", honest=way(stage))


@pytest.mark.rule("RFC 9420 §7.3", "update-new-key")
@pytest.mark.rule("RFC 9420 §12.1.2", "leaf-valid")
def test_an_update_that_keeps_its_encryption_key_is_refused(stage: Stage):
    kept = stage.company["cleo"].group.own_leaf.encryption_key
    spoiled = stage.update(lambda leaf: replace(leaf, encryption_key=kept))
    stage.followers.refuse(spoiled, "keeps the encryption_key", honest=stage.update())


# --- lifetimes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "fault"),
    [
        pytest.param(
            Lifetime(NOW_S - 2 * DAY_S, NOW_S - 1),
            "has ended",
            marks=pytest.mark.rule("hostile input", "key-package-expired"),
        ),
        pytest.param(
            Lifetime(NOW_S + 1, NOW_S + DAY_S),
            "not begun",
            marks=pytest.mark.rule("hostile input", "key-package-not-yet-valid"),
        ),
        pytest.param(
            Lifetime(NOW_S - 1, NOW_S + 32 * DAY_S),
            "longer than the limit",
            marks=[
                pytest.mark.rule("hostile input", "key-package-lifetime-too-long"),
                pytest.mark.rule("RFC 9420 §7.2", "lifetime-limit"),
            ],
        ),
    ],
)
@pytest.mark.rule("RFC 9420 §7.3", "lifetime-received")
def test_an_added_leaf_that_is_out_of_its_time_is_refused(lifetime: Lifetime, fault: str, stage: Stage):
    spoiled = stage.add(lambda leaf: replace(leaf, lifetime=lifetime))
    in_time = stage.add(lambda leaf: replace(leaf, lifetime=Lifetime(NOW_S, NOW_S)))
    stage.followers.refuse(spoiled, fault, honest=in_time)


@pytest.mark.rule("RFC 9420 §7.3", "lifetime-sent")
def test_a_member_does_not_send_a_leaf_that_is_out_of_its_time(stage: Stage):
    ada = stage.company["ada"]
    for lifetime, fault in (
        (Lifetime(NOW_S - 2 * DAY_S, NOW_S - 1), "has ended"),
        (Lifetime(NOW_S + 1, NOW_S + DAY_S), "not begun"),
    ):
        stale = Add(stage.package(lambda leaf, lifetime=lifetime: replace(leaf, lifetime=lifetime), same).key_package)
        with pytest.raises(ValidationError, match=fault):
            ada.commit([stale])
        with pytest.raises(ValidationError, match=fault):
            ada.propose(stale)
    fresh = stage.package(lambda leaf: replace(leaf, lifetime=Lifetime(NOW_S, NOW_S)), same).key_package
    assert ada.commit([Add(fresh)]).welcome is not None


# --- what the leaf must share with the others -------------------------------------------------------------------------


@IN_A_COMMIT
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param(
            {"extensions": (0xF001,)},
            "extension that the group requires",
            marks=pytest.mark.rule("RFC 9420 §7.3", "required-extensions"),
        ),
        pytest.param(
            {"proposals": ()},
            "proposal type that the group requires",
            marks=pytest.mark.rule("RFC 9420 §7.3", "required-proposals"),
        ),
        pytest.param(
            {"credentials": (1,)},
            "credential type that the group requires",
            marks=pytest.mark.rule("RFC 9420 §7.3", "required-credentials"),
        ),
        pytest.param(
            {"extensions": (0xF002,)},
            "extension of the group context",
            marks=[
                pytest.mark.rule("RFC 9420 §7.3", "group-extensions"),
                pytest.mark.rule("RFC 9420 §13.4", "newcomer-supports-context"),
            ],
        ),
    ],
)
@pytest.mark.rule("RFC 9420 §12.2", "tree-valid-after")
def test_a_leaf_that_lacks_what_the_group_asks_for_is_refused(
    way: Way, changes: dict[str, tuple[int, ...]], fault: str, asking: Stage
):
    def lacking(leaf: LeafNode) -> LeafNode:
        return replace(leaf, capabilities=replace(leaf.capabilities, **changes))

    honest = way(asking)
    asking.followers.refuse(way(asking, lacking), fault, honest=honest)


@IN_A_COMMIT
@pytest.mark.rule("RFC 9420 §7.3", "credential-read-by-all")
@pytest.mark.rule("RFC 9420 §13.3", "readable-by-all")
def test_a_leaf_with_a_credential_that_a_member_cannot_read_is_refused(way: Way, asking: Stage):
    def foreign(leaf: LeafNode, credential_type: int) -> LeafNode:
        abilities = replace(leaf.capabilities, credentials=(1, 0xF00A, credential_type))
        return replace(leaf, credential=Credential(credential_type, b"new"), capabilities=abilities)

    honest = way(asking, lambda leaf: foreign(leaf, 0xF00A))
    spoiled = way(asking, lambda leaf: foreign(leaf, 0xF00B))
    asking.followers.refuse(spoiled, "credential type in use", honest=honest)


@IN_A_COMMIT
@pytest.mark.rule("RFC 9420 §7.3", "reads-all-credentials")
def test_a_leaf_that_cannot_read_the_credentials_of_others_is_refused(way: Way, asking: Stage):
    def blind(leaf: LeafNode, *others: int) -> LeafNode:
        abilities = replace(leaf.capabilities, credentials=(0xF00A, *others))
        return replace(leaf, credential=Credential(0xF00A, b"new"), capabilities=abilities)

    honest = way(asking, lambda leaf: blind(leaf, 1))
    asking.followers.refuse(way(asking, blind), "credential type in use", honest=honest)


@IN_A_COMMIT
@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
@pytest.mark.rule("RFC 9420 §16.7", "signature-keys")
@pytest.mark.rule("hostile input", "duplicate-signature-key")
def test_a_leaf_with_the_signature_key_of_a_member_is_refused(way: Way, stage: Stage):
    honest = way(stage, key=stage.company.person("new").signature_key)
    spoiled = way(stage, key=stage.company["dan"].signature_key)
    stage.followers.refuse(spoiled, "signature_key|already in the group", honest=honest)


@IN_A_COMMIT
@pytest.mark.parametrize("node", ["another leaf", "a parent"])
@pytest.mark.rule("RFC 9420 §7.3", "unique-encryption-key")
@pytest.mark.rule("RFC 9420 §16.7", "encryption-keys")
@pytest.mark.rule("hostile input", "duplicate-encryption-key")
def test_a_leaf_with_an_encryption_key_of_the_tree_is_refused(way: Way, node: str, stage: Stage):
    tree = stage.company["ada"].group.tree
    leaf = stage.company["dan"].group.own_leaf
    # An Update of cleo, at leaf 2, blanks the root; the node above ada and ben stays.
    taken = (
        leaf.encryption_key
        if node == "another leaf"
        else tree.public_key(tree.filtered_direct_path(LeafIndex(0))[0][0])
    )
    honest = way(stage)
    spoiled = way(stage, lambda leaf: replace(leaf, encryption_key=taken))
    stage.followers.refuse(spoiled, "encryption_key", honest=honest)


@pytest.mark.rule("RFC 9420 §7.3", "unique-encryption-key")
@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_two_newcomers_of_one_commit_share_no_key(stage: Stage):
    one, other = (stage.package(same, same).key_package for _ in range(2))
    finn = stage.company.person("gil")

    def twin_of(package: KeyPackage, encryption_key: bytes) -> KeyPackage:
        leaf = replace(package.leaf_node, encryption_key=encryption_key, signature_key=finn.signature_key.public)
        signed = leaf.sign(stage.company.suite, finn.signature_key.private)
        return replace(package, leaf_node=signed).sign(stage.company.suite, finn.signature_key.private)

    shared = twin_of(other, one.leaf_node.encryption_key)
    honest = stage.forger.commit([Add(one), Add(twin_of(other, other.leaf_node.encryption_key))])
    stage.followers.refuse(stage.forger.commit([Add(one), Add(shared)]), "same encryption_key", honest=honest)


# --- the tree that a newcomer is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault", "signer"),
    [
        pytest.param(same, "signature", "cleo", marks=pytest.mark.rule("RFC 9420 §7.3", "signature")),
        pytest.param(
            lambda leaf: replace(leaf, capabilities=Capabilities(cipher_suites=(2,))),
            "cipher suite",
            "dan",
            marks=pytest.mark.rule("RFC 9420 §7.3", "version-and-suite"),
        ),
        pytest.param(
            lambda leaf: replace(leaf, extensions=(Extension(0xF009, b""),)),
            "do not list",
            "dan",
            marks=pytest.mark.rule("RFC 9420 §7.3", "own-extensions-listed"),
        ),
        pytest.param(
            lambda leaf: replace(leaf, encryption_key=bytes(32)),
            "of the cipher suite",
            "dan",
            marks=pytest.mark.rule("RFC 9420 §10", "leaf-keys-of-suite"),
        ),
        pytest.param(
            lambda leaf: replace(
                leaf, credential=Credential(2, b""), capabilities=replace(leaf.capabilities, credentials=(1, 2))
            ),
            "credential type in use",
            "dan",
            marks=pytest.mark.rule("RFC 9420 §7.3", "credential-read-by-all"),
        ),
    ],
)
@pytest.mark.rule("RFC 9420 §12.4.3.1", "leaves-valid")
def test_a_newcomer_refuses_a_tree_in_which_one_leaf_breaks_a_rule(
    change: Change, fault: str, signer: str, stage: Stage
):
    ada, finn, dan = stage.company["ada"], stage.company.person("finn"), stage.company["dan"]

    def enter(leaf: Change, signer: str) -> None:
        # No path but ada's and dan's own stands for dan's leaf: so the parent hashes stay true.
        signing_key = stage.company[signer].signature_key.private
        changed = leaf(dan.group.own_leaf).sign(stage.company.suite, signing_key, b"the group", dan.leaf)
        invitation = stage.forger.welcome(ada, finn, tree_before_path=lambda tree: tree.set_leaf(dan.leaf, changed))
        key = finn.signature_key.private
        join(invitation.welcome, invitation.tree.encode(), invitation.bundle, key, now_s=NOW_S)

    with pytest.raises((ValidationError, VerificationError), match=fault):
        enter(change, signer)
    enter(same, "dan")
