"""The pipeline acknowledges only what is stored, in order, in bounds, and holds on to a batch until it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import cast

import pytest
from prometheus_client import CollectorRegistry
from tests.real_services.waiting import until

from event_store.append import NOTHING_APPENDED
from ingest_worker.batching import Pipeline
from sensor_packet.packet import ClaimedIdentity
from service_runtime.metrics import IngestMetrics
from site_operations.ingest import Ingest, PreparedPacket, RawPacket, Stored

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)


class GatedIngest:
    """An ingest whose store takes a batch when it is let to: it waits for `gate`, and fails first as often as `failures` says."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.failures = 0
        self.closes_at: int | None = None
        """After so many packets it waits for the gate again."""
        self.prepared = 0
        self.assembled = 0
        self.tried: list[list[bytes]] = []
        self.stored: list[bytes] = []

    def prepare(self, raw: RawPacket) -> PreparedPacket:
        self.prepared += 1
        return PreparedPacket(raw, None, None, (), None, None)

    def assemble(self, batch: Sequence[PreparedPacket]) -> Callable[[], Awaitable[Stored]]:
        self.assembled += 1
        return partial(self.store, batch)

    async def store(self, batch: Sequence[PreparedPacket]) -> Stored:
        bodies = [prepared.raw.body for prepared in batch]
        self.tried.append(bodies)
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError("the database is away")
        self.stored.extend(bodies)
        if self.closes_at is not None and len(self.stored) >= self.closes_at:
            self.gate.clear()
        return Stored(((batch, {}, NOTHING_APPENDED),))


class RecordingSource:
    """A source that notes what it may acknowledge, and holds every acknowledgement against what is stored by then."""

    def __init__(self, name: str, ingest: GatedIngest) -> None:
        self.name = name
        self._ingest = ingest
        self.acknowledged: list[int] = []
        self.acknowledged_unstored: list[int] = []
        self.batches_tried_before: list[int] = []
        """How many batches the store had been handed at each acknowledgement."""
        self.room = 0

    def stored(self, tokens: Sequence[object]) -> None:
        numbers = [token for token in tokens if isinstance(token, int)]
        self.acknowledged += numbers
        self.batches_tried_before.append(len(self._ingest.tried))
        self.acknowledged_unstored += [number for number in numbers if body(number) not in self._ingest.stored]

    def has_room(self) -> None:
        self.room += 1


def body(number: int) -> bytes:
    return f"{number:06d}".encode()


class Bench:
    """A pipeline at work between a gated store and two sources."""

    def __init__(self, *, batch_max: int, max_packets: int, max_bytes: int) -> None:
        self.ingest = GatedIngest()
        self.pipeline = Pipeline(
            cast("Ingest", self.ingest),
            IngestMetrics(CollectorRegistry()),
            batch_max=batch_max,
            max_packets=max_packets,
            max_bytes=max_bytes,
        )
        self.source = RecordingSource("first", self.ingest)
        self.other = RecordingSource("second", self.ingest)
        self.pipeline.add_source(self.source)
        self.pipeline.add_source(self.other)
        self.running = asyncio.create_task(self.pipeline.run())

    def put(self, *numbers: int, source: RecordingSource | None = None) -> None:
        chosen = source or self.source
        for number in numbers:
            raw = RawPacket(body(number), chosen.name, "topic", ClaimedIdentity(None, None), NOW)
            self.pipeline.put(chosen, number, raw)

    async def trying(self, batches: int = 1) -> None:
        await until(lambda: len(self.ingest.tried) >= batches, f"{batches} batches handed to the store")

    async def idle(self) -> None:
        async with asyncio.timeout(10):
            await self.pipeline.wait_until_idle()

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def at_work(*, batch_max: int = 2000, max_packets: int = 50_000, max_bytes: int = 64 << 20) -> AsyncGenerator[Bench]:
    bench = Bench(batch_max=batch_max, max_packets=max_packets, max_bytes=max_bytes)
    try:
        yield bench
    finally:
        await bench.stop()


