"""The tree of a microgrid from its grid connections down, as a system admin looks at it.

Each grid connection carries the circuit that it stands for, and each circuit its own circuits, charge points with connectors,
and power sources. Circuits and grid connections are ordered by position, then id; everything else by id, connectors by number.
A grid connection whose circuit is gone has none (`circuit` null), and top-level circuits that no grid connection stands for are
listed apart: both show drift that a resync repairs. A power source without a circuit stands beside the tree. A circuit that is
not reached from the top (its parents form a ring) is in no tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microgrid.site_model import ChargePoint, Circuit, Connector, Microgrid, PowerSource, Site

GRID_CONNECTION = "GRID_CONNECTION"


@dataclass(frozen=True, slots=True)
class ConnectorLeaf:
    """A connector; `max_kw` null is no limit of its own."""

    connector_id: str
    number: int
    max_kw: float | None


@dataclass(frozen=True, slots=True)
class ChargePointBranch:
    """A charge point with its connectors."""

    charge_point_id: str
    name: str
    max_kw: float
    connectors: tuple[ConnectorLeaf, ...]


@dataclass(frozen=True, slots=True)
class PowerSourceLeaf:
    """A power source; `rated_kw` null is not known."""

    power_source_id: str
    kind: str
    name: str
    rated_kw: float | None


@dataclass(frozen=True, slots=True)
class CircuitBranch:
    """A circuit with everything below it; powers in kW, null is no limit."""

    circuit_id: str
    name: str
    position: int
    default_capacity_kw: float | None
    safe_capacity_kw: float | None
    rating_kw: float | None
    circuits: tuple[CircuitBranch, ...]
    charge_points: tuple[ChargePointBranch, ...]
    power_sources: tuple[PowerSourceLeaf, ...]


@dataclass(frozen=True, slots=True)
class GridConnectionBranch:
    """A first-level node of the microgrid with the circuit that it stands for."""

    node_id: str
    kind: str
    name: str
    position: int
    source_circuit_id: str
    circuit: CircuitBranch | None


@dataclass(frozen=True, slots=True)
class Structure:
    """A microgrid's tree, and beside it what belongs to the depot without a place in the tree."""

    microgrid_id: str
    depot_id: str
    depot_name: str
    version: int
    status: str
    grid_connections: tuple[GridConnectionBranch, ...]
    unconnected_circuits: tuple[CircuitBranch, ...]
    power_sources: tuple[PowerSourceLeaf, ...]


def build_structure(site: Site, microgrid: Microgrid) -> Structure:
    """The tree of a site that was loaded with its charge points and connectors."""
    branches = {circuit.circuit_id: branch for circuit, branch in _top_level(site)}
    nodes = sorted(microgrid.nodes, key=lambda node: (node.position, node.source_circuit_id))
    connected = {node.source_circuit_id for node in nodes}
    return Structure(
        microgrid_id=microgrid.microgrid_id,
        depot_id=site.depot.depot_id,
        depot_name=site.depot.name,
        version=microgrid.version,
        status=microgrid.status,
        grid_connections=tuple(
            GridConnectionBranch(
                node_id=node.node_id,
                kind=GRID_CONNECTION,
                name=node.name,
                position=node.position,
                source_circuit_id=node.source_circuit_id,
                circuit=branches.get(node.source_circuit_id),
            )
            for node in nodes
        ),
        unconnected_circuits=tuple(branch for circuit_id, branch in branches.items() if circuit_id not in connected),
        power_sources=_leaves([source for source in site.power_sources if source.circuit_id is None]),
    )


def _top_level(site: Site) -> list[tuple[Circuit, CircuitBranch]]:
    children: dict[str, list[Circuit]] = {}
    for circuit in sorted(site.circuits, key=lambda one: (one.position, one.circuit_id)):
        if circuit.parent_circuit_id is not None:
            children.setdefault(circuit.parent_circuit_id, []).append(circuit)
    connectors: dict[str, list[Connector]] = {}
    for connector in site.connectors:
        connectors.setdefault(connector.charge_point_id, []).append(connector)
    charge_points: dict[str, list[ChargePoint]] = {}
    for point in site.charge_points:
        charge_points.setdefault(point.circuit_id, []).append(point)
    sources: dict[str, list[PowerSource]] = {}
    for source in site.power_sources:
        if source.circuit_id is not None:
            sources.setdefault(source.circuit_id, []).append(source)

    def branch(circuit: Circuit) -> CircuitBranch:
        points = sorted(charge_points.get(circuit.circuit_id, []), key=lambda one: one.charge_point_id)
        return CircuitBranch(
            circuit_id=circuit.circuit_id,
            name=circuit.name,
            position=circuit.position,
            default_capacity_kw=circuit.default_capacity_kw,
            safe_capacity_kw=circuit.safe_capacity_kw,
            rating_kw=circuit.rating_kw,
            circuits=tuple(branch(child) for child in children.get(circuit.circuit_id, [])),
            charge_points=tuple(_charge_point(point, connectors.get(point.charge_point_id, [])) for point in points),
            power_sources=_leaves(sources.get(circuit.circuit_id, [])),
        )

    return [(circuit, branch(circuit)) for circuit in site.top_level_circuits]


def _charge_point(point: ChargePoint, connectors: Sequence[Connector]) -> ChargePointBranch:
    ordered = sorted(connectors, key=lambda one: (one.number, one.connector_id))
    leaves = tuple(ConnectorLeaf(one.connector_id, one.number, one.max_kw) for one in ordered)
    return ChargePointBranch(point.charge_point_id, point.name, point.max_kw, leaves)


def _leaves(sources: Sequence[PowerSource]) -> tuple[PowerSourceLeaf, ...]:
    ordered = sorted(sources, key=lambda one: one.power_source_id)
    return tuple(PowerSourceLeaf(one.power_source_id, one.kind, one.name, one.rated_kw) for one in ordered)
