"""A flood of dead letters keeps the bytes of its newest letters within its share, and every letter leaves its trace."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from tests.event_store.stores import NOW, letter, seconds

from event_store.database import Pool
from event_store.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    get_dead_letter,
    group_dead_letters,
    list_dead_letters,
    put_dead_letters,
)
from event_store.letter_quota import AT_ONCE, keep_quota

pytestmark = pytest.mark.services
LONG_AGO = NOW - timedelta(days=1)


def flood(count: int, *, gateway: str | None = "gw", code: str = "MALFORMED_JSON", size: int = 1_000) -> list[DeadLetter]:
    """Letters of one cause, each a second younger than the one before."""
    made: list[DeadLetter] = []
    for number in range(count):
        body = f"{gateway}/{code}/{number}".encode().ljust(size)
        made.append(letter(body, gateway_id=gateway, reason_code=code, received_at=seconds(number), last_failed_at=seconds(number)))
    return made


async def put(pool: Pool, *letters: DeadLetter) -> None:
    async with pool.acquire() as connection:
        await put_dead_letters(connection, letters)


async def kept(pool: Pool) -> list[tuple[str | None, int]]:
    """Letters that still have their bytes, by gateway."""
    rows = await pool.fetch(
        "SELECT gateway_id, count(*) FROM dead_letter WHERE length(body) > 0 AND body_dropped_at IS NULL GROUP BY 1 ORDER BY 1"
    )
    return [(row[0], row[1]) for row in rows]


async def test_the_oldest_bytes_of_a_flood_go_and_those_of_other_causes_stay(pool: Pool) -> None:
    first = flood(30)
    await put(pool, *first, *flood(5, gateway="other"), *flood(25, gateway=None))
    assert await keep_quota(pool, LONG_AGO, 10_000, seconds(100)) == {"MALFORMED_JSON": 35}
    assert await kept(pool) == [("gw", 10), ("other", 5), (None, 10)]
    async with pool.acquire() as connection:
        oldest, newest = [await get_dead_letter(connection, one.dead_letter_id) for one in (first[0], first[-1])]
        (group, *_) = await group_dead_letters(connection, DeadLetterFilter(gateway_id="gw"), ["reason_code"])
    assert oldest is not None
    assert newest is not None
    assert (oldest.body, oldest.body_dropped_at, oldest.body_length, oldest.body_sha256) == (
        b"",
        seconds(100),
        1_000,
        first[0].body_sha256,
    )
    assert (newest.body, newest.body_dropped_at) == (first[-1].body, None)
    assert (group.count, group.bodies_dropped) == (30, 20)


async def test_what_is_done_goes_before_what_waits(pool: Pool) -> None:
    letters = flood(20)
    await put(pool, *letters)
    await pool.execute("UPDATE dead_letter SET status = 'REPLAYED' WHERE received_at >= $1", seconds(10))
    await keep_quota(pool, LONG_AGO, 10_000, NOW)
    rows = await pool.fetch("SELECT status, count(*) FROM dead_letter WHERE body_dropped_at IS NULL GROUP BY 1")
    assert [tuple(row) for row in rows] == [("PENDING", 10)]


async def test_a_great_flood_goes_in_batches_and_a_second_look_finds_nothing(pool: Pool) -> None:
    letters = flood(2 * AT_ONCE + 500, size=30)
    await put(pool, *letters)
    assert await keep_quota(pool, LONG_AGO, 3_000, NOW) == {"MALFORMED_JSON": 2 * AT_ONCE + 400}
    assert await keep_quota(pool, LONG_AGO, 3_000, NOW) == {}


async def test_only_causes_with_a_new_letter_are_looked_at_and_by_one_process_at_a_time(pool: Pool) -> None:
    await put(pool, *flood(20))
    assert await keep_quota(pool, seconds(1_000), 10_000, NOW) == {}
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock(7340119)")
        assert await keep_quota(pool, LONG_AGO, 10_000, NOW) == {}
        await connection.execute("SELECT pg_advisory_unlock(7340119)")
    assert await keep_quota(pool, LONG_AGO, 10_000, NOW) == {"MALFORMED_JSON": 10}


async def test_bytes_that_come_again_are_kept_again(pool: Pool) -> None:
    letters = flood(12)
    await put(pool, *letters)
    await keep_quota(pool, LONG_AGO, 10_000, NOW)
    await put(pool, letters[0])
    async with pool.acquire() as connection:
        found = await get_dead_letter(connection, letters[0].dead_letter_id)
    assert found is not None
    assert (found.body, found.body_dropped_at, found.attempts) == (letters[0].body, None, 2)


async def test_a_list_reads_no_bytes(pool: Pool) -> None:
    await put(pool, *flood(3))
    async with pool.acquire() as connection:
        with_bodies = await list_dead_letters(connection, DeadLetterFilter(), limit=10)
        without = await list_dead_letters(connection, DeadLetterFilter(), limit=10, with_bodies=False)
    assert [msgspec.structs.replace(one, body=b"", key=None, headers={}) for one in with_bodies] == without
