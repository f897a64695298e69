"""Import a site: make a depot hold what a site document says, all of it or nothing.

What the document names is created or changed; what it does not name stays, unless `prune` asks for the depot to be the document
and nothing else. The whole depot as it is to be is computed first, from the document and from what is stored, and then only the
differences are written; so the same document a second time writes nothing at all and appends no event.

Imports of one depot come one after the other, also of a depot that does not exist yet; those of different depots do not wait. An id
that another depot has is refused. The microgrid is provisioned or reconciled in the same transaction, and a depot without a valid
top-level circuit is refused, unless no provisioning is asked for: then neither the microgrid nor its control points are touched,
apart from control points whose device goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from event_store.append import append_events
from event_store.database import COLLISIONS, Connection, Pool
from event_store.remediation import settle_remediation
from microgrid import events
from microgrid.controller_bindings import rewritten, settle
from microgrid.events import Event
from microgrid.provisioning import MicrogridChange, Reconciled, provision, reconcile
from microgrid.site_model import Circuit, ControlPoint, Microgrid, SensorAction, Site
from site_operations.plan_bindings import BindingPlan, plan_bindings
from site_registry import write
from site_registry.load import load_site
from site_registry.site_file import SiteDocument, SiteFault
from site_registry.site_references import pointer_to

_TRIES = 5
_NO_MICROGRID = Microgrid("", 0, "", (), ())


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What an import did: ids by kind, each list sorted; kinds are `depot`, those of `write.KINDS`, `microgrid`, `control_point`.

    `left` is what was there and stays as it was, whether or not the document names it. `notes` are for a person.
    """

    depot_id: str
    microgrid_id: str | None
    created: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    changed: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    left: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    removed: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: tuple[str, ...] = ()


async def import_site(
    pool: Pool,
    document: SiteDocument,
    *,
    provision: bool = True,
    prune: bool = False,
    now: datetime,
    new_id: Callable[[], str],
) -> SiteReport | list[SiteFault]:
    """Import a document in a transaction of its own; faults, in the order of the document's lists, mean that nothing was stored.

    `now` stamps rows and events; `new_id` gives UUIDs (version 7) as text. Raises what asyncpg raises.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await import_within(connection, document, provision=provision, prune=prune, now=now, new_id=new_id)
        except COLLISIONS:
            # Another depot's import took what we were about to write; a second look tells the person.
            if attempt == _TRIES:
                raise
    raise RuntimeError("the last try returns or raises")


async def import_within(
    connection: Connection,
    document: SiteDocument,
    *,
    provision: bool = True,
    prune: bool = False,
    now: datetime,
    new_id: Callable[[], str],
) -> SiteReport | list[SiteFault]:
    """The same in the caller's transaction (READ COMMITTED); faults are found before the first write."""
    depot_id = document.depot.depot_id
    await write.lock_depot(connection, depot_id)
    faults = await _taken_ids(connection, document)
    before = await load_site(connection, depot_id)
    plan = plan_site(document, before, provision=provision, prune=prune, new_id=new_id)
    if isinstance(plan, list):
        return faults + plan
    if faults:
        return faults
    await store_plan(connection, before, plan, now=now, new_id=new_id)
    return _report(before, plan.site, plan.notes)


