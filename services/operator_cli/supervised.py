"""One of our own services as a child of `depotgrid up`: started, its output passed on, started again when it dies.

A child that ends before it has ever been ready could not work as it was told: that ends the start with its last words. One that
ends later is started again, after a pause that doubles up to a bound while it keeps ending soon. The child is a session of its own,
so that Ctrl-C reaches us first. When we die without having said so, the kernel kills it: with the database dying at the same time
there is nothing that an orderly stop could still save, and nothing that a kill could lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from operator_cli.places import CommandFault

_LAUNCHER = Path(__file__).with_name("embedded_launcher.py")
_POLL_S = 0.03
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LASTING_S = 0.5, 10.0, 30.0
_GRACE_S = 5.0
_LAST_WORDS = 5
_LINE_BYTES = 64 * 1024


class SupervisedService:
    """One service: a Python module, its environment, and the port on which `/readyz` answers (None: none does)."""

    def __init__(
        self,
        name: str,
        module: Sequence[str],
        environment: Mapping[str, str],
        port: int | None,
        pass_on: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self._module = list(module)
        self._environment = dict(environment)
        self._port = port
        self._pass_on = pass_on
        self._child: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._stopping = False
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Run until `stop`; the task ends before only with a CommandFault, when the service could not even start."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)
        return self._task

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when it answers that it is ready; CommandFault when the time is up."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._child is not None and (self._port is None or await _is_ready(self._port)):
                self._was_ready = True
                return
            await asyncio.sleep(_POLL_S)
        raise CommandFault(f"{self.name} was not ready within {timeout_s:g} s; its log above tells why")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough. Idempotent."""
        self._stopping = True
        child = self._child
        if child is not None and child.returncode is None:
            child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_GRACE_S):
                    await child.wait()
            except TimeoutError:
                self._pass_on(self.name, f"still there after {_GRACE_S:g} s, killed")
                self.kill()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def kill(self) -> None:
        """End it at once."""
        self._stopping = True
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def _keep_running(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            started = time.monotonic()
            status = await self._run_once()
            if self._stopping:
                return
            if not self._was_ready:
                said = self._last_words[-1] if self._last_words else f"ended with status {status}"
                raise CommandFault(f"{self.name} could not start: {said}")
            if time.monotonic() - started > _LASTING_S:
                pause_s = _FIRST_PAUSE_S
            self._pass_on(self.name, f"ended with status {status}, starts again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_once(self) -> int:
        tie = (str(os.getpid()), str(int(signal.SIGKILL)), "", "")
        self._child = child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_LAUNCHER), *tie),
            *(sys.executable, "-m", *self._module),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        if self._stopping:
            self.kill()
        try:
            await self._pass_output_on(child.stdout)
            return await child.wait()
        finally:
            if child.returncode is None:
                self.kill()

    async def _pass_output_on(self, output: asyncio.StreamReader | None) -> None:
        rest = b""
        while output is not None and (chunk := await output.read(_LINE_BYTES)):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._say(line)
        if rest:
            self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_words.append(text)
            self._pass_on(self.name, text)


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                await writer.drain()
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status_line
