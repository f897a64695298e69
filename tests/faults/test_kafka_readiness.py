"""Kafka goes away under a worker, a relay and a bridge that have nothing to do: each says so, and is ready again with Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import Stack
from tests.real_services.comparison import all_arrived
from tests.real_services.kafka_publisher import KafkaPublisher
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto


async def answers(processes: dict[str, WorkerProcess]) -> dict[str, tuple[int, str]]:
    """What each process says of itself: status and body of its `/readyz`."""
    found = await asyncio.gather(*(process.get("/readyz") for process in processes.values()))
    return dict(zip(processes, found, strict=True))


async def hand_shares(database_url: str, holder: str, until_when: str) -> None:
    """Give all shares of Kafka to another holder, or to nobody; both are SQL."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"UPDATE relay_share SET holder = {holder}, held_until = {until_when} WHERE broker = 'kafka'")
    await connection.close()


async def test_worker_relay_and_bridge_are_not_ready_while_kafka_is_away_and_a_relay_that_stands_by_is(
    stack: Stack, own_kafka: EmbeddedKafka, own_mosquitto: EmbeddedMosquitto, service_folder: Path
) -> None:
    own_kafka.start()
    servers = own_kafka.bootstrap_servers
    await stack.begin_kafka(servers)

    def process(module: str, **settings: str) -> WorkerProcess:
        return WorkerProcess(service_folder, stack.database_url, module=module, kafka=servers, **settings)

    with (
        process("mqtt_bridge", mqtt_url=own_mosquitto.url()) as bridge,
        process("event_relay") as relay,
    ):
        using = {"worker": stack.worker(kafka=servers), "bridge": bridge, "relay": relay}
        await relay.says("shares held")
        await bridge.consuming_mqtt()
        publisher = KafkaPublisher(servers, stack.plan(10))
        await publisher.run()
        await all_arrived(stack.database_url, publisher.confirmed)

        async def ready() -> bool:
            return all(status == 200 for status, _ in (await answers(using)).values())

        async def told() -> bool:
            found = await answers(using)
            return all(status == 503 and f"Kafka at {servers} is not to be had" in body for status, body in found.values())

        await until(ready, "all are ready", timeout_s=60)
        own_kafka.kill9()
        await until(told, "all say that Kafka is away", timeout_s=60)
        await hand_shares(stack.database_url, "'another relay'", "now() + interval '1 hour'")

        async def standing_by() -> bool:
            return (await relay.get("/readyz"))[0] == 200

        await until(standing_by, "a relay whose shares another one holds is ready")
        await hand_shares(stack.database_url, "NULL", "now()")
        await until(told, "with the shares it is not")
        await asyncio.to_thread(own_kafka.start)
        await until(ready, "all are ready again", timeout_s=120)
