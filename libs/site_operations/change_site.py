"""Create, change and delete the things of the site model one by one, by the rules and with the writing code of a site import.

Each is one change of one depot under its lock: the depot is loaded, the change is judged (every fault at once), the depot as it is
to be is made, and the difference is written with its events. What a thing belongs to tells its depot; that must exist.

- A change of the top-level circuits lets the microgrid follow in the same transaction; the first one provisions it.
- What others refer to is not deleted: the answer names who. A device takes its sensor actions and control points with it.
- A device that is created, or gets another profile, has its actions generated as an import would do it.
- A sensor action that feeds a capability and its control point follow each other (`action_binding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from event_store.append import append_events
from event_store.database import Connection
from microgrid.provisioning import grid_connection_circuits, retired
from microgrid.site_model import (
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
from site_operations.action_binding import follow_actions
from site_operations.import_site import SitePlan, import_within, store_plan
from site_operations.plan_bindings import plan_bindings
from site_operations.provision_microgrid import microgrid_events
from site_operations.resync_microgrid import reconcile_within
from site_operations.thing_faults import (
    OWNED_BY_DEPOT,
    change_schema,
    creation_schema,
    entry_of,
    shape_faults,
    thing_faults,
)
from site_registry import write
from site_registry.find_depot import depot_of, remove_depot
from site_registry.load import load_site
from site_registry.site_file import PERSON, SiteDocument, SiteFault, parse_site

NewId = Callable[[], str]

_TYPES: dict[str, Callable[..., Any]] = {
    "circuit": Circuit,
    "charge_point": ChargePoint,
    "connector": Connector,
    "power_source": PowerSource,
    "gateway": Gateway,
    "device": Device,
    "sensor_action": SensorAction,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "circuit": {"parent_circuit_id": None, "position": 0},
    "power_source": {"circuit_id": None},
    "device": {"circuit_id": None, "profile": None, "enabled": True},
}
_PARENTS = {"charge_point": "circuit", "connector": "charge_point", "sensor_action": "device"}
_DEPOT_DELETED = "DEPOT_DELETED"
_WHOLE_NUMBERS = ("position", "number")


@dataclass(frozen=True, slots=True)
class Changed:
    """The depot as it is stored now, the thing in it (None where it was deleted), and what a person should know."""

    site: Site
    thing: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is no such thing; `kind` is one of `write.KINDS` or `depot`."""

    kind: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Faulty:
    """What is wrong with the command, at least one fault; nothing was stored."""

    faults: tuple[SiteFault, ...]


@dataclass(frozen=True, slots=True)
class InUse:
    """What refers to a thing and keeps it from being deleted, in the order of the kinds, then of ids."""

    kind: str
    identifier: str
    by: tuple[str, ...]


async def create_thing(
    connection: Connection, kind: str, body: object, *, sees: Callable[[str], bool], now: datetime, new_id: NewId
) -> Changed | NotFound | Faulty:
    """Create a thing of one of `write.KINDS` in the caller's transaction, from the body of a command.

    `sees` tells whether the caller may see a depot; what belongs to another is not there for them.
    """
    faults = shape_faults(creation_schema(kind), body)
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    found = await _depot_to_be_in(connection, kind, fields, sees)
    if not isinstance(found, str):
        return Faulty(tuple(faults)) if faults or found is None else found
    await write.lock_depot(connection, found)
    site = await load_site(connection, found)
    if site is None:
        return NotFound("depot", found)
    entry = {name: value for name, value in fields.items() if name != "depot_id"}
    key = f"{kind}_id"
    if kind == "sensor_action":
        entry = {key: new_id(), **entry}
    elif isinstance(entry.get(key), str) and not _told(faults, SiteFault(f"/{key}", "", "")):
        faults += await _taken(connection, kind, site, entry[key])
    if isinstance(entry.get(key), str):
        caused = thing_faults(site, kind, entry) + _unknown_node(site, kind, entry)
        faults += [fault for fault in caused if not _told(faults, fault)]
    if faults:
        return Faulty(_in_order(faults))
    return await _store(connection, site, kind, _typed(kind, entry), now, new_id)


