"""The health of controllers: rows that a batch reads and writes in its own transaction, and that a sweep finds by deadline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from event_store.database import Connection, in_utc
from microgrid.circuit_capacity import ControllerHealth

_FIELDS = (
    "device_id",
    "gateway_id",
    "depot_id",
    "microgrid_id",
    "circuit_id",
    "status",
    "heartbeat_at",
    "lost_from",
    "deadline_at",
    "available_kw",
    "available_at",
    "fail_safe_kw",
    "fail_safe_at",
    "capacity_at",
)
_MOMENTS = ("heartbeat_at", "lost_from", "deadline_at", "available_at", "fail_safe_at", "capacity_at")
_COLUMNS = ", ".join(
    ("sensor_action_id::text AS sensor_action_id", *(f"{f}::text AS {f}" if f == "microgrid_id" else f for f in _FIELDS))
)
_SAVE = f"""
INSERT INTO controller_health (sensor_action_id, {", ".join(_FIELDS)})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::timestamptz[],
    $9::timestamptz[], $10::timestamptz[], $11::float8[], $12::timestamptz[], $13::float8[], $14::timestamptz[],
    $15::timestamptz[])
ON CONFLICT (sensor_action_id) DO UPDATE SET {", ".join(f"{field} = excluded.{field}" for field in _FIELDS)}
"""  # noqa: S608 - constants of ours


async def lock_health(connection: Connection, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
    """The rows that exist of these, locked until the caller's transaction ends.

    A row that does not exist yet is held by an advisory lock, so that two workers never both start it.
    """
    wanted = sorted(set(sensor_action_ids))
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(i, 7)) FROM unnest($1::text[]) AS i", wanted)
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM controller_health WHERE sensor_action_id = ANY ($1::uuid[]) "  # noqa: S608 - constants of ours
        "ORDER BY controller_health.sensor_action_id FOR UPDATE",
        wanted,
    )
    return {row["sensor_action_id"]: _health(row) for row in rows}


async def peek_health(connection: Connection, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
    """The rows that exist of these, without a lock."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM controller_health WHERE sensor_action_id = ANY ($1::uuid[])",  # noqa: S608 - constants of ours
        sorted(set(sensor_action_ids)),
    )
    return {row["sensor_action_id"]: _health(row) for row in rows}


async def save_health(connection: Connection, healths: Sequence[ControllerHealth]) -> None:
    """Write rows, whether they exist or not."""
    if not healths:
        return
    columns = [[getattr(health, field) for health in healths] for field in ("sensor_action_id", *_FIELDS)]
    await connection.execute(_SAVE, *columns)


async def lock_overdue(connection: Connection, now: datetime, *, limit: int) -> list[ControllerHealth]:
    """Rows whose heartbeat is overdue, locked; rows that another sweeper or a batch holds are left to it."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM controller_health WHERE deadline_at <= $1 "  # noqa: S608 - constants of ours
        "ORDER BY deadline_at, controller_health.sensor_action_id LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_health(row) for row in rows]


async def health_of_circuits(connection: Connection, circuit_ids: Sequence[str]) -> list[ControllerHealth]:
    """What is known of the controllers of these circuits, without a lock."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM controller_health WHERE circuit_id = ANY ($1::text[]) "  # noqa: S608 - constants of ours
        "ORDER BY controller_health.sensor_action_id",
        list(circuit_ids),
    )
    return [_health(row) for row in rows]


def _health(row: Any) -> ControllerHealth:
    known = dict(row)
    for moment in _MOMENTS:
        if known[moment] is not None:
            known[moment] = in_utc(known[moment])
    return ControllerHealth(**known)
