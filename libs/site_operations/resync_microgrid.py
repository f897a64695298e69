"""Keep a depot's microgrid equal to its top-level circuits: after a change of a circuit, and as a repair of edited tables.

Both compare the stored nodes with the stored circuits and write the difference, in the transaction of whoever asks and under the
depot's lock, so that changes and repairs of one depot come one after the other and each sees what the one before it left. A
repair that finds nothing writes nothing. A trial (`dry_run`) reads one snapshot, takes no lock and writes nothing at all.

When a node goes, the control points of its scope go with it, and so do the sensor actions that name it, for nothing could ever
feed them again; the events and the answer name the bindings that went. A circuit change in a depot that has no microgrid
provisions it as soon as there is a valid top-level circuit; a repair does not, for that is no drift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from event_store.append import append_events
from event_store.database import COLLISIONS, Connection, Pool
from microgrid import events
from microgrid.provisioning import MicrogridChange, Reconciled, Renamed, reconcile, resynced
from microgrid.site_model import ControlPoint, Microgrid, Node, Site
from site_operations.provision_microgrid import (
    TRIES,
    DepotNotFound,
    NoTopLevelCircuit,
    Provisioned,
    binding_changes,
    microgrid_events,
    provision_loaded,
    settle_actions,
)
from site_registry import write
from site_registry.load_structure import load_structure


@dataclass(frozen=True, slots=True)
class MicrogridNotFound:
    """The depot has no live microgrid."""

    depot_id: str


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """A node as a difference tells it; `node_id` is None for one that a trial would make."""

    node_id: str | None
    source_circuit_id: str
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class RenamedNode(NodeDescription):
    """A node under its new name."""

    old_name: str


@dataclass(frozen=True, slots=True)
class Resynced:
    """What a reconciliation did, or in a trial would do: `microgrid` is as it is stored afterwards.

    `added` and `renamed` are in the order of the nodes, `removed` in their former order. `reordered` is all nodes in their new
    order where those that stay changed theirs, else empty. `corrected` names what else was put right: `position` (without effect
    on the order), `status`. `unbound` are the control points that went with their nodes. All of them are empty, and nothing was
    stored, where `changed` is False.
    """

    microgrid: Microgrid
    added: tuple[NodeDescription, ...]
    removed: tuple[NodeDescription, ...]
    renamed: tuple[RenamedNode, ...]
    reordered: tuple[NodeDescription, ...]
    corrected: tuple[str, ...]
    unbound: tuple[ControlPoint, ...]
    changed: bool


async def resync_microgrid(
    pool: Pool, depot_id: str, *, dry_run: bool, now: datetime, new_id: Callable[[], str]
) -> Resynced | MicrogridNotFound | DepotNotFound:
    """Repair a depot's microgrid in a transaction of its own; a trial only tells what that would do.

    A repair that changed something is an event of its own (`MicrogridResynced`) after those of its single changes. `now` stamps
    rows and events; `new_id` gives UUIDs (version 7) as text. Raises what asyncpg raises.
    """
    if dry_run:
        async with pool.acquire() as connection:
            return await try_out_resync(connection, depot_id)
    for attempt in range(1, TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await resync_within(connection, depot_id, now=now, new_id=new_id)
        except COLLISIONS:
            # Somebody wrote without the depot's lock; a second look finds what they made.
            if attempt == TRIES:
                raise
    raise RuntimeError("the last try returns or raises")


async def reconcile_within(
    connection: Connection, depot_id: str, *, now: datetime, new_id: Callable[[], str]
) -> Provisioned | Resynced | NoTopLevelCircuit | DepotNotFound:
    """Let a depot's microgrid follow a change of its circuits, in the transaction (READ COMMITTED) that made the change.

    The caller takes the depot's lock before it reads what it changes (`write.lock_depot`); taking it here again costs nothing.
    Without a microgrid yet, the depot gets it (`Provisioned`) if it has a valid top-level circuit, else stays as it is
    (`NoTopLevelCircuit`). Events are appended, rows are written only where they differ.
    """
    await write.lock_depot(connection, depot_id)
    site = await load_structure(connection, depot_id)
    if site is None:
        return DepotNotFound(depot_id)
    if site.microgrid is None:
        return await provision_loaded(connection, site, now=now, new_id=new_id)
    reconciled = reconcile(site.microgrid, site.circuits, new_id)
    return await _store(connection, site, site.microgrid, reconciled, reconciled.changes, now, new_id)


async def resync_within(
    connection: Connection, depot_id: str, *, now: datetime, new_id: Callable[[], str]
) -> Resynced | MicrogridNotFound | DepotNotFound:
    """The repair in the caller's transaction (READ COMMITTED); takes the depot's lock."""
    await write.lock_depot(connection, depot_id)
    site = await load_structure(connection, depot_id)
    if site is None:
        return DepotNotFound(depot_id)
    if site.microgrid is None:
        return MicrogridNotFound(depot_id)
    reconciled = reconcile(site.microgrid, site.circuits, new_id)
    changes = [*reconciled.changes, *([resynced(reconciled)] if reconciled.touched else [])]
    return await _store(connection, site, site.microgrid, reconciled, changes, now, new_id)


async def try_out_resync(connection: Connection, depot_id: str) -> Resynced | MicrogridNotFound | DepotNotFound:
    """What a repair would do, in one snapshot; takes no lock and writes nothing."""
    site = await load_structure(connection, depot_id)
    if site is None:
        return DepotNotFound(depot_id)
    if site.microgrid is None:
        return MicrogridNotFound(depot_id)
    # What is not made has no identity: the empty id is told as None.
    reconciled = reconcile(site.microgrid, site.circuits, lambda: "")
    return _told(site.microgrid, reconciled, _unbound(site.microgrid, reconciled))


async def _store(
    connection: Connection,
    site: Site,
    before: Microgrid,
    reconciled: Reconciled,
    changes: Sequence[MicrogridChange],
    now: datetime,
    new_id: Callable[[], str],
) -> Resynced:
    depot_id = site.depot.depot_id
    unbound = _unbound(before, reconciled)
    gone = {node.node_id for node in reconciled.difference.removed}
    pointless = [action for action in site.sensor_actions if action.node_id in gone]
    await write.delete_control_points(connection, [point.control_point_id for point in unbound])
    await write.delete_rows(connection, "sensor_action", [action.sensor_action_id for action in pointless])
    await write.write_microgrid(connection, before, reconciled.microgrid, now)
    lost = {point.control_point_id for point in unbound}
    kept = tuple(point for point in before.control_points if point.control_point_id not in lost)
    after = replace(reconciled.microgrid, control_points=kept)
    # Who owned something in a scope loses it before the scope goes.
    all_changes = [*binding_changes(events.CONTROLLER_BINDING_DELETED, unbound), *changes]
    await append_events(connection, microgrid_events(depot_id, after, all_changes, now, new_id))
    await settle_actions(connection, pointless)
    return _told(after, reconciled, unbound)


def _unbound(before: Microgrid, reconciled: Reconciled) -> tuple[ControlPoint, ...]:
    gone = {node.node_id for node in reconciled.difference.removed}
    return tuple(point for point in before.control_points if point.node_id in gone)


def _told(microgrid: Microgrid, reconciled: Reconciled, unbound: tuple[ControlPoint, ...]) -> Resynced:
    difference = reconciled.difference
    return Resynced(
        microgrid=microgrid,
        added=_described(difference.added),
        removed=_described(difference.removed),
        renamed=tuple(_described_anew(renamed) for renamed in difference.renamed),
        reordered=_described(difference.reordered),
        corrected=difference.corrected,
        unbound=unbound,
        changed=reconciled.touched,
    )


def _described(nodes: Sequence[Node]) -> tuple[NodeDescription, ...]:
    return tuple(NodeDescription(node.node_id or None, node.source_circuit_id, node.name, node.position) for node in nodes)


def _described_anew(renamed: Renamed) -> RenamedNode:
    node = renamed.node
    return RenamedNode(node.node_id or None, node.source_circuit_id, node.name, node.position, renamed.old_name)
