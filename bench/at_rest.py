"""How long a packet takes to the card while nothing else happens, over MQTT and over Kafka.

One packet at a time, the next when the one before is seen: the clock runs from handing the packet to the client until a card
read over HTTP shows its time of observation. The reading loop itself costs a request each time, which is counted in.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import uuid_utils
from aiokafka import AIOKafkaProducer
from deploy.dev.embedded_kafka import EmbeddedKafka

from bench.backlog import MqttPublisher
from event_store.database import open_pool
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from sensor_packet.topics import KAFKA_PACKET_TOPIC, mqtt_packet_topic
from site_operations.import_site import import_site
from site_operations.migrate import migrate
from site_registry.site_file import parse_site

TRIES = 100
_BOUND_S = 20.0
_EXAMPLE = Path("deploy/examples/depot-1.yaml")


def measure() -> dict[str, list[float]]:
    """Milliseconds of each try, by way."""
    with tempfile.TemporaryDirectory(prefix="depotgrid-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (
            EmbeddedPostgres(folder / "postgres") as postgres,
            EmbeddedMosquitto(folder / "mosquitto") as mosquitto,
            EmbeddedKafka(folder / "kafka") as kafka,
        ):
            url = postgres.create_database("bench")
            migrate(url)
            asyncio.run(_import_example(url))
            asyncio.run(kafka.create_topic(KAFKA_PACKET_TOPIC, 4))
            environment = {
                **os.environ,
                "DEPOTGRID_DATABASE_URL": url,
                "DEPOTGRID_AUTH": "off",
                "DEPOTGRID_LOG_LEVEL": "WARNING",
                "DEPOTGRID_MQTT_URL": mosquitto.url(),
                "DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            }
            port, worker_port = _free_port(), _free_port()
            with (
                _process("ingest_worker", {**environment, "DEPOTGRID_HTTP_PORT": str(worker_port)}),
                _process("read_api", {**environment, "DEPOTGRID_HTTP_PORT": str(port)}),
            ):
                return asyncio.run(_tries(port, worker_port, int(mosquitto.port), kafka.bootstrap_servers))


async def _import_example(url: str) -> None:
    document = parse_site(_EXAMPLE.read_bytes())  # noqa: ASYNC240 - nothing else runs in this loop
    if isinstance(document, list):
        raise RuntimeError(str(document))
    pool = await open_pool(url, "bench")
    await import_site(pool, document, now=datetime.now(UTC), new_id=lambda: str(uuid_utils.uuid7()))
    await pool.close()


async def _until_ready(port: int) -> None:
    ends = perf_counter() + _BOUND_S
    async with httpx2.AsyncClient() as client:
        while perf_counter() < ends:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise TimeoutError("the stack did not become ready")


async def _tries(port: int, worker_port: int, mqtt_port: int, kafka_servers: str) -> dict[str, list[float]]:
    producer: Any = AIOKafkaProducer(bootstrap_servers=kafka_servers, acks="all")
    await producer.start()
    for probed in (port, worker_port):
        await _until_ready(probed)
    publisher = MqttPublisher(mqtt_port)

    async def over_mqtt(body: bytes) -> None:
        publisher.publish([(mqtt_packet_topic("gw-1", "ctrl-1"), body)])

    async def over_kafka(body: bytes) -> None:
        await producer.send_and_wait(KAFKA_PACKET_TOPIC, body, key=b"ctrl-1")

    seen: dict[str, list[float]] = {}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for name, publish in (("MQTT", over_mqtt), ("Kafka", over_kafka)):
            await _one(client, publish)
            seen[name] = [await _one(client, publish) for _ in range(TRIES)]
    await producer.stop()
    publisher.close()
    return seen


async def _one(client: httpx2.AsyncClient, publish: Callable[[bytes], Awaitable[None]]) -> float:
    await asyncio.sleep(0.05)
    sent_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    packet = {
        "schema_version": "1.0",
        "packet_id": str(uuid_utils.uuid7()),
        "gateway_id": "gw-1",
        "device_id": "ctrl-1",
        "sent_at": sent_at,
        "measurands": [{"key": "PEAK_SHAVING", "value": True}],
    }
    started = perf_counter()
    await publish(json.dumps(packet).encode())
    while perf_counter() - started < _BOUND_S:
        card: Any = (await client.get("/api/depot/depot-1/microgrid/card")).json()
        if card["capabilities"][0]["observed_at"] == sent_at:
            return (perf_counter() - started) * 1000
    raise TimeoutError("a packet did not come to the card")


class _process:  # noqa: N801 - used as a context manager only
    def __init__(self, module: str, environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-m", module]
        self._environment = environment

    def __enter__(self) -> None:
        self._child = subprocess.Popen(self._command, env=self._environment)

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def main() -> None:
    """Print one run."""
    for name, tries in measure().items():
        within = sum(one <= 100 for one in tries)
        print(
            f"{name:6} to the card at rest: median {statistics.median(tries):5.1f} ms, worst {max(tries):6.1f} ms, "
            f"{within} of {len(tries)} within 100 ms"
        )


if __name__ == "__main__":
    main()
