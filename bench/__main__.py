"""`make bench`: one table of the figures that Depotgrid is held to, each beside its peer or limit, and `build/bench.json`.

Figures are medians over `BENCH_RUNS` runs (3 unless set), ratios are taken within one run. `BENCH_PACKETS` is the backlog.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import mqtt_throughput

RUNS = int(os.environ.get("BENCH_RUNS", "3"))


def main() -> None:
    """Measure, print, write."""
    runs = [mqtt_throughput.measure() for _ in range(RUNS)]
    rate = {name: statistics.median(run[name].rate for run in runs) for name in runs[0]}
    of_stock = statistics.median(run["ours"].rate / run["stock handler"].rate for run in runs)
    of_bare = statistics.median(run["ours"].rate / run["bare limit"].rate for run in runs)
    rows = [
        (
            "MQTT QoS 1, acknowledged after commit, one worker",
            f"{rate['ours']:,.0f} packets/s",
            "15,000 packets/s",
            rate["ours"] >= 15_000,
        ),
        (
            "… beside a stock FastStream MQTT handler",
            f"{of_stock:.1f} × its {rate['stock handler']:,.0f}/s",
            "12 ×",
            of_stock >= 12,
        ),
        (
            "… as a share of the bare limit",
            f"{of_bare:.0%} of its {rate['bare limit']:,.0f}/s",
            "60 %",
            of_bare >= 0.6,
        ),
    ]
    table = Table(title=f"median of {RUNS} run(s), {os.cpu_count()} cores, {platform.machine()}")
    for heading in ("figure", "seen", "at least", ""):
        table.add_column(heading)
    for figure, seen, least, held in rows:
        table.add_row(figure, seen, least, "held" if held else "missed")
    Console(width=130).print(table)
    report = Path("build/bench.json")
    report.parent.mkdir(exist_ok=True)
    report.write_text(
        json.dumps(
            {
                "runs": [
                    {name: {"packets": d.packets, "seconds": d.seconds, "cpu_s": d.cpu_s} for name, d in run.items()}
                    for run in runs
                ],
                "rows": [{"figure": f, "seen": s, "at_least": a, "held": h} for f, s, a, h in rows],
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