async def change_thing(
    connection: Connection, kind: str, identifier: str, body: object, *, now: datetime, new_id: NewId
) -> Changed | NotFound | Faulty:
    """Change the fields of a thing that the body names, null clearing those that may be null; in the caller's transaction."""
    found = await locked(connection, kind, identifier)
    if found is None:
        return NotFound(kind, identifier)
    site, thing = found
    faults = shape_faults(change_schema(kind), body)
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    entry = {**entry_of(thing), **fields}
    faults += [fault for fault in thing_faults(site, kind, entry) + _unknown_node(site, kind, entry) if not _told(faults, fault)]
    if faults:
        return Faulty(_in_order(faults))
    changed = _typed(kind, entry)
    if kind == "sensor_action":
        # Nobody has edited it who has changed nothing.
        same = replace(changed, origin=thing.origin)
        changed = same if same == thing else changed
    if changed == thing:
        return Changed(site, thing)
    return await _store(connection, site, kind, changed, now, new_id)


async def delete_thing(
    connection: Connection, kind: str, identifier: str, *, now: datetime, new_id: NewId
) -> Changed | NotFound | InUse:
    """Delete a thing to which nothing refers, in the caller's transaction."""
    found = await locked(connection, kind, identifier)
    if found is None:
        return NotFound(kind, identifier)
    site, thing = found
    identifier = getattr(thing, f"{kind}_id")
    by = users_of(site, kind, identifier)
    if by:
        return InUse(kind, identifier, tuple(by))
    after = _without(site, kind, identifier)
    if kind == "device":
        gone = {action.sensor_action_id for action in site.sensor_actions if action.device_id == identifier}
        after = replace(
            after, sensor_actions=tuple(action for action in after.sensor_actions if action.sensor_action_id not in gone)
        )
        after = _with_points(after, [point for point in _points(after) if point.device_id != identifier])
    elif kind == "sensor_action":
        followed = follow_actions(site, after.sensor_actions, new_id)
        if not isinstance(followed, SiteFault):
            after = _with_points(after, followed)
    await _write(connection, site, after, (), now, new_id)
    return Changed(after, None)


async def create_depot(connection: Connection, body: object, *, now: datetime, new_id: NewId) -> Changed | Faulty:
    """Create a depot with its circuits and its microgrid, in the caller's transaction; `thing` is the depot."""
    faults = shape_faults(creation_schema("depot"), body)
    if not isinstance(body, dict):
        return Faulty(tuple(faults))
    fields = cast("dict[str, Any]", body)
    depot_id = fields.get("depot_id")
    document = {"depot": {name: value for name, value in fields.items() if name in ("depot_id", "name", "timezone")}}
    if fields.get("circuits"):
        document["circuits"] = fields["circuits"]
    parsed = parse_site(document)
    if isinstance(parsed, list):
        own = [replace(fault, pointer=fault.pointer.removeprefix("/depot")) for fault in parsed]
        faults += [fault for fault in own if not _told(faults, fault)]
    if isinstance(depot_id, str) and not _told(faults, SiteFault("/depot_id", "", "")):
        await write.lock_depot(connection, depot_id)
        if await depot_of(connection, "depot", depot_id) is not None:
            faults.insert(0, SiteFault("/depot_id", "ALREADY_EXISTS", f"there is a depot {depot_id} already"))
    if faults or isinstance(parsed, list):
        return Faulty(tuple(faults))
    outcome = await import_within(connection, parsed, now=now, new_id=new_id)
    if isinstance(outcome, list):
        return Faulty(tuple(outcome))
    site = await load_site(connection, parsed.depot.depot_id)
    if site is None:
        raise RuntimeError("what was just stored is there")
    return Changed(site, site.depot)


async def change_depot(
    connection: Connection, depot_id: str, body: object, *, now: datetime, new_id: NewId
) -> Changed | NotFound | Faulty:
    """Change a depot's name or time zone, in the caller's transaction."""
    await write.lock_depot(connection, depot_id)
    site = await load_site(connection, depot_id)
    if site is None:
        return NotFound("depot", depot_id)
    faults = shape_faults(change_schema("depot"), body)
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    parsed = parse_site(
        {"depot": {"name": site.depot.name, "timezone": fields.get("timezone", site.depot.timezone), "depot_id": "d"}}
    )
    if isinstance(parsed, list):
        own = [replace(fault, pointer=fault.pointer.removeprefix("/depot")) for fault in parsed]
        faults += [fault for fault in own if not _told(faults, fault)]
    if faults:
        return Faulty(tuple(faults))
    after = replace(site, depot=Depot(depot_id, fields.get("name", site.depot.name), fields.get("timezone", site.depot.timezone)))
    await _write(connection, site, after, (), now, new_id)
    return Changed(after, after.depot)


