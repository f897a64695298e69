"""What the descriptions of both APIs promise, one line each, so that a promise that goes away is seen.

A promise is: a path with its method; a parameter; a status; a field of an answer or of a body with its type; that a field of a body
may be left out; a value that a body may take; a code of a refusal. More may always be promised. `contracts/http-promises.txt`
keeps what has been; a line may leave it only together with a new major version of the interface (`VERSION` of its app).

`python -m tests.contracts.http_promises` adds what is new, and refuses to take anything away.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

CONTRACTS = Path(__file__).parents[2] / "contracts"
KEPT = CONTRACTS / "http-promises.txt"
APIS = ("read", "command")
_METHODS = ("get", "put", "post", "delete", "patch")

Schema = Mapping[str, Any]


def described(api: str) -> dict[str, Any]:
    """The published description of an API."""
    return json.loads((CONTRACTS / f"openapi.{api}.json").read_text(encoding="utf-8"))


def promises(api: str, document: Schema) -> set[str]:
    """Every promise of a description; each begins with the API and its major version."""
    head = f"{api} {str(document['info']['version']).partition('.')[0]}"
    found = {f"{head} code {code}" for code in cast("list[str]", document.get("x-codes", []))}
    refusal = {"$ref": "#/components/schemas/ProblemDocument"}
    found |= {f"{head} refusal {line}" for line in _fields(refusal, document, "", (), body=False)}
    for path, operations in cast("dict[str, dict[str, Any]]", document["paths"]).items():
        for method in _METHODS:
            if method in operations:
                here = f"{head} {method.upper()} {path}"
                found |= {here, *(f"{here} {line}" for line in _of_operation(operations[method], document))}
    return found


def broken(kept: set[str], now: set[str]) -> list[str]:
    """The kept promises that are not held any more, those of an earlier major version left out."""
    versions = {(line.split(" ")[0], line.split(" ")[1]) for line in now}
    return sorted(line for line in kept - now if (line.split(" ")[0], line.split(" ")[1]) in versions)


def _of_operation(operation: Schema, document: Schema) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        yield f"{parameter['in']} {parameter['name']}: {_type(parameter['schema'], document)}"
        if not parameter.get("required"):
            yield f"{parameter['in']} {parameter['name']} may be left out"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"takes {media_type}"
        yield from (f"takes {line}" for line in _fields(content.get("schema", {}), document, "", (), body=True))
    for status, response in operation["responses"].items():
        yield f"answers {status}"
        for media_type, content in response.get("content", {}).items():
            yield f"answers {status} {media_type}"
            if not status.startswith("2"):
                continue  # every refusal is one and the same document
            lines = _fields(content.get("schema", {}), document, "", (), body=False)
            yield from (f"answers {status} {line}" for line in lines)


def _fields(schema: Schema, document: Schema, at: str, above: tuple[str, ...], *, body: bool) -> Iterator[str]:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in above:
            return
        above = (*above, reference)
        schema = _resolved(schema, document)
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _fields(option, document, at, above, body=body)
    if body:
        yield from (f"{at} = {json.dumps(value)}" for value in schema.get("enum", ()))
    for name, field in cast("dict[str, Schema]", schema.get("properties", {})).items():
        yield f"{at}.{name}: {_type(field, document)}"
        if body and name not in schema.get("required", ()):
            yield f"{at}.{name} may be left out"
        yield from _fields(field, document, f"{at}.{name}", above, body=body)
    for name, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        inner = schema.get(name)
        if isinstance(inner, dict):
            yield from _fields(cast("Schema", inner), document, f"{at}{suffix}", above, body=body)


def _type(schema: Schema, document: Schema) -> str:
    schema = _resolved(schema, document)
    options = (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    if options:
        return "|".join(sorted({_type(option, document) for option in options}))
    kind = schema.get("type")
    if kind is None:
        values = cast("list[object]", schema.get("enum", [schema["const"]] if "const" in schema else []))
        kinds = {
            "null" if value is None else {"str": "string", "bool": "boolean"}.get(type(value).__name__, "number")
            for value in values
        }
        return "|".join(sorted(kinds)) or "anything"
    return "|".join(sorted([kind] if isinstance(kind, str) else cast("list[str]", kind)))


def _resolved(schema: Schema, document: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return cast("Schema", found)


def kept_promises() -> set[str]:
    """The lines of the kept file."""
    return set(KEPT.read_text(encoding="utf-8").splitlines()) if KEPT.exists() else set()


def main() -> int:
    """Add what is new to the kept file; 1 where a promise is broken."""
    now = set[str]().union(*(promises(api, described(api)) for api in APIS))
    kept = kept_promises()
    gone = broken(kept, now)
    if gone:
        sys.stderr.write("\n".join([*gone, "these promises are broken: give the interface a new major version\n"]))
        return 1
    KEPT.write_text("\n".join(sorted(kept | now)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
