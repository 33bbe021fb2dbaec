"""Groups that follow upon another one: closed by a ReInit and founded anew, or branched off."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from heliograph.mls.errors import StateError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.membership import create_group, join
from heliograph.mls.proposal import Add, PreSharedKeyID, PreSharedKeyProposal, ReInit, Remove, ResumptionPSKUsage
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.successor import branch, reinitialize
from heliograph.mls.suite import CipherSuite, Random, SignatureKeyPair, cipher_suite
from tests.mls.company import LIFETIME, NOW_S, Company, Person

BOTH = Capabilities(cipher_suites=(1, 7))
TERMS = ReInit(b"the successor", 1, 7, (RequiredCapabilities(credential_types=(1,)).to_extension(),))
NEW = cipher_suite(7)


@dataclass(frozen=True)
class Renewed:
    """A person's key and key package for another group."""

    person: Person
    key: SignatureKeyPair
    bundle: KeyPackageBundle

    @classmethod
    def of(cls, person: Person, suite: CipherSuite) -> "Renewed":
        key = suite.generate_signature_key(person.random)
        bundle = create_key_package(
            suite, person.credential, key.private, lifetime=LIFETIME, capabilities=BOTH, random=person.random
        )
        return cls(person, key, bundle)

    def follow(self, pending: PendingCommit, predecessor: Group | None) -> Group:
        assert pending.welcome is not None
        tree, key = pending.ratchet_tree, self.key.private
        return join(pending.welcome, tree, self.bundle, key, now_s=NOW_S, predecessor=predecessor)


@pytest.fixture
def company(seeded_random: Random) -> Company:
    return Company("ada", "ben", "cleo", random=seeded_random, capabilities=BOTH)


@pytest.fixture
def closed(company: Company) -> Company:
    company.commit(company["ben"], TERMS)
    return company


def refound(founder: Person, others: Sequence[Renewed], old: Group | None = None) -> PendingCommit:
    return reinitialize(
        old or founder.group,
        [other.bundle.key_package for other in others],
        founder.credential,
        NEW.generate_signature_key(founder.random).private,
        lifetime=LIFETIME,
        capabilities=BOTH,
        random=founder.random,
        now_s=NOW_S,
    )


def branched(founder: Person, others: Sequence[Renewed], suite: CipherSuite | None = None) -> PendingCommit:
    return branch(
        founder.group,
        b"a branch",
        [other.bundle.key_package for other in others],
        founder.credential,
        (suite or founder.suite).generate_signature_key(founder.random).private,
        lifetime=LIFETIME,
        capabilities=BOTH,
        random=founder.random,
        now_s=NOW_S,
    )


def agree(*groups: Group) -> None:
    assert len({group.epoch_authenticator for group in groups}) == 1
    assert {group.epoch for group in groups} == {1}


# --- reinitialization ---------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §11.2")
@pytest.mark.rule("RFC 9420 §12.1.5", "goes-on-in-successor")
@pytest.mark.rule("RFC 9420 §12.4.1", "successor-after-reinit")
@pytest.mark.rule("RFC 9420 §12.3", "reinit-noted")
def test_a_group_goes_on_in_another_suite_with_all_its_members(closed: Company):
    others = [Renewed.of(closed[name], NEW) for name in ("ada", "cleo")]
    pending = refound(closed["ben"], others)
    successors = [other.follow(pending, other.person.group) for other in others]
    agree(pending.group, *successors)
    assert (pending.group.suite.id, pending.group.group_id) == (7, b"the successor")
    assert pending.group.group_context.extensions == TERMS.extensions


def test_any_member_may_found_the_successor(closed: Company):
    others = [Renewed.of(closed[name], NEW) for name in ("ada", "ben")]
    pending = refound(closed["cleo"], others)
    agree(pending.group, *(other.follow(pending, other.person.group) for other in others))


@pytest.mark.rule("RFC 9420 §12.4.2", "closed-by-reinit")
def test_a_closed_group_sends_and_follows_nothing_more(closed: Company):
    ada, old = closed["ada"], closed["ben"].group
    open_ben = replace(old, _slow=replace(old._slow, reinit=None))
    foul = open_ben.commit(random=ada.random, now_s=NOW_S).commit
    for act in (
        lambda: ada.seal(b"still there?"),
        ada.commit,
        ada.update_leaf,
        lambda: ada.propose(Remove(closed["ben"].leaf)),
        ada.group.group_info,
        lambda: ada.receive(foul),
    ):
        with pytest.raises(StateError, match="closed by a ReInit"):
            act()


def test_a_public_follower_knows_that_the_group_is_closed(company: Company):
    ada = company["ada"]
    info = MLSMessage.decode(ada.group.group_info()).body
    public = PublicGroup.open(info, ada.group.tree, now_s=NOW_S)  # pyright: ignore[reportArgumentType]
    pending = company.commit(ada, TERMS)
    public, _ = public.receive_commit(pending.commit, now_s=NOW_S)
    assert public.reinit == TERMS
    assert PublicGroup.decode(public.encode()) == public
    with pytest.raises(StateError, match="closed by a ReInit"):
        public.receive_commit(foul_commit(ada), now_s=NOW_S)


