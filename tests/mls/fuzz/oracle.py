"""What must hold for any bytes that a decoder is given.

It either says no with the kind of error that it promises, or gives a value whose encoding is exactly those bytes: a
structure has one encoding, or two parties could sign, hash or compare different bytes for one thing. Some structures
remember the bytes that they were read from, which would make that trivial; so the value is built anew from its parts,
without its memory, and encoded again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from heliograph.mls.codec import Struct
from heliograph.mls.errors import DecodeError, MLSError, UnsupportedError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree

# What a decoder may raise beside DecodeError: each of these says so in its docstring.
_ALSO_RAISES: Mapping[type[Struct], type[MLSError]] = {
    MLSMessage: UnsupportedError,  # another version of the protocol
    PublicGroup: UnsupportedError,  # a saved state of a cipher suite that is not implemented any more
}


class Finding(AssertionError):
    """What the library did is not what it promises."""


def hold(condition: bool, text: str) -> None:
    """Raise Finding unless the condition is true; unlike assert it stays under -O."""
    if not condition:
        raise Finding(text)


def check_struct(kind: type[Struct], data: bytes) -> bool:
    """Hold a decoder to its promise for these bytes; return whether it took them."""
    try:
        value = kind.decode(data)
    except DecodeError:
        return False
    except MLSError as error:
        hold(type(error) is _ALSO_RAISES.get(kind), f"{kind.__name__} raises {type(error).__name__}: {error}")
        return False
    hold(value.encode() == data, f"{kind.__name__} encodes to other bytes than it was read from")
    fresh = rebuilt(value)
    hold(fresh.encode() == data, f"{kind.__name__} has a second encoding: {fresh.encode().hex()}")
    hold(kind.decode(fresh.encode()) == value, f"{kind.__name__} decodes to another value than was encoded")
    return True


def rebuilt(value: Any) -> Any:
    """Return an equal value made of new parts, which remember nothing of how they were encoded."""
    if isinstance(value, RatchetTree):
        return RatchetTree([rebuilt(node) for node in value.nodes()])
    if isinstance(value, Sequence) and not isinstance(value, bytes | str):
        return tuple(map(rebuilt, cast("Sequence[Any]", value)))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{one.name: rebuilt(getattr(value, one.name)) for one in fields(value) if one.init})
    return value
