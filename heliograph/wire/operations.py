"""One table: every HTTP operation, typed. The server's routes, the SDK and OpenAPI all come from it.

A request struct holds what the path, the query (GET, DELETE) and the JSON body (others) say together; a field named
in the path may not stand in the body again. `limit` names a row of `server/limits.py`.
"""

from typing import Final, Literal, NamedTuple

import msgspec

from heliograph.wire import accounts as a
from heliograph.wire import channels as c
from heliograph.wire import moderation as m
from heliograph.wire import rooms as r
from heliograph.wire.accounts import Empty
from heliograph.wire.events import TopicEntries

Method = Literal["GET", "POST", "PUT", "DELETE"]
Access = Literal["anyone", "optional", "device", "reviewer", "administrator"]

SMALL_BODY_BYTES: Final = 64 * 1024
LARGE_BODY_BYTES: Final = 8 * 1024 * 1024


class Operation(NamedTuple):
    """One operation: who may call it, what it takes and gives, and which problems of its own it answers with.

    Besides its own, any operation may answer `malformed`, `too-large`, `too-many-requests`, `overloaded`,
    `internal-error`, `incarnation-changed` (where the request names one), and, where a session is needed,
    `not-logged-in`, `not-allowed` and `account-restricted`.
    """

    name: str
    method: Method
    path: str
    access: Access
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    limit: str
    problems: tuple[str, ...]
    summary: str
    body_limit_bytes: int = SMALL_BODY_BYTES


def _table(*operations: Operation) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations}


_BLOCKED = ("not-found", "channel-restricted")
_HANDSHAKE = ("not-found", "wrong-epoch", "invalid-proposal", "key-reused")

