"""The relay as a process, with real brokers: what other programs receive, how it stops, what it refuses, what it says of itself."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.event_store.stores import event, letter
from tests.real_services.subscriber import KafkaSubscriber, MqttSubscriber
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from event_store.database import Pool, open_pool
from event_store.store import PostgresEventStore
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_process import free_port
from sensor_packet.topics import KAFKA_DEAD_LETTER_TOPIC, KAFKA_DOMAIN_EVENT_TOPIC


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    opened = await open_pool(database_url, "test")
    yield opened
    await opened.close()


def relay(folder: Path, database_url: str, **brokers: str) -> WorkerProcess:
    return WorkerProcess(folder, database_url, module="event_relay", **brokers)


async def test_other_programs_receive_events_and_dead_letters_over_both_brokers(
    database_url: str, pool: Pool, mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, service_folder: Path
) -> None:
    depot = service_folder.name
    servers = kafka.bootstrap_servers
    with (
        MqttSubscriber(mosquitto.port, f"microgrid/v1/{depot}/event/+") as mqtt,
        MqttSubscriber(mosquitto.port, "iot/v1/dead-letter/NO_SUCH_REASON") as mqtt_letters,
    ):
        async with (
            KafkaSubscriber(servers, KAFKA_DOMAIN_EVENT_TOPIC) as events,
            KafkaSubscriber(servers, KAFKA_DEAD_LETTER_TOPIC) as letters,
        ):
            with relay(service_folder, database_url, mqtt_url=mosquitto.url(), kafka=servers) as process:
                for number in range(10):
                    await PostgresEventStore(pool).append([event(number, depot_id=depot, payload={"number": number})])
                async with PostgresEventStore(pool).transaction() as transaction:
                    await transaction.put_dead_letters([letter(b"\xff raw", reason_code="NO_SUCH_REASON")])
                await until(lambda: len(mqtt.messages) >= 10 and len(events.messages) >= 10, "events", timeout_s=60)
                await until(lambda: mqtt_letters.messages and letters.messages, "dead letters", timeout_s=60)

                async def is_ready() -> bool:
                    return (await process.get("/readyz"))[0] == 200

                async def has_counted() -> bool:
                    _, metrics = await process.get("/metrics")
                    counts = re.findall(
                        r'^depotgrid_relay_published_total{broker="\w+",kind="event"} (\S+)$', metrics, re.MULTILINE
                    )
                    return len(counts) == 2 and min(map(float, counts)) >= 10

                await until(is_ready, "the relay is ready")
                await until(has_counted, "the events are counted for each broker")
                process.send(signal.SIGTERM)
                assert await process.exit_status() == 0, process.log()
    for received in (mqtt.messages, events.messages):
        # What comes again, as it may from a relay that could not renew its shares in time, has an id that was seen.
        numbers = {body["event_id"]: body["payload"]["number"] for body in (json.loads(message.body) for message in received)}
        assert list(numbers.values()) == list(range(10))
    assert {message.key for message in events.messages} == {depot.encode()}
    assert {message.body for message in mqtt_letters.messages + letters.messages} == {b"\xff raw"}


async def test_a_broker_that_is_away_makes_the_relay_unready_and_does_not_hold_up_the_other(
    database_url: str, pool: Pool, mosquitto: EmbeddedMosquitto, service_folder: Path
) -> None:
    depot = service_folder.name
    away = f"127.0.0.1:{free_port()}"
    with (
        MqttSubscriber(mosquitto.port, f"microgrid/v1/{depot}/event/+") as mqtt,
        relay(service_folder, database_url, mqtt_url=mosquitto.url(), kafka=away) as process,
    ):
        await PostgresEventStore(pool).append([event(1, depot_id=depot)])
        await until(lambda: mqtt.messages, "the broker that is there has the event", timeout_s=60)
        await until(lambda: _tells(process, f"Kafka at {away}"), "readiness tells the other one")
        process.send(signal.SIGTERM)
        assert await process.exit_status() == 0, process.log()
    waiting = await pool.fetchval("SELECT count(*) FROM event_outbox")
    assert waiting == 1


async def _tells(process: WorkerProcess, what: str) -> bool:
    status, body = await process.get("/readyz")
    return status == 503 and what in body


async def test_a_relay_without_any_broker_is_refused_with_what_to_set(database_url: str, service_folder: Path) -> None:
    with relay(service_folder, database_url) as process:
        assert await process.exit_status() == 2
    assert "depotgrid relay: DEPOTGRID_MQTT_URL: neither it nor DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS is set" in process.log()


async def test_a_relay_whose_broker_says_nothing_stops_in_time(database_url: str, service_folder: Path) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with relay(service_folder, database_url, mqtt_url=f"mqtt://127.0.0.1:{port}") as process:
            await process.says("shares held")
            process.send(signal.SIGTERM)
            assert await process.exit_status() == 0, process.log()
