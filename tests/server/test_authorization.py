"""Who may do what: every operation, asked by everyone, about objects that are not theirs.

The table is the contract: a new operation fails here until it has its row. `ok` is an answer, everything else the
type of the refusal. Each call has a session and, where it changes something, objects of its own.
"""

import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.proposal import Remove
from heliograph.wire import accounts as a
from heliograph.wire import channels as c
from heliograph.wire import moderation as m
from heliograph.wire import rooms as r
from heliograph.wire.account_state import Signer, sign_state
from heliograph.wire.accounts import Empty
from heliograph.wire.ids import CaseId, ChannelId, Handle, RoomId, TopicId, channel_id
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import Problem
from tests.server.phones import SUITE, Phone, encoded, joined_peer, new_key, new_phone
from tests.server.town import (
    VIOLENCE,
    new_reviewer,
    open_cases,
    open_channel,
    publish,
    report,
    report_and_decide,
    ruling,
    signed_deletion,
    signed_edit,
    signed_post,
)
from tests.world import Person, World, world

CALLERS = ("nobody", "stranger", "reviewer", "administrator")

OPEN = ("ok", "ok", "ok", "ok")
LOGGED_IN = ("not-logged-in", "ok", "ok", "ok")
REVIEWER = ("not-logged-in", "not-allowed", "ok", "ok")
ADMINISTRATOR = ("not-logged-in", "not-allowed", "not-allowed", "ok")
CONCERNED = ("not-logged-in", "not-found", "ok", "ok")


def nobody(slug: str) -> tuple[str, str, str, str]:
    """Logged in or not, whatever the role: this is not theirs."""
    return (slug, slug, slug, slug)


def only_theirs(slug: str) -> tuple[str, str, str, str]:
    """A session is needed, and does not help: this is not theirs."""
    return ("not-logged-in", slug, slug, slug)


TABLE: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "get_server": {"": OPEN},
    "register": {"": OPEN},
    "resolve_handle": {"": OPEN},
    "get_account_chain": {"of a private person": ("not-found", "ok", "ok", "ok"), "of an author": OPEN},
    "put_account_state": {"of another": ("invalid-account-state", "not-allowed", "not-allowed", "not-allowed")},
    "recover_chain": {"of another": nobody("login-failed")},
    "set_role": {"": ADMINISTRATOR},
    "create_invitation": {"for a member": LOGGED_IN, "for a reviewer": ADMINISTRATOR, "for an admin": ADMINISTRATOR},
    "create_challenge": {"": OPEN},
    "create_session": {"of another's device": nobody("login-failed")},
    "end_session": {"": LOGGED_IN},
    "create_stream_ticket": {"": LOGGED_IN},
    "grant_consent": {"": LOGGED_IN},
    "withdraw_consent": {"": LOGGED_IN},
    "create_contact_token": {"": LOGGED_IN},
    "publish_key_packages": {"of another's device": only_theirs("invalid-key-package")},
    "count_key_packages": {"": LOGGED_IN},
    "claim_key_packages": {
        "without consent": only_theirs("no-consent"),
        "with a wrong token": only_theirs("no-consent"),
        "of nobody": only_theirs("no-consent"),
    },
    "create_room": {"with another's leaf": only_theirs("invalid-proposal")},
    "list_rooms": {"": LOGGED_IN},
    "get_room": {"": only_theirs("not-found")},
    "submit_commit": {"": only_theirs("not-found")},
    "submit_proposal": {"": only_theirs("not-found")},
    "submit_message": {"": only_theirs("not-found")},
    "get_group_info": {"": only_theirs("not-found")},
    "get_tree": {"": only_theirs("not-found")},
    "read_topic": {"a room": nobody("not-found"), "a mailbox": nobody("not-found"), "a channel": OPEN},
    "acknowledge": {
        "a room": only_theirs("not-found"),
        "a mailbox": only_theirs("not-found"),
        "a channel": LOGGED_IN,
    },
    "create_channel": {"": LOGGED_IN, "with another's id": only_theirs("key-reused")},
    "list_channels": {"": OPEN},
    "get_channel": {"": OPEN},
    "update_channel": {"": only_theirs("not-allowed")},
    "set_channel_role": {"for oneself": only_theirs("not-allowed"), "to unseat": only_theirs("not-allowed")},
    "submit_post": {"": only_theirs("not-allowed"), "in another's name": only_theirs("invalid-post")},
    "edit_post": {"": only_theirs("not-allowed"), "in another's name": only_theirs("invalid-post")},
    "delete_post": {"": only_theirs("not-allowed"), "in another's name": only_theirs("invalid-post")},
    "read_posts": {"": OPEN},
    "get_post": {"": OPEN},
    "follow": {"": LOGGED_IN},
    "unfollow": {"": LOGGED_IN},
    "list_following": {"": LOGGED_IN},
    "report_public": {"": OPEN},
    "report_private": {"": only_theirs("not-found")},
    "get_report_status": {"with a wrong receipt": nobody("not-found"), "with the receipt": OPEN},
    "publish_desk_key": {"": REVIEWER},
    "list_cases": {"": REVIEWER},
    "get_case": {"": REVIEWER},
    "attach_evidence": {"": ("not-logged-in", "not-allowed", "invalid-evidence", "invalid-evidence")},
    "check_frank": {"": REVIEWER},
    "decide": {"": REVIEWER},
    "get_decision": {"": OPEN},
    "get_statement": {"": CONCERNED},
    "get_decision_proof": {"": CONCERNED},
}


