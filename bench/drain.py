"""How fast a process drains what waits for it, and what processor time that takes.

The clock runs until the last row is stored. It starts when the process connects to Mosquitto, which then sends all that it has: who
reads far ahead before the first commit must not get that for nothing. From Kafka, where what is read ahead has a bound, it starts
with the first stored row. Rows are counted by the table's sequence, which costs nothing, and exactly only near the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bench.stack import Stack

_BOUND_S = 180.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Drained:
    """One contender's run: packets stored, seconds that it took, and the CPU seconds of whoever took part."""

    name: str
    packets: int
    seconds: float
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Packets per second."""
        return self.packets / self.seconds

    def cpu_us(self, who: str) -> float:
        """CPU microseconds per packet of `worker`, `broker` or `database`."""
        return self.cpu_s[who] / self.packets * 1e6


@dataclass(frozen=True, slots=True)
class Contender:
    """Who drains: the command that starts it, and the table that it fills: `event_store` (ours) or `bare`."""

    name: str
    command: Sequence[str]
    table: str
    packets: int


async def drain(
    contender: Contender,
    on: Stack,
    environment: Mapping[str, str],
    broker_pid: int | None,
    has_begun: Callable[[], bool] = lambda: False,
) -> Drained:
    """Start the contender's process on what waits for it, watch until all is stored, end it.

    The clock starts when it `has_begun`, and with the first stored row at the latest.
    """
    connection = await asyncpg.connect(on.database_url)
    await connection.execute("CHECKPOINT")
    before = await _count(connection, contender.table)
    with _process(contender.command, environment) as process:
        pids = {"worker": process.pid, "broker": broker_pid or 0, "database": on.postgres.pid or 0}
        used_before: dict[str, float] = {}
        first = last = 0.0
        stored = 0
        bound = time.monotonic() + _BOUND_S
        while stored < contender.packets and time.monotonic() < bound:
            await asyncio.sleep(_LOOK_S if first else _LOOK_S / 10)
            almost = stored > contender.packets * 0.97
            stored = (
                await _count(connection, contender.table) if almost else await _estimate(connection, contender.table)
            ) - before
            last = time.perf_counter()
            if not first and (stored > 0 or has_begun()):
                # What starting takes is no matter of the packets.
                first, used_before = last, {who: _tree_cpu_s(pid) for who, pid in pids.items()}
        used = {who: _tree_cpu_s(pid) - used_before[who] for who, pid in pids.items()}
    await connection.close()
    return Drained(contender.name, stored, last - first, used)


def somebody_is_connected(port: int) -> bool:
    """Whether there is a connection on this machine to a port of 127.0.0.1."""
    remote = f"0100007F:{port:04X}"
    # Fields: number, local address, remote address, state (01 is established), …
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[2] == remote and row[3] == "01" for row in rows)


@contextlib.contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        yield child
    finally:
        child.terminate()
        child.wait(15)


async def _count(connection: Any, table: str) -> int:
    return await connection.fetchval(f"SELECT count(*) FROM {table}")


async def _estimate(connection: Any, table: str) -> int:
    """What the table's sequence has given out: never less than there are rows, and at most a batch more."""
    column = "global_position" if table == "event_store" else "position"
    return await connection.fetchval(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_{column}_seq")


def _tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, those included that ended and were waited for."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if stat.parent.name == str(pid):
                total += sum(int(one) for one in fields[11:15])
            elif fields[1] == str(pid):
                total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
