"""Scripts of the kinds that the working group's runner plays, each a function of a `Script` that has just begun.

Beyond the runner's own assertions they look at what came of the proposals: who is in the group, which extensions it
has, whether all read each other.
"""

from collections.abc import Callable

from heliograph.mls.commit import Commit
from heliograph.mls.extension import Extension, ExternalSenders
from heliograph.mls.framing import PublicMessage
from tests.interop.mls_client.described import body_of
from tests.interop.mls_client.runner import Description, Script

# Required capabilities that require nothing, and a list of no external senders.
NOTHING_REQUIRED: Description = {"extension_type": 3, "extension_data": b"\0\0\0"}
NO_SENDERS: Description = {"extension_type": 5, "extension_data": b"\0"}
BOTH = [NOTHING_REQUIRED, NO_SENDERS]
BOTH_DECODED = (Extension(3, b"\0\0\0"), Extension(5, b"\0"))

_OTHER_SUITE = {1: 2, 2: 3, 3: 5, 5: 7, 7: 1, 0xF04E: 1}


def _welcome(script: Script, *, force_path: bool, external_tree: bool) -> None:
    script.create_group("alice")
    add = script.propose("alice", "AddProposal", key_package=script.key_package("bob"))
    sent = script.full_commit("alice", [add], joiners=["bob"], force_path=force_path, external_tree=external_tree)
    if not script.encrypt_handshake:
        commit = body_of(sent, PublicMessage).content.content
        assert isinstance(commit, Commit)
        assert (commit.path is not None) == force_path
    script.check_agreement("alice", "bob")


def welcome_without_path_secret(script: Script) -> None:
    """Join by a Welcome of a commit without a path."""
    _welcome(script, force_path=False, external_tree=False)


def welcome_with_path_secret(script: Script) -> None:
    """Join by a Welcome of a commit with a path."""
    _welcome(script, force_path=True, external_tree=False)


def welcome_with_external_tree(script: Script) -> None:
    """Join with the tree beside the Welcome."""
    _welcome(script, force_path=True, external_tree=True)


def welcome_with_psk(script: Script) -> None:
    """Join by a commit that mixes in a key which the newcomer was given while it waited."""
    script.create_group("alice")
    add = script.propose("alice", "AddProposal", key_package=script.key_package("bob"))
    psk_id, _ = script.install_psk("alice", "bob")
    psk = script.propose("alice", "ExternalPSKProposal", psk_id=psk_id)
    script.full_commit("alice", [add, psk], joiners=["bob"])
    script.check_agreement("alice", "bob")


def external_join(script: Script) -> None:
    """Join by external commits, with the tree in the GroupInfo and beside it, in groups of one and of many."""
    script.create_group("alice")
    script.external_join("alice", "bob")
    script.external_join("bob", "charlie", ["alice"], external_tree=True)
    script.full_commit("charlie", members=["alice", "bob"])
    script.external_join("charlie", "diana", ["alice", "bob"])
    script.check_agreement("alice", "bob", "charlie", "diana")


def external_join_with_psks(script: Script) -> None:
    """Join by an external commit that mixes in two keys."""
    script.create_group("alice")
    psks = [script.install_psk("alice"), script.install_psk("alice")]
    script.external_join("alice", "bob", psks=psks)
    script.check_agreement("alice", "bob")


def external_join_removing_prior(script: Script) -> None:
    """Join again by an external commit that removes one's old leaf."""
    script.create_group("alice", ["bob", "charlie"])
    script.external_join("alice", "bob", ["charlie"], remove_prior=True)
    assert script.identities("alice") == ["alice", "bob", "charlie"]
    script.check_agreement("alice", "bob", "charlie")


def application_messages(script: Script) -> None:
    """Read messages out of order, within an epoch and across two."""
    script.create_group("alice", ["bob"])
    texts = [f"hello world {number}".encode() for number in range(6)]

    def protect(text: bytes) -> bytes:
        return script.ask("alice", "Protect", plaintext=text, authenticated_data=text[::-1]).ciphertext

    sealed = [protect(text) for text in texts[:3]]
    script.full_commit("alice", members=["bob"])
    sealed += [protect(text) for text in texts[3:]]
    for number in (5, 3, 4, 2, 0, 1):
        opened = script.ask("bob", "Unprotect", ciphertext=sealed[number])
        assert (opened.plaintext, opened.authenticated_data) == (texts[number], texts[number][::-1])


