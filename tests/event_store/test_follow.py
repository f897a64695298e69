"""What a page costs that a follower reads: as much as it gives, whatever waits and whatever the planner believes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from tests.event_store.stores import MICROGRID_ID, uuid

from event_store.database import Connection, Pool
from event_store.follow import START, Wanted, along_the_index, end_position, follow, next_stretch
from event_store.outbox import SHARES, OutboxPosition, next_entries
from event_store.read import Position, events_of_microgrid

PAGE = 50
BACKLOG = 20_000
RARE = uuid(77)
COMMON = "MeasurementRecorded"
SELDOM = "CapabilityStatusReported"
_MOST_BUFFERS = 5 * PAGE
"""Each row may lie on a page of its own, and is found by a page of the index; then there is the way down to it."""

_FILL = f"""
INSERT INTO event_store (event_id, stream_id, event_type, schema_version, depot_id, microgrid_id, subject, observed_at, sent_at,
                         payload, metadata)
SELECT gen_random_uuid(), 'depot', CASE WHEN n % 1000 = 0 THEN '{SELDOM}' ELSE '{COMMON}' END, 1, 'depot',
       CASE WHEN n % 20 = 0 THEN '{MICROGRID_ID}' ELSE '{uuid(1)}' END::uuid,
       'device/dev/POWER', clock_timestamp(), now(), jsonb_build_object('measurand', 'POWER', 'value', n), '{{}}'
FROM generate_series(1, $1) AS s (n)
"""

_QUEUE = "INSERT INTO event_outbox (stream_id, event_position) SELECT stream_id, global_position FROM event_store"


async def fill(pool: Pool, *, learnt: str) -> None:
    """A backlog of which the planner knows everything or nothing, or that it takes for the few rows that there were long ago."""
    async with pool.acquire() as connection:
        await connection.execute("SET ROLE NONE; ALTER TABLE event_store SET (autovacuum_enabled = off)")
        await connection.execute("ALTER TABLE event_outbox SET (autovacuum_enabled = off)")
        if learnt == "long ago":
            await connection.execute(_FILL, 20)
            await connection.execute("ANALYZE event_store")
        await connection.execute(_FILL, BACKLOG)
        await connection.execute(_QUEUE)
        if learnt == "just now":
            await connection.execute("ANALYZE event_store")
            await connection.execute("ANALYZE event_outbox")


async def buffers(connection: Connection, read: Callable[[Connection], Awaitable[object]]) -> int:
    """How many pages of table and indexes a read touches."""
    touched = """SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint FROM pg_statio_user_tables
                 WHERE relname IN ('event_store', 'event_outbox')"""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    before = await connection.fetchval(touched)
    await read(connection)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return await connection.fetchval(touched) - before


async def page_of_all(connection: Connection) -> object:
    return await follow(connection, START, limit=PAGE)


async def page_of_one(connection: Connection) -> object:
    return await follow(connection, START, limit=PAGE, microgrid_id=MICROGRID_ID)


async def page_of_one_that_has_nothing(connection: Connection) -> object:
    return await follow(connection, START, limit=PAGE, microgrid_id=RARE)


async def last_of_one(connection: Connection) -> object:
    return await events_of_microgrid(connection, MICROGRID_ID, limit=PAGE)


async def last_of_one_that_has_nothing(connection: Connection) -> object:
    return await events_of_microgrid(connection, RARE, limit=PAGE, before=Position(2**40, 0))


async def stretch(connection: Connection) -> object:
    wanted = Wanted([MICROGRID_ID, RARE], [SELDOM], ["SOC"])
    return await next_stretch(connection, START, await end_position(connection), wanted, look_at=PAGE)


async def page_of_the_outbox(connection: Connection) -> object:
    return await next_entries(connection, dict.fromkeys(range(SHARES), OutboxPosition(0, 0)), PAGE)


READS = (page_of_all, page_of_one, page_of_one_that_has_nothing, last_of_one, last_of_one_that_has_nothing, page_of_the_outbox)


@pytest.mark.parametrize("learnt", ["just now", "long ago", "never"])
async def test_a_page_reads_no_more_than_it_gives_whatever_waits_and_whatever_the_planner_knows(pool: Pool, learnt: str) -> None:
    await fill(pool, learnt=learnt)
    reads: dict[str, int] = {}
    for plan in ("force_custom_plan", "force_generic_plan"):
        async with pool.acquire() as connection:
            await connection.execute(f"SET plan_cache_mode = {plan}")
            async with along_the_index(connection):
                await stretch(connection)  # what is learnt once for each statement is not the page's
                reads[f"stretch, {plan}"] = await buffers(connection, stretch)
            for read in READS:
                await read(connection)
                reads[f"{read.__name__}, {plan}"] = await buffers(connection, read)
    assert {name: count for name, count in reads.items() if not 0 < count <= _MOST_BUFFERS} == {}


async def test_a_stretch_gives_what_is_wanted_of_it_and_where_it_ends(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(_FILL, 2_000)
        end = await end_position(connection)
        everything = [one.position for one in await follow(connection, START, limit=3_000)]
        wanted = Wanted([MICROGRID_ID, RARE], [SELDOM], ["SOC"])
        found: list[Position] = []
        ends: list[Position | None] = []
        at: Position | None = START
        while at is not None:
            one = await next_stretch(connection, at, end, wanted, look_at=700)
            found += [stored.position for stored in one.events]
            ends.append(at := one.end)
        assert found == [everything[999], everything[1999]]
        assert ends == [everything[699], everything[1399], None]
        everything_wanted = Wanted([MICROGRID_ID, uuid(1)], [COMMON], ["POWER"])
        whole = await next_stretch(connection, START, end, everything_wanted, look_at=2_000)
        assert ([stored.position for stored in whole.events], whole.end) == (everything, everything[-1])
        assert (await next_stretch(connection, everything[-1], end, everything_wanted, look_at=2_000)).events == ()


async def test_a_connection_that_reads_along_the_index_is_as_before_afterwards(pool: Pool) -> None:
    async with pool.acquire() as connection:
        async with along_the_index(connection):
            assert await connection.fetchval("SHOW enable_sort") == "off"
        assert await connection.fetchval("SHOW enable_sort") == "on"
