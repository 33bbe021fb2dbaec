"""Private messages that were really sent, and what their recipient can disclose of them."""

import secrets
from dataclasses import dataclass

from heliograph.content.compose import Composer
from heliograph.content.franking import Envelope, frank_message
from heliograph.content.report import ReportItem
from heliograph.wire.events import MessageEvent
from heliograph.wire.frank import encode_frank
from heliograph.wire.ids import RoomId, room_uri, user_uri
from heliograph.wire.moderation import ReportPrivate, ReportReceipt
from heliograph.wire.rooms import SubmitMessage
from tests.server.phones import Phone, frank_aad, new_key, new_phone
from tests.world import World


@dataclass(frozen=True)
class Conversation:
    """A room of two."""

    room: RoomId
    one: Phone
    other: Phone


async def new_conversation(w: World) -> Conversation:
    """Return a room in which two people can talk."""
    one, other = await new_phone(w, "charlie"), await new_phone(w, "dora")
    await other.publish()
    await other.consent(one)
    room = await one.create_room()
    await one.add(room, other)
    await other.accept_welcome()
    return Conversation(room, one, other)


async def send_franked(sender: Phone, room: RoomId, text: str) -> ReportItem:
    """Send a real message and return what a recipient can disclose of it."""
    uri = user_uri(sender.domain, sender.account)
    composer = Composer(uri, room_uri(sender.domain, room), secrets.token_bytes)
    franked = frank_message(composer.text(text))
    sender.groups[room], sealed = sender.groups[room].seal(
        franked.application_data, authenticated_data=frank_aad(franked.tag), random=secrets.token_bytes
    )
    epoch = sender.groups[room].epoch
    submitted = await sender.ask("submit_message", SubmitMessage(room, new_key(), epoch, sealed))
    event = (await sender.entries(room, submitted.seq - 1))[0]
    assert isinstance(event, MessageEvent)
    envelope = Envelope(event.accepted_at_ms, submitted.seq, event.epoch, encode_frank(event.frank))
    return ReportItem(franked.application_data, envelope)


async def report_privately(reporter: Phone, room: RoomId, sealed: bytes = bytes(64)) -> ReportReceipt:
    """Report a room; the server cannot look inside what is sealed."""
    return await reporter.ask("report_private", ReportPrivate(room, sealed))
