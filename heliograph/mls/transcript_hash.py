"""The two running hashes over all commits of a group (RFC 9420 §8.2).

    interim[n-1] || wire_format, FramedContent, signature of commit n   --Hash-->  confirmed[n]
    confirmed[n] || confirmation_tag of commit n                        --Hash-->  interim[n]

The confirmed hash goes into the GroupContext, so it must not cover the confirmation tag, which is computed from it;
the interim hash then covers the tag too. Nothing here is secret: a server that follows a group computes both.
"""

from heliograph.mls.codec import Writer
from heliograph.mls.errors import ValidationError
from heliograph.mls.framing import AuthenticatedContent, ContentType
from heliograph.mls.suite import CipherSuite


def confirmed_transcript_hash(suite: CipherSuite, interim_before: bytes, commit: AuthenticatedContent) -> bytes:
    """Return the confirmed transcript hash of the epoch that a commit begins.

    Raises ValidationError if the content is no commit. Source: RFC 9420 §8.2.
    """
    if commit.content.content_type != ContentType.COMMIT:
        raise ValidationError("only commits enter the transcript")
    writer = Writer()
    writer.raw(interim_before)
    writer.uint16(commit.wire_format)
    commit.content.write(writer)
    writer.opaque(commit.auth.signature)
    return suite.hash(writer.getvalue())


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """Return the interim transcript hash that follows a confirmed one.

    Source: RFC 9420 §8.2.
    """
    writer = Writer()
    writer.raw(confirmed)
    writer.opaque(confirmation_tag)
    return suite.hash(writer.getvalue())
