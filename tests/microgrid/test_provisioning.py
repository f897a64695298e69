"""A microgrid follows its depot's top-level circuits: held against a plain model through every kind of change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from microgrid.provisioning import ACTIVE, NO_GRID_CONNECTION, Reconciled, grid_connection_circuits, provision, reconcile
from microgrid.site_model import Circuit, Microgrid, Node


def counting_ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"id-{next(numbers)}"


def top(circuit_id: str, position: int = 0, name: str | None = None) -> Circuit:
    return Circuit(circuit_id, None, circuit_id.upper() if name is None else name, position)


def events_of(change: Reconciled) -> list[str]:
    return [one.event_type for one in change.changes]


@pytest.mark.parametrize(
    "circuits",
    [[], [Circuit("k", "gc", "Below", 0)], [top("gc", name="")], [top("gc", name="  \t")]],
)
def test_a_depot_without_valid_top_level_circuit_gets_no_microgrid(circuits: list[Circuit]) -> None:
    assert provision(circuits, counting_ids()) is None


def test_a_new_microgrid_has_a_node_for_each_valid_top_level_circuit_in_order_of_position_then_id() -> None:
    circuits = [top("c", 1), top("b", 1), top("a", 2), top("d", 0, name=" "), Circuit("k", "a", "Below", 0)]
    made = provision(circuits, counting_ids())
    assert made is not None
    assert made.microgrid == Microgrid(
        "id-1",
        1,
        ACTIVE,
        (Node("id-2", "b", "B", 1), Node("id-3", "c", "C", 1), Node("id-4", "a", "A", 2)),
        (),
    )
    assert events_of(made) == ["MicrogridProvisioned"]
    assert made.changes[0].payload["version"] == 1


def test_nothing_to_change_is_no_change() -> None:
    circuits = [top("a"), top("b")]
    made = provision(circuits, counting_ids())
    assert made is not None
    assert reconcile(made.microgrid, reversed(circuits), counting_ids()) == Reconciled(made.microgrid, (), touched=False)


@pytest.mark.parametrize(
    ("after", "expected", "version"),
    [
        ([top("a", 0, "New"), top("b", 1)], ["GridConnectionRenamed"], 1),
        ([top("a", 0), top("b", 7)], [], 1),
        ([top("a", 2), top("b", 1)], ["GridConnectionsReordered"], 2),
        ([top("a", 0), top("b", 1), top("c", 2)], ["GridConnectionAdded"], 2),
        ([top("c", -1), top("a", 0), top("b", 1)], ["GridConnectionAdded"], 2),
        ([top("a", 0)], ["GridConnectionRemoved"], 2),
        ([top("a", 0), top("b", 1, " ")], ["GridConnectionRemoved"], 2),
        ([], ["GridConnectionRemoved", "GridConnectionRemoved"], 2),
        ([top("a", 0), top("c", 1)], ["GridConnectionRemoved", "GridConnectionAdded"], 2),
        (
            [top("c", 0), top("b", 1, "New"), top("a", 2)],
            ["GridConnectionAdded", "GridConnectionRenamed", "GridConnectionsReordered"],
            2,
        ),
    ],
)
def test_a_change_of_the_circuits_is_told_by_its_events_and_the_version(
    after: list[Circuit], expected: list[str], version: int
) -> None:
    made = provision([top("a", 0), top("b", 1)], counting_ids())
    assert made is not None
    change = reconcile(made.microgrid, after, counting_ids())
    assert (events_of(change), change.microgrid.version) == (expected, version)
    assert all(one.payload["version"] == version for one in change.changes)
    assert change.touched


def test_a_renamed_connection_tells_the_old_name_too() -> None:
    made = provision([top("a")], counting_ids())
    assert made is not None
    (renamed,) = reconcile(made.microgrid, [top("a", name="New")], counting_ids()).changes
    assert (renamed.payload["old_name"], renamed.payload["name"]) == ("A", "New")


def test_a_microgrid_without_connection_stays_and_comes_back_to_life_with_the_next_one() -> None:
    made = provision([top("a")], counting_ids())
    assert made is not None
    emptied = reconcile(made.microgrid, [], counting_ids()).microgrid
    assert (emptied.status, emptied.nodes, emptied.microgrid_id) == (NO_GRID_CONNECTION, (), made.microgrid.microgrid_id)
    revived = reconcile(emptied, [top("a")], lambda: "new").microgrid
    assert (revived.status, revived.version, revived.nodes[0].node_id) == (ACTIVE, 3, "new")


@dataclass
class ModelNode:
    node_id: str
    name: str


circuit_ids = st.sampled_from(["a", "b", "c", "d"])
names = st.sampled_from(["", " ", "North", "South"])
parents = st.sampled_from([None, None, "elsewhere"])


class CircuitChanges(RuleBasedStateMachine):
    """Circuits come, go, move and are renamed; the model keeps names and ids by circuit and counts the versions itself."""

    def __init__(self) -> None:
        super().__init__()
        self.new_id = counting_ids()
        self.circuits: dict[str, Circuit] = {}
        self.nodes: dict[str, ModelNode] = {}
        self.order: list[str] = []
        self.version = 0
        self.microgrid: Microgrid | None = None

    @initialize()
    def a_first_circuit(self) -> None:
        self.put("a", 0, "First", None)

    @rule(circuit_id=circuit_ids, position=st.integers(0, 3), name=names, parent=parents)
    def put(self, circuit_id: str, position: int, name: str, parent: str | None) -> None:
        self.circuits[circuit_id] = Circuit(circuit_id, parent, name, position)
        self.follow()

    @rule(circuit_id=circuit_ids)
    def delete(self, circuit_id: str) -> None:
        self.circuits.pop(circuit_id, None)
        self.follow()

    @rule(circuit_id=circuit_ids, name=names.filter(str.strip))
    def rename(self, circuit_id: str, name: str) -> None:
        if circuit_id in self.circuits:
            self.circuits[circuit_id] = replace(self.circuits[circuit_id], name=name)
            self.follow()

    def follow(self) -> None:
        before = self.microgrid
        change = (
            provision(self.circuits.values(), self.new_id)
            if before is None
            else reconcile(before, self.circuits.values(), self.new_id)
        )
        order = [circuit.circuit_id for circuit in grid_connection_circuits(self.circuits.values())]
        renamed = {one for one in order if one in self.nodes and self.nodes[one].name != self.circuits[one].name}
        if order != self.order:
            self.version += 1
        if change is None:
            assert before is None
            assert not order
            return
        told = [one.event_type for one in change.changes]
        if before is not None:
            assert told.count("GridConnectionAdded") == len(set(order) - set(self.order))
            assert told.count("GridConnectionRemoved") == len(set(self.order) - set(order))
            assert told.count("GridConnectionRenamed") == len(renamed)
            assert (change.microgrid.version > before.version) == bool({*told} - {"GridConnectionRenamed"})
        kept = set(self.order) & set(order)
        self.microgrid, self.order = change.microgrid, order
        for node in change.microgrid.nodes:
            if node.source_circuit_id in kept:
                assert self.nodes[node.source_circuit_id].node_id == node.node_id
        self.nodes = {node.source_circuit_id: ModelNode(node.node_id, node.name) for node in change.microgrid.nodes}

    @invariant()
    def the_microgrid_is_as_the_circuits_say(self) -> None:
        if self.microgrid is None:
            assert not self.order
            return
        assert self.microgrid.version == self.version
        assert [node.source_circuit_id for node in self.microgrid.nodes] == self.order
        assert [node.name for node in self.microgrid.nodes] == [self.circuits[one].name for one in self.order]
        assert len({node.node_id for node in self.microgrid.nodes}) == len(self.order)
        assert self.microgrid.status == (ACTIVE if self.order else NO_GRID_CONNECTION)


CircuitChanges.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestCircuitChanges: Any = CircuitChanges.TestCase