def foul_commit(person: Person) -> bytes:
    """Commit upon a closed group as if it were open."""
    group = person.group
    return replace(group, _slow=replace(group._slow, reinit=None)).commit(random=person.random, now_s=NOW_S).commit


def test_a_closed_group_stays_closed_when_it_is_saved_and_loaded(closed: Company):
    loaded = Group.load(closed["ada"].group.rows())
    assert loaded.reinit == TERMS
    with pytest.raises(StateError, match="closed by a ReInit"):
        loaded.commit(random=closed.random, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.2", "reinit-yields")
def test_a_waiting_reinit_yields_to_other_proposals(company: Company):
    company.propose(company["ada"], TERMS)
    company.propose(company["cleo"])
    company.commit(company["ben"])
    assert company["ben"].group.reinit is None
    company.check_agreement()


def test_a_group_that_is_open_has_no_successor(company: Company):
    with pytest.raises(StateError, match="no commit with a ReInit"):
        refound(company["ada"], [Renewed.of(company["ben"], NEW)])


def test_a_group_in_a_version_that_is_not_built_is_not_founded(company: Company):
    company.commit(company["ben"], replace(TERMS, version=2))
    with pytest.raises(ValidationError, match="another version of the protocol"):
        refound(company["ben"], [Renewed.of(company[name], NEW) for name in ("ada", "cleo")])


@pytest.mark.rule("RFC 9420 §12.1.1", "key-package-valid")
def test_a_group_is_not_founded_with_a_key_package_that_has_expired(company: Company):
    cleo = Renewed.of(company["cleo"], company.suite)
    stale = company["cleo"].key_package(lifetime=Lifetime(NOW_S - 2, NOW_S - 1))
    with pytest.raises(ValidationError, match="has ended"):
        branched(company["ada"], [replace(cleo, bundle=stale)])


def test_a_member_that_was_removed_founds_no_branch(company: Company):
    cleo = company["cleo"]
    company.remove(company["ada"], cleo)
    with pytest.raises(StateError, match="was removed"):
        branched(cleo, [Renewed.of(company["ben"], company.suite)])


@pytest.mark.rule("RFC 9420 §11.2", "same-members")
def test_a_successor_without_all_members_is_refused_by_its_founder(closed: Company):
    with pytest.raises(ValidationError, match="has not all members"):
        refound(closed["ben"], [Renewed.of(closed["ada"], NEW)])


@pytest.mark.rule("RFC 9420 §11.2", "same-members")
def test_a_successor_with_a_stranger_is_refused_by_its_founder(closed: Company):
    others = [Renewed.of(person, NEW) for person in (closed["ada"], closed["cleo"], closed.person("mallory"))]
    with pytest.raises(ValidationError, match="that the group had not"):
        refound(closed["ben"], others)


def with_terms(person: Person, **changes: object) -> Group:
    """Return a person's closed group as if other terms had been agreed."""
    group = person.group
    return replace(group, _slow=replace(group._slow, reinit=replace(TERMS, **changes)))


@pytest.mark.rule("RFC 9420 §11.2", "same-terms")
@pytest.mark.parametrize(
    "changes",
    [
        {"group_id": b"another"},
        {"cipher_suite": 1},
        {"extensions": ()},
        {"extensions": (*TERMS.extensions, Extension(5, b"\0"))},
    ],
)
def test_a_successor_on_other_terms_than_were_agreed_is_refused(closed: Company, changes: dict[str, object]):
    suite = cipher_suite(int(str(changes.get("cipher_suite", 7))))
    others = [Renewed.of(closed[name], suite) for name in ("ada", "cleo")]
    founder = closed["ben"]
    pending = reinitialize(
        with_terms(founder, **changes),
        [other.bundle.key_package for other in others],
        founder.credential,
        suite.generate_signature_key(founder.random).private,
        lifetime=LIFETIME,
        capabilities=BOTH,
        random=founder.random,
        now_s=NOW_S,
    )
    with pytest.raises(ValidationError, match="other parameters than the ReInit"):
        others[0].follow(pending, closed["ada"].group)


@pytest.mark.rule("RFC 9420 §12.4.2", "closed-by-reinit")
def test_who_waits_for_the_successor_follows_no_other_welcome(closed: Company):
    ada = Renewed.of(closed["ada"], NEW)
    ben = closed["ben"]
    founder = create_group(
        NEW,
        TERMS.group_id,
        ben.credential,
        NEW.generate_signature_key(ben.random).private,
        lifetime=LIFETIME,
        capabilities=BOTH,
        extensions=TERMS.extensions,
        random=ben.random,
    )
    pending = founder.commit([Add(ada.bundle.key_package)], random=ben.random, now_s=NOW_S)
    with pytest.raises(ValidationError, match="does not succeed it"):
        ada.follow(pending, closed["ada"].group)


@pytest.mark.rule("RFC 9420 §11.2")
def test_a_successor_needs_the_key_of_the_group_that_it_succeeds(closed: Company):
    others = [Renewed.of(closed[name], NEW) for name in ("ada", "cleo")]
    pending = refound(closed["ben"], others)
    with pytest.raises(StateError, match="pre-shared key"):
        others[0].follow(pending, None)


@pytest.mark.rule("RFC 9420 §11.2", "key-of-last-epoch")
def test_a_welcome_that_succeeds_an_open_group_is_refused(company: Company):
    others = [Renewed.of(company[name], NEW) for name in ("ada", "cleo")]
    pending = refound(company["ben"], others, with_terms(company["ben"]))
    with pytest.raises(ValidationError, match="that no ReInit has closed"):
        others[0].follow(pending, company["ada"].group)


# --- branches -----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §11.3")
def test_some_members_branch_off_and_the_group_goes_on(company: Company):
    cleo = Renewed.of(company["cleo"], company.suite)
    pending = branched(company["ada"], [cleo])
    agree(pending.group, cleo.follow(pending, company["cleo"].group))
    company.check_agreement()


@pytest.mark.rule("RFC 9420 §11.3")
def test_a_branch_may_be_joined_when_the_group_has_moved_on(company: Company):
    cleo = Renewed.of(company["cleo"], company.suite)
    pending = branched(company["ada"], [cleo])
    company.commit(company["ben"])
    agree(pending.group, cleo.follow(pending, company["cleo"].group))


@pytest.mark.rule("RFC 9420 §11.3", "subset-of-members")
def test_a_branch_with_a_stranger_is_refused(company: Company):
    stranger = Renewed.of(company.person("mallory"), company.suite)
    with pytest.raises(ValidationError, match="that the group had not"):
        branched(company["ada"], [stranger, Renewed.of(company["cleo"], company.suite)])


@pytest.mark.rule("RFC 9420 §11.3")
def test_a_branch_of_another_group_with_the_same_name_does_not_open(company: Company, seeded_random: Random):
    other = Company("ada", "cleo", random=seeded_random, capabilities=BOTH)
    cleo = Renewed.of(company["cleo"], company.suite)
    pending = branched(company["ada"], [cleo])
    with pytest.raises(VerificationError):
        cleo.follow(pending, other["cleo"].group)


def test_a_branch_of_a_group_that_one_does_not_know_is_refused(company: Company):
    cleo = Renewed.of(company["cleo"], company.suite)
    with pytest.raises(StateError, match="pre-shared key"):
        cleo.follow(branched(company["ada"], [cleo]), None)


# --- the keys of both, anywhere else --------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1.4", "no-reinit-usage")
@pytest.mark.rule("RFC 9420 §12.1.4", "no-branch-usage")
@pytest.mark.parametrize("usage", [ResumptionPSKUsage.REINIT, ResumptionPSKUsage.BRANCH])
def test_a_key_for_a_successor_or_branch_is_proposed_nowhere_else(company: Company, usage: ResumptionPSKUsage):
    ada = company["ada"]
    psk = PreSharedKeyID.resumption(usage, ada.group.group_id, ada.group.epoch, ada.random(32))
    with pytest.raises(ValidationError, match="outside a"):
        ada.propose(PreSharedKeyProposal(psk))
    with pytest.raises(ValidationError, match="outside a"):
        ada.commit([PreSharedKeyProposal(psk)])


@pytest.mark.rule("RFC 9420 §8.6")
def test_members_of_an_earlier_epoch_prove_it_by_its_resumption_key(company: Company):
    ada = company["ada"]
    before = ada.group.epoch
    company.commit(ada)
    psk = PreSharedKeyID.resumption(ResumptionPSKUsage.APPLICATION, ada.group.group_id, before, ada.random(32))
    company.commit(ada, PreSharedKeyProposal(psk))
    company.check_agreement()


@pytest.mark.rule("RFC 9420 §11.3")
def test_who_expects_a_branch_follows_no_other_welcome(company: Company):
    ada, cleo = company["ada"], Renewed.of(company["cleo"], company.suite)
    other = create_group(
        company.suite,
        b"no branch",
        ada.credential,
        company.suite.generate_signature_key(ada.random).private,
        lifetime=LIFETIME,
        capabilities=BOTH,
        random=ada.random,
    ).commit([Add(cleo.bundle.key_package)], random=ada.random, now_s=NOW_S)
    for pending, expected in ((other, ResumptionPSKUsage.BRANCH), (branched(ada, [cleo]), ResumptionPSKUsage.REINIT)):
        assert pending.welcome is not None
        with pytest.raises(ValidationError, match="not for the expected"):
            join(
                pending.welcome,
                pending.ratchet_tree,
                cleo.bundle,
                cleo.key.private,
                now_s=NOW_S,
                predecessor=company["cleo"].group,
                succession=expected,
            )
