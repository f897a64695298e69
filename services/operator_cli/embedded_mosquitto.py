"""A real Mosquitto as a child process of ours, with the production settings on a loopback listener.

The configuration is `deploy/mosquitto.conf` less what ties it to its host (who may connect, where, paths, log), plus our own:
anonymous clients on 127.0.0.1, the store in `store/`. So what holds for queues and saving in production holds here. A clean stop
writes the store.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from operator_cli.embedded_process import (
    EmbeddedProcess,
    ServiceFailedError,
    accepts_connections,
    free_port,
    own_folder,
    port_is_free,
)

_PRODUCTION = Path(__file__).with_name("mosquitto.conf")
_HOST_SETTINGS = frozenset(
    {"listener", "allow_anonymous", "password_file", "acl_file", "persistence_location", "log_dest", "user", "certfile", "keyfile"}
)
_READY_S = 30.0
_PORT_FREED_S = 5.0


class EmbeddedMosquitto:
    """One broker with its state in `folder` on 127.0.0.1. The port is chosen once per object (or given) and kept over restarts."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        # SIGTERM lets a broker whose starter was killed still write its store.
        self._process = EmbeddedProcess("mosquitto", folder, on_parent_death=signal.SIGTERM)
        self._store = own_folder(self._process.folder / "store", self._process.account)
        self.port = port or free_port()

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker process lives."""
        return self._process.running

    def url(self) -> str:
        """`mqtt://` address of the broker."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start and return when connections are accepted; ServiceFailedError otherwise. Idempotent."""
        if self.running:
            return self
        self._process.lock()
        try:
            program = _program()
            leftover = self._process.end_leftover()
            self._require_port(_PORT_FREED_S if leftover else 0)
            self._process.spawn((program, "-c", self._write_configuration()))
            self._process.wait_until(lambda: accepts_connections(self.port), timeout_s=_READY_S)
        except BaseException:
            self._process.kill9()
            raise
        return self

    def stop(self) -> None:
        """Write the store and end. Idempotent."""
        self._process.stop((signal.SIGTERM, 30))

    def restart(self) -> None:
        """Stop and start on the same port and store."""
        self.stop()
        self.start()

    def kill9(self) -> None:
        """End the broker at once, as a crash would. Idempotent."""
        self._process.kill9()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _require_port(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not port_is_free(self.port):
            if time.monotonic() >= deadline:
                raise ServiceFailedError(
                    f"mosquitto: port {self.port} on 127.0.0.1 is taken; give --mqtt-port, or --mqtt-url of that broker"
                )
            time.sleep(0.05)

    def _write_configuration(self) -> Path:
        kept = [
            line
            for line in _PRODUCTION.read_text().splitlines()
            if line.strip() and line.split()[0] not in _HOST_SETTINGS and not line.startswith("#")
        ]
        own = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", f"persistence_location {self._store}/", "log_dest stderr"]
        written = self._process.folder / "mosquitto.conf"
        written.write_text("\n".join([*kept, *own, ""]))
        if self._process.account is not None:
            os.chown(written, self._process.account.uid, self._process.account.gid)
        return written


def _program() -> str:
    # Packages put it where only root's PATH looks.
    found = shutil.which(
        "mosquitto",
        path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")),
    )
    if found is None:
        raise ServiceFailedError(
            "mosquitto is not installed: apt-get install mosquitto, or brew install mosquitto; or give --mqtt-url"
        )
    return found