# fmt: off
OPERATIONS: Final = _table(
    # The server
    Operation("get_server", "GET", "/.well-known/heliograph", "anyone", Empty, a.ServerInfo, "read", (),
              "Tell what a client must know of this server."),
    # Accounts and devices
    Operation("register", "POST", "/v1/accounts", "anyone", a.Register, a.AccountInfo, "register",
              ("invalid-account-state", "invalid-handle", "handle-taken", "invitation-refused"),
              "Found an account."),
    Operation("resolve_handle", "GET", "/v1/handles/{handle}", "anyone", a.ResolveHandle, a.ResolvedHandle,
              "read", _BLOCKED, "Tell which account or channel a handle names."),
    Operation("get_account_chain", "GET", "/v1/accounts/{account}/chain", "optional", a.AccountRequest,
              a.AccountChain, "read", ("not-found",),
              "Give an account's signed states; without a session, only of accounts that have posted in public."),
    Operation("put_account_state", "POST", "/v1/accounts/{account}/states", "optional", a.PutAccountState,
              a.AccountChain, "account", ("not-found", "invalid-account-state", "wrong-state"),
              "Continue an account's chain: add or remove a device, change a key. The state's signatures are the "
              "authority: a new device, which can have no session yet, puts the state that adds it."),
    Operation("recover_chain", "POST", "/v1/accounts/{account}/recovery", "anyone", a.RecoverChain, a.AccountChain,
              "login", ("login-failed",),
              "Give an account's chain to who holds its recovery key, to build the state that brings it back."),
    Operation("set_role", "PUT", "/v1/accounts/{account}/role", "administrator", a.SetRole, a.AccountInfo,
              "account", ("not-found",), "Give an account a role on this server."),
    Operation("create_invitation", "POST", "/v1/invitations", "device", a.CreateInvitation, a.Invitation,
              "invite", (), "Make a single-use invitation; roles above member need an administrator."),
    # Sessions
    Operation("create_challenge", "POST", "/v1/sessions/challenge", "anyone", a.CreateChallenge, a.Challenge,
              "login", (), "Ask for a challenge to sign."),
    Operation("create_session", "POST", "/v1/sessions", "anyone", a.CreateSession, a.Session, "login",
              ("login-failed",), "Log in with a device's signature."),
    Operation("end_session", "DELETE", "/v1/sessions/current", "device", Empty, Empty, "account", (),
              "Log out: the token and its sockets end."),
    Operation("create_stream_ticket", "POST", "/v1/stream/ticket", "device", Empty, a.StreamTicket, "stream", (),
              "Make a one-time ticket for the socket."),
    # Consent and key packages
    Operation("grant_consent", "PUT", "/v1/consents/{account}", "device", a.AccountRequest, Empty, "account",
              ("not-found",), "Let an account start conversations with the caller."),
    Operation("withdraw_consent", "DELETE", "/v1/consents/{account}", "device", a.AccountRequest, Empty, "account",
              (), "Take consent back."),
    Operation("create_contact_token", "POST", "/v1/contact-tokens", "device", a.CreateContactToken,
              a.ContactToken, "invite", (), "Make a secret that lets its holders start conversations with the caller."),
    Operation("publish_key_packages", "POST", "/v1/key-packages", "device", a.PublishKeyPackages,
              a.KeyPackageCount, "key-packages", ("invalid-key-package",), "Offer key packages.", 3 * 1024 * 1024),
    Operation("count_key_packages", "GET", "/v1/key-packages", "device", Empty, a.KeyPackageCount, "read", (),
              "Count what the caller's device still offers."),
    Operation("claim_key_packages", "POST", "/v1/accounts/{account}/key-packages", "device", a.ClaimKeyPackages,
              a.ClaimedKeyPackages, "claim", ("no-consent",), "Take one key package of each device of an account."),
    # Rooms
    Operation("create_room", "POST", "/v1/rooms", "device", r.CreateRoom, r.RoomInfo, "commits",
              ("invalid-proposal", "room-exists"), "Create a room from a group of one.", LARGE_BODY_BYTES),
    Operation("list_rooms", "GET", "/v1/rooms", "device", Empty, r.Rooms, "read", (),
              "List the rooms of the caller's account."),
    Operation("get_room", "GET", "/v1/rooms/{room}", "device", r.RoomRequest, r.RoomInfo, "read", ("not-found",),
              "Tell a room's epoch and head."),
    Operation("submit_commit", "POST", "/v1/rooms/{room}/commits", "device", r.SubmitCommit, r.Submitted,
              "commits", _HANDSHAKE, "Move a room to its next epoch: one commit an epoch.", LARGE_BODY_BYTES),
    Operation("submit_proposal", "POST", "/v1/rooms/{room}/proposals", "device", r.SubmitProposal, r.Submitted,
              "commits", _HANDSHAKE, "Put a proposal before a room.", 2 * 1024 * 1024),
    Operation("submit_message", "POST", "/v1/rooms/{room}/messages", "device", r.SubmitMessage, r.Submitted,
              "send", ("not-found", "epoch-too-old", "wrong-epoch", "invalid-message", "key-reused"),
              "Send a sealed message.", 96 * 1024),
    Operation("get_group_info", "POST", "/v1/rooms/{room}/group-info", "device", r.GetGroupInfo,
              r.SealedGroupInfo, "commits", ("not-found",), "Give the GroupInfo for joining from outside."),
    Operation("get_tree", "GET", "/v1/rooms/{room}/trees/{tree_hash}", "device", r.GetTree, r.TreeReply, "read",
              ("not-found",), "Give the ratchet tree of a hash."),
    # Topics
    Operation("read_topic", "GET", "/v1/topics/{topic}/entries", "optional", r.ReadTopic, TopicEntries, "read",
              ("not-found", "channel-restricted", "incarnation-changed"), "Read entries after a cursor."),
    Operation("acknowledge", "POST", "/v1/topics/{topic}/acknowledgement", "device", r.Acknowledge, Empty, "read",
              ("not-found",), "Say up to where this device has kept everything."),
    # Channels
    Operation("create_channel", "POST", "/v1/channels", "device", c.CreateChannel, c.ChannelInfo, "channel",
              ("invalid-handle", "handle-taken", "key-reused"), "Open a channel."),
    Operation("list_channels", "GET", "/v1/channels", "anyone", c.ListChannels, c.Channels, "read", (),
              "Page through the directory."),
    Operation("get_channel", "GET", "/v1/channels/{channel}", "optional", c.ChannelRequest, c.ChannelInfo, "read",
              _BLOCKED, "Describe a channel."),
    Operation("update_channel", "PUT", "/v1/channels/{channel}", "device", c.UpdateChannel, c.ChannelInfo,
              "channel", _BLOCKED, "Change a channel's title, description or languages."),
    Operation("set_channel_role", "PUT", "/v1/channels/{channel}/roles/{account}", "device", c.SetChannelRole,
              Empty, "channel", _BLOCKED, "Give or take a role in a channel."),
    Operation("submit_post", "POST", "/v1/channels/{channel}/posts", "device", c.SubmitSigned, c.Published,
              "post", (*_BLOCKED, "invalid-post", "key-reused"), "Publish a signed post."),
    Operation("edit_post", "POST", "/v1/channels/{channel}/edits", "device", c.SubmitSigned, c.Published, "post",
              (*_BLOCKED, "invalid-post", "post-removed", "key-reused"), "Replace a post by a new signed version."),
    Operation("delete_post", "POST", "/v1/channels/{channel}/deletions", "device", c.SubmitSigned, c.Published,
              "post", (*_BLOCKED, "invalid-post", "post-removed", "key-reused"), "Delete a post."),
    Operation("read_posts", "GET", "/v1/channels/{channel}/posts", "optional", c.ReadPosts, c.PostPage, "read",
              _BLOCKED, "Read a channel's posts."),
    Operation("get_post", "GET", "/v1/channels/{channel}/posts/{post}", "optional", c.GetPost, c.PostView, "read",
              _BLOCKED, "Read one post, or its tombstone."),
    Operation("follow", "PUT", "/v1/following/{channel}", "device", c.ChannelRequest, Empty, "account", _BLOCKED,
              "Follow a channel."),
    Operation("unfollow", "DELETE", "/v1/following/{channel}", "device", c.ChannelRequest, Empty, "account", (),
              "Follow a channel no more."),
    Operation("list_following", "GET", "/v1/following", "device", Empty, c.Channels, "read", (),
              "List the channels that the caller follows."),
    # Reports, cases, decisions
    Operation("report_public", "POST", "/v1/reports", "optional", m.ReportPublic, m.ReportReceipt, "report",
              (*_BLOCKED, "post-removed"), "Report a channel or a post; no account is needed."),
    Operation("report_private", "POST", "/v1/rooms/{room}/reports", "device", m.ReportPrivate, m.ReportReceipt,
              "report", ("not-found",), "Report messages of a private room, sealed to the desk.", 2 * 1024 * 1024),
    Operation("get_report_status", "POST", "/v1/reports/{report}/status", "anyone", m.GetReportStatus,
              m.ReportStatus, "read", ("not-found",), "Tell what became of a report."),
    Operation("publish_desk_key", "PUT", "/v1/desk/key", "reviewer", m.PublishDeskKey, Empty, "account", (),
              "Publish the key that private reports are sealed to."),
    Operation("list_cases", "GET", "/v1/cases", "reviewer", m.ListCases, m.Cases, "read", (),
              "Page through the queue."),
    Operation("get_case", "GET", "/v1/cases/{case}", "reviewer", m.CaseRequest, m.CaseView, "read",
              ("not-found",), "Open a case."),
    Operation("attach_evidence", "POST", "/v1/cases/{case}/evidence", "reviewer", m.AttachEvidence,
              m.EvidenceView, "decide", ("not-found", "invalid-evidence"),
              "Attach a disclosed message; the server verifies it again.", 2 * 1024 * 1024),
    Operation("check_frank", "POST", "/v1/franks/check", "reviewer", m.CheckFrank, m.FrankChecked, "decide", (),
              "Ask whether a frank's MAC is the hub's own."),
    Operation("decide", "POST", "/v1/cases/{case}/decisions", "reviewer", m.Decide, m.Decided, "decide",
              ("not-found", "already-decided"), "Decide a case."),
    Operation("get_decision", "GET", "/v1/decisions/{decision}", "anyone", m.DecisionRequest, m.PublicDecision,
              "read", ("not-found",), "Tell what anyone may know of a decision."),
    Operation("get_statement", "GET", "/v1/decisions/{decision}/statement", "device", m.DecisionRequest,
              m.StatementOfReasons, "read", ("not-found",), "Give the affected their statement of reasons."),
    Operation("get_decision_proof", "GET", "/v1/decisions/{decision}/proof", "device", m.DecisionRequest,
              m.DecisionProof, "read", ("not-found",),
              "Give the affected (or a reviewer) the proof that the decision stands in the log."),
)
# fmt: on

STREAM_PATH: Final = "/v1/stream"
INCARNATION_HEADER: Final = "Heliograph-Incarnation"
"""Names the server's past that a request was built on: a server with another past answers `incarnation-changed`."""
CHECKPOINT_PATH: Final = "/log/decisions/checkpoint"
TILE_PREFIX: Final = "/log/decisions/tile"
