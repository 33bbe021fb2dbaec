"""The cases that clients of all languages share."""

import json
from typing import Any

import pytest

from heliograph.client.identity import CredentialError, KnownAccount, learn_account, validate_credential
from heliograph.wire.encoding import base64url_bytes
from heliograph.wire.ids import AccountId, Handle
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Change, Role, RoomPolicy, check_change
from tests.cases.make import FILES, FOLDER, text_of

CREDENTIALS: dict[str, Any] = json.loads((FOLDER / "credentials.json").read_text())
POLICY: dict[str, Any] = json.loads((FOLDER / "room_policy.json").read_text())


def named(cases: list[dict[str, Any]]) -> list[Any]:
    """Return cases as parameters with their names."""
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("name", FILES)
def test_the_case_files_are_what_their_maker_writes(name: str) -> None:
    assert (FOLDER / name).read_text() == text_of(FILES[name]())


@pytest.mark.rule("RFC 9420 §5.3.1")
@pytest.mark.parametrize("case", named([case for case in CREDENTIALS["cases"] if case["valid"]]))
def test_a_leaf_is_the_device_that_it_says(case: dict[str, Any]) -> None:
    judge_credential(case)


@pytest.mark.rule("RFC 9420 §5.3.1")
@pytest.mark.parametrize("case", named([case for case in CREDENTIALS["cases"] if not case["valid"]]))
def test_a_leaf_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(CredentialError):
        judge_credential(case)


def judge_credential(case: dict[str, Any]) -> None:
    """Verify the chain, then the leaf by it."""
    known: KnownAccount | None = None
    account = AccountId(case["account"])
    if case["chain"] is not None:
        states = [base64url_bytes(state) for state in CREDENTIALS["chains"][case["chain"]]]
        known = learn_account(account, Handle("someone"), states, None)
    validate_credential(
        case["uri"],
        base64url_bytes(case["signature_key"]),
        domain=case["domain"],
        known=known,
        participants=[AccountId(one) for one in case["participants"]],
        catching_up=case["catching_up"],
    )


@pytest.mark.parametrize("case", named([case for case in POLICY["cases"] if case["refused"] is None]))
def test_the_policy_allows(case: dict[str, Any]) -> None:
    judge_change(case)


@pytest.mark.parametrize("case", named([case for case in POLICY["cases"] if case["refused"] is not None]))
def test_the_policy_refuses(case: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        judge_change(case)

    assert refused.value.slug == case["refused"]


def judge_change(case: dict[str, Any]) -> None:
    """Ask the policy about a change."""

    def policy(side: dict[str, Any]) -> RoomPolicy:
        participants = {AccountId(one): Role(role) for one, role in side["participants"].items()}
        return RoomPolicy(case["domain"], side["direct"], participants, bytes(32))

    change = Change(
        AccountId(case["committer"]),
        case["external"],
        tuple(case["added"]),
        tuple(case["removed"]),
        tuple(case["present"]),
        frozenset(case["dropped"]),
        frozenset(case["leaving"]),
    )
    check_change(policy(case["before"]), policy(case["after"]), change)
