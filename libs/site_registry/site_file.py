"""A site file: one depot with everything that is configured in it, read from YAML or JSON and written back.

Reading tells every fault at once, each with a JSON pointer: first what the schema (`contracts/site.schema.json`) says of the
shape, then what contradicts itself between the lists. What is left out gets its default; null and left out are the same.

Writing leaves out what a device's profile gives by itself. A generated action is written only where it is disabled, for the
profile alone would bring it back enabled. Control points are always written, as controller bindings, so that who owns what does
not depend on the order in which devices were once created; the action that a binding brings along is not written besides. So
reading back what was written changes nothing, in this database or in an empty one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend  # pyright: ignore[reportUnknownVariableType]

from microgrid.site_model import (
    CAPABILITIES,
    UPDATE_MICROGRID_STATE,
    ChargePoint,
    Circuit,
    Connector,
    ControlPoint,
    Depot,
    Device,
    Gateway,
    PowerSource,
    SensorAction,
    Site,
)
from sensor_packet.contract_files import read_contract
from site_registry.site_references import SiteFault, pointer_to, profiles, reference_faults
from site_registry.site_yaml import Unreadable, read_document

__all__ = ["BindingEntry", "Feed", "SiteDocument", "SiteFault", "export_site", "parse_site"]

CONTRACT = "site.schema.json"
PROFILE = "PROFILE"
PERSON = "PERSON"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Feed:
    """One capability of a controller binding and the measurand that feeds it."""

    capability: str
    measurand: str


@dataclass(frozen=True, slots=True)
class BindingEntry:
    """A controller binding as a site file has it; `node_id` None is the whole site, `stale_after_s` None what it was."""

    device_id: str
    capabilities: tuple[Feed, ...]
    node_id: str | None = None
    enabled: bool = True
    stale_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class SiteDocument:
    """A site file that contradicts itself nowhere, lists in the order of the file.

    `sensor_actions` have no ids yet (`sensor_action_id` is empty): they are told apart by what they say.
    """

    depot: Depot
    circuits: tuple[Circuit, ...] = ()
    charge_points: tuple[ChargePoint, ...] = ()
    connectors: tuple[Connector, ...] = ()
    power_sources: tuple[PowerSource, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    devices: tuple[Device, ...] = ()
    sensor_actions: tuple[SensorAction, ...] = ()
    controller_bindings: tuple[BindingEntry, ...] = ()


def parse_site(given: str | bytes | Mapping[str, Any]) -> SiteDocument | list[SiteFault]:
    """Read a site from YAML or JSON text, or from a document already decoded; every fault in the order of the document."""
    document: object = given
    if isinstance(given, bytes):
        try:
            given = given.decode("utf-8-sig")
        except UnicodeDecodeError as fault:
            return [SiteFault("", "MALFORMED_YAML", f"not UTF-8 at byte {fault.start}")]
    if isinstance(given, str):
        document = read_document(given)
        if isinstance(document, Unreadable):
            return [SiteFault("", "MALFORMED_YAML", document.detail)]
    faults = [*_schema_faults(document), *reference_faults(document)]
    if faults:
        return _in_document_order(document, faults)
    return _typed(cast("dict[str, Any]", document))


def export_site(site: Site) -> dict[str, Any]:
    """A depot as a site document: every list, each in a fixed order; fields that are null are left out."""
    return {
        "depot": _fields(site.depot),
        "circuits": [_fields(circuit) for circuit in site.circuits],
        "charge_points": [_fields(point) for point in site.charge_points],
        "connectors": [_fields(connector) for connector in site.connectors],
        "power_sources": [_fields(source) for source in site.power_sources],
        "gateways": [_gateway(gateway) for gateway in site.gateways],
        "devices": [_fields(device) for device in site.devices],
        "sensor_actions": [_action(action) for action in _actions_to_write(site)],
        "controller_bindings": _bindings(site.microgrid.control_points if site.microgrid else ()),
    }


def generated_actions(device: Device) -> list[SensorAction]:
    """The actions that a device's profile gives it, in the profile's order, without ids."""
    profile = profiles().get(device.profile) if device.profile else None
    return [
        SensorAction("", device.device_id, known.key, known.action.action, capability=known.action.capability, origin=PROFILE)
        for known in (profile.measurands if profile else ())
        if known.action is not None
    ]


# Reading


@cache
def _validator() -> Any:
    return _validator_class()(msgspec.json.decode(read_contract(CONTRACT)))


@cache
def _validator_class() -> Any:
    # NaN and the infinities are numbers to Python and would pass every comparison or none.
    checker = Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite)
    return cast("Any", extend(Draft202012Validator, type_checker=checker))


def _is_finite(_checker: object, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def schema_faults(schema: Mapping[str, Any], document: object) -> list[SiteFault]:
    """What a JSON Schema in the manner of the site file's finds, in no particular order; numbers are finite."""
    return _faults_by(_validator_class()(schema), document)


