"""Judge events by the schemas that other programs rely on; for every test that sees events, from wherever."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from microgrid.events import Event, utc_text
from sensor_packet.contract_files import list_contracts, read_contract

ENVELOPE = "envelope.v1"
# Types that are only partly known.
_Validator: Any = Draft202012Validator
_Registry: Any = Registry


@cache
def schema(name: str) -> dict[str, Any]:
    """A schema of `contracts/events/` by its file's name without `.schema.json`."""
    return msgspec.json.decode(read_contract(f"events/{name}.schema.json"))


@cache
def validator(name: str) -> Any:
    """What judges by that schema; references lead to the envelope's."""
    envelope = schema(ENVELOPE)
    registry = _Registry().with_resource(envelope["$id"], DRAFT202012.create_resource(envelope))
    return _Validator(schema(name), registry=registry, format_checker=_Validator.FORMAT_CHECKER)


def schema_names() -> list[str]:
    """Every schema that there is."""
    names = (name.removeprefix("events/") for name in list_contracts("events"))
    return [name.removesuffix(".schema.json") for name in names if name.endswith(".schema.json")]


def as_document(event: Event) -> dict[str, Any]:
    """An event as other programs see it: JSON values, times in UTC."""
    document = cast("dict[str, Any]", msgspec.to_builtins(event))
    return {**document, "observed_at": utc_text(event.observed_at), "sent_at": utc_text(event.sent_at)}


def validate_event(event: Event | Mapping[str, Any]) -> list[str]:
    """What is wrong with an event (or with its JSON document) by the schema of its type and version; empty if nothing is."""
    # Through JSON and back, so that it is judged as it travels.
    document = msgspec.json.decode(msgspec.json.encode(as_document(event) if isinstance(event, Event) else event))
    name = f"{document.get('event_type')}.v{document.get('schema_version')}"
    if name not in schema_names() or name == ENVELOPE:
        return [f"there is no schema for {name}"]
    found = validator(name).iter_errors(document)
    return sorted(f"{error.json_path}: {error.message}" for error in found)
