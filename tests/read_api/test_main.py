"""The read API as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import httpx2
import pytest
from tests.read_api.seed import MICROGRID, put_site

from event_store.database import open_pool
from read_api.main import StartFault, serve
from service_runtime.settings import Settings


def _settings(database_url: str | None, **more: object) -> Settings:
    settings: Settings = Settings.model_validate({"database_url": database_url, "auth": "off", "http_port": 0, **more})
    return settings


def _start(database_url: str, port: str = "0") -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DEPOTGRID_DATABASE_URL": database_url,
        "DEPOTGRID_AUTH": "off",
        "DEPOTGRID_HTTP_PORT": port,
        "DEPOTGRID_LOG_FORMAT": "json",
    }
    return subprocess.Popen([sys.executable, "-m", "read_api"], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_database_that_is_not_there_ends_the_start_with_one_clear_line() -> None:
    process = _start("postgresql://u:hunter2@127.0.0.1:1/nothing")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("cannot use the database at 127.0.0.1:1/nothing")
    assert "hunter2" not in said


async def test_a_signal_stops_it_within_5_s_also_with_open_streams(database_url: str) -> None:
    pool = await open_pool(database_url, "tests")
    await put_site(pool)
    await pool.close()
    process = await asyncio.to_thread(_start, database_url)
    try:
        assert process.stderr is not None
        serving = await asyncio.to_thread(process.stderr.readline)
        address = serving.partition('"address": "')[2].partition('"')[0]
        async with httpx2.AsyncClient(timeout=10) as http:
            ready = await http.get(f"{address}/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (200, [])
            async with http.stream("GET", f"{address}/api/microgrid/{MICROGRID}/stream") as response:
                lines = response.aiter_lines()
                assert await anext(lines) == "event: card"
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
        assert await asyncio.to_thread(process.wait, 10) == 0
        assert time.monotonic() - began < 5
        assert await asyncio.to_thread(process.stderr.read) == ""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


async def test_it_never_serves_without_being_told_that_anyone_may_read() -> None:
    with pytest.raises(StartFault, match="DEPOTGRID_AUTH"):
        await serve(_settings("postgresql://h/d", auth="oidc", oidc_issuer="https://issuer.example"), asyncio.Event())
    with pytest.raises(StartFault, match="DEPOTGRID_DATABASE_URL"):
        await serve(_settings(None), asyncio.Event())