async def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    async with at_work() as bench:
        bench.put(*range(1000))
        await bench.trying()
        assert bench.source.acknowledged == []
        bench.ingest.gate.set()
        await bench.idle()
        assert bench.source.acknowledged == list(range(1000))
        assert bench.source.acknowledged_unstored == []


async def test_packets_are_stored_and_acknowledged_in_the_order_of_their_arrival() -> None:
    async with at_work(batch_max=7) as bench:
        bench.ingest.gate.set()
        for first in range(0, 500, 50):
            bench.put(*range(first, first + 50))
            await asyncio.sleep(0)
        await bench.idle()
        assert bench.source.acknowledged == list(range(500))
        assert bench.ingest.stored == [body(number) for number in range(500)]


async def test_a_batch_that_waits_goes_to_the_database_before_the_one_that_committed_is_finished_with() -> None:
    async with at_work(batch_max=10) as bench:
        bench.put(*range(10))
        await bench.trying()
        bench.put(*range(10, 20))
        await until(lambda: bench.ingest.prepared == 20, "the second batch prepared")
        bench.ingest.gate.set()
        await bench.idle()
        assert bench.source.batches_tried_before == [2, 2]


async def test_a_batch_that_is_full_is_made_ready_while_the_database_has_the_one_before() -> None:
    async with at_work(batch_max=10) as bench:
        bench.put(*range(10))
        await bench.trying()
        bench.put(*range(10, 25))
        await until(lambda: bench.ingest.assembled == 2, "the second batch made ready")
        assert len(bench.ingest.tried) == 1
        bench.ingest.gate.set()
        await bench.idle()
        assert [len(batch) for batch in bench.ingest.tried] == [10, 10, 5]
        assert bench.ingest.assembled == 3
        assert bench.source.acknowledged == list(range(25))


async def test_a_source_that_read_enough_goes_on_when_half_of_it_is_used_up() -> None:
    async with at_work(batch_max=10) as bench:
        bench.put(*range(10))
        await bench.trying()
        bench.put(*range(10, 20))
        await until(lambda: bench.ingest.prepared == 20, "the second batch prepared")
        bench.put(*range(20, 39))
        assert not bench.pipeline.has_enough
        bench.put(39)
        assert bench.pipeline.has_enough
        assert not bench.pipeline.is_full
        bench.pipeline.note_full()
        assert bench.source.room == 0
        bench.ingest.gate.set()
        await bench.idle()
        assert bench.source.room == 1
        assert not bench.pipeline.has_enough


async def test_a_source_that_read_enough_reads_on_while_the_database_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_worker.batching._PATIENCE_S", 0.01)
    async with at_work(batch_max=10, max_packets=200) as bench:
        bench.put(*range(50))
        await bench.trying()
        assert bench.pipeline.has_enough
        bench.pipeline.note_full()
        await until(lambda: bench.source.room == 1, "the source told to read on")
        assert not bench.pipeline.has_enough
        bench.put(*range(50, 200))
        assert bench.pipeline.has_enough
        bench.ingest.gate.set()
        await bench.idle()
        assert bench.source.acknowledged == list(range(200))


async def test_a_source_reads_on_each_time_that_the_database_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_worker.batching._PATIENCE_S", 0.01)
    async with at_work(batch_max=10, max_packets=200) as bench:
        bench.put(*range(150))
        await bench.trying()
        bench.pipeline.note_full()
        await asyncio.sleep(0.02)  # timers go off in their order: patience is lost by now
        assert bench.source.room == 0, "more than half of what it may hold is in hand"
        bench.ingest.closes_at = 60
        bench.ingest.gate.set()
        await until(lambda: bench.source.room == 1, "the source told to read on")
        assert len(bench.ingest.stored) == 60


async def test_a_source_that_read_enough_reads_on_while_the_database_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_worker.batching._PATIENCE_S", 3600)
    async with at_work(batch_max=10) as bench:
        bench.ingest.failures = 10**6
        bench.put(*range(50))
        await bench.trying()
        bench.pipeline.note_full()
        bench.ingest.gate.set()
        await until(lambda: bench.source.room == 1, "the source told to read on")
        assert not bench.pipeline.has_enough


