"""Create, change, delete controller bindings, and let one take over from another.

A binding is a view of sensor actions and control points (`rebind`), so each command is one change of one depot under its lock, and
is judged, made and written as any other change of the depot. Nothing is stored of a command that is refused.

One device owns a capability of a scope at a time. What would make a second owner is refused as a conflict that names both, whoever
comes first; two that come at once wait for each other, and the index over active control points holds it against whoever does
not take the depot's lock. A binding that is created disabled owns nothing and so is never in conflict; it then takes over from an
owner whom the command names, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from event_store.database import Connection
from microgrid.controller_bindings import ControllerBinding, binding_of
from microgrid.site_model import DEFAULT_STALE_AFTER_S, ControlPoint, Site
from site_operations.binding_faults import change_faults, creation_faults, fields_of, take_over_faults
from site_operations.change_site import Faulty, NotFound
from site_operations.import_site import SitePlan, store_plan
from site_operations.rebind import NewId, WantedBinding, control_points, rebound, unbound, wanted_of, yielded
from site_registry import write
from site_registry.find_depot import depot_of
from site_registry.load import load_site
from site_registry.site_file import Feed, SiteFault

KIND = "controller_binding"
VersionHolds = Callable[[int], bool]
"""Whether a command that names versions means this one."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The depot as it is stored now, with the binding; None where it was deleted."""

    site: Site
    binding: ControllerBinding | None


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """The binding is not at the version that the command means; it stayed as it is."""

    site: Site
    binding: ControllerBinding


@dataclass(frozen=True, slots=True)
class Contested:
    """A capability that a command wants for one device while another one has it, or (`active` None) nobody."""

    pointer: str
    capability: str
    incoming_device_id: str
    active: ControlPoint | None


@dataclass(frozen=True, slots=True)
class SourceConflict:
    """Capabilities of one scope that the command can not have, at least one; nothing was stored.

    `scope` is the scope in words, `incoming_binding_id` None for a binding that was still to be made.
    """

    microgrid_id: str
    node_id: str | None
    scope: str
    incoming_binding_id: str | None
    contested: tuple[Contested, ...]


async def create_binding(
    connection: Connection,
    depot_id: str,
    body: object,
    *,
    sees: Callable[[str], bool],
    now: datetime,
    new_id: NewId,
) -> Bound | NotFound | Faulty | SourceConflict:
    """Create a binding in a depot, in the caller's transaction; `sees` tells whether the caller may see a depot."""
    await write.lock_depot(connection, depot_id)
    site = await load_site(connection, depot_id)
    if site is None:
        return NotFound("depot", depot_id)
    fields = fields_of(body)
    device_id = fields.get("device_id")
    home = await depot_of(connection, "device", device_id) if isinstance(device_id, str) else None
    faults = creation_faults(site, body, home if home is not None and sees(home) else None)
    if faults:
        return Faulty(tuple(faults))
    wanted = WantedBinding(
        new_id(),
        fields["device_id"],
        fields.get("node_id"),
        fields.get("enabled", True),
        float(fields.get("stale_after_s", DEFAULT_STALE_AFTER_S)),
        _feeds(fields["capabilities"]),
    )
    return _existing(site, wanted) or _conflict(site, wanted, None) or await _store(connection, site, wanted, now, new_id)


async def change_binding(
    connection: Connection,
    controller_binding_id: str,
    body: object,
    *,
    holds: VersionHolds,
    now: datetime,
    new_id: NewId,
) -> Bound | NotFound | VersionConflict | Faulty | SourceConflict:
    """Change the fields of a binding that the body names, in the caller's transaction."""
    found = await locked_binding(connection, controller_binding_id)
    if found is None:
        return NotFound(KIND, controller_binding_id)
    site, binding = found
    if not holds(binding.version):
        return VersionConflict(site, binding)
    fields = fields_of(body)
    enables = fields.get("enabled") is True and not binding.enabled
    faults = change_faults(site.device_by_id.get(binding.device_id), body, enables=enables)
    if faults:
        return Faulty(tuple(faults))
    wanted = replace(
        wanted_of(binding),
        **{name: fields[name] for name in ("enabled",) if name in fields},
        **{name: float(fields[name]) for name in ("stale_after_s",) if name in fields},
        **({"feeds": _feeds(fields["capabilities"])} if "capabilities" in fields else {}),
    )
    refused = _existing(site, wanted) or _conflict(site, wanted, controller_binding_id)
    return refused or await _store(connection, site, wanted, now, new_id)


async def delete_binding(
    connection: Connection, controller_binding_id: str, *, holds: VersionHolds, now: datetime, new_id: NewId
) -> Bound | NotFound | VersionConflict:
    """Delete a binding, in the caller's transaction; what was reported through it stays."""
    found = await locked_binding(connection, controller_binding_id)
    if found is None:
        return NotFound(KIND, controller_binding_id)
    site, binding = found
    if not holds(binding.version):
        return VersionConflict(site, binding)
    after = unbound(site, binding)
    await store_plan(connection, site, SitePlan(after, (), ()), now=now, new_id=new_id)
    return Bound(after, None)


