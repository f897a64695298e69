"""Records are read ahead within bounds, and an offset is committed only when everything before it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st
from tests.real_services.waiting import until

from ingest_worker.batching import Pipeline, Source
from ingest_worker.kafka_source import KafkaSource
from ingest_worker.partition_pauses import PartitionPauses
from ingest_worker.token_bucket import GatewayLimit
from site_operations.ingest import RawPacket

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)
PARTITIONS = [TopicPartition("packets", number) for number in range(2)]


class HeldPipeline:
    """Keeps what it is given until it is told to have stored the next so many of it."""

    def __init__(self) -> None:
        self.held: list[tuple[Source, object, RawPacket]] = []
        self.is_full = False
        self.stored: list[RawPacket] = []

    def put(self, source: Source, token: object, raw: RawPacket) -> None:
        self.held.append((source, token, raw))

    def note_full(self) -> None:
        pass

    def store(self, packets: int) -> None:
        done, self.held = self.held[:packets], self.held[packets:]
        self.stored += [raw for _, _, raw in done]
        if done:
            done[0][0].stored([token for _, token, _ in done])


class Consumer:
    """A consumer that owns partitions and remembers what was committed; it refuses as often as `faults` has something to raise."""

    def __init__(self) -> None:
        self.assigned = set(PARTITIONS)
        self.committed: dict[TopicPartition, int] = {}
        self.faults: list[Exception] = []
        self.paused: set[TopicPartition] = set()

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= set(partitions)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.faults:
            raise self.faults.pop()
        self.committed.update(offsets)


class Reading:
    """A source between a consumer and a pipeline, and the next offset of each partition."""

    def __init__(self, pauses: PartitionPauses | None = None) -> None:
        self.pipeline, self.consumer = HeldPipeline(), Consumer()
        self.source = KafkaSource("nowhere:9092", "group", cast("Pipeline", self.pipeline), lambda: NOW, 100, pauses)
        self._next = dict.fromkeys(PARTITIONS, 0)

    async def take(self, partitions: Sequence[int]) -> None:
        records: list[ConsumerRecord[bytes, bytes]] = []
        for partition in (PARTITIONS[number] for number in partitions):
            records.append(record(partition, self._next[partition]))
            self._next[partition] += 1
        message: Any = SimpleNamespace(consumer=self.consumer)
        await self.source.take(records, message)

    def stored_up_to(self, partition: TopicPartition) -> int:
        return sum(raw.partition == partition.partition for raw in self.pipeline.stored)


def record(partition: TopicPartition, offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=b"dev",
        value=b"{}",
        checksum=None,
        serialized_key_size=3,
        serialized_value_size=2,
        headers=(),
    )


@given(
    st.lists(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=6), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=30),
)
def test_what_is_committed_is_stored_and_in_the_end_all_is(batches: list[list[int]], stored: list[int]) -> None:
    async def play() -> None:
        reading = Reading()
        portions = iter(stored)
        for batch in batches:
            taking = asyncio.create_task(reading.take(batch))
            while not taking.done():
                await asyncio.sleep(0)
                reading.pipeline.store(next(portions, 1))
                await reading.source.commit()
                for partition, offset in reading.consumer.committed.items():
                    assert offset <= reading.stored_up_to(partition)
        reading.pipeline.store(100)
        await reading.source.commit()
        assert {p: reading.consumer.committed.get(p, 0) for p in PARTITIONS} == {p: reading.stored_up_to(p) for p in PARTITIONS}

    asyncio.run(play())


async def test_two_batches_wait_while_one_is_stored_and_no_more_are_read() -> None:
    reading = Reading()
    await reading.take([0])
    await reading.take([0])
    third = asyncio.create_task(reading.take([0]))
    await asyncio.sleep(0.01)
    assert not third.done()
    reading.pipeline.store(1)
    await asyncio.wait_for(third, 5)


async def test_no_more_is_read_while_the_pipeline_is_full() -> None:
    reading = Reading()
    reading.pipeline.is_full = True
    taking = asyncio.create_task(reading.take([0]))
    await asyncio.sleep(0.01)
    assert not taking.done()
    reading.pipeline.is_full = False
    reading.source.has_room()
    await asyncio.wait_for(taking, 5)


async def test_a_partition_that_went_to_another_worker_is_not_committed() -> None:
    reading = Reading()
    await reading.take([0, 1, 1])
    reading.consumer.assigned = {PARTITIONS[1]}
    reading.pipeline.store(3)
    assert await reading.source.commit()
    assert reading.consumer.committed == {PARTITIONS[1]: 2}


async def test_offsets_that_could_not_be_committed_are_committed_later() -> None:
    reading = Reading()
    reading.consumer.faults = [KafkaConnectionError()]
    committing = asyncio.create_task(reading.source.run())
    await reading.take([0, 1])
    reading.pipeline.store(2)
    await until(lambda: reading.consumer.committed == {PARTITIONS[0]: 1, PARTITIONS[1]: 1}, "both are committed")
    committing.cancel()


async def test_a_refused_commit_of_a_lost_partition_is_not_tried_again() -> None:
    reading = Reading()
    reading.consumer.faults = [CommitFailedError()]
    await reading.take([0])
    reading.pipeline.store(1)
    assert await reading.source.commit()
    await reading.source.commit()
    assert reading.consumer.committed == {}


@pytest.mark.parametrize("batches", [0, 3])
async def test_a_source_that_stops_takes_no_more_and_keeps_nobody_waiting(batches: int) -> None:
    reading = Reading()
    taking = [asyncio.create_task(reading.take([0])) for _ in range(batches)]
    await asyncio.sleep(0)
    reading.source.stop_taking()
    await asyncio.wait_for(asyncio.gather(*taking), 5)
    assert reading.consumer.paused == (reading.consumer.assigned if batches else set())
    await reading.take([1])
    assert len(reading.pipeline.held) == batches
    reading.pipeline.store(batches)
    assert await reading.source.commit()
    assert reading.consumer.committed == ({PARTITIONS[0]: batches} if batches else {})


async def test_a_partition_rests_while_a_gateway_in_it_is_above_its_limit_and_is_read_again() -> None:
    reading = Reading(PartitionPauses(GatewayLimit(20, 2), lambda _device: "gw"))
    await reading.take([0, 0, 0])
    assert reading.consumer.paused == {PARTITIONS[0]}
    assert reading.source.partitions_resting == 1
    await until(lambda: not reading.consumer.paused, "it is read again")
    assert reading.source.partitions_resting == 0


async def test_a_resting_partition_that_goes_to_another_worker_is_let_alone() -> None:
    reading = Reading(PartitionPauses(GatewayLimit(20, 2), lambda _device: "gw"))
    await reading.take([0, 0, 0])
    reading.consumer.assigned = {PARTITIONS[1]}
    await until(lambda: reading.source.partitions_resting == 0, "its rest is over")
    assert reading.consumer.paused == {PARTITIONS[0]}


async def test_a_partition_that_a_rebalance_woke_rests_again_with_its_next_batch() -> None:
    reading = Reading(PartitionPauses(GatewayLimit(0.1, 2), lambda _device: "gw"))
    await reading.take([0, 0, 0])
    reading.consumer.paused.clear()
    await reading.take([0])
    assert reading.consumer.paused == {PARTITIONS[0]}
    reading.source.stop_taking()
