"""How long a packet takes until somebody who looks at the depot's page sees it.

`depotgrid up` serves the built pages to a real Chromium. `mosquitto_pub` publishes one packet at a time, the next when the one
before is seen; the clock runs from before `mosquitto_pub` is started until the page's document shows the status that the packet
reports. Its own start counts in.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from bench.figure import Figure
from bench.stack import free_port

TRIES = 20
_WARM = 4
_LIMIT_MS = 1000.0
_END_S = 60.0
_BOUND_S = 300.0
_ROOT = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "deploy" / "examples" / "depot-1.yaml"


def measure() -> list[Figure]:
    """Milliseconds of each packet."""
    with tempfile.TemporaryDirectory(prefix="depotgrid-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with _running(folder) as (url, mqtt_port):
            took = _in_chromium(folder, url, mqtt_port)
    median, worst = statistics.median(took), max(took)
    return [
        Figure(
            "mosquitto_pub to the page that shows it",
            f"p50 {median:.0f} ms, worst of {len(took)}: {worst:.0f} ms",
            "≤ 1 s",
            worst <= _LIMIT_MS,
            {"p50_ms": median, "worst_ms": worst, "each_ms": took},
        )
    ]


@contextlib.contextmanager
def _running(folder: Path) -> Generator[tuple[str, int]]:
    """`depotgrid up` with the example site: its address and its broker's port."""
    port, mqtt_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    environment |= {"DEPOTGRID_AUTH": "off", "DEPOTGRID_LOG_LEVEL": "ERROR"}
    data = ["--data-dir", str(folder / "data")]
    ours = [sys.executable, "-m", "operator_cli"]
    process = subprocess.Popen(
        [*ours, "up", *data, "--port", str(port), "--mqtt-port", str(mqtt_port)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    try:
        if process.stdout is None or not process.stdout.readline().startswith("depotgrid is up:"):
            raise RuntimeError("depotgrid up did not come up")
        subprocess.run([*ours, "site", "import", str(_EXAMPLE), *data], check=True, env=environment, stdout=subprocess.DEVNULL)
        yield f"http://127.0.0.1:{port}", mqtt_port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_END_S)


def _in_chromium(folder: Path, url: str, mqtt_port: int) -> list[float]:
    told = {
        "url": url,
        "mqtt_port": mqtt_port,
        "depot": "depot-1",
        "gateway": "gw-1",
        "device": "ctrl-1",
        "tries": TRIES,
        "warm": _WARM,
        "profile": str(folder / "profile"),
        "executable": shutil.which("chromium") or shutil.which("chromium-browser"),
    }
    command = [str(_ROOT / "deploy" / "dev" / "node"), str(Path(__file__).with_suffix(".mjs")), json.dumps(told)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=_BOUND_S, cwd=_ROOT).stdout
    return [float(milliseconds) for milliseconds in json.loads(said)]
