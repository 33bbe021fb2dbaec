"""Identifiers: each a `NewType` over text with a visible prefix, so that no two kinds can be mixed up.

An id is its prefix and then lower-case base32 (RFC 4648 §6, no padding). In a MIMI URI the part behind the
prefix stands alone: account `a<A>` is `mimi://H/u/<A>`, its device `d<D>` is `mimi://H/d/<A>/<D>` and room
`r<R>` is `mimi://H/r/<R>`, where `H` is the server's domain.

A *topic* is what a log is kept for: a room, a channel, or a device's mailbox. Its id is that thing's id.
"""

import base64
import re
from typing import Annotated, Final, NewType

import msgspec

AccountId = NewType("AccountId", str)
DeviceId = NewType("DeviceId", str)
RoomId = NewType("RoomId", str)
ChannelId = NewType("ChannelId", str)
TopicId = NewType("TopicId", str)
ReportId = NewType("ReportId", str)
CaseId = NewType("CaseId", str)
DecisionId = NewType("DecisionId", str)
Handle = NewType("Handle", str)

RANDOM_ID_SIZE_BYTES: Final = 16
ACCOUNT_HASH_SIZE_BYTES: Final = 32

# A pattern ends with END: `$` alone lets a last newline pass in Python, so that "alice\n" would be another "alice".
END: Final = "$(?!\n)"

# The last character carries the bits that are left over: there is one text for each id.
_BASE32_16 = "[a-z2-7]{25}[aeimquy4]"
_BASE32_32 = "[a-z2-7]{51}[aq]"
ACCOUNT_PATTERN: Final = f"^a{_BASE32_32}{END}"
DEVICE_PATTERN: Final = f"^d{_BASE32_16}{END}"
ROOM_PATTERN: Final = f"^r{_BASE32_16}{END}"
CHANNEL_PATTERN: Final = f"^c{_BASE32_16}{END}"
TOPIC_PATTERN: Final = f"^[drc]{_BASE32_16}{END}"
REPORT_PATTERN: Final = f"^rp{_BASE32_16}{END}"
CASE_PATTERN: Final = f"^cs{_BASE32_16}{END}"
DECISION_PATTERN: Final = f"^dc{_BASE32_16}{END}"
HANDLE_PATTERN: Final = f"^[a-z](?:[a-z0-9]|_(?=[a-z0-9])){{2,31}}{END}"

AccountIdText = Annotated[AccountId, msgspec.Meta(pattern=ACCOUNT_PATTERN)]
DeviceIdText = Annotated[DeviceId, msgspec.Meta(pattern=DEVICE_PATTERN)]
RoomIdText = Annotated[RoomId, msgspec.Meta(pattern=ROOM_PATTERN)]
ChannelIdText = Annotated[ChannelId, msgspec.Meta(pattern=CHANNEL_PATTERN)]
TopicIdText = Annotated[TopicId, msgspec.Meta(pattern=TOPIC_PATTERN)]
ReportIdText = Annotated[ReportId, msgspec.Meta(pattern=REPORT_PATTERN)]
CaseIdText = Annotated[CaseId, msgspec.Meta(pattern=CASE_PATTERN)]
DecisionIdText = Annotated[DecisionId, msgspec.Meta(pattern=DECISION_PATTERN)]
HandleText = Annotated[Handle, msgspec.Meta(pattern=HANDLE_PATTERN, max_length=32)]

_DEVICE_URI = re.compile(f"mimi://([^/]{{1,253}})/d/({_BASE32_32})/({_BASE32_16})")
_USER_URI = re.compile(f"mimi://([^/]{{1,253}})/u/({_BASE32_32})")


def base32_text(data: bytes) -> str:
    """Return `data` as lower-case base32 without padding."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def base32_bytes(text: str) -> bytes:
    """Return the bytes that `base32_text` was given.

    Raises:
        ValueError: `text` is not canonical lower-case base32.
    """
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if base32_text(data) != text:
        raise ValueError("base32 text is not canonical")
    return data


def account_id(genesis_hash: bytes) -> AccountId:
    """Return the self-certifying id of the account whose genesis state hashes to these 32 bytes."""
    if len(genesis_hash) != ACCOUNT_HASH_SIZE_BYTES:
        raise ValueError("a genesis hash has 32 bytes")
    return AccountId("a" + base32_text(genesis_hash))


def _random_id(prefix: str, random_bytes: bytes) -> str:
    if len(random_bytes) != RANDOM_ID_SIZE_BYTES:
        raise ValueError("a random id has 16 bytes")
    return prefix + base32_text(random_bytes)


def device_id(random_bytes: bytes) -> DeviceId:
    """Return the device id of 16 random bytes."""
    return DeviceId(_random_id("d", random_bytes))


def room_id(random_bytes: bytes) -> RoomId:
    """Return the room id of 16 random bytes; they are also the room's MLS `group_id`."""
    return RoomId(_random_id("r", random_bytes))


def channel_id(random_bytes: bytes) -> ChannelId:
    """Return the channel id of 16 random bytes."""
    return ChannelId(_random_id("c", random_bytes))


def report_id(random_bytes: bytes) -> ReportId:
    """Return the report id of 16 random bytes."""
    return ReportId(_random_id("rp", random_bytes))


def case_id(random_bytes: bytes) -> CaseId:
    """Return the case id of 16 random bytes."""
    return CaseId(_random_id("cs", random_bytes))


def decision_id(random_bytes: bytes) -> DecisionId:
    """Return the decision id of 16 random bytes."""
    return DecisionId(_random_id("dc", random_bytes))


def id_bytes(identifier: str) -> bytes:
    """Return the bytes behind the one-letter prefix of an account, device, room or channel id."""
    return base32_bytes(identifier[1:])


def group_id(room: RoomId) -> bytes:
    """Return the 16-byte MLS `group_id` of a room."""
    return id_bytes(room)


def mailbox_topic(device: DeviceId) -> TopicId:
    """Return the topic that holds a device's Welcomes and notices."""
    return TopicId(device)


def room_topic(room: RoomId) -> TopicId:
    """Return the topic of a room."""
    return TopicId(room)


def channel_topic(channel: ChannelId) -> TopicId:
    """Return the topic of a channel."""
    return TopicId(channel)


def user_uri(domain: str, account: AccountId) -> str:
    """Return the MIMI user URI of an account."""
    return f"mimi://{domain}/u/{account[1:]}"


def device_uri(domain: str, account: AccountId, device: DeviceId) -> str:
    """Return the MIMI device URI, the identity in a device's MLS credential."""
    return f"mimi://{domain}/d/{account[1:]}/{device[1:]}"


def room_uri(domain: str, room: RoomId) -> str:
    """Return the MIMI room URI of a room."""
    return f"mimi://{domain}/r/{room[1:]}"


def parse_device_uri(uri: str) -> tuple[str, AccountId, DeviceId]:
    """Return the domain, account and device that a device URI names.

    Raises:
        ValueError: the text is not a device URI.
    """
    match = _DEVICE_URI.fullmatch(uri)
    if match is None:
        raise ValueError("not a device URI")
    return match[1], AccountId("a" + match[2]), DeviceId("d" + match[3])


def parse_user_uri(uri: str) -> tuple[str, AccountId]:
    """Return the domain and account that a user URI names.

    Raises:
        ValueError: the text is not a user URI.
    """
    match = _USER_URI.fullmatch(uri)
    if match is None:
        raise ValueError("not a user URI")
    return match[1], AccountId("a" + match[2])
