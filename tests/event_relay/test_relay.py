"""The relay to one broker, against a real database: order, faults of the broker, losing shares, taking them over, leaving."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.event_store.stores import event, letter
from tests.real_services.waiting import until

from broker_sessions.outgoing import NotPublishedError, Outgoing
from event_relay.relay import BrokerRelay
from event_store.database import Connection, Pool, open_pool
from event_store.outbox import OutboxPage, OutboxPosition, advance, hold_shares, next_entries, release_shares
from event_store.store import PostgresEventStore
from service_runtime.metrics import RelayMetrics

DEPOTS = 6


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    opened = await open_pool(database_url, "test", max_size=12)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - it is for every test
    """Nobody loses shares because the machine is busy."""
    monkeypatch.setattr("event_relay.relay.SHARE_TTL_S", 60.0)


class Broker:
    """What relays publish to: keeps everything in the order of its arrival. `fault` may cut a batch short."""

    def __init__(self) -> None:
        self.arrived: list[Outgoing] = []
        self.fault: Callable[[Sequence[Outgoing]], tuple[int, int] | None] = lambda _: None
        """Gives for a batch how many arrive and how many of these are confirmed; None for all."""
        self.away = False
        self.going_on: asyncio.Event | None = None
        """While set, and not yet happened, batches stay on their way."""
        self.on_its_way = 0
        """How many batches that is."""

    def numbers(self) -> dict[str, list[int]]:
        """Numbers by depot, each as it was seen for the first time."""
        seen: dict[str, list[int]] = {}
        ids: set[bytes] = set()
        for message in self.arrived:
            identity = dict(message.headers)["ce_id"]
            if identity not in ids and message.key is not None:
                ids.add(identity)
                seen.setdefault(message.key.decode(), []).append(json.loads(message.body)["payload"]["number"])
        return seen


class FakePublisher:
    """A connection to the broker above. One that `lingers` delivers what was on its way also after it was given up."""

    def __init__(self, broker: Broker, *, lingers: bool = False) -> None:
        self._broker = broker
        self._lingers = lingers
        self.late: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        if self._broker.away:
            raise NotPublishedError(0, "away")

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        await self.open()
        self.late.append(delivery := asyncio.create_task(self._deliver(messages)))
        await (asyncio.shield(delivery) if self._lingers else delivery)

    async def _deliver(self, messages: Sequence[Outgoing]) -> None:
        if self._broker.going_on is not None:
            self._broker.on_its_way += 1
            await self._broker.going_on.wait()
        for message in messages if (fault := self._broker.fault(messages)) is None else messages[: fault[0]]:
            self._broker.arrived.append(message)
            await asyncio.sleep(0)
        if fault is not None:
            raise NotPublishedError(fault[1], "cut short")

    async def close(self) -> None:
        return


def relay_on(
    pool: Pool, broker: Broker, name: str, registry: CollectorRegistry | None = None, publisher: FakePublisher | None = None
) -> BrokerRelay:
    metrics = RelayMetrics(registry or CollectorRegistry())
    return BrokerRelay("kafka", publisher or FakePublisher(broker), pool, name, metrics, lambda: datetime.now(UTC))


@asynccontextmanager
async def running(*relays: BrokerRelay) -> AsyncGenerator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def append(pool: Pool, first: int, count: int, *told: BrokerRelay) -> None:
    """Numbered events of every depot, in transactions of a few each, of each of which some relays are told."""
    for number in range(first, first + count):
        events = [event(depot * 100_000 + number, depot_id=f"depot-{depot}", payload={"number": number}) for depot in range(DEPOTS)]
        await PostgresEventStore(pool).append(events)
        for relay in told:
            relay.wake()


def complete(broker: Broker, count: int) -> bool:
    return all(len(broker.numbers().get(f"depot-{depot}", ())) >= count for depot in range(DEPOTS))


def in_order(broker: Broker, count: int) -> bool:
    return broker.numbers() == {f"depot-{depot}": list(range(count)) for depot in range(DEPOTS)}


async def test_everything_is_published_once_and_in_order_what_waited_and_what_comes(pool: Pool) -> None:
    broker = Broker()
    await append(pool, 0, 20)
    relay = relay_on(pool, broker, "one")
    async with running(relay):
        await until(lambda: complete(broker, 20), "what waited is published")
        await append(pool, 20, 5, relay)
        await until(lambda: complete(broker, 25), "what comes is published")
    assert in_order(broker, 25)
    assert len(broker.arrived) == 25 * DEPOTS


async def test_dead_letters_are_published_too_each_attempt_under_an_id_of_its_own(pool: Pool) -> None:
    broker = Broker()
    async with running(relay_on(pool, broker, "one")):
        for attempt in (1, 2):
            async with PostgresEventStore(pool).transaction() as transaction:
                await transaction.put_dead_letters([letter()])
            await until(lambda wanted=attempt: len(broker.arrived) >= wanted, "the letter is published")
    assert [dict(message.headers)["ce_id"].decode() for message in broker.arrived] == [
        f"{letter().dead_letter_id}.1",
        f"{letter().dead_letter_id}.2",
    ]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[OutboxPage]:
    """What relays have read of the outbox; none of them looks again by itself where there is nothing that it waits for."""
    pages: list[OutboxPage] = []

    async def look(connection: Connection, cursors: Mapping[int, OutboxPosition], limit: int) -> OutboxPage:
        pages.append(await next_entries(connection, cursors, limit))
        return pages[-1]

    monkeypatch.setattr("event_relay.relay.next_entries", look)
    monkeypatch.setattr("event_relay.relay._LONGEST_POLL_S", 3600)
    return pages


async def test_a_relay_looks_once_for_each_append_that_it_is_told_of(pool: Pool, looks: list[OutboxPage]) -> None:
    broker = Broker()
    relay = relay_on(pool, broker, "one")
    async with running(relay):
        for number in range(20):
            await append(pool, number, 1, relay)
            await until(lambda wanted=number + 1: complete(broker, wanted), "the append is published")
    # Another look is for what could not be given yet, such as where the shares were just being renewed.
    assert sum(not before.more for before, _ in pairwise(looks)) <= 20


async def test_what_waits_for_an_older_transaction_is_published_after_its_end_though_nobody_tells_of_that(
    pool: Pool, looks: list[OutboxPage]
) -> None:
    broker = Broker()
    relay = relay_on(pool, broker, "one")
    async with running(relay), pool.acquire() as slow:
        older = slow.transaction()
        await older.start()
        await slow.execute("SELECT pg_current_xact_id()")
        await append(pool, 0, 1, relay)
        await until(lambda: sum(page.more for page in looks) > 2, "it has looked for it")
        assert broker.arrived == []
        await older.rollback()
        await until(lambda: complete(broker, 1), "the event is published")


async def test_a_broker_that_cuts_batches_short_gets_everything_in_order_in_the_end(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_relay.relay._LONGEST_BACKOFF_S", 0.1)
    broker = Broker()
    chance = random.Random(7)
    cuts = 6

    def cut(messages: Sequence[Outgoing]) -> tuple[int, int] | None:
        nonlocal cuts
        cuts -= 1
        if cuts < 0:
            return None
        arrived = chance.randint(0, len(messages))
        return arrived, chance.randint(0, arrived)

    broker.fault = cut
    await append(pool, 0, 30)
    async with running(relay_on(pool, broker, "one")):
        await until(lambda: complete(broker, 30), "everything is published", timeout_s=30)
    assert in_order(broker, 30)


async def test_while_the_broker_is_away_events_wait_the_lag_grows_and_the_reason_is_told(pool: Pool) -> None:
    broker = Broker()
    broker.away = True
    registry = CollectorRegistry()
    relay = relay_on(pool, broker, "one", registry)
    async with running(relay):
        await append(pool, 0, 3)
        await until(lambda: relay.lag_s() > 0.2 and relay.trouble == "away", "the lag grows and the reason is told")
        assert 'depotgrid_relay_shares{broker="kafka"} 8.0' in generate_latest(registry).decode()
        broker.away = False
        await until(lambda: complete(broker, 3), "what waited is published")
        await until(lambda: relay.lag_s() == 0 and relay.trouble is None, "all is well again")
    assert in_order(broker, 3)
    assert 'depotgrid_relay_published_total{broker="kafka",kind="event"} 18.0' in generate_latest(registry).decode()


async def test_two_relays_share_the_streams_and_one_that_stops_leaves_them_to_the_other_at_once(pool: Pool) -> None:
    broker = Broker()
    first, second = relay_on(pool, broker, "first"), relay_on(pool, broker, "second")

    async def holders() -> dict[str, int]:
        rows = await pool.fetch("SELECT holder, count(*) AS shares FROM relay_share WHERE holder IS NOT NULL GROUP BY holder")
        return {row["holder"]: row["shares"] for row in rows}

    async def shared() -> bool:
        return await holders() == {"first": 4, "second": 4}

    async with running(first, second) as tasks:
        await until(shared, "each has half of the shares")
        writing = asyncio.create_task(append(pool, 0, 60, first, second))
        await until(lambda: len(broker.arrived) > 10 * DEPOTS, "both publish")
        first.stop()
        await tasks[0]
        await writing
        await until(lambda: complete(broker, 60), "the other publishes everything")

        async def all_with_the_other() -> bool:
            return await holders() == {"second": 8}

        await until(all_with_the_other, "the other has all shares")
    assert in_order(broker, 60)
    assert len(broker.arrived) == 60 * DEPOTS


async def test_what_a_former_holder_still_had_on_its_way_repeats_at_most_and_breaks_no_order(pool: Pool) -> None:
    broker = Broker()
    await append(pool, 0, 10)
    broker.going_on = still_on_its_way = asyncio.Event()
    connection = FakePublisher(broker, lingers=True)
    late, prompt = relay_on(pool, broker, "late", publisher=connection), relay_on(pool, broker, "prompt")
    async with running(late):
        await until(lambda: broker.on_its_way, "the first relay has a batch on its way")
        await pool.execute("UPDATE relay_share SET holder = 'prompt', held_until = now() + interval '1 minute'")
        broker.going_on = None
        async with running(prompt):
            await until(lambda: len(broker.arrived) > 5 * DEPOTS, "the other relay publishes")
            still_on_its_way.set()
            await append(pool, 10, 10, prompt)
            await until(lambda: complete(broker, 20), "everything is published")
            await until(lambda: all(delivery.done() for delivery in connection.late), "also what came late")
    assert in_order(broker, 20)
    assert len(broker.arrived) > 20 * DEPOTS


async def test_a_relay_that_loses_its_shares_gives_up_what_is_on_its_way(pool: Pool) -> None:
    broker = Broker()
    await append(pool, 0, 1)
    broker.going_on = asyncio.Event()
    relay = relay_on(pool, broker, "one")
    async with running(relay):
        await until(lambda: broker.on_its_way, "a batch is on its way")
        await pool.execute("UPDATE relay_share SET holder = 'other', held_until = now() + interval '1 hour'")
        await until(lambda: relay.lag_s() == 0, "it notices")
        broker.going_on.set()
    assert broker.arrived == []
    cursors = await pool.fetch("SELECT DISTINCT transaction_id::text FROM relay_share")
    assert [row[0] for row in cursors] == ["0"]


async def test_while_the_database_does_not_answer_a_relay_stops_publishing_before_its_time_runs_out(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Much sooner, so that there is time to look.
    monkeypatch.setattr("event_relay.relay.SHARE_TTL_S", 12.0)
    monkeypatch.setattr("event_relay.relay._MARGIN_S", 10.0)
    broker = Broker()
    registry = CollectorRegistry()
    relay = relay_on(pool, broker, "one", registry)
    async with running(relay):
        await until(lambda: b'shares{broker="kafka"} 8.0' in generate_latest(registry), "it holds the shares")

        async def silence(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr("event_relay.relay.hold_shares", silence)
        broker.going_on = asyncio.Event()
        await append(pool, 0, 1, relay)
        await until(lambda: broker.on_its_way, "a batch is on its way")
        await until(lambda: relay.trouble is not None and relay.lag_s() == 0, "it gives up")
        held = await pool.fetchval("SELECT bool_and(held_until > clock_timestamp()) FROM relay_share")
        assert held, "sooner than anyone else may publish"
        broker.going_on.set()
    assert broker.arrived == []


async def test_cursors_follow_also_where_there_is_nothing_for_a_share_so_that_the_outbox_can_be_pruned(pool: Pool) -> None:
    broker = Broker()
    await PostgresEventStore(pool).append([event(1, depot_id="depot-0", payload={"number": 0})])
    async with running(relay_on(pool, broker, "one")):

        async def behind() -> int:
            return await pool.fetchval(
                "SELECT count(*) FROM relay_share r WHERE (r.transaction_id, r.outbox_position) < "
                "(SELECT o.transaction_id, o.outbox_position FROM event_outbox o)"
            )

        await until(lambda: len(broker.arrived) == 1, "the event is published")

        async def all_moved() -> bool:
            return await behind() == 0

        await until(all_moved, "every cursor is behind it")


async def test_a_cursor_that_another_relay_moved_on_is_where_we_begin(pool: Pool) -> None:
    broker = Broker()
    await append(pool, 0, 3)
    await hold_shares(pool, "kafka", "before", 30)
    last = await pool.fetchrow(
        "SELECT transaction_id::text::bigint AS t, outbox_position AS p FROM event_outbox ORDER BY transaction_id DESC, "
        "outbox_position DESC LIMIT 1"
    )
    assert last is not None
    await advance(pool, "kafka", "before", range(8), OutboxPosition(last["t"], last["p"]))
    await release_shares(pool, "kafka", "before")
    await append(pool, 3, 1)
    async with running(relay_on(pool, broker, "after")):
        await until(lambda: len(broker.arrived) >= DEPOTS, "what is new is published")
    assert broker.numbers() == {f"depot-{depot}": [3] for depot in range(DEPOTS)}
