"""How a single thing of the site model looks over HTTP: the same for who asks for it and for who has just changed it.

Every field is always there; null means "no limit" or "not known".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from event_store.database import Connection


@dataclass(frozen=True, slots=True)
class CircuitDocument:
    """A circuit; one without a parent is a grid connection."""

    circuit_id: str
    depot_id: str
    parent_circuit_id: str | None
    name: str
    position: int
    default_capacity_kw: float | None
    safe_capacity_kw: float | None
    rating_kw: float | None


@dataclass(frozen=True, slots=True)
class ChargePointDocument:
    """A charge point."""

    charge_point_id: str
    depot_id: str
    circuit_id: str
    name: str
    max_kw: float


@dataclass(frozen=True, slots=True)
class ConnectorDocument:
    """A connector of a charge point."""

    connector_id: str
    depot_id: str
    charge_point_id: str
    number: int
    max_kw: float | None


@dataclass(frozen=True, slots=True)
class PowerSourceDocument:
    """A battery, generator, solar plant or grid supply."""

    power_source_id: str
    depot_id: str
    circuit_id: str | None
    kind: str
    name: str
    rated_kw: float | None


@dataclass(frozen=True, slots=True)
class GatewayDocument:
    """A gateway; `model_outputs` is key to action, `output_translation` key to power source."""

    gateway_id: str
    depot_id: str
    name: str
    site_model_name: str | None
    model_outputs: Mapping[str, str]
    output_translation: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeviceDocument:
    """A sensor or controller behind a gateway."""

    device_id: str
    depot_id: str
    gateway_id: str
    circuit_id: str | None
    profile: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class SensorActionDocument:
    """What a device's measurand does; `origin` is who gave it: `PROFILE`, `REPORTED` or `PERSON`."""

    sensor_action_id: str
    depot_id: str
    device_id: str
    measurand: str
    action: str
    enabled: bool
    capability: str | None
    node_id: str | None
    power_source_id: str | None
    circuit_id: str | None
    heartbeat_timeout_s: float | None
    scale: float | None
    origin: str


DOCUMENTS: dict[str, type[Any]] = {
    "circuit": CircuitDocument,
    "charge_point": ChargePointDocument,
    "connector": ConnectorDocument,
    "power_source": PowerSourceDocument,
    "gateway": GatewayDocument,
    "device": DeviceDocument,
    "sensor_action": SensorActionDocument,
}
"""By kind, as `write.KINDS` names them."""


def document_of(kind: str, depot_id: str, thing: object) -> Any:
    """The document of a thing of the site model (one of its dataclasses)."""
    fields: dict[str, Any] = asdict(thing)  # type: ignore[call-overload] - every thing is a dataclass
    for name, value in fields.items():
        if isinstance(value, dict):
            fields[name] = dict(sorted(value.items()))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType, reportUnknownVariableType]
    return DOCUMENTS[kind](depot_id=depot_id, **fields)


@dataclass(frozen=True, slots=True)
class DepotDescription:
    """A depot; `microgrid_id` is null while it has none."""

    depot_id: str
    name: str
    timezone: str
    microgrid_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NodeDocument:
    """A first-level node of a microgrid."""

    node_id: str
    kind: str
    source_circuit_id: str
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class MicrogridDocument:
    """A microgrid; `version` grows when the set or the order of its nodes changes."""

    microgrid_id: str
    depot_id: str
    version: int
    status: str
    nodes: tuple[NodeDocument, ...]
    created_at: datetime
    updated_at: datetime


_DEPOT = """
SELECT d.depot_id, d.name, d.timezone, m.microgrid_id::text AS microgrid_id, d.created_at, d.updated_at
FROM depot d LEFT JOIN microgrid m ON m.depot_id = d.depot_id AND m.status <> 'RETIRED'
WHERE d.depot_id = $1
"""
_MICROGRIDS = """
SELECT m.microgrid_id::text AS microgrid_id, m.depot_id, m.version, m.status, m.created_at, m.updated_at,
       n.node_id::text AS node_id, n.kind, n.source_circuit_id, n.name, n.position
FROM microgrid m LEFT JOIN microgrid_node n USING (microgrid_id)
WHERE {} ORDER BY n.position, n.source_circuit_id COLLATE "C"
"""
_MICROGRID_OF_DEPOT = _MICROGRIDS.format("m.depot_id = $1 AND m.status <> 'RETIRED'")
_MICROGRID = _MICROGRIDS.format("m.microgrid_id = $1::text::uuid")


async def describe_depot(connection: Connection, depot_id: str) -> DepotDescription | None:
    """A depot as it is stored."""
    row = await connection.fetchrow(_DEPOT, depot_id)
    return None if row is None else DepotDescription(**dict(row))


async def describe_microgrid(connection: Connection, depot_id: str) -> MicrogridDocument | None:
    """A depot's live microgrid as it is stored."""
    return _microgrid(await connection.fetch(_MICROGRID_OF_DEPOT, depot_id))


async def describe_microgrid_by_id(connection: Connection, microgrid_id: str) -> MicrogridDocument | None:
    """A microgrid by its own id (a UUID), retired ones too: its history outlives its depot."""
    return _microgrid(await connection.fetch(_MICROGRID, microgrid_id))


def _microgrid(rows: Sequence[Any]) -> MicrogridDocument | None:
    if not rows:
        return None
    first = rows[0]
    nodes = (
        NodeDocument(row["node_id"], row["kind"], row["source_circuit_id"], row["name"], row["position"])
        for row in rows
        if row["node_id"] is not None
    )
    return MicrogridDocument(
        first["microgrid_id"],
        first["depot_id"],
        first["version"],
        first["status"],
        tuple(nodes),
        first["created_at"],
        first["updated_at"],
    )
