"""A worker that can not start says why in one line, with the matching exit status, and keeps every password to itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_process import free_port

DATABASE = "postgresql://someone:topsecret@127.0.0.1:5432/depotgrid"
MQTT = "mqtt://someone:topsecret@127.0.0.1:1883"


async def refused(worker: WorkerProcess) -> tuple[int, list[str]]:
    """Exit status and what the worker wrote, for one that must not start."""
    with worker:
        status = await worker.exit_status()
    return status, worker.log().splitlines()


def assert_one_line(lines: list[str], *words: str) -> None:
    assert len(lines) == 1, lines
    assert lines[0].startswith("depotgrid ingest: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert "topsecret" not in lines[0]
    assert "Traceback" not in lines[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"mqtt_qos": 0}, ("DEPOTGRID_MQTT_QOS", "lose"), id="QoS 0"),
        pytest.param({"mqtt_clean_session": "true"}, ("DEPOTGRID_MQTT_CLEAN_SESSION", "lose"), id="clean session"),
        pytest.param({"mqtt_client_id": ""}, ("DEPOTGRID_MQTT_CLIENT_ID", "lose"), id="empty client id"),
        pytest.param({"mqtt_session_expiry_s": 60}, ("DEPOTGRID_MQTT_SESSION_EXPIRY_S", "lose"), id="short session"),
        pytest.param({"mqtt_url": ""}, ("DEPOTGRID_MQTT_URL", "DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS"), id="no broker"),
        pytest.param({"database_url": "mysql://a:topsecret@h/d"}, ("DEPOTGRID_DATABASE_URL", "postgresql://"), id="bad scheme"),
        pytest.param({"database_url": ""}, ("DEPOTGRID_DATABASE_URL", "not set"), id="no database"),
        pytest.param({"kafka_bootstrap_servers": "nowhere"}, ("DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS", "nowhere"), id="no port"),
    ],
)
async def test_a_setting_that_is_wrong_or_would_lose_packets_stops_the_start_with_status_2(
    tmp_path: Path, settings: dict[str, object], words: tuple[str, ...]
) -> None:
    status, lines = await refused(WorkerProcess(tmp_path, DATABASE, mqtt_url=MQTT).setting(**settings))
    assert status == 2
    assert_one_line(lines, *words)


async def test_a_database_where_nothing_listens_stops_the_start_with_status_1(tmp_path: Path) -> None:
    port = free_port()
    address = f"postgresql://someone:topsecret@127.0.0.1:{port}/depotgrid"
    status, lines = await refused(WorkerProcess(tmp_path, address, mqtt_url=MQTT))
    assert status == 1
    assert_one_line(lines, f"127.0.0.1:{port}/depotgrid", "DEPOTGRID_DATABASE_URL")


async def test_a_database_that_does_not_exist_stops_the_start_with_status_1(tmp_path: Path, database_url: str) -> None:
    address = database_url.rpartition("/")[0] + "/no_such_database"
    status, lines = await refused(WorkerProcess(tmp_path, address, mqtt_url=MQTT))
    assert status == 1
    assert_one_line(lines, "no_such_database", "DEPOTGRID_DATABASE_URL")
    assert str(urlsplit(database_url).password) not in lines[0]


async def test_a_wrong_password_stops_the_start_with_status_1(tmp_path: Path, database_url: str) -> None:
    password = str(urlsplit(database_url).password)
    status, lines = await refused(WorkerProcess(tmp_path, database_url.replace(password, "topsecret"), mqtt_url=MQTT))
    assert status == 1
    assert_one_line(lines, "password", "DEPOTGRID_DATABASE_URL")


async def test_a_database_that_was_never_migrated_stops_the_start_with_status_1(tmp_path: Path, empty_database_url: str) -> None:
    status, lines = await refused(WorkerProcess(tmp_path, empty_database_url, mqtt_url=MQTT))
    assert status == 1
    assert_one_line(lines, "depotgrid db migrate")


async def test_a_port_that_is_taken_stops_the_start_with_status_1(tmp_path: Path, database_url: str) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, lines = await refused(WorkerProcess(tmp_path, database_url, mqtt_url=MQTT, http_port=port))
    assert status == 1
    assert any(str(port) in line and "DEPOTGRID_HTTP_PORT" in line for line in lines), lines
