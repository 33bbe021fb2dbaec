"""The client's face for public channels: own them, post to them, follow them, read and report them."""

from collections.abc import Sequence

import msgspec

from heliograph.client import channel as channels
from heliograph.client.changes import (
    CallOnce,
    ChannelFollowed,
    ChannelUnfollowed,
    CursorDropped,
    CursorMoved,
    IntentAdded,
)
from heliograph.client.device import Device
from heliograph.client.errors import NotPossible
from heliograph.client.running import Running
from heliograph.client.visitor import Reading, ReadPost
from heliograph.wire.accounts import Empty
from heliograph.wire.channels import (
    ChannelInfo,
    ChannelRequest,
    ChannelRole,
    CreateChannel,
    GetPost,
    PostView,
    Published,
    SetChannelRole,
    SubmitSigned,
    UpdateChannel,
    newest_post,
)
from heliograph.wire.ids import ChannelId, Handle, TopicId, channel_id
from heliograph.wire.moderation import PublicDecision, ReportReceipt


class Publishing(Running):
    """Public channels."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self._reading = Reading(device.transport)

    async def create_channel(
        self, handle: str, title: str, *, description: str = "", languages: Sequence[str] = ()
    ) -> ChannelId:
        """Open a channel; this account becomes its owner."""
        request = CreateChannel(
            channel_id(self._device.world.random(16)), Handle(handle), title, description, tuple(languages)
        )
        return (await self._call("create_channel", request, ChannelInfo)).channel

    async def update_channel(
        self, channel: str, *, title: str | None = None, description: str | None = None
    ) -> ChannelInfo:
        """Change a channel's title or description."""
        found = await self._reading.find_channel(channel)
        return await self._call("update_channel", UpdateChannel(found, title, description), ChannelInfo)

    async def set_channel_role(self, channel: str, who: str, role: ChannelRole | None) -> None:
        """Give someone a role in a channel, or take it away (None)."""
        found, account = await self._reading.find_channel(channel), await self._device.resolve(who)
        await self._call("set_channel_role", SetChannelRole(found, account, role), Empty)

    # --------------------------------------------------------------------------------------------- posts

    async def post(
        self, channel: str, body: str, *, language: str = "en", reply_to: int | None = None, wait: bool = True
    ) -> Published | None:
        """Publish a signed post; it is durable in the outbox first. None without waiting for the answer."""
        found = await self._reading.find_channel(channel)
        world = self._device.world
        signed = channels.build_post(
            self.identity,
            found,
            body,
            language=language,
            now_ms=world.now_ms(),
            random=world.random,
            reply_to=reply_to,
        )
        return await self._submit("submit_post", signed, wait=wait)

    async def edit_post(self, channel: str, post: int, body: str, *, wait: bool = True) -> Published | None:
        """Replace a post by a new signed version."""
        found = await self._reading.find_channel(channel)
        before = newest_post(await self._call("get_post", GetPost(found, post), PostView))
        if before is None:
            raise NotPossible("the post is gone")
        world = self._device.world
        signed = channels.build_edit(
            self.identity, found, post, before, body, now_ms=world.now_ms(), random=world.random
        )
        return await self._submit("edit_post", signed, wait=wait)

    async def delete_post(self, channel: str, post: int, *, wait: bool = True) -> Published | None:
        """Delete a post."""
        found = await self._reading.find_channel(channel)
        world = self._device.world
        signed = channels.build_deletion(self.identity, found, post, now_ms=world.now_ms(), random=world.random)
        return await self._submit("delete_post", signed, wait=wait)

    async def _submit(self, operation: str, signed: SubmitSigned, *, wait: bool) -> Published | None:
        intent = CallOnce(operation, msgspec.msgpack.encode(signed))
        intents = await self._promise(IntentAdded(signed.channel, intent))
        if not wait:
            return None
        (reply,) = await self._done(intents)
        return reply if isinstance(reply, Published) else None

    # ----------------------------------------------------------------------------------------- following

    async def follow(self, channel: str) -> ChannelInfo:
        """Follow a channel: its posts are told by `receive` from now on."""
        found = await self._reading.find_channel(channel)
        request, topic = ChannelRequest(found), TopicId(found)
        await self._call("follow", request, Empty)
        info = await self._call("get_channel", request, ChannelInfo)
        self._device.unfollowed.discard(topic)
        async with self._device.turn:
            followed = ChannelFollowed(found, info.handle, info.title)
            known = topic in self._store.cursors  # the stream may have brought the channel before this answer came
            await self._device.save((followed,) if known else (followed, CursorMoved(topic, info.head_seq)))
        self._subscribe(topic, self._store.cursors.get(topic, info.head_seq))
        return info

    async def unfollow(self, channel: str) -> None:
        """Follow a channel no more."""
        found = await self._reading.find_channel(channel)
        await self._call("unfollow", ChannelRequest(found), Empty)
        async with self._device.turn:
            self._device.unfollowed.add(TopicId(found))
            await self._device.save((ChannelUnfollowed(found), CursorDropped(TopicId(found))))

    def following(self) -> list[tuple[ChannelId, Handle, str]]:
        """Return the channels that this device follows: id, handle, title."""
        return self._store.channels()

    # ------------------------------------------------------------------------------- reading and reporting

    async def find_channel(self, handle_or_id: str) -> ChannelId:
        """Return the channel of a handle."""
        return await self._reading.find_channel(handle_or_id)

    async def channel(self, handle_or_id: str) -> ChannelInfo:
        """Describe a channel."""
        return await self._reading.channel(handle_or_id)

    async def channels(self, after: str = "", limit: int = 50) -> list[ChannelInfo]:
        """Page through the directory."""
        return await self._reading.channels(after, limit)

    async def read_posts(
        self, channel: str, *, after: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[ReadPost]:
        """Read a channel's posts, verified, oldest first."""
        return await self._reading.read_posts(channel, after=after, before=before, limit=limit)

    async def read_post(self, channel: str, post: int) -> ReadPost:
        """Read one post, or its tombstone."""
        return await self._reading.read_post(channel, post)

    async def report_post(
        self,
        channel: str,
        post: int | None,
        category: str,
        explanation: str,
        *,
        good_faith: bool = True,
        keyword: str | None = None,
        language: str = "en",
        name: str = "",
        email: str = "",
    ) -> ReportReceipt:
        """Report a post, or the channel as a whole (`post` None), by this account."""
        return await self._reading.report_post(
            channel,
            post,
            category,
            explanation,
            good_faith=good_faith,
            keyword=keyword,
            language=language,
            name=name,
            email=email,
        )

    async def decision(self, decision: str) -> PublicDecision:
        """Return what anyone may know of a decision."""
        return await self._reading.decision(decision)