async def delete_depot(connection: Connection, depot_id: str, *, now: datetime, new_id: NewId) -> Changed | NotFound | InUse:
    """Delete a depot in which nothing is left, and retire its microgrid; in the caller's transaction."""
    await write.lock_depot(connection, depot_id)
    site = await load_site(connection, depot_id)
    if site is None:
        return NotFound("depot", depot_id)
    kinds = (
        ("circuit", site.circuits),
        ("power_source", site.power_sources),
        ("gateway", site.gateways),
        ("device", site.devices),
    )
    by = [_called(kind, getattr(thing, f"{kind}_id")) for kind, things in kinds for thing in cast("Sequence[Any]", things)]
    if by:
        return InUse("depot", depot_id, tuple(by))
    if site.microgrid is not None:
        ending = microgrid_events(depot_id, site.microgrid, [retired(site.microgrid, _DEPOT_DELETED)], now, new_id)
        await append_events(connection, ending)
    await remove_depot(connection, depot_id, now)
    return Changed(site, None)


def users_of(site: Site, kind: str, identifier: str) -> list[str]:
    """What in a depot refers to a thing and is not its own, each as kind and id for a person to read."""
    referring: dict[str, tuple[tuple[str, Sequence[Any], str], ...]] = {
        "circuit": (
            ("circuit", site.circuits, "parent_circuit_id"),
            ("charge_point", site.charge_points, "circuit_id"),
            ("power_source", site.power_sources, "circuit_id"),
            ("device", site.devices, "circuit_id"),
            ("sensor_action", site.sensor_actions, "circuit_id"),
        ),
        "charge_point": (("connector", site.connectors, "charge_point_id"),),
        "power_source": (("sensor_action", site.sensor_actions, "power_source_id"),),
        "gateway": (("device", site.devices, "gateway_id"),),
    }
    found = [
        _called(by, getattr(thing, f"{by}_id"))
        for by, things, field in referring.get(kind, ())
        for thing in things
        if getattr(thing, field) == identifier
    ]
    if kind == "power_source":
        translating = (one.gateway_id for one in site.gateways if identifier in one.output_translation.values())
        found += [_called("gateway", gateway_id) for gateway_id in translating]
    return found


# What a command is about


async def _depot_to_be_in(
    connection: Connection, kind: str, fields: Mapping[str, Any], sees: Callable[[str], bool]
) -> str | NotFound | None:
    """The depot that a new thing belongs to; None where the body does not tell."""
    depot_id = fields.get("depot_id") if kind in OWNED_BY_DEPOT else None
    if isinstance(depot_id, str):
        there = sees(depot_id) and await depot_of(connection, "depot", depot_id) is not None
        return depot_id if there else NotFound("depot", depot_id)
    parent = _PARENTS.get(kind) or ("gateway" if kind == "device" and depot_id is None else None)
    given = fields.get(f"{parent}_id") if parent is not None else None
    if parent is None or not isinstance(given, str):
        return None
    found = await depot_of(connection, parent, given)
    return found if found is not None and sees(found) else NotFound(parent, given)


async def locked(connection: Connection, kind: str, identifier: str) -> tuple[Site, Any] | None:
    """A thing and its depot, under the depot's lock; None where there is no such thing."""
    identifier = identifier.lower() if kind == "sensor_action" else identifier
    depot_id = await depot_of(connection, kind, identifier)
    if depot_id is None:
        return None
    await write.lock_depot(connection, depot_id)
    site = await load_site(connection, depot_id)
    things = _things(site, kind) if site is not None else ()
    thing = next((one for one in things if getattr(one, f"{kind}_id") == identifier), None)
    return (site, thing) if site is not None and thing is not None else None


async def _taken(connection: Connection, kind: str, site: Site, identifier: str) -> list[SiteFault]:
    depot_id = site.depot.depot_id
    taken = any(getattr(one, f"{kind}_id") == identifier for one in _things(site, kind))
    elsewhere = await write.ids_of_other_depots(connection, kind, [identifier], depot_id)
    if not taken and not elsewhere:
        return []
    return [SiteFault(f"/{kind}_id", "ALREADY_EXISTS", f"there is a {kind.replace('_', ' ')} {identifier} already")]


def _unknown_node(site: Site, kind: str, entry: Mapping[str, Any]) -> list[SiteFault]:
    node_id = entry.get("node_id") if kind == "sensor_action" else None
    nodes = {node.node_id for node in site.microgrid.nodes} if site.microgrid else set[str]()
    if not isinstance(node_id, str) or node_id in nodes:
        return []  # what is no text was told by the schema
    return [SiteFault("/node_id", "UNKNOWN_NODE", f"the depot's microgrid has no node {node_id[:64]}")]


