"""The group context: what all members of an epoch agree on, hashed into all that they derive (RFC 9420 §8.1)."""

from dataclasses import dataclass

from heliograph.mls.codec import EncodedOnce, Reader, Writer
from heliograph.mls.extension import Extension


@dataclass(frozen=True, slots=True)
class GroupContext(EncodedOnce):
    """A summary of the group's state in one epoch. Source: RFC 9420 §8.1."""

    version: int
    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: tuple[Extension, ...] = ()

    def write_fields(self, writer: Writer) -> None:
        """Append the encoding, field by field."""
        writer.uint16(self.version)
        writer.uint16(self.cipher_suite)
        writer.opaque(self.group_id)
        writer.uint64(self.epoch)
        writer.opaque(self.tree_hash)
        writer.opaque(self.confirmed_transcript_hash)
        writer.vector(self.extensions)

    @classmethod
    def read(cls, reader: Reader) -> "GroupContext":
        """Read one; raises DecodeError."""
        start = reader.position
        context = cls(
            version=reader.uint16(),
            cipher_suite=reader.uint16(),
            group_id=reader.opaque(),
            epoch=reader.uint64(),
            tree_hash=reader.opaque(),
            confirmed_transcript_hash=reader.opaque(),
            extensions=reader.vector(Extension.read),
        )
        return context.read_as(reader.since(start))
