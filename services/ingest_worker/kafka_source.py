"""Packets from Kafka: a FastStream batch subscriber whose offsets are committed after the batch is stored.

The handler never raises: FastStream would swallow the exception, and the next commit would pass over the failed batch. It waits
until the pipeline has stored every record of the batch, however long the database is away, and only then acknowledges. After a
rebalance the new owner may read records again that the old one is just storing; they are duplicates of stored events then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from ingest_worker.batching import Pipeline
from sensor_packet.topics import KAFKA_PACKET_TOPIC, kafka_claimed_identity
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import RawPacket

log = structlog.get_logger("ingest_worker.kafka")

_POLL_MS = 20
"""FastStream sleeps this long again after an empty poll, so it bounds the delay of a packet that comes out of silence."""
_LONGEST_DATABASE_OUTAGE_MS = 30 * 60 * 1000
"""How long a batch may wait for the database before the group gives its partitions to another worker."""
_GRACE_S = 4.0


class KafkaSource:
    """Feeds the pipeline from the packet topic. `broker` is what FastStream starts and stops."""

    name = "kafka"

    def __init__(
        self, bootstrap_servers: str, group_id: str, pipeline: Pipeline, clock: Callable[[], datetime], batch_max: int
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

    async def take(self, records: list[Any], message: KafkaMessage) -> None:
        """Hand a batch over, wait until it is stored, commit its offsets."""
        batch = _Batch(len(records))
        for record in records:
            self._pipeline.put(self, batch, self._raw(record))
        await batch.stored.wait()
        try:
            await message.ack()
        except KafkaError as fault:
            # The partitions went to another worker meanwhile, which reads these records again and finds them stored.
            log.warning("offsets not committed", reason=str(fault), records=len(records))

    def stored(self, tokens: Sequence[object]) -> None:
        """Records are stored; a batch whose last one is stored may be committed."""
        for token in tokens:
            if isinstance(token, _Batch):
                token.count_stored()

    def has_room(self) -> None:
        """Nothing to resume: the next batch is read when the one before is stored."""

    def _raw(self, record: ConsumerRecord[bytes, bytes]) -> RawPacket:
        headers = {name: value.decode("utf-8", "backslashreplace") for name, value in record.headers}
        trace = parse_traceparent(headers.get("traceparent"))
        key = record.key
        return RawPacket(
            body=record.value or b"",
            source=self.name,
            topic=record.topic,
            claimed=kafka_claimed_identity(key),
            received_at=self._clock(),
            key=key,
            partition=record.partition,
            offset=record.offset,
            headers=headers,
            trace_id=trace.trace_id if trace is not None else None,
        )


class _Batch:
    def __init__(self, records: int) -> None:
        self._left = records
        self.stored = asyncio.Event()

    def count_stored(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.stored.set()


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
