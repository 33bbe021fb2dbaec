"""The one gate: what is restricted, asked by every route before it answers.

Rows come from moderation alone, each in the transaction of its decision; features only ask. So a block is in force on
every route from the decision's commit on, and this file says what a blocked place answers: 451 with the public
reason, the date, the decision and the way to object.
"""

from typing import Final

from heliograph.server.db.database import Reader
from heliograph.wire.channels import ChannelState
from heliograph.wire.ids import AccountId, ChannelId
from heliograph.wire.problems import Problem

APPEAL: Final = (
    "Whoever runs the channel, and whoever reported it, can object within six months, free of charge, "
    "to the operator of this server; the decision's number tells which case is meant. A court can be asked as well."
)

_IN_FORCE = """
    SELECT d.decision, d.reason, d.effective_at_ms
    FROM restrictions r JOIN decisions d ON d.decision = r.decision
    WHERE r.target = ? AND r.kind = ? AND r.lifted_by IS NULL ORDER BY r.number LIMIT 1
"""


def require_channel(reader: Reader, channel: ChannelId) -> None:
    """Refuse where the channel is blocked.

    Raises:
        Problem: `channel-restricted`.
    """
    _require(reader, channel, "block-channel", "channel-restricted", "this channel is blocked")


def require_account(reader: Reader, account: AccountId) -> None:
    """Refuse where the account is suspended or ended.

    Raises:
        Problem: `account-restricted`.
    """
    for kind in ("suspend-account", "end-account"):
        _require(reader, account, kind, "account-restricted", "this account is suspended")


def channel_state(reader: Reader, channel: ChannelId) -> ChannelState:
    """Return whether a channel is open, limited (absent from the directory) or blocked."""
    kinds = {kind for (kind,) in reader.all(_KINDS_IN_FORCE, channel)}
    if "block-channel" in kinds:
        return "blocked"
    return "limited" if kinds & {"limit-reach", "hide-from-search"} else "open"


_KINDS_IN_FORCE = "SELECT kind FROM restrictions WHERE target = ? AND lifted_by IS NULL"


def _require(reader: Reader, target: str, kind: str, slug: str, detail: str) -> None:
    row = reader.one(_IN_FORCE, target, kind)
    if row is not None:
        decision, reason, decided_at_ms = row
        raise Problem(
            slug,
            f"{detail}: {reason}",
            decision=decision,
            reason=reason,
            decided_at_ms=decided_at_ms,
            appeal=APPEAL,
        )
