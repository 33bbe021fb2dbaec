import json
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli import verify
from heliograph.cli.decide import category_name, keyword_name, measures
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.report import read_receipt
from tests.cli.served import Town, town

__all__ = ["town"]

GROUNDS = (
    *("--reason", "It asks for PINs.", "--facts", "Three posts ask for PINs.", "--language", "en"),
    *("--ground", "incompatible-content", "--ground-reference", "Terms, section 4."),
    *("--category", "scams-and-fraud", "--keyword", "phishing"),
)


@pytest.fixture(scope="module")
def desk(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A server with an administrator, a reviewer who has the desk key, and Vera's channel."""
    secret = tmp_path_factory.mktemp("secrets") / "invitation"
    secret.write_text(town.first_invitation, encoding="utf-8")
    town.json("ada", "account", "create", "ada", "--invitation-file", str(secret)).one()
    invitation = town.json("ada", "admin", "invite", "--role", "reviewer").one()["invitation"]
    town.json("rosa", "account", "create", "rosa", "--invitation-file", "-", given=invitation).one()
    town.json("rosa", "admin", "desk-key", "create").one()
    town.newcomer("vera")
    return town


def _reported_post(desk: Town, handle: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Open a channel, publish a post and report it; return the post's name, the receipt and the case."""
    desk.json("vera", "channel", "create", handle, "News").one()
    number = desk.json("vera", "channel", "post", handle, "Send me your PIN.").one()["seq"]
    receipt = desk.json(
        *("nobody", "report", "post", f"{handle}/{number}", "It asks for PINs.", "--good-faith"),
        *("--category", "scams-and-fraud", "--keyword", "phishing", "--server", desk.url),
    ).one()
    case = next(one for one in desk.json("rosa", "case", "list").lines if one["subject"].endswith(f"/{number}"))
    while case["subject"].split("/")[0] != desk.json("vera", "channel", "show", handle).one()["channel"]:
        case = desk.json("rosa", "case", "list", "--after", case["case"]).lines[0]
    return f"{handle}/{number}", receipt, case


def test_from_a_report_without_an_account_to_a_proof_that_anyone_can_check(desk: Town, tmp_path: Path) -> None:
    _, receipt, case = _reported_post(desk, "fraud_news")
    waiting = desk.json("nobody", "report", "status", "--server", desk.url, given=json.dumps(receipt)).one()
    decided = desk.json("rosa", "decide", case["case"], "--block-channel", *GROUNDS).one()
    answered = desk.json("nobody", "report", "status", "--server", desk.url, given=json.dumps(receipt)).one()
    proof = tmp_path / "proof.json"
    proof.write_text(desk.run("vera", "decision", "proof", decided["decision"]).out, encoding="utf-8")

    assert (waiting["state"], answered["state"], answered["decision"]) == ("received", "answered", decided["decision"])
    assert desk.run("vera", "channel", "post", "fraud_news", "Hello?").code == ExitCode.RESTRICTED
    blocked = desk.run("nobody", "channel", "read", "fraud_news", "--server", desk.url)
    assert (blocked.code, "It asks for PINs." in blocked.err) == (ExitCode.RESTRICTED, True)
    assert verify.main([str(proof)]) == ExitCode.OK


def test_the_owner_is_told_why_and_how_to_object(desk: Town) -> None:
    _, _, case = _reported_post(desk, "other_fraud")
    decided = desk.json("rosa", "decide", case["case"], "--remove-post", *GROUNDS).one()

    told = [line for line in desk.json("vera", "receive").lines if line["type"] == "statement"]
    statement = desk.run("vera", "decision", "statement", decided["decision"]).out

    assert decided["decision"] in {line["statement"]["decision"] for line in told}
    assert "object within six months" in statement
    assert desk.run("nobody", "decision", "show", decided["decision"], "--server", desk.url).code == ExitCode.OK


def test_a_case_is_decided_once(desk: Town) -> None:
    _, _, case = _reported_post(desk, "fine_news")
    first = desk.run("rosa", "decide", case["case"], "--no-action", *GROUNDS)
    second = desk.run("rosa", "decide", case["case"], "--block-channel", *GROUNDS)
    assert (first.code, second.code) == (ExitCode.OK, ExitCode.REFUSED)
    assert desk.run("nobody", "channel", "read", "fine_news", "--server", desk.url).code == ExitCode.OK


def test_only_reviewers_see_cases(desk: Town) -> None:
    assert desk.run("vera", "case", "list").code == ExitCode.REFUSED


def test_a_private_message_is_reported_with_proof_and_attached_as_evidence(desk: Town) -> None:
    for handle in ("carol", "erin"):
        desk.newcomer(handle)
    desk.run("carol", "account", "allow", "erin")
    room = desk.json("erin", "room", "create", "Us", "carol").one()["room"]
    threat = desk.json("erin", "send", room, "Pay, or your lamps burn.").one()["seq"]
    desk.json("carol", "receive")
    desk.json(
        "carol", "report", "messages", "Us", str(threat), "--category", "cyber-violence", "--note", "-", given="!"
    )

    case = next(one for one in desk.json("rosa", "case", "list").lines if one["kind"] == "room")
    opened = desk.json("rosa", "case", "open", case["case"]).lines
    attached = desk.json("rosa", "case", "attach", case["case"], str(opened[-1]["item"])).one()

    assert (opened[-1]["verdict"], opened[-1]["text"]) == ("proven", "Pay, or your lamps burn.")
    assert attached["verdict"] == "proven"
    assert "PROVEN" in desk.run("rosa", "case", "show", case["case"]).out


def test_a_second_reviewer_opens_reports_with_the_exported_desk_key(desk: Town) -> None:
    invitation = desk.json("ada", "admin", "invite", "--role", "reviewer").one()["invitation"]
    desk.json("ruth", "account", "create", "ruth", "--invitation-file", "-", given=invitation).one()
    secret = desk.run("rosa", "admin", "desk-key", "export").out
    assert desk.run("ruth", "admin", "desk-key", "import", given=secret).code == ExitCode.OK
    assert desk.run("vera", "admin", "desk-key", "import", given="heliograph-desk-key:AAAA").code != ExitCode.OK


def test_an_administrator_gives_a_role_and_a_member_cannot(desk: Town) -> None:
    desk.newcomer("mina")
    assert desk.run("mina", "admin", "role", "mina", "administrator").code == ExitCode.REFUSED
    assert desk.json("ada", "admin", "role", "mina", "reviewer").one()["role"] == "reviewer"


@pytest.mark.bad_input(118)
def test_a_report_without_good_faith_is_not_sent(desk: Town) -> None:
    refused = desk.run("vera", "report", "channel", "fine_news", "because", "--category", "scams-and-fraud")
    assert (refused.code, "--good-faith" in refused.err) == (ExitCode.USAGE, True)


def test_a_message_that_is_not_there_cannot_be_reported(desk: Town) -> None:
    room = desk.json("vera", "room", "create", "Empty").one()["room"]
    refused = desk.run("vera", "report", "messages", room, "77", "--category", "scams-and-fraud")
    assert refused.code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [((True, False, False), ["block-channel"]), ((True, True, False), ["block-channel", "remove-post"])],
)
def test_a_measure_is_a_flag_of_its_own(flags: tuple[bool, bool, bool], kinds: list[str]) -> None:
    block, remove, nothing = flags
    chosen = measures(block_channel=block, remove_post=remove, no_action=nothing)
    assert [one.kind for one in chosen] == kinds


@pytest.mark.parametrize("flags", [(False, False, False), (True, False, True)])
def test_no_default_decides_anything(flags: tuple[bool, bool, bool]) -> None:
    block, remove, nothing = flags
    with pytest.raises(CommandError, match="--no-action"):
        measures(block_channel=block, remove_post=remove, no_action=nothing)


def test_the_long_names_of_the_lists_may_be_shortened() -> None:
    assert category_name("scams-and-fraud") == category_name("STATEMENT_CATEGORY_SCAMS_AND_FRAUD")
    assert keyword_name("phishing") == keyword_name("KEYWORD_PHISHING") == "KEYWORD_PHISHING"


@pytest.mark.parametrize("text", ["", "x", "scams & fraud", "ｓcams", "a" * 65])
def test_what_can_be_no_name_of_the_lists_is_refused_as_usage(text: str) -> None:
    with pytest.raises(CommandError, match="DSA"):
        category_name(text)


def test_a_receipt_is_read_as_it_was_printed() -> None:
    report = "rp" + "a" * 26
    texts = (f"report  {report}\nreceipt s3cret\n", json.dumps({"report": report, "receipt": "s3cret"}))
    assert {(one.report, one.receipt) for one in map(read_receipt, texts)} == {(report, "s3cret")}


@pytest.mark.parametrize("text", ["", "rp", "{", "{}", '{"report": 1, "receipt": 2}', "a\nb"])
def test_what_is_no_receipt_is_refused_as_usage(text: str) -> None:
    with pytest.raises(CommandError, match="not a receipt"):
        read_receipt(text)
