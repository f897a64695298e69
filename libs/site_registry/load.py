"""Load what is configured: whole depots, as the routing and the read pages see them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import asyncpg

from event_store.database import Connection
from microgrid.site_model import (
    ChargePoint,
    Circuit,
    Connector,
    ControlPoint,
    Depot,
    Device,
    Gateway,
    Microgrid,
    Node,
    PowerSource,
    SensorAction,
    Site,
)

# Charge points and connectors play no part in routing, so a worker does not hold them.
_QUERIES = {
    "depot": "SELECT depot_id, name, timezone FROM depot",
    "circuit": (
        "SELECT depot_id, circuit_id, parent_circuit_id, name, position, default_capacity_kw, safe_capacity_kw, rating_kw "
        "FROM circuit"
    ),
    "power_source": "SELECT depot_id, power_source_id, circuit_id, kind, name, rated_kw FROM power_source",
    "gateway": "SELECT depot_id, gateway_id, name, site_model_name, model_outputs, output_translation FROM gateway",
    "device": "SELECT depot_id, device_id, gateway_id, circuit_id, profile, enabled FROM device",
    "sensor_action": (
        "SELECT depot_id, sensor_action_id::text AS sensor_action_id, device_id, measurand, action, enabled, capability, "
        "node_id::text AS node_id, power_source_id, circuit_id, heartbeat_timeout_s, scale, origin FROM sensor_action"
    ),
    "microgrid": ("SELECT depot_id, microgrid_id::text AS microgrid_id, version, status FROM microgrid WHERE status <> 'RETIRED'"),
    "node": (
        "SELECT m.depot_id, n.microgrid_id::text AS microgrid_id, n.node_id::text AS node_id, n.source_circuit_id, n.name, "
        "n.position FROM microgrid_node n JOIN microgrid m USING (microgrid_id) WHERE m.status <> 'RETIRED'"
    ),
    "control_point": (
        "SELECT m.depot_id, p.microgrid_id::text AS microgrid_id, p.control_point_id::text AS control_point_id, "
        "p.node_id::text AS node_id, p.capability, p.device_id, p.measurand, p.stale_after_s, p.enabled, "
        "p.controller_binding_id::text AS controller_binding_id, p.binding_version "
        "FROM capability_control_point p JOIN microgrid m USING (microgrid_id) WHERE m.status <> 'RETIRED'"
    ),
    "charge_point": (
        "SELECT c.depot_id, p.charge_point_id, p.circuit_id, p.name, p.max_kw FROM charge_point p JOIN circuit c USING (circuit_id)"
    ),
    "connector": (
        "SELECT c.depot_id, k.connector_id, k.charge_point_id, k.number, k.max_kw FROM connector k "
        "JOIN charge_point p USING (charge_point_id) JOIN circuit c USING (circuit_id)"
    ),
}
_DEPOT_COLUMN = {"node": "m.depot_id", "control_point": "m.depot_id", "charge_point": "c.depot_id", "connector": "c.depot_id"}
_ASSETS = ("charge_point", "connector")


async def load_sites(
    connection: Connection, depot_ids: Sequence[str] | None = None, *, with_assets: bool = False
) -> dict[str, Site]:
    """Depots by id, all of them or those named that exist, in one snapshot (that of the caller's transaction, if there is one).

    Charge points and connectors are left out unless `with_assets`. Lists are ordered by id, circuits by position then id.
    """
    rows: dict[str, dict[str, list[asyncpg.Record]]] = {}
    # Inside a transaction the isolation is the caller's, who has locked what must not change.
    snapshot = (
        nullcontext() if connection.is_in_transaction() else connection.transaction(isolation="repeatable_read", readonly=True)
    )
    async with snapshot:
        for name, query in _QUERIES.items():
            if name in _ASSETS and not with_assets:
                continue
            rows[name] = _by_depot(await _select(connection, name, query, depot_ids))
    shared: dict[str, str] = {}
    return {
        depot_id: _site(depot_id, {name: by_depot.get(depot_id, []) for name, by_depot in rows.items()}, shared)
        for depot_id in sorted(rows["depot"])
    }


async def load_site(connection: Connection, depot_id: str, *, with_assets: bool = True) -> Site | None:
    """One depot with everything in it, or None."""
    return (await load_sites(connection, [depot_id], with_assets=with_assets)).get(depot_id)


async def depot_of_microgrid(connection: Connection, microgrid_id: str) -> str | None:
    """The depot that a live microgrid belongs to."""
    return await connection.fetchval(
        "SELECT depot_id FROM microgrid WHERE microgrid_id = $1::uuid AND status <> 'RETIRED'", microgrid_id
    )


async def depot_of_device(connection: Connection, device_id: str) -> str | None:
    """The depot that a device belongs to."""
    return await connection.fetchval("SELECT depot_id FROM device WHERE device_id = $1", device_id)


async def list_depots(connection: Connection, *, limit: int, after: str = "") -> list[Depot]:
    """Depots by id, after an id."""
    rows = await connection.fetch(
        "SELECT depot_id, name, timezone FROM depot WHERE depot_id > $1 ORDER BY depot_id LIMIT $2", after, limit
    )
    return [Depot(*row) for row in rows]


async def _select(connection: Connection, name: str, query: str, depot_ids: Sequence[str] | None) -> list[asyncpg.Record]:
    if depot_ids is None:
        return await connection.fetch(query)
    joiner = " AND " if " WHERE " in query else " WHERE "
    column = _DEPOT_COLUMN.get(name, "depot_id")
    return await connection.fetch(f"{query}{joiner}{column} = ANY ($1::text[])", list(depot_ids))


def _by_depot(rows: list[asyncpg.Record]) -> dict[str, list[asyncpg.Record]]:
    grouped: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        grouped.setdefault(row["depot_id"], []).append(row)
    return grouped


def _site(depot_id: str, rows: dict[str, list[asyncpg.Record]], shared: dict[str, str]) -> Site:
    # Every query has depot_id first and then the fields of its dataclass in their order.
    depot = rows["depot"][0]
    return Site(
        depot=Depot(depot_id, depot["name"], depot["timezone"]),
        circuits=tuple(sorted((Circuit(*_fields(row)) for row in rows["circuit"]), key=lambda c: (c.position, c.circuit_id))),
        charge_points=tuple(
            sorted((ChargePoint(*_fields(row)) for row in rows.get("charge_point", [])), key=lambda p: p.charge_point_id)
        ),
        connectors=tuple(sorted((Connector(*_fields(row)) for row in rows.get("connector", [])), key=lambda k: k.connector_id)),
        power_sources=tuple(sorted((PowerSource(*_fields(row)) for row in rows["power_source"]), key=lambda s: s.power_source_id)),
        gateways=tuple(sorted((Gateway(*_fields(row)) for row in rows["gateway"]), key=lambda g: g.gateway_id)),
        devices=tuple(sorted((Device(*_fields(row)) for row in rows["device"]), key=lambda d: d.device_id)),
        sensor_actions=tuple(
            sorted((_sensor_action(row, shared) for row in rows["sensor_action"]), key=lambda a: a.sensor_action_id)
        ),
        microgrid=_microgrid(rows),
    )


def _sensor_action(row: asyncpg.Record, shared: dict[str, str]) -> SensorAction:
    """An action whose texts, but for its own id, are one object wherever they are equal: a worker holds hundreds of thousands."""
    sensor_action_id, *fields = _fields(row)
    texts_shared: list[Any] = [shared.setdefault(one, one) if isinstance(one, str) else one for one in fields]
    return SensorAction(sensor_action_id, *texts_shared)


def _microgrid(rows: dict[str, list[asyncpg.Record]]) -> Microgrid | None:
    if not rows["microgrid"]:
        return None
    row = rows["microgrid"][0]
    nodes = (Node(*_fields(node)[1:]) for node in rows["node"])
    points = (ControlPoint(*_fields(point)[1:]) for point in rows["control_point"])
    return Microgrid(
        row["microgrid_id"],
        row["version"],
        row["status"],
        tuple(sorted(nodes, key=lambda node: (node.position, node.source_circuit_id))),
        tuple(sorted(points, key=lambda point: point.control_point_id)),
    )


def _fields(row: asyncpg.Record) -> tuple[Any, ...]:
    return tuple(row)[1:]
