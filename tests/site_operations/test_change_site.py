"""Single commands on depots and their things: the microgrid follows, at once or not at all, and no depot waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.site_operations.depots import counts, event_types, fresh_id, load, microgrid_of, stored_events, until_somebody_waits

from event_store.database import COLLISIONS, Connection, Pool, open_pool
from site_operations.change_site import (
    Changed,
    Faulty,
    InUse,
    NotFound,
    change_depot,
    change_thing,
    create_depot,
    create_thing,
    delete_depot,
    delete_thing,
)
from site_operations.resync_microgrid import Resynced, resync_microgrid
from site_registry.write import lock_depot

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
Outcome = Changed | NotFound | Faulty | InUse
Command = Callable[[Connection], Awaitable[Outcome]]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "test", max_size=12)
    yield opened
    await opened.close()


def _create_depot(depot_id: str = "d", *circuits: dict[str, Any]) -> Command:
    top = list(circuits) or [{"circuit_id": f"{depot_id}-gc", "name": "Grid"}]
    body = {"depot_id": depot_id, "name": "D", "timezone": "UTC", "circuits": top}
    return lambda connection: create_depot(connection, body, now=_NOW, new_id=fresh_id)


def _create(kind: str, /, **body: Any) -> Command:
    def everything(_: str) -> bool:
        return True

    return lambda connection: create_thing(connection, kind, body, sees=everything, now=_NOW, new_id=fresh_id)


def _change(kind: str, identifier: str, **body: Any) -> Command:
    return lambda connection: change_thing(connection, kind, identifier, body, now=_NOW, new_id=fresh_id)


def _delete(kind: str, identifier: str) -> Command:
    return lambda connection: delete_thing(connection, kind, identifier, now=_NOW, new_id=fresh_id)


def _circuit(circuit_id: str, depot_id: str = "d", **more: Any) -> Command:
    return _create("circuit", circuit_id=circuit_id, depot_id=depot_id, **{"name": circuit_id, **more})


def _delete_depot(depot_id: str = "d") -> Command:
    return lambda connection: delete_depot(connection, depot_id, now=_NOW, new_id=fresh_id)


async def _run(pool: Pool, command: Command) -> Outcome:
    """Carry a command out in a transaction of its own."""
    async with pool.acquire() as connection, connection.transaction():
        return await command(connection)


async def _done(pool: Pool, *commands: Command) -> None:
    for command in commands:
        outcome = await _run(pool, command)
        assert isinstance(outcome, Changed), outcome


def _codes(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Faulty), outcome
    return [fault.code for fault in outcome.faults]


# Creating a depot


async def test_a_depot_its_circuits_and_its_microgrid_come_in_one_transaction(pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        made = await _create_depot()(connection)
        assert isinstance(made, Changed)
        assert made.site.microgrid is not None
        # Nobody else sees half of it meanwhile, and nothing is left of what is taken back.
        assert await pool.fetchval("SELECT count(*) FROM depot") == 0
        await transaction.rollback()
    assert {table: count for table, count in (await counts(pool)).items() if count not in (0, None)} == {}


async def test_two_creations_of_a_depot_at_once_make_one_microgrid(pool: Pool) -> None:
    outcomes = await asyncio.gather(*(_run(pool, _create_depot()) for _ in range(2)))
    assert sorted(type(one).__name__ for one in outcomes) == ["Changed", "Faulty"]
    assert [_codes(one) for one in outcomes if isinstance(one, Faulty)] == [["ALREADY_EXISTS"]]
    assert (await counts(pool))["microgrid"] == 1
    assert await event_types(pool) == ["MicrogridProvisioned"]


@pytest.mark.parametrize(
    "circuits",
    [
        ({"circuit_id": "a", "name": ""},),
        ({"circuit_id": "a", "name": " \t"},),
        ({"circuit_id": "a", "name": "A", "parent_circuit_id": "b"}, {"circuit_id": "b", "name": " "}),
    ],
)
async def test_a_depot_without_a_valid_circuit_at_the_top_is_refused_and_leaves_nothing(
    pool: Pool, circuits: tuple[dict[str, Any], ...]
) -> None:
    assert "NO_TOP_LEVEL_CIRCUIT" in _codes(await _run(pool, _create_depot("d", *circuits)))
    assert {table: count for table, count in (await counts(pool)).items() if count not in (0, None)} == {}


async def test_the_first_circuit_at_the_top_provisions_a_depot_that_had_none(pool: Pool) -> None:
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'Old', 'UTC')")
    await _done(pool, _circuit("nameless", name=" "))
    assert (await load(pool)).microgrid is None
    await _done(pool, _circuit("gc"))
    assert [node.source_circuit_id for node in (await microgrid_of(pool)).nodes] == ["gc"]


# Following the circuits


async def test_a_depot_of_another_microgrid_keeps_its_own(pool: Pool) -> None:
    await _done(pool, _create_depot("d"), _create_depot("e"))
    before = await microgrid_of(pool, "e")
    await _done(pool, _circuit("x"), _change("circuit", "d-gc", name="New"), _delete("circuit", "d-gc"))
    assert await microgrid_of(pool, "e") == before


@pytest.mark.parametrize(
    ("command", "types", "version", "order"),
    [
        (_circuit("c", position=1), ["GridConnectionAdded"], 2, ["a", "c", "b"]),
        (_delete("circuit", "b"), ["GridConnectionRemoved"], 2, ["a"]),
        (_change("circuit", "a", name="New"), ["GridConnectionRenamed"], 1, ["a", "b"]),
        (_change("circuit", "a", position=9), ["GridConnectionsReordered"], 2, ["b", "a"]),
        (_change("circuit", "a", position=1), [], 1, ["a", "b"]),
        (_change("circuit", "b", parent_circuit_id="a"), ["GridConnectionRemoved"], 2, ["a"]),
        (_change("circuit", "k", parent_circuit_id=None), ["GridConnectionAdded"], 2, ["a", "k", "b"]),
        (_change("circuit", "k", name="New", position=5), [], 1, ["a", "b"]),
        (_circuit("k-2", parent_circuit_id="k"), [], 1, ["a", "b"]),
        (_delete("circuit", "k"), [], 1, ["a", "b"]),
        (_change("circuit", "a", name=" "), ["GridConnectionRemoved"], 2, ["b"]),
        (_change("circuit", "a", rating_kw=1), [], 1, ["a", "b"]),
    ],
)
async def test_a_command_on_a_circuit_takes_the_microgrid_along(
    pool: Pool, command: Command, types: list[str], version: int, order: list[str]
) -> None:
    circuits = [
        {"circuit_id": "a", "name": "A", "position": 0},
        {"circuit_id": "b", "name": "B", "position": 2},
        {"circuit_id": "k", "name": "K", "parent_circuit_id": "a"},
    ]
    await _done(pool, _create_depot("d", *circuits))
    known = {node.source_circuit_id: node.node_id for node in (await microgrid_of(pool)).nodes}
    await _done(pool, command)
    after = await microgrid_of(pool)
    assert (after.version, [node.source_circuit_id for node in after.nodes]) == (version, order)
    assert all(known.get(node.source_circuit_id, node.node_id) == node.node_id for node in after.nodes)
    assert await event_types(pool) == ["MicrogridProvisioned", *types]


async def test_a_refused_command_leaves_everything_as_it_was(pool: Pool) -> None:
    await _done(pool, _create_depot(), _circuit("k", parent_circuit_id="d-gc"))
    before = await counts(pool)
    assert _codes(await _run(pool, _change("circuit", "d-gc", parent_circuit_id="k", name="New"))) == ["CIRCUIT_CYCLE"]
    assert await _run(pool, _delete("circuit", "d-gc")) == InUse("circuit", "d-gc", ("circuit k",))
    assert _codes(await _run(pool, _circuit("k"))) == ["ALREADY_EXISTS"]
    assert await counts(pool) == before


async def test_a_circuit_in_use_names_its_children_and_assets(pool: Pool) -> None:
    await _done(
        pool,
        _create_depot(),
        _circuit("k", parent_circuit_id="d-gc"),
        _create("charge_point", charge_point_id="cp", circuit_id="d-gc", name="Bay", max_kw=50),
        _create("power_source", power_source_id="b", depot_id="d", circuit_id="d-gc", kind="BATTERY", name="B"),
    )
    outcome = await _run(pool, _delete("circuit", "d-gc"))
    assert outcome == InUse("circuit", "d-gc", ("circuit k", "charge point cp", "power source b"))


# The end


async def test_after_its_last_circuit_and_its_depot_a_microgrid_stays_as_retired_and_says_why(pool: Pool) -> None:
    await _done(pool, _create_depot(), _delete("circuit", "d-gc"))
    emptied = await microgrid_of(pool)
    assert (emptied.status, emptied.nodes, emptied.version) == ("NO_GRID_CONNECTION", (), 2)
    await _done(pool, _delete_depot())
    assert await pool.fetchrow("SELECT microgrid_id::text, status FROM microgrid") == (emptied.microgrid_id, "RETIRED")
    *_, removed, last = await stored_events(pool)
    assert (removed.event_type, last.event_type, last.microgrid_id) == (
        "GridConnectionRemoved",
        "MicrogridRetired",
        emptied.microgrid_id,
    )
    assert last.payload == {"microgrid_id": emptied.microgrid_id, "version": 2, "reason": "DEPOT_DELETED"}
    await _done(pool, _create_depot())
    assert (await microgrid_of(pool)).microgrid_id != emptied.microgrid_id


async def test_a_depot_that_never_had_a_microgrid_goes_without_an_event(pool: Pool) -> None:
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'Old', 'UTC')")
    await _done(pool, _delete_depot())
    assert await event_types(pool) == []


# Many at once


def _patiently(pool: Pool, command: Command) -> Awaitable[Outcome]:
    """A command as `conduct` carries it out: one that collides looks again."""

    async def tried() -> Outcome:
        for _ in range(5):
            try:
                return await _run(pool, command)
            except COLLISIONS:
                continue
        raise AssertionError("it collided every time")

    return tried()


async def test_commands_and_repairs_at_once_end_correct_with_a_version_for_each_change_of_set_or_order(pool: Pool) -> None:
    await _done(pool, _create_depot("d", {"circuit_id": "a", "name": "A"}, {"circuit_id": "b", "name": "B"}))
    commands = [
        *(_circuit(f"n{i}", position=i % 5) for i in range(15)),
        *(_change("circuit", f"n{i}", position=i % 3) for i in range(15)),
        *(_change("circuit", "ab"[i % 2], name=f"Renamed {i}") for i in range(10)),
        *(_change("circuit", "a", parent_circuit_id=parent) for parent in ("b", None) * 3),
        *(_delete("circuit", f"n{i}") for i in range(4)),
    ]
    assert len(commands) == 50

    async def repair() -> None:
        found = await resync_microgrid(pool, "d", dry_run=False, now=_NOW, new_id=fresh_id)
        assert isinstance(found, Resynced)
        assert not found.changed

    work: list[Awaitable[object]] = [_patiently(pool, command) for command in commands]
    for place in range(20):
        work.insert(place * 3, repair())
    await asyncio.gather(*work)

    rows = await pool.fetch("SELECT circuit_id, name FROM circuit WHERE parent_circuit_id IS NULL ORDER BY position, circuit_id")
    microgrid = await microgrid_of(pool)
    assert [(node.source_circuit_id, node.name) for node in microgrid.nodes] == [tuple(row) for row in rows]
    # Each of these commands can change set or order once at most, so every event of such a change has a version of its own.
    counted = ("GridConnectionAdded", "GridConnectionRemoved", "GridConnectionsReordered")
    versions = [event.payload["version"] for event in await stored_events(pool) if event.event_type in counted]
    assert versions == list(range(2, microgrid.version + 1))
    assert len(versions) >= 19


_UNDER_ITS_LOCK: list[tuple[str, Command]] = [
    ("create a depot", _create_depot("d")),
    ("create a thing", _create("gateway", gateway_id="new", depot_id="d", name="G")),
    ("create a circuit", _circuit("new")),
    ("change a thing", _change("gateway", "gw", name="New")),
    ("delete a thing", _delete("gateway", "gw")),
    ("change a depot", lambda connection: change_depot(connection, "d", {"name": "New"}, now=_NOW, new_id=fresh_id)),
    ("delete a depot", _delete_depot("d")),
]


@pytest.mark.parametrize(("what", "command"), _UNDER_ITS_LOCK, ids=[what for what, _ in _UNDER_ITS_LOCK])
async def test_every_command_waits_for_whoever_changes_its_depot_and_looks_only_then(
    pool: Pool, what: str, command: Command
) -> None:
    await _done(pool, _create_depot(), _create("gateway", gateway_id="gw", depot_id="d", name="G"))
    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d")
        waiting = asyncio.create_task(_run(pool, command))
        await until_somebody_waits(holder)
        assert await holder.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'") == 1
        # What it judges by is what there is when it is its turn.
        await holder.execute("UPDATE circuit SET name = 'Meanwhile' WHERE circuit_id = 'd-gc'")
    outcome = await waiting
    if isinstance(outcome, Changed) and what != "create a depot":
        assert [circuit.name for circuit in outcome.site.circuits if circuit.circuit_id == "d-gc"] == ["Meanwhile"]


async def test_commands_on_other_depots_do_not_wait(pool: Pool) -> None:
    await _done(pool, _create_depot("d"), _create_depot("e"))
    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d")
        waiting = asyncio.create_task(_run(pool, _circuit("of-d")))
        await until_somebody_waits(holder)
        elsewhere = (
            _circuit("of-e", "e"),
            _change("circuit", "of-e", position=-1),
            _delete("circuit", "of-e"),
            _create_depot("f"),
        )
        await asyncio.wait_for(_done(pool, *elsewhere), 60)
        assert not waiting.done()
    assert isinstance(await waiting, Changed)
