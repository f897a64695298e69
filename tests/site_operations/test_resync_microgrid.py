"""A microgrid follows its circuits through every change, and a repair puts right what somebody edited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from tests.site_operations.depots import (
    add_circuit,
    add_depot,
    add_feed,
    add_point,
    counts,
    event_types,
    fresh_id,
    load,
    microgrid_of,
    stored_events,
    until_somebody_waits,
)

from event_store.database import Connection, Pool, open_pool
from event_store.remediation import RemediationEntry, put_remediation
from site_operations.provision_microgrid import DepotNotFound, NoTopLevelCircuit, Provisioned, provision_microgrid
from site_operations.resync_microgrid import MicrogridNotFound, NodeDescription, Resynced, reconcile_within, resync_microgrid
from site_registry.write import lock_depot

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_LATER = _NOW + timedelta(minutes=1)
_RENAME = "UPDATE circuit SET name = 'New' WHERE circuit_id = 'a'"
_SWAP = "UPDATE circuit SET position = 1 - position WHERE circuit_id IN ('a', 'b')"
_SPREAD = "UPDATE circuit SET position = position * 10 WHERE depot_id = 'd'"
_UNDER = "UPDATE circuit SET parent_circuit_id = 'b' WHERE circuit_id = 'a'"
_TO_TOP = "UPDATE circuit SET parent_circuit_id = NULL WHERE circuit_id = 'k'"
_ADD = "INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('c', 'd', 'C', 5)"
_DELETE = "DELETE FROM circuit WHERE circuit_id = 'b'"
_DELETE_ALL = "DELETE FROM circuit WHERE depot_id = 'd'"
_UNNAME = "UPDATE circuit SET name = ' ' WHERE circuit_id = 'b'"
_RENAME_BELOW = "UPDATE circuit SET name = 'New', position = 7 WHERE circuit_id = 'k'"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "test", max_size=12)
    yield opened
    await opened.close()


async def _depot(pool: Pool) -> None:
    """Depot d: circuits a and b at the top in this order, k under a; with its microgrid."""
    await add_circuit(pool, "d", "a", name="A", position=0)
    await add_circuit(pool, "d", "b", name="B", position=1)
    await add_circuit(pool, "d", "k", name="K", position=0, parent="a")
    assert isinstance(await provision_microgrid(pool, "d", now=_NOW, new_id=fresh_id), Provisioned)


async def _change(pool: Pool, statement: str, depot_id: str = "d") -> Provisioned | Resynced | NoTopLevelCircuit | DepotNotFound:
    """What a command does that changes a circuit."""
    async with pool.acquire() as connection, connection.transaction():
        await lock_depot(connection, depot_id)
        await connection.execute(statement)
        return await reconcile_within(connection, depot_id, now=_LATER, new_id=fresh_id)


async def _resync(pool: Pool, *, dry_run: bool = False, depot_id: str = "d") -> Resynced:
    found = await resync_microgrid(pool, depot_id, dry_run=dry_run, now=_LATER, new_id=fresh_id)
    assert isinstance(found, Resynced)
    return found


def _circuits(nodes: Sequence[NodeDescription]) -> list[str]:
    return [node.source_circuit_id for node in nodes]


def _difference(found: Resynced) -> dict[str, list[str]]:
    lists = {name: _circuits(getattr(found, name)) for name in ("added", "removed", "renamed", "reordered")}
    return {name: some for name, some in {**lists, "corrected": list(found.corrected)}.items() if some}


# A change of a circuit

_CHANGES: list[tuple[str, dict[str, list[str]], list[str], list[str], int]] = [
    (_RENAME, {"renamed": ["a"]}, ["GridConnectionRenamed"], ["a", "b"], 1),
    (_SWAP, {"reordered": ["b", "a"]}, ["GridConnectionsReordered"], ["b", "a"], 2),
    (_SPREAD, {"corrected": ["position"]}, [], ["a", "b"], 1),
    (_UNDER, {"removed": ["a"]}, ["GridConnectionRemoved"], ["b"], 2),
    (_TO_TOP, {"added": ["k"]}, ["GridConnectionAdded"], ["a", "k", "b"], 2),
    (_ADD, {"added": ["c"]}, ["GridConnectionAdded"], ["a", "b", "c"], 2),
    (_DELETE, {"removed": ["b"]}, ["GridConnectionRemoved"], ["a"], 2),
    (_UNNAME, {"removed": ["b"]}, ["GridConnectionRemoved"], ["a"], 2),
    (_RENAME_BELOW, {}, [], ["a", "b"], 1),
]


@pytest.mark.parametrize(("statement", "difference", "events", "order", "version"), _CHANGES)
async def test_a_change_of_a_circuit_is_followed_in_its_own_transaction(
    pool: Pool, statement: str, difference: dict[str, list[str]], events: list[str], order: list[str], version: int
) -> None:
    await _depot(pool)
    before = await microgrid_of(pool)
    found = await _change(pool, statement)
    assert isinstance(found, Resynced)
    assert (_difference(found), found.changed) == (difference, bool(difference))
    assert await event_types(pool) == ["MicrogridProvisioned", *events]
    after = await microgrid_of(pool)
    assert found.microgrid == after
    assert ([node.source_circuit_id for node in after.nodes], after.version) == (order, version)
    known = {node.source_circuit_id: node.node_id for node in before.nodes}
    assert all(known.get(node.source_circuit_id, node.node_id) == node.node_id for node in after.nodes)
    assert await pool.fetchval("SELECT updated_at FROM microgrid") == (_LATER if difference else _NOW)


async def test_the_first_circuit_at_the_top_provisions_its_depot(pool: Pool) -> None:
    await add_depot(pool, "d")
    assert await _change(pool, "SELECT") == NoTopLevelCircuit("d")
    assert (await counts(pool))["microgrid"] == 0
    await add_feed(pool, "d", "ctrl", "DER", "DER")
    found = await _change(pool, _ADD)
    assert isinstance(found, Provisioned)
    assert found.created
    assert await event_types(pool) == ["MicrogridProvisioned", "ControllerBindingCreated"]


async def test_after_the_last_circuit_the_microgrid_stays_and_the_next_one_brings_it_back(pool: Pool) -> None:
    await _depot(pool)
    identity = (await microgrid_of(pool)).microgrid_id
    await _change(pool, _DELETE_ALL)
    emptied = await microgrid_of(pool)
    assert (emptied.microgrid_id, emptied.nodes, emptied.status, emptied.version) == (identity, (), "NO_GRID_CONNECTION", 2)
    await _change(pool, _ADD)
    revived = await microgrid_of(pool)
    assert (revived.microgrid_id, revived.status, revived.version) == (identity, "ACTIVE", 3)


async def test_a_change_in_a_depot_that_is_not_there_is_told(pool: Pool) -> None:
    assert await _change(pool, "SELECT") == DepotNotFound("d")


async def test_the_time_of_the_last_change_does_not_go_back(pool: Pool) -> None:
    await _depot(pool)
    await _change(pool, _RENAME)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_ADD)
        await reconcile_within(connection, "d", now=_NOW, new_id=fresh_id)
    assert await pool.fetchval("SELECT updated_at FROM microgrid") == _LATER


# What hangs on a node


async def test_bindings_and_actions_of_a_node_go_with_it_and_others_stay(pool: Pool) -> None:
    await _depot(pool)
    microgrid = await microgrid_of(pool)
    node_a, node_b = (node.node_id for node in microgrid.nodes)
    goes = await add_feed(pool, "d", "ctrl", "DER", "DER", node_id=node_a)
    stays = await add_feed(pool, "d", "ctrl", "DER", "DER", node_id=node_b)
    whole = await add_feed(pool, "d", "ctrl", "DER", "DER")
    point_goes, point_stays, point_whole = [await add_point(pool, microgrid, node, "ctrl") for node in (node_a, node_b, None)]
    async with pool.acquire() as connection:
        asked = [
            RemediationEntry("d", "ctrl", "DER", "UPDATE_MICROGRID_STATE", "NO_BINDING", (), _NOW, _NOW, 1, action)
            for action in (goes, stays)
        ]
        await put_remediation(connection, asked)
    found = await _change(pool, _UNDER)
    assert isinstance(found, Resynced)
    assert [point.control_point_id for point in found.unbound] == [point_goes]
    assert found.microgrid == await microgrid_of(pool)
    assert {point.control_point_id for point in found.microgrid.control_points} == {point_stays, point_whole}
    assert {action.sensor_action_id for action in (await load(pool)).sensor_actions} == {stays, whole}
    assert await event_types(pool) == ["MicrogridProvisioned", "ControllerBindingDeleted", "GridConnectionRemoved"]
    assert [row[0] for row in await pool.fetch("SELECT sensor_action_id FROM remediation")] == [stays]


# A repair


@pytest.mark.parametrize("dry_run", [False, True])
async def test_where_nothing_drifted_a_repair_writes_nothing(pool: Pool, dry_run: bool) -> None:
    await _depot(pool)
    before = await counts(pool)
    found = await _resync(pool, dry_run=dry_run)
    assert (_difference(found), found.unbound, found.changed) == ({}, (), False)
    assert found.microgrid == await microgrid_of(pool)
    assert await counts(pool) == before


_DRIFTS: list[tuple[str, dict[str, list[str]]]] = [
    *(change[:2] for change in _CHANGES if change[0] not in (_RENAME_BELOW,)),
    ("UPDATE microgrid_node SET name = 'Typo' WHERE source_circuit_id = 'b'", {"renamed": ["b"]}),
    ("UPDATE microgrid_node SET position = 1 - position", {"reordered": ["a", "b"]}),
    ("UPDATE microgrid_node SET position = position + 3", {"corrected": ["position"]}),
    ("UPDATE microgrid SET status = 'NO_GRID_CONNECTION'", {"corrected": ["status"]}),
    ("DELETE FROM microgrid_node WHERE source_circuit_id = 'a'", {"added": ["a"]}),
    ("DELETE FROM microgrid_node", {"added": ["a", "b"]}),
    ("UPDATE microgrid_node SET source_circuit_id = 'gone' WHERE source_circuit_id = 'a'", {"added": ["a"], "removed": ["gone"]}),
    (
        "INSERT INTO microgrid_node (node_id, microgrid_id, source_circuit_id, name, position) "
        "SELECT gen_random_uuid(), microgrid_id, 'k', 'K', 0 FROM microgrid",
        {"removed": ["k"]},
    ),
    (_DELETE_ALL, {"removed": ["a", "b"]}),
    (
        f"{_ADD}; {_SWAP}; {_RENAME}",
        {"added": ["c"], "renamed": ["a"], "reordered": ["b", "a", "c"]},
    ),
]


@pytest.mark.parametrize(("edit", "difference"), _DRIFTS)
async def test_what_somebody_edited_is_put_right_and_the_difference_told(
    pool: Pool, edit: str, difference: dict[str, list[str]]
) -> None:
    await _depot(pool)
    await pool.execute(edit)
    drifted, before = await microgrid_of(pool), await counts(pool)

    tried = await _resync(pool, dry_run=True)
    assert (_difference(tried), tried.changed) == (difference, True)
    assert tried.microgrid == drifted
    assert all(node.node_id is None for node in tried.added)
    assert await counts(pool) == before

    found = await _resync(pool)
    assert (_difference(found), found.changed) == (difference, True)
    after = await microgrid_of(pool)
    assert found.microgrid == after
    rows = await pool.fetch(
        "SELECT circuit_id, name, position FROM circuit WHERE depot_id = 'd' AND parent_circuit_id IS NULL AND name <> ' ' "
        "ORDER BY position, circuit_id"
    )
    assert [(node.source_circuit_id, node.name, node.position) for node in after.nodes] == [tuple(row) for row in rows]
    assert after.status == ("ACTIVE" if rows else "NO_GRID_CONNECTION")
    assert after.version - drifted.version == int(bool({"added", "removed", "reordered"} & set(difference)))

    *_, event = await stored_events(pool)
    assert event.event_type == "MicrogridResynced"
    assert event.payload == {
        "microgrid_id": after.microgrid_id,
        "version": after.version,
        "added": [asdict(node) for node in found.added],
        "removed": [asdict(node) for node in found.removed],
        "renamed": [asdict(node) for node in found.renamed],
        "reordered": [node.node_id for node in found.reordered],
        "corrected": list(found.corrected),
    }

    settled = await counts(pool)
    assert _difference(await _resync(pool)) == {}
    assert await counts(pool) == settled


async def test_a_trial_tells_the_bindings_that_would_go_and_leaves_them(pool: Pool) -> None:
    await _depot(pool)
    microgrid = await microgrid_of(pool)
    await add_feed(pool, "d", "ctrl", "DER", "DER", node_id=microgrid.nodes[0].node_id)
    point = await add_point(pool, microgrid, microgrid.nodes[0].node_id, "ctrl")
    await pool.execute(_UNDER)
    before = await counts(pool)
    tried = await _resync(pool, dry_run=True)
    assert [one.control_point_id for one in tried.unbound] == [point]
    assert await counts(pool) == before


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_repair_makes_no_microgrid(pool: Pool, dry_run: bool) -> None:
    async def resync() -> Resynced | MicrogridNotFound | DepotNotFound:
        return await resync_microgrid(pool, "d", dry_run=dry_run, now=_NOW, new_id=fresh_id)

    assert await resync() == DepotNotFound("d")
    await add_circuit(pool, "d", "a")
    assert await resync() == MicrogridNotFound("d")
    assert (await counts(pool))["microgrid"] == 0


# Many at once


async def _top_level(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT circuit_id FROM circuit WHERE depot_id = 'd' AND parent_circuit_id IS NULL ORDER BY position, circuit_id"
    )
    return [row[0] for row in rows]


async def test_changes_and_repairs_at_once_end_correct_with_a_version_for_each_change_of_set_or_order(pool: Pool) -> None:
    await _depot(pool)
    changed_order: list[bool] = []

    async def change(statement: str) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await lock_depot(connection, "d")
            before = await _top_level(connection)
            await connection.execute(statement)
            changed_order.append(await _top_level(connection) != before)
            await reconcile_within(connection, "d", now=_LATER, new_id=fresh_id)

    statements = [
        *(f"INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('n{i}', 'd', 'N', {i % 5})" for i in range(15)),
        *(f"UPDATE circuit SET position = {i % 3} WHERE circuit_id = 'n{i % 15}'" for i in range(15)),
        *(f"UPDATE circuit SET name = 'Renamed {i}' WHERE circuit_id = '{'ab'[i % 2]}'" for i in range(10)),
        *(f"UPDATE circuit SET parent_circuit_id = {parent} WHERE circuit_id = 'a'" for parent in ("'b'", "NULL") * 3),
        *(f"DELETE FROM circuit WHERE circuit_id = 'n{i}'" for i in range(4)),
    ]
    assert len(statements) == 50
    work = [change(statement) for statement in statements]
    # Repairs stand between the changes, so that they meet.
    for place in range(20):
        work.insert(place * 3, _nothing_to_repair(pool))
    await asyncio.gather(*work)
    microgrid = await microgrid_of(pool)
    async with pool.acquire() as connection:
        assert [node.source_circuit_id for node in microgrid.nodes] == await _top_level(connection)
    names = {row[0]: row[1] for row in await pool.fetch("SELECT circuit_id, name FROM circuit")}
    assert all(node.name == names[node.source_circuit_id] for node in microgrid.nodes)
    assert changed_order.count(True) > 10
    assert microgrid.version == 1 + changed_order.count(True)
    told = [int(str(event.payload["version"])) for event in await stored_events(pool)]
    assert sorted(told) == told
    assert set(told) == set(range(1, microgrid.version + 1))


async def _nothing_to_repair(pool: Pool) -> None:
    assert _difference(await _resync(pool)) == {}


async def test_following_a_change_takes_the_lock_of_the_depot_by_itself(pool: Pool) -> None:
    await _depot(pool)

    async def follow() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await reconcile_within(connection, "d", now=_LATER, new_id=fresh_id)

    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d")
        waiting = asyncio.create_task(follow())
        await until_somebody_waits(holder)
    await waiting


async def test_other_depots_do_not_wait_for_one_that_is_being_changed(pool: Pool) -> None:
    await _depot(pool)
    await add_circuit(pool, "e", "gc-e")
    await provision_microgrid(pool, "e", now=_NOW, new_id=fresh_id)
    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d")
        waiting = [asyncio.create_task(_resync(pool)), asyncio.create_task(_change(pool, _RENAME))]
        await until_somebody_waits(holder, 2)
        await asyncio.wait_for(_resync(pool, depot_id="e"), 60)
        await asyncio.wait_for(_change(pool, "UPDATE circuit SET name = 'E' WHERE circuit_id = 'gc-e'", "e"), 60)
        # Nor does a trial wait, since it writes nothing.
        await asyncio.wait_for(_resync(pool, dry_run=True), 60)
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
