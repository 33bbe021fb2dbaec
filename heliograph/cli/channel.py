"""`heliograph channel`: public channels. Whatever is read here was checked against its author's signature first.

Reading needs no account: with `--server URL` nothing of this device is used, or need exist.
"""

from typing import Annotated

import typer

from heliograph.cli import device
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.telling import clock_time
from heliograph.cli.text_input import text_or_input
from heliograph.client.client import Client
from heliograph.client.visitor import ReadPost, Visitor
from heliograph.wire.channels import MAX_BODY_SIZE_BYTES, ChannelInfo, Published

app = typer.Typer(no_args_is_help=True, help="Speak and read in public channels.")

ROLES = ("owner", "editor", "moderator")

ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its handle or its id.")]
PostArgument = Annotated[str, typer.Argument(metavar="CHANNEL/NUMBER", help="A post, such as bridge_news/12.")]
TextArgument = Annotated[str | None, typer.Argument(metavar="TEXT|-", help="Markdown; - is standard input.")]
WithoutAccount = Annotated[str | None, typer.Option("--server", metavar="URL", help="Read there, without an account.")]


@app.command("create", help="Open a channel of your own.")
def create_channel(
    context: typer.Context,
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="Its handle, for ever.")],
    title: Annotated[str, typer.Argument(metavar="TITLE", help="Its title.")],
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is about.")] = "",
    language: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Such as en or pt-BR; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a channel."""
    named = device.channel(handle)

    async def act(client: Client) -> None:
        channel = await client.create_channel(named, title, description=description, languages=language or ())
        Output(as_json=as_json).tell("channel", f"opened {named}: {channel}", channel=channel, handle=named)

    device.run(context, act)


@app.command("list", help="List channels: those that you follow, or with --all the server's directory.")
def list_channels(
    context: typer.Context,
    everyone: Annotated[bool, typer.Option("--all", help="The directory.")] = False,
    after: Annotated[str, typer.Option(metavar="HANDLE", help="Go on behind this one in the directory.")] = "",
    server: WithoutAccount = None,
    as_json: AsJson = False,
) -> None:
    """Print channels."""
    output = Output(as_json=as_json)

    async def act(client: Client | Visitor) -> None:
        if isinstance(client, Client) and not everyone:
            await device.catch_up(client)
            output.table("channel", ("channel", "handle", "title"), client.following())
            return
        rows = [(one.channel, one.handle, one.title, one.followers) for one in await client.channels(after)]
        output.table("channel", ("channel", "handle", "title", "followers"), rows)

    device.read(context, server, act)


@app.command("show", help="Describe a channel.")
def show_channel(
    context: typer.Context, channel: ChannelArgument, server: WithoutAccount = None, as_json: AsJson = False
) -> None:
    """Print what anyone may know of a channel."""
    named = device.channel(channel)

    async def act(client: Client | Visitor) -> None:
        info: ChannelInfo = await client.channel(named)
        text = (
            f"{info.handle}: {info.title}\n{info.description}\n"
            f"languages {', '.join(info.languages) or 'not said'}; {info.followers} followers; {info.channel}"
        )
        Output(as_json=as_json).tell(
            "channel",
            text,
            channel=info.channel,
            handle=info.handle,
            title=info.title,
            description=info.description,
            languages=info.languages,
            owner=info.owner,
            followers=info.followers,
            head_seq=info.head_seq,
            state=info.state,
            own_role=info.own_role,
        )

    device.read(context, server, act)


@app.command("post", help="Publish a post; without TEXT, or with -, it comes from standard input.")
def publish_post(
    context: typer.Context,
    channel: ChannelArgument,
    text: TextArgument = None,
    language: Annotated[str, typer.Option(metavar="TAG", help="The language of the post, such as en or pt-BR.")] = "en",
    as_json: AsJson = False,
) -> None:
    """Sign and publish a post."""
    named, body = device.channel(channel), text_or_input(text, "post", MAX_BODY_SIZE_BYTES)

    async def act(client: Client) -> None:
        _tell_published(as_json, "published", await client.post(named, body, language=language))

    device.run(context, act)


@app.command("edit", help="Replace a post of yours by a new version; the old ones stay visible.")
def edit_post(context: typer.Context, post: PostArgument, text: TextArgument = None, as_json: AsJson = False) -> None:
    """Sign and publish a new version."""
    (named, number), body = device.post(post), text_or_input(text, "post", MAX_BODY_SIZE_BYTES)

    async def act(client: Client) -> None:
        _tell_published(as_json, "edited", await client.edit_post(named, number, body))

    device.run(context, act)


@app.command("delete", help="Delete a post; a tombstone takes its place.")
def delete_post(context: typer.Context, post: PostArgument, as_json: AsJson = False) -> None:
    """Sign and publish a deletion."""
    named, number = device.post(post)

    async def act(client: Client) -> None:
        _tell_published(as_json, "deleted", await client.delete_post(named, number))

    device.run(context, act)


@app.command("read", help="Print a channel's newest posts, oldest first.")
def read_posts(
    context: typer.Context,
    channel: ChannelArgument,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")] = 50,
    before: Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="Those before this post.")] = None,
    server: WithoutAccount = None,
    as_json: AsJson = False,
) -> None:
    """Print verified posts; a post whose signature does not hold makes the exit code say so."""
    output, named = Output(as_json=as_json), device.channel(channel)

    async def act(client: Client | Visitor) -> None:
        posts = await client.read_posts(named, before=before, limit=limit)
        for post in posts:
            _tell_post(output, post)
        if any(post.fault for post in posts):
            raise CommandError(ExitCode.NOT_VERIFIED, "a post does not hold, and its words are not shown")

    device.read(context, server, act)


@app.command("follow", help="Follow a channel: `heliograph receive` prints its posts from now on.")
def follow_channel(context: typer.Context, channel: ChannelArgument, as_json: AsJson = False) -> None:
    """Follow a channel."""
    named = device.channel(channel)

    async def act(client: Client) -> None:
        info = await client.follow(named)
        Output(as_json=as_json).tell(
            "following", f"you follow {info.handle}: {info.title}", channel=info.channel, handle=info.handle
        )

    device.run(context, act)


@app.command("unfollow", help="Follow a channel no more.")
def unfollow_channel(context: typer.Context, channel: ChannelArgument, as_json: AsJson = False) -> None:
    """Stop following."""
    named = device.channel(channel)

    async def act(client: Client) -> None:
        await client.unfollow(named)
        Output(as_json=as_json).tell("unfollowed", f"you follow {named} no more", channel=named)

    device.run(context, act)


@app.command("role", help="Give someone a role in a channel, or take it away with none.")
def set_role(
    context: typer.Context,
    channel: ChannelArgument,
    who: Annotated[str, typer.Argument(metavar="WHO", help="Handle or account id.")],
    role: Annotated[str, typer.Argument(metavar="|".join((*ROLES, "none")))],
    as_json: AsJson = False,
) -> None:
    """Set a role."""
    if role not in (*ROLES, "none"):
        raise CommandError(ExitCode.USAGE, f"{role}: say {', '.join(ROLES)} or none")
    named, given = device.channel(channel), None if role == "none" else role

    async def act(client: Client) -> None:
        account = device.person(client, who)
        await client.set_channel_role(named, account, given)
        Output(as_json=as_json).tell("role", f"{who} is now {role} in {named}", channel=named, who=account, role=given)

    device.run(context, act)


def _tell_published(as_json: bool, done: str, published: Published | None) -> None:
    if published is None:
        raise CommandError(ExitCode.FAILED, "the server gave no answer that says what it did")
    output = Output(as_json=as_json)
    output.tell(done, f"{done}, entry {published.seq}", seq=published.seq, accepted_at_ms=published.accepted_at_ms)


def _tell_post(output: Output, post: ReadPost) -> None:
    tombstone = post.tombstone
    if tombstone is not None:
        said = f"removed by {tombstone.by}" + (f": {tombstone.reason}" if tombstone.reason else "")
    elif post.fault:
        said = f"not shown, for it does not hold: {post.fault}"
    else:
        edited = " (edited)" if post.version != post.post else ""
        said = f"@{post.handle}{edited} [{post.language}] {post.body}"
    output.tell(
        "post",
        f"{post.post:>5} {clock_time(post.accepted_at_ms)} {said}".replace("\n", "\n    "),
        channel=post.channel,
        post=post.post,
        version=post.version,
        accepted_at_ms=post.accepted_at_ms,
        author=post.author,
        handle=post.handle,
        language=post.language,
        body=post.body,
        reply_to=post.reply_to,
        verified=not post.fault and tombstone is None,
        fault=post.fault or None,
        removed_by=None if tombstone is None else tombstone.by,
        reason=None if tombstone is None else tombstone.reason,
        decision=None if tombstone is None else tombstone.decision,
    )
