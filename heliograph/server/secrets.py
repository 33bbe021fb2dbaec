"""Keys that live beside the database and never in it: one file a key, mode 0600, read once.

A copy of the database alone can therefore not stamp, sign, or link a sender to a stored message.

```
DIR/secrets/hub-signature-key     Ed25519 private key (32 bytes): franks, one signature a batch
            decisions-log-key     Ed25519 private key (32 bytes): checkpoints of the decisions log
            lookup-key            HMAC key: idempotency keys, consents
            hub-mac-keys/<kid>    HMAC keys of the franks, one a month
```
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heliograph.mls.suite import Secret

KEY_SIZE_BYTES = 32
Random = Callable[[int], bytes]


class SecretsError(Exception):
    """A key file is missing, unreadable, too open to others, or not what it should be."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The server's keys (32 bytes each). `hub_mac_keys` grows and shrinks by the functions below."""

    directory: Path
    hub_signature_key: Secret
    decisions_log_key: Secret
    lookup_key: Secret
    hub_mac_keys: dict[str, Secret]


def load_secrets(directory: Path, random: Random, *, first_start: bool) -> Secrets:
    """Read the keys, or make them at the first start.

    Raises:
        SecretsError: a key file is missing after the first start, or others may read it.
    """
    mac_directory = directory / "hub-mac-keys"
    for folder in (directory, mac_directory):
        folder.mkdir(mode=0o700, exist_ok=True)

    def key(name: str) -> Secret:
        path = directory / name
        if first_start and not path.exists():
            _write_key(path, random(KEY_SIZE_BYTES))
        return _read_key(path)

    return Secrets(
        directory=directory,
        hub_signature_key=key("hub-signature-key"),
        decisions_log_key=key("decisions-log-key"),
        lookup_key=key("lookup-key"),
        hub_mac_keys={path.name: _read_key(path) for path in sorted(mac_directory.iterdir())},
    )


def add_hub_mac_key(secrets: Secrets, kid: str, random: Random) -> Secret:
    """Make and keep the HMAC key `kid`, if it is not there yet, and return it."""
    if kid not in secrets.hub_mac_keys:
        path = secrets.directory / "hub-mac-keys" / kid
        _write_key(path, random(KEY_SIZE_BYTES))
        secrets.hub_mac_keys[kid] = _read_key(path)
    return secrets.hub_mac_keys[kid]


def delete_hub_mac_key(secrets: Secrets, kid: str) -> None:
    """Forget the HMAC key `kid`: what it stamped can no longer be checked by the hub."""
    if secrets.hub_mac_keys.pop(kid, None) is not None:
        (secrets.directory / "hub-mac-keys" / kid).unlink(missing_ok=True)


def _write_key(path: Path, key: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_key(path: Path) -> Secret:
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}: restore it from where you keep the server's keys") from None
    if stat.S_IMODE(mode) & 0o077:
        raise SecretsError(f"{path}: others may read it: run chmod 600 on it and consider its key known")
    if len(key) != KEY_SIZE_BYTES:
        raise SecretsError(f"{path}: a key has {KEY_SIZE_BYTES} bytes, not {len(key)}")
    return Secret(key)
