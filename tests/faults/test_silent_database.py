"""A database that takes connections and says nothing any more: who is told to stop stops within 5 s all the same, in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.load import Stack
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres


@contextmanager
def silent(server: EmbeddedPostgres) -> Generator[None]:
    """The server with all its processes halted, while the context lasts."""
    assert server.pid is not None
    halted = [server.pid]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        # A parent that is halted starts no more children, and a child that ends now keeps its number.
        stat = Path(f"/proc/{server.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.005)
        halted += map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())
        for pid in halted[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in halted:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("module", "works"), [("ingest_worker", "connected to MQTT"), ("event_relay", "shares held")])
async def test_a_process_whose_database_says_nothing_any_more_stops_in_time_and_in_order(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto, service_folder: Path, module: str, works: str
) -> None:
    with WorkerProcess(service_folder, stack.database_url, module=module, mqtt_url=own_mosquitto.url()) as process:
        await process.says(works)
        with silent(own_postgres):
            # Both ask the database something every second; the probe's own answer takes up to two.
            await process.get("/readyz")
            process.send(signal.SIGTERM)
            assert await process.exit_status() == 0, process.log()
