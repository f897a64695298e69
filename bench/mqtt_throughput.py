"""How fast one worker drains a backlog over MQTT QoS 1, acknowledged after commit, beside the stock handler and the bare limit.

Each contender gets its own persistent session, filled while nobody is connected, and an empty database; then its process starts
and the clock runs from its first stored row to its last. All in one run, on one machine, one after the other.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from gmqtt import Client, Subscription

from bench import backlog, bare_limit, stock_handler
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from site_operations.migrate import migrate

PACKETS = int(os.environ.get("BENCH_PACKETS", "60000"))
_STOCK_PACKETS = 4_000
_BOUND_S = 120
_LISTENING_S = 4.0


@dataclass(frozen=True)
class Drained:
    """One contender's run: packets stored, seconds from the first to the last, and CPU seconds of its process."""

    name: str
    packets: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Packets per second."""
        return self.packets / self.seconds


def measure() -> dict[str, Drained]:
    """Run the three contenders once each."""
    with tempfile.TemporaryDirectory(prefix="depotgrid-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedMosquitto(folder / "mosquitto") as mosquitto:
            url = postgres.create_database("bench")
            migrate(url)
            asyncio.run(_prepare(url))
            port = int(mosquitto.port)
            environment = {
                **os.environ,
                "DEPOTGRID_DATABASE_URL": url,
                "DEPOTGRID_MQTT_URL": f"mqtt://127.0.0.1:{port}",
                "DEPOTGRID_MQTT_CLIENT_ID": "bench-ours",
                "DEPOTGRID_AUTH": "off",
                "DEPOTGRID_HTTP_PORT": "0",
                "DEPOTGRID_LOG_LEVEL": "WARNING",
            }
            contenders = (
                ("ours", "bench-ours", PACKETS, [sys.executable, "-m", "ingest_worker"], "event_store"),
                ("bare limit", bare_limit.CLIENT_ID, PACKETS, [sys.executable, "-m", "bench.bare_limit", url, str(port)], "bare"),
                (
                    "stock handler",
                    stock_handler.CLIENT_ID,
                    _STOCK_PACKETS,
                    [sys.executable, "-m", "bench.stock_handler", url, str(port)],
                    "bare",
                ),
            )
            return {
                name: asyncio.run(_drain(name, client_id, packets, command, environment, url, port, table))
                for name, client_id, packets, command, table in contenders
            }


async def _prepare(url: str) -> None:
    await backlog.seed_site(url)
    connection = await asyncpg.connect(url)
    await connection.execute(bare_limit.TABLE)
    await connection.close()


async def _drain(
    name: str,
    client_id: str,
    packets: int,
    command: list[str],
    environment: dict[str, str],
    url: str,
    port: int,
    table: str,
) -> Drained:
    connection = await asyncpg.connect(url)
    if table == "bare":
        await connection.execute("TRUNCATE bare")
    live = table == "bare" and client_id == stock_handler.CLIENT_ID
    if not live:
        await _session(client_id, port, lambda client: client.subscribe(Subscription("iot/v1/+/+/packet", qos=1)))
        _fill(port, packets)
    await connection.execute("CHECKPOINT")
    before = await connection.fetchval(f"SELECT count(*) FROM {table}")
    process = subprocess.Popen(command, env=environment)  # noqa: ASYNC220 - nothing else runs in this loop yet
    try:
        if live:
            # The stock handler's client breaks off when packets arrive before its subscription is confirmed, so it gets no
            # backlog: its packets are published while it listens, which only flatters it.
            await asyncio.sleep(_LISTENING_S)
            threading.Thread(target=_fill, args=(port, packets)).start()
        first = last = 0.0
        stored = 0
        bound = time.monotonic() + _BOUND_S
        while stored < packets and time.monotonic() < bound:
            await asyncio.sleep(0.02)
            stored = (
                await connection.fetchval(f"SELECT count(*) FROM {table}") - before
                if stored > packets * 0.97
                else (await _estimate(connection, table, before, packets))
            )
            now = time.perf_counter()
            first = first or (now if stored else 0.0)
            last = now
        cpu_s = _cpu_s(process.pid)
    finally:
        process.terminate()
        process.wait(10)
    await connection.close()
    await _session(client_id, port, lambda _: None, end=True)
    return Drained(name, stored, last - first, cpu_s)


def _fill(port: int, packets: int) -> None:
    start = backlog.start_time()
    publisher = backlog.MqttPublisher(port)
    publisher.publish([backlog.packet(number, start) for number in range(packets)])
    publisher.close()


async def _estimate(connection: Any, table: str, before: int, packets: int) -> int:
    """A count that costs nothing while the contender works; exact only near the end, where it is not used."""
    if table == "event_store":
        value = await connection.fetchval("SELECT last_value FROM event_store_global_position_seq WHERE is_called")
        return min((value or 0) - before, packets)
    return await connection.fetchval(f"SELECT count(*) FROM {table}") - before


async def _session(client_id: str, port: int, act: Callable[[Any], object], *, end: bool = False) -> None:
    """Make a persistent session with its subscription, or end it."""
    client: Any = Client(client_id, clean_session=end, session_expiry_interval=0 if end else 3600)
    subscribed = asyncio.Event()

    def confirmed(*_: object) -> None:
        subscribed.set()

    client.on_subscribe = confirmed
    await client.connect("127.0.0.1", port)
    act(client)
    if not end:
        await subscribed.wait()
    await client.disconnect()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print one run."""
    for drained in measure().values():
        print(
            f"{drained.name:14} {drained.packets:7} packets in {drained.seconds:6.2f} s = {drained.rate:8.0f}/s, "
            f"{drained.cpu_s / max(drained.packets, 1) * 1e6:6.1f} µs CPU each"
        )


if __name__ == "__main__":
    main()
