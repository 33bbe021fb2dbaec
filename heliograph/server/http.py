"""HTTP: the table of operations as routes, and the one place that catches what they raise.

```
request -> headers, origin -> who -> how fast -> read the body (bounded) -> decode -> handler -> encode
```
Everything that a stranger can get wrong ends as a `Problem`; a bug ends as `internal-error` and one line in the log.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from aiohttp import hdrs, web

from heliograph.server import peer
from heliograph.server.auth import Caller, OpenSession, hash_token
from heliograph.server.bodies import Bodies
from heliograph.server.context import Context
from heliograph.server.logs import trace_of
from heliograph.server.sessions import authenticate
from heliograph.wire.accounts import AccountRole
from heliograph.wire.encoding import convert, decode_json, encode_json
from heliograph.wire.openapi import openapi_document
from heliograph.wire.operations import INCARNATION_HEADER, OPERATIONS, STREAM_PATH, Access, Operation
from heliograph.wire.problems import Problem

Handler = Callable[..., Awaitable[msgspec.Struct]]
Routes = Callable[[Context], Sequence[web.RouteDef]]

OPENAPI_PATH = "/v1/openapi.json"
_BODYLESS = ("GET", "DELETE")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_RANK: Mapping[AccountRole, int] = {"member": 0, "reviewer": 1, "administrator": 2}
_NEEDED_RANK: Mapping[Access, int] = {"reviewer": 1, "administrator": 2}
_OPEN_TO_RESTRICTED = frozenset({"end_session", "get_statement", "get_decision_proof", "get_account_chain"})
"""What a suspended account may still do: read why, and leave."""

_HEADERS = {
    "Server": "heliograph",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
}
"""Sent with every answer that does not say otherwise."""

_BODIES: web.AppKey[Bodies] = web.AppKey("bodies", Bodies)
_PAYER: web.RequestKey[str] = web.RequestKey("payer", str)
_BODY_BYTES: web.RequestKey[int] = web.RequestKey("body_bytes", int)
"""What a request carries along: the device that pays for it, and how much of its body is in memory."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.http")


def create_http_app(
    context: Context, handlers: Mapping[str, Handler], plain_routes: Sequence[Routes]
) -> web.Application:
    """Return the aiohttp application: every operation, the OpenAPI document, and the features' plain routes."""
    app = web.Application(middlewares=[_edge(context)], client_max_size=1)
    app[_BODIES] = Bodies(context.limits.bodies_bytes, context.limits.waiting_bodies_per_payer)
    for operation in OPERATIONS.values():
        app.router.add_route(operation.method, operation.path, _endpoint(context, operation, handlers[operation.name]))
    document = encode_json(openapi_document())
    app.router.add_get(OPENAPI_PATH, _fixed(document), allow_head=False)
    for routes in plain_routes:
        app.add_routes(routes(context))
    return app


def problem_response(problem: Problem) -> web.Response:
    """Return a refusal as `application/problem+json`."""
    headers: dict[str, str] = {}
    if problem.body.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(problem.body.retry_after_s)
    if problem.slug == "not-logged-in":
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return web.Response(
        body=encode_json(problem.body),
        status=problem.body.status,
        content_type="application/problem+json",
        headers=headers,
    )


def require_origin(context: Context, request: web.BaseRequest) -> None:
    """Refuse a browser page of another site. A request without an Origin is no page's.

    Raises:
        Problem: `not-allowed`.
    """
    origins = request.headers.getall(hdrs.ORIGIN, [])
    if not origins:
        return
    own = {f"http://{request.host}", f"https://{request.host}", f"https://{context.domain}"}
    if len(origins) != 1 or (origins[0] not in context.config.origins and origins[0] not in own):
        raise Problem("not-allowed", "this site may not call this server")


def _require_host(context: Context, request: web.BaseRequest) -> None:
    names = request.headers.getall(hdrs.HOST, [])
    if len(names) > 1 or (context.config.hosts and names[:1] not in [[name] for name in context.config.hosts]):
        raise Problem("malformed", "this server answers by another name")


