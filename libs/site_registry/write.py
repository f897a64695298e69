"""Write what is configured: rows of one kind at a time, each change one statement whatever the number of rows.

The callers decide what to write and in which order; whoever changes a depot holds its lock first, so that changes of one depot
come one after the other and those of different depots do not wait. One statement per kind also means one note of the change for
those who follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from event_store.database import Connection
from microgrid.site_model import ControlPoint, Depot, Microgrid, Node

_LOCK_SEED = 7_340_117


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table whose rows are one dataclass of the site model: its key, its other columns, and the way to a row's depot."""

    table: str
    key: str
    columns: tuple[str, ...]
    has_depot: bool = True
    depot_by: str = ""


KINDS: dict[str, _Kind] = {
    "circuit": _Kind(
        "circuit",
        "circuit_id",
        ("parent_circuit_id", "name", "position", "default_capacity_kw", "safe_capacity_kw", "rating_kw"),
    ),
    "charge_point": _Kind(
        "charge_point",
        "charge_point_id",
        ("circuit_id", "name", "max_kw"),
        has_depot=False,
        depot_by="JOIN circuit USING (circuit_id)",
    ),
    "connector": _Kind(
        "connector",
        "connector_id",
        ("charge_point_id", "number", "max_kw"),
        has_depot=False,
        depot_by="JOIN charge_point USING (charge_point_id) JOIN circuit USING (circuit_id)",
    ),
    "power_source": _Kind("power_source", "power_source_id", ("circuit_id", "kind", "name", "rated_kw")),
    "gateway": _Kind("gateway", "gateway_id", ("name", "site_model_name", "model_outputs", "output_translation")),
    "device": _Kind("device", "device_id", ("gateway_id", "circuit_id", "profile", "enabled")),
    "sensor_action": _Kind(
        "sensor_action",
        "sensor_action_id",
        (
            "device_id",
            "measurand",
            "action",
            "enabled",
            "capability",
            "node_id",
            "power_source_id",
            "circuit_id",
            "heartbeat_timeout_s",
            "scale",
            "origin",
        ),
    ),
}
"""Kinds of rows in an order in which none refers to a later one."""

_NODE_COLUMNS = ("node_id", "source_circuit_id", "name", "position")
_POINT_COLUMNS = (
    "node_id",
    "capability",
    "device_id",
    "measurand",
    "stale_after_s",
    "enabled",
    "controller_binding_id",
    "binding_version",
)
_INSERT_WHOLE_MICROGRID = f"""
WITH made AS (
    INSERT INTO microgrid (microgrid_id, depot_id, version, status, created_at, updated_at)
    VALUES ($1::text::uuid, $2, $3, $4, $5, $5)
), noded AS (
    INSERT INTO microgrid_node (microgrid_id, {", ".join(_NODE_COLUMNS)})
    SELECT $1::text::uuid, {", ".join(_NODE_COLUMNS)} FROM jsonb_populate_recordset(NULL::microgrid_node, $6)
)
INSERT INTO capability_control_point (microgrid_id, control_point_id, {", ".join(_POINT_COLUMNS)})
SELECT $1::text::uuid, control_point_id, {", ".join(_POINT_COLUMNS)}
FROM jsonb_populate_recordset(NULL::capability_control_point, $7)
"""  # noqa: S608 - names of ours


async def lock_depot(connection: Connection, depot_id: str) -> None:
    """Wait until no other transaction changes this depot, whether or not it exists yet; held until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", depot_id, _LOCK_SEED)


async def bound_lock_wait(connection: Connection, seconds: float) -> None:
    """From now on, let a statement of this connection fail that waits for a lock longer than this."""
    await connection.execute("SELECT set_config('lock_timeout', $1, false)", f"{round(seconds * 1000)}ms")


async def ids_of_other_depots(connection: Connection, kind: str, ids: Sequence[str], depot_id: str) -> dict[str, str]:
    """Those of the ids that another depot has, with that depot."""
    table = KINDS[kind]
    rows = await connection.fetch(
        f"SELECT {table.key} AS id, depot_id FROM {table.table} {table.depot_by} "  # noqa: S608 - names of ours
        f"WHERE {table.key} = ANY ($1::text[]) AND depot_id <> $2",
        list(ids),
        depot_id,
    )
    return {row["id"]: row["depot_id"] for row in rows}


async def insert_depot(connection: Connection, depot: Depot, now: datetime) -> None:
    """A new depot."""
    await connection.execute(
        "INSERT INTO depot (depot_id, name, timezone, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
        depot.depot_id,
        depot.name,
        depot.timezone,
        now,
    )


async def update_depot(connection: Connection, depot: Depot, now: datetime) -> None:
    """A depot's name and time zone."""
    await connection.execute(
        "UPDATE depot SET name = $2, timezone = $3, updated_at = $4 WHERE depot_id = $1",
        depot.depot_id,
        depot.name,
        depot.timezone,
        now,
    )


