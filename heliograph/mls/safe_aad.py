"""Safe additional authenticated data: how components share `authenticated_data` (draft-ietf-mls-extensions-10 §4.9).

    struct { ComponentID component_id; opaque aad_item_data<V>; } SafeAADItem;
    struct { SafeAADItem aad_items<V>; } SafeAAD;

Items stand in increasing order of their component, each component once. The draft lets other data follow
the SafeAAD; here nothing may.
"""

from dataclasses import dataclass
from itertools import pairwise

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import DecodeError


@dataclass(frozen=True, slots=True)
class SafeAADItem(Struct):
    """What one component authenticates with a message."""

    component_id: int
    aad_item_data: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(self.component_id)
        writer.opaque(self.aad_item_data)

    @classmethod
    def read(cls, reader: Reader) -> "SafeAADItem":
        """Read one; raises DecodeError."""
        return cls(reader.uint16(), reader.opaque())


@dataclass(frozen=True, slots=True)
class SafeAAD(Struct):
    """The items of a message, sorted by component and unique."""

    aad_items: tuple[SafeAADItem, ...]

    def write(self, writer: Writer) -> None:
        """Append the encoding; raises ValueError for items out of order."""
        if not _is_sorted(self.aad_items):
            raise ValueError("SafeAAD items must be sorted by component and unique")
        writer.vector(self.aad_items)

    @classmethod
    def read(cls, reader: Reader) -> "SafeAAD":
        """Read one; raises DecodeError, also for items out of order or a component that is there twice."""
        items = reader.vector(SafeAADItem.read)
        if not _is_sorted(items):
            raise DecodeError("SafeAAD items are not sorted by component, or a component is there twice")
        return cls(items)

    def find(self, component_id: int) -> bytes | None:
        """Return the data of a component, None if it has none."""
        return next((one.aad_item_data for one in self.aad_items if one.component_id == component_id), None)


def _is_sorted(items: tuple[SafeAADItem, ...]) -> bool:
    return all(one.component_id < two.component_id for one, two in pairwise(items))