async def test_each_source_gets_its_own_packets_back() -> None:
    async with at_work() as bench:
        for number in range(100):
            bench.put(number, source=bench.source if number % 3 else bench.other)
        bench.ingest.gate.set()
        await bench.idle()
        assert bench.source.acknowledged == [number for number in range(100) if number % 3]
        assert bench.other.acknowledged == [number for number in range(100) if not number % 3]


@pytest.mark.parametrize("batch_max", [1, 2, 99, 100, 101, 2000])
async def test_no_batch_is_larger_than_its_bound(batch_max: int) -> None:
    async with at_work(batch_max=batch_max) as bench:
        bench.ingest.gate.set()
        bench.put(*range(450))
        await bench.idle()
        assert max(len(batch) for batch in bench.ingest.tried) <= batch_max


async def test_what_arrives_while_a_batch_commits_is_the_next_batch() -> None:
    async with at_work() as bench:
        bench.put(0)
        await bench.trying()
        bench.put(*range(1, 301))
        for _ in range(50):
            await asyncio.sleep(0)  # the turns of the loop in which it prepares
        bench.ingest.gate.set()
        await bench.idle()
        assert [len(batch) for batch in bench.ingest.tried] == [1, 300]


async def test_a_batch_that_is_not_stored_is_tried_again_as_it_was_with_nothing_before_it() -> None:
    async with at_work() as bench:
        bench.ingest.failures = 3
        bench.ingest.gate.set()
        bench.put(1, 2, 3)
        await bench.trying()
        bench.put(4, 5)
        await bench.idle()
        assert bench.ingest.tried[:4] == [[body(1), body(2), body(3)]] * 4
        assert bench.source.acknowledged == [1, 2, 3, 4, 5]


async def test_a_pipeline_in_trouble_says_why_until_it_is_over() -> None:
    async with at_work() as bench:
        # Often enough that the trouble lasts longer than a look takes to come round.
        bench.ingest.failures = 4
        bench.ingest.gate.set()
        bench.put(1)
        await until(lambda: bench.pipeline.trouble == "the database is away", "it says why")
        assert bench.pipeline.unacknowledged_age_s() > 0
        await bench.idle()
        assert bench.pipeline.trouble is None
        assert bench.pipeline.unacknowledged_age_s() == 0


@pytest.mark.parametrize(
    ("max_packets", "max_bytes"),
    [pytest.param(10, 1 << 20, id="packets"), pytest.param(1000, 10 * len(body(0)), id="bytes")],
)
async def test_a_full_pipeline_says_so_and_calls_when_it_has_room_again(max_packets: int, max_bytes: int) -> None:
    async with at_work(max_packets=max_packets, max_bytes=max_bytes) as bench:
        bench.put(*range(9))
        assert not bench.pipeline.is_full
        bench.put(9)
        assert bench.pipeline.is_full
        bench.pipeline.note_full()
        await bench.trying()
        assert (bench.source.room, bench.other.room) == (0, 0)
        bench.ingest.gate.set()
        await bench.idle()
        assert not bench.pipeline.is_full
        assert (bench.source.room, bench.other.room) == (1, 1)


async def test_a_pipeline_that_was_never_full_calls_nobody() -> None:
    async with at_work(max_packets=10) as bench:
        bench.ingest.gate.set()
        bench.put(*range(9))
        await bench.idle()
        assert bench.source.room == 0


async def test_cancelling_leaves_what_is_in_hand_unacknowledged() -> None:
    async with at_work() as bench:
        bench.put(*range(10))
        await bench.trying()
        bench.put(*range(10, 20))
        await bench.stop()
        bench.ingest.gate.set()
        await asyncio.sleep(0)
        assert bench.source.acknowledged == []
        assert bench.ingest.stored == []


async def test_an_idle_pipeline_takes_a_packet_at_once() -> None:
    async with at_work() as bench:
        bench.ingest.gate.set()
        for number in range(5):
            bench.put(number)
            await bench.idle()
        assert [len(batch) for batch in bench.ingest.tried] == [1] * 5