async def insert_rows(connection: Connection, kind: str, depot_id: str, rows: Iterable[Any]) -> None:
    """New rows of a kind: dataclasses of the site model."""
    table = KINDS[kind]
    columns = (table.key, *table.columns, *(("depot_id",) if table.has_depot else ()))
    await _insert(connection, table.table, columns, [{**_plain(row), "depot_id": depot_id} for row in rows])


async def update_rows(connection: Connection, kind: str, rows: Iterable[Any]) -> None:
    """Rows of a kind as they are to be, found by their ids."""
    await _update(connection, KINDS[kind].table, KINDS[kind].key, KINDS[kind].columns, [_plain(row) for row in rows])


async def delete_rows(connection: Connection, kind: str, ids: Sequence[str]) -> None:
    """Rows of a kind, by id; nothing may refer to them any more."""
    await _delete(connection, KINDS[kind].table, KINDS[kind].key, ids)


async def insert_microgrid(connection: Connection, depot_id: str, microgrid: Microgrid, now: datetime) -> None:
    """A new microgrid without its nodes and control points."""
    await connection.execute(
        "INSERT INTO microgrid (microgrid_id, depot_id, version, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)",
        microgrid.microgrid_id,
        depot_id,
        microgrid.version,
        microgrid.status,
        now,
    )


async def insert_whole_microgrid(connection: Connection, depot_id: str, microgrid: Microgrid, now: datetime) -> None:
    """A new microgrid with its nodes and control points, in one statement: a run over thousands of depots counts each."""
    await connection.execute(
        _INSERT_WHOLE_MICROGRID,
        microgrid.microgrid_id,
        depot_id,
        microgrid.version,
        microgrid.status,
        now,
        [_plain(node) for node in microgrid.nodes],
        [_plain(point) for point in microgrid.control_points],
    )


async def update_microgrid(connection: Connection, microgrid: Microgrid, now: datetime) -> None:
    """A microgrid's version and status."""
    # Who waited for the depot may come with the earlier clock; the time of the last change does not go back.
    await connection.execute(
        "UPDATE microgrid SET version = $2, status = $3, updated_at = greatest(updated_at, $4) WHERE microgrid_id = $1",
        microgrid.microgrid_id,
        microgrid.version,
        microgrid.status,
        now,
    )


async def write_microgrid(connection: Connection, before: Microgrid, after: Microgrid, now: datetime) -> None:
    """Make a stored microgrid and its nodes those of `after`, writing only what differs; control points are left alone.

    Those of nodes that go must have gone.
    """
    if (before.version, before.status, before.nodes) != (after.version, after.status, after.nodes):
        await update_microgrid(connection, after, now)
    await write_nodes(connection, after.microgrid_id, before.nodes, after.nodes)


async def write_nodes(connection: Connection, microgrid_id: str, before: Sequence[Node], after: Sequence[Node]) -> None:
    """Make a microgrid's nodes those of `after`; control points of nodes that go must have gone."""
    known = {node.node_id: node for node in before}
    kept = {node.node_id for node in after}
    await _delete(connection, "microgrid_node", "node_id", [node.node_id for node in before if node.node_id not in kept])
    changed = [node for node in after if node.node_id in known and known[node.node_id] != node]
    await _update(connection, "microgrid_node", "node_id", _NODE_COLUMNS[1:], [_plain(node) for node in changed])
    added = [{**_plain(node), "microgrid_id": microgrid_id} for node in after if node.node_id not in known]
    await _insert(connection, "microgrid_node", (*_NODE_COLUMNS, "microgrid_id"), added)


async def delete_control_points(connection: Connection, ids: Sequence[str]) -> None:
    """Control points by id."""
    await _delete(connection, "capability_control_point", "control_point_id", ids)


async def write_control_points(
    connection: Connection, microgrid_id: str, changed: Sequence[ControlPoint], added: Sequence[ControlPoint]
) -> None:
    """Change and add control points; together with those left, each scope and capability must have one active owner at most."""
    # Those that let go come first: the index that allows one active owner looks at every row by itself.
    for enabled in (False, True):
        rows = [_plain(point) for point in changed if point.enabled is enabled]
        await _update(connection, "capability_control_point", "control_point_id", _POINT_COLUMNS, rows)
    rows = [{**_plain(point), "microgrid_id": microgrid_id} for point in added]
    await _insert(connection, "capability_control_point", ("control_point_id", *_POINT_COLUMNS, "microgrid_id"), rows)


def _plain(row: Any) -> dict[str, Any]:
    return asdict(row)


async def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        names = ", ".join(columns)
        await connection.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM jsonb_populate_recordset(NULL::{table}, $1)",  # noqa: S608
            rows,
        )


async def _update(connection: Connection, table: str, key: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        assignments = ", ".join(f"{name} = new.{name}" for name in columns)
        await connection.execute(
            f"UPDATE {table} SET {assignments} FROM jsonb_populate_recordset(NULL::{table}, $1) AS new "  # noqa: S608
            f"WHERE {table}.{key} = new.{key}",
            rows,
        )


async def _delete(connection: Connection, table: str, key: str, ids: Sequence[str]) -> None:
    if ids:
        await connection.execute(f"DELETE FROM {table} WHERE {key}::text = ANY ($1::text[])", list(ids))  # noqa: S608
