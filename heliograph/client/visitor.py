"""Reading in the open: channels and decisions, with or without an account. What is read is verified.

A `Visitor` needs a server's address and nothing else: no account, no store.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from heliograph.client import channel as channels
from heliograph.client.errors import NotPossible
from heliograph.client.identity import CredentialError, KnownAccount, learn_account
from heliograph.client.transport import Transport
from heliograph.wire.accounts import AccountChain, AccountRequest, ResolvedHandle, ResolveHandle
from heliograph.wire.channels import (
    ChannelInfo,
    ChannelRequest,
    Channels,
    GetPost,
    ListChannels,
    PostPage,
    PostView,
    ReadPosts,
    Tombstone,
)
from heliograph.wire.ids import AccountId, ChannelId, DecisionId, Handle
from heliograph.wire.moderation import (
    DecisionRequest,
    GetReportStatus,
    PublicDecision,
    ReportPublic,
    ReportReceipt,
    ReportStatus,
)
from heliograph.wire.operations import CHECKPOINT_PATH
from heliograph.wire.problems import Problem


@dataclass(frozen=True, slots=True)
class ReadPost:
    """A post as it was read: verified words, or the tombstone that stands in their place.

    `fault` says why the words are not shown where the signature does not hold.
    """

    channel: ChannelId
    post: int
    version: int
    accepted_at_ms: int
    author: AccountId | None = None
    handle: str = ""
    language: str = ""
    body: str = ""
    reply_to: int | None = None
    tombstone: Tombstone | None = None
    fault: str = ""


class Reading:
    """Reads of public things through one transport; the chains of authors are kept for as long as it lives."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._authors: dict[AccountId, KnownAccount] = {}

    async def find_channel(self, handle_or_id: str) -> ChannelId:
        """Return the channel of a handle; a channel id stands for itself."""
        if handle_or_id.startswith("c") and len(handle_or_id) == 27:
            return ChannelId(handle_or_id)
        request = ResolveHandle(Handle(handle_or_id.removeprefix("@")))
        found = await self._transport.call("resolve_handle", request, ResolvedHandle)
        if found.channel is None:
            raise NotPossible(f"{handle_or_id} is a person, not a channel")
        return ChannelId(found.channel)

    async def channel(self, handle_or_id: str) -> ChannelInfo:
        """Describe a channel; raises Problem `channel-restricted` for a blocked one."""
        channel = await self.find_channel(handle_or_id)
        return await self._transport.call("get_channel", ChannelRequest(channel), ChannelInfo)

    async def channels(self, after: str = "", limit: int = 50) -> list[ChannelInfo]:
        """Page through the directory."""
        return (await self._transport.call("list_channels", ListChannels(after, limit), Channels)).channels

    async def read_posts(
        self, handle_or_id: str, *, after: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[ReadPost]:
        """Read a channel's posts in their newest version, oldest first, each checked against its author."""
        channel = await self.find_channel(handle_or_id)
        page = await self._transport.call("read_posts", ReadPosts(channel, after, before, limit), PostPage)
        return [await self._checked(channel, view) for view in page.posts]

    async def read_post(self, handle_or_id: str, post: int) -> ReadPost:
        """Read one post, or its tombstone."""
        channel = await self.find_channel(handle_or_id)
        return await self._checked(channel, await self._transport.call("get_post", GetPost(channel, post), PostView))

    async def _checked(self, channel: ChannelId, view: PostView) -> ReadPost:
        blank = ReadPost(channel, view.id, view.version, view.accepted_at_ms, tombstone=view.tombstone)
        if view.tombstone is not None:
            return blank
        try:
            author = channels.author_of(view.signed, is_edit=view.version != view.id)
            known = await self._author(author)
            verified = channels.verify_post(channel, view, known)
        except (Problem, CredentialError) as error:
            return ReadPost(channel, view.id, view.version, view.accepted_at_ms, fault=str(error))
        post = verified.content
        return ReadPost(
            channel,
            view.id,
            view.version,
            view.accepted_at_ms,
            author,
            known.handle,
            post.language,
            post.body,
            post.reply_to,
        )

    async def _author(self, account: AccountId) -> KnownAccount:
        if account not in self._authors:
            chain = await self._transport.call("get_account_chain", AccountRequest(account), AccountChain)
            self._authors[account] = learn_account(account, chain.handle, chain.states, None)
        return self._authors[account]

    async def report_post(
        self,
        handle_or_id: str,
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
        """Report a post, or the channel as a whole (`post` None)."""
        channel = await self.find_channel(handle_or_id)
        request = ReportPublic(
            channel=channel,
            category=category,
            explanation=explanation,
            good_faith=good_faith,
            post=post,
            keyword=keyword,
            language=language,
            name=name,
            email=email,
        )
        return await self._transport.call("report_public", request, ReportReceipt)

    async def report_status(self, receipt: ReportReceipt) -> ReportStatus:
        """Return what became of a report."""
        request = GetReportStatus(receipt.report, receipt.receipt)
        return await self._transport.call("get_report_status", request, ReportStatus)

    async def decision(self, decision: str) -> PublicDecision:
        """Return what anyone may know of a decision."""
        request = DecisionRequest(DecisionId(decision))
        return await self._transport.call("get_decision", request, PublicDecision)

    async def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint of the log of decisions, as text."""
        return await self._transport.fetch(CHECKPOINT_PATH)


class Visitor(Reading):
    """Someone without an account: `async with Visitor("https://example.org") as visitor: ...`."""

    def __init__(self, server_url: str) -> None:
        super().__init__(Transport(server_url))

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)