@dataclass
class Stage:
    """What is there to be asked about, and none of it belongs to who asks."""

    w: World
    alice: Phone
    author: Person
    room: RoomId
    channel: ChannelId
    receipt: m.ReportReceipt
    case: CaseId
    decision: m.Decided
    people: dict[str, Person]

    async def session(self, caller: str) -> Person | None:
        """Return a caller with a session of its own."""
        self.w.clock.advance_ms(1)  # the oldest sessions make room
        person = self.people.get(caller)
        if person is not None:
            await self.w.login(person)
        return person

    async def fresh_case(self) -> CaseId:
        """Return a case that nobody has decided."""
        post = await publish(self.w, self.author, self.channel, f"post {secrets.token_hex(4)}")
        await report(self.w, None, self.channel, post=post)
        return (await open_cases(self.w, self.people["reviewer"]))[-1].case


Build = Callable[[Stage, str, Person], Awaitable[msgspec.Struct] | msgspec.Struct]


async def new_stage(w: World) -> Stage:
    """Return a server with a private room, a channel, a report, a decision, and people to try them."""
    administrator = await w.administrator()
    reviewer, stranger = await new_reviewer(w), await w.register("eve")
    alice, author = await new_phone(w, "alice"), await w.register("olga")
    await alice.publish(2)
    room = await alice.create_room()
    await alice.send(room)
    channel = await open_channel(w, author)
    await publish(w, author, channel, "hello")
    post = await publish(w, author, channel, "terrible")
    decision = await report_and_decide(w, reviewer, channel, "remove-post", post=post)
    receipt = await report(w, None, channel, post=1)
    case = (await open_cases(w, reviewer))[-1].case
    people = {"stranger": stranger, "reviewer": reviewer, "administrator": administrator}
    return Stage(w, alice, author, room, channel, receipt, case, decision, people)


def someone(s: Stage, who: Person | None) -> Person:
    """Return who asks; who has no account asks as the stranger would."""
    return who or s.people["stranger"]