def _edge(context: Context) -> Any:
    """Return the middleware around everything: bounds, headers, and answers to what was raised.

    An open socket is no request in flight: sockets have a limit of their own (`stream.py`).
    """
    in_flight = 0

    @web.middleware
    async def edge(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        nonlocal in_flight
        operation = _name_of(request)
        counts = int(request.path != STREAM_PATH)
        in_flight += counts
        try:
            if in_flight > context.limits.requests_in_flight:
                raise Problem("overloaded", "too many requests at once: try again", retry_after_s=1)
            _require_host(context, request)
            _check_host(request)
            require_origin(context, request)
            response = await handler(request)
        except Problem as problem:
            context.metrics.problems.labels(problem.slug).inc()
            response = problem_response(problem)
        except web.HTTPException as error:
            response = problem_response(_as_problem(error))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            _log.error("request failed", operation=operation, error=type(error).__name__, exc_info=trace_of(error))
            response = problem_response(Problem("internal-error", "the server failed: the operator can see why"))
        finally:
            in_flight -= counts
            request.app[_BODIES].give_back(request.get(_BODY_BYTES, 0))
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        context.metrics.requests.labels(operation, response.status).inc()
        return response

    return edge


def _check_host(request: web.Request) -> None:
    """Refuse a Host that is no host: pages name themselves by it."""
    if _HOST.fullmatch(request.host) is None:
        raise Problem("malformed", "the Host header names no host")


def _name_of(request: web.Request) -> str:
    return getattr(request.match_info.handler, "operation_name", "other")


def _as_problem(error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return Problem("method-not-allowed", f"allowed: {', '.join(sorted(error.allowed_methods))}")
    if error.status == 404:
        return Problem("not-found")
    if error.status == 413:
        return Problem("too-large")
    if error.status == 417:
        return Problem("malformed", "no such expectation can be met")
    return Problem("malformed" if error.status < 500 else "internal-error")


def _fixed(body: bytes) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, content_type="application/json")

    return answer


def _endpoint(context: Context, operation: Operation, handler: Handler) -> Callable[[web.Request], Awaitable[Any]]:
    """Return what answers one operation."""

    async def answer(request: web.Request) -> web.Response:
        caller = await _caller(context, operation, request)
        generation = context.sessions.generation
        now_ms = context.now_ms()
        if caller is None:
            source = context.admission.source(peer.address(context, request), now_ms)
            context.admission.charge("source", source, now_ms)
            context.admission.charge(operation.limit, source, now_ms)
        else:
            context.admission.charge(operation.limit, caller.device, now_ms)
            request[_PAYER] = caller.device
        _check_incarnation(context, request)
        decoded = await _decode(context, operation, request)
        if generation != context.sessions.generation:  # the body took its time, and sessions have ended meanwhile
            caller = await _caller(context, operation, request)
        reply = await handler(context, caller, decoded)
        return web.Response(body=encode_json(reply), content_type="application/json")

    answer.operation_name = operation.name  # type: ignore[attr-defined]
    return answer


def _check_incarnation(context: Context, request: web.Request) -> None:
    """Refuse what was built on another past: after a restore an epoch may bear the same number and be another."""
    named = request.headers.get(INCARNATION_HEADER)
    if named is not None and named != context.incarnation:
        raise Problem("incarnation-changed", "this server was restored from a backup: resynchronise first")


async def _caller(context: Context, operation: Operation, request: web.Request) -> Caller | None:
    """Return who calls, if the operation wants to know and the caller may.

    Raises:
        Problem: `not-logged-in`, `not-allowed`, `account-restricted`.
    """
    if operation.access == "anyone":
        return None
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not given and operation.access == "optional":
        return None
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise Problem("not-logged-in", "send the session's token as Authorization: Bearer")
    session = await _session(context, request, token)
    if session.restriction is not None and operation.name not in _OPEN_TO_RESTRICTED:
        raise session.restriction
    if _RANK[session.caller.role] < _NEEDED_RANK.get(operation.access, 0):
        raise Problem("not-allowed", f"this needs the role {operation.access}")
    return session.caller


async def _session(context: Context, request: web.Request, token: str) -> OpenSession:
    """Return a token's session. Who brings tokens that nobody has pays for looking them up, as a stranger.

    Raises:
        Problem: `not-logged-in`, `too-many-requests`.
    """
    if context.sessions.find(hash_token(token)) is not None:
        return await authenticate(context, token)
    now_ms = context.now_ms()
    source = context.admission.source(peer.address(context, request), now_ms)
    context.admission.require("source", source, now_ms)
    try:
        return await authenticate(context, token)
    except Problem as problem:
        if problem.slug == "not-logged-in":
            context.admission.charge("source", source, now_ms)
        raise


async def _decode(context: Context, operation: Operation, request: web.Request) -> msgspec.Struct:
    """Return what path, query and body say together."""
    path = dict(request.match_info)
    if operation.method in _BODYLESS:
        if request.can_read_body:
            raise Problem("malformed", f"{operation.method} takes no body here")
        return _decode_query(operation, path, request)
    if request.rel_url.raw_query_string:
        raise Problem("malformed", "this operation takes no query parameters")
    body = await read_body(context, request, operation.body_limit_bytes)
    if body and request.content_type != "application/json":
        raise Problem("unsupported-media-type")
    return decode_json(body, operation.request, path)


def _decode_query(operation: Operation, path: dict[str, str], request: web.Request) -> msgspec.Struct:
    query = request.rel_url.query
    if len(query) != len(set(query)):
        raise Problem("malformed", "a query parameter stands twice")
    if path.keys() & query.keys():
        raise Problem("malformed", "a query parameter names what the path says already")
    try:
        decoded = convert({**path, **query}, operation.request, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("malformed", str(error)[:300]) from None
    for name, text in query.items():
        value = getattr(decoded, name)
        if isinstance(value, int) and str(value) != text:
            raise Problem("malformed", f"{name} is a number in digits")
    return decoded


async def read_body(context: Context, request: web.Request, limit_bytes: int) -> bytes:
    """Read the body, refusing what is too large before it is read or as soon as it shows."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "send the body without a content encoding")
    if request.content_length is not None and request.content_length > limit_bytes:
        raise Problem("too-large", f"at most {limit_bytes} bytes")
    parts: list[bytes] = []
    size_bytes = 0
    bodies: Bodies = request.app[_BODIES]
    payer = request.get(_PAYER) or context.admission.source(peer.address(context, request), context.now_ms())
    bodies.begin(payer)
    try:
        async with asyncio.timeout(context.limits.request_within_s):
            async for part in request.content.iter_any():
                size_bytes += len(part)
                if size_bytes > limit_bytes:
                    raise Problem("too-large", f"at most {limit_bytes} bytes")
                bodies.take(len(part))
                request[_BODY_BYTES] = size_bytes
                parts.append(part)
    except TimeoutError:
        raise Problem("malformed", "the body did not come in time") from None
    except web.RequestPayloadError:
        raise Problem("malformed", "the body broke off") from None
    finally:
        bodies.end(payer)
    return b"".join(parts)
