"""Packets from Kafka: a FastStream batch subscriber whose offsets are committed after their records are stored.

A batch goes into the pipeline, and while it is prepared and stored the next ones are read, up to `_MOST_BATCHES` in hand: who
waited for each would leave the database idle while a batch is prepared, and the worker idle while it commits. So offsets are
committed by their numbers, for each partition the one after its last stored record: "all that was read", which is what a consumer
commits by itself, would pass over the batches in hand. Records of a partition are stored in the order of their offsets.

The handler never raises: FastStream would swallow the exception, and a later commit would pass over the failed batch. While the
database is away nothing is stored, so nothing more is read than the batches in hand, and nothing is committed. After a rebalance
the new owner may read records again that the old one is just storing; they are duplicates of stored events then.

Partitions in which a gateway is above its limit rest (`partition_pauses.py`): they are paused, so that what exceeds stays in Kafka
while others are read and the group goes on hearing from us. A rebalance lets all partitions be read again; the next batch from one
that should rest puts it back to rest, so that costs a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from ingest_worker.batching import Pipeline
from ingest_worker.partition_pauses import PartitionPauses
from sensor_packet.topics import KAFKA_BRIDGED_TOPIC_HEADER, KAFKA_PACKET_TOPIC, kafka_claimed_identity
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import RawPacket

log = structlog.get_logger("ingest_worker.kafka")

_POLL_MS = 20
"""FastStream sleeps this long again after an empty poll, so it bounds the delay of a packet that comes out of silence."""
_LONGEST_DATABASE_OUTAGE_MS = 30 * 60 * 1000
"""How long a batch may wait for the database before the group gives its partitions to another worker."""
_GRACE_S = 1.0
"""For the handler to return, which waits for nothing once the worker is stopping."""
_MOST_BATCHES = 3
"""In hand at once: one that is being stored, one that is prepared, and one that is just read."""
_COMMIT_RETRY_S = 0.5


class KafkaSource:
    """Feeds the pipeline from the packet topic. `broker` is what FastStream starts and stops."""

    name = "kafka"

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        pipeline: Pipeline,
        clock: Callable[[], datetime],
        batch_max: int,
        pauses: PartitionPauses | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self.bootstrap_servers = bootstrap_servers
        self.broker = KafkaBroker(
            bootstrap_servers.split(","),
            client_id="depotgrid-ingest",
            logger=None,
            graceful_timeout=_GRACE_S,
        )
        subscriber = self.broker.subscriber(
            KAFKA_PACKET_TOPIC,
            batch=True,
            group_id=group_id,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            max_records=batch_max,
            batch_timeout_ms=_POLL_MS,
            max_poll_interval_ms=_LONGEST_DATABASE_OUTAGE_MS,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            parser=_take_as_it_is,
            decoder=_do_not_decode,
            title="sensorPacket",
            description="Sensor packets, keyed by device id",
        )
        subscriber(self.take)
        self._batches = 0
        self._room = asyncio.Event()
        self._stopping = False
        self._consumer: Any = None
        self._to_commit: dict[TopicPartition, int] = {}
        self._commit_due = asyncio.Event()
        self._committing = asyncio.Lock()
        self._pauses = pauses
        self._resting: dict[TopicPartition, asyncio.TimerHandle] = {}

    async def take(self, records: list[Any], message: KafkaMessage) -> None:
        """Hand a batch over; return when there is room for another."""
        if self._stopping:
            return
        self._consumer = message.consumer
        self._batches += 1
        batch = _Batch(records)
        received_at = self._clock()
        raws = [self._raw(record, received_at) for record in records]
        for raw in raws:
            self._pipeline.put(self, batch, raw)
        if self._pauses is not None:
            self._let_rest(self._pauses, records, raws)
        while not self._stopping and (self._batches >= _MOST_BATCHES or self._pipeline.is_full):
            if self._pipeline.is_full:
                self._pipeline.note_full()
            self._room.clear()
            await self._room.wait()

    def stored(self, tokens: Sequence[object]) -> None:
        """Records are stored; the offsets of a batch whose last one is stored may be committed."""
        for token in tokens:
            if isinstance(token, _Batch) and token.is_stored_with_one_more():
                self._batches -= 1
                self._to_commit.update(token.next_offsets)
                self._commit_due.set()
        self._room.set()

    def has_room(self) -> None:
        """Read on after the pipeline was full."""
        self._room.set()

    async def run(self) -> None:
        """Commit offsets as they become due, until cancelled."""
        while True:
            await self._commit_due.wait()
            if not await self.commit():
                await asyncio.sleep(_COMMIT_RETRY_S)

    async def commit(self) -> bool:
        """Commit the offsets that are due; False if that failed and is to be tried again."""
        async with self._committing:
            self._commit_due.clear()
            offsets, self._to_commit = self._to_commit, {}
            # What went to another worker meanwhile is read again there, and found stored.
            assigned = self._consumer.assignment() if offsets else ()
            kept = {partition: offset for partition, offset in offsets.items() if partition in assigned}
            if not kept:
                return True
            try:
                await self._consumer.commit(kept)
            except (CommitFailedError, IllegalStateError) as fault:
                log.warning("offsets not committed, their partitions went to another worker", reason=str(fault))
            except KafkaError as fault:
                log.warning("offsets not committed, trying again", reason=str(fault))
                self._to_commit = {**kept, **self._to_commit}
                self._commit_due.set()
                return False
            return True

    @property
    def partitions_resting(self) -> int:
        """How many partitions are not read because a gateway in them is above its limit."""
        return len(self._resting)

    def _let_rest(
        self, pauses: PartitionPauses, records: Sequence[ConsumerRecord[bytes, bytes]], raws: Sequence[RawPacket]
    ) -> None:
        loop = asyncio.get_running_loop()
        came_from = [TopicPartition(record.topic, record.partition) for record in records]
        claimed = [raw.claimed for raw in raws]
        for partition, seconds in pauses.charge(zip(came_from, claimed, strict=True), loop.time()).items():
            if partition not in self._consumer.assignment():
                continue
            self._consumer.pause(partition)
            earlier = self._resting.pop(partition, None)
            if earlier is not None:
                earlier.cancel()
            self._resting[partition] = loop.call_later(seconds, self._read_again, partition)
            log.info("a gateway is above its limit, its partition rests", partition=partition.partition, for_s=round(seconds, 2))

    def _read_again(self, partition: TopicPartition) -> None:
        del self._resting[partition]
        if not self._stopping and partition in self._consumer.assignment():
            self._consumer.resume(partition)

    def stop_taking(self) -> None:
        """Take no more; what is in hand may still be stored and committed."""
        self._stopping = True
        self._room.set()
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())

    def _raw(self, record: ConsumerRecord[bytes, bytes], received_at: datetime) -> RawPacket:
        headers = {name: value.decode("utf-8", "backslashreplace") for name, value in record.headers} if record.headers else {}
        trace = parse_traceparent(headers.get("traceparent")) if headers else None
        key = record.key
        bridged_topic = headers.get(KAFKA_BRIDGED_TOPIC_HEADER)
        # A bridge may forward a packet twice. It is known by where it was published, not by where it came to lie in Kafka.
        is_bridged = bridged_topic is not None
        return RawPacket(
            body=record.value or b"",
            source=self.name,
            topic=record.topic if bridged_topic is None else bridged_topic,
            claimed=kafka_claimed_identity(key, bridged_topic),
            received_at=received_at,
            key=key,
            partition=None if is_bridged else record.partition,
            offset=None if is_bridged else record.offset,
            headers=headers,
            trace_id=trace.trace_id if trace is not None else None,
        )


class _Batch:
    def __init__(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        self._left = len(records)
        self.next_offsets = {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}

    def is_stored_with_one_more(self) -> bool:
        """Count one record as stored; whether it was the last."""
        self._left -= 1
        return self._left == 0


async def _take_as_it_is(records: tuple[ConsumerRecord[bytes, bytes], ...], original: Any) -> Any:
    """Let FastStream make its message of the records with their headers left out.

    Its own parser decodes headers strictly, and would lose the whole batch over one that is not UTF-8.
    """
    first = records[0]
    message = await original((_without_headers(first),))
    message.raw_message = records
    message.body = records
    return message


def _without_headers(record: ConsumerRecord[bytes, bytes]) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        timestamp_type=record.timestamp_type,
        key=None,
        value=b"",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=(),
    )


async def _do_not_decode(message: Any) -> Any:
    return list(message.raw_message)
