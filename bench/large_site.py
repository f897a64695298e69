"""What 100,000 devices with 300,000 sensor actions cost a worker: time until it is ready, and memory.

Memory is looked at twice: when the configuration is loaded, and after every device has reported once, since the plan of a device
is made at its first report and kept.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter

import asyncpg

from bench.backlog import MqttPublisher
from bench.figure import Figure
from bench.stack import Service, Stack, run_sql, service, stack

DEVICES = 100_000
DEPOTS = 2_000
ACTIONS_EACH = 3
_BOUND_S = 120.0

_SITE = f"""
INSERT INTO depot SELECT 'depot-' || i, 'Depot ' || i, 'UTC' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO circuit (circuit_id, depot_id, name, position, rating_kw)
    SELECT 'gc-' || i, 'depot-' || i, 'Grid connection', 0, 500 FROM generate_series(1, {DEPOTS}) i;
INSERT INTO power_source (power_source_id, depot_id, circuit_id, kind, name)
    SELECT 'bess-' || i, 'depot-' || i, 'gc-' || i, 'BATTERY', 'Battery' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO gateway (gateway_id, depot_id, name) SELECT 'gw-' || i, 'depot-' || i, 'Gateway' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO device (device_id, depot_id, gateway_id, circuit_id)
    SELECT 'dev-' || i, 'depot-' || d, 'gw-' || d, 'gc-' || d
    FROM generate_series(1, {DEVICES}) i, LATERAL (SELECT 1 + i % {DEPOTS} AS d) home;
INSERT INTO microgrid (microgrid_id, depot_id, version, status)
    SELECT uuidv7(), 'depot-' || i, 1, 'ACTIVE' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action)
    SELECT uuidv7(), depot_id, device_id, measurand, action FROM device, (VALUES
        ('ACTIVE_POWER', 'UPDATE_POWER_SOURCE_LOAD'), ('DEVICE_POWER_STATE', 'UPDATE_POWER_SOURCE_STATE'),
        ('SOC', 'RECORD_MEASUREMENT')) AS a (measurand, action);
"""


def measure() -> list[Figure]:
    """Seed, start, let every device report."""
    with stack(mqtt=True) as on:
        run_sql(on, _SITE)
        with service("ingest_worker", on) as worker:
            loaded_mb, start_cpu_s = worker.resident_mb(), worker.cpu_s()
            asyncio.run(_let_every_device_report(on))
            reported_mb = worker.resident_mb()
            return [_start_up(worker, start_cpu_s), _memory(loaded_mb, reported_mb)]


def _start_up(worker: Service, cpu_s: float) -> Figure:
    name = f"worker's start-up with {DEVICES:,} devices and {DEVICES * ACTIONS_EACH:,} sensor actions"
    seen = f"{worker.ready_s:.1f} s ({cpu_s:.1f} s CPU)"
    return Figure(name, seen, "≤ 5 s", worker.ready_s <= 5, {"seconds": worker.ready_s, "cpu_s": cpu_s})


def _memory(loaded_mb: float, reported_mb: float) -> Figure:
    return Figure(
        "… its memory",
        f"{loaded_mb:.0f} MB, {reported_mb:.0f} MB when all have reported",
        "≤ 400 MB",
        max(loaded_mb, reported_mb) <= 400,
        {"loaded_mb": loaded_mb, "reported_mb": reported_mb},
    )


async def _let_every_device_report(on: Stack) -> None:
    sent_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    publisher = MqttPublisher(on.mqtt_port)
    for start in range(1, DEVICES + 1, 10_000):
        publisher.publish([_packet(number, sent_at) for number in range(start, start + 10_000)])
    publisher.close()
    connection = await asyncpg.connect(on.database_url)
    ends = perf_counter() + _BOUND_S
    while await connection.fetchval("SELECT count(*) FROM event_store") < DEVICES:
        if perf_counter() > ends:
            raise TimeoutError("not every device's report was stored")
        await asyncio.sleep(0.5)
    await connection.close()


def _packet(number: int, sent_at: str) -> tuple[str, bytes]:
    gateway, device = f"gw-{1 + number % DEPOTS}", f"dev-{number}"
    body = (
        f'{{"schema_version":"1.0","packet_id":"p-{number}","gateway_id":"{gateway}","device_id":"{device}","sent_at":"{sent_at}",'
        f'"measurands":[{{"key":"SOC","value":{number % 100},"unit":"%"}}]}}'
    )
    return f"iot/v1/{gateway}/{device}/packet", body.encode()
