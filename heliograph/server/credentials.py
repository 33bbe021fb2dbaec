"""Whether a leaf is who it says: the one check of a credential against the newest state of its account's chain.

A leaf's credential names a device by its URI and proves nothing; the account's signed state says which key that device
has. The hub asks the same question as every client, of the chain that it has taken itself.
"""

from typing import NamedTuple

from heliograph.mls.errors import UnsupportedError
from heliograph.mls.leaf_node import LeafNode
from heliograph.server.db.database import Reader
from heliograph.wire.ids import AccountId, DeviceId, parse_device_uri
from heliograph.wire.problems import Problem


class LeafDevice(NamedTuple):
    """The device that a leaf's credential names."""

    account: AccountId
    device: DeviceId


def leaf_uri(leaf: LeafNode) -> str:
    """Return the device URI in a leaf's basic credential.

    Raises:
        ValueError: the credential is of another type or not text.
    """
    try:
        return leaf.credential.identity.decode()
    except UnsupportedError as error:
        raise ValueError(str(error)) from None


def named_device(domain: str, leaf: LeafNode, refusal: str) -> LeafDevice:
    """Return the device that a leaf's credential names on this server; nothing is proven by that.

    Raises:
        Problem: of the type `refusal`, the credential is not a device URI of this server.
    """
    try:
        named_domain, account, device = parse_device_uri(leaf_uri(leaf))
    except ValueError:
        raise Problem(refusal, "the credential is not a device URI") from None
    if named_domain != domain:
        raise Problem(refusal, "the credential names another server")
    return LeafDevice(account, device)


def require_leaf(reader: Reader, domain: str, leaf: LeafNode, refusal: str) -> LeafDevice:
    """Return the device of a leaf, when the newest state of its account holds that device with the leaf's key.

    Raises:
        Problem: of the type `refusal`.
    """
    named = named_device(domain, leaf, refusal)
    row = reader.one("SELECT account, device_key FROM devices WHERE device = ? AND removed_at_ms IS NULL", named.device)
    if row is None or row[0] != named.account:
        raise Problem(refusal, "the account's newest state has no such device")
    if row[1] != leaf.signature_key:
        raise Problem(refusal, "the account's newest state gives this device another key")
    return named
