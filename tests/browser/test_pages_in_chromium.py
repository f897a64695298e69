"""The web pages in a real Chromium against a real stack: `depotgrid up` with the built pages, database, broker and all services.

What a page is held to stands in the modules beside this one, one per page; each is a run of Node's own test runner.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from operator_cli.embedded_process import free_port

pytestmark = pytest.mark.services

_HERE = Path(__file__).parent
ROOT = _HERE.parents[1]
NODE = ROOT / "deploy" / "dev" / "node"
_PASSED = re.compile(r"^ℹ pass [1-9]", re.MULTILINE)
_PATIENCE_S = 60.0
_FILE_S = 300.0
_FLAGS = "new-microgrid-fields-load-chart: {default: true, depots: {web-flag-off: false}}\n"
_MAC = ("/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


@dataclass(frozen=True)
class Stack:
    """A running `depotgrid up`: its address, its broker's port, its process, and the folder of all that it keeps."""

    url: str
    mqtt_port: int
    pid: int
    folder: Path


@contextmanager
def running(folder: Path, auth: str) -> Generator[Stack]:
    """`depotgrid up` in a new folder, with access as told, until the context ends."""
    folder.mkdir()
    (folder / "flags.yaml").write_text(_FLAGS)
    port, mqtt_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    environment |= {"DEPOTGRID_AUTH": auth, "DEPOTGRID_FEATURE_FLAGS_FILE": str(folder / "flags.yaml")}
    command = [sys.executable, "-m", "operator_cli", "up", "--data-dir", str(folder / "data")]
    log = folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--mqtt-port", str(mqtt_port)],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("depotgrid is up:"), log.read_text()
        yield Stack(f"http://127.0.0.1:{port}", mqtt_port, process.pid, folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE_S)


@pytest.fixture(scope="module")
def open_stack(_run_folder: Path) -> Iterator[Stack]:
    """A stack in which everyone may do everything."""
    with running(_run_folder / "browser", "off") as stack:
        yield stack


@pytest.fixture(scope="module")
def guarded_stack(_run_folder: Path) -> Iterator[Stack]:
    """A stack that wants to know who asks."""
    with running(_run_folder / "browser-dev", "dev") as stack:
        yield stack


def chromium() -> str:
    """The Chromium of this machine."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser")]
    known = [path for path in (*found, *_MAC) if path is not None and Path(path).exists()]
    assert known, "there is no Chromium; deploy/dev/setup test installs it"
    return known[0]


def faults_in_chromium(module: str, stack: Stack, token: str | None = None, patience_s: float = _FILE_S) -> str:
    """Run the tests of a module beside this one; gives all that was said if one failed or none ran, else nothing.

    `token` is an access token for its own requests.
    """
    environment = {
        **os.environ,
        "STACK": json.dumps(
            {
                "url": stack.url,
                "mqtt_port": stack.mqtt_port,
                "pid": stack.pid,
                "data_dir": str(stack.folder / "data"),
                "python": sys.executable,
                "token": token,
            }
        ),
        "CHROMIUM": chromium(),
        "PROFILE": str(stack.folder),
    }
    ran = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", _HERE / module],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience_s,
        check=False,
    )
    return "" if ran.returncode == 0 and _PASSED.search(ran.stdout) else ran.stdout


def admin_token(stack: Stack) -> str:
    """An access token for everything, of a stack's local issuer."""
    command = [sys.executable, "-m", "operator_cli", "token", "--role", "admin", "--data-dir", str(stack.folder / "data")]
    environment = {**os.environ, "DEPOTGRID_AUTH": "dev"}
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_PATIENCE_S, env=environment)
    return told.stdout.strip()


_SIGN_IN, _STATES = "sign_in.mjs", "states.mjs"
_STATES_S = 1800.0
_ELSEWHERE = (_SIGN_IN, _STATES, "screenshots.mjs")
_PAGES = sorted(
    path.name
    for path in _HERE.glob("*.mjs")
    if "= useChromium()" in path.read_text() and path.name not in _ELSEWHERE and not path.name.startswith("journey")
)


@pytest.mark.parametrize("module", _PAGES)
def test_a_page_does_its_job_in_chromium(open_stack: Stack, module: str) -> None:
    faults = faults_in_chromium(module, open_stack)
    assert not faults, faults


def test_people_sign_in_and_may_what_their_role_allows(guarded_stack: Stack) -> None:
    faults = faults_in_chromium(_SIGN_IN, guarded_stack, admin_token(guarded_stack))
    assert not faults, faults


def test_every_state_of_every_page_is_designed(guarded_stack: Stack) -> None:
    faults = faults_in_chromium(_STATES, guarded_stack, admin_token(guarded_stack), _STATES_S)
    assert not faults, faults