def _schema_faults(document: object) -> list[SiteFault]:
    return _faults_by(_validator(), document)


def _faults_by(validator: Any, document: object) -> list[SiteFault]:
    found: dict[tuple[str, str], SiteFault] = {}
    errors = cast("Iterable[ValidationError]", validator.iter_errors(document))
    for error in errors:
        for fault in _from_schema(error):
            found.setdefault((fault.pointer, fault.code), fault)
    return list(found.values())


def _from_schema(error: ValidationError) -> list[SiteFault]:
    path = list(error.absolute_path)
    schema = cast("dict[str, Any]", error.schema)
    value = cast("Any", error.instance)
    expected = cast("Any", error.validator_value)
    match error.validator:
        case "additionalProperties" if expected is False:
            known = ", ".join(schema["properties"])
            unknown = [name for name in value if name not in schema["properties"]]
            return [
                SiteFault(pointer_to(*path, name), "UNKNOWN_FIELD", f"no such field here; there are {known}") for name in unknown
            ]
        case "required":
            missing = [name for name in expected if name not in value]
            return [SiteFault(pointer_to(*path, name), "MISSING_FIELD", f"{name} is required") for name in missing]
        case "propertyNames":
            return [SiteFault(pointer_to(*path), "INVALID_VALUE", error.message[:200])]
        case "pattern":
            detail = f"{_shown(value)} is not {schema['description']}"
        case "type" if isinstance(value, str) or "string" not in expected:
            detail = f"{_shown(value)} is not {_either(expected)}"
        case "type":
            detail = f"{_shown(value)} is not {_either(expected)}; quote it if it is meant as text"
        case "minItems":
            detail = "at least one is needed"
        case "minLength":
            detail = "it must not be empty"
        case "maxLength":
            detail = f"longer than {expected} characters"
        case "minimum" | "exclusiveMinimum":
            detail = (
                f"{_shown(value)} is too small; {'more than' if error.validator == 'exclusiveMinimum' else 'at least'} {expected}"
            )
        case "maximum":
            detail = f"{_shown(value)} is too large; at most {expected}"
        case "enum":
            detail = f"{_shown(value)} is none of {', '.join('null' if one is None else str(one) for one in expected)}"
        case _:
            detail = error.message[:200]
    if error.path and error.parent is not None and error.parent.validator == "propertyNames":
        path = path[:-1]
    return [SiteFault(pointer_to(*path), str(schema.get("x-code", "INVALID_VALUE")), detail)]


def _either(types: str | list[str]) -> str:
    return " or ".join([types] if isinstance(types, str) else types)


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, list | dict) else f"a {'list' if isinstance(value, list) else 'mapping'}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _in_document_order(document: object, faults: Iterable[SiteFault]) -> list[SiteFault]:
    top = list(cast("dict[str, Any]", document)) if isinstance(document, dict) else []

    def order(fault: SiteFault) -> tuple[object, ...]:
        parts = fault.pointer.split("/")[1:]
        head = top.index(parts[0]) if parts and parts[0] in top else -1
        return (head, [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts[1:]], fault.code)

    return sorted(faults, key=order)


