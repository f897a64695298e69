"""The read API as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from tests.read_api.seed import MICROGRID, put_site
from tests.real_services.schema import migrate

from event_store.database import open_pool
from operator_cli.embedded_postgres import EmbeddedPostgres
from operator_cli.embedded_process import free_port
from read_api.main import serve
from service_runtime.dev_key import DevGrant, access_token, load_dev_key
from service_runtime.process import StartFault
from service_runtime.settings import Settings

# That it is left behind when it does not stop in time is shown elsewhere; here a busy machine may take its time.
_PATIENT = """
import sys
from read_api.main import run
from service_runtime import process

process.LATEST_STOP_S = 120.0
sys.exit(run())
"""


def _children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


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
    return subprocess.Popen([sys.executable, "-c", _PATIENT], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_database_that_is_not_there_ends_the_start_with_one_clear_line() -> None:
    process = _start("postgresql://u:hunter2@127.0.0.1:1/nothing")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("depotgrid read-api: cannot use the database at 127.0.0.1:1/nothing")
    assert "hunter2" not in said


async def test_a_signal_stops_it_also_with_open_streams(database_url: str) -> None:
    pool = await open_pool(database_url, "tests")
    await put_site(pool)
    await pool.close()
    process = await asyncio.to_thread(_start, database_url)
    try:
        assert process.stderr is not None
        assert "access tokens are not checked" in await asyncio.to_thread(process.stderr.readline)
        serving = await asyncio.to_thread(process.stderr.readline)
        address = serving.partition('"address": "')[2].partition('"')[0]
        async with httpx2.AsyncClient(timeout=60) as http:
            ready = await http.get(f"{address}/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (200, [])
            async with http.stream("GET", f"{address}/api/microgrid/{MICROGRID}/stream") as response:
                lines = response.aiter_lines()
                assert await anext(lines) == "event: card"
                process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert await asyncio.to_thread(process.stderr.read) == ""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


async def test_a_signal_stops_it_also_while_the_database_says_nothing_any_more(service_folder: Path) -> None:
    with EmbeddedPostgres(service_folder / "postgres") as server:
        url = server.create_database("silent")
        migrate(url)
        process = await asyncio.to_thread(_start, url)
        stopped: list[int] = []
        try:
            assert process.stderr is not None
            assert "access tokens are not checked" in await asyncio.to_thread(process.stderr.readline)
            serving = await asyncio.to_thread(process.stderr.readline)
            address = serving.partition('"address": "')[2].partition('"')[0]
            async with httpx2.AsyncClient(timeout=60) as http:
                assert (await http.get(f"{address}/readyz")).status_code == 200
                assert server.pid is not None
                stopped = [server.pid, *_children_of(server.pid)]
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                asked = asyncio.create_task(http.get(f"{address}/api/depot"))
                # The question is on its way to a server that will not answer it.
                await asyncio.wait({asked}, timeout=0.5)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 30) == 0
                with contextlib.suppress(httpx2.HTTPError):
                    await asked
            assert "did not stop" not in await asyncio.to_thread(process.stderr.read)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


async def test_what_it_can_not_do_without_ends_the_start_with_the_name_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(StartFault, match="DEPOTGRID_DEV_KEY_FILE"):
        await serve(_settings("postgresql://h/d", auth="dev", dev_key_file=tmp_path / "key.json"), asyncio.Event())
    with pytest.raises(StartFault, match="DEPOTGRID_DATABASE_URL"):
        await serve(_settings(None), asyncio.Event())


async def test_with_the_local_issuer_it_takes_tokens_of_the_key_file_and_shows_the_sign_in_page(
    database_url: str, tmp_path: Path
) -> None:
    key_file = tmp_path / "key.json"
    grant, now_s = DevGrant("ada", "viewer", None, None), int(time.time())
    token = access_token(load_dev_key(key_file), "http://localhost:1/auth/dev", grant, now_s=now_s, ttl_s=3600)
    stop, port = asyncio.Event(), free_port()
    serving = asyncio.create_task(serve(_settings(database_url, auth="dev", dev_key_file=key_file, http_port=port), stop))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        async with asyncio.timeout(60):
            while not await _listens(http):
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.05)
        assert (await http.get("/api/depot")).status_code == 401
        assert (await http.get("/api/depot", headers={"Authorization": f"Bearer {token}"})).status_code == 200
        assert "Sign in" in (await http.get("/auth/dev")).text
    stop.set()
    await serving


async def _listens(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/livez")).status_code == 200
    except httpx2.ConnectError:
        return False
