"""What the description of the interface says of bodies and headers, which the commands read themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from site_operations.thing_faults import definitions

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key with the same body is answered as the first time, for 24 hours",
    # Printable ASCII; HTTP takes spaces at both ends away.
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


def described(schema: Mapping[str, Any] | None, *, with_key: bool = False) -> dict[str, Any]:
    """The `openapi_extra` of a route: the JSON Schema of its body (None: it has none), and whether it takes a key."""
    extra: dict[str, Any] = {}
    if schema is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": resolved(schema)}}}
    if with_key:
        extra["parameters"] = [_KEY]
    return extra


def resolved(schema: Any) -> Any:
    """A schema with the definitions that it refers to written out, and without what other readers of schemas do not know."""
    if isinstance(schema, list):
        return [resolved(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    given = cast("Mapping[str, Any]", schema)
    reference = given.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        return resolved(definitions()[reference.removeprefix("#/$defs/")])
    return {name: resolved(value) for name, value in given.items() if name not in ("x-code", "$schema", "$id", "$defs")}
