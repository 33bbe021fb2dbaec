"""The server put together: every feature's handlers, routes and jobs, from start to drain.

```
lock the directory -> limits -> keys -> database -> context -> sockets, HTTP, jobs -> announce
SIGTERM -> not ready, no new connections -> sockets sent away (1012) -> writes finished -> WAL folded in -> unlock
```
"""

import asyncio
import gc
import resource
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from secrets import token_bytes
from typing import Final

import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import heliograph
from heliograph.server import (
    accounts,
    channels,
    commits,
    consents,
    devices,
    franking_keys,
    key_packages,
    messages,
    posts,
    retention,
    rooms,
    sessions,
    topics,
)
from heliograph.server.admission import Admission
from heliograph.server.auth import Caller, Sessions, Tickets
from heliograph.server.bus.local import LocalWakeups
from heliograph.server.config import Config
from heliograph.server.context import Context
from heliograph.server.data_directory import DATABASE_NAME, SECRETS_NAME, DataDirectoryError, locked
from heliograph.server.db.schema import Identity
from heliograph.server.db.sqlite import SQLiteDatabase
from heliograph.server.http import Handler, create_http_app
from heliograph.server.jobs import Job, run_jobs
from heliograph.server.limits import Limits, load_limits
from heliograph.server.logs import configure_logs
from heliograph.server.metrics import create_metrics, metrics_text
from heliograph.server.moderation import cases, decisions, reports, statements, transparency
from heliograph.server.moderation.retention import forget_decided
from heliograph.server.moderation.values import category_labels
from heliograph.server.pages import Desk, page_routes
from heliograph.server.secrets import load_secrets
from heliograph.server.stream import Streams
from heliograph.wire.accounts import Empty, ServerInfo
from heliograph.wire.encoding import base64url_text

DEFAULT_DOMAIN: Final = "localhost"
DRAIN_WITHIN_S: Final = 5.0
MIN_OPEN_FILES: Final = 512
GC_THRESHOLDS: Final = (20_000, 20, 20)
"""Requests make many short-lived objects and few cycles: look for those less often than Python does."""
EARLIEST_CLOCK_MS: Final = 1_704_067_200_000  # 2024: an earlier clock is wrong

_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.app")


async def get_server(context: Context, caller: Caller | None, request: Empty) -> ServerInfo:
    """Tell what a client must know of this server."""
    del caller, request
    hub_key = Ed25519PrivateKey.from_private_bytes(context.secrets.hub_signature_key).public_key()
    return ServerInfo(
        domain=context.domain,
        version=heliograph.__version__,
        incarnation=context.incarnation,
        registration=context.config.registration,
        hub_signature_key=hub_key.public_bytes(Encoding.Raw, PublicFormat.Raw),
        decisions_log=transparency.verifier_key(context.secrets, context.domain).vkey(),
        desk_key=await context.database.read(cases.desk_key),
    )


_HANDLERS: Final[tuple[Handler, ...]] = (
    get_server,
    accounts.register,
    accounts.resolve_handle,
    accounts.set_role,
    accounts.create_invitation,
    devices.get_account_chain,
    devices.put_account_state,
    devices.recover_chain,
    sessions.create_challenge,
    sessions.create_session,
    sessions.end_session,
    sessions.create_stream_ticket,
    consents.grant_consent,
    consents.withdraw_consent,
    consents.create_contact_token,
    key_packages.publish_key_packages,
    key_packages.count_key_packages,
    key_packages.claim_key_packages,
    rooms.create_room,
    rooms.list_rooms,
    rooms.get_room,
    rooms.get_group_info,
    rooms.get_tree,
    commits.submit_commit,
    commits.submit_proposal,
    messages.submit_message,
    topics.read_topic,
    topics.acknowledge,
    channels.create_channel,
    channels.list_channels,
    channels.get_channel,
    channels.update_channel,
    channels.set_channel_role,
    channels.follow,
    channels.unfollow,
    channels.list_following,
    posts.submit_post,
    posts.edit_post,
    posts.delete_post,
    posts.read_posts,
    posts.get_post,
    reports.report_public,
    reports.report_private,
    reports.get_report_status,
    cases.list_cases,
    cases.get_case,
    cases.attach_evidence,
    cases.check_frank,
    cases.publish_desk_key,
    decisions.decide,
    decisions.get_decision,
    statements.get_statement,
    statements.get_decision_proof,
)
HANDLERS: Final[Mapping[str, Handler]] = {getattr(handler, "__name__", ""): handler for handler in _HANDLERS}
"""What answers each operation of `wire/operations.py`, by its name."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the operator is told once the server listens."""

    url: str
    first_invitation: str | None


