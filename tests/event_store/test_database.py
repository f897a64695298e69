"""A database that was restored from another server's dump is refused with the way out, and the way out leads out."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from tests.event_store.stores import event

from event_store.database import DatabaseFault, Pool, open_pool
from event_store.follow import START, follow
from event_store.outbox import SHARES, OutboxPosition, next_entries
from event_store.store import PostgresEventStore
from site_operations.migrate import differences

_GUIDE = Path(__file__).parents[2] / "docs" / "running.md"
_OF_ANOTHER_SERVER = """
ALTER TABLE event_store DISABLE TRIGGER event_store_is_append_only;
UPDATE event_store SET transaction_id = (transaction_id::text::bigint + 1000000000)::text::xid8;
ALTER TABLE event_store ENABLE TRIGGER event_store_is_append_only;
UPDATE event_outbox SET transaction_id = (transaction_id::text::bigint + 1000000000)::text::xid8;
"""


async def _published(pool: Pool) -> list[str]:
    async with pool.acquire() as connection:
        page = await next_entries(connection, dict.fromkeys(range(SHARES), OutboxPosition(0, 0)), 100)
    return [entry.event.event.event_id[-1] for entry in page.entries if entry.event is not None]


async def _followed(pool: Pool) -> list[str]:
    async with pool.acquire() as connection:
        return [stored.event.event_id[-1] for stored in await follow(connection, START, limit=100)]


async def test_a_database_restored_from_another_server_is_refused_until_it_is_mended_as_the_guide_says(database_url: str) -> None:
    pool = await open_pool(database_url, "test")
    for number in range(3):
        await PostgresEventStore(pool).append([event(number)])
    owner = await asyncpg.connect(database_url)
    await owner.execute(_OF_ANOTHER_SERVER)
    assert await _followed(pool) == await _published(pool) == []
    await pool.close()
    with pytest.raises(DatabaseFault, match="After a restore"):
        await open_pool(database_url, "test")
    (mend,) = re.findall(r"```sql\n(.*?)```", _GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    await owner.execute(mend)
    await owner.close()
    pool = await open_pool(database_url, "test")
    await PostgresEventStore(pool).append([event(3)])
    assert await _followed(pool) == await _published(pool) == ["0", "1", "2", "3"]
    await pool.close()


def test_the_check_of_a_database_tells_that_it_was_restored_from_another_server(database_url: str) -> None:
    async def restored() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("INSERT INTO event_outbox (transaction_id, stream_id) VALUES ('1099511627776', 'depot')")
        await connection.close()

    asyncio.run(restored())
    (found,) = differences(database_url)
    assert "1099511627776" in found