def _in_order(faults: Sequence[SiteFault]) -> tuple[SiteFault, ...]:
    return tuple(sorted(faults, key=lambda fault: (fault.pointer, fault.code)))


def _told(faults: Sequence[SiteFault], fault: SiteFault) -> bool:
    return any(one.pointer == fault.pointer for one in faults)


def _typed(kind: str, entry: Mapping[str, Any]) -> Any:
    fields = {**_DEFAULTS.get(kind, {}), **entry}
    for name, value in fields.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            fields[name] = int(value) if name in _WHOLE_NUMBERS else float(value)
    if kind == "sensor_action":
        fields["origin"] = PERSON
    return _TYPES[kind](**fields)


# The depot as it is to be


def _things(site: Site, kind: str) -> tuple[Any, ...]:
    return getattr(site, f"{kind}s")


def _without(site: Site, kind: str, identifier: str) -> Site:
    name, key = f"{kind}s", f"{kind}_id"
    changes: dict[str, Any] = {name: tuple(one for one in _things(site, kind) if getattr(one, key) != identifier)}
    return replace(site, **changes)


def _with(site: Site, kind: str, thing: Any) -> Site:
    key = f"{kind}_id"
    others = _things(_without(site, kind, getattr(thing, key)), kind)
    changes: dict[str, Any] = {f"{kind}s": tuple(sorted((*others, thing), key=lambda one: getattr(one, key)))}
    return replace(site, **changes)


def _points(site: Site) -> tuple[ControlPoint, ...]:
    return site.microgrid.control_points if site.microgrid else ()


def _with_points(site: Site, points: Sequence[ControlPoint]) -> Site:
    return replace(site, microgrid=replace(site.microgrid, control_points=tuple(points))) if site.microgrid else site


async def _store(connection: Connection, site: Site, kind: str, thing: Any, now: datetime, new_id: NewId) -> Changed | Faulty:
    after = _with(site, kind, thing)
    notes: tuple[str, ...] = ()
    if kind == "device" and _gets_actions(site, thing):
        nodes = site.microgrid.nodes if site.microgrid else ()
        document = SiteDocument(site.depot, devices=(thing,))
        plan = plan_bindings(document, site, nodes, bind=site.microgrid is not None, prune=False, new_id=new_id)
        after = _with_points(replace(after, sensor_actions=plan.actions), plan.control_points)
        notes = plan.notes
    elif kind == "sensor_action":
        twin = next((one for one in site.sensor_actions if _says_the_same(one, thing)), None)
        if twin is not None:
            detail = f"the device has the same action already: {twin.sensor_action_id}"
            return Faulty((SiteFault("", "ALREADY_EXISTS", detail),))
        followed = follow_actions(site, after.sensor_actions, new_id)
        if isinstance(followed, SiteFault):
            return Faulty((followed,))
        after = _with_points(after, followed)
    await _write(connection, site, after, notes, now, new_id)
    return Changed(after, thing, notes)


def _gets_actions(site: Site, device: Device) -> bool:
    known = site.device_by_id.get(device.device_id)
    return known is None or known.profile != device.profile


def _says_the_same(one: SensorAction, other: SensorAction) -> bool:
    alike = replace(
        one,
        sensor_action_id=other.sensor_action_id,
        enabled=other.enabled,
        heartbeat_timeout_s=other.heartbeat_timeout_s,
        scale=other.scale,
        origin=other.origin,
    )
    return one.sensor_action_id != other.sensor_action_id and alike == other


async def _write(connection: Connection, before: Site, after: Site, notes: tuple[str, ...], now: datetime, new_id: NewId) -> None:
    await store_plan(connection, before, SitePlan(after, (), notes), now=now, new_id=new_id)
    was, is_now = grid_connection_circuits(before.circuits), grid_connection_circuits(after.circuits)
    if [_as_node(one) for one in was] != [_as_node(one) for one in is_now]:
        await reconcile_within(connection, after.depot.depot_id, now=now, new_id=new_id)


def _as_node(circuit: Circuit) -> tuple[str, str, int]:
    return (circuit.circuit_id, circuit.name, circuit.position)


def _called(kind: str, identifier: str) -> str:
    return f"{kind.replace('_', ' ')} {identifier}"
