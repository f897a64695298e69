"""Pictures of the main pages for the README and the guides, into `docs/images`: `make screenshots`.

Runs the demo by itself, on ports and in a folder of its own, until it has something to show.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.test_pages_in_chromium import NODE, ROOT, chromium

from operator_cli.embedded_process import free_port

_PATIENCE_S = 60.0


def main() -> int:
    """Take them; gives back the exit status."""
    with tempfile.TemporaryDirectory(prefix="depotgrid-pictures-") as folder:
        port, mqtt_port = free_port(), free_port()
        command = [sys.executable, "-m", "operator_cli", "up", "--demo", "--data-dir", f"{folder}/data"]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--mqtt-port", str(mqtt_port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            environment = {
                **os.environ,
                "STACK": json.dumps({"url": f"http://127.0.0.1:{port}", "mqtt_port": mqtt_port, "pid": process.pid}),
                "CHROMIUM": chromium(),
                "PROFILE": folder,
                "IMAGES": str(ROOT / "docs" / "images"),
            }
            return subprocess.run([NODE, Path(__file__).with_suffix(".mjs")], env=environment, check=False).returncode
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_PATIENCE_S)


if __name__ == "__main__":
    sys.exit(main())
