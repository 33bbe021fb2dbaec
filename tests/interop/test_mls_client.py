import itertools
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.interop.mls_client.client import CIPHER_SUITES, Client
from tests.interop.mls_client.protocol import calls
from tests.interop.mls_client.runner import Peer, Script
from tests.interop.mls_client.scripts import SCRIPTS
from tests.interop.mls_client.shelf import Shelf, UnknownIdError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    """Two clients, as a runner has them: each a process of its own behind a port of its own."""
    command = [sys.executable, "-m", "tests.interop.mls_client", "--port", "0"]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        first_lines = [process.stdout.readline() for process in processes if process.stdout]
        assert all(first_lines), "a client did not start"
        yield [line.split()[-1] for line in first_lines]
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def peers(addresses: list[str]) -> Iterator[list[Peer]]:
    peers = [Peer(address, called=set()) for address in addresses]
    yield peers
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("encrypt_handshake", [False, True], ids=["public", "private"])
@pytest.mark.parametrize("suite_id", CIPHER_SUITES)
@pytest.mark.parametrize("play", SCRIPTS, ids=lambda play: play.__name__)
def test_two_clients_play_a_script_and_agree(
    peers: list[Peer], play: Callable[[Script], None], suite_id: int, encrypt_handshake: bool
) -> None:
    script = Script(peers, suite_id, encrypt_handshake)

    play(script)

    script.free()


def test_every_call_of_the_protocol_is_answered(addresses: list[str]) -> None:
    called: set[str] = set()
    peers = [Peer(address, called) for address in addresses]
    for play in SCRIPTS:
        script = Script(peers, 1, encrypt_handshake=True)
        play(script)
        script.free()
    for peer in peers:
        assert peer.call("Name").name == "heliograph"
        assert tuple(peer.call("SupportedCiphersuites").ciphersuites) == CIPHER_SUITES
        peer.close()

    assert called == set(calls())


@pytest.fixture
def script(peers: list[Peer]) -> Script:
    """Alice and Bob in a group, each played by another client, with private handshakes."""
    script = Script(peers, 1, encrypt_handshake=True)
    script.create_group("alice", ["bob"])
    return script


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the status with which a call is refused, and the error's text."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((name, "state_id") for name in ("GroupInfo", "StateAuth", "Export", "Protect", "Unprotect", "Free")),
        *((name, "state_id") for name in ("AddProposal", "UpdateProposal", "RemoveProposal", "ReInitProposal")),
        *((name, "state_id") for name in ("ExternalPSKProposal", "ResumptionPSKProposal", "AddExternalSigner")),
        *((name, "state_id") for name in ("GroupContextExtensionsProposal", "CreateBranch", "HandleBranch")),
        *((name, "state_id") for name in ("Commit", "HandleCommit", "HandlePendingCommit")),
        *((name, "state_id") for name in ("ReInitCommit", "HandleReInitCommit", "HandlePendingReInitCommit")),
        ("JoinGroup", "transaction_id"),
        ("StorePSK", "state_or_transaction_id"),
        ("ReInitWelcome", "reinit_id"),
        ("HandleReInitWelcome", "reinit_id"),
        ("ExternalSignerProposal", "signer_id"),
    ],
)
def test_a_call_on_an_unknown_number_is_not_found(script: Script, name: str, field: str) -> None:
    status, text = refusal(lambda: script.peer("alice").call(name, **{field: 4_000_000_000}))

    assert status is grpc.StatusCode.NOT_FOUND
    assert "4000000000" in text


def test_a_freed_state_is_gone_and_its_number_is_not_given_out_again(script: Script) -> None:
    freed = script.state_ids["alice"]
    script.free()

    assert refusal(lambda: script.ask("alice", "StateAuth"))[0] is grpc.StatusCode.NOT_FOUND
    script.create_group("alice")
    assert script.state_ids["alice"] > freed


def test_states_transactions_and_signers_never_have_the_same_number() -> None:
    client = Client(secrets.token_bytes, lambda: 1_790_000_000)

    numbers = [
        client.create_group(b"group", 1, b"alice", False)["state_id"],
        client.create_key_package(1, b"bob")["transaction_id"],
        client.create_external_signer(1, b"ds")["signer_id"],
    ]

    assert len(set(numbers)) == 3


