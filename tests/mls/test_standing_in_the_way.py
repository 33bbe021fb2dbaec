"""What a hostile member, outsider or delivery service tried on a second look: each of these once went through."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders, RequiredCapabilities
from heliograph.mls.framing import WireFormat
from heliograph.mls.group import Group
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import create_group, join, join_external
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ReInit,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.public_group import MAX_PENDING_BYTES, PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.saved_row import closed
from heliograph.mls.successor import branch, reinitialize
from heliograph.mls.suite import Random
from tests.mls.company import GROUP_ID, LIFETIME, NOW_S, Company, Person
from tests.mls.forge import Forger, by_value, external_commit
from tests.mls.test_credential_check import BOTH_KINDS, SUITE, Authority, Device
from tests.mls.test_succession_rules import BRANCH, REINIT, TERMS, Founding

NEEDED = RequiredCapabilities(credential_types=(0xF001,)).to_extension()
ABLE = Capabilities(credentials=(1, 0xF001))
UNABLE = Capabilities(credentials=(1,))


@pytest.fixture
def three(seeded_random: Random) -> Company:
    return Company("ada", "ben", "mallory", random=seeded_random, capabilities=ABLE, extensions=(NEEDED,))


def newcomer(company: Company, name: str, capabilities: Capabilities = ABLE) -> Add:
    person = replace(company.person(name), capabilities=capabilities)
    return Add(person.key_package().key_package)


def propose_all(company: Company, proposer: str, proposals: Sequence[Proposal]) -> None:
    for proposal in proposals:
        company.propose(company[proposer], proposal)


# --- what a committer takes along -------------------------------------------------------------------------------------


def test_however_many_newcomers_cannot_be_added_all_others_are(three: Company):
    for number in range(24):
        propose_all(three, "mallory", [newcomer(three, f"unable {number}", UNABLE)])
        propose_all(three, "ben", [newcomer(three, f"able {number}")])
    three.commit(three["ada"])
    names = [member.leaf_node.credential.identity for member in three["ben"].group.members()]
    assert [name for name in names if name.startswith(b"able")] == [b"able %d" % number for number in range(24)]
    assert len(names) == 27


def test_a_newcomer_with_the_key_of_a_node_in_the_tree_keeps_nobody_out(three: Company):
    mallory, ada = three.person("another mallory"), three["ada"]
    package = mallory.key_package().key_package
    leaf = replace(package.leaf_node, encryption_key=ada.group.own_leaf.encryption_key)
    leaf = leaf.sign(three.suite, mallory.signature_key.private)
    stolen = replace(package, leaf_node=leaf).sign(three.suite, mallory.signature_key.private)
    propose_all(three, "mallory", [Add(stolen)])
    propose_all(three, "ben", [newcomer(three, "finn")])
    assert len(ada.commit().references) == 1


def test_a_change_of_the_context_that_nobody_can_follow_does_not_stand_before_another(three: Company):
    impossible = GroupContextExtensions((RequiredCapabilities(extension_types=(0xF123,)).to_extension(),))
    wanted = GroupContextExtensions(())
    propose_all(three, "mallory", [impossible])
    propose_all(three, "ben", [wanted])
    three.commit(three["ada"])
    assert three["ben"].group.group_context.extensions == ()


def test_a_requirement_goes_along_with_the_removal_of_who_cannot_meet_it(seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random, capabilities=ABLE)
    company.add(company["ada"], replace(company.person("cleo"), capabilities=UNABLE))
    propose_all(company, "ben", [GroupContextExtensions((NEEDED,)), Remove(company["cleo"].leaf)])
    company.commit(company["ada"])
    assert company["ben"].group.group_context.extensions == (NEEDED,)
    assert len(company["ben"].group.members()) == 2


def test_a_proposed_key_of_the_past_leaves_no_later_member_behind(three: Company):
    before = three["ben"].group.epoch
    psk = PreSharedKeyID.resumption(ResumptionPSKUsage.APPLICATION, GROUP_ID, before, three.random(32))
    three.add(three["ada"], replace(three.person("cleo"), capabilities=ABLE))
    three.propose(three["mallory"], PreSharedKeyProposal(psk))
    three.commit(three["ada"])
    three.check_agreement()


def test_a_proposed_key_of_the_past_that_all_have_lived_through_is_mixed_in(three: Company):
    before = three["ben"].group.epoch
    psk = PreSharedKeyID.resumption(ResumptionPSKUsage.APPLICATION, GROUP_ID, before, three.random(32))
    three.commit(three["ada"])
    three.propose(three["mallory"], PreSharedKeyProposal(psk))
    assert len(three.commit(three["ada"]).references) == 1
    three.check_agreement()


@pytest.mark.parametrize("terms", [ReInit(b"next", 1, 0x9999), ReInit(b"next", 77, 1)], ids=["suite", "version"])
def test_no_committer_closes_the_group_for_a_successor_that_it_could_not_join(three: Company, terms: ReInit):
    three.propose(three["mallory"], terms)
    three.commit(three["ada"])
    assert three["ben"].group.reinit is None
    three.check_agreement()


def test_sealed_proposals_that_wait_have_a_largest_size_in_all(three: Company):
    mallory, ada = three["mallory"].group, three["ada"].group
    for number in range(4):
        big = GroupContextExtensions((Extension(0xF001, bytes([number]) * (MAX_PENDING_BYTES // 4 - 64)),))
        mallory, message = mallory.propose(
            big, random=three.random, now_s=NOW_S, wire_format=WireFormat.PRIVATE_MESSAGE
        )
        ada, _ = ada.receive(message, now_s=NOW_S)
    one_more = three["ben"].propose(GroupContextExtensions((Extension(0xF001, bytes(256)),)))
    with pytest.raises(StateError, match="larger than they may be"):
        ada.receive(one_more, now_s=NOW_S)


# --- what was over, and what follows ----------------------------------------------------------------------------------


def test_who_was_removed_takes_up_no_commit_of_its_own(three: Company):
    pending = three["ben"].commit()
    three["ben"].follow(three["ada"].commit([Remove(three["ben"].leaf)]).commit)
    with pytest.raises(StateError, match="removed"):
        three["ben"].group.take_up(pending.group)


def test_a_closed_group_has_no_branches(three: Company):
    three.commit(three["ada"], ReInit(b"next", 1, 1))
    ben, ada = three["ben"].key_package().key_package, three["ada"]
    with pytest.raises(StateError, match="closed"):
        branch(
            ada.group,
            b"a branch",
            [ben],
            ada.credential,
            ada.signature_key.private,
            lifetime=LIFETIME,
            capabilities=ABLE,
            random=three.random,
            now_s=NOW_S,
        )


def test_a_successor_has_no_member_twice(three: Company):
    three.commit(three["ada"], ReInit(b"next", 1, 1))
    ada, names = three["ada"], ["ben", "mallory", "ben"]
    packages = [replace(three.person(name), capabilities=ABLE).key_package().key_package for name in names]

    def found(number: int) -> int:
        pending = reinitialize(
            ada.group,
            packages[:number],
            ada.credential,
            ada.signature_key.private,
            lifetime=LIFETIME,
            capabilities=ABLE,
            random=three.random,
            now_s=NOW_S,
        )
        return len(pending.group.members())

    assert found(2) == 3
    with pytest.raises(ValidationError, match="more or fewer members"):
        found(3)


def test_who_waits_for_a_successor_follows_no_branch(seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random, capabilities=Capabilities(cipher_suites=(1, 3)))
    company.commit(company["ben"], TERMS)
    with pytest.raises(ValidationError, match="does not succeed it"):
        Founding(company, BRANCH, group_id=b"mallory's own").welcome()
    assert Founding(company, REINIT).welcome().epoch == 1


# --- credentials ------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(seeded_random: Random) -> Company:
    """A company in which cleo has a credential of another type than basic."""
    company = Company("ada", "ben", random=seeded_random, capabilities=ABLE)
    cleo = company.person("cleo")
    company.add(company["ada"], OtherKind(**{name: getattr(cleo, name) for name in cleo.__dataclass_fields__}))
    return company


class OtherKind(Person):
    """Someone whose credential is of a type that only the application knows."""

    @property
    def credential(self) -> Credential:
        return Credential(0xF001, self.name.encode())


def test_a_basic_name_does_not_take_the_place_of_another_kind_of_credential(mixed: Company):
    ada, cleo, mallory = mixed["ada"], mixed["cleo"], mixed.person("mallory")
    commit = external_commit(ada.group, mallory, lambda init: by_value(init, Remove(cleo.leaf)))
    with pytest.raises(ValidationError, match="another client"):
        ada.receive(commit)
    with pytest.raises(ValidationError, match="another client"):
        join_external(
            ada.group.group_info(),
            ada.group.ratchet_tree(),
            mallory.credential,
            mallory.signature_key.private,
            capabilities=ABLE,
            resync_leaf=cleo.leaf,
            random=mixed.random,
            now_s=NOW_S,
        )
    mixed.join_from_outside(cleo, ada, resync_leaf=cleo.leaf)
    mixed.check_agreement()


def test_a_group_is_neither_founded_nor_joined_with_an_external_sender_under_anothers_certificate(
    seeded_random: Random,
):
    school = Authority()
    ada, alice = (Device.of(school, name, seeded_random) for name in ("ada", "alice"))
    mallory = SUITE.generate_signature_key(seeded_random)

    def senders(signature_key: bytes) -> tuple[Extension, ...]:
        return (ExternalSenders((ExternalSender(signature_key, alice.credential),)).to_extension(),)

    def found(extensions: tuple[Extension, ...]) -> Group:
        return create_group(
            SUITE,
            b"class 7b",
            ada.credential,
            ada.keys.private,
            lifetime=LIFETIME,
            capabilities=BOTH_KINDS,
            extensions=extensions,
            random=seeded_random,
        )

    def spoiled(info: GroupInfo) -> GroupInfo:
        return replace(info, group_context=replace(info.group_context, extensions=senders(mallory.public)))

    with pytest.raises(ValidationError, match="another key"):
        found(senders(mallory.public))
    group = found(senders(alice.keys.public))
    forger, tree = Forger(group, seeded_random), RatchetTree.decode(group.ratchet_tree())
    assert PublicGroup.open(forger.group_info(), tree, now_s=NOW_S).epoch == 0
    with pytest.raises(ValidationError, match="another key"):
        PublicGroup.open(forger.group_info(change=spoiled), tree, now_s=NOW_S)


# --- states on disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["abc", "-1", ""])
def test_a_row_of_message_keys_without_a_place_is_refused(three: Company, number: str):
    group = three["ada"].group
    name = f"secret_tree/{group.epoch}/node/{number}"
    with pytest.raises(StateError):
        Group.load({**group.rows(), name: closed(name, bytes(32))})


def test_who_is_welcomed_by_a_committer_that_saved_itself_in_between_agrees(three: Company):
    ada, finn = three["ada"], replace(three.person("finn"), capabilities=ABLE)
    bundle = finn.key_package()
    pending = ada.commit([Add(bundle.key_package)], wire_format=WireFormat.PRIVATE_MESSAGE)
    assert pending.group_before is not None
    assert pending.welcome is not None
    restarted, after = Group.load(pending.group_before.rows()), Group.load(pending.group.rows())
    ada.held = restarted.take_up(after)
    for name in ("ben", "mallory"):
        three[name].follow(pending.commit)
    finn.held = join(pending.welcome, pending.ratchet_tree, bundle, finn.signature_key.private, now_s=NOW_S)
    three.people["finn"] = finn
    three.check_agreement()
