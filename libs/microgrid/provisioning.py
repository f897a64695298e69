"""A depot's microgrid and its grid connections, kept equal to the depot's top-level circuits.

A valid top-level circuit has no parent and a non-empty name. A depot without one gets no microgrid; the first one provisions
it. A node keeps its `node_id` while its circuit stays top-level. `version` starts at 1 and grows by one when the set or the
order (position, then circuit id) of the nodes changes, and only then: a rename changes the name alone. A microgrid whose last
node went stays, with `status` `NO_GRID_CONNECTION`.

Whatever the stored nodes look like, reconciling ends with the same nodes: so the same function follows a circuit that changed
and repairs tables that somebody edited. A position or a status that differs and changes neither set nor order is put right
without an event of its own.
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
class Renamed:
    """A node with its new name, and the name that it had."""

    node: Node
    old_name: str


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """What reconciling does to the nodes.

    `reordered` is all nodes in their new order, or empty where those that stay keep their order. `corrected` names what else was
    put right: `position` (numbers that leave the order as it is) and `status`.
    """

    added: tuple[Node, ...] = ()
    removed: tuple[Node, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    reordered: tuple[Node, ...] = ()
    corrected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A microgrid as it has to be, and what changed; nothing changed when `changes` is empty and `touched` is False."""

    microgrid: Microgrid
    changes: tuple[MicrogridChange, ...]
    touched: bool
    difference: NodeDifference = NodeDifference()


def grid_connection_circuits(circuits: Iterable[Circuit]) -> list[Circuit]:
    """The valid top-level circuits, in the order of the nodes that stand for them."""
    valid = (circuit for circuit in circuits if circuit.parent_circuit_id is None and is_named(circuit.name))
    return sorted(valid, key=lambda circuit: (circuit.position, circuit.circuit_id))


def is_named(name: str) -> bool:
    """Whether a circuit's name is one: not empty, not only white space."""
    return bool(name.strip())


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
    removed = tuple(node for node in microgrid.nodes if node.source_circuit_id not in wanted_ids)
    added = tuple(node for node in nodes if node.source_circuit_id not in known)
    kept = [(known[node.source_circuit_id], node) for node in nodes if node.source_circuit_id in known]
    renamed = tuple(Renamed(node, old.name) for old, node in kept if old.name != node.name)
    order_before = [node.node_id for node in microgrid.nodes if node.source_circuit_id in wanted_ids]
    reordered = order_before != [node.node_id for _, node in kept]
    version = microgrid.version + 1 if added or removed or reordered else microgrid.version
    changed = replace(microgrid, version=version, status=ACTIVE if nodes else NO_GRID_CONNECTION, nodes=nodes)
    corrected: list[str] = []
    if not reordered and any(old.position != node.position for old, node in kept):
        corrected.append("position")
    if changed.status != microgrid.status and not added and not removed:
        corrected.append("status")
    difference = NodeDifference(added, removed, renamed, nodes if reordered else (), tuple(corrected))
    return Reconciled(changed, _changes(changed, difference), touched=changed != microgrid, difference=difference)


def resynced(reconciled: Reconciled) -> MicrogridChange:
    """What a repair of drift did, as one event besides those of its single changes."""
    difference = reconciled.difference
    return _change(
        events.MICROGRID_RESYNCED,
        reconciled.microgrid,
        added=[_described(node) for node in difference.added],
        removed=[_described(node) for node in difference.removed],
        renamed=[_described_anew(renamed) for renamed in difference.renamed],
        reordered=[node.node_id for node in difference.reordered],
        corrected=list(difference.corrected),
    )


def retired(microgrid: Microgrid, reason: str) -> MicrogridChange:
    """The end of a microgrid's history; nothing of it is an event after that."""
    return _change(events.MICROGRID_RETIRED, microgrid, reason=reason)


def _changes(changed: Microgrid, difference: NodeDifference) -> tuple[MicrogridChange, ...]:
    changes = [
        *(_change(events.GRID_CONNECTION_REMOVED, changed, **_described(node)) for node in difference.removed),
        *(_change(events.GRID_CONNECTION_ADDED, changed, **_described(node)) for node in difference.added),
        *(_change(events.GRID_CONNECTION_RENAMED, changed, **_described_anew(renamed)) for renamed in difference.renamed),
    ]
    if difference.reordered:
        node_ids = [node.node_id for node in difference.reordered]
        changes.append(_change(events.GRID_CONNECTIONS_REORDERED, changed, node_ids=node_ids))
    return tuple(changes)


def _node(circuit: Circuit, node_id: str) -> Node:
    return Node(node_id, circuit.circuit_id, circuit.name, circuit.position)


def _described(node: Node) -> dict[str, object]:
    return {
        "node_id": node.node_id,
        "source_circuit_id": node.source_circuit_id,
        "name": node.name,
        "position": node.position,
    }


def _described_anew(renamed: Renamed) -> dict[str, object]:
    return {**_described(renamed.node), "old_name": renamed.old_name}


def _change(event_type: str, microgrid: Microgrid, **payload: object) -> MicrogridChange:
    return MicrogridChange(event_type, {"microgrid_id": microgrid.microgrid_id, "version": microgrid.version, **payload})
