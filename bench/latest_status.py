"""What the latest status costs after ten events, and after 10,000,000 (`BENCH_HISTORY`) of 1,000 microgrids.

The store is filled without its indexes, which are then built as the migrations define them: the same store in a tenth of the time.
Asked is the very statement of the read API, for capabilities here and there among the thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
from time import perf_counter
from typing import Any

import asyncpg

from bench.figure import Figure, percentile
from bench.stack import Stack, stack
from event_store import read

EVENTS = int(os.environ.get("BENCH_HISTORY", "10000000"))
MICROGRIDS = 1_000
_ASKED = range(0, MICROGRIDS, 37)
_A_FEW = 10
_TRIES = 20
_FILL_S = 3_600.0

# One report a second of each microgrid in turn, the newest last; ids as random as they are.
_FILL = """
INSERT INTO event_store (event_id, event_type, schema_version, stream_id, depot_id, microgrid_id, subject, observed_at, sent_at,
                         source_event_ref, payload, metadata)
SELECT gen_random_uuid(), 'CapabilityStatusReported', 1, 'd-' || m, 'd-' || m, m.id, 'microgrid/' || m.id || '/PEAK_SHAVING',
       '2026-01-01Z'::timestamptz + make_interval(secs => n / $3), '2026-01-01Z'::timestamptz + make_interval(secs => n / $3),
       'p-' || n, '{"device_id": "ctrl-1", "gateway_id": "gw-1", "measurand": "PEAK_SHAVING", "raw_value": true, "quality": "GOOD",
       "rule": "DEPOT_MICROGRID", "capability": "PEAK_SHAVING", "operational_status": "ON"}', '{"source": "mqtt"}'
FROM generate_series($1::bigint, $2::bigint) n
CROSS JOIN LATERAL (SELECT n % $3 AS m, ('01900000-0000-7000-8000-' || lpad((n % $3)::text, 12, '0'))::uuid AS id) m
"""


def measure() -> list[Figure]:
    """Ask after a few events, fill, ask again."""
    with stack() as on:
        return asyncio.run(_measure(on))


async def _measure(on: Stack) -> list[Figure]:
    connection: Any = await asyncpg.connect(on.database_url)
    try:
        await connection.execute(_FILL, 0, _A_FEW * MICROGRIDS - 1, MICROGRIDS)
        await connection.execute("VACUUM ANALYZE event_store")
        few_buffers, _ = await _ask(connection)
        begun = perf_counter()
        await _fill(connection)
        filled_s = perf_counter() - begun
        buffers, took_ms = await _ask(connection)
        size_gb = await connection.fetchval("SELECT pg_total_relation_size('event_store')") / 1e9
    finally:
        await connection.close()
    values = {
        "events": EVENTS,
        "buffers_of_a_few": few_buffers,
        "buffers": buffers,
        "p50_ms": percentile(took_ms, 0.5),
        "filled_s": filled_s,
        "size_gb": size_gb,
    }
    seen = f"{buffers} buffers (after {_A_FEW} a microgrid: {few_buffers}), {percentile(took_ms, 0.5):.2f} ms"
    return [Figure(f"latest status among {EVENTS:,} events ({size_gb:.1f} GB)", seen, "≤ 8 buffers", buffers <= 8, values)]


async def _fill(connection: Any) -> None:
    rows = await connection.fetch(
        "SELECT i.indexname AS name, i.indexdef AS definition, c.conname AS key, pg_get_constraintdef(c.oid) AS key_definition "
        "FROM pg_indexes i LEFT JOIN pg_constraint c ON c.conname = i.indexname AND c.contype = 'p' "
        "WHERE i.tablename = 'event_store'"
    )
    for row in rows:
        dropped = f"ALTER TABLE event_store DROP CONSTRAINT {row['key']}" if row["key"] else f"DROP INDEX {row['name']}"
        await connection.execute(dropped)
    await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
    await connection.execute(_FILL, _A_FEW * MICROGRIDS, EVENTS - 1, MICROGRIDS, timeout=_FILL_S)
    for row in rows:
        built = f"ALTER TABLE event_store ADD {row['key_definition']}" if row["key"] else row["definition"]
        await connection.execute(built, timeout=_FILL_S)
    await connection.execute("VACUUM ANALYZE event_store", timeout=_FILL_S)


async def _ask(connection: Any) -> tuple[int, list[float]]:
    """The most buffers that one latest status costs, and the milliseconds of each time that one was asked for."""
    most, took_ms = 0, list[float]()
    for number in _ASKED:
        subject = f"microgrid/01900000-0000-7000-8000-{number:012}/PEAK_SHAVING"
        query = read._LATEST  # pyright: ignore[reportPrivateUsage] - the very statement
        for _ in range(_TRIES):
            begun = perf_counter()
            [row] = await connection.fetch(query, [subject])
            took_ms.append((perf_counter() - begun) * 1000)
            if row["subject"] != subject:
                raise RuntimeError("that is the latest of another")
        explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query.replace("$1", f"ARRAY['{subject}']")
        [plan] = json.loads(await connection.fetchval(explained))
        most = max(most, plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    return most, took_ms


if __name__ == "__main__":
    for figure in measure():
        print(f"{figure.name}: {figure.seen} ({figure.limit}) {dict(figure.values)}")
