"""The OpenAPI document says what the table says: all of it, and in a valid shape."""

from typing import Any

import msgspec

from heliograph.wire.openapi import openapi_document, path_fields
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import PROBLEMS

DOCUMENT = openapi_document()
METHODS = {"get", "post", "put", "delete"}


def every(value: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all objects in a document."""
    if isinstance(value, dict):
        found.append(value)
        for item in value.values():
            every(item, found)
    elif isinstance(value, list):
        for item in value:
            every(item, found)
    return found


def test_every_operation_is_described_once() -> None:
    described = [
        (one["operationId"], path, method) for path, item in DOCUMENT["paths"].items() for method, one in item.items()
    ]
    table = [(one.name, one.path, one.method.lower()) for one in OPERATIONS.values()]
    assert sorted(described) == sorted(table)
    assert all(set(item) <= METHODS for item in DOCUMENT["paths"].values())


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    references = {one["$ref"] for one in every(DOCUMENT, []) if "$ref" in one}
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= schemas.keys()


def test_every_field_of_a_request_is_in_the_path_the_query_or_the_body() -> None:
    for operation in OPERATIONS.values():
        described = DOCUMENT["paths"][operation.path][operation.method.lower()]
        parameters = described.get("parameters", [])
        in_path = [one["name"] for one in parameters if one["in"] == "path"]
        in_query = [one["name"] for one in parameters if one["in"] == "query"]
        body = described.get("requestBody", {"content": {"application/json": {"schema": {}}}})
        in_body = list(body["content"]["application/json"]["schema"].get("properties", {}))
        assert in_path == path_fields(operation)
        assert all(one["required"] for one in parameters if one["in"] == "path")
        assert sorted(in_path + in_query + in_body) == sorted(operation.request.__struct_fields__), operation.name


def test_every_problem_of_an_operation_stands_under_its_status() -> None:
    for operation in OPERATIONS.values():
        responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
        for slug in operation.problems:
            assert slug in responses[str(PROBLEMS[slug].status)]["description"]


def test_who_may_call_is_said() -> None:
    for operation in OPERATIONS.values():
        security = DOCUMENT["paths"][operation.path][operation.method.lower()].get("security")
        expected = {"anyone": None, "optional": [{}, {"session": []}]}.get(operation.access, [{"session": []}])
        assert security == expected


def test_bytes_are_base64url_text() -> None:
    encodings = {one["contentEncoding"] for one in every(DOCUMENT, []) if "contentEncoding" in one}
    assert encodings == {"base64url"}
    challenge = DOCUMENT["components"]["schemas"]["CreateSession"]["properties"]["challenge"]
    assert challenge["minLength"] <= 43 <= challenge["maxLength"], "32 bytes have 43 characters"


def test_the_document_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT))["openapi"] == "3.1.0"
