"""JSON for HTTP and MessagePack for the socket, from the same structs.

MessagePack carries bytes as they are. JSON carries them as base64url without padding (RFC 4648 §5); msgspec
itself writes RFC 4648 §4, so the two functions here translate the byte fields, found once for each type.
"""

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from heliograph.wire.problems import Problem

T = TypeVar("T")
_Walk = Callable[[Any], Any]

_json_decoder = msgspec.json.Decoder()
_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()

MAX_JSON_DEPTH = 32


def base64url_text(data: bytes) -> str:
    """Return `data` as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def base64url_bytes(text: str) -> bytes:
    """Return the bytes of canonical base64url text without padding.

    Raises:
        ValueError: the text has another alphabet, padding, or stray bits.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise ValueError("not base64url") from error
    if base64url_text(data) != text:
        raise ValueError("not canonical base64url")
    return data


def encode_json(value: object) -> bytes:
    """Return a struct as JSON, byte fields in base64url."""
    return _json_encoder.encode(json_value(value))


def json_value(value: object) -> Any:
    """Return a struct as JSON's dicts, lists, texts and numbers, byte fields in base64url."""
    return _bytes_to_text(msgspec.to_builtins(value, builtin_types=(bytes,)))


def decode_json(data: bytes, kind: type[T], extra: dict[str, Any] | None = None) -> T:
    """Return the struct of type `kind` that JSON `data` holds.

    `extra` are members that came by another way (the path); the body may not name them again.

    Raises:
        Problem: `malformed`, with what is wrong and where.
    """
    try:
        value: Any = _json_decoder.decode(data) if data else {}
        if extra:
            value = _merged(value, extra)
        return convert(value, kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem("malformed", _sentence(error)) from None


def convert(value: object, kind: type[T], *, strict: bool = True) -> T:
    """Return `value` (JSON's lists, dicts, texts and numbers) as `kind`; `strict=False` reads numbers in text.

    Raises:
        msgspec.ValidationError: the value is not of that type.
    """
    _check_depth(value, MAX_JSON_DEPTH)
    walk = _walk_for(kind)
    return msgspec.convert(walk(value) if walk else value, kind, builtin_types=(bytes,), strict=strict)


def encode_msgpack(value: object) -> bytes:
    """Return a struct as MessagePack: map keys in the struct's order, shortest forms."""
    return _msgpack_encoder.encode(value)


def decode_msgpack(data: bytes, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    """Return what MessagePack `data` holds.

    Raises:
        Problem: `malformed`, with what is wrong and where.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem("malformed", _sentence(error)) from None


def _merged(body: Any, path: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(body, dict) or path.keys() & cast("dict[str, Any]", body).keys():
        raise msgspec.ValidationError("the body must be an object that names nothing of the path")
    return {**cast("dict[str, Any]", body), **path}


def _sentence(error: Exception) -> str:
    return "the body is nested too deep" if isinstance(error, RecursionError) else str(error)[:300]


def _check_depth(value: Any, depth_left: int) -> None:
    if depth_left < 0:
        raise msgspec.ValidationError(f"more than {MAX_JSON_DEPTH} levels of nesting")
    if isinstance(value, dict):
        value = list(cast("dict[str, Any]", value).values())
    for item in cast("list[Any]", value) if isinstance(value, list) else ():
        _check_depth(item, depth_left - 1)


def _bytes_to_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64url_text(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: _bytes_to_text(item) for key, item in members.items()}
    if isinstance(value, list | tuple):
        return [_bytes_to_text(item) for item in cast("list[Any]", value)]
    return value


@cache
def _walk_for(kind: type) -> _Walk | None:
    return _walk(inspect.type_info(kind))


def _walk(info: inspect.Type) -> _Walk | None:
    """Return what turns the texts of byte fields into bytes below `info`, or None where there are none."""
    if isinstance(info, inspect.BytesType):
        return _read_bytes
    if isinstance(info, inspect.StructType):
        return _walk_struct(info)
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return _walk_items(info)
    if isinstance(info, inspect.UnionType):
        return _walk_union(info)
    return None


def _walk_struct(info: inspect.StructType) -> _Walk | None:
    found = {field.encode_name: _walk(field.type) for field in info.fields}
    fields = {name: walk for name, walk in found.items() if walk is not None}
    names = [field.encode_name for field in info.fields]
    if not fields:
        return None

    def walk(value: Any) -> Any:
        if info.array_like and isinstance(value, list):
            values = cast("list[Any]", value)
            pairs = zip(names, values, strict=False)
            return [fields[name](item) if name in fields else item for name, item in pairs] + values[len(names) :]
        if not isinstance(value, dict):
            return value
        members = cast("dict[str, Any]", value)
        return {name: fields[name](item) if name in fields else item for name, item in members.items()}

    return walk


def _walk_items(info: inspect.ListType | inspect.VarTupleType) -> _Walk | None:
    item_walk = _walk(info.item_type)
    if item_walk is None:
        return None

    def walk(value: Any) -> Any:
        return [item_walk(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value

    return walk


def _walk_union(info: inspect.UnionType) -> _Walk | None:
    structs = [one for one in info.types if isinstance(one, inspect.StructType)]
    by_tag = {one.tag: _walk_struct(one) for one in structs}
    tag_field = structs[0].tag_field if structs else None
    others = [found for one in info.types if not isinstance(one, inspect.StructType) and (found := _walk(one))]
    if not any(by_tag.values()) and not others:
        return None

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            tag: Any = members.get(tag_field) if tag_field else None
            chosen = by_tag.get(tag) if tag is None or isinstance(tag, str | int) else None
            return chosen(members) if chosen else members
        return others[0](value) if others and value is not None else value

    return walk


def _read_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64url_bytes(value)
    except ValueError as error:
        raise msgspec.ValidationError(f"Expected base64url without padding: {error}") from None
