"""The Kafka that tests run against behaves as a cluster of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiokafka  # pyright: ignore[reportMissingTypeStubs] - aiokafka ships none
from deploy.dev.embedded_kafka import EmbeddedKafka

_Consumer: Any = aiokafka.AIOKafkaConsumer
_Producer: Any = aiokafka.AIOKafkaProducer


async def _send(broker: EmbeddedKafka, topic: str, value: bytes) -> None:
    producer = _Producer(bootstrap_servers=broker.bootstrap_servers, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=b"dev-1")
    finally:
        await producer.stop()


async def _first(broker: EmbeddedKafka, topic: str) -> bytes | None:
    consumer = _Consumer(topic, bootstrap_servers=broker.bootstrap_servers, group_id="first", auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            return (await consumer.getone()).value
    finally:
        await consumer.stop()


async def test_a_confirmed_record_outlives_a_killed_broker(service_folder: Path) -> None:
    with EmbeddedKafka(service_folder / "kafka") as broker:
        await broker.create_topic("packets", 3)
        await _send(broker, "packets", b"kept")
        broker.kill9()
        broker.start()
        assert await _first(broker, "packets") == b"kept"
