"""RFC 9420 §11.2 and §11.3, rule by rule, as a joiner holds a successor or branch to them: its founder keeps to none.

The founder was a member and has the old group's resumption key, so that its Welcome opens; all that it says is signed
and fits together. Only the rule under test tells the joiner that this is not the group that it waits for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.mls.group import Group
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import create_group, join
from heliograph.mls.proposal import PreSharedKeyID, ReInit, ResumptionPSKUsage
from heliograph.mls.suite import CipherSuite, Random, cipher_suite
from tests.mls.company import LIFETIME, NOW_S, Company, Person
from tests.mls.forge import KEYS, NONCE, Forger, epoch_of, psk

ABLE = Capabilities(cipher_suites=(1, 3))
REQUIRED = (RequiredCapabilities(credential_types=(1,)).to_extension(),)
TERMS = ReInit(b"the successor", 1, 1, REQUIRED)
REINIT, BRANCH, APPLICATION = ResumptionPSKUsage.REINIT, ResumptionPSKUsage.BRANCH, ResumptionPSKUsage.APPLICATION


@dataclass
class Founding:
    """What ben founds, and of what; by default what he may, for ada to join."""

    company: Company
    usage: ResumptionPSKUsage
    # The key that ben names: of the epoch in which he stands, or of the one before.
    holder: Group | None = None
    suite: CipherSuite = field(default_factory=lambda: cipher_suite(1))
    group_id: bytes = TERMS.group_id
    extensions: tuple[Extension, ...] = REQUIRED
    founder: str = "ben"
    commits_before: int = 0
    other_keys: Sequence[tuple[PreSharedKeyID, bytes]] = ()

    def person(self, name: str) -> Person:
        key = self.suite.generate_signature_key(self.company.random)
        return Person(name, self.suite, self.company.random, ABLE, key)

    def welcome(self) -> Group:
        """Let ben found the group and welcome ada, who joins it from where she stands."""
        founder, joiner, random = self.person(self.founder), self.person("ada"), self.company.random
        founder.held = create_group(
            self.suite,
            self.group_id,
            Credential.basic(founder.name.encode()),
            founder.signature_key.private,
            lifetime=LIFETIME,
            capabilities=ABLE,
            extensions=self.extensions,
            random=random,
        )
        for _ in range(self.commits_before):
            founder.held = founder.commit().group
        old = self.holder or self.company["ben"].group
        claim = PreSharedKeyID.resumption(self.usage, old.group_id, old.epoch, NONCE)
        key = epoch_of(old).secrets.resumption_psk
        invitation = Forger(founder.group, random).welcome(founder, joiner, psks=[(claim, key), *self.other_keys])
        return join(
            invitation.welcome,
            invitation.tree.encode(),
            invitation.bundle,
            joiner.signature_key.private,
            now_s=NOW_S,
            psks=KEYS,
            predecessor=self.company["ada"].group,
        )


@pytest.fixture
def company(seeded_random: Random) -> Company:
    return Company("ada", "ben", random=seeded_random, capabilities=ABLE)


def refuse(spoiled: Founding, fault: str, honest: Founding) -> None:
    with pytest.raises(ValidationError, match=fault):
        spoiled.welcome()
    assert honest.welcome().epoch == 1


# --- successors -------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(company: Company) -> Founding:
    """The successor that ben founds after his commit has closed the group."""
    company.commit(company["ben"], TERMS)
    return Founding(company, REINIT)


@pytest.mark.parametrize(
    "changes",
    [{"group_id": b"another"}, {"extensions": ()}, {"suite": cipher_suite(3)}],
    ids=["another name", "other extensions", "another suite"],
)
@pytest.mark.rule("RFC 9420 §11.2", "same-terms")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
def test_a_successor_on_other_terms_is_not_joined(changes: dict[str, object], closed: Founding):
    spoiled = replace(closed, **changes)  # pyright: ignore[reportArgumentType]
    refuse(spoiled, "other parameters than the ReInit", closed)


@pytest.mark.rule("RFC 9420 §11.2", "epoch-one")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
def test_a_successor_that_has_already_moved_on_is_not_joined(closed: Founding):
    refuse(replace(closed, commits_before=1), "does not begin with epoch 1", closed)


@pytest.mark.rule("RFC 9420 §11.2", "key-of-last-epoch")
def test_a_successor_by_the_key_of_an_epoch_before_the_reinit_is_not_joined(company: Company):
    before = company["ben"].group
    company.commit(company["ben"], TERMS)
    closed = Founding(company, REINIT)
    refuse(replace(closed, holder=before), "that no ReInit has closed", closed)


@pytest.mark.rule("RFC 9420 §11.2", "same-members")
def test_a_successor_that_leaves_a_member_out_is_not_joined(company: Company):
    company.add(company["ada"], company.person("cleo"))
    company.commit(company["ben"], TERMS)
    with pytest.raises(ValidationError, match="has not all members"):
        Founding(company, REINIT).welcome()
    other = Company("ada", "ben", random=company.random, capabilities=ABLE)
    other.commit(other["ben"], TERMS)
    assert Founding(other, REINIT).welcome().epoch == 1


@pytest.mark.rule("RFC 9420 §11.2", "same-members")
def test_a_successor_that_a_stranger_shares_is_not_joined(closed: Founding):
    refuse(replace(closed, founder="mallory"), "not all members|had not", closed)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "psk-named-once")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
@pytest.mark.parametrize("usage", [REINIT, BRANCH, APPLICATION])
def test_a_welcome_into_a_successor_names_no_second_resumption_key(usage: ResumptionPSKUsage, closed: Founding):
    old = closed.company["ben"].group
    other = PreSharedKeyID.resumption(usage, old.group_id, old.epoch, NONCE[::-1])
    spoiled = replace(closed, other_keys=[(other, epoch_of(old).secrets.resumption_psk)])
    external = replace(closed, other_keys=[(psk().psk, KEYS[b"the key"])])
    refuse(spoiled, "another resumption key", external)


@pytest.mark.rule("RFC 9420 §12.4.2", "closed-by-reinit")
def test_who_waits_for_a_successor_joins_no_group_that_merely_shares_a_key(closed: Founding):
    refuse(replace(closed, usage=APPLICATION), "does not succeed it", closed)


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def branching(company: Company) -> Founding:
    """A branch that ben founds while the group goes on."""
    return Founding(company, BRANCH, group_id=b"a branch")


@pytest.mark.rule("RFC 9420 §11.3", "same-suite")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
def test_a_branch_in_another_suite_is_not_joined(branching: Founding):
    refuse(replace(branching, suite=cipher_suite(3)), "another version or cipher suite", branching)


@pytest.mark.rule("RFC 9420 §11.3", "epoch-one")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
def test_a_branch_that_has_already_moved_on_is_not_joined(branching: Founding):
    refuse(replace(branching, commits_before=2), "does not begin with epoch 1", branching)


@pytest.mark.rule("RFC 9420 §11.3", "subset-of-members")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "succession")
def test_a_branch_that_a_stranger_shares_is_not_joined(branching: Founding):
    refuse(replace(branching, founder="mallory"), "that the group had not", branching)


@pytest.mark.rule("RFC 9420 §11.3", "subset-of-members")
def test_a_branch_may_leave_members_out(company: Company):
    company.add(company["ada"], company.person("cleo"))
    assert Founding(company, BRANCH, group_id=b"a branch").welcome().epoch == 1
