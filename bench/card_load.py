"""The card under load: 300 requests a second over 100 depots whose 500 latest values lie among 1,000,000 stored events.

Asked over HTTP from a process of its own kind (`http_load`), answered by the read API as it runs in production. Beside it, how
many buffers of the database one latest value costs, whatever lies behind it.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import asyncpg
import uvloop

from bench.figure import Figure, percentile
from bench.http_load import load
from bench.stack import Stack, run_sql, service, stack
from event_store import read

EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
DEPOTS = 100
SUBJECTS = 5
RATE = 300
SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
_WARM_S = 3.0

# Each depot: one grid connection, a battery, a controller that feeds both capabilities, the battery's load and state of charge.
_SITE = f"""
INSERT INTO depot SELECT 'd-' || i, 'Depot ' || i, 'UTC' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO circuit (circuit_id, depot_id, name, position, rating_kw)
    SELECT 'gc-' || i, 'd-' || i, 'Grid connection', 0, 500 FROM generate_series(1, {DEPOTS}) i;
INSERT INTO power_source (power_source_id, depot_id, circuit_id, kind, name, rated_kw)
    SELECT 'bess-' || i, 'd-' || i, 'gc-' || i, 'BATTERY', 'Battery', 250 FROM generate_series(1, {DEPOTS}) i;
INSERT INTO gateway (gateway_id, depot_id, name) SELECT 'gw-' || i, 'd-' || i, 'Gateway' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO device (device_id, depot_id, gateway_id, circuit_id)
    SELECT 'ctrl-' || i, 'd-' || i, 'gw-' || i, 'gc-' || i FROM generate_series(1, {DEPOTS}) i;
INSERT INTO microgrid (microgrid_id, depot_id, version, status)
    SELECT uuidv7(), 'd-' || i, 1, 'ACTIVE' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
    SELECT uuidv7(), depot_id, device_id, measurand, action, capability FROM device, (VALUES
        ('PEAK_SHAVING', 'UPDATE_MICROGRID_STATE', 'PEAK_SHAVING'), ('DER', 'UPDATE_MICROGRID_STATE', 'DER'),
        ('ACTIVE_POWER', 'UPDATE_POWER_SOURCE_LOAD', NULL), ('SOC', 'RECORD_MEASUREMENT', NULL),
        ('AVAILABLE_CHARGING_CAPACITY', 'UPDATE_CIRCUIT_CAPACITY', NULL)) AS a (measurand, action, capability);
INSERT INTO capability_control_point (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, enabled)
    SELECT uuidv7(), m.microgrid_id, c, d.device_id, c, 300, true
    FROM device d JOIN microgrid m USING (depot_id), unnest(ARRAY['PEAK_SHAVING', 'DER']) c;
"""
# One report a second and subject, the newest now; all subjects interleaved, as a store that grew day by day has them.
_EVENTS = f"""
INSERT INTO event_store (event_id, event_type, schema_version, stream_id, depot_id, microgrid_id, subject, observed_at, sent_at,
                         source_event_ref, payload, metadata)
SELECT gen_random_uuid(), r.event_type, 1, m.depot_id, m.depot_id, m.microgrid_id, r.subject, t.at, t.at, 'p-' || n,
       r.payload || jsonb_build_object('device_id', 'ctrl-' || d.i, 'gateway_id', 'gw-' || d.i, 'quality', 'GOOD',
                                       'rule', 'CIRCUIT', 'candidates', '[]'::jsonb, 'raw_value', 1),
       jsonb_build_object('source', 'mqtt', 'received_at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
FROM generate_series({EVENTS // DEPOTS // SUBJECTS}, 1, -1) n
CROSS JOIN LATERAL (SELECT date_trunc('second', now()) - make_interval(secs => n) AS at) t
CROSS JOIN generate_series(1, {DEPOTS}) d (i)
JOIN microgrid m ON m.depot_id = 'd-' || d.i
CROSS JOIN LATERAL (VALUES
    ('CapabilityStatusReported', 'microgrid/' || m.microgrid_id || '/PEAK_SHAVING',
     '{{"measurand": "PEAK_SHAVING", "capability": "PEAK_SHAVING", "operational_status": "ON"}}'::jsonb),
    ('CapabilityStatusReported', 'microgrid/' || m.microgrid_id || '/DER',
     '{{"measurand": "DER", "capability": "DER", "operational_status": "ON"}}'),
    ('PowerSourceLoadReported', 'power_source/bess-' || d.i || '/load', '{{"measurand": "ACTIVE_POWER", "load_kw": -120.5}}'),
    ('PowerSourceStateReported', 'power_source/bess-' || d.i || '/state', '{{"measurand": "DEVICE_POWER_STATE", "state": "ON"}}'),
    ('MeasurementRecorded', 'device/ctrl-' || d.i || '/SOC', '{{"measurand": "SOC", "value": 74.5, "unit": "%"}}')
) AS r (event_type, subject, payload)
"""


def measure() -> list[Figure]:
    """Seed, ask, explain."""
    with stack() as on:
        run_sql(on, _SITE)
        run_sql(on, _EVENTS)
        with service("read_api", on) as api:
            paths = [f"/api/depot/d-{number}/microgrid/card" for number in range(1, DEPOTS + 1)]
            uvloop.run(load(api.port, paths, rate=RATE, seconds=_WARM_S))
            before = api.cpu_s()
            took = uvloop.run(load(api.port, paths, rate=RATE, seconds=SECONDS))
            cpu_ms = (api.cpu_s() - before) / len(took) * 1000
        buffers = asyncio.run(_buffers_per_latest_value(on))
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    return [
        Figure(
            f"card at {RATE} requests/s, {EVENTS:,} events stored",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms ({cpu_ms:.2f} ms CPU each)",
            "p99 ≤ 15 ms",
            p99 <= 15,
            {"p50_ms": p50, "p99_ms": p99, "requests": len(took), "cpu_ms": cpu_ms},
        ),
        Figure("… buffers per latest value", f"{buffers}", "≤ 8", buffers <= 8, {"buffers": buffers}),
    ]


async def _buffers_per_latest_value(on: Stack) -> int:
    """The most that any of a depot's subjects costs."""
    connection: Any = await asyncpg.connect(on.database_url)
    try:
        subjects = await connection.fetch("SELECT DISTINCT subject FROM event_store WHERE depot_id = 'd-50'")
        return max([await _buffers(connection, row["subject"]) for row in subjects])
    finally:
        await connection.close()


async def _buffers(connection: Any, subject: str) -> int:
    query = read._LATEST  # pyright: ignore[reportPrivateUsage] - the very statement
    (plan,) = json.loads(
        await connection.fetchval("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query.replace("$1", f"ARRAY['{subject}']"))
    )
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
