"""`depotgrid up` as a person starts it: it comes up, finds its data again, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_cli.embedded_process import free_port, port_is_free

pytestmark = pytest.mark.services

# The machine may be busy with other tests; a person's machine takes a small part of it.
_PATIENCE_S = 120.0


class _Up:
    """One `depotgrid up --demo` on ports of its own."""

    def __init__(self, data_dir: Path, *, port: int | None = None, mqtt_port: int | None = None, auth: str | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.mqtt_port = mqtt_port or free_port()
        self.log = data_dir.parent / f"{data_dir.name}-{self.port}.log"
        command = [sys.executable, "-m", "operator_cli", "up", "--demo", "--data-dir", str(data_dir)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
        environment |= {"DEPOTGRID_AUTH": auth} if auth is not None else {}
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--mqtt-port", str(self.mqtt_port)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=data_dir.parent,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_up(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(f"depotgrid is up: {self.url} "), self.log.read_text()
        return time.monotonic() - self.started

    def card(self) -> dict[str, Any]:
        """What the card says; a problem's answer while what it needs is away."""
        return httpx2.get(f"{self.url}/api/depot/demo-depot/microgrid/card", timeout=30).json()

    def observed(self) -> list[Any] | None:
        """When the card's capabilities were observed; None while there is no card."""
        capabilities = self.card().get("capabilities")
        return None if capabilities is None else [one["observed_at"] for one in capabilities]

    def descendants(self) -> list[int]:
        """Every process that belongs to it, by its data folder or its parents."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in task.read_text().split()]
        return found[1:]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE_S)


def _wait_until(what: Callable[[], bool], patience_s: float = _PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start() -> Generator[Callable[..., _Up]]:
    ups: list[_Up] = []

    def begin(*arguments: Any, **options: Any) -> _Up:
        ups.append(_Up(*arguments, **options))
        return ups[-1]

    yield begin
    for up in ups:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)
        if up.process.stdout is not None:
            up.process.stdout.close()


def test_it_comes_up_stops_at_ctrl_c_and_finds_its_data_again(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    _wait_until(lambda: [one["operational_status"] is not None for one in up.card()["capabilities"]] == [True, True])
    run = json.loads((up.data_dir / "run.json").read_text())
    assert (run["api_url"], run["pid"]) == (up.url, up.process.pid)
    assert (up.data_dir / "run.json").stat().st_mode & 0o777 == 0o600
    microgrid_id = up.card()["microgrid_id"]
    processes = up.descendants()
    assert len(processes) >= 5
    assert up.end(signal.SIGINT) == 0
    _wait_until(lambda: not any(_alive(pid) for pid in processes))
    assert port_is_free(up.port)
    assert port_is_free(up.mqtt_port)
    assert not (up.data_dir / "run.json").exists()

    again = start(up.data_dir, port=up.port, mqtt_port=up.mqtt_port)
    again.wait_up()
    assert again.card()["microgrid_id"] == microgrid_id
    assert again.end(signal.SIGTERM) == 0


def test_a_service_that_dies_is_started_again_and_nothing_is_lost(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    _wait_until(lambda: bool(up.card()["capabilities"]))

    (worker,) = _running(up, "-m\0ingest_worker\0")
    os.kill(worker, signal.SIGKILL)
    _wait_until(lambda: _running(up, "-m\0ingest_worker\0") not in ([], [worker]))
    _wait_for_news(up)
    assert "ended with status -9, starts again" in up.log.read_text()


def test_a_broker_that_dies_is_started_again(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    (broker,) = _running(up, "mosquitto\0-c\0")
    os.kill(broker, signal.SIGKILL)
    _wait_until(lambda: _running(up, "mosquitto\0-c\0") not in ([], [broker]))
    _wait_for_news(up)


def test_a_database_that_can_not_be_started_again_yet_is_tried_until_it_can(
    start: Callable[..., _Up], service_folder: Path
) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    password = up.data_dir / "postgres" / "password"
    password.rename(hidden := password.with_name("hidden"))
    (database,) = [pid for pid in _running(up, "bin/postgres\0-D\0") if _parent(pid) == up.process.pid]
    os.kill(database, signal.SIGQUIT)
    _wait_until(lambda: "could not start, tried again in 5 s" in up.log.read_text())
    assert up.process.poll() is None
    hidden.rename(password)
    _wait_until(lambda: "capabilities" in up.card())
    _wait_for_news(up)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _running(up: _Up, command: str) -> list[int]:
    found: list[int] = []
    for pid in up.descendants():
        with contextlib.suppress(OSError):
            if command in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found


def _wait_for_news(up: _Up) -> None:
    """Wait until the card says something that it did not say before."""
    seen: list[list[Any]] = []

    def has_news() -> bool:
        observed = up.observed()
        if observed is not None and observed not in seen:
            seen.append(observed)
        return len(seen) > 1

    _wait_until(has_news)


def test_a_second_signal_leaves_at_once_and_leaves_nothing(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    processes = up.descendants()
    up.process.send_signal(signal.SIGSTOP)  # so that both signals wait for it
    for number in (signal.SIGINT, signal.SIGTERM):
        up.process.send_signal(number)
    up.process.send_signal(signal.SIGCONT)
    up.process.wait(_PATIENCE_S)
    _wait_until(lambda: not any(_alive(pid) for pid in processes))
    assert port_is_free(up.port)


def test_its_death_takes_everything_along(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    processes = up.descendants()
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    _wait_until(lambda: not any(_alive(pid) for pid in processes))


@pytest.mark.parametrize(("which", "named"), [("port", "--port"), ("mqtt_port", "--mqtt-port")])
def test_a_port_that_is_taken_is_one_line_and_leaves_nothing(
    start: Callable[..., _Up], service_folder: Path, which: str, named: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start(service_folder / "data", **{which: port})
        assert up.process.wait(_PATIENCE_S) == 1
    said = up.log.read_text()
    assert said.count("\n") == 1
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert named in said
    assert not (up.data_dir / "run.json").exists()
    assert not (up.data_dir / "postgres" / "data").exists()


def test_a_folder_that_is_in_use_is_one_line(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data")
    up.wait_up()
    second = start(service_folder / "data")
    assert second.process.wait(_PATIENCE_S) == 1
    assert "is in use by another `depotgrid up`" in second.log.read_text()
    assert up.card()["depot_id"] == "demo-depot"


def test_with_the_local_issuer_only_its_tokens_open_the_depot(start: Callable[..., _Up], service_folder: Path) -> None:
    up = start(service_folder / "data", auth="dev")
    up.wait_up()
    command = [sys.executable, "-m", "operator_cli", "token", "--role", "viewer", "--data-dir", str(up.data_dir)]
    token = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_PATIENCE_S).stdout.strip()
    address = f"{up.url}/api/depot/demo-depot"
    assert httpx2.get(address, timeout=30).json()["code"] == "UNAUTHENTICATED"
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(address, headers=bearer, timeout=30).json()["depot_id"] == "demo-depot"
    assert httpx2.delete(address, headers=bearer, timeout=30).json()["code"] == "FORBIDDEN"
    assert "Sign in" in httpx2.get(f"{up.url}/auth/dev", timeout=30).text
