"""`make soak`: 2,000 packets a second for 20 minutes, and nothing that grows.

The worker runs on real services as it does in production; once a second its memory and its unacknowledged packets are noted, and
all the while a probing device tells how long a packet takes to the card. The first two minutes are left out: until then caches
fill and the allocator finds its size. `SOAK_MINUTES` (20) and `SOAK_RATE` (2,000) make a shorter or another run; of less than six
minutes a third is left out. The samples go to `build/soak.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import asyncpg
from rich.console import Console

from bench import backlog
from bench.figure import Figure, percentile, table
from bench.http_load import Asker
from bench.live import probes
from bench.stack import Service, Stack, service, stack
from bench.steady_load import confirmed, steady_load

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
RATE = int(os.environ.get("SOAK_RATE", "2000"))
_WARM_S = min(120.0, MINUTES * 60 / 3)
_IN_FLIGHT = 'depotgrid_in_flight_packets{source="mqtt"}'
_AGE = 'depotgrid_unacknowledged_age_seconds{source="mqtt"}'
_DRAINED_S = 60.0
_REPORT = Path("build/soak.json")


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the run."""

    at_s: float
    resident_mb: float
    in_flight: float
    unacknowledged_age_s: float
    to_card_ms: list[float] = field(default_factory=list[float])


def main() -> int:
    """Run, print, write; 1 if something grew or was lost."""
    with stack(mqtt=True) as on:
        asyncio.run(backlog.seed_site(on.database_url))
        with service("ingest_worker", on) as worker, service("read_api", on) as api:
            with steady_load(on.mqtt_port, RATE, MINUTES * 60) as publisher:
                samples = asyncio.run(_watch(on, worker, api))
                published = confirmed(publisher)
            probed = sum(len(sample.to_card_ms) for sample in samples)
            missing = asyncio.run(_missing(on, published + probed))
    figures = _judge([sample for sample in samples if sample.at_s > _WARM_S], missing)
    Console(width=150).print(table(f"{MINUTES:g} min at {RATE:,} packets/s, {published:,} published", figures))
    _REPORT.parent.mkdir(exist_ok=True)
    rows = [{"figure": one.name, "seen": one.seen, "limit": one.limit, "held": one.held} for one in figures]
    _REPORT.write_text(json.dumps({"rows": rows, "samples": [asdict(sample) for sample in samples]}, indent=1) + "\n")
    return 0 if all(figure.held for figure in figures) else 1


async def _watch(on: Stack, worker: Service, api: Service) -> list[Sample]:
    """A sample a second until the publisher is about to end."""
    took: list[float] = []

    async def probe() -> None:
        async for milliseconds in probes(on.mqtt_port, api.port):
            took.append(milliseconds)  # noqa: PERF401 - the samples look at it while it grows

    probing = asyncio.create_task(probe())
    metrics = await Asker.open(worker.port)
    begun = perf_counter()
    samples: list[Sample] = []
    while (at_s := perf_counter() - begun) < MINUTES * 60 - 1:
        told = (await metrics.get("/metrics")).decode()
        samples.append(Sample(at_s, worker.resident_mb(), _value(told, _IN_FLIGHT), _value(told, _AGE), took[:]))
        took.clear()
        if probing.done():
            probing.result()
        await asyncio.sleep(1)
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    metrics.close()
    return samples


def _value(told: str, series: str) -> float:
    return next((float(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith(series)), 0.0)


async def _missing(on: Stack, sent: int) -> int:
    """How many of the packets sent are not stored, once the worker has had time to store them."""
    connection = await asyncpg.connect(on.database_url)
    try:
        ends = perf_counter() + _DRAINED_S
        while True:
            missing = sent - await connection.fetchval("SELECT count(*) FROM event_store")
            if missing <= 0 or perf_counter() > ends:
                return max(missing, 0)  # the last probes came after the last sample
            await asyncio.sleep(1)
    finally:
        await connection.close()


def _judge(samples: Sequence[Sample], missing: int) -> list[Figure]:
    quarter = max(len(samples) // 4, 1)
    first, last = samples[:quarter], samples[-quarter:]
    grown = statistics.median(one.resident_mb for one in last) / statistics.median(one.resident_mb for one in first) - 1
    p50, p50_later = (percentile([ms for one in part for ms in one.to_card_ms], 0.5) for part in (first, last))
    in_flight, in_flight_later = (statistics.median(one.in_flight for one in part) for part in (first, last))
    oldest_s = max(one.unacknowledged_age_s for one in last)
    return [
        Figure("worker's memory, last quarter to first", f"{grown:+.2%} of {first[0].resident_mb:.0f} MB", "≤ +1 %", grown <= 0.01),
        Figure("publish to card, p50", f"{p50:.1f} ms, then {p50_later:.1f} ms", "≤ 1.5 × the first", p50_later <= 1.5 * p50),
        Figure(
            "unacknowledged packets",
            f"{in_flight:.0f}, then {in_flight_later:.0f}; the oldest {oldest_s * 1000:.0f} ms",
            "≤ 2 × the first + 20",
            in_flight_later <= 2 * in_flight + 20,
        ),
        Figure("packets confirmed and not stored", f"{missing}", "0", missing == 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
