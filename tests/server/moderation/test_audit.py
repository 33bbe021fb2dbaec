"""The audit chain: what was written cannot be changed, taken out or put in without being found."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.server.db.database import Transaction
from heliograph.server.moderation import audit
from tests.world import World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        for number in range(5):
            await running.context.database.write(
                lambda tx, at_ms=number: audit.record(tx, at_ms, "ann", "act", "thing")
            )  # type: ignore[misc]
        yield running


async def tamper(w: World, sql: str, *args: int | str | bytes) -> None:
    def act(tx: Transaction) -> None:
        assert tx.run(sql, *args)

    await w.context.database.write(act)


async def broken(w: World) -> str:
    """Return what the check of the chain says."""
    with pytest.raises(audit.AuditError) as found:
        await w.context.database.read(audit.verify_audit)
    return str(found.value)


async def test_an_untouched_chain_holds(w: World) -> None:
    assert await w.context.database.read(audit.verify_audit) == 5


async def test_an_empty_chain_holds(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await w.context.database.read(audit.verify_audit) == 0


@pytest.mark.bad_input(124)
@pytest.mark.parametrize(
    "change",
    ["actor = 'bob'", "act = 'other'", "object = 'other'", "detail = 'other'", "at_ms = 99", "prev_hash = x'00'"],
)
async def test_a_changed_event_is_found(w: World, change: str) -> None:
    await tamper(w, f"UPDATE audit_events SET {change} WHERE seq = 3")  # noqa: S608
    assert await broken(w) == "audit event 3 was changed"


@pytest.mark.bad_input(124)
async def test_a_removed_event_is_found(w: World) -> None:
    await tamper(w, "DELETE FROM audit_events WHERE seq = 3")
    assert await broken(w) == "audit event 3 is missing"


@pytest.mark.bad_input(124)
async def test_events_cut_off_at_the_end_are_found(w: World) -> None:
    await tamper(w, "DELETE FROM audit_events WHERE seq > 3")
    assert await broken(w) == "the audit chain ends at event 3, and its head says 5"


@pytest.mark.bad_input(124)
async def test_a_changed_event_with_a_new_hash_of_its_own_breaks_the_next(w: World) -> None:
    rows = await w.context.database.read(
        lambda reader: reader.all(
            "SELECT seq, at_ms, actor, act, object, detail, prev_hash FROM audit_events WHERE seq = 3"
        )
    )
    seq, at_ms, _, act, thing, detail, prev_hash = rows[0]
    event = audit.AuditEvent(seq, at_ms, "bob", act, thing, detail)
    own_hash = audit.event_hash(prev_hash, event)
    await tamper(w, "UPDATE audit_events SET actor = 'bob', hash = ? WHERE seq = 3", own_hash)
    assert await broken(w) == "audit event 4 was changed"


async def test_two_events_with_their_fields_shifted_have_different_hashes() -> None:
    one = audit.AuditEvent(1, 0, "ab", "c", "", "")
    other = audit.AuditEvent(1, 0, "a", "bc", "", "")
    assert audit.event_hash(audit.GENESIS_HASH, one) != audit.event_hash(audit.GENESIS_HASH, other)
