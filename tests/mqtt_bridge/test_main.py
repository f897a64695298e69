"""The bridge as a process between real brokers, with a worker behind it: whoever spoofs another gateway over MQTT stays refused."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.dev.embedded_kafka import EmbeddedKafka
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.real_services.kafka_publisher import start_group_at_end
from tests.real_services.packet_plan import NumberedPacket, Sender, plan_packets
from tests.real_services.sites import DEPOT_ID, rows, seed_fleet
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_process import free_port

_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def publish(port: int, packet: NumberedPacket, topic_of: Sender | None = None, **properties: str) -> None:
    """Publish one packet on the topic of its sender, or of another, and wait until the broker has it."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sender = topic_of or packet.sender
    users = Properties(PacketTypes.PUBLISH)
    users.UserProperty = list(properties.items())
    client.publish(f"iot/v1/{sender.gateway_id}/{sender.device_id}/packet", packet.body, 1, properties=users).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


async def test_what_crosses_the_bridge_is_held_to_the_topic_it_was_published_on(
    database_url: str, mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, service_folder: Path
) -> None:
    own, other = (await seed_fleet(database_url, 2, gateways=2))[:2]
    group, session = f"bridge-{service_folder.name}", f"bridge-{service_folder.name}"
    await start_group_at_end(kafka.bootstrap_servers, group, 4)
    bridge = WorkerProcess(
        service_folder,
        database_url,
        module="mqtt_bridge",
        mqtt_url=mosquitto.url(),
        kafka=kafka.bootstrap_servers,
        mqtt_client_id=session,
    )
    worker = WorkerProcess(service_folder, database_url, kafka=kafka.bootstrap_servers, kafka_group_id=group)
    with bridge, worker:
        await bridge.consuming_mqtt()
        honest, as_other, *_ = plan_packets([own], 3, datetime.now(UTC))
        theft = plan_packets([other], 1, datetime.now(UTC), run="theft")[0]
        publish(mosquitto.port, honest, traceparent=f"00-{_TRACE_ID}-00f067aa0ba902b7-01")
        # The gateway may publish under its own name only; it says to be the other one, whose device that is.
        publish(mosquitto.port, theft, topic_of=Sender(own.gateway_id, other.device_id))
        forged = f"iot/v1/{other.gateway_id}/{other.device_id}/packet"
        publish(mosquitto.port, theft, Sender(own.gateway_id, other.device_id), **{"depotgrid-mqtt-topic": forged})
        publish(mosquitto.port, replace(as_other, body=b"x" * 100_000))

        async def settled() -> bool:
            found = await rows(database_url, "SELECT (SELECT count(*) FROM event_store), (SELECT sum(attempts) FROM dead_letter)")
            return (found[0][0], found[0][1]) == (1, 3)

        await until(settled, "everything is stored or refused", timeout_s=60)

        async def is_ready() -> bool:
            return (await bridge.get("/readyz"))[0] == 200

        await until(is_ready, "the bridge is ready")
        for process in (bridge, worker):
            process.send(signal.SIGTERM)
            assert await process.exit_status() == 0, process.log()
    (event,) = await rows(database_url, "SELECT source_event_ref, metadata FROM event_store")
    assert (event["source_event_ref"], json.loads(event["metadata"])["trace_id"]) == (honest.packet_id, _TRACE_ID)
    letters = await rows(
        database_url,
        "SELECT reason_code, source, gateway_id, device_id, depot_id, body_length, attempts FROM dead_letter ORDER BY reason_code",
    )
    spoofed = ("IDENTITY_MISMATCH", "kafka", own.gateway_id, other.device_id, DEPOT_ID)
    too_large = ("PACKET_TOO_LARGE", "mqtt", own.gateway_id, own.device_id, DEPOT_ID)
    # The same bytes on the same topic, twice: one letter.
    assert [tuple(letter)[:5] for letter in letters] == [spoofed, too_large]
    assert (letters[0]["attempts"], letters[-1]["body_length"]) == (2, 100_000)


async def test_a_bridge_takes_nothing_while_kafka_is_away_says_so_and_stops_in_time(
    database_url: str, mosquitto: EmbeddedMosquitto, service_folder: Path
) -> None:
    away = f"127.0.0.1:{free_port()}"
    with WorkerProcess(
        service_folder, database_url, module="mqtt_bridge", mqtt_url=mosquitto.url(), kafka=away, mqtt_client_id="bridge-waits"
    ) as bridge:
        await bridge.says("waiting for Kafka")

        async def tells() -> bool:
            status, body = await bridge.get("/readyz")
            return status == 503 and f"Kafka at {away}" in body

        await until(tells, "readiness tells what it waits for")
        assert not bridge.entries("consuming MQTT")
        bridge.send(signal.SIGTERM)
        assert await bridge.exit_status() == 0, bridge.log()


async def test_a_bridge_without_one_of_its_brokers_is_refused(database_url: str, service_folder: Path) -> None:
    with WorkerProcess(service_folder, database_url, module="mqtt_bridge", mqtt_url="mqtt://127.0.0.1:1") as bridge:
        assert await bridge.exit_status() == 2
    assert "depotgrid bridge: DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS: is not set" in bridge.log()


async def test_a_bridge_leaves_the_session_to_a_worker_while_a_gateway_waits_on_its_detour(
    database_url: str, mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, service_folder: Path
) -> None:
    session = f"bridge-{service_folder.name}"
    await rows(
        database_url,
        "INSERT INTO waiting_gateway (lease_name, gateway_id, holder, reserved_place) VALUES ($1, 'gw-0', 'a worker', 0)",
        f"mqtt/{session}",
    )
    made = WorkerProcess(
        service_folder,
        database_url,
        module="mqtt_bridge",
        mqtt_url=mosquitto.url(),
        kafka=kafka.bootstrap_servers,
        mqtt_client_id=session,
    )
    with made as bridge:
        await bridge.says("MQTT is not read yet")

        async def tells() -> bool:
            status, answer = await bridge.get("/readyz")
            return status == 503 and "1 gateways are above their limit" in answer

        await until(tells, "readiness tells why")
        await rows(database_url, "DELETE FROM waiting_gateway")
        await bridge.consuming_mqtt()
