"""What a connection does when it goes back to its pool."""

from __future__ import annotations

import asyncpg
import pytest

from event_store.database import open_pool


@pytest.mark.parametrize("leaves_nothing", [False, True])
async def test_a_session_is_cleared_unless_nobody_leaves_anything_in_it(database_url: str, leaves_nothing: bool) -> None:
    pool = await open_pool(database_url, "tests", min_size=1, max_size=1, leaves_nothing=leaves_nothing)
    watching = await asyncpg.connect(database_url)
    try:
        pid = await pool.fetchval("SELECT pg_backend_pid()")
        last = await watching.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
        assert ("RESET ALL" in last) is not leaves_nothing
    finally:
        await watching.close()
        await pool.close()


async def test_an_open_transaction_is_ended_also_where_nothing_is_cleared(database_url: str) -> None:
    pool = await open_pool(database_url, "tests", min_size=1, max_size=1, leaves_nothing=True)
    try:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'D', 'UTC')")
        assert await pool.fetchval("SELECT count(*) FROM depot") == 0
    finally:
        await pool.close()
