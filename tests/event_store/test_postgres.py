"""What only the real store can promise: append-only, gap-safe following, one index for the latest."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any, cast

import asyncpg
import pytest
from tests.event_store.stores import MICROGRID_ID, NOW, event, letter, seconds, uuid

from event_store import read
from event_store.append import EVENT_CHANNEL, append_events
from event_store.database import SERVICE_ROLE, Connection, Pool, connect
from event_store.dead_letters import DeadLetterFilter, get_dead_letter, group_dead_letters
from event_store.follow import START, end_position, follow
from event_store.read import HistoryKey, Position, events_of_microgrid, history_of, latest_of
from event_store.store import PostgresEventStore

CHANGES = (
    "UPDATE event_store SET depot_id = 'other'",
    "UPDATE event_store SET depot_id = 'other' WHERE false",
    "DELETE FROM event_store",
    "TRUNCATE event_store",
)


# --- append-only ----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
async def test_the_services_role_may_not_change_what_happened(pool: Pool, change: str) -> None:
    await append_events(pool, [event(1)])
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await pool.execute(change)
    assert await pool.fetchval("SELECT count(*) FROM event_store") == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_not_even_the_owner_changes_what_happened_by_mistake(pool: Pool, owner: Connection, change: str) -> None:
    await append_events(pool, [event(1)])
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await owner.execute(change)
    assert await pool.fetchval("SELECT count(*) FROM event_store") == 1


async def test_the_role_holds_for_every_use_of_a_pooled_connection(pool: Pool) -> None:
    for _ in range(3):
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == SERVICE_ROLE
            await connection.execute("SET application_name = 'something'")


async def test_the_role_reaches_all_that_it_works_with(pool: Pool) -> None:
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for row in tables:
        await pool.execute(f"SELECT FROM {row['tablename']} LIMIT 1")
    assert len(tables) > 15


# --- following ------------------------------------------------------------------------------------


async def test_an_event_whose_transaction_commits_late_is_not_skipped(pool: Pool) -> None:
    async with pool.acquire() as late, pool.acquire() as early, pool.acquire() as reader:
        transaction = late.transaction()
        await transaction.start()
        await append_events(late, [event(1)])
        await append_events(early, [event(2)])
        assert await follow(reader, START, limit=10) == []
        assert (await end_position(reader)) < Position(2**62, 0)
        await transaction.commit()
        assert [one.event.event_id for one in await follow(reader, START, limit=10)] == [uuid(1), uuid(2)]


async def test_a_transaction_that_gives_up_holds_nobody_back(pool: Pool) -> None:
    async with pool.acquire() as late, pool.acquire() as reader:
        transaction = late.transaction()
        await transaction.start()
        await append_events(late, [event(1)])
        await append_events(pool, [event(2)])
        await transaction.rollback()
        assert [one.event.event_id for one in await follow(reader, START, limit=10)] == [uuid(2)]


async def test_following_never_skips_an_event_under_concurrent_writers(pool: Pool) -> None:
    writers, batches = 8, 25
    written = asyncio.Event()

    async def write(writer: int) -> None:
        chance = random.Random(writer)
        async with pool.acquire() as connection:
            for batch in range(batches):
                async with connection.transaction():
                    if chance.random() < 0.3:
                        await connection.execute("SELECT pg_current_xact_id()")
                        await connection.execute("SELECT pg_sleep($1)", chance.random() * 0.01)
                    number = (writer * batches + batch) * 2
                    await append_events(connection, [event(number), event(number + 1)])
                    await connection.execute("SELECT pg_sleep($1)", chance.random() * 0.02)

    async def read_along() -> list[Position]:
        seen: list[Position] = []
        async with pool.acquire() as connection:
            after = START
            while True:
                is_last_look = written.is_set()
                page = await follow(connection, after, limit=7)
                if page:
                    seen += [one.position for one in page]
                    after = page[-1].position
                elif is_last_look:
                    return seen

    async with asyncio.timeout(60):
        reader = asyncio.create_task(read_along())
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        written.set()
        seen = await reader
    assert len(seen) == len(set(seen)) == writers * batches * 2
    assert seen == sorted(seen)


async def test_following_one_microgrid_gives_its_events_only(pool: Pool) -> None:
    other = "00000000-0000-7000-8000-0000000000bb"
    await append_events(pool, [event(1), event(2, microgrid_id=other), event(3)])
    async with pool.acquire() as connection:
        found = await follow(connection, START, limit=10, microgrid_id=MICROGRID_ID)
        assert [one.event.event_id for one in found] == [uuid(1), uuid(3)]


async def test_a_reader_that_starts_at_the_end_sees_all_that_comes_and_nothing_that_was(pool: Pool) -> None:
    await append_events(pool, [event(1)])
    async with pool.acquire() as late, pool.acquire() as reader:
        transaction = late.transaction()
        await transaction.start()
        await append_events(late, [event(2)])
        end = await end_position(reader)
        await transaction.commit()
        await append_events(pool, [event(3)])
        assert [one.event.event_id for one in await follow(reader, end, limit=10)] == [uuid(2), uuid(3)]


async def test_appending_wakes_who_listens_once_the_events_are_there(pool: Pool, database_url: str) -> None:
    woken = asyncio.Event()
    listener = await connect(database_url, "listener")

    def wake(*_: object) -> None:
        woken.set()

    await listener.add_listener(EVENT_CHANNEL, wake)
    async with pool.acquire() as connection, connection.transaction():
        await append_events(connection, [event(1)])
        await listener.fetchval("SELECT 1")
        assert not woken.is_set()
    async with asyncio.timeout(60):
        await woken.wait()
    assert len(await follow(listener, START, limit=10)) == 1
    await listener.close()


async def test_two_transactions_that_bring_the_same_event_store_it_once(pool: Pool) -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        assert (await append_events(first, [event(1)])).new_ids is None
        waiting = asyncio.create_task(append_events(second, [event(1), event(2)]))
        await transaction.commit()
        assert (await waiting).new_ids == {uuid(2)}
    assert await pool.fetchval("SELECT count(*) FROM event_outbox") == 2


async def test_an_event_whose_first_bringer_gives_up_is_taken_from_the_second(pool: Pool) -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await append_events(first, [event(1)])
        waiting = asyncio.create_task(append_events(second, [event(1)]))
        await transaction.rollback()
        assert (await waiting).new_ids is None
    assert await pool.fetchval("SELECT count(*) FROM event_store") == 1


# --- what a read costs ----------------------------------------------------------------------------

FILL = f"""
INSERT INTO event_store (event_id, event_type, schema_version, stream_id, depot_id, microgrid_id, subject, history_only,
                         observed_at, sent_at, source_event_ref, payload, metadata)
