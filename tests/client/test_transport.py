"""Calls that either give a typed reply, the server's problem, or say that no whole answer came."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from heliograph.client.errors import Unreachable
from heliograph.client.transport import Backoff, Transport, checked_url
from heliograph.wire.accounts import Challenge, CreateChallenge, Empty, KeyPackageCount, ResolvedHandle, ResolveHandle
from heliograph.wire.ids import AccountId, DeviceId, Handle
from heliograph.wire.problems import Problem

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncGenerator[Serve]:
    """Return what runs a server that answers everything with one function, and gives its URL."""
    servers: list[TestServer] = []

    async def run(answer: Answer) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/")).rstrip("/")

    yield run
    for server in servers:
        await server.close()


async def resolve(url: str) -> ResolvedHandle:
    """Make a call that needs no session."""
    async with Transport(url) as transport:
        return await transport.call("resolve_handle", ResolveHandle(Handle("bob")), ResolvedHandle)


async def test_a_reply_is_typed(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/v1/handles/bob"
        return web.json_response({"handle": "bob", "channel": "c1"})

    assert await resolve(await serve(answer)) == ResolvedHandle(Handle("bob"), channel="c1")


async def test_bytes_travel_as_base64url(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.json_response({"challenge": "AAEC_-8", "expires_at_ms": 5})

    async with Transport(await serve(answer)) as transport:
        request = CreateChallenge(AccountId("a" + "a" * 52), DeviceId("d" + "a" * 26))
        found = await transport.call("create_challenge", request, Challenge)

    assert found == Challenge(b"\x00\x01\x02\xff\xef", 5)


async def test_a_problem_is_raised_as_it_was_answered(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        del request
        body = {"type": "too-many-requests", "title": "t", "status": 429, "detail": "wait", "retry_after_s": 7}
        return web.json_response(body, status=429)

    with pytest.raises(Problem) as refused:
        await resolve(await serve(answer))

    assert (refused.value.slug, refused.value.body.retry_after_s) == ("too-many-requests", 7)


@pytest.mark.parametrize(
    ("status", "body", "slug"),
    [
        (502, b"<html>bad gateway</html>", "overloaded"),
        (500, b"", "internal-error"),
        (404, b'{"type":"never-heard-of","title":"t","status":404}', "never-heard-of"),
        (302, b"", "internal-error"),
    ],
)
async def test_what_a_proxy_answers_is_a_problem_too(serve: Serve, status: int, body: bytes, slug: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, status=status, headers={"Location": "http://example.net/"})

    with pytest.raises(Problem) as refused:
        await resolve(await serve(answer))

    assert refused.value.slug == slug


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"handle": 5}', b'{"handle":"bob","evil":1}', b"\xff\xfe"])
async def test_an_answer_that_cannot_be_read_is_no_answer(serve: Serve, body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, content_type="application/json")

    with pytest.raises(Unreachable):
        await resolve(await serve(answer))


async def test_an_answer_without_end_is_cut_off(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(64):
            await response.write(bytes(1024 * 1024))
        return response

    with pytest.raises(Unreachable, match="larger"):
        await resolve(await serve(answer))


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await resolve("http://127.0.0.1:9")


async def test_an_ended_session_is_opened_anew_once(serve: Serve) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        if request.headers["Authorization"] == "Bearer old":
            return web.json_response({"type": "not-logged-in", "title": "t", "status": 401}, status=401)
        return web.json_response({"one_time": 1, "last_resort": True})

    async def log_in() -> str:
        return "new"

    async with Transport(await serve(answer), log_in=log_in) as transport:
        transport.use_token("old")
        count = await transport.call("count_key_packages", Empty(), KeyPackageCount)

    assert count.one_time == 1
    assert seen == ["Bearer old", "Bearer new"]


async def test_a_token_goes_to_no_operation_that_anyone_may_call(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response({"handle": "bob"})

    async def log_in() -> str:
        raise AssertionError

    async with Transport(await serve(answer), log_in=log_in) as transport:
        await transport.call("resolve_handle", ResolveHandle(Handle("bob")), ResolvedHandle)


@pytest.mark.parametrize("url", ["http://example.org", "ftp://localhost", "https://", "https://example.org/path", ""])
def test_a_server_elsewhere_is_spoken_to_over_tls_alone(url: str) -> None:
    with pytest.raises(Unreachable):
        checked_url(url)


def test_waiting_doubles_under_full_jitter_and_stays_below_a_minute() -> None:
    most, least = Backoff(lambda size: b"\xff" * size), Backoff(bytes)

    waits = [most.next_s() for _ in range(9)]

    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [least.next_s() for _ in range(3)] == [0, 0, 0]
    assert least.next_s(at_least_s=5) == 5
