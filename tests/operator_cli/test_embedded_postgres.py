"""The embedded PostgreSQL against the real binaries."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from tests.real_services.processes import alive

from operator_cli.embedded_postgres import EmbeddedPostgres
from operator_cli.embedded_process import EmbeddedProcess, ServiceFailedError


async def test_a_fresh_database_is_reachable_and_durable(postgres: EmbeddedPostgres, empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        settings = {
            name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "server_version_num")
        }
    finally:
        await connection.close()
    assert settings["fsync"] == "on"
    assert settings["synchronous_commit"] == "on"
    assert settings["server_version_num"].startswith("18")


async def test_another_user_of_the_machine_does_not_get_in_without_the_password(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host="127.0.0.1", port=postgres.port, user="postgres", password="guess", database="postgres")


@pytest.mark.parametrize("end", ["restart", "kill9"])
def test_committed_rows_outlive(service_folder: Path, end: str) -> None:
    with EmbeddedPostgres(service_folder / "pg") as server:
        server.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        getattr(server, end)()
        server.start()
        assert server.execute("SELECT n FROM kept") == "7"


def test_stop_leaves_no_process(service_folder: Path) -> None:
    server = EmbeddedPostgres(service_folder / "pg").start()
    pid = server.pid
    assert pid is not None
    server.stop()
    assert not alive(pid)
    assert not server.running


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_a_server_dies_with_its_killed_starter_and_its_folder_starts_again(service_folder: Path) -> None:
    script = (
        "import sys, threading, time; from pathlib import Path; from operator_cli.embedded_postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1]))\n"
        "starter = threading.Thread(target=server.start); starter.start(); starter.join()\n"
        "server.execute('CREATE TABLE kept (n int)'); print(server.pid, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script, str(service_folder / "pg")], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout:
        pid = int(starter.stdout.readline())
    assert alive(pid), "the server must outlive the thread that asked for it"
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, "the server must die with its starter"
        time.sleep(0.01)
    with EmbeddedPostgres(service_folder / "pg") as server:
        assert server.execute("SELECT count(*) FROM kept") == "0"


def test_a_pid_file_whose_number_went_to_another_process_does_not_stop_the_start(service_folder: Path) -> None:
    server = EmbeddedPostgres(service_folder / "pg").start()
    server.kill9()
    # Of the same user, and not the server's parent: only such a process is mistaken for a server.
    stranger = EmbeddedProcess("idle", service_folder / "idle")
    stranger.spawn(["/bin/sleep", "60"])
    pid_file = service_folder / "pg" / "data" / "postmaster.pid"
    _, *others = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(stranger.pid), *others]))
    (service_folder / "pg" / "pid").write_text(f"{stranger.pid}\n")
    try:
        server.start()
        assert stranger.running
    finally:
        server.stop()
        stranger.kill9()


def test_a_second_starter_of_the_same_folder_is_told_so_in_one_line(service_folder: Path) -> None:
    with EmbeddedPostgres(service_folder / "pg"), pytest.raises(ServiceFailedError, match=r"in use by another depotgrid.*\Z"):
        EmbeddedPostgres(service_folder / "pg").start()


def test_a_first_start_that_was_cut_short_is_begun_anew(service_folder: Path) -> None:
    half_made = service_folder / "pg" / "data-new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(service_folder / "pg") as server:
        assert server.execute("SELECT 1") == "1"


def test_a_lost_password_is_told_in_one_line(service_folder: Path) -> None:
    server = EmbeddedPostgres(service_folder / "pg").start()
    server.stop()
    (service_folder / "pg" / "password").unlink()
    with pytest.raises(ServiceFailedError, match=r"password is gone.*restore it\Z"):
        server.start()


def test_a_taken_port_is_named(service_folder: Path, postgres: EmbeddedPostgres) -> None:
    with pytest.raises(ServiceFailedError, match=f"port {postgres.port} .* is taken"):
        EmbeddedPostgres(service_folder / "pg", port=postgres.port).start()


def test_a_server_that_cannot_start_says_why_with_its_log(service_folder: Path) -> None:
    server = EmbeddedPostgres(service_folder / "pg").start()
    server.stop()
    with (service_folder / "pg" / "data" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    # Not for as long as a server may take that does start, which would be "not ready within".
    with pytest.raises(ServiceFailedError, match=r"(?s)ended with status 1.*no_such_setting"):
        server.start()
    assert not server.running


def test_data_of_another_major_version_is_refused(service_folder: Path) -> None:
    server = EmbeddedPostgres(service_folder / "pg").start()
    server.stop()
    (service_folder / "pg" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServiceFailedError, match="belongs to PostgreSQL 17"):
        server.start()
