"""How fast depots that an older system left behind get their microgrid: `python -m bench.backfill`.

A fleet is loaded as it would be found: circuits, a gateway and a controller whose actions ask for both capabilities, no microgrid;
some depots without circuits. The clock runs over `depotgrid microgrid backfill` as a process of its own, its start included.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import asyncpg
import msgspec

from operator_cli.embedded_postgres import EmbeddedPostgres
from site_operations.migrate import migrate

DEPOTS = int(os.environ.get("BENCH_DEPOTS", "10000"))
AT_LEAST_PER_S = 300
WITHOUT_CIRCUIT_EACH = 20

_FLEET = """
INSERT INTO depot (depot_id, name, timezone) SELECT 'depot-' || i, 'Depot ' || i, 'UTC' FROM generate_series(1, $1) i;
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, rating_kw)
    SELECT 'gc-' || i || '-' || k, 'depot-' || i, NULL, 'Grid connection ' || k, k, 500
    FROM generate_series(1, $1) i, generate_series(1, 2) k WHERE i % $2 <> 0;
INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, rating_kw)
    SELECT 'k-' || i || '-' || k, 'depot-' || i, 'gc-' || i || '-1', 'Charger circuit ' || k, k, 180
    FROM generate_series(1, $1) i, generate_series(1, 3) k WHERE i % $2 <> 0;
INSERT INTO gateway (gateway_id, depot_id, name) SELECT 'gw-' || i, 'depot-' || i, 'Gateway' FROM generate_series(1, $1) i;
INSERT INTO device (device_id, depot_id, gateway_id) SELECT 'ctrl-' || i, 'depot-' || i, 'gw-' || i FROM generate_series(1, $1) i;
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
    SELECT gen_random_uuid(), 'depot-' || i, 'ctrl-' || i, c, 'UPDATE_MICROGRID_STATE', c
    FROM generate_series(1, $1) i, unnest(ARRAY['PEAK_SHAVING', 'DER']) c;
"""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """A run over a fleet: depots that got their microgrid, depots without a circuit, seconds."""

    provisioned: int
    without_circuit: int
    seconds: float

    @property
    def rate(self) -> float:
        """Depots looked at per second."""
        return (self.provisioned + self.without_circuit) / self.seconds


async def load_fleet(url: str, depots: int, without_circuit_each: int = WITHOUT_CIRCUIT_EACH) -> None:
    """Depots without microgrid, every so many of them without a circuit."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_FLEET.replace("$1", str(depots)).replace("$2", str(without_circuit_each)))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def measure(depots: int = DEPOTS) -> Backfilled:
    """Backfill a fleet of so many depots in a database of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="depotgrid-bench-", ignore_cleanup_errors=True) as name,
        EmbeddedPostgres(Path(name) / "postgres") as postgres,
    ):
        url = postgres.create_database("bench")
        migrate(url)
        asyncio.run(load_fleet(url, depots))
        command = [sys.executable, "-m", "operator_cli", "microgrid", "backfill", "--json", "--database-url", url]
        begun = perf_counter()
        answer = subprocess.run(command, check=True, capture_output=True)
        seconds = perf_counter() - begun
    outcomes = msgspec.json.decode(answer.stdout)["outcomes"]
    return Backfilled(outcomes["PROVISIONED"], outcomes["NO_TOP_LEVEL_CIRCUIT"], seconds)


def main() -> None:
    """Measure and print one line."""
    run = measure()
    print(
        f"backfill: {run.provisioned:,} depots provisioned, {run.without_circuit:,} without circuit, {run.seconds:.1f} s: "
        f"{run.rate:,.0f} depots/s (at least {AT_LEAST_PER_S}): {'held' if run.rate >= AT_LEAST_PER_S else 'missed'}"
    )


if __name__ == "__main__":
    main()