def commit_of_nothing(script: Script) -> None:
    """Commit no proposals, again and again by turns."""
    script.create_group("alice", ["bob"])
    for _ in range(2):
        script.full_commit("alice", members=["bob"])
        script.full_commit("bob", members=["alice"], force_path=True)
    script.check_agreement("alice", "bob")


def commit_of_adds(script: Script) -> None:
    """Add members by reference, by one's own and another's proposals, and by value, with and without a path."""
    script.create_group("alice")
    script.external_join("alice", "bob")
    present = ["alice", "bob"]
    for force_path, names in ((True, ["charlie1", "charlie2", "charlie3"]), (False, ["charlie4", "charlie5", "dora"])):
        packages = [script.key_package(name) for name in names]
        proposals = [
            script.propose("alice", "AddProposal", key_package=packages[0]),
            script.propose("bob", "AddProposal", key_package=packages[1]),
        ]
        add = {"proposal_type": b"add", "key_package": packages[2]}
        script.full_commit("alice", proposals, [add], members=present[1:], joiners=names, force_path=force_path)
        present += names
    script.check_agreement(*present)


def commit_of_removes(script: Script) -> None:
    """Remove members by reference and by value; the removed learn that they are out."""
    script.create_group("alice", ["bob", "charlie1", "charlie2", "charlie3"])
    proposals = [
        script.propose("alice", "RemoveProposal", removed_id=b"charlie1"),
        script.propose("bob", "RemoveProposal", removed_id=b"charlie2"),
    ]
    remove = {"proposal_type": b"remove", "removed_id": b"charlie3"}
    commit = script.full_commit("alice", proposals, [remove], members=["bob"])
    for removed in ("charlie1", "charlie2", "charlie3"):
        handled = script.ask(removed, "HandleCommit", proposal=proposals, commit=commit)
        assert handled.epoch_authenticator == b""
    assert script.identities("bob") == ["alice", "bob"]
    script.check_agreement("alice", "bob")


def commit_of_updates(script: Script) -> None:
    """Commit the updates of others."""
    script.create_group("alice", ["bob", "charlie"])
    updates = [script.propose(name, "UpdateProposal") for name in ("bob", "charlie")]
    before = script.group_info("alice").group_context.tree_hash
    script.full_commit("alice", updates, members=["bob", "charlie"])
    assert script.group_info("alice").group_context.tree_hash != before
    script.check_agreement("alice", "bob", "charlie")


def commit_of_group_context_extensions(script: Script) -> None:
    """Set the group's extensions, empty them by another's proposal, and set them by value."""
    script.create_group("alice")
    script.external_join("alice", "bob")
    proposal = script.propose("alice", "GroupContextExtensionsProposal", extensions=BOTH)
    script.full_commit("alice", [proposal], members=["bob"])
    assert script.group_info("bob").group_context.extensions == BOTH_DECODED
    proposal = script.propose("bob", "GroupContextExtensionsProposal", extensions=[])
    script.full_commit("alice", [proposal], members=["bob"])
    assert script.group_info("bob").group_context.extensions == ()
    described = {"proposal_type": b"groupContextExtensions", "extensions": [NOTHING_REQUIRED]}
    script.full_commit("alice", by_value=[described], members=["bob"])
    assert script.group_info("bob").group_context.extensions == BOTH_DECODED[:1]
    script.check_agreement("alice", "bob")


def commit_of_external_psks(script: Script) -> None:
    """Mix in keys by reference and by value, the same ones in two epochs, with and without a path."""
    script.create_group("alice")
    script.external_join("alice", "bob")
    psk_ids = [script.install_psk("alice", "bob")[0] for _ in range(3)]
    for force_path in (True, False):
        proposals = [
            script.propose("alice", "ExternalPSKProposal", psk_id=psk_ids[0]),
            script.propose("bob", "ExternalPSKProposal", psk_id=psk_ids[1]),
        ]
        described = {"proposal_type": b"externalPSK", "psk_id": psk_ids[2]}
        script.full_commit("alice", proposals, [described], members=["bob"], force_path=force_path)
    script.check_agreement("alice", "bob")