class Server:
    """One running server."""

    def __init__(self, context: Context, streams: Streams, runner: web.AppRunner, first_invitation: str | None) -> None:
        self.context = context
        self.streams = streams
        self.ready = True
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._runner = runner
        self._first_invitation = first_invitation

    @property
    def announcement(self) -> Announcement:
        """The address in use, and the first administrator's invitation while there is no administrator."""
        host, port = self._runner.addresses[0][:2]
        return Announcement(f"http://{f'[{host}]' if ':' in host else host}:{port}", self._first_invitation)

    def fail(self, error: BaseException) -> None:
        """Let whoever runs the server know that it must stop."""
        if not self.failure.done():
            self.failure.set_result(error)

    def note_end(self, task: "asyncio.Task[None]") -> None:
        """What runs beside the requests ends by cancellation alone."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task failed", error=type(error).__name__, exc_info=error)
            self.fail(error)

    async def drain(self) -> None:
        """Stop taking connections and send the sockets away."""
        self.ready = False
        for site in list(self._runner.sites):
            await site.stop()
        await self.streams.drain()


@asynccontextmanager
async def open_server(
    config: Config,
    *,
    limits: Limits | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    random: Callable[[int], bytes] = token_bytes,
    synchronous: str = "FULL",
    vfs: str | None = None,
) -> AsyncGenerator[Server]:
    """Run a server inside this event loop for as long as the block lasts.

    Clock and randomness are the caller's; `synchronous` and `vfs` exist for the tests that cut the power.

    Raises:
        DataDirectoryError, LimitsError, SecretsError, DatabaseRefusedError: it cannot start; the text says why.
    """
    limits = limits or load_limits(config.limits_file)
    with locked(config.data):
        broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        wakeups, metrics = LocalWakeups(), create_metrics()
        path = config.data / DATABASE_NAME
        secrets = load_secrets(config.data / SECRETS_NAME, random, first_start=not path.exists())
        franking_keys.rotate(secrets, now_ms(), random)
        database = SQLiteDatabase(
            path,
            Identity(config.domain or DEFAULT_DOMAIN, base64url_text(random(12)), now_ms()),
            limits,
            metrics,
            finish=messages.finish_batch(secrets, now_ms),
            wake=wakeups.publish,
            broken=broken.set_result,
            synchronous=synchronous,
            vfs=vfs,
        )
        try:
            _check_domain(config, database.identity)
            context = Context(
                config=config,
                limits=limits,
                database=database,
                wakeups=wakeups,
                now_ms=now_ms,
                random=random,
                secrets=secrets,
                metrics=metrics,
                sessions=Sessions(limits.cached_sessions),
                tickets=Tickets(limits.cached_sessions),
                admission=Admission(limits.rates, random),
                incarnation=database.identity.incarnation,
                domain=database.identity.domain,
            )
            async with _listening(context, database) as server:
                broken.add_done_callback(lambda future: server.fail(future.result()))
                yield server
        finally:
            await database.close()


def _check_domain(config: Config, identity: Identity) -> None:
    if config.domain is not None and config.domain != identity.domain:
        raise DataDirectoryError(
            f"this server is {identity.domain}: its accounts and rooms carry that name, so it cannot become "
            f"{config.domain}"
        )


@asynccontextmanager
async def _listening(context: Context, database: SQLiteDatabase) -> AsyncGenerator[Server]:
    """Open the port and run what runs beside it."""
    config, limits = context.config, context.limits
    streams = Streams(context, messages.submit_then)
    app = create_http_app(context, HANDLERS, (streams.routes, transparency.log_routes, page_routes(_desk())))
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        logger=getLogger("aiohttp.server"),
        keepalive_timeout=limits.head_within_s,
        lingering_time=1,
        max_line_size=limits.header_bytes // 2,
        max_field_size=limits.header_bytes // 2,
        max_headers=limits.headers,
        auto_decompress=False,
        shutdown_timeout=DRAIN_WITHIN_S,
    )
    server = Server(context, streams, runner, await accounts.first_invitation(context))
    app.router.add_get("/ready", _ready(server), allow_head=False)
    await runner.setup()
    beside = asyncio.create_task(_run_beside(context, database, streams), name="beside")
    beside.add_done_callback(server.note_end)
    try:
        await web.TCPSite(runner, config.host, config.port, backlog=4096).start()
        yield server
    finally:
        beside.cancel()
        await asyncio.wait({beside})
        await runner.cleanup()


async def _run_beside(context: Context, database: SQLiteDatabase, streams: Streams) -> None:
    """Own every task that is no request's and no socket's."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(streams.run(), name="streams")
        tasks.create_task(run_jobs(context, _jobs(context, database)), name="jobs")
        if context.config.metrics_port is not None:
            tasks.create_task(_serve_metrics(context, context.config.metrics_port), name="metrics")


