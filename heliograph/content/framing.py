"""What MLS seals: a media type and the content in it (draft-ietf-mls-extensions-10 §6.2.4).

    struct { opaque parameter_name<V>; opaque parameter_value<V>; } Parameter;
    struct { opaque media_type<V>; Parameter parameters<V>; } MediaType;
    struct { MediaType media_type; opaque application_content<V>; } ApplicationFraming;

An empty media type stands for the first one that the room requires, `application/mimi-content`. The draft
says that "the media_type MAY be zero length" and leaves open what of the structure remains; both fields are
kept here, each empty, so an ordinary message is 0x00 0x00 and then the content behind its length.
"""

from typing import Final

from heliograph.content.message import MAX_CONTENT_SIZE_BYTES, MEDIA_TYPE, MimiContent
from heliograph.mls.codec import Reader, Writer
from heliograph.mls.errors import UnsupportedError, ValidationError

MAX_APPLICATION_DATA_SIZE_BYTES: Final = MAX_CONTENT_SIZE_BYTES + 64


def encode_application_data(content: MimiContent) -> bytes:
    """Return a message as the `application_data` to seal; raises what `MimiContent.encode` raises."""
    writer = Writer()
    writer.opaque(b"")
    writer.opaque(b"")
    writer.opaque(content.encode())
    return writer.getvalue()


def decode_application_data(application_data: bytes) -> MimiContent:
    """Return the message in opened `application_data`.

    Raises:
        DecodeError, ValidationError: as `MimiContent.decode`.
        UnsupportedError: it is framed as another media type than `application/mimi-content`.
    """
    if len(application_data) > MAX_APPLICATION_DATA_SIZE_BYTES:
        raise ValidationError("application data: too large")
    reader = Reader(application_data)
    media_type, parameters = reader.opaque(), reader.opaque()
    content = reader.opaque()
    reader.finish()
    if media_type not in (b"", MEDIA_TYPE.encode()) or parameters:
        raise UnsupportedError("application data: a media type that is not spoken here")
    return MimiContent.decode(content)
