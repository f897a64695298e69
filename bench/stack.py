"""What the figures are measured on: real PostgreSQL, Mosquitto and Kafka in a folder of their own, and our services beside them.

All of it is started for one figure and ended after it, whatever happens between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import asyncpg
from deploy.dev.embedded_kafka import EmbeddedKafka

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from sensor_packet.topics import KAFKA_PACKET_TOPIC
from site_operations.migrate import migrate

_READY_S = 60.0
_END_S = 15.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A migrated, empty database and the brokers that were asked for. A port of 0 and an empty address: not asked for."""

    database_url: str
    postgres: EmbeddedPostgres
    mosquitto: EmbeddedMosquitto | None
    kafka: EmbeddedKafka | None

    @property
    def mqtt_port(self) -> int:
        """Where Mosquitto listens."""
        return int(self.mosquitto.port) if self.mosquitto is not None else 0

    @property
    def kafka_servers(self) -> str:
        """Kafka's `host:port`."""
        return self.kafka.bootstrap_servers if self.kafka is not None else ""


@dataclass(frozen=True, slots=True)
class Service:
    """One of our processes: its HTTP port, its process id, and how long it took from its start until it was ready."""

    port: int
    pid: int
    ready_s: float

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used so far, in user and kernel."""
        return cpu_s(self.pid)

    def resident_mb(self) -> float:
        """Memory that it holds now, in megabytes of 10^6 bytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


@contextlib.contextmanager
def stack(*, mqtt: bool = False, kafka: bool = False, partitions: int = 4) -> Generator[Stack]:
    """Start what is asked for; the packet topic has `partitions`."""
    with contextlib.ExitStack() as running:
        name = running.enter_context(tempfile.TemporaryDirectory(prefix="depotgrid-bench-", ignore_cleanup_errors=True))
        folder = Path(name)
        postgres = running.enter_context(EmbeddedPostgres(folder / "postgres"))
        mosquitto = running.enter_context(EmbeddedMosquitto(folder / "mosquitto")) if mqtt else None
        broker = running.enter_context(EmbeddedKafka(folder / "kafka")) if kafka else None
        url = postgres.create_database("bench")
        migrate(url)
        if broker is not None:
            asyncio.run(broker.create_topic(KAFKA_PACKET_TOPIC, partitions))
        yield Stack(url, postgres, mosquitto, broker)


@contextlib.contextmanager
def service(module: str, on: Stack, **settings: object) -> Generator[Service]:
    """Run one of our services on a stack until the context ends; it is ready at once. `settings` are named in small letters."""
    port = free_port()
    wanted = {
        "database_url": on.database_url,
        "auth": "off",
        "log_level": "ERROR",
        "http_port": port,
        **({"mqtt_url": on.mosquitto.url()} if on.mosquitto is not None else {}),
        **({"kafka_bootstrap_servers": on.kafka_servers} if on.kafka is not None else {}),
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    environment = {**inherited, **{f"DEPOTGRID_{name.upper()}": str(value) for name, value in wanted.items()}}
    begun = perf_counter()
    child = subprocess.Popen([sys.executable, "-m", module], env=environment)
    try:
        _wait_until_ready(child, port)
        yield Service(port, child.pid, perf_counter() - begun)
    finally:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_until_ready(child: subprocess.Popen[bytes], port: int) -> None:
    ends = perf_counter() + _READY_S
    while perf_counter() < ends:
        if child.poll() is not None:
            raise RuntimeError(f"a service ended with {child.returncode} before it was ready")
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200:
                return
        sleep(0.01)
    raise TimeoutError("a service did not become ready")


def run_sql(on: Stack, script: str) -> None:
    """Run statements as the owner of the database, then gather statistics."""

    async def run() -> None:
        connection = await asyncpg.connect(on.database_url)
        try:
            await connection.execute(script, timeout=300)
            await connection.execute("ANALYZE")
        finally:
            await connection.close()

    asyncio.run(run())


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
