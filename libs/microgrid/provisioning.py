"""A depot's microgrid and its grid connections, kept equal to the depot's top-level circuits.

A valid top-level circuit has no parent and a non-empty name. A depot without one gets no microgrid; the first one provisions
it. A node keeps its `node_id` while its circuit stays top-level. `version` starts at 1 and grows by one when the set or the
order (position, then circuit id) of the nodes changes, and only then: a rename changes the name alone. A microgrid whose last
node went stays, with `status` `NO_GRID_CONNECTION`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from microgrid import events
from microgrid.site_model import Circuit, Microgrid, Node

ACTIVE = "ACTIVE"
NO_GRID_CONNECTION = "NO_GRID_CONNECTION"
RETIRED = "RETIRED"


@dataclass(frozen=True, slots=True)
class MicrogridChange:
    """An event to append about a microgrid: its type and payload."""

    event_type: str
    payload: dict[str, object]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A microgrid as it has to be, and what changed; nothing changed when `changes` is empty and `touched` is False."""

    microgrid: Microgrid
    changes: tuple[MicrogridChange, ...]
    touched: bool


def grid_connection_circuits(circuits: Iterable[Circuit]) -> list[Circuit]:
    """The valid top-level circuits, in the order of the nodes that stand for them."""
    valid = (circuit for circuit in circuits if circuit.parent_circuit_id is None and circuit.name.strip())
    return sorted(valid, key=lambda circuit: (circuit.position, circuit.circuit_id))


def provision(circuits: Iterable[Circuit], new_id: Callable[[], str]) -> Reconciled | None:
    """A new microgrid for a depot's circuits, or None if none of them is a valid top-level one."""
    top_level = grid_connection_circuits(circuits)
    if not top_level:
        return None
    microgrid_id = new_id()
    nodes = tuple(_node(circuit, new_id()) for circuit in top_level)
    microgrid = Microgrid(microgrid_id, 1, ACTIVE, nodes, ())
    provisioned = MicrogridChange(
        events.MICROGRID_PROVISIONED,
        {"microgrid_id": microgrid_id, "version": 1, "nodes": [_described(node) for node in nodes]},
    )
    return Reconciled(microgrid, (provisioned,), touched=True)


def reconcile(microgrid: Microgrid, circuits: Iterable[Circuit], new_id: Callable[[], str]) -> Reconciled:
    """Make the nodes equal to the depot's top-level circuits."""
    top_level = grid_connection_circuits(circuits)
    known = {node.source_circuit_id: node for node in microgrid.nodes}
    wanted_ids = {circuit.circuit_id for circuit in top_level}
    nodes = tuple(
        replace(known[circuit.circuit_id], name=circuit.name, position=circuit.position)
        if circuit.circuit_id in known
        else _node(circuit, new_id())
        for circuit in top_level
    )
    removed = [node for node in microgrid.nodes if node.source_circuit_id not in wanted_ids]
    added = [node for node in nodes if node.source_circuit_id not in known]
    renamed = [node for node in nodes if node.source_circuit_id in known and known[node.source_circuit_id].name != node.name]
    order_before = [node.node_id for node in microgrid.nodes if node.source_circuit_id in wanted_ids]
    order_now = [node.node_id for node in nodes if node.source_circuit_id in known]
    reordered = order_before != order_now
    version = microgrid.version + 1 if added or removed or reordered else microgrid.version
    changed = replace(microgrid, version=version, status=ACTIVE if nodes else NO_GRID_CONNECTION, nodes=nodes)
    changes = [
        *(_change(events.GRID_CONNECTION_REMOVED, changed, **_described(node)) for node in removed),
        *(_change(events.GRID_CONNECTION_ADDED, changed, **_described(node)) for node in added),
        *(
            _change(events.GRID_CONNECTION_RENAMED, changed, **_described(node), old_name=known[node.source_circuit_id].name)
            for node in renamed
        ),
    ]
    if reordered:
        changes.append(_change(events.GRID_CONNECTIONS_REORDERED, changed, node_ids=[node.node_id for node in nodes]))
    return Reconciled(changed, tuple(changes), touched=changed != microgrid)


def _node(circuit: Circuit, node_id: str) -> Node:
    return Node(node_id, circuit.circuit_id, circuit.name, circuit.position)


def _described(node: Node) -> dict[str, object]:
    return {
        "node_id": node.node_id,
        "source_circuit_id": node.source_circuit_id,
        "name": node.name,
        "position": node.position,
    }


def _change(event_type: str, microgrid: Microgrid, **payload: object) -> MicrogridChange:
    return MicrogridChange(event_type, {"microgrid_id": microgrid.microgrid_id, "version": microgrid.version, **payload})