GARBAGE = b"\x00\x01\x00\x01garbage"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Unprotect", {"ciphertext": GARBAGE}),
        ("AddProposal", {"key_package": GARBAGE}),
        ("AddExternalSigner", {"external_sender": GARBAGE}),
        ("Commit", {"by_reference": [GARBAGE]}),
        ("Commit", {"by_value": [{"proposal_type": b"add", "key_package": GARBAGE}]}),
        ("Commit", {"by_value": [{"proposal_type": b"update"}]}),
        ("HandleCommit", {"commit": GARBAGE}),
        ("HandleReInitCommit", {"commit": GARBAGE}),
        ("CreateBranch", {"group_id": b"new", "key_packages": [GARBAGE]}),
        ("GroupContextExtensionsProposal", {"extensions": [{"extension_type": 70_000}]}),
        ("GroupContextExtensionsProposal", {"extensions": [{"extension_type": 3}, {"extension_type": 3}]}),
        ("ReInitProposal", {"group_id": b"new", "cipher_suite": 70_000}),
        ("Export", {"label": "too long", "key_length": 4_000_000_000}),
    ],
)
def test_a_senseless_request_is_refused_and_leaves_the_state_whole(
    script: Script, name: str, fields: dict[str, object]
) -> None:
    pending = script.propose("bob", "UpdateProposal")

    status, text = refusal(lambda: script.ask("alice", name, **fields))

    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert text
    script.full_commit("alice", [pending], members=["bob"])
    script.check_agreement("alice", "bob")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("JoinGroup", {"welcome": GARBAGE}),
        ("ExternalJoin", {"group_info": GARBAGE}),
        ("NewMemberAddProposal", {"group_info": GARBAGE}),
    ],
)
def test_a_garbage_message_from_which_to_join_is_refused(script: Script, name: str, fields: dict[str, object]) -> None:
    script.key_package("charlie")
    if name == "JoinGroup":
        fields = {**fields, "transaction_id": script.transaction_ids["charlie"]}

    status, _ = refusal(lambda: script.peer("charlie").call(name, **fields))

    assert status is grpc.StatusCode.INVALID_ARGUMENT


def test_a_welcome_that_was_refused_can_still_be_joined_by(script: Script) -> None:
    add = script.propose("alice", "AddProposal", key_package=script.key_package("charlie"))
    number = script.transaction_ids["charlie"]
    refusal(lambda: script.peer("charlie").call("JoinGroup", transaction_id=number, welcome=GARBAGE))

    script.full_commit("alice", [add], members=["bob"], joiners=["charlie"])

    script.check_agreement("alice", "bob", "charlie")


def test_a_key_package_is_used_once(script: Script) -> None:
    add = script.propose("alice", "AddProposal", key_package=script.key_package("charlie"))
    built = script.ask("alice", "Commit", by_reference=[add])
    join = {"transaction_id": script.transaction_ids["charlie"], "welcome": built.welcome}
    script.peer("charlie").call("JoinGroup", **join)

    assert refusal(lambda: script.peer("charlie").call("JoinGroup", **join))[0] is grpc.StatusCode.NOT_FOUND


def test_a_tree_that_is_asked_for_is_beside_the_welcome_and_not_in_it(script: Script) -> None:
    add = script.propose("alice", "AddProposal", key_package=script.key_package("charlie"))
    built = script.ask("alice", "Commit", by_reference=[add], external_tree=True)
    join = {"transaction_id": script.transaction_ids["charlie"], "welcome": built.welcome}

    refused = refusal(lambda: script.peer("charlie").call("JoinGroup", **join))

    assert refused[0] is not grpc.StatusCode.OK
    assert script.peer("charlie").call("JoinGroup", **join, ratchet_tree=built.ratchet_tree).epoch_authenticator


def test_a_tree_that_is_asked_for_is_beside_the_group_info_and_not_in_it(script: Script) -> None:
    told = script.ask("alice", "GroupInfo", external_tree=True)
    join = {"group_info": told.group_info, "identity": b"charlie"}

    refused = refusal(lambda: script.peer("charlie").call("ExternalJoin", **join))

    assert refused[0] is not grpc.StatusCode.OK
    assert script.peer("charlie").call("ExternalJoin", **join, ratchet_tree=told.ratchet_tree).commit


def test_an_unknown_cipher_suite_is_unimplemented(script: Script) -> None:
    assert (
        refusal(lambda: script.peer("alice").call("CreateGroup", group_id=b"new", cipher_suite=4, identity=b"alice"))[0]
        is grpc.StatusCode.UNIMPLEMENTED
    )


def test_a_replayed_message_fails_its_precondition(script: Script) -> None:
    ciphertext = script.ask("alice", "Protect", plaintext=b"once").ciphertext
    script.ask("bob", "Unprotect", ciphertext=ciphertext)

    assert refusal(lambda: script.ask("bob", "Unprotect", ciphertext=ciphertext))[0] is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    script.check_agreement("alice", "bob")


