"""The page of what the last full run of the fault matrix measured, as `make faults` writes it: `docs/fault-report.md`.

A run of all tests writes the page anew, its rows in the order of the tests. A run of some of them (`make faults ARGS="-k kafka"`)
renews their rows in place, adds those that are new at the end and leaves the others; every row names the commit that it was
measured at. Where a test failed, the page goes to `build/` instead, to be looked at and not to be committed.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.real_services.comparison import FaultReport

_ROOT = Path(__file__).resolve().parents[2]
PAGE = _ROOT / "docs" / "fault-report.md"
REJECTED_PAGE = _ROOT / "build" / "fault-report.md"
_COLUMNS = ("fault", "confirmed", "stored", "dead letters", "lost", "twice", "inverted", "wrong letters", "back after s", "commit")
_ROW = re.compile(r"^\| (?P<fault>[^|]+) \|(?: [^|]* \|){8} `[0-9a-z]+` \|$")
_TEXT = """# What the fault matrix measured

Written by `make faults`, not by hand: each fault was let happen under load, and then what the broker had confirmed was held against
the database. What must be true of it is in [guarantees](guarantees.md).

Last run: {at:%Y-%m-%d %H:%M} UTC, at commit `{commit}`, on {machine}.

{table}
{skipped}
- *confirmed*: packets that the broker answered for, a repeat counted again. *stored*: packets with an event; for a relay, events
  that a broker got. What is confirmed and not stored is a dead letter or a repeat.
- *lost*, *twice*, *inverted* (a device's packets stored in another order) and *wrong letters* must be 0. For `kill -9` of Mosquitto
  they are what it forgets of what it had in memory, and the order in which it sends the rest again, and are only reported.
- *back after s*: from the end of the fault, or the death of the last process, until 90 % of the rate before it were stored again,
  in steps of 0.1 s over half a second; where a broker was away, from the publisher's getting through to it again. It must be at
  most 5, and 15 where a Kafka consumer died, whose group must first notice. Empty where there is no rate to come back to.

`make faults` writes this page anew, in about 25 minutes on two cores with nothing else to do. `make faults ARGS="-k disk"` renews
the rows of some tests. Where a test fails, it is written to `build/fault-report.md` instead.
"""


@dataclass(frozen=True)
class Run:
    """What a run was: when, of what, on what; whether all tests took part; and why some were skipped, by their names."""

    at: datetime
    commit: str
    machine: str
    is_whole: bool
    skipped: Mapping[str, str]


def page(reports: Sequence[FaultReport], run: Run, before: str) -> str:
    """The page after a run, from its reports and the page before it ("" if there was none)."""
    fresh = {report.fault: _row(report, run.commit) for report in reports}
    kept = {} if run.is_whole else {found["fault"]: line for line in before.splitlines() if (found := _ROW.match(line))}
    table = ["| " + " | ".join(_COLUMNS) + " |", "|---" + "|---:" * (len(_COLUMNS) - 2) + "|---|", *{**kept, **fresh}.values()]
    skipped = [f"\nNot measured in that run: {name} ({reason}).\n" for name, reason in sorted(run.skipped.items())]
    return _TEXT.format(at=run.at, commit=run.commit, machine=run.machine, table="\n".join(table), skipped="".join(skipped))


def _row(report: FaultReport, commit: str) -> str:
    back = "" if report.recovered_s is None else f"{report.recovered_s:.1f}"
    counts = (report.confirmed, report.stored, report.dead_letters, report.lost, report.duplicates, report.inversions)
    cells = (report.fault, *(f"{count:,}" for count in counts), str(report.dead_letters_wrong), back, f"`{commit}`")
    return "| " + " | ".join(cells) + " |"


def this_machine() -> str:
    """Cores, architecture, memory and Python of this machine, for people."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {memory_gb:.0f} GB, {platform.system()}, Python {platform.python_version()}"
    )


def this_commit() -> str:
    """The commit that is checked out, in short; "unknown" outside of a repository."""
    command = ("git", "-C", str(_ROOT), "rev-parse", "--short=7", "HEAD")
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"
