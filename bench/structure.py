"""The structure of the largest depot there may be: 2,000 circuits and 10,000 connectors, answered gzipped over HTTP.

One request after the other, as a person opens the page; each is read from the database anew.
"""

from __future__ import annotations

import gzip
import os

import uvloop

from bench.figure import Figure, percentile
from bench.http_load import Asker, one_after_the_other
from bench.stack import run_sql, service, stack

CIRCUITS = 2_000
CONNECTORS = 10_000
SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
_PATH = "/api/depot/large/microgrid/structure"
_WARM_S = 2.0

# Ten grid connections, below each a tree that branches by ten; two connectors to a charge point.
_SITE = f"""
INSERT INTO depot VALUES ('large', 'Large depot', 'UTC');
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, rating_kw)
    SELECT 'c-' || i, 'large', CASE WHEN i > 10 THEN 'c-' || (i - 1) / 10 END, 'Circuit ' || i, i, 180
    FROM generate_series(1, {CIRCUITS}) i;
INSERT INTO charge_point (charge_point_id, circuit_id, name, max_kw)
    SELECT 'cp-' || i, 'c-' || 1 + i % {CIRCUITS}, 'Bay ' || i, 150 FROM generate_series(1, {CONNECTORS // 2}) i;
INSERT INTO connector (connector_id, charge_point_id, number, max_kw)
    SELECT 'cp-' || i || '-' || k, 'cp-' || i, k, 150 FROM generate_series(1, {CONNECTORS // 2}) i, generate_series(1, 2) k;
INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES (uuidv7(), 'large', 1, 'ACTIVE');
INSERT INTO microgrid_node (node_id, microgrid_id, source_circuit_id, name, position)
    SELECT uuidv7(), microgrid_id, circuit_id, circuit.name, position
    FROM circuit, microgrid WHERE parent_circuit_id IS NULL;
"""


def measure() -> list[Figure]:
    """Seed, look at one answer, then ask for it again and again."""
    with stack() as on:
        run_sql(on, _SITE)
        with service("read_api", on) as api:
            sent, took = uvloop.run(_ask(api.port))
    plain = gzip.decompress(sent)
    if plain.count(b'"connector_id"') != CONNECTORS:
        raise RuntimeError(f"the structure is not whole: {plain[:500]!r}")
    p50, p95 = percentile(took, 0.5), percentile(took, 0.95)
    return [
        Figure(
            f"structure of {CIRCUITS:,} circuits and {CONNECTORS:,} connectors, gzipped",
            f"p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(sent) / 1000:.0f} of {len(plain) / 1000:.0f} kB)",
            "p95 ≤ 300 ms",
            p95 <= 300,
            {"p50_ms": p50, "p95_ms": p95, "requests": len(took), "bytes": len(sent), "bytes_plain": len(plain)},
        )
    ]


async def _ask(port: int) -> tuple[bytes, list[float]]:
    """One answer, and the milliseconds of those after it."""
    asker = await Asker.open(port, "Accept-Encoding: gzip\r\n")
    sent = await asker.get(_PATH)
    await one_after_the_other(asker, _PATH, _WARM_S)
    took = await one_after_the_other(asker, _PATH, SECONDS)
    asker.close()
    return sent, took
