"""A lease has one holder at a time, by the database's clock."""

from __future__ import annotations

import asyncio

import pytest

from event_store.database import Connection, Pool
from event_store.lease import release_lease, take_lease


async def expire(owner: Connection) -> None:
    await owner.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 microsecond'")


async def test_a_lease_has_one_holder_who_may_renew_it(pool: Pool) -> None:
    assert await take_lease(pool, "mqtt", "one", 60)
    assert not await take_lease(pool, "mqtt", "two", 60)
    assert await take_lease(pool, "mqtt", "one", 60)
    assert await take_lease(pool, "another thing", "two", 60)


async def test_a_lease_that_expired_is_taken_over_and_its_former_holder_knows(pool: Pool, owner: Connection) -> None:
    await take_lease(pool, "mqtt", "one", 60)
    await expire(owner)
    assert await take_lease(pool, "mqtt", "two", 60)
    assert not await take_lease(pool, "mqtt", "one", 60)


async def test_only_its_holder_gives_a_lease_back(pool: Pool) -> None:
    await take_lease(pool, "mqtt", "one", 60)
    await release_lease(pool, "mqtt", "two")
    assert not await take_lease(pool, "mqtt", "two", 60)
    await release_lease(pool, "mqtt", "one")
    assert await take_lease(pool, "mqtt", "two", 60)


@pytest.mark.parametrize("expired", [False, True])
async def test_of_many_who_reach_for_a_lease_one_gets_it(pool: Pool, owner: Connection, expired: bool) -> None:
    if expired:
        await take_lease(pool, "mqtt", "gone", 60)
        await expire(owner)
    taken = await asyncio.gather(*(take_lease(pool, "mqtt", f"holder {number}", 60) for number in range(10)))
    assert sum(taken) == 1
