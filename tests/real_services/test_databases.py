"""Every test gets a database of its own, with the schema in it."""

from __future__ import annotations

import asyncpg
import pytest


@pytest.mark.parametrize("run", [1, 2])
async def test_a_database_has_the_schema_and_nothing_of_an_earlier_test(database_url: str, run: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM event_store") == 0
        await connection.execute("CREATE TABLE left_by_a_test ()")
    finally:
        await connection.close()
    assert run


async def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()
