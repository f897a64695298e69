"""How long a packet takes to the card while nothing else happens, over MQTT and over Kafka.

One packet at a time, the next when the one before is seen: the clock runs from handing the packet to the client until a card
read over HTTP shows its time of observation. The reading loop itself costs a request each time, which is counted in.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import uuid_utils
from aiokafka import AIOKafkaProducer

from bench.backlog import MqttPublisher
from bench.figure import Figure
from bench.stack import Stack, service, stack
from event_store.database import open_pool
from sensor_packet.topics import KAFKA_PACKET_TOPIC, mqtt_packet_topic
from site_operations.import_site import import_site
from site_registry.site_file import parse_site

TRIES = 100
_BOUND_S = 20.0
_EXAMPLE = Path("deploy/examples/depot-1.yaml")


def measure() -> list[Figure]:
    """Milliseconds of each try, by way."""
    with stack(mqtt=True, kafka=True) as on:
        asyncio.run(_import_example(on.database_url))
        with service("ingest_worker", on), service("read_api", on) as api:
            seen = asyncio.run(_tries(on, api.port))
    return [_figure(way, tries) for way, tries in seen.items()]


def _figure(way: str, tries: list[float]) -> Figure:
    within = sum(milliseconds <= 100 for milliseconds in tries)
    return Figure(
        f"{way} to the card at rest within 100 ms",
        f"{within} of {len(tries)}, median {statistics.median(tries):.0f} ms",
        "≥ 95 of 100",
        within >= 0.95 * len(tries),
        {"median_ms": statistics.median(tries), "worst_ms": max(tries)},
    )


async def _import_example(url: str) -> None:
    document = parse_site(_EXAMPLE.read_bytes())  # noqa: ASYNC240 - nothing else runs in this loop
    if isinstance(document, list):
        raise RuntimeError(str(document))
    pool = await open_pool(url, "bench")
    await import_site(pool, document, now=datetime.now(UTC), new_id=lambda: str(uuid_utils.uuid7()))
    await pool.close()


async def _tries(on: Stack, port: int) -> dict[str, list[float]]:
    producer: Any = AIOKafkaProducer(bootstrap_servers=on.kafka_servers, acks="all")
    await producer.start()
    publisher = MqttPublisher(on.mqtt_port)

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
