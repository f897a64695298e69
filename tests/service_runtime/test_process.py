"""A service as a process: what it waits for at its end keeps nobody waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

_SERVICE = """
import asyncio, sys, time
from service_runtime import process

if sys.argv[1] != "stops":
    process.LATEST_STOP_S = 0.2

async def serve(settings, stop):
    if sys.argv[1] == "fails":
        raise process.StartFault("the reason")
    print("serving", flush=True)
    await stop.wait()
    if sys.argv[1] == "hangs":
        await asyncio.Event().wait()
    if sys.argv[1] == "blocks":
        time.sleep(60)

sys.exit(process.run_process("thing", "depotgrid-thing", serve, need=()))
"""


def _start(how: str, **settings: str) -> subprocess.Popen[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    environment = {**known, "DEPOTGRID_AUTH": "off", **settings}
    command = [sys.executable, "-c", _SERVICE, how]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("stops", 0, ""),
        ("hangs", 1, "depotgrid thing: did not stop within 0.2 s of the signal, and is left as it is\n"),
        ("blocks", 1, "depotgrid thing: did not stop within 0.2 s of the signal, and is left as it is\n"),
    ],
)
def test_a_signal_ends_it_whatever_it_waits_for(how: str, status: int, said: str) -> None:
    with _start(how) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (status, said)


def test_a_start_that_fails_is_one_line_with_the_reason() -> None:
    with _start("fails") as process:
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (1, "depotgrid thing: the reason\n")


def test_wrong_settings_are_a_line_each_and_status_2() -> None:
    with _start("stops", DEPOTGRID_HTTP_PORT="many", DEPOTGRID_LOG_FORMAT="loud") as process:
        _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert [line.split(":")[:2] for line in told.splitlines()] == [
        ["depotgrid thing", " DEPOTGRID_HTTP_PORT"],
        ["depotgrid thing", " DEPOTGRID_LOG_FORMAT"],
    ]
