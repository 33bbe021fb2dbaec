"""Hostile requests: each gets a named problem, costs a bounded amount, and the server goes on."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.server.app import HANDLERS
from heliograph.server.config import ProxyError, parse_proxy
from heliograph.server.limits import Rate
from heliograph.wire.accounts import Empty, ServerInfo
from heliograph.wire.ids import TopicId
from heliograph.wire.operations import INCARNATION_HEADER, OPERATIONS, SMALL_BODY_BYTES
from heliograph.wire.problems import PROBLEMS, Problem
from heliograph.wire.rooms import Acknowledge, ReadTopic
from tests.server.raw_socket import RawSocket, connect
from tests.world import World, generous_limits, world

CHALLENGE = "/v1/sessions/challenge"
DEVICE = "d" + "a" * 26
ACCOUNT = "a" + "a" * 52
GOOD_BODY = json.dumps({"account": ACCOUNT, "device": DEVICE}).encode()


async def post(w: World, body: bytes | str, path: str = CHALLENGE, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post a body as JSON and return status and answer."""
    sent = {"Content-Type": "application/json", **headers}
    async with w.http.post(w.url + path, data=body, headers=sent) as response:
        return response.status, msgspec.json.decode(await response.read())


async def raw_answer(raw: RawSocket, request: bytes) -> tuple[int, str]:
    await raw.send(request)
    return await raw.head()


def raw_post(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {CHALLENGE} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def check_smoke(w: World) -> None:
    """The server still does its work."""
    assert (await post(w, GOOD_BODY))[0] == 200


def test_every_operation_has_its_handler() -> None:
    assert HANDLERS.keys() == OPERATIONS.keys()


async def test_the_server_tells_what_a_client_must_know(tmp_path: Path) -> None:
    async with world(tmp_path, domain="chat.example") as w:
        told: ServerInfo = await w.call("get_server", Empty())
        assert (told.domain, told.registration, len(told.hub_signature_key)) == ("chat.example", "open", 32)
        assert told.incarnation == w.context.incarnation
        assert told.decisions_log.startswith("chat.example/decisions+")


MALFORMED = [
    pytest.param(30_000 * "[" + 30_000 * "]", id="30,000 deep", marks=pytest.mark.bad_input(39)),
    pytest.param('{"account":' + 900 * "[" + 900 * "]" + "}", id="900 deep", marks=pytest.mark.bad_input(39)),
    pytest.param('{"account": "\\ud800"}', id="surrogate", marks=pytest.mark.bad_input(40)),
    pytest.param(f'{{"account": "{ACCOUNT}\\u0000", "device": "{DEVICE}"}}', id="NUL", marks=pytest.mark.bad_input(41)),
    pytest.param('{"account": NaN}', id="NaN", marks=pytest.mark.bad_input(43)),
    pytest.param('{"account": 1e999}', id="1e999", marks=pytest.mark.bad_input(43)),
    pytest.param('{"account": ' + 5000 * "9" + "}", id="5000 digits", marks=pytest.mark.bad_input(43)),
    pytest.param('{"account": 18446744073709551616}', id="2^64", marks=pytest.mark.bad_input(43)),
    pytest.param(b"\xef\xbb\xbf" + GOOD_BODY, id="BOM", marks=pytest.mark.bad_input(44)),
    pytest.param(GOOD_BODY.decode().encode("utf-16"), id="UTF-16", marks=pytest.mark.bad_input(44)),
    pytest.param(b"[" + GOOD_BODY + b"]", id="array", marks=pytest.mark.bad_input(45)),
    pytest.param('{"account": {"$ne": ""}, "device": ""}', id="object for text", marks=pytest.mark.bad_input(45)),
    pytest.param(GOOD_BODY[:-1] + b', "x": 1}', id="unknown field", marks=pytest.mark.bad_input(46)),
    pytest.param(GOOD_BODY.replace(b"device", b"Device"), id="wrong case", marks=pytest.mark.bad_input(46)),
    pytest.param(GOOD_BODY[:-1], id="cut off"),
    pytest.param(b"", id="empty"),
    pytest.param(b"\xff\xfe", id="no UTF-8"),
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_body_is_refused_by_name(tmp_path: Path, body: bytes | str) -> None:
    async with world(tmp_path) as w:
        status, answer = await post(w, body)
        assert (status, answer["type"]) == (400, "malformed")
        await check_smoke(w)


@pytest.mark.bad_input(34)
async def test_an_endless_body_is_cut_at_the_limit(tmp_path: Path) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        status, head = await raw_answer(raw, raw_post(5 * chunk, "Transfer-Encoding: chunked"))
        assert status == 413 and "problem+json" in head
        await check_smoke(w)


@pytest.mark.bad_input(34)
async def test_a_body_that_never_comes_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(request_within_s=1)) as w, connect(w) as raw:
        assert (await raw_answer(raw, raw_post(b"{", "Content-Length: 50")))[0] == 400
        await check_smoke(w)


@pytest.mark.bad_input(35)
@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Transfer-Encoding: chunked, identity",),
    ],
)
async def test_a_body_of_two_lengths_is_refused(tmp_path: Path, headers: tuple[str, ...]) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        smuggled = b"0\r\n\r\nGET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await raw_answer(raw, raw_post(smuggled, *headers)))[0] == 400
        assert await raw.is_closed(within_s=3)
        await check_smoke(w)


