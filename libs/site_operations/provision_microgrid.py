"""Give a depot its microgrid, with a node for each top-level circuit and the bindings that its sensor actions ask for.

Whoever changes a depot holds its lock, so two that provision one depot at once make one microgrid, and the second is told of it;
the database's index over live microgrids holds that also against whoever does not take the lock. Different depots do not wait.

Bindings are those that an import of the depot would make: each enabled action that feeds a capability of the whole site takes it,
by device id; where two devices claim one, a generated action that comes second is disabled, a person's own stays unbound. An
action that names a node is left alone, for the nodes of a new microgrid are new. All of it is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from event_store.append import append_events
from event_store.database import COLLISIONS, Connection, Pool
from event_store.remediation import settle_remediation
from microgrid import events
from microgrid.controller_bindings import settle
from microgrid.events import Event
from microgrid.provisioning import MicrogridChange, provision
from microgrid.site_model import ControlPoint, Microgrid, SensorAction, Site
from site_operations.import_site import binding_payload
from site_operations.plan_bindings import plan_bindings
from site_registry import write
from site_registry.load_structure import load_structure
from site_registry.site_file import SiteDocument

TRIES = 5


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A depot's live microgrid; `created` is False where it had that one already."""

    microgrid: Microgrid
    created: bool


@dataclass(frozen=True, slots=True)
class NoTopLevelCircuit:
    """The depot has no circuit without a parent and with a name, so there is nothing to make a microgrid of."""

    depot_id: str


@dataclass(frozen=True, slots=True)
class DepotNotFound:
    """There is no such depot."""

    depot_id: str


async def provision_microgrid(
    pool: Pool, depot_id: str, *, now: datetime, new_id: Callable[[], str]
) -> Provisioned | NoTopLevelCircuit | DepotNotFound:
    """Provision a depot in a transaction of its own; only `created` means that something was stored.

    `now` stamps rows and events; `new_id` gives UUIDs (version 7) as text. Raises what asyncpg raises.
    """
    for attempt in range(1, TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await provision_within(connection, depot_id, now=now, new_id=new_id)
        except COLLISIONS:
            # Somebody wrote without the depot's lock; a second look finds what they made.
            if attempt == TRIES:
                raise
    raise RuntimeError("the last try returns or raises")


async def provision_within(
    connection: Connection, depot_id: str, *, now: datetime, new_id: Callable[[], str]
) -> Provisioned | NoTopLevelCircuit | DepotNotFound:
    """The same in the caller's transaction (READ COMMITTED), after whatever it wrote; takes the depot's lock."""
    await write.lock_depot(connection, depot_id)
    site = await load_structure(connection, depot_id)
    if site is None:
        return DepotNotFound(depot_id)
    return await provision_loaded(connection, site, now=now, new_id=new_id)


async def provision_loaded(
    connection: Connection, site: Site, *, now: datetime, new_id: Callable[[], str]
) -> Provisioned | NoTopLevelCircuit:
    """The same for a depot as `load_structure` gave it, by whoever holds its lock."""
    depot_id = site.depot.depot_id
    if site.microgrid is not None:
        return Provisioned(site.microgrid, created=False)
    made = provision(site.circuits, new_id)
    if made is None:
        return NoTopLevelCircuit(depot_id)
    bindable = replace(site, sensor_actions=tuple(action for action in site.sensor_actions if action.node_id is None))
    plan = plan_bindings(SiteDocument(site.depot), bindable, made.microgrid.nodes, bind=True, prune=False, new_id=new_id)
    microgrid = replace(made.microgrid, control_points=settle((), plan.control_points, new_id))
    await write.insert_whole_microgrid(connection, depot_id, microgrid, now)
    known = {action.sensor_action_id: action for action in bindable.sensor_actions}
    disabled = [action for action in plan.actions if known[action.sensor_action_id] != action]
    await write.update_rows(connection, "sensor_action", disabled)
    bound = binding_changes(events.CONTROLLER_BINDING_CREATED, microgrid.control_points)
    await append_events(connection, microgrid_events(depot_id, microgrid, [*made.changes, *bound], now, new_id))
    await settle_actions(connection, disabled)
    return Provisioned(microgrid, created=True)


def binding_changes(event_type: str, points: Iterable[ControlPoint]) -> list[MicrogridChange]:
    """One change for each control point."""
    return [MicrogridChange(event_type, binding_payload(point)) for point in points]


def microgrid_events(
    depot_id: str, microgrid: Microgrid, changes: Iterable[MicrogridChange], now: datetime, new_id: Callable[[], str]
) -> list[Event]:
    """Events to append, one for each change, all of the moment `now`."""
    return [
        Event(
            event_id=new_id(),
            event_type=change.event_type,
            depot_id=depot_id,
            microgrid_id=microgrid.microgrid_id,
            subject=None,
            history_only=False,
            observed_at=now,
            sent_at=now,
            source_event_ref=None,
            payload=change.payload,
            metadata={},
        )
        for change in changes
    ]


async def settle_actions(connection: Connection, silenced: Sequence[SensorAction]) -> None:
    """Close what stands open about actions that act no more: nobody need settle it."""
    if silenced:
        keys = [(action.device_id, action.measurand, action.action, action.sensor_action_id) for action in silenced]
        await settle_remediation(connection, sorted(keys))
