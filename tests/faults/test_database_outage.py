"""A database that goes away: nothing is acknowledged, nothing dead-lettered, and the worker goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import asyncpg
import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import MakeStack, SharedFault, Stack, came_back, full_only, kafka_load, mqtt_load, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import rows
from tests.real_services.waiting import until

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres

Note = Callable[[FaultReport], FaultReport]

_BACK_S = 5.0
_GONE_S = sized(3, 60)
_RATE = 2_000  # of each of two loads at once
_PACKETS = sized(12_000, 250_000)
_ONE_READ = 256 * 1024 // 320
"""Packets in the largest read of a socket."""


def _restart(server: EmbeddedPostgres) -> None:
    server.restart()


def _crash(server: EmbeddedPostgres) -> None:
    server.kill9()
    server.start()


def _cut_connections(server: EmbeddedPostgres) -> None:
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'depotgrid%'")


def _stay_away(server: EmbeddedPostgres) -> None:
    server.stop()
    time.sleep(_GONE_S)  # the outage itself, not a wait for anything
    server.start()


_FAULTS = [
    pytest.param(_restart, id="PostgreSQL restarted"),
    pytest.param(_crash, id="PostgreSQL kill -9"),
    pytest.param(_cut_connections, id="every connection killed"),
    pytest.param(_stay_away, id=f"PostgreSQL gone {_GONE_S} s"),
]


@pytest.mark.parametrize("fault", _FAULTS)
async def test_nothing_is_lost_when_the_database_goes_away(
    stack: Stack,
    another_stack: MakeStack,
    own_postgres: EmbeddedPostgres,
    own_mosquitto: EmbeddedMosquitto,
    kafka: EmbeddedKafka,
    note: Note,
    fault: Callable[[EmbeddedPostgres], None],
    request: pytest.FixtureRequest,
) -> None:
    beside = await another_stack()
    await beside.begin_kafka(kafka.bootstrap_servers)
    workers = [stack.worker(mqtt_url=own_mosquitto.url()), beside.worker(kafka=kafka.bootstrap_servers)]
    await workers[0].consuming_mqtt()

    async def break_and_mend() -> float:
        await asyncio.gather(stack.stores(), beside.stores())
        await asyncio.to_thread(fault, own_postgres)
        return time.monotonic()

    name, shared, packets = request.node.callspec.id, SharedFault(2, break_and_mend), stack.plan(_PACKETS)
    reports = await asyncio.gather(
        mqtt_load(stack, f"{name}, MQTT", own_mosquitto.port, packets, shared, rate=_RATE),
        kafka_load(beside, f"{name}, Kafka", kafka.bootstrap_servers, packets, shared, rate=_RATE),
    )
    for report in list(map(note, reports)):
        assert report.flawless, report.row()
        assert report.dead_letters == 0
        assert came_back(report, _BACK_S), report.row()
    assert all(worker.running for worker in workers)


async def test_what_arrives_while_the_database_is_gone_is_not_acknowledged(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    packets = stack.plan(500)
    own_postgres.stop()
    publisher = MqttPublisher(own_mosquitto.port, packets).start()
    await publisher.finished()
    await worker.says("batch not stored")

    async def not_ready() -> bool:
        status, body = await worker.get("/readyz")
        return status == 503 and "database" in body

    await until(not_ready, "the worker says that it is not ready")
    # Whatever it had acknowledged would be gone with it now.
    worker.kill9()
    own_postgres.start()
    await (worker := stack.worker(mqtt_url=own_mosquitto.url())).consuming_mqtt()
    await all_arrived(stack.database_url, publisher.confirmed)
    report = note(await compare(stack.database_url, "worker kill -9 while PostgreSQL is gone", packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert report.dead_letters == 0

    async def ready() -> bool:
        return (await worker.get("/readyz"))[0] == 200

    await until(ready, "the worker says that it is ready")


async def test_what_is_in_hand_stays_bounded_while_the_database_is_gone(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    bound, packets = 2_000, stack.plan(12_000)
    worker = stack.worker(mqtt_url=own_mosquitto.url(), in_hand_max_packets=bound)
    await worker.consuming_mqtt()
    own_postgres.stop()
    publisher = MqttPublisher(own_mosquitto.port, packets).start()
    await publisher.finished()
    await worker.says("batch not stored")

    async def in_hand() -> float:
        _, metrics = await worker.get("/metrics")
        return float(metrics.partition('depotgrid_in_flight_packets{source="mqtt"} ')[2].split()[0])

    async def full() -> bool:
        return await in_hand() >= bound

    await until(full, "the bound is reached")
    # What one read of the socket holds comes on top.
    assert await in_hand() <= bound + _ONE_READ
    own_postgres.start()
    await all_arrived(stack.database_url, publisher.confirmed)
    report = note(await compare(stack.database_url, "PostgreSQL gone, bound of packets in hand", packets, publisher.confirmed))
    assert report.flawless, report.row()


@full_only
async def test_a_backlog_that_takes_long_to_store_does_not_cost_the_connection(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    packets = stack.plan(20_000)
    first = stack.worker(mqtt_url=own_mosquitto.url())
    await first.consuming_mqtt()
    first.kill9()
    publisher = MqttPublisher(own_mosquitto.port, packets).start()
    await publisher.finished()
    connection = await asyncpg.connect(stack.database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE event_store IN SHARE MODE")
        worker = stack.worker(mqtt_url=own_mosquitto.url(), in_hand_max_packets=2_000)
        await worker.says("consuming MQTT")
        await asyncio.sleep(15)  # longer than the worker waits for an answer of a silent broker
        await transaction.rollback()
    finally:
        await connection.close()
    await all_arrived(stack.database_url, publisher.confirmed)
    report = note(await compare(stack.database_url, "backlog stuck for 15 s", packets, publisher.confirmed))
    assert report.flawless, report.row()
    assert worker.entries("waiting for MQTT") == []
    await worker.consuming_mqtt(timeout_s=5)


async def test_changes_of_the_configuration_are_followed_again_after_an_outage(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    await asyncio.to_thread(_restart, own_postgres)
    await rows(stack.database_url, "UPDATE device SET enabled = false")
    packets = stack.plan(2_000, seed=5)

    async def refused() -> bool:
        packet = packets.pop()
        await MqttPublisher(own_mosquitto.port, [packet]).start().finished()
        return bool(await rows(stack.database_url, "SELECT FROM dead_letter WHERE reason_code = 'DEVICE_DISABLED'"))

    await until(refused, "the change is in effect", timeout_s=60)