@pytest.mark.bad_input(36)
@pytest.mark.parametrize(
    "headers", [("X: " + 65536 * "a",), tuple(f"X-{number}: 1" for number in range(10_000))], ids=["64 KiB", "10k"]
)
async def test_headers_are_bounded(tmp_path: Path, headers: tuple[str, ...]) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        assert (await raw_answer(raw, raw_post(b"", *headers)))[0] in (400, 431)
        await check_smoke(w)


@pytest.mark.bad_input(37)
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /ready\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /ready HTTP/1.1\nHost localhost\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_control_characters_are_refused(tmp_path: Path, request_bytes: bytes) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        assert (await raw_answer(raw, request_bytes + b"\r\n\r\n"))[0] == 400
        await check_smoke(w)


@pytest.mark.bad_input(38)
@pytest.mark.parametrize("path", ["%2e%2e", "..%2f..%2fetc", "%00", "%c0%ae", "a%0d%0ab", "ali\u00e7e"])
async def test_a_path_that_names_nothing_finds_nothing(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        request = f"GET /v1/handles/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert (await raw_answer(raw, request))[0] in (400, 404)
        await check_smoke(w)


@pytest.mark.bad_input(42)
async def test_a_key_that_stands_twice_is_read_once_and_the_same_everywhere(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        twice = GOOD_BODY[:-1] + b', "device": "not a device"}'
        assert (await post(w, twice))[1]["type"] == "malformed"


@pytest.mark.bad_input(48)
@pytest.mark.parametrize("query", ["limit=-1", "limit=0", "limit=1000000000", "after=-6e34", "after=1.0", "limit=ten"])
async def test_a_page_out_of_bounds_is_refused(tmp_path: Path, query: str) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        headers = {"Authorization": f"Bearer {alice.token}"}
        async with w.http.get(f"{w.url}/v1/topics/{alice.device}/entries?{query}", headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["type"]) == (400, "malformed")


@pytest.mark.bad_input(49)
@pytest.mark.parametrize("query", ["limit=1&limit=2", "topic=x", "unknown=1"])
async def test_a_query_parameter_stands_once_and_is_known(tmp_path: Path, query: str) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        headers = {"Authorization": f"Bearer {alice.token}"}
        async with w.http.get(f"{w.url}/v1/topics/{alice.device}/entries?{query}", headers=headers) as response:
            assert response.status == 400


@pytest.mark.bad_input(50)
@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data; boundary=x", "application/jsonp"])
async def test_only_json_is_read(tmp_path: Path, content_type: str) -> None:
    async with world(tmp_path) as w:
        status, answer = await post(w, GOOD_BODY, **{"Content-Type": content_type})
        assert (status, answer["type"]) == (415, "unsupported-media-type")


@pytest.mark.bad_input(51)
@pytest.mark.parametrize("method", ["TRACE", "FOO", "PATCH", "OPTIONS", "HEAD"])
async def test_a_method_that_an_address_does_not_know_is_refused(tmp_path: Path, method: str) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        request = f"{method} {CHALLENGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert (await raw_answer(raw, request))[0] in (400, 405)
        await check_smoke(w)


@pytest.mark.bad_input(51)
async def test_the_server_is_no_proxy(tmp_path: Path) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        assert (await raw_answer(raw, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n"))[0] >= 400


@pytest.mark.bad_input(52)
@pytest.mark.parametrize(
    "host", ["evil.example", "chat.example.evil", "xchat.example", "chat.example:1", "CHAT.EXAMPLE."]
)
async def test_a_server_with_a_name_answers_by_no_other(tmp_path: Path, host: str) -> None:
    async with world(tmp_path, hosts=("chat.example",)) as w, connect(w) as raw:
        for target in ("/ready", f"http://{host}/ready"):
            assert (await raw_answer(raw, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))[0] == 400
            await raw.reader.read(65536)
    async with world(tmp_path, hosts=("chat.example",)) as w, connect(w) as raw:
        assert (await raw_answer(raw, b"GET /ready HTTP/1.1\r\nHost: chat.example\r\n\r\n"))[0] == 200


@pytest.mark.bad_input(52)
async def test_two_hosts_are_none(tmp_path: Path) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        request = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert (await raw_answer(raw, request))[0] == 400


@pytest.mark.bad_input(54)
@pytest.mark.parametrize("ranges", ["0-0," * 800 + "0-0", "5-2", "0-99999999999999999999", "-0", "a-b"])
async def test_ranges_are_not_served(tmp_path: Path, ranges: str) -> None:
    headers = {"Range": f"bytes={ranges}"}
    async with world(tmp_path) as w, w.http.get(w.url + "/v1/openapi.json", headers=headers) as response:
        assert response.status == 200
        assert len(await response.read()) == int(response.headers["Content-Length"])


@pytest.mark.bad_input(53)
async def test_a_forwarded_address_is_not_believed(tmp_path: Path) -> None:
    limits = generous_limits()
    rates = msgspec.structs.replace(limits.rates, login=Rate(2, 0.001))
    async with world(tmp_path, limits=generous_limits(rates=rates)) as w:
        statuses = [
            (await post(w, GOOD_BODY, **{"X-Forwarded-For": f"10.{number}.0.1", "X-Forwarded-Host": "evil"}))[0]
            for number in range(4)
        ]
        assert statuses == [200, 200, 429, 429]


async def test_a_request_built_on_another_past_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        own = await post(w, GOOD_BODY, **{INCARNATION_HEADER: w.context.incarnation})
        other = await post(w, GOOD_BODY, **{INCARNATION_HEADER: "before the restore"})
    assert own[0] == 200
    assert (other[0], other[1]["type"]) == (409, "incarnation-changed")


async def test_a_trusted_proxy_tells_who_pays(tmp_path: Path) -> None:
    rates = msgspec.structs.replace(generous_limits().rates, login=Rate(2, 0.001))
    proxies = (parse_proxy("127.0.0.1"),)
    async with world(tmp_path, limits=generous_limits(rates=rates), trusted_proxies=proxies) as w:
        others = [(await post(w, GOOD_BODY, **{"X-Forwarded-For": f"10.{number}.0.1"}))[0] for number in range(4)]
        hearsay = [
            (await post(w, GOOD_BODY, **{"X-Forwarded-For": f"10.9{number}.0.1, 10.50.0.1, 127.0.0.1"}))[0]
            for number in range(4)
        ]
    assert others == [200, 200, 200, 200]
    assert hearsay == [200, 200, 429, 429]


@pytest.mark.bad_input(128)
@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "proxy.example", "10.0.0.1/8", ""])
def test_a_network_that_nobody_should_trust_is_refused_as_a_proxy(network: str) -> None:
    with pytest.raises(ProxyError):
        parse_proxy(network)


@pytest.mark.bad_input(55)
async def test_an_expectation_that_is_not_followed_up_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(request_within_s=1)) as w, connect(w) as raw:
        status, _ = await raw_answer(raw, raw_post(b"", "Content-Length: 50", "Expect: 100-continue"))
        if status == 100:
            status, _ = await raw.head()
        assert status in (400, 417)
        await check_smoke(w)


@pytest.mark.bad_input(56)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_compressed_body_is_not_opened(tmp_path: Path, encoding: str) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        bomb = gzip.compress(bytes(1_000_000))
        request = raw_post(bomb, f"Content-Encoding: {encoding}", f"Content-Length: {len(bomb)}")
        assert (await raw_answer(raw, request))[0] == 415


@pytest.mark.bad_input(59)
@pytest.mark.parametrize(("size", "status"), [(-1, 400), (0, 400), (1, 413)])
async def test_a_body_may_have_exactly_its_limit(tmp_path: Path, size: int, status: int) -> None:
    async with world(tmp_path) as w:
        body = b'{"x": "' + bytes(SMALL_BODY_BYTES + size - 9).replace(b"\x00", b"x") + b'"}'
        assert len(body) == SMALL_BODY_BYTES + size
        assert (await post(w, body))[0] == status


@pytest.mark.bad_input(60)
async def test_a_private_answer_is_not_kept_by_caches(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        async with w.http.get(w.url + "/v1/rooms", headers={"Authorization": f"Bearer {alice.token}"}) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"


async def test_every_answer_carries_the_security_headers(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for path in ("/.well-known/heliograph", "/v1/rooms", "/nothing", "/v1/openapi.json"):
            async with w.http.get(w.url + path) as response:
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["Server"] == "heliograph"


async def test_an_unknown_address_is_a_problem_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.http.get(w.url + "/v1/nothing") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_a_page_of_another_site_cannot_call(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await post(w, GOOD_BODY, Origin="https://evil.example"))[0] == 403
        assert (await post(w, GOOD_BODY, Origin=w.url))[0] == 200


async def test_an_operation_that_needs_a_session_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for operation in OPERATIONS.values():
            if operation.access in ("anyone", "optional"):
                continue
            path = operation.path.format(**dict.fromkeys(_fields(operation.path), "x"))
            async with w.http.request(operation.method, w.url + path) as response:
                assert response.status == 401, operation.name


async def test_an_operation_of_a_role_is_refused_to_others(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        headers = {"Authorization": f"Bearer {alice.token}"}
        for operation in OPERATIONS.values():
            if operation.access not in ("reviewer", "administrator"):
                continue
            path = operation.path.format(**dict.fromkeys(_fields(operation.path), "x"))
            async with w.http.request(operation.method, w.url + path, headers=headers) as response:
                assert response.status == 403, operation.name


async def test_who_asks_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    limits = generous_limits()
    rates = msgspec.structs.replace(limits.rates, read=Rate(3, 0.5))
    async with world(tmp_path, limits=generous_limits(rates=rates)) as w:
        alice = await w.register("alice")
        for _ in range(3):
            await w.call("list_rooms", Empty(), alice)
        with pytest.raises(Problem, match="too-many-requests") as caught:
            await w.call("list_rooms", Empty(), alice)
        assert caught.value.body.retry_after_s == 2
        w.clock.advance_ms(2000)
        await w.call("list_rooms", Empty(), alice)


async def test_a_bug_is_an_internal_error_and_its_text_goes_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await w.context.database.write(lambda tx: tx.run("DROP TABLE acknowledgements"))
        with pytest.raises(Problem, match="internal-error"):
            await w.call("acknowledge", Acknowledge(TopicId(alice.device), 0), alice)
        await w.call("read_topic", ReadTopic(TopicId(alice.device)), alice)
    lines = [line for line in capsys.readouterr().err.splitlines() if "request failed" in line]
    assert [msgspec.json.decode(line)["operation"] for line in lines] == ["acknowledge"]
    assert alice.token not in lines[0]


async def test_more_requests_at_once_than_the_limit_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(requests_in_flight=2, request_within_s=2)) as w:
        async with connect(w) as one, connect(w) as other:
            for raw in (one, other):
                await raw.send(raw_post(b"{", "Content-Length: 50"))
            await asyncio.sleep(0.2)
            assert (await post(w, GOOD_BODY))[0] == 503
        await asyncio.sleep(0.2)
        await check_smoke(w)


def test_every_problem_of_an_operation_is_in_the_list() -> None:
    assert {slug for operation in OPERATIONS.values() for slug in operation.problems} <= PROBLEMS.keys()


def _fields(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
