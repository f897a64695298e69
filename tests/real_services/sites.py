"""Sites for tests, written straight into the tables as a person with SQL would."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import asyncpg
from tests.real_services.packet_plan import BOUND_MEASURAND, Sender

_NAMESPACE = uuid.UUID("5a0e0f2e-5f0c-4a52-9d5e-0b5a4a8f8b11")
DEPOT_ID = "depot-1"
CONTROLLER = Sender("gw-1", "ctrl-1")
MICROGRID_ID = str(uuid.uuid5(_NAMESPACE, "microgrid"))
CAPACITY_ACTION_ID = str(uuid.uuid5(_NAMESPACE, "capacity"))

_DEPOT = "INSERT INTO depot (depot_id, name, timezone) VALUES ($1, 'Northside', 'Australia/Perth')"
_GATEWAY = "INSERT INTO gateway (gateway_id, depot_id, name) VALUES ($1, $2, $1)"
_DEVICE = "INSERT INTO device (device_id, depot_id, gateway_id, circuit_id) VALUES ($1, $2, $3, $4)"
_CIRCUIT = "INSERT INTO circuit (circuit_id, depot_id, name, position, rating_kw, safe_capacity_kw) VALUES ($1, $2, $1, 0, 500, 50)"


async def seed_fleet(database_url: str, devices: int, gateways: int = 5) -> list[Sender]:
    """A depot of gateways and devices, each device with one recorded measurand; gives back who may send."""
    senders = [Sender(f"gw-{number % gateways}", f"dev-{number:04d}") for number in range(devices)]
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(_DEPOT, DEPOT_ID)
            await connection.executemany(_GATEWAY, [(f"gw-{number}", DEPOT_ID) for number in range(gateways)])
            await connection.executemany(_DEVICE, [(one.device_id, DEPOT_ID, one.gateway_id, None) for one in senders])
            await connection.executemany(
                "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action) "
                "VALUES ($1, $2, $3, $4, 'RECORD_MEASUREMENT')",
                [(uuid.uuid5(_NAMESPACE, one.device_id), DEPOT_ID, one.device_id, BOUND_MEASURAND) for one in senders],
            )
    finally:
        await connection.close()
    return senders


async def seed_controller(database_url: str, *, heartbeat_timeout_s: float = 60.0) -> Sender:
    """A depot with one microgrid controller: peak shaving, DER, capacity of its circuit (rating 500, safe 50 kW) and SOC."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(_DEPOT, DEPOT_ID)
            await connection.execute(_CIRCUIT, "gc-1", DEPOT_ID)
            await connection.execute(_GATEWAY, CONTROLLER.gateway_id, DEPOT_ID)
            await connection.execute(_DEVICE, CONTROLLER.device_id, DEPOT_ID, CONTROLLER.gateway_id, "gc-1")
            await connection.execute(
                "INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES ($1, $2, 1, 'ACTIVE')",
                MICROGRID_ID,
                DEPOT_ID,
            )
            await bind_capability(connection, CONTROLLER.device_id, "PEAK_SHAVING", "PEAK_SHAVING")
            await bind_capability(connection, CONTROLLER.device_id, "DER", "DER")
            await add_action(connection, CONTROLLER.device_id, "SOC", "RECORD_MEASUREMENT")
            await connection.execute(
                "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, heartbeat_timeout_s) "
                "VALUES ($1, $2, $3, 'AVAILABLE_CHARGING_CAPACITY', 'UPDATE_CIRCUIT_CAPACITY', $4)",
                CAPACITY_ACTION_ID,
                DEPOT_ID,
                CONTROLLER.device_id,
                heartbeat_timeout_s,
            )
    finally:
        await connection.close()
    return CONTROLLER


async def bind_capability(connection: asyncpg.Connection[asyncpg.Record], device_id: str, measurand: str, capability: str) -> None:
    """Let a device own a capability of the microgrid, fed by one of its measurands."""
    await connection.execute(
        "INSERT INTO capability_control_point (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, "
        "enabled) VALUES ($1, $2, $3, $4, $5, 300, true)",
        uuid.uuid4(),
        MICROGRID_ID,
        capability,
        device_id,
        measurand,
    )
    await add_action(connection, device_id, measurand, "UPDATE_MICROGRID_STATE", capability)


async def add_action(
    connection: asyncpg.Connection[asyncpg.Record], device_id: str, measurand: str, action: str, capability: str | None = None
) -> None:
    """Let one measurand of a device do something."""
    await connection.execute(
        "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        uuid.uuid4(),
        DEPOT_ID,
        device_id,
        measurand,
        action,
        capability,
    )


async def rows(database_url: str, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
    """One look at the database, on a connection of its own."""
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()
