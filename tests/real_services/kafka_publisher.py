"""Publishes numbered packets to Kafka, keyed by device, and counts what the broker confirmed (`acks=all`).

The producer is idempotent, so that its own retries neither double nor reorder. What could not be delivered in the end is sent again
by a new producer, in its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from tests.real_services.packet_plan import NumberedPacket
from tests.real_services.packet_publisher import SLOWLY

from sensor_packet.topics import KAFKA_PACKET_TOPIC

_Producer: Any = aiokafka.AIOKafkaProducer
_Consumer: Any = aiokafka.AIOKafkaConsumer
_Admin: Any = AIOKafkaAdminClient
_AT_ONCE = 200


class KafkaPublisher:
    """Publishes `packets` in their order, at most `rate` per second (None: as fast as it goes); `run` is the task that does it.

    `largest` is how many bytes a record may have before the producer itself refuses it. From the packet with index `slow_from` on,
    one with a rate goes slowly, until `hurry`. What the broker has not confirmed after `patience_s` is sent again, maybe a second
    time.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        packets: Sequence[NumberedPacket],
        *,
        rate: float | None = None,
        largest: int = 1024 * 1024,
        slow_from: int | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._packets = packets
        self._rate = rate
        self._largest = largest
        self._patience_s = patience_s
        self._confirmed = [False] * len(packets)
        self._begun = 0
        self._enough = False
        self._slow_from = len(packets) if slow_from is None else slow_from
        self._hurried = asyncio.Event()
        self.confirmed_count = 0

    @property
    def confirmed(self) -> list[NumberedPacket]:
        """What the broker took responsibility for, in the order of sending."""
        return [packet for packet, taken in zip(self._packets, self._confirmed, strict=True) if taken]

    @property
    def sent(self) -> Sequence[NumberedPacket]:
        """What was sent at least once."""
        return self._packets[: self._begun]

    def hurry(self) -> None:
        """Go slowly no more."""
        self._hurried.set()

    def begin_no_more(self) -> None:
        """Send nothing new. What was sent already is still sent again until it is confirmed, and `run` waits for that."""
        self._enough = True

    async def run(self) -> None:
        """Return when everything is confirmed."""
        while self.confirmed_count < self._wanted:
            try:
                await self._publish_unconfirmed()
            except (KafkaError, OSError):
                await asyncio.sleep(0.2)

    async def send_once(self) -> None:
        """Send everything and return when it is confirmed; raises what the broker or the producer say against it."""
        async with self._producing() as producer:
            for packet in self._packets:
                await producer.send_and_wait(KAFKA_PACKET_TOPIC, packet.body, key=packet.sender.device_id.encode())

    @contextlib.asynccontextmanager
    async def _producing(self) -> AsyncGenerator[Any]:
        producer = _Producer(
            bootstrap_servers=self._bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=int(self._patience_s * 1000),
            max_request_size=self._largest,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @property
    def _wanted(self) -> int:
        return self._begun if self._enough else len(self._packets)

    async def _publish_unconfirmed(self) -> None:
        async with self._producing() as producer:
            pending = [index for index, taken in enumerate(self._confirmed) if not taken]
            started = time.monotonic()
            for first in range(0, len(pending), _AT_ONCE):
                if pending[first] >= self._wanted:
                    break
                if self._rate is not None:
                    await asyncio.sleep(max(0.0, started + first / self._rate - time.monotonic()))
                    if pending[first] >= self._slow_from:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._hurried.wait(), _AT_ONCE / (self._rate * SLOWLY))
                for index in pending[first : first + _AT_ONCE]:
                    if index >= self._wanted:
                        break
                    self._begun = max(self._begun, index + 1)
                    packet = self._packets[index]
                    sent = await producer.send(KAFKA_PACKET_TOPIC, packet.body, key=packet.sender.device_id.encode())
                    sent.add_done_callback(functools.partial(self._note, index))
            await producer.flush()

    def _note(self, index: int, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.exception() is None and not self._confirmed[index]:
            self._confirmed[index] = True
            self.confirmed_count += 1


async def start_group_at_end(bootstrap_servers: str, group_id: str, partitions: int) -> None:
    """Make the packet topic where it is missing, and let a new consumer group begin behind everything in it."""
    admin = _Admin(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        with contextlib.suppress(TopicAlreadyExistsError):
            await admin.create_topics([NewTopic(KAFKA_PACKET_TOPIC, num_partitions=partitions, replication_factor=1)])
    finally:
        await admin.close()
    consumer = _Consumer(bootstrap_servers=bootstrap_servers, group_id=group_id, enable_auto_commit=False)
    await consumer.start()
    try:
        topic_partitions = [aiokafka.TopicPartition(KAFKA_PACKET_TOPIC, number) for number in range(partitions)]
        consumer.assign(topic_partitions)
        await consumer.commit(await consumer.end_offsets(topic_partitions))
    finally:
        await consumer.stop()