def _desk() -> Desk:
    return Desk(
        categories=category_labels(),
        receive=lambda context, report: reports.receive_public(context, None, report, "form"),
        status=lambda context, asked: reports.get_report_status(context, None, asked),
    )


def _jobs(context: Context, database: SQLiteDatabase) -> list[Job]:
    async def rotate(context: Context) -> None:
        franking_keys.rotate(context.secrets, context.now_ms(), context.random)

    async def fold(context: Context) -> None:
        del context
        await database.checkpoint()

    return [
        Job("decisions-log-checkpoint", context.config.checkpoint_interval_s, transparency.sign_newest_checkpoint),
        Job("sessions-seen", 60, sessions.save_seen),
        Job("franking-keys", 3600, rotate),
        Job("retention", 3600, retention.sweep),
        Job("moderation-retention", 3600, forget_decided),
        Job("fold-wal", 600, fold),
    ]


def _ready(server: Server) -> Callable[[web.Request], "asyncio.Future[web.Response]"]:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(status=200 if server.ready else 503, text="ready\n" if server.ready else "draining\n")

    return answer  # type: ignore[return-value]


async def _serve_metrics(context: Context, port: int) -> None:
    """Show the counters on a loopback port of their own: never on the public one."""

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(body=metrics_text(context.metrics), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def serve(config: Config, announce: Callable[[Announcement], None]) -> None:
    """Run a server until SIGTERM, SIGINT or cancellation, and drain it.

    Raises:
        OSError: the disk failed, and the server stopped at once. And what `open_server` raises.
    """
    configure_logs()
    _check_process()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_server(config) as server:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        announce(server.announcement)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({stopping, server.failure}, return_when=asyncio.FIRST_COMPLETED)
            if server.failure.done():
                error = server.failure.result()
                _log.critical("storage failed", error=type(error).__name__)
                raise OSError(f"the storage failed ({type(error).__name__}): look at the disk before you start again")
            await server.drain()
        finally:
            stopping.cancel()


def _check_process() -> None:
    """Refuse to start where the surroundings would break promises later."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft < MIN_OPEN_FILES:
        raise DataDirectoryError(f"this process may open {soft} files: allow it {MIN_OPEN_FILES} or more (ulimit -n)")
    if time.time_ns() // 1_000_000 < EARLIEST_CLOCK_MS:
        raise DataDirectoryError("the clock stands before 2024: set it first")
