"""A bridge that dies, and a Kafka that goes away under it: what was confirmed over MQTT is stored by the worker behind Kafka."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import RATE, Stack, came_back, full_only, mqtt_load, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.packet_plan import Mixture
from tests.real_services.packet_publisher import MqttPublisher

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_BACK_S = 5.0
_KAFKA_BACK_S = 15.0


async def test_nothing_is_lost_when_bridges_are_killed_and_their_standby_takes_over(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, note: Note
) -> None:
    deaths = sized(1, 10)
    await stack.begin_kafka(kafka.bootstrap_servers)
    stack.worker(kafka=kafka.bootstrap_servers)
    brokers = {"mqtt_url": own_mosquitto.url(), "kafka": kafka.bootstrap_servers}
    bridge = stack.worker(module="mqtt_bridge", **brokers)
    await bridge.consuming_mqtt()
    standby = stack.worker(module="mqtt_bridge", **brokers)

    async def die() -> float:
        nonlocal bridge, standby
        died = 0.0
        for _ in range(deaths):
            await standby.says("bridge up")
            await stack.stores()
            bridge.kill9()
            died = time.monotonic()
            await standby.consuming_mqtt()
            bridge, standby = standby, stack.worker(module="mqtt_bridge", **brokers)
        return died

    packets = stack.plan(sized(20_000, 200_000), mixture=Mixture(poison=0.002))
    name = f"bridge kill -9 ×{deaths}, with a standby"
    report = note(await mqtt_load(stack, name, own_mosquitto.port, packets, die, rate=sized(RATE, 2_000)))
    assert report.flawless, report.row()
    assert came_back(report, _BACK_S), report.row()


async def test_while_kafka_is_away_packets_wait_in_mosquitto_and_none_is_lost(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, own_kafka: EmbeddedKafka, note: Note
) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    stack.worker(kafka=own_kafka.bootstrap_servers)
    bridge = stack.worker(module="mqtt_bridge", mqtt_url=own_mosquitto.url(), kafka=own_kafka.bootstrap_servers)
    await bridge.consuming_mqtt()

    async def restart() -> float:
        own_kafka.kill9()
        await bridge.says("batch not taken")
        await asyncio.to_thread(own_kafka.start)
        return time.monotonic()

    packets = stack.plan(sized(12_000, 100_000))
    name = "Kafka kill -9 under a bridge"
    report = note(await mqtt_load(stack, name, own_mosquitto.port, packets, restart, rate=sized(RATE, 2_000)))
    assert report.flawless, report.row()
    assert came_back(report, _KAFKA_BACK_S), report.row()
    assert bridge.running


@full_only
async def test_a_bridge_whose_kafka_went_away_stops_in_time_and_the_next_one_forwards_what_was_left(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, own_kafka: EmbeddedKafka
) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    brokers = {"mqtt_url": own_mosquitto.url(), "kafka": own_kafka.bootstrap_servers}
    bridge = stack.worker(module="mqtt_bridge", **brokers)
    await bridge.consuming_mqtt()
    own_kafka.kill9()
    packets = stack.plan(200)
    publisher = MqttPublisher(own_mosquitto.port, packets).start()
    await publisher.finished()
    bridge.send(signal.SIGTERM)
    assert await bridge.exit_status() == 0, bridge.log()
    await asyncio.to_thread(own_kafka.start)
    stack.worker(module="mqtt_bridge", **brokers)
    stack.worker(kafka=own_kafka.bootstrap_servers)
    await all_arrived(stack.database_url, publisher.confirmed)
    report = await compare(stack.database_url, "stopped while Kafka is gone", packets, publisher.confirmed)
    assert report.flawless, report.row()
