"""What a decided case still holds of people is taken out once nobody can object to the decision any more.

The decision, its statement, its leaf and the audit chain stay; the snapshot of the subject, sealed reports, and the
names and e-mail addresses of reporters go. Six months: as long as an objection may be filed (DSA Art. 20), and as long
as removed terrorist content is to be kept for review (Regulation (EU) 2021/784 Art. 6).
"""

from typing import Final

from heliograph.server.context import Context
from heliograph.server.db.database import Transaction

KEPT_AFTER_DECISION_MS: Final = 184 * 86_400_000
CASES_AT_ONCE: Final = 200


async def forget_decided(context: Context) -> None:
    """Take the contents out of cases that were decided more than six months ago, some at a time."""
    before_ms = context.now_ms() - KEPT_AFTER_DECISION_MS
    while await context.database.write(lambda tx: _forget(tx, before_ms)) == CASES_AT_ONCE:
        pass


def _forget(tx: Transaction, before_ms: int) -> int:
    rows = tx.all(
        "SELECT case_id FROM cases WHERE state = 'decided' AND NOT EXISTS"
        " (SELECT 1 FROM decisions d WHERE d.case_id = cases.case_id AND d.effective_at_ms >= ?) LIMIT ?",
        *(before_ms, CASES_AT_ONCE),
    )
    for (case,) in rows:
        tx.run("UPDATE reports SET contact = NULL, sealed = NULL WHERE case_id = ?", case)
        tx.run("UPDATE cases SET snapshot = ?, state = 'closed' WHERE case_id = ?", b"", case)
    return len(rows)
