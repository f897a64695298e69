"""The ingest worker, or another service, as a real process: started, killed, terminated, watched by its log and probes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.real_services.waiting import until

import operator_cli.embedded_launcher

_LAUNCHER = Path(operator_cli.embedded_launcher.__file__)
_STOPPED_S = 30.0
"""Bounds the wait alone: who has not stopped 5 s after a signal leaves by itself, with a status other than 0."""
_PROBE_S = 30.0
_numbers = itertools.count(1)


class WorkerProcess:
    """One worker. Its log goes to a file in `folder`; what it says on stderr at a failed start is there, too."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        module: str = "ingest_worker",
        mqtt_url: str | None = None,
        kafka: str | None = None,
        **settings: object,
    ) -> None:
        self.log_file = folder / f"worker-{next(_numbers)}.log"
        self._module = module
        wanted = {
            "DATABASE_URL": database_url,
            "MQTT_URL": mqtt_url or "",
            "KAFKA_BOOTSTRAP_SERVERS": kafka or "",
            "AUTH": "off",
            "HTTP_PORT": "0",
            "LOG_FORMAT": "json",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
        self._environment = {**inherited, **{f"DEPOTGRID_{name}": value for name, value in wanted.items()}}
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    def setting(self, **settings: object) -> Self:
        """Change settings before the start, also the ones that the constructor names."""
        self._environment.update({f"DEPOTGRID_{name.upper()}": str(value) for name, value in settings.items()})
        return self

    def start(self) -> Self:
        """Start the process; it dies with us."""
        # The launcher ties it to our life; empty user and group: it stays who we are.
        tied = (sys.executable, str(_LAUNCHER), str(os.getpid()), str(int(signal.SIGKILL)), "", "")
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(
                (*tied, sys.executable, "-m", self._module),
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The handle of the process."""
        assert self._child is not None, "not started"
        return self._child

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.child.poll() is None

    def kill9(self) -> None:
        """End it as a crash would."""
        self.child.kill()
        self.child.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.child.send_signal(number)

    async def exit_status(self, timeout_s: float = _STOPPED_S) -> int:
        """Wait for its end; gives back its exit status, which is 0 only where it has stopped in order and in time."""
        await until(lambda: not self.running, "the worker ends", timeout_s=timeout_s)
        return self.child.returncode

    def log(self) -> str:
        """Everything that it wrote."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def entries(self, event: str) -> list[Mapping[str, Any]]:
        """Log lines with this message."""
        found: list[Mapping[str, Any]] = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and event in json.dumps(entry, ensure_ascii=False):
                    found.append(entry)  # pyright: ignore[reportUnknownArgumentType] - JSON of our own logs
        return found

    async def says(self, event: str, *, timeout_s: float = 60.0) -> float:
        """Wait until its log has a line with this message; gives back the seconds that it took."""

        def said() -> bool:
            if not self.running:
                raise AssertionError(f"the worker ended with {self.child.returncode}:\n{self.log()[-3000:]}")
            return event in self.log()

        return await until(said, f"the worker says {event!r}", timeout_s=timeout_s)

    async def consuming_mqtt(self, *, timeout_s: float = 60.0) -> None:
        """Wait until it has subscribed at the broker."""
        await self.says("connected to MQTT", timeout_s=timeout_s)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its probes."""
        await self.says("/readyz")
        address = next(
            word for word in self.log().replace('"', " ").split() if word.startswith("http://") and word.endswith("/readyz")
        )
        return await asyncio.to_thread(_get, address.removesuffix("/readyz") + path)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._child is not None and self.running:
            self.kill9()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.code, fault.read().decode()