async def store_plan(
    connection: Connection,
    before: Site | None,
    plan: SitePlan,
    *,
    now: datetime,
    new_id: Callable[[], str],
    named_bindings: Collection[str] = (),
) -> Site:
    """Write what a plan changes of a depot, and nothing else, with its events; the caller holds the depot's lock.

    `named_bindings` are the controller bindings that the command speaks of by id. Gives the depot as it is stored then.
    """
    plan = replace(plan, site=_with_bindings(before, plan.site, new_id, named_bindings))
    await _write(connection, before, plan.site, now)
    await append_events(connection, _events(before, plan, now, new_id))
    if before is not None:
        await settle_remediation(connection, _silenced(before, plan.site))
    return plan.site


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A depot as it is to be, what befalls its microgrid, and what a person should know."""

    site: Site
    changes: tuple[MicrogridChange, ...]
    notes: tuple[str, ...]


def plan_site(
    document: SiteDocument, before: Site | None, *, provision: bool, prune: bool, new_id: Callable[[], str]
) -> SitePlan | list[SiteFault]:
    """Make a depot from a document and what is stored of it (with charge points and connectors); pure."""
    faults: list[SiteFault] = []
    circuits = _merged(before.circuits if before else (), document.circuits, "circuit_id", prune)
    microgrid = before.microgrid if before else None
    reconciled = _reconciled(microgrid, circuits, new_id) if provision else None
    if provision and reconciled is None:
        detail = "no circuit of the depot is without a parent and has a name, so there is no grid connection"
        faults.append(SiteFault("/circuits", "NO_TOP_LEVEL_CIRCUIT", detail))
    planned = reconciled.microgrid if reconciled else microgrid
    bindings = plan_bindings(document, before, planned.nodes if planned else (), bind=provision, prune=prune, new_id=new_id)
    faults += bindings.faults
    if faults:
        return faults
    site = _site_after(document, before, circuits, planned, bindings, prune)
    return SitePlan(site, reconciled.changes if reconciled else (), bindings.notes)


def _reconciled(microgrid: Microgrid | None, circuits: Sequence[Circuit], new_id: Callable[[], str]) -> Reconciled | None:
    return provision(circuits, new_id) if microgrid is None else reconcile(microgrid, circuits, new_id)


async def _taken_ids(connection: Connection, document: SiteDocument) -> list[SiteFault]:
    faults: list[SiteFault] = []
    for kind, rows in _rows_of(document).items():
        id_field = write.KINDS[kind].key
        ids: list[str] = [getattr(row, id_field) for row in rows]
        taken = await write.ids_of_other_depots(connection, kind, ids, document.depot.depot_id) if ids else {}
        for index, given in enumerate(ids):
            if given in taken:
                detail = f"{given} belongs to depot {taken[given]}"
                faults.append(SiteFault(pointer_to(f"{kind}s", index, id_field), "ALREADY_EXISTS", detail))
    return faults


def _rows_of(site: SiteDocument | Site | None) -> dict[str, Sequence[Any]]:
    """The lists that a document and a stored depot have alike, by kind."""
    if site is None:
        return {}
    return {
        "circuit": site.circuits,
        "charge_point": site.charge_points,
        "connector": site.connectors,
        "power_source": site.power_sources,
        "gateway": site.gateways,
        "device": site.devices,
    }


def _merged(before: Iterable[Any], named: Iterable[Any], id_field: str, prune: bool) -> tuple[Any, ...]:
    merged = {} if prune else {getattr(row, id_field): row for row in before}
    merged.update({getattr(row, id_field): row for row in named})
    return tuple(merged[key] for key in sorted(merged))


def _site_after(
    document: SiteDocument,
    before: Site | None,
    circuits: tuple[Circuit, ...],
    microgrid: Microgrid | None,
    plan: BindingPlan,
    prune: bool,
) -> Site:
    stored = _rows_of(before)
    lists = {kind: _merged(stored.get(kind, ()), rows, write.KINDS[kind].key, prune) for kind, rows in _rows_of(document).items()}
    return Site(
        depot=document.depot,
        circuits=circuits,
        charge_points=lists["charge_point"],
        connectors=lists["connector"],
        power_sources=lists["power_source"],
        gateways=lists["gateway"],
        devices=lists["device"],
        sensor_actions=plan.actions,
        microgrid=replace(microgrid, control_points=plan.control_points) if microgrid else None,
    )


def _with_bindings(before: Site | None, after: Site, new_id: Callable[[], str], named: Collection[str]) -> Site:
    if after.microgrid is None:
        return after
    stored = before.microgrid.control_points if before and before.microgrid else ()
    points = settle(stored, after.microgrid.control_points, new_id, named=named)
    return replace(after, microgrid=replace(after.microgrid, control_points=points))


# Differences


@dataclass(frozen=True, slots=True)
class _Difference:
    created: list[Any]
    changed: list[Any]
    left: list[Any]
    removed: list[Any]


def _difference(before: Iterable[Any], after: Iterable[Any], id_field: str) -> _Difference:
    old = {getattr(row, id_field): row for row in before}
    new = {getattr(row, id_field): row for row in after}
    return _Difference(
        created=[row for key, row in new.items() if key not in old],
        changed=[row for key, row in new.items() if key in old and old[key] != row],
        left=[row for key, row in new.items() if key in old and old[key] == row],
        removed=[row for key, row in old.items() if key not in new],
    )


def _row_differences(before: Site | None, after: Site) -> dict[str, _Difference]:
    old, new = _rows_of(before), _rows_of(after)
    differences = {kind: _difference(old.get(kind, ()), rows, write.KINDS[kind].key) for kind, rows in new.items()}
    actions = before.sensor_actions if before else ()
    return {**differences, "sensor_action": _difference(actions, after.sensor_actions, "sensor_action_id")}


def _point_difference(before: Site | None, after: Site) -> _Difference:
    old = before.microgrid if before and before.microgrid else _NO_MICROGRID
    new = after.microgrid or _NO_MICROGRID
    return _difference(old.control_points, new.control_points, "control_point_id")


async def _write(connection: Connection, before: Site | None, after: Site, now: datetime) -> None:
    depot_id = after.depot.depot_id
    points = _point_difference(before, after)
    await write.delete_control_points(connection, [point.control_point_id for point in points.removed])
    if before is None:
        await write.insert_depot(connection, after.depot, now)
    elif before.depot != after.depot:
        await write.update_depot(connection, after.depot, now)
    differences = _row_differences(before, after)
    for kind, difference in differences.items():
        await write.insert_rows(connection, kind, depot_id, difference.created)
        await write.update_rows(connection, kind, difference.changed)
    if after.microgrid is not None:
        await _write_microgrid(connection, depot_id, before.microgrid if before else None, after.microgrid, now)
        old = before.microgrid.control_points if before and before.microgrid else ()
        changed = rewritten(old, after.microgrid.control_points)
        await write.write_control_points(connection, after.microgrid.microgrid_id, changed, points.created)
    # What goes, goes last and the other way round: nothing that stays refers to it any more.
    for kind, difference in reversed(differences.items()):
        await write.delete_rows(connection, kind, [getattr(row, write.KINDS[kind].key) for row in difference.removed])


async def _write_microgrid(
    connection: Connection, depot_id: str, before: Microgrid | None, after: Microgrid, now: datetime
) -> None:
    if before is None:
        await write.insert_microgrid(connection, depot_id, after, now)
        await write.write_nodes(connection, after.microgrid_id, (), after.nodes)
    else:
        await write.write_microgrid(connection, before, after, now)


# Events


def _events(before: Site | None, plan: SitePlan, now: datetime, new_id: Callable[[], str]) -> list[Event]:
    after = plan.site
    if after.microgrid is None:
        return []
    points = _point_difference(before, after)
    changes = [
        *((change.event_type, change.payload) for change in plan.changes),
        *((events.CONTROLLER_BINDING_DELETED, binding_payload(point)) for point in points.removed),
        # Who lets go comes before who takes, as it happened.
        *(
            (events.CONTROLLER_BINDING_UPDATED, binding_payload(point))
            for point in sorted(points.changed, key=lambda point: point.enabled)
        ),
        *((events.CONTROLLER_BINDING_CREATED, binding_payload(point)) for point in points.created),
        *((events.CAPABILITY_OWNERSHIP_MOVED, move_payload(was, is_now)) for was, is_now in _moves(before, after)),
    ]
    return [
        Event(
            event_id=new_id(),
            event_type=event_type,
            depot_id=after.depot.depot_id,
            microgrid_id=after.microgrid.microgrid_id,
            subject=None,
            history_only=False,
            observed_at=now,
            sent_at=now,
            source_event_ref=None,
            payload=payload,
            metadata={},
        )
        for event_type, payload in changes
    ]


def binding_payload(point: ControlPoint) -> dict[str, object]:
    """What the events of a controller binding say of its control point."""
    return {
        "control_point_id": point.control_point_id,
        "capability": point.capability,
        "node_id": point.node_id,
        "device_id": point.device_id,
        "measurand": point.measurand,
        "stale_after_s": point.stale_after_s,
        "enabled": point.enabled,
    }


def move_payload(was: ControlPoint, is_now: ControlPoint) -> dict[str, object]:
    """What the event of a capability that has another owner says of the control points of both."""
    return {
        "capability": is_now.capability,
        "node_id": is_now.node_id,
        "from_device_id": was.device_id,
        "to_device_id": is_now.device_id,
        "from_control_point_id": was.control_point_id,
        "to_control_point_id": is_now.control_point_id,
    }


def _moves(before: Site | None, after: Site) -> list[tuple[ControlPoint, ControlPoint]]:
    """For each scope and capability that had an owner and has another one: the control points of both."""

    def owners(site: Site | None) -> dict[tuple[str | None, str], ControlPoint]:
        points = site.microgrid.control_points if site and site.microgrid else ()
        return {(point.node_id, point.capability): point for point in points if point.enabled}

    had = owners(before)
    has = sorted(owners(after).items(), key=lambda item: item[1].control_point_id)
    return [(was, point) for key, point in has if (was := had.get(key)) is not None and was.device_id != point.device_id]


def _silenced(before: Site, after: Site) -> list[tuple[str, str, str, str]]:
    """What acted before and does no more: nobody need settle it."""

    def acting(actions: Iterable[SensorAction]) -> set[tuple[str, str, str, str]]:
        return {
            (action.device_id, action.measurand, action.action, action.sensor_action_id) for action in actions if action.enabled
        }

    return sorted(acting(before.sensor_actions) - acting(after.sensor_actions))


def _report(before: Site | None, after: Site, notes: tuple[str, ...]) -> SiteReport:
    microgrids = ([site.microgrid] if site and site.microgrid else [] for site in (before, after))
    # Its control points are a kind of their own.
    alone = [[replace(microgrid, control_points=()) for microgrid in one] for one in microgrids]
    differences = {
        "depot": (_difference([before.depot] if before else [], [after.depot], "depot_id"), "depot_id"),
        **{kind: (difference, write.KINDS[kind].key) for kind, difference in _row_differences(before, after).items()},
        "microgrid": (_difference(alone[0], alone[1], "microgrid_id"), "microgrid_id"),
        "control_point": (_point_difference(before, after), "control_point_id"),
    }

    def ids(name: str) -> dict[str, list[str]]:
        found = {
            kind: sorted(getattr(row, id_field) for row in getattr(difference, name))
            for kind, (difference, id_field) in differences.items()
        }
        return {kind: some for kind, some in found.items() if some}

    microgrid_id = after.microgrid.microgrid_id if after.microgrid else None
    return SiteReport(after.depot.depot_id, microgrid_id, ids("created"), ids("changed"), ids("left"), ids("removed"), notes)
