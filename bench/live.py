"""From a packet's publication to the card that shows it, while 2,000 other packets a second come in.

A probing device publishes one packet; the clock runs from handing it to the socket until a card read over HTTP shows its time of
observation. The card is asked for again and again meanwhile, so each time includes the last request, and the asking is part of
the load. The other packets come from a process of their own, each at its own moment.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import perf_counter

from bench import backlog
from bench.figure import Figure, percentile
from bench.http_load import Asker
from bench.stack import service, stack
from bench.steady_load import PROBED_DEVICE, confirmed, steady_load

RATE = 2_000
SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
_WARM_S = 3.0
_BETWEEN_S = 0.02
_BOUND_S = 30.0


def measure() -> list[Figure]:
    """Probe under load."""
    with stack(mqtt=True) as on:
        asyncio.run(backlog.seed_site(on.database_url))
        with service("ingest_worker", on) as worker, service("read_api", on) as api:
            before_s = worker.cpu_s()
            with steady_load(on.mqtt_port, RATE, SECONDS + _WARM_S) as publisher:
                took = asyncio.run(_probe_for(SECONDS, on.mqtt_port, api.port))
                published = confirmed(publisher)
            cpu_us = (worker.cpu_s() - before_s) / published * 1e6
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    values = {"p50_ms": p50, "p99_ms": p99, "probes": len(took), "published": published, "worker_cpu_us": cpu_us}
    seen = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return [Figure(f"publish to the card at {RATE:,} packets/s", seen, "p50 ≤ 8 ms, p99 ≤ 40 ms", p50 <= 8 and p99 <= 40, values)]


async def _probe_for(seconds: float, mqtt_port: int, api_port: int) -> list[float]:
    ends = perf_counter() + _WARM_S + seconds
    warm_until = perf_counter() + _WARM_S
    took: list[float] = []
    async for milliseconds in probes(mqtt_port, api_port):
        if perf_counter() > warm_until:
            took.append(milliseconds)
        if perf_counter() > ends:
            break
    return took


async def probes(mqtt_port: int, api_port: int) -> AsyncIterator[float]:
    """Probe without end; the milliseconds of each."""
    publisher = backlog.MqttPublisher(mqtt_port, "bench-probe")
    asker = await Asker.open(api_port)
    topic, _ = backlog.packet(0, datetime.now(UTC), PROBED_DEVICE)
    device = topic.split("/")[3]
    path = f"/api/depot/bench-{PROBED_DEVICE}/microgrid/card"
    try:
        while True:
            sent_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            packet = {
                "schema_version": "1.0",
                "packet_id": f"probe-{sent_at}",
                "gateway_id": backlog.GATEWAY,
                "device_id": device,
                "sent_at": sent_at,
                "measurands": [{"key": "PEAK_SHAVING", "value": True}],
            }
            begun = perf_counter()
            publisher.send(topic, json.dumps(packet).encode())
            while sent_at.encode() not in await asker.get(path):
                if perf_counter() - begun > _BOUND_S:
                    raise TimeoutError("a packet did not come to the card")
            yield (perf_counter() - begun) * 1000
            publisher.take_confirmations()
            await asyncio.sleep(_BETWEEN_S)
    finally:
        publisher.close()
        asker.close()