def commit_of_resumption_psks(script: Script) -> None:
    """Mix in the keys of this epoch and of two past ones."""
    script.create_group("alice")
    script.external_join("alice", "bob")
    script.full_commit("alice", members=["bob"])
    script.full_commit("alice", members=["bob"])
    for epoch in (1, 2):
        proposals = [
            script.propose("alice", "ResumptionPSKProposal", epoch_id=epoch),
            script.propose("bob", "ResumptionPSKProposal", epoch_id=epoch + 1),
        ]
        described = {"proposal_type": b"resumptionPSK", "epoch_id": epoch + 2}
        script.full_commit("alice", proposals, [described], members=["bob"], force_path=True)
    script.check_agreement("alice", "bob")


def _commit_of_everything(script: Script, proposer: str) -> None:
    script.create_group("alice", ["bob", "charlie1", "charlie2"])
    psk_ids = [script.install_psk("alice", "bob")[0] for _ in range(2)]
    packages = [script.key_package(name) for name in ("charlie3", "charlie4")]
    proposals = [
        script.propose(proposer, "AddProposal", key_package=packages[0]),
        script.propose(proposer, "RemoveProposal", removed_id=b"charlie1"),
        script.propose(proposer, "GroupContextExtensionsProposal", extensions=BOTH),
        script.propose(proposer, "ExternalPSKProposal", psk_id=psk_ids[0]),
        script.propose(proposer, "ResumptionPSKProposal", epoch_id=1),
    ]
    if proposer != "alice":
        proposals.append(script.propose(proposer, "UpdateProposal"))
    by_value: list[Description] = [
        {"proposal_type": b"add", "key_package": packages[1]},
        {"proposal_type": b"remove", "removed_id": b"charlie2"},
        {"proposal_type": b"externalPSK", "psk_id": psk_ids[1]},
    ]
    script.full_commit("alice", proposals, by_value, members=["bob"])
    assert script.identities("bob") == ["alice", "bob", "charlie3", "charlie4"]
    assert script.group_info("bob").group_context.extensions == BOTH_DECODED
    script.check_agreement("alice", "bob")


def commit_of_everything_by_the_committer(script: Script) -> None:
    """Commit a proposal of each type, all of the committer's own."""
    _commit_of_everything(script, "alice")


def commit_of_everything_by_another(script: Script) -> None:
    """Commit a proposal of each type, those by reference all of another member's."""
    _commit_of_everything(script, "bob")


def reinit_with_another_suite(script: Script) -> None:
    """Go on in a group of another cipher suite and the same name, founded by one who neither proposed nor committed."""
    script.create_group("alice", ["bob", "charlie", "diana"])
    script.reinit(
        "bob", "charlie", ["diana"], proposer="alice", cipher_suite=_OTHER_SUITE[script.suite_id], force_path=True
    )
    assert script.group_info("diana").group_context.cipher_suite == script.suite_id
    script.full_commit("alice", members=["bob", "charlie", "diana"])
    script.check_agreement("alice", "bob", "charlie", "diana")


def reinit_by_one_actor(script: Script) -> None:
    """Let one member propose, commit and found a successor of another name and with extensions."""
    script.create_group("alice", ["bob", "charlie"])
    script.reinit("alice", "alice", ["bob", "charlie"], proposer="alice", change_group_id=True, extensions=BOTH)
    context = script.group_info("bob").group_context
    assert (context.group_id, context.extensions) == (script.group_id, BOTH_DECODED)
    script.check_agreement("alice", "bob", "charlie")


def reinit_with_external_tree(script: Script) -> None:
    """Found the successor with the tree beside the Welcome."""
    script.create_group("alice", ["bob", "charlie"])
    script.reinit("bob", "charlie", [], proposer="alice", change_group_id=True, external_tree=True)
    script.check_agreement("alice", "bob", "charlie")


def branch(script: Script) -> None:
    """Branch off with all members, then with some, beside whom the others' group goes on."""
    script.create_group("alice", ["bob", "charlie", "diana"])
    old_states = dict(script.state_ids)
    script.branch("alice", ["bob", "charlie", "diana"], extensions=BOTH)
    assert script.group_info("diana").group_context.extensions == BOTH_DECODED
    script.full_commit("diana", members=["alice", "bob", "charlie"])
    script.check_agreement("alice", "bob", "charlie", "diana")
    script.branch("bob", ["diana"], external_tree=True, force_path=True)
    assert script.identities("diana") == ["bob", "diana"]
    script.check_agreement("bob", "diana")
    script.state_ids = old_states
    script.full_commit("charlie", members=["alice", "bob", "diana"])
    script.check_agreement("alice", "bob", "charlie", "diana")


