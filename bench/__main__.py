"""`make bench`: the figures that Depotgrid is held to, each beside its limit, in one table and in `build/bench.json`.

`make bench ARGS="mqtt card"` measures only those; the names are those of `FIGURES`. Each starts what it needs and ends it.
`BENCH_RUNS` (3) is how often the throughputs are measured, of which the table shows medians; ratios are taken within one run.
`BENCH_HISTORY` (10,000,000 events: four minutes, 7 GB) and `BENCH_CLIENTS` (500) are the sizes of `history` and `stream`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from rich.console import Console

from bench import (
    at_rest,
    backfill,
    binding_change,
    card_load,
    kafka_throughput,
    large_site,
    latest_status,
    live,
    mqtt_throughput,
    page,
    stream_clients,
    structure,
)
from bench.figure import Figure, table

FIGURES: dict[str, Callable[[], list[Figure]]] = {
    "mqtt": mqtt_throughput.measure,
    "kafka": kafka_throughput.measure,
    "live": live.measure,
    "rest": at_rest.measure,
    "page": page.measure,
    "card": card_load.measure,
    "stream": stream_clients.measure,
    "history": latest_status.measure,
    "structure": structure.measure,
    "memory": large_site.measure,
    "binding": binding_change.measure,
    "backfill": backfill.measure,
}
_REPORT = Path("build/bench.json")


def main(names: list[str]) -> int:
    """Measure what is named, or all; 2 for a name that is not known."""
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        sys.stderr.write(f"bench: no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}\n")
        return 2
    progress = Console(stderr=True)
    measured: list[tuple[str, Figure]] = []
    for name in names or FIGURES:
        begun = perf_counter()
        with progress.status(f"measuring {name} …"):
            measured += [(name, figure) for figure in FIGURES[name]()]
        if progress.is_terminal:
            progress.print(f"{name}: {perf_counter() - begun:.0f} s", style="dim")
    title = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    Console(width=170).print(table(title, [figure for _, figure in measured]))
    _write(measured)
    return 0


def _write(measured: list[tuple[str, Figure]]) -> None:
    _REPORT.parent.mkdir(exist_ok=True)
    report = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "rows": [
            {"of": name, "figure": f.name, "seen": f.seen, "limit": f.limit, "held": f.held, "values": f.values}
            for name, f in measured
        ],
    }
    _REPORT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