def _typed(document: dict[str, Any]) -> SiteDocument:
    # The schema has checked names and types: what is left to do are defaults, and numbers that JSON writes in two ways.
    def rows(name: str) -> list[dict[str, Any]]:
        return document.get(name, [])

    return SiteDocument(
        depot=Depot(**document["depot"]),
        circuits=tuple(
            Circuit(
                row["circuit_id"],
                row.get("parent_circuit_id"),
                row["name"],
                int(row.get("position", 0)),
                _number(row.get("default_capacity_kw")),
                _number(row.get("safe_capacity_kw")),
                _number(row.get("rating_kw")),
            )
            for row in rows("circuits")
        ),
        charge_points=tuple(
            ChargePoint(row["charge_point_id"], row["circuit_id"], row["name"], float(row["max_kw"]))
            for row in rows("charge_points")
        ),
        connectors=tuple(
            Connector(row["connector_id"], row["charge_point_id"], int(row["number"]), _number(row.get("max_kw")))
            for row in rows("connectors")
        ),
        power_sources=tuple(
            PowerSource(row["power_source_id"], row.get("circuit_id"), row["kind"], row["name"], _number(row.get("rated_kw")))
            for row in rows("power_sources")
        ),
        gateways=tuple(Gateway(**row) for row in rows("gateways")),
        devices=tuple(
            Device(row["device_id"], row["gateway_id"], row.get("circuit_id"), row.get("profile"), row.get("enabled", True))
            for row in rows("devices")
        ),
        sensor_actions=tuple(_typed_action(row) for row in rows("sensor_actions")),
        controller_bindings=tuple(_typed_binding(row) for row in rows("controller_bindings")),
    )


def _typed_action(row: dict[str, Any]) -> SensorAction:
    numbers = {name: _number(row.get(name)) for name in ("heartbeat_timeout_s", "scale")}
    fields: dict[str, Any] = {**row, **numbers}
    return SensorAction(sensor_action_id="", **fields)


def _typed_binding(row: dict[str, Any]) -> BindingEntry:
    return BindingEntry(
        row["device_id"],
        tuple(Feed(feed["capability"], feed["measurand"]) for feed in row["capabilities"]),
        row.get("node_id"),
        row.get("enabled", True),
        _number(row.get("stale_after_s")),
    )


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


# Writing


def _fields(thing: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(thing).items() if value is not None}


def _plain(value: object) -> object:
    # 500 and not 500.0: one number has one spelling, and people read it.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _gateway(gateway: Gateway) -> dict[str, Any]:
    written = _fields(gateway)
    for name in ("model_outputs", "output_translation"):
        written[name] = dict(sorted(written[name].items()))
    return written


def _action(action: SensorAction) -> dict[str, Any]:
    written = _fields(action)
    del written["sensor_action_id"], written["origin"]
    if action.enabled:
        del written["enabled"]
    return written


def _actions_to_write(site: Site) -> list[SensorAction]:
    generated = {
        (action.device_id, action.measurand, action.action, action.capability)
        for device in site.devices
        for action in generated_actions(device)
    }
    points = {
        (point.device_id, point.measurand, point.capability, point.node_id, point.enabled)
        for point in (site.microgrid.control_points if site.microgrid else ())
    }

    def said_elsewhere(action: SensorAction) -> bool:
        plain = (action.power_source_id, action.circuit_id, action.heartbeat_timeout_s, action.scale) == (None,) * 4
        if action.action == UPDATE_MICROGRID_STATE and plain:
            as_bound = (action.device_id, action.measurand, action.capability, action.node_id, action.enabled)
            if as_bound in points:
                return True
        key = (action.device_id, action.measurand, action.action, action.capability)
        return action.origin == PROFILE and action.enabled and plain and action.node_id is None and key in generated

    def order(action: SensorAction) -> tuple[str, ...]:
        selectors = (action.capability, action.node_id, action.power_source_id, action.circuit_id)
        return (action.device_id, action.measurand, action.action, *(one or "" for one in selectors), action.sensor_action_id)

    return sorted((action for action in site.sensor_actions if not said_elsewhere(action)), key=order)


def _bindings(points: Iterable[ControlPoint]) -> list[dict[str, Any]]:
    def binding(point: ControlPoint) -> tuple[str, str, bool, float]:
        return (point.device_id, point.node_id or "", not point.enabled, point.stale_after_s)

    ordered = sorted(points, key=lambda point: (*binding(point), CAPABILITIES.index(point.capability)))
    written: list[dict[str, Any]] = []
    for (device_id, node_id, disabled, stale_after_s), of_one in groupby(ordered, key=binding):
        written.append(
            {
                "device_id": device_id,
                **({"node_id": node_id} if node_id else {}),
                "enabled": not disabled,
                "stale_after_s": _plain(stale_after_s),
                "capabilities": [{"capability": point.capability, "measurand": point.measurand} for point in of_one],
            }
        )
    return written
