"""Key packages: what a device offers so that others can add it while it is away, each handed out once.

```
publish --> key_packages --claim: DELETE ... RETURNING--> claims --a commit adds it--> used
                 |
                 last resort: stays, and is handed out again when nothing else is left
```

A package leaves the pool in the transaction that hands it out, so two takers, or one taker and a crash, never get the
same. What was handed out is remembered by its KeyPackageRef, not by its taker: a commit may add no other packages, and
none twice. Source: RFC 9420 §10, §16.8.
"""

import asyncio
from dataclasses import dataclass

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import LAST_RESORT_LIFETIME_LIMIT_S, LIFETIME_LIMIT_S
from heliograph.mls.suite import cipher_suite
from heliograph.server import consents, credentials, log
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.wire.accounts import (
    ClaimedKeyPackage,
    ClaimedKeyPackages,
    ClaimKeyPackages,
    Empty,
    KeyPackageCount,
    PublishKeyPackages,
)
from heliograph.wire.events import KeyPackagesLowEvent
from heliograph.wire.ids import AccountId, DeviceId, mailbox_topic
from heliograph.wire.problems import Problem

HOUR_MS = 3_600_000
_REFUSAL = "invalid-key-package"


@dataclass(frozen=True, slots=True)
class _Offer:
    """A package that holds by itself; whether its key is the device's is asked where it is written."""

    encoded: bytes
    reference: bytes
    key_package: KeyPackage
    last_resort: bool

    @property
    def expires_at_ms(self) -> int:
        lifetime = self.key_package.leaf_node.lifetime
        return 0 if lifetime is None else lifetime.not_after * 1000


async def publish_key_packages(context: Context, caller: Caller, request: PublishKeyPackages) -> KeyPackageCount:
    """Add one-time packages to the pool of the caller's device, and replace its package of last resort."""
    now_ms = context.now_ms()
    offers = await asyncio.to_thread(_read_offers, request, now_ms)

    def act(tx: Transaction) -> KeyPackageCount:
        for offer in offers:
            _insert(tx, context, caller, offer)
        _check_pool(tx, context, caller.device)
        for suite in {offer.key_package.cipher_suite for offer in offers}:
            tx.run("DELETE FROM key_package_notices WHERE device = ? AND suite = ?", caller.device, suite)
        return _count(tx, caller.device, now_ms)

    return await context.database.write(act)


async def count_key_packages(context: Context, caller: Caller, request: Empty) -> KeyPackageCount:
    """Count what the caller's device still offers."""
    del request
    now_ms = context.now_ms()
    return await context.database.read(lambda reader: _count(reader, caller.device, now_ms))


async def claim_key_packages(context: Context, caller: Caller, request: ClaimKeyPackages) -> ClaimedKeyPackages:
    """Take one key package of each device of an account; a device that offers none for the suite is left out."""
    if request.account != caller.account:
        pair = f"{caller.account} {request.account}"
        context.admission.charge("claim-target", pair, context.now_ms())

    def act(tx: Transaction) -> ClaimedKeyPackages:
        consents.require_consent(context, tx, caller.account, request.account, request.contact_token)
        now_ms = context.now_ms()
        _check_rate(tx, context, request.account, now_ms)
        devices = tx.all(
            "SELECT device FROM devices WHERE account = ? AND removed_at_ms IS NULL ORDER BY added_at_ms, device",
            request.account,
        )
        taken = (_take(tx, context, request.account, DeviceId(device), request.suite, now_ms) for (device,) in devices)
        return ClaimedKeyPackages([package for package in taken if package is not None])

    return await context.database.write(act)


def require_claimed(reader: Reader, reference: bytes) -> None:
    """Refuse a KeyPackageRef that was not handed out here.

    Raises:
        Problem: `invalid-proposal`.
    """
    _require_usable(reader, reference)


def use_claim(tx: Transaction, reference: bytes) -> bool:
    """Mark a claimed package as added to a group, and return whether it is one of last resort.

    Raises:
        Problem: `invalid-proposal`, it was not handed out here, or it has been added before and is for one use.
    """
    last_resort = _require_usable(tx, reference)
    if not last_resort:
        tx.run("UPDATE claims SET used = 1 WHERE reference = ?", reference)
    return last_resort


def _require_usable(reader: Reader, reference: bytes) -> bool:
    row = reader.one("SELECT last_resort, used FROM claims WHERE reference = ?", reference)
    if row is None:
        raise Problem("invalid-proposal", "a key package is added that was not claimed here")
    if row[1]:
        raise Problem("invalid-proposal", "a key package is added that has been used already")
    return bool(row[0])


def _read_offers(request: PublishKeyPackages, now_ms: int) -> list[_Offer]:
    """A hundred packages are three hundred signatures: not for the event loop."""
    offers = [_read_offer(encoded, now_ms, last_resort=False) for encoded in request.key_packages]
    if request.last_resort is not None:
        offers.append(_read_offer(request.last_resort, now_ms, last_resort=True))
    return offers


