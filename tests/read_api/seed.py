"""A depot in the database and reports about it, as the tests of the read API need them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import asyncpg

from event_store.append import append_events
from event_store.controller_health import save_health
from event_store.database import Pool
from microgrid import events, subjects
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event

T0 = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MICROGRID = "01900000-0000-7000-8000-000000000001"
NODE_1 = "01900000-0000-7000-8000-000000000011"
NODE_2 = "01900000-0000-7000-8000-000000000012"
CAPACITY_ACTION = "01900000-0000-7000-8000-000000000021"
SOC_ACTION = "01900000-0000-7000-8000-000000000022"

_numbers = itertools.count(1)

_SITE = f"""
INSERT INTO depot (depot_id, name, timezone) VALUES ('d-1', 'Harbour', 'Europe/Berlin');
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, safe_capacity_kw, rating_kw) VALUES
    ('gc-1', 'd-1', NULL, 'Grid connection 1', 1, 100, 500), ('gc-2', 'd-1', NULL, 'Annex', 2, NULL, NULL),
    ('k-1', 'd-1', 'gc-1', 'Chargers', 0, NULL, 180);
INSERT INTO charge_point (charge_point_id, circuit_id, name, max_kw) VALUES ('cp-1', 'k-1', 'Bay 1', 150);
INSERT INTO connector (connector_id, charge_point_id, number, max_kw) VALUES
    ('cp-1-2', 'cp-1', 2, NULL), ('cp-1-1', 'cp-1', 1, 150);
INSERT INTO power_source (power_source_id, depot_id, circuit_id, kind, name, rated_kw) VALUES
    ('bess-1', 'd-1', 'gc-1', 'BATTERY', 'Battery', 250), ('grid-1', 'd-1', 'gc-1', 'GRID', 'Grid', NULL),
    ('solar-1', 'd-1', NULL, 'SOLAR', 'Roof', 90);
INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('gw-1', 'd-1', 'Gateway 1');
INSERT INTO device (device_id, depot_id, gateway_id, circuit_id, profile) VALUES
    ('ctrl-1', 'd-1', 'gw-1', 'gc-1', 'bba-microgrid-controller'), ('meter-1', 'd-1', 'gw-1', 'gc-1', 'bess-meter');
INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES ('{MICROGRID}', 'd-1', 1, 'ACTIVE');
INSERT INTO microgrid_node (node_id, microgrid_id, source_circuit_id, name, position) VALUES
    ('{NODE_2}', '{MICROGRID}', 'gc-2', 'Annex', 2), ('{NODE_1}', '{MICROGRID}', 'gc-1', 'Grid connection 1', 1);
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action) VALUES
    ('{CAPACITY_ACTION}', 'd-1', 'ctrl-1', 'AVAILABLE_CHARGING_CAPACITY', 'UPDATE_CIRCUIT_CAPACITY'),
    ('{SOC_ACTION}', 'd-1', 'meter-1', 'SOC', 'RECORD_MEASUREMENT');
"""


async def put_site(pool: Pool) -> None:
    """Depot `d-1` with its microgrid, without any capability bound."""
    await run(pool, _SITE)


async def run(pool: Pool, script: str) -> None:
    """Run statements in one transaction."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(script)


async def bind(
    pool: Pool,
    capability: str,
    *,
    device_id: str = "ctrl-1",
    node_id: str | None = None,
    stale_after_s: float = 120,
    enabled: bool = True,
) -> None:
    """Make a device the owner of a capability."""
    await pool.execute(
        "INSERT INTO capability_control_point (control_point_id, microgrid_id, node_id, capability, device_id, measurand, "
        "stale_after_s, enabled) VALUES (gen_random_uuid(), $1, $2, $3, $4, $3, $5, $6)",
        MICROGRID,
        node_id,
        capability,
        device_id,
        stale_after_s,
        enabled,
    )