def test_a_pending_commit_must_exist_to_be_handled(script: Script) -> None:
    assert refusal(lambda: script.ask("bob", "HandlePendingCommit"))[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_a_member_without_the_pre_shared_key_cannot_follow_a_commit_of_it(script: Script) -> None:
    psk_id, psk = script.install_psk("alice")
    commit = script.ask("alice", "Commit", by_value=[{"proposal_type": b"externalPSK", "psk_id": psk_id}]).commit

    refused = refusal(lambda: script.ask("bob", "HandleCommit", commit=commit))

    assert refused[0] is grpc.StatusCode.FAILED_PRECONDITION
    script.ask("alice", "HandlePendingCommit")
    bob = script.state_ids["bob"]
    script.peer("bob").call("StorePSK", state_or_transaction_id=bob, psk_id=psk_id, psk_secret=psk)
    assert script.ask("bob", "HandleCommit", commit=commit).epoch_authenticator


def test_a_member_without_the_pre_shared_key_cannot_follow_an_external_join_with_it(script: Script) -> None:
    told = script.ask("alice", "GroupInfo")
    psk = {"psk_id": b"known to none", "psk_secret": b"of the members"}
    joined = script.peer("charlie").call("ExternalJoin", group_info=told.group_info, identity=b"charlie", psks=[psk])

    refused = refusal(lambda: script.ask("alice", "HandleCommit", commit=joined.commit))

    assert refused[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_a_private_commit_and_a_later_proposal_are_sealed_with_different_keys(script: Script) -> None:
    commit = script.ask("alice", "Commit").commit
    update = script.propose("alice", "UpdateProposal")

    assert script.ask("bob", "HandleCommit", proposal=[update], commit=commit).epoch_authenticator


def test_a_proposal_that_cannot_be_committed_is_not_quietly_left_out(script: Script) -> None:
    own_update = script.propose("alice", "UpdateProposal")

    refused = refusal(lambda: script.ask("alice", "Commit", by_reference=[own_update]))

    assert refused[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert "cannot be committed" in refused[1]


def test_a_commit_covers_only_the_proposals_that_it_is_told_of(script: Script) -> None:
    script.propose("alice", "RemoveProposal", removed_id=b"bob")
    add = script.propose("alice", "AddProposal", key_package=script.key_package("charlie"))

    script.full_commit("alice", [add], members=["bob"], joiners=["charlie"])

    assert script.identities("charlie") == ["alice", "bob", "charlie"]


def test_the_committer_may_be_handed_its_own_commit(script: Script) -> None:
    commit = script.ask("alice", "Commit").commit

    handled = [script.ask(actor, "HandleCommit", commit=commit).epoch_authenticator for actor in ("alice", "bob")]

    assert handled[0] == handled[1]
    assert handled[0]


def test_a_member_whose_commit_lost_follows_the_one_that_won(script: Script) -> None:
    update = script.propose("bob", "UpdateProposal")
    lost = script.ask("alice", "Commit", by_reference=[update]).commit
    won = script.ask("bob", "Commit").commit
    assert lost != won

    followed = script.ask("alice", "HandleCommit", proposal=[update], commit=won)

    assert followed.epoch_authenticator == script.ask("bob", "HandlePendingCommit").epoch_authenticator


def test_nobody_can_be_removed_or_returned_under_an_unknown_name(script: Script) -> None:
    told = script.ask("alice", "GroupInfo")
    calls_by_name = [
        lambda: script.ask("alice", "RemoveProposal", removed_id=b"mallory"),
        lambda: script.peer("bob").call(
            "ExternalJoin", group_info=told.group_info, identity=b"mallory", remove_prior=True
        ),
    ]

    assert [refusal(call)[0] for call in calls_by_name] == [grpc.StatusCode.NOT_FOUND] * 2


def test_a_signer_whom_the_group_does_not_list_proposes_nothing(script: Script) -> None:
    script.add_external_signer("alice", "ds")

    refused = refusal(
        lambda: script.external_signer_proposal("ds", "alice", proposal_type=b"remove", removed_id=b"bob")
    )

    assert refused[0] is grpc.StatusCode.NOT_FOUND


def test_a_commit_that_closes_nothing_is_not_taken_for_a_reinitialization(script: Script) -> None:
    commit = script.ask("alice", "Commit").commit

    assert refusal(lambda: script.ask("bob", "HandleReInitCommit", commit=commit))[0] is (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    assert script.ask("bob", "HandleCommit", commit=commit).epoch_authenticator


def test_a_closed_group_sends_nothing_more(script: Script) -> None:
    proposal = script.propose("alice", "ReInitProposal", cipher_suite=2, group_id=b"new")
    script.full_commit("alice", [proposal], members=["bob"])

    for name in ("Protect", "Commit", "UpdateProposal"):
        assert refusal(lambda name=name: script.ask("alice", name))[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_two_clients_cannot_share_a_port(addresses: list[str]) -> None:
    port = addresses[0].rsplit(":", 1)[1]
    command = [sys.executable, "-m", "tests.interop.mls_client", "--port", port]

    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert second.returncode != 0
    assert second.stdout == ""


def test_a_shelf_drops_what_was_unused_for_longest() -> None:
    shelf = Shelf[str]("thing", itertools.count(1), limit=2)
    first, second = shelf.put("first"), shelf.put("second")
    shelf.get(first)

    third = shelf.put("third")

    assert [number in shelf for number in (first, second, third)] == [True, False, True]
    with pytest.raises(UnknownIdError, match="no thing has the number 2"):
        shelf.get(second)
    shelf.drop(third)
    assert shelf.put("fourth") == third + 1
