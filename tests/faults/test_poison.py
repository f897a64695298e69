"""Bad packets among good ones end in the dead letters, each once and under its code, and hold nothing up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import Stack, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.kafka_publisher import KafkaPublisher
from tests.real_services.packet_plan import Mixture
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import rows
from tests.real_services.waiting import until

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from sensor_packet.topics import KAFKA_PACKET_TOPIC

Note = Callable[[FaultReport], FaultReport]

_COUNT = sized(6_000, 20_000)
_HUGE = sized(1, 5)
_LARGEST_RECORD = 16 * 1024 * 1024
_LARGEST = "max.message.bytes"
_LARGEST_BY_DEFAULT = 1024 * 1024 + 12


@pytest.mark.parametrize(
    ("name", "mixture"),
    [
        pytest.param("1 % poison of 13 kinds and of 10 MB, MQTT", Mixture(poison=0.01, huge=_HUGE), id="poison"),
        pytest.param("10 % duplicates, 5 % late, MQTT", Mixture(duplicate=0.1, late=0.05), id="duplicates-and-late"),
    ],
)
async def test_every_packet_of_a_mixture_comes_to_what_it_must(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note, name: str, mixture: Mixture
) -> None:
    await stack.worker(mqtt_url=own_mosquitto.url()).consuming_mqtt()
    packets = stack.plan(_COUNT, mixture=mixture)
    publisher = MqttPublisher(own_mosquitto.port, packets).start()
    await publisher.finished()
    await all_arrived(stack.database_url, publisher.confirmed)
    report = note(await compare(stack.database_url, name, packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert report.dead_letters == sum(packet.code is not None for packet in packets)
    await _latest_is_the_latest_observed(stack)


async def test_poison_in_kafka_holds_up_no_neighbour(stack: Stack, kafka: EmbeddedKafka, note: Note) -> None:
    await stack.begin_kafka(kafka.bootstrap_servers)
    stack.worker(kafka=kafka.bootstrap_servers)
    # A gateway that speaks for others has no topic to do it on in Kafka; the rest is the same.
    packets = stack.plan(_COUNT, mixture=Mixture(poison=0.01, duplicate=0.1, huge=_HUGE))
    # Patient, since a copy that was sent again has a dead letter of its own.
    publisher = KafkaPublisher(kafka.bootstrap_servers, packets, largest=_LARGEST_RECORD, patience_s=90)
    async with _largest_record(kafka, _LARGEST_RECORD), asyncio.timeout(300):
        await publisher.run()
        await all_arrived(stack.database_url, publisher.confirmed, timeout_s=180)
    name = "1 % poison and of 10 MB, 10 % duplicates, Kafka"
    report = note(await compare(stack.database_url, name, packets, publisher.confirmed, letter_per_copy=True))
    assert report.flawless, report.row()
    assert report.dead_letters == sum(packet.code is not None for packet in packets)


async def test_a_record_that_the_topic_is_too_small_for_is_never_confirmed_and_holds_up_no_neighbour(
    stack: Stack, kafka: EmbeddedKafka
) -> None:
    await stack.begin_kafka(kafka.bootstrap_servers)
    worker = stack.worker(kafka=kafka.bootstrap_servers)
    small, (huge,) = stack.plan(100), stack.plan(1, seed=2, mixture=Mixture(huge=1))
    with pytest.raises(MessageSizeTooLargeError):
        await KafkaPublisher(kafka.bootstrap_servers, [huge], largest=_LARGEST_RECORD).send_once()
    publisher = KafkaPublisher(kafka.bootstrap_servers, small)
    async with asyncio.timeout(180):
        await publisher.run()
    await all_arrived(stack.database_url, publisher.confirmed)
    report = await compare(stack.database_url, "a record too large for its topic", small, publisher.confirmed)
    assert report.flawless, report.row()
    assert report.dead_letters == 0
    assert worker.running


@contextlib.asynccontextmanager
async def _largest_record(kafka: EmbeddedKafka, size_bytes: int) -> AsyncGenerator[None]:
    """Let the packet topic take records of this size meanwhile."""
    await _set_largest_record(kafka, size_bytes)
    try:
        yield
    finally:
        await _set_largest_record(kafka, _LARGEST_BY_DEFAULT)


async def _set_largest_record(kafka: EmbeddedKafka, size_bytes: int) -> None:
    """Return when the broker goes by it, which is some time after it was told."""
    await kafka.configure_topic(KAFKA_PACKET_TOPIC, {_LARGEST: str(size_bytes)})
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:

        async def is_known() -> bool:
            asked = ConfigResource(ConfigResourceType.TOPIC, KAFKA_PACKET_TOPIC, configs={_LARGEST: ""})
            (answer,) = await admin.describe_configs([asked])
            return any(entry[:2] == (_LARGEST, str(size_bytes)) for resource in answer.resources for entry in resource[4])

        await until(is_known, "the broker knows the topic's largest record")
    finally:
        await admin.close()


async def _latest_is_the_latest_observed(stack: Stack) -> None:
    """A late packet is in the history, and the latest value is still the one that was observed last."""
    found = await rows(
        stack.database_url,
        "SELECT count(*) FILTER (WHERE l.observed_at < m.newest) FROM (SELECT DISTINCT subject FROM event_store) s "
        "CROSS JOIN LATERAL (SELECT observed_at FROM event_store e WHERE e.subject = s.subject AND NOT history_only "
        "ORDER BY observed_at DESC, sent_at DESC, event_id DESC LIMIT 1) l "
        "CROSS JOIN LATERAL (SELECT max(observed_at) AS newest FROM event_store e WHERE e.subject = s.subject) m",
    )
    assert found[0][0] == 0
