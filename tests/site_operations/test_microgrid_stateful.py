"""Commands, repairs and edits by hand in any order: the stored microgrid is that of a plain model after each of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from tests.site_operations.depots import add_depot, fresh_id, load

from event_store.database import Connection, Pool, open_pool
from site_operations.change_site import Changed, Faulty, InUse, change_thing, create_thing, delete_thing
from site_operations.provision_microgrid import NoTopLevelCircuit, Provisioned, provision_microgrid
from site_operations.resync_microgrid import MicrogridNotFound, Resynced, resync_microgrid

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_depot_numbers = itertools.count(1)
_names = st.sampled_from(["North", "South", "East", "West", " "])
_positions = st.integers(0, 2)
_ids = st.sampled_from(["a", "b", "c"])
_parents = st.sampled_from([None, None, None, "a", "b"])
_which = st.integers(0, 11)
_by_hand = st.sampled_from([False, False, True])
_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelCircuit:
    parent: str | None
    name: str
    position: int


@dataclass(frozen=True)
class ModelNode:
    name: str
    position: int
    node_id: str | None
    """None while the model has not seen yet which id it got."""


@dataclass(frozen=True)
class ModelMicrogrid:
    version: int
    active: bool
    nodes: dict[str, ModelNode]

    @property
    def order(self) -> list[str]:
        return sorted(self.nodes, key=lambda one: (self.nodes[one].position, one))


def top_of(circuits: dict[str, ModelCircuit]) -> dict[str, ModelCircuit]:
    """The circuits that are grid connections."""
    return {one: circuit for one, circuit in circuits.items() if circuit.parent is None and circuit.name.strip()}


def followed(microgrid: ModelMicrogrid | None, circuits: dict[str, ModelCircuit]) -> ModelMicrogrid | None:
    """The rule in its plainest form: what a microgrid is after its depot's circuits were looked at."""
    top = top_of(circuits)
    if microgrid is None and not top:
        return None
    known = microgrid.nodes if microgrid else {}
    nodes = {one: ModelNode(c.name, c.position, known[one].node_id if one in known else None) for one, c in top.items()}
    if microgrid is None:
        return ModelMicrogrid(1, active=True, nodes=nodes)
    after = ModelMicrogrid(microgrid.version, active=bool(nodes), nodes=nodes)
    return after if after.order == microgrid.order else replace(after, version=microgrid.version + 1)