async def build(s: Stage, name: str, variant: str, who: Person | None) -> msgspec.Struct:
    """Return the request of a row of the table."""
    me, alice, room, channel = someone(s, who), s.alice, s.room, s.channel
    named = c.ChannelRequest(channel)
    match name, variant:
        case "register", _:
            new = s.w.new_person(f"new_{secrets.token_hex(4)}")
            return a.Register(new.handle, new.state.encode())
        case "resolve_handle", _:
            return a.ResolveHandle(Handle("alice"))
        case "get_account_chain", "of an author":
            return a.AccountRequest(s.author.account)
        case (("get_account_chain" | "grant_consent" | "withdraw_consent"), _):
            return a.AccountRequest(alice.account)
        case "put_account_state", _:
            state = s.w.next_state(s.author, s.author.state.state.devices)
            return a.PutAccountState(s.author.account, sign_state(state, Signer.ACCOUNT, me.account_key, ()).encode())
        case "set_role", _:
            return a.SetRole(alice.account, "member")
        case "create_invitation", "for a member":
            return a.CreateInvitation()
        case "create_invitation", "for a reviewer":
            return a.CreateInvitation("reviewer")
        case "create_invitation", _:
            return a.CreateInvitation("administrator")
        case "create_challenge", _:
            return a.CreateChallenge(alice.account, alice.device)
        case (("create_session" | "recover_chain"), _):
            given = await s.w.call("create_challenge", a.CreateChallenge(alice.account, alice.device))
            kind = a.CreateSession if name == "create_session" else a.RecoverChain
            return kind(alice.account, alice.device, given.challenge, s.w.login_signature(me, given))
        case "create_contact_token", _:
            return a.CreateContactToken()
        case "publish_key_packages", _:
            return a.PublishKeyPackages((encoded(alice.key_package()),))
        case "claim_key_packages", "without consent":
            return a.ClaimKeyPackages(alice.account)
        case "claim_key_packages", "with a wrong token":
            return a.ClaimKeyPackages(alice.account, 1, secrets.token_urlsafe(32))
        case "claim_key_packages", _:
            return a.ClaimKeyPackages(s.w.new_person("nobody").account)
        case "create_channel", "":
            handle = Handle(f"square_{secrets.token_hex(4)}")
            return c.CreateChannel(channel_id(secrets.token_bytes(16)), handle, "Square")
        case "create_channel", _:
            return c.CreateChannel(channel, Handle(f"square_{secrets.token_hex(4)}"), "Square")
        case "list_channels", _:
            return c.ListChannels()
        case "update_channel", _:
            return c.UpdateChannel(channel, title="Mine now")
        case "set_channel_role", "for oneself":
            return c.SetChannelRole(channel, me.account, "owner")
        case "set_channel_role", _:
            return c.SetChannelRole(channel, s.author.account)
        case "submit_post", "":
            return signed_post(s.w, me, channel)
        case "submit_post", _:
            return signed_post(s.w, s.author, channel)
        case "edit_post", "":
            return signed_edit(s.w, me, channel, 1)
        case "edit_post", _:
            return signed_edit(s.w, s.author, channel, 1)
        case "delete_post", "":
            return signed_deletion(s.w, me, channel, 1)
        case "delete_post", _:
            return signed_deletion(s.w, s.author, channel, 1)
        case "read_posts", _:
            return c.ReadPosts(channel)
        case "get_post", _:
            return c.GetPost(channel, 1)
        case (("get_channel" | "follow" | "unfollow"), _):
            return named
        case "create_room" | "get_room" | "submit_commit" | "submit_proposal" | "submit_message", _:
            return about_a_room(alice, name, room)
        case "get_group_info", _:
            return r.GetGroupInfo(room, SUITE.derive_key_pair(bytes(32))[1])
        case "get_tree", _:
            return r.GetTree(room, alice.groups[room].group_context.tree_hash)
        case (("read_topic" | "acknowledge"), _):
            topic = TopicId({"a room": room, "a mailbox": alice.device, "a channel": channel}[variant])
            return r.ReadTopic(topic) if name == "read_topic" else r.Acknowledge(topic, 0)
        case _:
            return await about_moderation(s, name, variant)


def about_a_room(alice: Phone, name: str, room: RoomId) -> msgspec.Struct:
    """Return what alice could send about her room, for someone else to send."""
    match name:
        case "create_room":
            return alice.creation()
        case "get_room":
            return r.RoomRequest(room)
        case "submit_commit":
            return alice.submission(room, alice.build(room))
        case "submit_proposal":
            _, message = alice.groups[room].propose(
                Remove(alice.groups[room].own_leaf_index), random=os.urandom, now_s=alice.now_s()
            )
            return r.SubmitProposal(room, new_key(), alice.groups[room].epoch, message)
        case _:
            return alice.message(room)


async def about_moderation(s: Stage, name: str, variant: str) -> msgspec.Struct:
    """Return a request about reports, cases and decisions."""
    match name, variant:
        case "report_public", _:
            return m.ReportPublic(s.channel, VIOLENCE, secrets.token_hex(8), True)
        case "report_private", _:
            return m.ReportPrivate(s.room, bytes(64))
        case "get_report_status", "with the receipt":
            return m.GetReportStatus(s.receipt.report, s.receipt.receipt)
        case "get_report_status", _:
            return m.GetReportStatus(s.receipt.report, secrets.token_urlsafe(32))
        case "publish_desk_key", _:
            return m.PublishDeskKey(secrets.token_bytes(32))
        case "list_cases", _:
            return m.ListCases()
        case "get_case", _:
            return m.CaseRequest(s.case)
        case "attach_evidence", _:
            return m.AttachEvidence(s.case, b"\x00")
        case "check_frank", _:
            return m.CheckFrank(bytes(32), b"context", b"2026-09", bytes(32))
        case "decide", _:
            return ruling(await s.fresh_case(), "remove-post")
        case (("get_decision" | "get_statement" | "get_decision_proof"), _):
            return m.DecisionRequest(s.decision.decision)
        case _:
            assert OPERATIONS[name].request is Empty, f"{name} needs a request here"
            return Empty()


async def answer_to(s: Stage, name: str, request: msgspec.Struct, who: Person | str | None) -> str:
    """Return `ok`, or the type of the refusal."""
    try:
        await s.w.call(name, request, who)
    except Problem as problem:
        return problem.slug
    return "ok"


def test_every_operation_has_its_row() -> None:
    assert TABLE.keys() == OPERATIONS.keys()