SELECT gen_random_uuid(), 'MeasurementRecorded', 1, 'depot', 'depot', '{MICROGRID_ID}', 'device/dev-' || i % 50 || '/SOC',
       i % 10 = 0, $1::timestamptz + make_interval(secs => i), $1::timestamptz, 'packet', '{{"value": 74.5}}', '{{}}'
FROM generate_series(1, 50000) AS i
"""


@pytest.fixture
async def full(pool: Pool, owner: Connection) -> Pool:
    """A store with 50,000 events of 50 subjects, vacuumed as it would be after a while."""
    await owner.execute(FILL, NOW)
    await owner.execute("VACUUM ANALYZE event_store")
    return pool


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return literal("{" + ",".join(map(str, cast("list[object]", value))) + "}")
    return str(value) if isinstance(value, int) else f"'{value}'"


async def explained(pool: Pool, query: str, *arguments: object, generic: bool) -> dict[str, Any]:
    """The plan with what it cost. A connection that asks often gets the generic plan, made without knowing the arguments."""
    async with pool.acquire() as connection:
        await connection.execute(f"SET plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        await connection.execute(f"PREPARE probe AS {query}")
        execute = f"EXECUTE probe ({', '.join(map(literal, arguments))})"
        await connection.fetch(execute)
        (plan,) = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}")
        await connection.execute("DEALLOCATE probe")
        return plan["Plan"]


@pytest.mark.parametrize("generic", [False, True])
async def test_the_latest_of_a_subject_costs_at_most_8_buffers_and_one_index(full: Pool, generic: bool) -> None:
    plan = await explained(full, read._LATEST, ["device/dev-7/SOC"], generic=generic)  # pyright: ignore[reportPrivateUsage]
    assert {node["Index Name"] for node in nodes(plan) if "Index Name" in node} == {"event_store_latest"}
    assert not [node for node in nodes(plan) if node["Node Type"] in ("Seq Scan", "Sort")]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 8
    assert plan["Actual Rows"] == 1


async def test_the_latest_of_many_subjects_costs_as_much_for_each(full: Pool) -> None:
    subjects = [f"device/dev-{number}/SOC" for number in range(50)]
    plan = await explained(full, read._LATEST, subjects, generic=True)  # pyright: ignore[reportPrivateUsage]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 8 * 50
    async with full.acquire() as connection:
        found = await latest_of(connection, subjects)
    numbers = {subject: one.event.observed_at for subject, one in found.items()}
    last = {f"device/dev-{i % 50}/SOC": NOW + timedelta(seconds=i) for i in range(1, 50001) if i % 10}
    assert numbers == {subject: at for subject, at in last.items() if subject in subjects}


async def test_following_costs_what_it_gives_however_much_is_stored(full: Pool) -> None:
    async with full.acquire() as connection:
        middle = await follow(connection, START, limit=100)
    after = middle[-1].position
    from event_store import follow as module

    arguments = (str(after.transaction_id), after.global_position + 20_000, 100)
    plan = await explained(full, module._FOLLOW, *arguments, generic=True)  # pyright: ignore[reportPrivateUsage]
    assert {node["Index Name"] for node in nodes(plan) if "Index Name" in node} == {"event_store_follow"}
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 60


@pytest.mark.parametrize("generic", [False, True])
async def test_a_page_of_history_costs_the_same_at_every_depth(full: Pool, generic: bool) -> None:
    subject = "device/dev-7/SOC"
    async with full.acquire() as connection:
        deep = (await history_of(connection, subject, limit=900))[-1].event
    key = (deep.observed_at, deep.sent_at, deep.event_id)
    for before in ((None, None, None), key):
        plan = await explained(full, read._HISTORY, subject, None, None, *before, 20, generic=generic)  # pyright: ignore[reportPrivateUsage]
        assert plan["Actual Rows"] == 20
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 60


async def test_a_page_of_a_microgrids_events_costs_the_same_at_every_depth(full: Pool) -> None:
    async with full.acquire() as connection:
        first = (await follow(connection, START, limit=1))[0].position
    for before in ((None, None), (str(first.transaction_id), first.global_position + 1000)):
        arguments = (MICROGRID_ID, *before, None, None, None, None, None, 20)
        plan = await explained(full, read._OF_MICROGRID, *arguments, generic=True)  # pyright: ignore[reportPrivateUsage]
        assert plan["Actual Rows"] == 20
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 60


# --- history pages --------------------------------------------------------------------------------


async def test_pages_of_history_join_without_gap_or_overlap(pool: Pool) -> None:
    chance = random.Random(3)
    reports = [
        event(number, observed_at=seconds(chance.randrange(4)), sent_at=seconds(chance.randrange(3)), history_only=number % 3 == 0)
        for number in range(60)
    ]
    await append_events(pool, reports)
    async with pool.acquire() as connection:
        whole = await history_of(connection, "device/dev/SOC", limit=100)
        paged: list[Any] = []
        before = None
        while page := await history_of(connection, "device/dev/SOC", limit=7, before=before):
            paged += page
            last = page[-1].event
            before = HistoryKey(last.observed_at, last.sent_at, last.event_id)
        assert paged == whole
        assert len(whole) == 60
        window = await history_of(connection, "device/dev/SOC", limit=100, since=seconds(1), until=seconds(3))
        assert {one.event.observed_at for one in window} == {seconds(1), seconds(2)}


async def test_a_microgrids_events_are_read_backwards_between_positions_by_type_and_time(pool: Pool) -> None:
    for number in range(6):
        kind = "MeasurementRecorded" if number % 2 else "CapabilityStatusReported"
        await append_events(pool, [event(number, event_type=kind, observed_at=seconds(number))])

    async def found(**bounds: Any) -> list[int]:
        async with pool.acquire() as connection:
            return [int(one.event.event_id[-1]) for one in await events_of_microgrid(connection, MICROGRID_ID, limit=4, **bounds)]

    async with pool.acquire() as connection:
        positions = [one.position for one in await follow(connection, START, limit=10)]
    assert await found() == [5, 4, 3, 2]
    assert await found(before=positions[2]) == [1, 0]
    assert await found(after=positions[3]) == [5, 4]
    assert await found(before=positions[5], after=positions[2]) == [4, 3]
    assert await found(event_types=["MeasurementRecorded"]) == [5, 3, 1]
    assert await found(since=seconds(1), until=seconds(3)) == [2, 1]


@pytest.mark.parametrize("position", [Position(0, 0), Position(12, 345), Position(2**62, 2**62)])
def test_a_position_survives_being_a_cursor(position: Position) -> None:
    assert Position.from_cursor(position.cursor()) == position


@pytest.mark.parametrize("text", ["", "-", "1", "1-", "-1", "1-2-3", "a-b", "１-２", "-1-2", f"{2**63}-1", f"1-{2**63}", "9" * 99])
def test_any_other_text_is_no_cursor(text: str) -> None:
    assert Position.from_cursor(text) is None


# --- dead letters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settled", ["REPLAYED", "DISCARDED"])
async def test_a_settled_letter_that_fails_again_is_pending_again_and_keeps_who_replayed_it(pool: Pool, settled: str) -> None:
    store = PostgresEventStore(pool)
    one = letter()
    async with store.transaction() as transaction:
        await transaction.put_dead_letters([one])
    await pool.execute("UPDATE dead_letter SET status = $1, replayed_by = 'someone', replayed_at = $2", settled, NOW)
    async with store.transaction() as transaction:
        await transaction.put_dead_letters([one])
    async with pool.acquire() as connection:
        found = await get_dead_letter(connection, one.dead_letter_id)
    assert found is not None
    assert (found.status, found.attempts, found.replayed_by) == ("PENDING", 2, "someone")


async def test_letters_are_counted_by_any_of_their_fields_with_times_and_a_sample(pool: Pool) -> None:
    store = PostgresEventStore(pool)
    letters = [
        letter(
            bytes([number]),
            reason_code="A" if number < 3 else "B",
            device_id=None if number == 4 else "dev",
            last_failed_at=seconds(number),
        )
        for number in range(5)
    ]
    async with store.transaction() as transaction:
        await transaction.put_dead_letters(letters)
    async with pool.acquire() as connection:
        groups = await group_dead_letters(connection, DeadLetterFilter(), ["reason_code", "device_id"])
        assert [(one.values, one.count, one.last_at) for one in groups] == [
            (("A", "dev"), 3, seconds(2)),
            (("B", "dev"), 1, seconds(3)),
            (("B", None), 1, seconds(4)),
        ]
        assert groups[2].sample_id == letters[4].dead_letter_id
        for fields in ([], ["body"], ["reason_code; DROP TABLE dead_letter"]):
            with pytest.raises(ValueError, match="group by"):
                await group_dead_letters(connection, DeadLetterFilter(), fields)
