"""How fast depots that an older system left behind get their microgrid.

A fleet is loaded as it would be found: circuits, a gateway and a controller whose actions ask for both capabilities, no microgrid;
some depots without circuits. The clock runs over `depotgrid microgrid backfill` as a process of its own, its start included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

import msgspec

from bench.figure import Figure
from bench.stack import run_sql, stack

DEPOTS = int(os.environ.get("BENCH_DEPOTS", "10000"))
AT_LEAST_PER_S = 300
WITHOUT_CIRCUIT_EACH = 20

_FLEET = f"""
INSERT INTO depot (depot_id, name, timezone) SELECT 'depot-' || i, 'Depot ' || i, 'UTC' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, rating_kw)
    SELECT 'gc-' || i || '-' || k, 'depot-' || i, NULL, 'Grid connection ' || k, k, 500
    FROM generate_series(1, {DEPOTS}) i, generate_series(1, 2) k WHERE i % {WITHOUT_CIRCUIT_EACH} <> 0;
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, rating_kw)
    SELECT 'k-' || i || '-' || k, 'depot-' || i, 'gc-' || i || '-1', 'Charger circuit ' || k, k, 180
    FROM generate_series(1, {DEPOTS}) i, generate_series(1, 3) k WHERE i % {WITHOUT_CIRCUIT_EACH} <> 0;
INSERT INTO gateway (gateway_id, depot_id, name) SELECT 'gw-' || i, 'depot-' || i, 'Gateway' FROM generate_series(1, {DEPOTS}) i;
INSERT INTO device (device_id, depot_id, gateway_id)
    SELECT 'ctrl-' || i, 'depot-' || i, 'gw-' || i FROM generate_series(1, {DEPOTS}) i;
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
    SELECT gen_random_uuid(), 'depot-' || i, 'ctrl-' || i, c, 'UPDATE_MICROGRID_STATE', c
    FROM generate_series(1, {DEPOTS}) i, unnest(ARRAY['PEAK_SHAVING', 'DER']) c;
"""


def measure() -> list[Figure]:
    """Backfill a fleet in a database of its own."""
    with stack() as on:
        run_sql(on, _FLEET)
        command = [sys.executable, "-m", "operator_cli", "microgrid", "backfill", "--json", "--database-url", on.database_url]
        begun = perf_counter()
        answer = subprocess.run(command, check=True, capture_output=True)
        seconds = perf_counter() - begun
    outcomes = msgspec.json.decode(answer.stdout)["outcomes"]
    provisioned, without_circuit = outcomes["PROVISIONED"], outcomes["NO_TOP_LEVEL_CIRCUIT"]
    rate = (provisioned + without_circuit) / seconds
    return [
        Figure(
            f"backfill of {DEPOTS:,} depots",
            f"{rate:,.0f} depots/s",
            f"≥ {AT_LEAST_PER_S} depots/s",
            rate >= AT_LEAST_PER_S,
            {"provisioned": provisioned, "without_circuit": without_circuit, "seconds": seconds},
        )
    ]
