"""Depots for tests of provisioning and repair, written by plain SQL as somebody with a console would, and read back."""

from __future__ import annotations

import uuid_utils
from tests.contracts.event_schema import validate_event
from tests.real_services.waiting import until

from event_store.database import Connection, Pool
from event_store.read import EVENT_COLUMNS, stored_event
from microgrid.events import Event
from microgrid.site_model import Microgrid, Site
from site_registry.load import load_site

_COUNTED = (
    "depot",
    "circuit",
    "sensor_action",
    "microgrid",
    "microgrid_node",
    "capability_control_point",
    "site_change",
    "event_store",
    "event_outbox",
    "remediation",
)
_EVERYTHING = (
    "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (SELECT m::text FROM microgrid m UNION ALL SELECT n::text FROM "
    "microgrid_node n UNION ALL SELECT p::text FROM capability_control_point p UNION ALL SELECT a::text FROM sensor_action a) t"
)


def fresh_id() -> str:
    """A UUID of our own."""
    return str(uuid_utils.uuid7())


async def add_depot(connection: Connection | Pool, depot_id: str) -> None:
    """A depot with a gateway, unless it is there."""
    await connection.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ($1, $1, 'UTC') ON CONFLICT DO NOTHING", depot_id)
    await connection.execute(
        "INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('gw-' || $1::text, $1, 'G') ON CONFLICT DO NOTHING", depot_id
    )


async def add_circuit(
    connection: Connection | Pool,
    depot_id: str,
    circuit_id: str,
    *,
    name: str = "GC",
    position: int = 0,
    parent: str | None = None,
) -> None:
    """A circuit in a depot, which is made if need be."""
    await add_depot(connection, depot_id)
    await connection.execute(
        "INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position) VALUES ($1, $2, $3, $4, $5)",
        circuit_id,
        depot_id,
        parent,
        name,
        position,
    )


async def add_feed(
    connection: Connection | Pool,
    depot_id: str,
    device_id: str,
    measurand: str,
    capability: str,
    *,
    enabled: bool = True,
    origin: str = "PERSON",
    node_id: str | None = None,
) -> str:
    """A device's action that feeds a capability; the device is made if need be."""
    await add_depot(connection, depot_id)
    await connection.execute(
        "INSERT INTO device (device_id, depot_id, gateway_id) VALUES ($1, $2, 'gw-' || $2) ON CONFLICT DO NOTHING",
        device_id,
        depot_id,
    )
    action_id = fresh_id()
    await connection.execute(
        "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability, enabled, origin, "
        "node_id) VALUES ($1, $2, $3, $4, 'UPDATE_MICROGRID_STATE', $5, $6, $7, $8)",
        action_id,
        depot_id,
        device_id,
        measurand,
        capability,
        enabled,
        origin,
        node_id,
    )
    return action_id


async def add_point(connection: Connection | Pool, microgrid: Microgrid, node_id: str | None, device_id: str) -> str:
    """A control point by which a device owns `DER` of a scope."""
    point_id = fresh_id()
    await connection.execute(
        "INSERT INTO capability_control_point (control_point_id, microgrid_id, node_id, capability, device_id, measurand, "
        "stale_after_s, enabled) VALUES ($1, $2, $3, 'DER', $4, 'DER', 120, true)",
        point_id,
        microgrid.microgrid_id,
        node_id,
        device_id,
    )
    return point_id


async def load(pool: Pool, depot_id: str = "d") -> Site:
    """A depot, which must be there."""
    async with pool.acquire() as connection:
        site = await load_site(connection, depot_id)
    assert site is not None
    return site


async def microgrid_of(pool: Pool, depot_id: str = "d") -> Microgrid:
    """A depot's live microgrid, which must be there."""
    microgrid = (await load(pool, depot_id)).microgrid
    assert microgrid is not None
    return microgrid


async def counts(pool: Pool) -> dict[str, object]:
    """How many rows each table has that a change would leave a mark in, and a sum over all that a repair may touch."""
    found: dict[str, object] = {table: await pool.fetchval(f"SELECT count(*) FROM {table}") for table in _COUNTED}
    return {**found, "content": await pool.fetchval(_EVERYTHING)}


async def stored_events(pool: Pool) -> list[Event]:
    """Every event, oldest first, each as its schema says."""
    rows = await pool.fetch(f"SELECT {EVENT_COLUMNS} FROM event_store e ORDER BY e.transaction_id, e.global_position")
    events = [stored_event(row).event for row in rows]
    for event in events:
        assert validate_event(event) == []
    return events


async def event_types(pool: Pool) -> list[str]:
    """The type of every event, oldest first."""
    return [event.event_type for event in await stored_events(pool)]


async def until_somebody_waits(connection: Connection | Pool, how_many: int = 1) -> None:
    """Return when so many transactions wait for a lock."""

    async def waits() -> bool:
        return await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") == how_many

    await until(waits, f"{how_many} wait for a lock", timeout_s=60)
