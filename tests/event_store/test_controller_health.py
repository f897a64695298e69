"""The health of controllers under concurrent batches and sweepers, each of which locks what it decides about."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from tests.event_store.stores import health, seconds, uuid

from event_store import controller_health
from event_store.database import Connection, Pool
from event_store.store import PostgresEventStore


async def waiting_for_a_lock(owner: Connection, query: str) -> None:
    """Return once a backend waits for a lock in a query that contains this text; only the owner sees others' queries."""
    async with asyncio.timeout(60):
        while not await owner.fetchval(
            "SELECT count(*), pg_sleep(0.01) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0", query
        ):
            continue


@pytest.mark.parametrize("exists", [False, True])
async def test_two_batches_about_one_controller_take_turns_also_where_it_has_no_row_yet(
    pool: Pool, owner: Connection, exists: bool
) -> None:
    store = PostgresEventStore(pool)
    if exists:
        async with store.transaction() as transaction:
            await transaction.save_health([health(1)])

    async def second() -> dict[str, Any]:
        async with store.transaction() as transaction:
            return await transaction.lock_health([uuid(1)])

    async with store.transaction() as transaction:
        await transaction.lock_health([uuid(1)])
        waiting = asyncio.create_task(second())
        await waiting_for_a_lock(owner, "pg_advisory_xact_lock")
        await transaction.save_health([health(1, status="OK")])
    assert (await waiting)[uuid(1)].status == "OK"


async def test_batches_that_name_controllers_in_different_order_do_not_lock_each_other_out(pool: Pool) -> None:
    store = PostgresEventStore(pool)
    numbers = [uuid(number) for number in range(20)]

    async def run(seed: int) -> None:
        order = random.Random(seed).sample(numbers, len(numbers))
        for _ in range(10):
            async with store.transaction() as transaction:
                known = await transaction.lock_health(order)
                await transaction.save_health(
                    [msgspec.structs.replace(known.get(one, health()), sensor_action_id=one) for one in order]
                )

    async with asyncio.timeout(60):
        await asyncio.gather(*(run(seed) for seed in range(4)))


async def test_a_sweeper_leaves_what_a_batch_or_another_sweeper_holds(pool: Pool) -> None:
    store = PostgresEventStore(pool)
    async with store.transaction() as transaction:
        await transaction.save_health([health(number, deadline_at=seconds(0)) for number in (1, 2, 3)])
    async with store.transaction() as batch, store.transaction() as sweeper, store.transaction() as other:
        await batch.lock_health([uuid(1)])
        assert [one.sensor_action_id for one in await sweeper.lock_overdue(seconds(1), 1)] == [uuid(2)]
        assert [one.sensor_action_id for one in await other.lock_overdue(seconds(1), 10)] == [uuid(3)]


async def test_a_batch_waits_for_a_sweeper_and_sees_what_it_saved(pool: Pool, owner: Connection) -> None:
    store = PostgresEventStore(pool)
    async with store.transaction() as transaction:
        await transaction.save_health([health(1, status="OK", deadline_at=seconds(0))])

    async def batch() -> dict[str, Any]:
        async with store.transaction() as transaction:
            return await transaction.lock_health([uuid(1)])

    async with store.transaction() as sweeper:
        (overdue,) = await sweeper.lock_overdue(seconds(1), 10)
        waiting = asyncio.create_task(batch())
        await waiting_for_a_lock(owner, "FOR UPDATE")
        await sweeper.save_health([msgspec.structs.replace(overdue, status="LOST", deadline_at=None)])
    assert (await waiting)[uuid(1)].status == "LOST"


async def test_the_health_of_circuits_is_read_without_a_lock(pool: Pool) -> None:
    store = PostgresEventStore(pool)
    async with store.transaction() as transaction:
        await transaction.save_health([health(1), health(2, circuit_id="gc-2"), health(3, circuit_id="gc-3")])
        await transaction.lock_health([uuid(1)])
    async with store.transaction() as holder, pool.acquire() as connection:
        await holder.lock_health([uuid(1)])
        found = await controller_health.health_of_circuits(connection, ["gc-1", "gc-2", "nowhere"])
        assert [one.sensor_action_id for one in found] == [uuid(1), uuid(2)]
