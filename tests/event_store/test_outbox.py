"""The outbox as relays read it: shares, cursors, what may be read when, and what is removed when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.event_store.stores import NOW, event, letter
from tests.real_services.waiting import until

from event_store.append import EVENT_CHANNEL
from event_store.database import Pool
from event_store.follow import START, follow
from event_store.outbox import (
    SHARES,
    OutboxPosition,
    advance,
    hold_shares,
    next_entries,
    prune_outbox,
    release_shares,
)
from event_store.read import Position
from event_store.store import PostgresEventStore, PostgresTransaction, StoreTransaction

EVERYTHING = dict.fromkeys(range(SHARES), OutboxPosition(0, 0))
DAY_S = 86_400


async def append(pool: Pool, *numbers: int, depot: str = "depot") -> None:
    await PostgresEventStore(pool).append([event(number, depot_id=depot) for number in numbers])


async def read(pool: Pool, cursors: dict[int, OutboxPosition] = EVERYTHING, limit: int = 1_000) -> list[str]:
    async with pool.acquire() as connection:
        page = await next_entries(connection, cursors, limit)
    return [entry.event.event.event_id if entry.event is not None else "letter" for entry in page.entries]


async def test_events_and_letters_come_in_the_order_of_their_transactions_with_what_they_hold(pool: Pool) -> None:
    await append(pool, 1, 2)
    async with PostgresEventStore(pool).transaction() as transaction:
        await transaction.put_dead_letters([letter()])
    await append(pool, 3)
    async with pool.acquire() as connection:
        page = await next_entries(connection, EVERYTHING, 100)
    assert [entry.event.event.event_id[-1] if entry.event else None for entry in page.entries] == ["1", "2", None, "3"]
    assert page.entries[2].letter == letter()
    assert [entry.position for entry in page.entries] == sorted(entry.position for entry in page.entries)
    assert all(entry.waiting_since is not None for entry in page.entries)


async def test_a_row_above_a_transaction_that_still_runs_is_not_given_and_nothing_is_skipped_for_it(pool: Pool) -> None:
    async with pool.acquire() as slow:
        writing = slow.transaction()
        await writing.start()
        await PostgresTransaction(slow).append([event(1)])
        await append(pool, 2)
        async with pool.acquire() as connection:
            page = await next_entries(connection, EVERYTHING, 100)
        assert (page.entries, page.more) == ((), True)
        await writing.commit()
    after = dict.fromkeys(range(SHARES), page.end)
    assert [one[-1] for one in await read(pool, after)] == ["1", "2"]


async def test_a_full_page_ends_at_its_last_row_and_the_next_goes_on_behind_it(pool: Pool) -> None:
    await append(pool, *range(5))
    async with pool.acquire() as connection:
        first = await next_entries(connection, EVERYTHING, 3)
        last = await next_entries(connection, dict.fromkeys(range(SHARES), first.end), 3)
    assert first.end == first.entries[-1].position
    assert (first.more, last.more) == (True, False)
    assert [one[-1] for one in await read(pool, dict.fromkeys(range(SHARES), first.end))] == ["3", "4"]


async def test_whoever_puts_something_into_the_outbox_tells_so_once_and_nobody_else_does(pool: Pool) -> None:
    told: list[str] = []
    store = PostgresEventStore(pool)

    async def told_by(work: Callable[[StoreTransaction], Awaitable[object]]) -> int:
        before = len(told)
        async with store.transaction() as transaction:
            await work(transaction)
        # Notifications come in the order of the commits, so this one comes after all that the transaction had to tell.
        await pool.execute("SELECT pg_notify($1, 'last')", EVENT_CHANNEL)
        await until(lambda: told[before:][-1:] == ["last"], "the notifications are here")
        return len(told) - before - 1

    async def both(transaction: StoreTransaction) -> None:
        await transaction.put_dead_letters([letter()])
        await transaction.append([event(1)])
        await transaction.put_dead_letters([letter(b"other")])

    again = msgspec.structs.replace(letter(), reason_code="UNKNOWN_DEVICE")

    def listen(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        told.append(str(payload))

    async with pool.acquire() as listening:
        await listening.add_listener(EVENT_CHANNEL, listen)
        assert await told_by(lambda transaction: transaction.put_dead_letters([letter()])) == 1
        assert await told_by(lambda transaction: transaction.append([event(0)])) == 1
        assert await told_by(both) == 1
        assert await told_by(lambda transaction: transaction.settle_letters([], [again], "ann", NOW)) == 1
        assert await told_by(lambda transaction: transaction.settle_letters([letter().dead_letter_id], [], "ann", NOW)) == 0
        assert await told_by(lambda transaction: transaction.settle_letters([], [again], "ann", NOW)) == 0
        assert await told_by(lambda transaction: transaction.put_dead_letters([])) == 0
        await listening.remove_listener(EVENT_CHANNEL, listen)


async def test_each_stream_is_in_one_share_and_all_shares_together_are_everything(pool: Pool) -> None:
    for number in range(40):
        await append(pool, number, number + 100, depot=f"depot-{number}")
    by_share = [await read(pool, {share: OutboxPosition(0, 0)}) for share in range(SHARES)]
    assert sorted(one for numbers in by_share for one in numbers) == sorted(await read(pool))
    for numbers in by_share:
        found = {int(one.rpartition("-")[2]) for one in numbers}
        assert {number % 100 for number in found} == {number for number in found if number < 100}
    assert sum(1 for numbers in by_share if numbers) > 4


async def test_shares_with_cursors_of_their_own_give_each_what_is_behind_its_own(pool: Pool) -> None:
    for number in range(20):
        await append(pool, number, depot=f"depot-{number}")
    ahead = await read(pool, {0: OutboxPosition(0, 0)})
    async with pool.acquire() as connection:
        end = (await next_entries(connection, EVERYTHING, 100)).end
    assert await read(pool, {**EVERYTHING, 0: end}) == [one for one in await read(pool) if one not in ahead]
    assert ahead


async def test_a_page_costs_the_same_however_much_waits_behind_it(pool: Pool) -> None:
    for first in range(0, 5_000, 1_000):
        await append(pool, *range(first, first + 1_000))
    touched = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'event_outbox'"
    async with pool.acquire() as connection, connection.transaction():
        before = await connection.fetchval(touched)
        await next_entries(connection, EVERYTHING, 100)
        assert await connection.fetchval(touched) - before <= 200


async def test_relays_divide_the_shares_evenly_and_take_them_over_from_one_that_leaves(pool: Pool) -> None:
    first = await hold_shares(pool, "mqtt", "first", 30)
    assert (sorted(first.cursors), first.fair) == (list(range(SHARES)), SHARES)
    second = await hold_shares(pool, "mqtt", "second", 30)
    assert (second.cursors, second.fair) == ({}, SHARES // 2)
    await release_shares(pool, "mqtt", "first", [4, 5, 6, 7])
    assert sorted((await hold_shares(pool, "mqtt", "second", 30)).cursors) == [4, 5, 6, 7]
    assert sorted((await hold_shares(pool, "mqtt", "first", 30)).cursors) == [0, 1, 2, 3]
    await release_shares(pool, "mqtt", "first")
    second = await hold_shares(pool, "mqtt", "second", 30)
    assert (sorted(second.cursors), second.fair) == (list(range(SHARES)), SHARES)


async def test_a_share_is_taken_once_its_time_has_run_out_and_its_former_holder_moves_nothing_any_more(pool: Pool) -> None:
    await hold_shares(pool, "kafka", "first", 0.05)

    async def taken() -> bool:
        return bool((await hold_shares(pool, "kafka", "second", 30)).cursors)

    await until(taken, "the second relay has the shares")
    await append(pool, 1)
    assert await advance(pool, "kafka", "first", range(SHARES), OutboxPosition(2**40, 1)) == frozenset()
    assert set((await hold_shares(pool, "kafka", "second", 30)).cursors.values()) == {OutboxPosition(0, 0)}


async def test_the_brokers_do_not_know_each_other(pool: Pool) -> None:
    await hold_shares(pool, "kafka", "one", 30)
    assert len((await hold_shares(pool, "mqtt", "other", 30)).cursors) == SHARES


async def test_a_cursor_moves_forward_only(pool: Pool) -> None:
    await hold_shares(pool, "kafka", "one", 30)
    for to in (OutboxPosition(7, 5), OutboxPosition(7, 4), OutboxPosition(6, 9)):
        assert await advance(pool, "kafka", "one", [0, 1], to) == {0, 1}
    cursors = (await hold_shares(pool, "kafka", "one", 30)).cursors
    assert (cursors[0], cursors[1], cursors[2]) == (OutboxPosition(7, 5), OutboxPosition(7, 5), OutboxPosition(0, 0))


async def _sent_to(pool: Pool, *brokers: str) -> None:
    async with pool.acquire() as connection:
        end = (await next_entries(connection, EVERYTHING, 1_000)).end
    for broker in brokers:
        await hold_shares(pool, broker, f"relay of {broker}", 30)
        await advance(pool, broker, f"relay of {broker}", range(SHARES), end)


async def test_what_every_broker_has_is_removed_in_batches_and_what_one_lacks_is_kept(pool: Pool) -> None:
    await append(pool, *range(10))
    await hold_shares(pool, "mqtt", "relay of mqtt", 30)
    await _sent_to(pool, "kafka")
    assert (await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=DAY_S)).rows == 0
    await _sent_to(pool, "mqtt")
    await append(pool, 10)
    assert [(await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=DAY_S, limit=4)).rows for _ in range(4)] == [4, 4, 2, 0]
    assert [one[-2:] for one in await read(pool)] == ["10"]


async def test_what_was_sent_is_kept_until_it_is_old_enough(pool: Pool) -> None:
    await append(pool, 1)
    await _sent_to(pool, "kafka")
    assert (await prune_outbox(pool, keep_sent_s=DAY_S, keep_unsent_s=DAY_S)).rows == 0
    assert (await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=DAY_S)).rows == 1


async def test_where_nobody_relays_rows_are_let_go_only_after_the_long_time(pool: Pool) -> None:
    await append(pool, 1)
    pruned = await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=DAY_S)
    assert (pruned.rows, pruned.unsent) == (0, True)
    assert (await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=0)).rows == 1


async def test_a_broker_that_no_relay_serves_any_more_is_forgotten_and_begins_again_with_what_is_kept(pool: Pool) -> None:
    await append(pool, 1)
    await hold_shares(pool, "mqtt", "gone", 30)
    await release_shares(pool, "mqtt", "gone")
    await pool.execute("UPDATE relay_share SET held_until = now() - interval '2 days'")
    await _sent_to(pool, "kafka")
    pruned = await prune_outbox(pool, keep_sent_s=0, keep_unsent_s=DAY_S)
    assert (pruned.rows, list(pruned.forgotten)) == (1, ["mqtt"])
    await append(pool, 2)
    cursors = (await hold_shares(pool, "mqtt", "back", 30)).cursors
    assert [one[-1] for one in await read(pool, dict(cursors))] == ["2"]


# --- nothing is ever skipped ----------------------------------------------------------------------

WRITERS = 8


async def _write(pool: Pool, writer: int, delays: Sequence[float]) -> None:
    """Transactions that take positions, dawdle, and then commit or now and then roll back."""
    for number, delay in enumerate(delays):
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            numbers = [writer * 10_000 + number * 10 + extra for extra in range(3)]
            await PostgresTransaction(connection).append([event(one, depot_id=f"depot-{writer % 3}") for one in numbers])
            await asyncio.sleep(delay)
            if delay > 0.0195:
                await transaction.rollback()
            else:
                await transaction.commit()


@pytest.mark.services
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
async def test_neither_a_follower_nor_a_relay_ever_skips_an_event_of_eight_writers_that_dawdle_before_they_commit(
    pool: Pool, seed: int
) -> None:
    chance = random.Random(seed)
    began = await pool.fetchval("SELECT coalesce(max(global_position), 0) FROM event_store")
    plans = [[chance.uniform(0, 0.02) for _ in range(8)] for _ in range(WRITERS)]
    # Examples share a database: what earlier ones wrote has other ids.
    await pool.execute("DELETE FROM event_outbox")
    writing = asyncio.gather(*(_write(pool, seed % 100_000 * 10 + writer, plan) for writer, plan in enumerate(plans)))
    at = START
    cursors = EVERYTHING
    followed: list[tuple[Position, str]] = []
    relayed: list[str] = []
    quiet = 0
    while quiet < 2:
        # Once more after the last commit, so that what a round missed has every chance to be seen.
        quiet += writing.done()
        async with pool.acquire() as connection:
            found = await follow(connection, at, limit=chance.randint(1, 40))
            page = await next_entries(connection, cursors, chance.randint(1, 40))
        at = found[-1].position if found else at
        followed += [(one.position, one.event.event_id) for one in found]
        relayed += [entry.event.event.event_id for entry in page.entries if entry.event is not None]
        cursors = dict.fromkeys(range(SHARES), page.end)
        if found or page.entries:
            quiet = 0
        await asyncio.sleep(chance.uniform(0, 0.003))
    await writing
    rows = await pool.fetch(
        "SELECT event_id::text AS event_id, global_position FROM event_store ORDER BY transaction_id, global_position"
    )
    assert [event_id for _, event_id in followed] == [row["event_id"] for row in rows]
    assert relayed == [row["event_id"] for row in rows if row["global_position"] > began]
