"""A worker that is told to stop ends within 5 s, in order, whatever is missing at that moment."""

from __future__ import annotations

import signal

from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import Stack
from tests.real_services.comparison import all_arrived, compare
from tests.real_services.kafka_publisher import KafkaPublisher
from tests.real_services.packet_publisher import MqttPublisher

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from operator_cli.embedded_process import free_port


async def test_a_worker_stops_in_time_while_the_database_is_gone_and_loses_nothing(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    own_postgres.stop()
    publisher = MqttPublisher(own_mosquitto.port, packets := stack.plan(500)).start()
    await publisher.finished()
    await worker.says("batch not stored")
    worker.send(signal.SIGTERM)
    assert await worker.exit_status() == 0, worker.log()
    own_postgres.start()
    stack.worker(mqtt_url=own_mosquitto.url())
    await all_arrived(stack.database_url, publisher.confirmed)
    report = await compare(stack.database_url, "stopped while PostgreSQL is gone", packets, publisher.confirmed)
    assert report.flawless, report.row()


async def test_a_worker_that_waits_for_mosquitto_stops_in_time(stack: Stack) -> None:
    worker = stack.worker(mqtt_url=f"mqtt://127.0.0.1:{free_port()}")
    await worker.says("waiting for MQTT")
    worker.send(signal.SIGTERM)
    assert await worker.exit_status() == 0, worker.log()


async def test_a_worker_that_waits_for_kafka_stops_in_time(stack: Stack) -> None:
    worker = stack.worker(kafka=f"127.0.0.1:{free_port()}")
    await worker.says("waiting for Kafka")
    worker.send(signal.SIGTERM)
    assert await worker.exit_status() == 0, worker.log()


async def test_a_worker_whose_kafka_went_away_stops_in_time(stack: Stack, own_kafka: EmbeddedKafka) -> None:
    own_kafka.start()
    await stack.begin_kafka(own_kafka.bootstrap_servers)
    worker = stack.worker(kafka=own_kafka.bootstrap_servers)
    publisher = KafkaPublisher(own_kafka.bootstrap_servers, stack.plan(10))
    await publisher.run()
    await all_arrived(stack.database_url, publisher.confirmed)
    own_kafka.kill9()
    worker.send(signal.SIGTERM)
    await worker.exit_status()


async def test_a_standby_stops_in_time(stack: Stack, own_mosquitto: EmbeddedMosquitto) -> None:
    holder = stack.worker(mqtt_url=own_mosquitto.url())
    await holder.consuming_mqtt()
    standby = stack.worker(mqtt_url=own_mosquitto.url())
    await standby.says("configuration loaded")
    standby.send(signal.SIGTERM)
    assert await standby.exit_status() == 0, standby.log()
    assert holder.running