def _read_offer(encoded: bytes, now_ms: int, *, last_resort: bool) -> _Offer:
    """Hold a package to every rule that needs no database. Source: RFC 9420 §10.1."""
    try:
        body = MLSMessage.decode(encoded).body
        if not isinstance(body, KeyPackage):
            raise Problem(_REFUSAL, "the message is not a key package")
        suite = cipher_suite(body.cipher_suite)
        limit_s = LAST_RESORT_LIFETIME_LIMIT_S if last_resort else LIFETIME_LIMIT_S
        body.validate(suite, now_ms // 1000, lifetime_limit_s=limit_s)
    except MLSError as error:
        raise Problem(_REFUSAL, str(error)) from None
    if body.is_last_resort and not last_resort:
        raise Problem(_REFUSAL, "a package that is marked as the last resort is offered as a one-time package")
    return _Offer(encoded, body.reference(suite), body, last_resort)


def _insert(tx: Transaction, context: Context, caller: Caller, offer: _Offer) -> None:
    named = credentials.require_leaf(tx, context.domain, offer.key_package.leaf_node, _REFUSAL)
    if named != (caller.account, caller.device):
        raise Problem(_REFUSAL, "the package is of another device than the caller's")
    known = tx.one(
        "SELECT 1 FROM key_packages WHERE reference = ? UNION ALL SELECT 1 FROM claims WHERE reference = ?",
        offer.reference,
        offer.reference,
    )
    if known is not None:
        raise Problem(_REFUSAL, "this package was published before")
    suite = offer.key_package.cipher_suite
    if offer.last_resort:
        tx.run("DELETE FROM key_packages WHERE device = ? AND suite = ? AND last_resort = 1", caller.device, suite)
    tx.run(
        "INSERT INTO key_packages (reference, account, device, suite, last_resort, key_package, expires_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        offer.reference,
        caller.account,
        caller.device,
        suite,
        int(offer.last_resort),
        offer.encoded,
        offer.expires_at_ms,
    )


def _check_pool(tx: Transaction, context: Context, device: DeviceId) -> None:
    limit = context.limits.key_packages_per_device
    tx.run("DELETE FROM key_packages WHERE device = ? AND expires_at_ms <= ?", device, context.now_ms())
    full = tx.one(
        "SELECT 1 FROM key_packages WHERE device = ? AND last_resort = 0 GROUP BY suite HAVING count(*) > ?",
        device,
        limit,
    )
    if full is not None:
        raise Problem(_REFUSAL, f"a device offers at most {limit} one-time packages of a cipher suite")


def _count(reader: Reader, device: DeviceId, now_ms: int) -> KeyPackageCount:
    rows = reader.all(
        "SELECT last_resort, count(*) FROM key_packages WHERE device = ? AND expires_at_ms > ? GROUP BY last_resort",
        device,
        now_ms,
    )
    counts = dict(rows)
    return KeyPackageCount(counts.get(0, 0), counts.get(1, 0) > 0)


def _check_rate(tx: Transaction, context: Context, account: AccountId, now_ms: int) -> None:
    """Slow down whoever drains one account, alone or together; the last resort is there all the while."""
    (count,) = tx.one(
        "SELECT count(*) FROM claims WHERE account = ? AND claimed_at_ms > ? AND last_resort = 0",
        account,
        now_ms - HOUR_MS,
    ) or (0,)
    if count >= context.limits.claims_per_account_and_hour:
        raise Problem("too-many-requests", "too many key packages of this account were taken", retry_after_s=600)


def _take(
    tx: Transaction, context: Context, account: AccountId, device: DeviceId, suite: int, now_ms: int
) -> ClaimedKeyPackage | None:
    row = tx.one(
        "DELETE FROM key_packages WHERE reference = (SELECT reference FROM key_packages WHERE device = ?"
        " AND suite = ? AND last_resort = 0 AND expires_at_ms > ? ORDER BY expires_at_ms, reference LIMIT 1)"
        " RETURNING reference, key_package, expires_at_ms",
        device,
        suite,
        now_ms,
    )
    last_resort = row is None
    if row is None:
        row = tx.one(
            "SELECT reference, key_package, expires_at_ms FROM key_packages"
            " WHERE device = ? AND suite = ? AND last_resort = 1 AND expires_at_ms > ?",
            device,
            suite,
            now_ms,
        )
    if row is None:
        return None
    reference, key_package, expires_at_ms = row
    is_first = tx.run(
        "INSERT INTO claims (reference, account, device, last_resort, used, claimed_at_ms, expires_at_ms)"
        " VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING",
        reference,
        account,
        device,
        int(last_resort),
        now_ms,
        expires_at_ms,
    )
    _tell_if_low(tx, context, device, suite, now_ms, last_resort_used=last_resort and is_first > 0)
    return ClaimedKeyPackage(device, key_package, last_resort)


def _tell_if_low(
    tx: Transaction, context: Context, device: DeviceId, suite: int, now_ms: int, *, last_resort_used: bool
) -> None:
    """Ask the owner for more, once after each time that it published, and when the last resort is first used."""
    (left,) = tx.one(
        "SELECT count(*) FROM key_packages WHERE device = ? AND suite = ? AND last_resort = 0", device, suite
    ) or (0,)
    if left >= context.limits.key_packages_low:
        return
    untold = tx.run(
        "INSERT INTO key_package_notices (device, suite, told_at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        device,
        suite,
        now_ms,
    )
    if untold or last_resort_used:
        log.append(tx, mailbox_topic(device), KeyPackagesLowEvent(left, last_resort_used, now_ms))
