"""A broker that goes away or is not there yet: the worker waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import FULL, Stack, full_only, kafka_load, mqtt_load, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.kafka_publisher import KafkaPublisher
from tests.real_services.packet_publisher import MqttPublisher

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_BACK_S = 5.0
_OUTAGES = [0, 5, 40, 120] if FULL else [0]


@pytest.mark.parametrize("gone_s", _OUTAGES)
async def test_no_packet_is_lost_when_mosquitto_is_restarted_cleanly(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note, gone_s: int
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()

    async def restart() -> float:
        await asyncio.to_thread(own_mosquitto.stop)
        await asyncio.sleep(gone_s)  # the outage itself, not a wait for anything
        await asyncio.to_thread(own_mosquitto.start)
        return time.monotonic()

    name = f"Mosquitto restarted, gone {gone_s} s"
    report = note(await mqtt_load(stack, name, own_mosquitto.port, stack.plan(sized(20_000, 60_000)), restart))
    assert report.flawless, report.row()
    assert report.recovered_s is not None
    assert report.recovered_s <= _BACK_S
    assert worker.running


@full_only
async def test_what_mosquitto_loses_at_kill_9_is_reported(stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    packets = stack.plan(60_000)
    publisher = MqttPublisher(own_mosquitto.port, packets, rate=4_000).start()
    for _ in range(5):
        await stack.stores()
        own_mosquitto.kill9()
        await asyncio.to_thread(own_mosquitto.start)
    await publisher.finished(120)
    await _until_quiet(stack)
    report = note(await compare(stack.database_url, "Mosquitto kill -9 ×5 (its loss is its own)", packets, publisher.confirmed))
    # What the broker forgets is not ours to promise, nor is the order of what it sends again; doubling is.
    assert replace(report, lost=0, inversions=0).flawless, report.row()
    assert worker.running


async def _until_quiet(stack: Stack) -> None:
    """Return when nothing more was stored for two seconds."""
    while True:
        try:
            async with asyncio.timeout(2):
                await stack.stores()
        except TimeoutError:
            return


@pytest.mark.parametrize("gone_s", [5, 40, 120] if FULL else [0])
async def test_no_record_is_lost_when_kafka_is_restarted_cleanly(
    stack: Stack, own_kafka: EmbeddedKafka, note: Note, gone_s: int
) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    worker = stack.worker(kafka=own_kafka.bootstrap_servers)

    async def restart() -> float:
        await asyncio.to_thread(own_kafka.stop)
        await asyncio.sleep(gone_s)  # the outage itself, not a wait for anything
        await asyncio.to_thread(own_kafka.start)
        return time.monotonic()

    name = f"Kafka restarted, gone {gone_s} s"
    report = note(await kafka_load(stack, name, own_kafka.bootstrap_servers, stack.plan(sized(20_000, 60_000)), restart))
    assert report.flawless, report.row()
    assert worker.running


@full_only
async def test_no_record_is_lost_when_kafka_is_killed(stack: Stack, own_kafka: EmbeddedKafka, note: Note) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    worker = stack.worker(kafka=own_kafka.bootstrap_servers)

    async def crash() -> float:
        own_kafka.kill9()
        await asyncio.to_thread(own_kafka.start)
        return time.monotonic()

    report = note(await kafka_load(stack, "Kafka kill -9", own_kafka.bootstrap_servers, stack.plan(60_000), crash))
    assert report.flawless, report.row()
    assert worker.running


async def test_a_worker_waits_for_mosquitto_and_says_so(stack: Stack, note: Note) -> None:
    broker = EmbeddedMosquitto(stack.folder / "late-mosquitto")
    worker = stack.worker(mqtt_url=broker.url())
    await worker.says("waiting for MQTT")
    status, reasons = await worker.get("/readyz")
    assert status == 503
    assert str(broker.port) in reasons
    with broker:
        await worker.consuming_mqtt()
        publisher = MqttPublisher(broker.port, packets := stack.plan(100)).start()
        await publisher.finished()
        await all_arrived(stack.database_url, publisher.confirmed)
    report = note(await compare(stack.database_url, "Mosquitto absent at start", packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert "Traceback" not in worker.log()


async def test_a_worker_waits_for_kafka_and_says_so(stack: Stack, own_kafka: EmbeddedKafka, note: Note) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    own_kafka.stop()
    worker = stack.worker(kafka=own_kafka.bootstrap_servers)
    await worker.says("waiting for Kafka")
    status, reasons = await worker.get("/readyz")
    assert status == 503
    assert own_kafka.bootstrap_servers in reasons
    await asyncio.to_thread(own_kafka.start)
    publisher = KafkaPublisher(own_kafka.bootstrap_servers, packets := stack.plan(100))
    async with asyncio.timeout(60):
        await publisher.run()
    await all_arrived(stack.database_url, publisher.confirmed)
    assert len(worker.entries("waiting for Kafka")) == 1
    assert (await worker.get("/readyz"))[0] == 200
    report = note(await compare(stack.database_url, "Kafka absent at start", packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert "Traceback" not in worker.log()
