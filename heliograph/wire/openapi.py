"""The table of operations as an OpenAPI 3.1 document.

Bytes are base64url text without padding (RFC 4648 §5), as `encoding` reads and writes them.
"""

import re
from typing import Any, Final

import msgspec

from heliograph.wire.events import AnyEvent
from heliograph.wire.operations import OPERATIONS, Operation
from heliograph.wire.problems import PROBLEMS, ProblemBody

OPENAPI_VERSION: Final = "3.1.0"
_REF: Final = "#/components/schemas/{name}"
_BASE64URL: Final = {"type": "string", "contentEncoding": "base64url", "pattern": "^[A-Za-z0-9_-]*$"}
_COMMON: Final = ("malformed", "too-large", "too-many-requests", "overloaded", "storage-full", "internal-error")
_WITH_SESSION: Final = ("not-logged-in", "not-allowed", "account-restricted")
_BODYLESS: Final = ("GET", "DELETE")


def openapi_document(title: str = "Heliograph", version: str = "1") -> dict[str, Any]:
    """Return the document as JSON's dicts and lists."""
    kinds: list[Any] = [ProblemBody, AnyEvent]
    for operation in OPERATIONS.values():
        kinds += [operation.request, operation.reply]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind: dict[Any, dict[str, Any]] = dict(zip(kinds, schemas, strict=True))
    components = {name: _base64url(schema) for name, schema in components.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS.values():
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, by_kind, components)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
    }


def path_fields(operation: Operation) -> list[str]:
    """Return the fields of the request that stand in the path, in their order."""
    return re.findall(r"{(\w+)}", operation.path)


def _describe(operation: Operation, by_kind: dict[Any, dict[str, Any]], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            "200": _answer("The answer", "application/json", by_kind[operation.reply]),
            **_refusals(operation),
        },
    }
    if operation.access == "optional":
        described["security"] = [{}, {"session": []}]
    elif operation.access != "anyone":
        described["security"] = [{"session": []}]
    if operation.access in ("reviewer", "administrator"):
        described["description"] = f"Needs the role {operation.access}."
    request = components[operation.request.__name__]
    in_path = path_fields(operation)
    parameters = [_parameter(request, name, "path") for name in in_path]
    others = [name for name in request.get("properties", {}) if name not in in_path]
    if operation.method in _BODYLESS:
        parameters += [_parameter(request, name, "query") for name in others]
    elif others:
        body = _without(request, in_path)
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        described["parameters"] = parameters
    return described


def _parameter(request: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    required = place == "path" or name in request.get("required", [])
    return {"name": name, "in": place, "required": required, "schema": request["properties"][name]}


def _without(request: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the request's schema as its body: without what the path says."""
    body = {key: value for key, value in request.items() if key not in ("title", "properties", "required")}
    body["properties"] = {name: one for name, one in request["properties"].items() if name not in names}
    required = [name for name in request.get("required", []) if name not in names]
    return {**body, "required": required} if required else body


def _answer(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _refusals(operation: Operation) -> dict[str, Any]:
    slugs = [*operation.problems, *_COMMON, *(_WITH_SESSION if operation.access != "anyone" else ())]
    if operation.method not in _BODYLESS:
        slugs.append("unsupported-media-type")
    by_status: dict[int, list[str]] = {}
    for slug in dict.fromkeys(slugs):
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    schema = {"$ref": _REF.format(name=ProblemBody.__name__)}
    return {
        str(status): _answer(", ".join(found), "application/problem+json", schema)
        for status, found in sorted(by_status.items())
    }


def _base64url(schema: Any) -> Any:
    """Turn msgspec's padded base64 into ours: another alphabet, and up to two characters less."""
    if isinstance(schema, list):
        return [_base64url(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {key: _base64url(value) for key, value in schema.items()}  # pyright: ignore[reportUnknownVariableType]
    if found.get("contentEncoding") != "base64":
        return found
    if "minLength" in found:
        found["minLength"] -= 2
    if "default" in found:
        found["default"] = found["default"].rstrip("=").translate(str.maketrans("+/", "-_"))
    return {**found, **_BASE64URL}
