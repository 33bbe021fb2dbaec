"""One way to say no: `Problem`, on HTTP as RFC 9457, on the socket as a frame.

`PROBLEMS` is the whole list. A problem is raised where the rule stands, and caught once, by the edge that
answers. Its `detail` is a sentence for a person that says what to do next; it never holds a secret.
"""

from typing import Final

import msgspec


class ProblemType(msgspec.Struct, frozen=True):
    """What every problem of one type has in common: its slug, HTTP status and title."""

    slug: str
    status: int
    title: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A problem as it travels: RFC 9457 members, then the few extensions that clients act on.

    `retry_after_s` says when to try again; `decision`, `reason` and `decided_at_ms` stand in the answers of a
    restricted place; `epoch` is the room's present epoch, where a commit or message named another.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    retry_after_s: int | None = None
    decision: str | None = None
    reason: str | None = None
    decided_at_ms: int | None = None
    appeal: str | None = None
    epoch: int | None = None


def _table(*rows: tuple[str, int, str]) -> dict[str, ProblemType]:
    return {slug: ProblemType(slug, status, title) for slug, status, title in rows}


PROBLEMS: Final = _table(
    ("malformed", 400, "The request could not be read"),
    ("invalid-account-state", 400, "The account state does not continue the account's chain"),
    ("invalid-key-package", 400, "The key package is not valid"),
    ("invalid-proposal", 400, "The commit or proposal breaks a rule of the group"),
    ("invalid-message", 400, "The message is not framed as a sealed message of this room"),
    ("invalid-post", 400, "The post is not what its signature says"),
    ("invalid-evidence", 400, "The evidence does not hold"),
    ("invalid-handle", 400, "The handle cannot be used"),
    ("not-logged-in", 401, "A session is needed"),
    ("login-failed", 401, "The login could not be verified"),
    ("ticket-refused", 401, "The ticket is used up, expired, or not yours"),
    ("not-allowed", 403, "The caller may not do this"),
    ("no-consent", 403, "The key packages of this account cannot be claimed"),
    ("invitation-refused", 403, "The invitation is used up, expired, or unknown"),
    ("not-found", 404, "There is nothing here"),
    ("method-not-allowed", 405, "This address does not know that method"),
    ("wrong-epoch", 409, "Another commit came first"),
    ("epoch-too-old", 409, "The message was sealed for a past epoch"),
    ("wrong-state", 409, "The account has moved on: fetch its chain and build again"),
    ("key-reused", 409, "The idempotency key was used for another request"),
    ("handle-taken", 409, "The handle is taken"),
    ("room-exists", 409, "The room exists already"),
    ("already-decided", 409, "The case has been decided by another"),
    ("incarnation-changed", 409, "The server was restored from a backup: resynchronise"),
    ("post-removed", 410, "The post was removed"),
    ("too-large", 413, "The request is larger than the limit"),
    ("unsupported-media-type", 415, "The body must be application/json"),
    ("too-many-requests", 429, "Too many requests"),
    ("channel-restricted", 451, "The channel is blocked"),
    ("account-restricted", 451, "The account is suspended"),
    ("internal-error", 500, "The server failed"),
    ("overloaded", 503, "The server cannot take more work now"),
    ("storage-full", 507, "The server has no space to keep this"),
)


class Problem(Exception):
    """A refusal with a name. `Problem("wrong-epoch", "the room is at epoch 7", epoch=7)`."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        retry_after_s: int | None = None,
        decision: str | None = None,
        reason: str | None = None,
        decided_at_ms: int | None = None,
        appeal: str | None = None,
        epoch: int | None = None,
    ) -> None:
        kind = PROBLEMS[slug]
        self.body = ProblemBody(
            type=kind.slug,
            title=kind.title,
            status=kind.status,
            detail=detail,
            retry_after_s=retry_after_s,
            decision=decision,
            reason=reason,
            decided_at_ms=decided_at_ms,
            appeal=appeal,
            epoch=epoch,
        )
        super().__init__(f"{kind.slug}: {detail or kind.title}")

    @property
    def slug(self) -> str:
        """The problem's type, in kebab case."""
        return self.body.type

    @classmethod
    def received(cls, body: ProblemBody) -> "Problem":
        """Return the problem that a peer answered with; an unknown type reads as `internal-error`."""
        problem = cls(body.type if body.type in PROBLEMS else "internal-error", body.detail)
        problem.body = body
        return problem