class Depot(RuleBasedStateMachine):
    """One depot, in the database and in the model: commands, and edits of the tables by hand, which leave the microgrid behind."""

    def __init__(self, runner: asyncio.Runner, pool: Pool) -> None:
        super().__init__()
        self.runner, self.pool = runner, pool
        self.depot_id = f"depot-{next(_depot_numbers)}"
        self.circuits: dict[str, ModelCircuit] = {}
        self.microgrid: ModelMicrogrid | None = None
        self.do(add_depot(pool, self.depot_id))

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(work)

    def full(self, circuit_id: str) -> str:
        return f"{self.depot_id}:{circuit_id}"

    def command(self, after: dict[str, ModelCircuit], carry_out: Callable[[Connection], Awaitable[object]]) -> None:
        """Change the circuits to `after` by a command; the microgrid follows if those at the top are others than before."""

        async def work() -> None:
            async with self.pool.acquire() as connection, connection.transaction():
                outcome = await carry_out(connection)
                assert isinstance(outcome, Changed), outcome

        self.do(work())
        before, self.circuits = self.circuits, after
        if top_of(before) != top_of(after):
            self.microgrid = followed(self.microgrid, after)

    def by_hand(self, after: dict[str, ModelCircuit], statement: str, *arguments: object) -> None:
        """Change the circuits to `after` past every command: the microgrid is left behind."""
        self.execute(statement, *arguments)
        self.circuits = after

    def edit(self, circuit_id: str, column: str, value: object, *, by_hand: bool, **changed: Any) -> None:
        """Change one field of a circuit."""
        after = {**self.circuits, circuit_id: replace(self.circuits[circuit_id], **changed)}
        full = self.full(circuit_id)
        if by_hand:
            self.by_hand(after, f"UPDATE circuit SET {column} = $2 WHERE circuit_id = $1", full, value)
            return
        body = {column: value}
        self.command(after, lambda connection: change_thing(connection, "circuit", full, body, now=_NOW, new_id=fresh_id))

    @staticmethod
    def one_of(things: Mapping[str, object], which: int) -> str | None:
        """One that is there, so that a step does something; None where there is none."""
        return sorted(things)[which % len(things)] if things else None

    def lies_under(self, circuit_id: str, above: str) -> bool:
        at: str | None = circuit_id
        while at is not None:
            if at == above:
                return True
            at = self.circuits[at].parent
        return False

    @initialize(circuit_ids=st.sets(_ids), provisioned=st.booleans())
    def begin(self, circuit_ids: set[str], provisioned: bool) -> None:
        for position, circuit_id in enumerate(sorted(circuit_ids)):
            self.create(circuit_id, None, "First", position, not provisioned)

    @rule(circuit_id=_ids, parent=_parents, name=_names, position=_positions, by_hand=_by_hand)
    def create(self, circuit_id: str, parent: str | None, name: str, position: int, by_hand: bool) -> None:
        if circuit_id in self.circuits or (parent is not None and parent not in self.circuits):
            return
        after = {**self.circuits, circuit_id: ModelCircuit(parent, name, position)}
        body = {"circuit_id": self.full(circuit_id), "depot_id": self.depot_id, "parent_circuit_id": parent and self.full(parent)}
        body |= {"name": name, "position": position}
        if by_hand:
            columns = ("circuit_id", "depot_id", "parent_circuit_id", "name", "position")
            statement = f"INSERT INTO circuit ({', '.join(columns)}) VALUES ($1, $2, $3, $4, $5)"
            self.by_hand(after, statement, *(body[column] for column in columns))
            return
        self.command(
            after,
            lambda connection: create_thing(connection, "circuit", body, sees=lambda _: True, now=_NOW, new_id=fresh_id),
        )

    @rule(which=_which, name=_names, by_hand=_by_hand)
    def rename(self, which: int, name: str, by_hand: bool) -> None:
        if (circuit_id := self.one_of(self.circuits, which)) is not None:
            self.edit(circuit_id, "name", name, by_hand=by_hand, name=name)

    @rule(which=_which, position=_positions, by_hand=_by_hand)
    def reorder(self, which: int, position: int, by_hand: bool) -> None:
        if (circuit_id := self.one_of(self.circuits, which)) is not None:
            self.edit(circuit_id, "position", position, by_hand=by_hand, position=position)

    @rule(which=_which, parent=_parents, by_hand=_by_hand)
    def reparent(self, which: int, parent: str | None, by_hand: bool) -> None:
        if (circuit_id := self.one_of(self.circuits, which)) is None:
            return
        if parent is not None and parent not in self.circuits:
            return
        if parent is None or not self.lies_under(parent, circuit_id):
            self.edit(circuit_id, "parent_circuit_id", parent and self.full(parent), by_hand=by_hand, parent=parent)
            return
        body = {"parent_circuit_id": self.full(parent)}
        outcome = self.tried(
            lambda connection: change_thing(connection, "circuit", self.full(circuit_id), body, now=_NOW, new_id=fresh_id)
        )
        assert isinstance(outcome, Faulty)
        assert [fault.code for fault in outcome.faults] == ["CIRCUIT_CYCLE"]

    @rule(circuit_id=_ids, by_hand=_by_hand)
    def delete(self, circuit_id: str, by_hand: bool) -> None:
        if circuit_id not in self.circuits:
            return

        def carry_out(connection: Connection) -> Awaitable[object]:
            return delete_thing(connection, "circuit", self.full(circuit_id), now=_NOW, new_id=fresh_id)

        children = sorted(one for one, circuit in self.circuits.items() if circuit.parent == circuit_id)
        after = {one: circuit for one, circuit in self.circuits.items() if one != circuit_id}
        if children:
            by = tuple(f"circuit {self.full(one)}" for one in children)
            assert self.tried(carry_out) == InUse("circuit", self.full(circuit_id), by)
        elif by_hand:
            self.by_hand(after, "DELETE FROM circuit WHERE circuit_id = $1", self.full(circuit_id))
        else:
            self.command(after, carry_out)

    @precondition(lambda self: self.microgrid is not None)
    @rule(which=_which, name=_names, position=_positions)
    def edit_a_node(self, which: int, name: str, position: int) -> None:
        assert self.microgrid is not None
        if (circuit_id := self.one_of(self.microgrid.nodes, which)) is not None:
            node = replace(self.microgrid.nodes[circuit_id], name=name, position=position)
            self.microgrid = replace(self.microgrid, nodes={**self.microgrid.nodes, circuit_id: node})
            self.execute("UPDATE microgrid_node SET name = $2, position = $3 WHERE node_id = $1", node.node_id, name, position)

    @precondition(lambda self: self.microgrid is not None)
    @rule(which=_which)
    def delete_a_node(self, which: int) -> None:
        assert self.microgrid is not None
        if (circuit_id := self.one_of(self.microgrid.nodes, which)) is not None:
            nodes = dict(self.microgrid.nodes)
            gone = nodes.pop(circuit_id)
            self.microgrid = replace(self.microgrid, nodes=nodes)
            self.execute("DELETE FROM microgrid_node WHERE node_id = $1", gone.node_id)

    @rule()
    def provision(self) -> None:
        found = self.do(provision_microgrid(self.pool, self.depot_id, now=_NOW, new_id=fresh_id))
        if self.microgrid is None:
            self.microgrid = followed(None, self.circuits)
            assert isinstance(found, NoTopLevelCircuit if self.microgrid is None else Provisioned)
        else:
            assert isinstance(found, Provisioned)
            assert not found.created

    @rule(dry_run=st.booleans())
    def resync(self, dry_run: bool) -> None:
        found = self.do(resync_microgrid(self.pool, self.depot_id, dry_run=dry_run, now=_NOW, new_id=fresh_id))
        before = self.microgrid
        if before is None:
            assert isinstance(found, MicrogridNotFound)
            return
        after = followed(before, self.circuits)
        assert after is not None
        assert isinstance(found, Resynced)
        added = [one for one in after.order if one not in before.nodes]
        removed = [one for one in before.order if one not in after.nodes]
        renamed = [one for one in after.order if one in before.nodes and before.nodes[one].name != after.nodes[one].name]
        kept = [one for one in before.order if one in after.nodes]
        moved = kept != [one for one in after.order if one in before.nodes]
        expected = [added, removed, renamed, after.order if moved else []]
        told = [found.added, found.removed, found.renamed, found.reordered]
        assert [[node.source_circuit_id for node in nodes] for nodes in told] == [
            [self.full(one) for one in circuit_ids] for circuit_ids in expected
        ]
        assert found.changed == (after != before)
        if not dry_run:
            self.microgrid = after

    def tried(self, carry_out: Callable[[Connection], Awaitable[object]]) -> object:
        """What a command comes to that is refused, and so changes nothing."""

        async def work() -> object:
            async with self.pool.acquire() as connection, connection.transaction():
                return await carry_out(connection)

        return self.do(work())

    def execute(self, statement: str, *arguments: object) -> None:
        self.do(self.pool.execute(statement, *arguments))

    @invariant()
    def what_is_stored_is_the_model(self) -> None:
        stored = self.do(load(self.pool, self.depot_id)).microgrid
        if self.microgrid is None:
            assert stored is None
            return
        assert stored is not None
        model = self.microgrid
        assert (stored.version, stored.status) == (model.version, "ACTIVE" if model.active else "NO_GRID_CONNECTION")
        assert [(node.source_circuit_id, node.name, node.position) for node in stored.nodes] == [
            (self.full(one), model.nodes[one].name, model.nodes[one].position) for one in model.order
        ]
        seen: dict[str, ModelNode] = {}
        for one, node in zip(model.order, stored.nodes, strict=True):
            assert model.nodes[one].node_id in (None, node.node_id)
            seen[one] = replace(model.nodes[one], node_id=node.node_id)
        self.microgrid = replace(model, nodes=seen)


def test_the_stored_microgrid_is_that_of_the_model_whatever_happens(database_url: str) -> None:
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database_url, "test", max_size=2))
        try:
            run_state_machine_as_test(
                # Whatever makes a machine will do.
                cast("type[RuleBasedStateMachine]", lambda: Depot(runner, pool)),
                settings=settings(
                    max_examples=20,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
                ),
            )
        finally:
            runner.run(pool.close())
