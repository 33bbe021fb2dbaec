"""Saved rows that show when they were damaged, cut short or put under another name.

A store keeps rows apart, and a disk or a copy may spoil one. Each row therefore ends with a short digest of its name
and content. It is no authentication: rows are the member's own. It is there so that a damaged state is refused when it
is loaded, whole, and not noticed message by message later.
"""

import hashlib
from collections.abc import Mapping

from heliograph.mls.errors import StateError

_DIGEST_BYTES = 8


def closed(name: str, content: bytes) -> bytes:
    """Return the row to save for `content` under this name."""
    return content + _digest(name, content)


def content_of(row: bytes) -> bytes:
    """Return what a row holds, unchecked: for rows that this process closed or has checked."""
    return row[:-_DIGEST_BYTES]


def checked(rows: Mapping[str, bytes], name: str) -> bytes:
    """Return what the row of this name holds; raises StateError where it is missing or damaged."""
    row = rows.get(name)
    if row is None:
        raise StateError("a row of the saved group is missing")
    content = content_of(row)
    if row != closed(name, content):
        raise StateError("a row of the saved group is damaged")
    return content


def _digest(name: str, content: bytes) -> bytes:
    digest = hashlib.sha256(name.encode() + b"\0")
    digest.update(content)
    return digest.digest()[:_DIGEST_BYTES]
