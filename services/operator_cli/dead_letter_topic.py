"""Read the Kafka dead-letter topic from its beginning to where it ends now, as no member of any group."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from event_store.dead_letters import DeadLetter, DeadLetterFilter
from operator_cli.places import CommandFault
from sensor_packet.topics import KAFKA_DEAD_LETTER_TOPIC
from site_operations.replay_topic import letter_of_record

_POLL_MS = 1_000
_AT_ONCE = 500
_REQUEST_MS = 10_000


async def letters_of_topic(bootstrap_servers: str, wanted: DeadLetterFilter) -> AsyncGenerator[DeadLetter]:
    """The letters of the topic that are meant, in the order of each partition, a letter once for each attempt.

    What is no letter of ours is passed over. Raises `CommandFault` where Kafka or the topic is not to be had.
    """
    await _require_topic(bootstrap_servers)
    consumer: Any = AIOKafkaConsumer(
        KAFKA_DEAD_LETTER_TOPIC,
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_REQUEST_MS,
    )
    try:
        await consumer.start()
        partitions: list[TopicPartition] = sorted(consumer.assignment())
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            found = await consumer.getmany(*partitions, timeout_ms=_POLL_MS, max_records=_AT_ONCE)
            for partition in partitions:
                for record in found.get(partition, ()):
                    letter = _letter(record) if record.offset < ends[partition] else None
                    if letter is not None and wanted.matches(letter):
                        yield letter
    except (KafkaError, OSError) as fault:
        raise CommandFault(f"Kafka at {bootstrap_servers} can not be read: {fault}; check that it is up") from fault
    finally:
        with suppress(KafkaError, OSError):
            await consumer.stop()


async def _require_topic(bootstrap_servers: str) -> None:
    """Asking for a topic that is not there might make it."""
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=_REQUEST_MS)
    try:
        await admin.start()
        topics: list[str] = await admin.list_topics()
    except (KafkaError, OSError) as fault:
        raise CommandFault(f"Kafka at {bootstrap_servers} can not be read: {fault}; check that it is up") from fault
    finally:
        with suppress(KafkaError, OSError):
            await admin.close()
    if KAFKA_DEAD_LETTER_TOPIC not in topics:
        raise CommandFault(f"Kafka at {bootstrap_servers} has no topic {KAFKA_DEAD_LETTER_TOPIC}: is a relay publishing to it?")


def _letter(record: Any) -> DeadLetter | None:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    return letter_of_record(record.key, record.value or b"", headers)