def report(
    event_type: str,
    subject: str,
    observed_at: datetime,
    payload: Mapping[str, object],
    *,
    received_at: datetime | None = None,
    device_id: str = "ctrl-1",
    packet_id: str | None = None,
    microgrid_id: str | None = MICROGRID,
    history_only: bool = False,
) -> Event:
    """An event as the worker makes it of a report."""
    packet_id = packet_id or f"p-{next(_numbers)}"
    return Event(
        events.report_event_id(event_type, device_id, packet_id, subject, "", observed_at, str(payload)),
        event_type,
        "d-1",
        microgrid_id,
        subject,
        history_only,
        observed_at,
        observed_at,
        packet_id,
        {"device_id": device_id, "gateway_id": "gw-1", "quality": "GOOD", "rule": "CIRCUIT", "candidates": ["x"], **payload},
        {"source": "mqtt", "received_at": events.utc_text(received_at or observed_at)},
    )


def capability(name: str, on: bool, observed_at: datetime, *, node_id: str | None = None, **more: object) -> Event:
    """A report that a capability is on or off."""
    payload = {
        "measurand": name,
        "capability": name,
        "node_id": node_id,
        "raw_value": on,
        "operational_status": "ON" if on else "OFF",
    }
    subject = subjects.capability_subject(MICROGRID, node_id, name)
    return report(events.CAPABILITY_STATUS_REPORTED, subject, observed_at, payload, **more)  # type: ignore[arg-type]


def load(power_source_id: str, load_kw: float, observed_at: datetime) -> Event:
    """A report of the power of a power source."""
    payload = {"measurand": "ACTIVE_POWER", "raw_value": load_kw, "power_source_id": power_source_id, "load_kw": load_kw}
    return report(events.POWER_SOURCE_LOAD_REPORTED, subjects.power_source_load_subject(power_source_id), observed_at, payload)


def soc(value: float, observed_at: datetime, *, device_id: str = "meter-1", packet_id: str | None = None) -> Event:
    """A measurement of state of charge."""
    payload = {"measurand": "SOC", "raw_value": value, "value": value, "unit": "%"}
    subject = subjects.measurement_subject(device_id, "SOC")
    return report(events.MEASUREMENT_RECORDED, subject, observed_at, payload, device_id=device_id, packet_id=packet_id)


def capacity(circuit_id: str, capacity_kw: float, observed_at: datetime) -> Event:
    """A report of a circuit's charging capacity by its controller."""
    payload = {
        "measurand": "AVAILABLE_CHARGING_CAPACITY",
        "raw_value": capacity_kw,
        "circuit_id": circuit_id,
        "available_capacity_kw": capacity_kw,
        "source": "CONTROLLER",
        "capacity_rule": "HEARTBEAT_OK",
        "uncut_kw": capacity_kw,
        "rating_kw": None,
        "heartbeat": "OK",
    }
    return report(events.CIRCUIT_CAPACITY_REPORTED, subjects.circuit_capacity_subject(circuit_id), observed_at, payload)


def health(
    observed_at: datetime, *, status: str = "OK", fail_safe_kw: float | None = None, timeout_s: float = 60
) -> ControllerHealth:
    """The health of the controller `ctrl-1` of circuit `gc-1` with a heartbeat at a time."""
    deadline_at = observed_at + timedelta(seconds=timeout_s) if status == "OK" else None
    return ControllerHealth(
        CAPACITY_ACTION,
        "ctrl-1",
        "gw-1",
        "d-1",
        MICROGRID,
        "gc-1",
        status,
        heartbeat_at=observed_at,
        deadline_at=deadline_at,
        available_kw=350.0,
        available_at=observed_at,
        fail_safe_kw=fail_safe_kw,
        capacity_at=observed_at,
    )


async def put(pool: Pool, *reported: Event) -> None:
    """Store events in a transaction of their own."""
    await append_events(pool, list(reported))


async def put_health(pool: Pool, *healths: ControllerHealth) -> None:
    """Store the health of controllers."""
    async with pool.acquire() as connection:
        await save_health(connection, list(healths))


async def owner(database_url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection as the database's owner, for what the service's role may not do."""
    return await asyncpg.connect(database_url)
