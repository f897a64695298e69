"""How fast one worker drains a backlog from Kafka in batches, beside the bare limit.

The packets lie in the topic before either starts; each reads all of it as a group of its own, and the clock runs from its first
stored row to its last.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from bench import backlog, bare_limit
from bench.drain import Contender, Drained, drain
from bench.figure import Figure
from bench.mqtt_throughput import cpu_text, worker_environment
from bench.stack import Stack, stack
from sensor_packet.topics import KAFKA_PACKET_TOPIC

PACKETS = int(os.environ.get("BENCH_PACKETS", "60000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))


def measure() -> list[Figure]:
    """Both contenders in turn, `BENCH_RUNS` times; medians of the rates, and of the ratio within each run."""
    runs = [run() for _ in range(RUNS)]
    ours, bare = (statistics.median(one[name].rate for one in runs) for name in ("ours", "bare limit"))
    of_bare = statistics.median(one["ours"].rate / one["bare limit"].rate for one in runs)
    cpu_us = {who: statistics.median(one["ours"].cpu_us(who) for one in runs) for who in ("worker", "broker", "database")}
    bare_us = {who: statistics.median(one["bare limit"].cpu_us(who) for one in runs) for who in cpu_us}
    values = {
        "runs": [{name: {"packets": d.packets, "seconds": d.seconds, "cpu_s": d.cpu_s} for name, d in one.items()} for one in runs]
    }
    return [
        Figure("Kafka, in batches", f"{ours:,.0f} packets/s", "≥ 25,000 packets/s", ours >= 25_000, values),
        Figure("… as a share of its bare limit", f"{of_bare:.0%} of its {bare:,.0f}/s", "≥ 60 %", of_bare >= 0.6),
        Figure(
            "… CPU of a packet", cpu_text(cpu_us), f"bare: {cpu_text(bare_us)}", held=None, values={"ours": cpu_us, "bare": bare_us}
        ),
    ]


def run() -> dict[str, Drained]:
    """Run both contenders once."""
    with stack(kafka=True) as on:
        asyncio.run(_fill(on))
        environment = worker_environment(on, kafka_bootstrap_servers=on.kafka_servers)
        bare = [sys.executable, "-m", "bench.bare_kafka_limit", on.database_url, on.kafka_servers]
        contenders = (
            Contender("ours", [sys.executable, "-m", "ingest_worker"], "event_store", PACKETS),
            Contender("bare limit", bare, "bare", PACKETS),
        )
        broker_pid = on.kafka.pid if on.kafka is not None else None
        return {one.name: asyncio.run(drain(one, on, environment, broker_pid)) for one in contenders}


async def _fill(on: Stack) -> None:
    await backlog.seed_site(on.database_url)
    connection = await asyncpg.connect(on.database_url)
    await connection.execute(bare_limit.TABLE)
    await connection.close()
    start = backlog.start_time()
    producer: Any = AIOKafkaProducer(bootstrap_servers=on.kafka_servers, acks="all", linger_ms=20)
    await producer.start()
    sent: Any = None
    for number in range(PACKETS):
        topic, body = backlog.packet(number, start)
        sent = await producer.send(KAFKA_PACKET_TOPIC, body, key=topic.split("/")[3].encode())
    await sent
    await producer.stop()