def new_member_asks_to_be_added(script: Script) -> None:
    """Add someone who asked for it, by reference."""
    script.create_group("alice", ["bob"])
    add = script.new_member_add("alice", "charlie")
    script.full_commit("bob", [add], members=["alice"], joiners=["charlie"])
    script.check_agreement("alice", "bob", "charlie")


def external_signers_propose(script: Script) -> None:
    """Let two outsiders in, and commit what they propose: every type that an outsider may send but ReInit."""
    script.create_group("alice", ["bob", "charlie"])
    required = {"proposal_type": b"groupContextExtensions", "extensions": [NOTHING_REQUIRED]}
    script.full_commit("alice", by_value=[required], members=["bob", "charlie"])
    for signer in ("ds1", "ds2"):
        proposal = script.add_external_signer("alice", signer)
        script.full_commit("alice", [proposal], members=["bob", "charlie"])
    extensions = script.group_info("charlie").group_context.extensions
    assert BOTH_DECODED[0] in extensions
    senders = ExternalSenders.of(extensions)
    assert senders is not None
    assert [one.credential.identity for one in senders.senders] == [b"ds1", b"ds2"]
    psk_id, _ = script.install_psk("alice", "bob", "charlie")
    package = script.key_package("diana")
    epoch = script.group_info("alice").group_context.epoch
    described = script.external_signer_proposal
    proposals = [
        described("ds2", "alice", proposal_type=b"externalPSK", psk_id=psk_id),
        described("ds1", "bob", proposal_type=b"resumptionPSK", epoch_id=epoch - 1),
    ]
    script.full_commit("alice", proposals, members=["bob", "charlie"])
    proposals = [
        described("ds1", "alice", proposal_type=b"add", key_package=package),
        described("ds2", "alice", proposal_type=b"remove", removed_id=b"bob"),
        described("ds2", "alice", proposal_type=b"groupContextExtensions", extensions=[NOTHING_REQUIRED]),
    ]
    script.full_commit("alice", proposals, members=["charlie"], joiners=["diana"])
    assert script.identities("diana") == ["alice", "charlie", "diana"]
    assert script.group_info("diana").group_context.extensions == BOTH_DECODED[:1]
    script.check_agreement("alice", "charlie", "diana")


def external_signer_closes_the_group(script: Script) -> None:
    """Go on in another group because an outsider proposed it."""
    script.create_group("alice", ["bob", "charlie"])
    script.full_commit("alice", [script.add_external_signer("alice", "ds")], members=["bob", "charlie"])
    script.suite_id, script.group_id = _OTHER_SUITE[script.suite_id], script.group_id + b"++"
    proposal = script.external_signer_proposal(
        "ds",
        "alice",
        proposal_type=b"reinit",
        group_id=script.group_id,
        cipher_suite=script.suite_id,
        extensions=[NOTHING_REQUIRED],
    )
    script.reinit("alice", "bob", ["charlie"], proposal=proposal, force_path=True)
    assert script.group_info("charlie").group_context.group_id == script.group_id
    script.check_agreement("alice", "bob", "charlie")


SCRIPTS: tuple[Callable[[Script], None], ...] = (
    welcome_without_path_secret,
    welcome_with_path_secret,
    welcome_with_external_tree,
    welcome_with_psk,
    external_join,
    external_join_with_psks,
    external_join_removing_prior,
    application_messages,
    commit_of_nothing,
    commit_of_adds,
    commit_of_removes,
    commit_of_updates,
    commit_of_group_context_extensions,
    commit_of_external_psks,
    commit_of_resumption_psks,
    commit_of_everything_by_the_committer,
    commit_of_everything_by_another,
    reinit_with_another_suite,
    reinit_by_one_actor,
    reinit_with_external_tree,
    branch,
    new_member_asks_to_be_added,
    external_signers_propose,
    external_signer_closes_the_group,
)