async def take_over(
    connection: Connection,
    controller_binding_id: str,
    body: object,
    *,
    holds: VersionHolds,
    now: datetime,
    new_id: NewId,
) -> Bound | NotFound | VersionConflict | Faulty | SourceConflict:
    """Enable a binding and take its capabilities from the owner whom the body names, in the caller's transaction.

    Of several capabilities some may be free; all that are owned must be the expected owner's, and at least one.
    """
    found = await locked_binding(connection, controller_binding_id)
    if found is None:
        return NotFound(KIND, controller_binding_id)
    site, binding = found
    if not holds(binding.version):
        return VersionConflict(site, binding)
    faults = take_over_faults(site.device_by_id.get(binding.device_id), body)
    if faults:
        return Faulty(tuple(faults))
    expected: str = fields_of(body)["expected_device_id"]
    wanted = replace(wanted_of(binding), enabled=True)
    owners = {feed.capability: site.active_control_point(feed.capability, binding.node_id) for feed in wanted.feeds}
    owned = [owner for owner in owners.values() if owner is not None]
    if not owned or any(owner.device_id != expected for owner in owned):
        contested = [
            Contested("/expected_device_id", capability, binding.device_id, owner)
            for capability, owner in owners.items()
            if owner is None or owner.device_id != expected
        ]
        return _source_conflict(site, wanted, controller_binding_id, contested)
    given_up = yielded(site, (owner for owner in owned if owner.device_id != binding.device_id))
    return await _store(connection, site, wanted, now, new_id, given_up)


async def locked_binding(connection: Connection, controller_binding_id: str) -> tuple[Site, ControllerBinding] | None:
    """A binding and its depot, under the depot's lock; None where there is no such binding."""
    controller_binding_id = controller_binding_id.lower()
    depot_id = await depot_of(connection, KIND, controller_binding_id)
    if depot_id is None:
        return None
    await write.lock_depot(connection, depot_id)
    site = await load_site(connection, depot_id)
    binding = binding_of(site.microgrid, controller_binding_id) if site is not None else None
    return (site, binding) if site is not None and binding is not None else None


def _feeds(capabilities: Iterable[Mapping[str, str]]) -> tuple[Feed, ...]:
    return tuple(Feed(feed["capability"], feed["measurand"]) for feed in capabilities)


def _existing(site: Site, wanted: WantedBinding) -> Faulty | None:
    """One control point of a device, capability and scope: it stands in one binding."""
    asked = {feed.capability for feed in wanted.feeds}
    there = [
        point
        for point in control_points(site)
        if (point.device_id, point.node_id) == (wanted.device_id, wanted.node_id)
        and point.capability in asked
        and point.controller_binding_id != wanted.controller_binding_id
    ]
    if not there:
        return None
    told = ", ".join(sorted(f"{point.capability} in controller binding {point.controller_binding_id}" for point in there))
    detail = f"device {wanted.device_id} has {told} for {_scope(site, wanted.node_id)} already; change that one"
    return Faulty((SiteFault("/capabilities", "ALREADY_EXISTS", detail),))


def _conflict(site: Site, wanted: WantedBinding, incoming_binding_id: str | None) -> SourceConflict | None:
    if not wanted.enabled:
        return None
    contested = [
        Contested(f"/capabilities/{index}/capability", feed.capability, wanted.device_id, owner)
        for index, feed in enumerate(wanted.feeds)
        if (owner := site.active_control_point(feed.capability, wanted.node_id)) is not None and owner.device_id != wanted.device_id
    ]
    return _source_conflict(site, wanted, incoming_binding_id, contested) if contested else None


def _source_conflict(
    site: Site, wanted: WantedBinding, incoming_binding_id: str | None, contested: Iterable[Contested]
) -> SourceConflict:
    microgrid_id = site.microgrid.microgrid_id if site.microgrid else ""
    return SourceConflict(microgrid_id, wanted.node_id, _scope(site, wanted.node_id), incoming_binding_id, tuple(contested))


def _scope(site: Site, node_id: str | None) -> str:
    if node_id is None:
        return "the whole site"
    nodes = site.microgrid.nodes if site.microgrid else ()
    name = next((node.name for node in nodes if node.node_id == node_id), None)
    return f"node {node_id}" if name is None else f"node {node_id} ({name})"


async def _store(
    connection: Connection, site: Site, wanted: WantedBinding, now: datetime, new_id: NewId, given_up: Site | None = None
) -> Bound:
    after = rebound(given_up or site, wanted, new_id)
    stored = await store_plan(
        connection, site, SitePlan(after, (), ()), now=now, new_id=new_id, named_bindings={wanted.controller_binding_id}
    )
    return Bound(stored, binding_of(stored.microgrid, wanted.controller_binding_id))
