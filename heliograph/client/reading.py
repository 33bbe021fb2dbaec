"""What an opened message says: words, a reaction, an edit, a deletion, a room's name, or a receipt. Pure."""

from dataclasses import dataclass
from typing import Literal

from heliograph.client.changes import Act
from heliograph.content import status
from heliograph.content.compose import ROOM_PROFILE, RoomProfile, check_replacement, read_room_profile, texts_of
from heliograph.content.framing import decode_application_data
from heliograph.content.message import Disposition, MimiContent, NullPart, SinglePart

ToldAct = Literal["say", "react", "edit", "delete"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The act of a message and its plain text; `profile` where it names the room."""

    act: Act
    text: str
    profile: RoomProfile | None = None

    @property
    def told_act(self) -> ToldAct | None:
        """Return the act where it is something that people read, None for what only devices read."""
        return self.act if self.act in ("say", "react", "edit", "delete") else None


def read_content(content: MimiContent) -> Reading:
    """Return what a message says; raises MLSError for a profile that breaks its limits."""
    body = content.body
    text = "\n".join(texts_of(content))
    if isinstance(body, SinglePart) and body.content_type == ROOM_PROFILE:
        return Reading("profile", "", read_room_profile(content))
    if isinstance(body, SinglePart) and body.content_type == status.MEDIA_TYPE:
        return Reading("receipt", "")
    if content.replaces is not None:
        return Reading("delete", "") if isinstance(body, NullPart) else Reading("edit", text)
    if body.disposition == Disposition.REACTION:
        return Reading("react", text)
    return Reading("say", text)


def check_against_original(content: MimiContent, original: bytes | None, *, may_delete: bool) -> None:
    """Check an edit or deletion against the first version, where this device has it; raises MLSError."""
    if content.replaces is not None and original is not None:
        check_replacement(decode_application_data(original), content, may_delete=may_delete)
