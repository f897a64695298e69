"""What is wrong with a single thing that a command wants to create or change, judged by the rules of the site file.

The thing is put into the document that its depot is, and what the rules then find and did not find before is the command's doing.
So one set of rules holds for files and commands, and oddities that were stored long ago stand in nobody's way. Pointers lead into
the command's body. What is at fault somewhere else, because of the change, is told only if nothing is at fault in the thing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import Any, cast

import msgspec

from microgrid.site_model import Site
from sensor_packet.contract_files import read_contract
from site_registry.site_file import CONTRACT, export_site, schema_faults
from site_registry.site_references import SiteFault, pointer_to, reference_faults

OWNED_BY_DEPOT = ("circuit", "power_source", "gateway", "device")
"""Kinds whose body names the depot; that of the others follows from what they belong to."""

_DEPOT_ID = {"$ref": "#/$defs/identifier"}
_NOT_CHANGED = {"sensor_action": ("device_id",)}


@cache
def _contract() -> dict[str, Any]:
    return msgspec.json.decode(read_contract(CONTRACT))


@cache
def creation_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of the body that creates a thing: its entry in a site file, and the depot where nothing else tells it."""
    if kind == "depot":
        entry: dict[str, Any] = _contract()["properties"]["depot"]
        return {**entry, "properties": {**entry["properties"], "circuits": _contract()["properties"]["circuits"]}}
    entry = _contract()["properties"][f"{kind}s"]["items"]
    if kind not in OWNED_BY_DEPOT:
        return entry
    # A device's gateway tells its depot, too, so there it may be left out.
    required = entry["required"] if kind == "device" else ["depot_id", *entry["required"]]
    return {**entry, "required": required, "properties": {"depot_id": _DEPOT_ID, **entry["properties"]}}


@cache
def change_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of the body that changes a thing: any of its fields but those that tell which thing it is."""
    entry: dict[str, Any] = (
        _contract()["properties"]["depot"] if kind == "depot" else _contract()["properties"][f"{kind}s"]["items"]
    )
    fixed = (f"{kind}_id", *_NOT_CHANGED.get(kind, ()))
    properties = {
        name: {key: value for key, value in schema.items() if key != "default"}
        for name, schema in entry["properties"].items()
        if name not in fixed
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def site_schema() -> dict[str, Any]:
    """JSON Schema of a whole site document."""
    return _contract()


def definitions() -> dict[str, Any]:
    """The definitions that the schemas refer to under `#/$defs/`."""
    return _contract()["$defs"]


def shape_faults(schema: Mapping[str, Any], body: object) -> list[SiteFault]:
    """What the body is in itself at fault, by pointer."""
    return sorted(schema_faults({**schema, "$defs": definitions()}, body), key=lambda fault: (fault.pointer, fault.code))


def thing_faults(site: Site, kind: str, entry: Mapping[str, Any]) -> list[SiteFault]:
    """What is at fault between a thing and its depot: references that lead nowhere, cycles, contradictions.

    `entry` is the thing as the site file has it, with its id; one that is there takes the place of that.
    """
    before = _document(site)
    if kind == "sensor_action":
        # Its control point follows it, and what that says now contradicts nothing.
        del before["controller_bindings"]
    name, key = f"{kind}s", f"{kind}_id"
    entries = cast("list[dict[str, Any]]", before[name])
    at = next((index for index, one in enumerate(entries) if one[key] == entry[key]), len(entries))
    after = {**before, name: [*entries[:at], dict(entry), *entries[at + 1 :]]}
    known = {(fault.pointer, fault.code) for fault in reference_faults(before)}
    caused = [fault for fault in reference_faults(after) if (fault.pointer, fault.code) not in known]
    here = pointer_to(name, at)
    own = [
        replace(fault, pointer=fault.pointer.removeprefix(here), detail=fault.detail.replace("the document has", "the depot has"))
        for fault in caused
        if fault.pointer == here or fault.pointer.startswith(here + "/")
    ]
    return own or [replace(fault, pointer="", detail=f"{fault.pointer}: {fault.detail}") for fault in caused]


def entry_of(thing: Any) -> dict[str, Any]:
    """A stored thing as the site file has it, with its id."""
    return {name: value for name, value in asdict(thing).items() if name != "origin"}


def _document(site: Site) -> dict[str, Any]:
    # The file leaves out what a profile gives by itself; here it may contradict what is asked for.
    return {**export_site(site), "sensor_actions": [entry_of(action) for action in site.sensor_actions]}
