"""What a depot's microgrid is made from, in one round trip: a whole depot is eleven, which a run over thousands would pay for.

One statement is one snapshot, too, so what is read agrees with itself also where nobody holds the depot's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from event_store.database import Connection
from microgrid.site_model import Circuit, ControlPoint, Depot, Microgrid, Node, SensorAction, Site

_STRUCTURE = """
SELECT d.name, d.timezone,
    (SELECT jsonb_agg(jsonb_build_array(c.circuit_id, c.parent_circuit_id, c.name, c.position))
     FROM circuit c WHERE c.depot_id = d.depot_id AND c.parent_circuit_id IS NULL) AS circuits,
    (SELECT jsonb_agg(jsonb_build_array(
         a.sensor_action_id, a.device_id, a.measurand, a.action, a.enabled, a.capability, a.node_id, a.power_source_id,
         a.circuit_id, a.heartbeat_timeout_s, a.scale, a.origin))
     FROM sensor_action a
     WHERE a.depot_id = d.depot_id AND (a.action = 'UPDATE_MICROGRID_STATE' OR a.node_id IS NOT NULL)) AS actions,
    m.microgrid_id::text AS microgrid_id, m.version, m.status,
    (SELECT jsonb_agg(jsonb_build_array(n.node_id, n.source_circuit_id, n.name, n.position))
     FROM microgrid_node n WHERE n.microgrid_id = m.microgrid_id) AS nodes,
    (SELECT jsonb_agg(jsonb_build_array(
         p.control_point_id, p.node_id, p.capability, p.device_id, p.measurand, p.stale_after_s, p.enabled,
         p.controller_binding_id, p.binding_version))
     FROM capability_control_point p WHERE p.microgrid_id = m.microgrid_id) AS points
FROM depot d LEFT JOIN microgrid m ON m.depot_id = d.depot_id AND m.status <> 'RETIRED'
WHERE d.depot_id = $1
"""

_STATES = """
SELECT d.depot_id,
    EXISTS (SELECT FROM microgrid m WHERE m.depot_id = d.depot_id AND m.status <> 'RETIRED') AS has_microgrid,
    coalesce((SELECT array_agg(c.name) FROM circuit c WHERE c.depot_id = d.depot_id AND c.parent_circuit_id IS NULL), '{}') AS names
FROM depot d WHERE d.depot_id > $1 ORDER BY d.depot_id LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class DepotState:
    """Whether a depot has its live microgrid, and the names of its circuits without a parent."""

    depot_id: str
    has_microgrid: bool
    top_level_names: tuple[str, ...]


async def load_structure(connection: Connection, depot_id: str) -> Site | None:
    """A depot with its circuits without a parent, the actions that feed capabilities or name a node, and its live microgrid.

    All other lists are empty, and a circuit's capacities are not told. Ordered as `load_site` orders.
    """
    row = await connection.fetchrow(_STRUCTURE, depot_id)
    if row is None:
        return None
    circuits = [Circuit(*fields) for fields in row["circuits"] or ()]
    actions = [SensorAction(*fields) for fields in row["actions"] or ()]
    return Site(
        depot=Depot(depot_id, row["name"], row["timezone"]),
        circuits=tuple(sorted(circuits, key=lambda circuit: (circuit.position, circuit.circuit_id))),
        sensor_actions=tuple(sorted(actions, key=lambda action: action.sensor_action_id)),
        microgrid=_microgrid(row["microgrid_id"], row["version"], row["status"], row["nodes"] or (), row["points"] or ()),
    )


async def list_depot_states(connection: Connection, *, after: str, limit: int) -> list[DepotState]:
    """Depots by id, after an id."""
    rows = await connection.fetch(_STATES, after, limit)
    return [DepotState(row["depot_id"], row["has_microgrid"], tuple(row["names"])) for row in rows]


async def count_depots(connection: Connection) -> int:
    """How many depots there are."""
    return await connection.fetchval("SELECT count(*) FROM depot")


def _microgrid(
    microgrid_id: str | None, version: int, status: str, nodes: Sequence[Sequence[Any]], points: Sequence[Sequence[Any]]
) -> Microgrid | None:
    if microgrid_id is None:
        return None
    return Microgrid(
        microgrid_id,
        version,
        status,
        tuple(sorted((Node(*fields) for fields in nodes), key=lambda node: (node.position, node.source_circuit_id))),
        tuple(sorted((ControlPoint(*fields) for fields in points), key=lambda point: point.control_point_id)),
    )
