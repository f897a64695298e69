"""What every embedded service relies on: nothing is left behind, and only our own is ever ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.real_services.processes import alive

from operator_cli import embedded_process
from operator_cli.embedded_process import EmbeddedProcess, ServiceFailedError, free_port, make_reachable, port_is_free

_LAUNCHER = Path(embedded_process.__file__).with_name("embedded_launcher.py")
_SURVIVES_ITS_STARTER = """
import os, signal, sys
from pathlib import Path
from operator_cli.embedded_process import EmbeddedProcess
process = EmbeddedProcess("idle", Path(sys.argv[1]), on_parent_death=signal.SIGCONT)
process.spawn(["/bin/sh", "-c", 'echo up; exec tail -f "$0"', process.log])
process.wait_until(lambda: b"up" in process.log.read_bytes(), timeout_s=60)
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _leave_one_behind(folder: Path) -> int:
    started = subprocess.run(
        [sys.executable, "-c", _SURVIVES_ITS_STARTER, str(folder)], capture_output=True, text=True, check=False
    )
    return int(started.stdout)


def test_what_a_dead_starter_left_in_the_folder_is_ended(service_folder: Path) -> None:
    pid = _leave_one_behind(service_folder / "idle")
    assert alive(pid)
    process = EmbeddedProcess("idle", service_folder / "idle")
    process.lock()
    assert process.end_leftover() is True
    # Its memory, by which it is known, goes a moment before it is gone.
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not alive(pid)
    assert process.end_leftover() is False
    process.unlock()


def test_a_process_that_got_the_number_since_is_left_alone(service_folder: Path) -> None:
    process = EmbeddedProcess("idle", service_folder / "idle")
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        (process.folder / "pid").write_text(f"{stranger.pid}\n")
        process.lock()
        assert process.end_leftover() is False
        assert stranger.poll() is None
        stranger.kill()
    process.unlock()


def test_the_launcher_starts_nothing_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), "1", str(int(signal.SIGKILL)), "", "", "/usr/bin/touch", str(mark)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the starter died" in done.stderr
    assert not mark.exists()


def test_a_program_that_does_not_exist_is_told_with_the_log(service_folder: Path) -> None:
    process = EmbeddedProcess("idle", service_folder / "idle")
    process.spawn(["/nowhere/idle"])
    with pytest.raises(ServiceFailedError, match=r"(?s)idle ended with status 1 while starting.*No such file"):
        process.wait_until(lambda: False, timeout_s=60)
    process.kill9()


def test_a_service_that_never_gets_ready_is_ended_and_told(service_folder: Path) -> None:
    process = EmbeddedProcess("idle", service_folder / "idle")
    process.spawn(["/bin/sleep", "60"])
    pid = process.pid
    assert pid is not None
    with pytest.raises(ServiceFailedError, match=r"idle was not ready within 0.1 s"):
        process.wait_until(lambda: False, timeout_s=0.1)
    assert not alive(pid)


def test_a_child_that_ignores_its_signals_is_killed_in_the_end(service_folder: Path) -> None:
    process = EmbeddedProcess("idle", service_folder / "idle")
    process.spawn(["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"])
    process.wait_until(lambda: b"deaf" in process.log.read_bytes(), timeout_s=60)
    process.stop((signal.SIGTERM, 0.2))
    assert not process.running


def test_a_service_does_not_see_our_secrets(service_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPOTGRID_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in EmbeddedProcess("idle", service_folder / "idle").run(["/usr/bin/env"], timeout_s=60)


def test_a_long_log_is_set_aside_at_the_next_start(service_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_process, "_LOG_KEPT_BYTES", 10)
    process = EmbeddedProcess("idle", service_folder / "idle")
    process.log.write_text("of the run before")
    process.spawn(["/bin/sleep", "60"])
    process.kill9()
    assert process.log.read_text() == ""
    assert process.log.with_suffix(".log.1").read_text() == "of the run before"


def test_only_the_right_to_pass_is_given_to_others(tmp_path: Path) -> None:
    inner = tmp_path / "private" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    make_reachable(inner)
    assert inner.parent.stat().st_mode & 0o777 == 0o701


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(service_folder: Path) -> None:
    theirs = service_folder / "idle"
    theirs.mkdir()
    os.chown(theirs, 65_534, 65_534)
    with pytest.raises(ServiceFailedError, match="was made by another user"):
        EmbeddedProcess("idle", theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs services as someone else")
def test_root_does_not_run_services(service_folder: Path) -> None:
    assert EmbeddedProcess("idle", service_folder / "idle").run(["/usr/bin/id", "-un"], timeout_s=60).strip() == "depotgrid"


def test_a_free_port_is_outside_those_given_to_outgoing_connections() -> None:
    port = free_port()
    assert 15_000 <= port < 32_000
    assert port_is_free(port)