async def test_everyone_gets_exactly_what_the_table_says(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stage = await new_stage(w)
        wrong: list[str] = []
        for name, rows in TABLE.items():
            for variant, expected in rows.items():
                for caller, wanted in zip(CALLERS, expected, strict=True):
                    who = await stage.session(caller)
                    request = await build(stage, name, variant, who)
                    got = await answer_to(stage, name, request, who)
                    if got != wanted:
                        wrong.append(f"{name} ({variant}) by {caller}: {got}, not {wanted}")
        assert wrong == []


async def test_the_owner_of_an_object_may_do_what_others_may_not(tmp_path: Path) -> None:
    """What is refused above is refused because it is not theirs, and not because it is wrong."""
    async with world(tmp_path) as w:
        stage = await new_stage(w)
        for name in ("get_room", "get_group_info", "get_tree", "submit_message", "report_private", "submit_commit"):
            request = await build(stage, name, "", None)
            assert await answer_to(stage, name, request, stage.alice.token) == "ok", name
        for variant in ("a room", "a mailbox"):
            for name in ("read_topic", "acknowledge"):
                request = await build(stage, name, variant, None)
                assert await answer_to(stage, name, request, stage.alice.token) == "ok", name
        theirs = {
            "update_channel": c.UpdateChannel(stage.channel, title="Better news"),
            "submit_post": signed_post(w, stage.author, stage.channel),
            "edit_post": signed_edit(w, stage.author, stage.channel, 1),
            "delete_post": signed_deletion(w, stage.author, stage.channel, 1),
            "get_statement": m.DecisionRequest(stage.decision.decision),
            "get_decision_proof": m.DecisionRequest(stage.decision.decision),
        }
        for name, request in theirs.items():
            assert await answer_to(stage, name, request, stage.author) == "ok", name


async def test_a_session_that_has_ended_opens_nothing(tmp_path: Path) -> None:
    """By logout, or with its device: wherever a session is looked at, it is refused, and not taken for nobody."""
    async with world(tmp_path) as w:
        stage = await new_stage(w)
        stranger = stage.people["stranger"]
        laptop = await w.add_device(stranger)
        await w.remove_device(stranger, laptop.device)
        out = await w.login(stranger)
        await w.call("end_session", Empty(), out)
        for name, operation in OPERATIONS.items():
            variant = next(iter(TABLE[name]))
            for token in (laptop.token, out):
                request = await build(stage, name, variant, stranger)
                got = await answer_to(stage, name, request, token)
                wanted = TABLE[name][variant][0] if operation.access == "anyone" else "not-logged-in"
                assert got == wanted, name


async def test_a_role_is_lost_with_the_answer_that_takes_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stage = await new_stage(w)
        reviewer = stage.people["reviewer"]
        await w.call("set_role", a.SetRole(reviewer.account, "member"), stage.people["administrator"])
        for name, operation in OPERATIONS.items():
            if operation.access in ("reviewer", "administrator"):
                request = await build(stage, name, "", reviewer) if name != "decide" else ruling(stage.case)
                assert await answer_to(stage, name, request, reviewer) == "not-allowed", name
        request = m.DecisionRequest(stage.decision.decision)
        assert await answer_to(stage, "get_statement", request, reviewer) == "not-found"


REMOVED: dict[str, str] = {
    "get_room": "not-found",
    "submit_commit": "not-found",
    "submit_proposal": "not-found",
    "submit_message": "not-allowed",
    "get_group_info": "not-found",
    "get_tree": "not-found",
    "read_topic": "ok",
    "acknowledge": "ok",
    "report_private": "ok",
}
"""What a room's operations answer to a member that was removed: it keeps what it has read, and may report it."""


async def test_a_removed_member_has_what_it_had_and_nothing_more(tmp_path: Path) -> None:
    in_rooms = {name for name, one in OPERATIONS.items() if "{room}" in one.path or "{topic}" in one.path}
    assert REMOVED.keys() == in_rooms
    async with world(tmp_path) as w:
        stage = await new_stage(w)
        bob = await joined_peer(w, stage.alice, stage.room)
        await stage.alice.remove(stage.room, bob)
        for name, wanted in REMOVED.items():
            variant = "a room" if name in ("read_topic", "acknowledge") else ""
            request = await build(stage, name, variant, None)
            assert await answer_to(stage, name, request, bob.token) == wanted, name
        rooms = (await bob.ask("list_rooms", Empty())).rooms
        assert rooms == []


@pytest.mark.bad_input(47)
async def test_nobody_gives_themselves_a_role_by_naming_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        eve = w.new_person("eve")
        body: dict[str, Any] = {"handle": "eve", "state": "", "role": "administrator"}
        headers = {"Content-Type": "application/json"}
        async with w.http.post(w.url + "/v1/accounts", json=body, headers=headers) as answer:
            assert answer.status == 400
        await w.call("register", a.Register(eve.handle, eve.state.encode()))
        session = await w.open_session(eve)
        assert session.role == "member"
