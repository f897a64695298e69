"""A broker that goes away or is not there yet: the worker waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import FULL, RATE, Fault, MakeStack, Stack, came_back, full_only, kafka_load, mqtt_load, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.kafka_publisher import KafkaPublisher
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.waiting import until

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_BACK_S = 5.0
_KILLS = 5
_RATE = sized(RATE, 2_000)  # two loads at once in the full form's longest outages
_OUTAGES = [0, 5, 40, 120] if FULL else [0]


@pytest.mark.parametrize("gone_s", _OUTAGES)
async def test_no_packet_is_lost_when_a_broker_is_restarted_cleanly(
    stack: Stack, another_stack: MakeStack, own_mosquitto: EmbeddedMosquitto, own_kafka: EmbeddedKafka, note: Note, gone_s: int
) -> None:
    beside = await another_stack()
    own_kafka.start()
    await beside.begin_kafka(own_kafka.bootstrap_servers)
    workers = [stack.worker(mqtt_url=own_mosquitto.url()), beside.worker(kafka=own_kafka.bootstrap_servers)]
    await workers[0].consuming_mqtt()

    def outage(broker: EmbeddedMosquitto | EmbeddedKafka) -> Fault:
        async def restart() -> float:
            await asyncio.to_thread(broker.stop)
            await asyncio.sleep(gone_s)  # the outage itself, not a wait for anything
            await asyncio.to_thread(broker.start)
            return time.monotonic()

        return restart

    packets = stack.plan(sized(20_000, 60_000 + gone_s * _RATE))
    # Side by side: they have nothing but the database server in common, and take long.
    reports = await asyncio.gather(
        mqtt_load(stack, f"Mosquitto restarted, gone {gone_s} s", own_mosquitto.port, packets, outage(own_mosquitto), rate=_RATE),
        kafka_load(
            beside, f"Kafka restarted, gone {gone_s} s", own_kafka.bootstrap_servers, packets, outage(own_kafka), rate=_RATE
        ),
    )
    for report in list(map(note, reports)):
        assert report.flawless, report.row()
        assert came_back(report, _BACK_S), report.row()
    assert all(worker.running for worker in workers)


@full_only
async def test_what_mosquitto_loses_at_kill_9_is_reported(stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    packets = stack.plan(60_000)
    publisher = MqttPublisher(own_mosquitto.port, packets, rate=4_000).start()
    for _ in range(_KILLS):
        await stack.stores()
        own_mosquitto.kill9()
        await asyncio.to_thread(own_mosquitto.start)
    await publisher.finished(120)
    await _until_quiet(stack)
    report = note(
        await compare(stack.database_url, f"Mosquitto kill -9 ×{_KILLS} (its loss is its own)", packets, publisher.confirmed)
    )
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


@full_only
async def test_no_record_is_lost_when_kafka_is_killed(stack: Stack, own_kafka: EmbeddedKafka, note: Note) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    worker = stack.worker(kafka=own_kafka.bootstrap_servers)

    async def crash() -> float:
        for _ in range(_KILLS):
            own_kafka.kill9()
            await asyncio.to_thread(own_kafka.start)
            await stack.stores()
        return time.monotonic()

    name = f"Kafka kill -9 ×{_KILLS}"
    report = note(await kafka_load(stack, name, own_kafka.bootstrap_servers, stack.plan(400_000), crash))
    assert report.flawless, report.row()
    assert came_back(report, _BACK_S), report.row()
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
    async with asyncio.timeout(180):
        await publisher.run()
    await all_arrived(stack.database_url, publisher.confirmed)
    assert len(worker.entries("waiting for Kafka")) == 1

    async def ready() -> bool:
        return (await worker.get("/readyz"))[0] == 200

    await until(ready, "the worker is ready")
    report = note(await compare(stack.database_url, "Kafka absent at start", packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert "Traceback" not in worker.log()
