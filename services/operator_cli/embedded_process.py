"""One service as a direct child of this process: started, watched until it is ready, stopped, and never left behind.

Rules, the same for every embedded service:

- The child dies with us, even by `kill -9`: the kernel sends it a signal when its parent goes. It means the parent *thread*,
  so every child is started from one thread that lives as long as the process does, whoever calls `start`.
- The child is a session of its own, so that Ctrl-C in a terminal reaches us first and we stop things in order.
- Root does not run services: as root, the child runs as the system user `depotgrid`, created when missing. That user must be able
  to walk to its folder, so folders above it may gain the right to be traversed by others (`o+x`, never `o+r`).
- A folder has one owner: a lock held while the child runs refuses a second start with one clear line.
- Only handles that we hold are ever signalled; nothing is looked up by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).with_name("embedded_launcher.py")
_POLL_S = 0.02
_LOG_TAIL_LINES = 15
_LOG_KEPT_BYTES = 8 * 1024 * 1024
# Below the range from which kernels deal out ports to outgoing connections, so that a port stays free across a restart.
_PORTS = range(15_000, 32_000)


class ServiceFailedError(RuntimeError):
    """An embedded service could not be started or used; the text says which, why, and ends with the tail of its log."""


@dataclass(frozen=True)
class Account:
    """The system user that a service runs as when we are root."""

    uid: int
    gid: int


def service_account(name: str = "depotgrid") -> Account | None:
    """The unprivileged user for services, created when missing; None when we are not root and so run them as ourselves."""
    if os.geteuid() != 0:
        return None
    command = [
        "useradd",
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
        name,
    ]
    said = ""
    for _ in range(20):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            # Another starter may be creating the same user: look again after a refusal.
            said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip() or said
            time.sleep(0.05)
        else:
            return Account(entry.pw_uid, entry.pw_gid)
    raise ServiceFailedError(f"cannot create the system user {name}, which services need when started by root: {said}")


def own_folder(folder: Path, account: Account | None) -> Path:
    """Make `folder` (mode 0700) exist for the account, reachable through the folders above it; gives back its absolute path.

    Raises ServiceFailedError when it is someone else's: what they wrote could not be read, or would be taken from them.
    """
    folder = folder.resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise ServiceFailedError(f"cannot make the folder {folder}: {fault.strerror}") from None
    owner, ourselves = folder.stat().st_uid, os.geteuid()
    if owner not in {ourselves, account.uid if account else ourselves}:
        raise ServiceFailedError(f"{folder} was made by another user (id {owner}); run as that user, or use another --data-dir")
    if account is not None:
        os.chown(folder, account.uid, account.gid)
        make_reachable(folder.parent)
    return folder


def make_reachable(folder: Path) -> None:
    """Let other users traverse (not list) `folder` and what is above it."""
    for step in (folder, *folder.parents):
        mode = step.stat().st_mode
        if not mode & 0o001:
            step.chmod(mode | 0o001)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    for port in random.sample(_PORTS, 200):
        if port_is_free(port):
            return port
    raise ServiceFailedError("no free TCP port on 127.0.0.1 found")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port; connections of a former server that still linger do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Whether something on loopback accepts TCP connections on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class EmbeddedProcess:
    """A child process with its folder, lock and log. Not thread-safe: one owner starts and stops it.

    `on_parent_death` is the signal that the child gets when we die without stopping it.
    """

    def __init__(self, name: str, folder: Path, *, on_parent_death: signal.Signals = signal.SIGKILL) -> None:
        self.name = name
        self.account = service_account()
        self.folder = own_folder(folder, self.account)
        self.log = self.folder / f"{name}.log"
        self._on_parent_death = on_parent_death
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the child lives."""
        return self.pid is not None

    def lock(self) -> None:
        """Take the folder for ourselves; raises ServiceFailedError when another process has it. Idempotent."""
        if self._lock is not None:
            return
        handle = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise ServiceFailedError(
                f"{self.name}: {self.folder} is in use by another depotgrid on this machine; stop it first"
            ) from None
        self._lock = handle

    def unlock(self) -> None:
        """Give the folder back. Idempotent."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def end_leftover(self, *, patience_s: float = 20.0) -> bool:
        """End what a starter that died without stopping its child has left in this folder; call with the lock held.

        Mostly the child is already dying of its parent's death and is only waited for. A process is ours when its number is the
        noted one and its command line names this folder; any other process that got the number since is left alone.
        Tells whether there was one.
        """
        noted = self.folder / "pid"
        if not noted.exists():
            return False
        pid = int(noted.read_text().strip() or "0")
        deadline = time.monotonic() + patience_s
        found = bool(pid) and self._is_ours(pid)
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self._on_parent_death)
        while pid and self._is_ours(pid):
            if time.monotonic() > deadline:
                raise ServiceFailedError(f"{self.name}: process {pid} of a former run still uses {self.folder}; end it first")
            time.sleep(_POLL_S)
        noted.unlink(missing_ok=True)
        return found

    def spawn(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start the child in its folder, its output appended to the log. Does not wait for readiness."""
        self.lock()
        if self.log.exists() and self.log.stat().st_size > _LOG_KEPT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._child = _start_from_lasting_thread(self._launch(command), self.folder, self.environment(environment), log)
        (self.folder / "pid").write_text(f"{self._child.pid}\n")

    def run(
        self, command: Sequence[str | Path], *, timeout_s: float, environment: dict[str, str] | None = None, stdin: str = ""
    ) -> str:
        """Run a program of the service to its end, as its user; gives back what it printed; ServiceFailedError on failure."""
        try:
            done = subprocess.run(
                [os.fspath(part) for part in command],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                cwd=self.folder,
                env=self.environment(environment),
                check=False,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            )
        except subprocess.TimeoutExpired:
            raise ServiceFailedError(f"{self.name}: {Path(command[0]).name} took longer than {timeout_s:g} s") from None
        if done.returncode != 0:
            raise ServiceFailedError(f"{self.name}: {Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """The few variables that a child gets; ours, which may hold secrets, are not passed on."""
        kept = {key: os.environ[key] for key in ("PATH", "JAVA_HOME", "TMPDIR") if key in os.environ}
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C", "TZ": "UTC", **kept, **(extra or {})}

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return when `ready` says so; raise ServiceFailedError, the child stopped, when it ends first or the time is up."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                status = self._child.returncode if self._child is not None else None
                raise ServiceFailedError(f"{self.name} ended with status {status} while starting\n{self.log_tail()}")
            if ready():
                return
            time.sleep(_POLL_S)
        tail = self.log_tail()
        self.kill9()
        raise ServiceFailedError(f"{self.name} was not ready within {timeout_s:g} s\n{tail}")

    def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal and wait up to its seconds for the end; SIGKILL comes last by itself. Idempotent."""
        try:
            for sent, patience_s in steps:
                if self._end_by(sent, patience_s):
                    return
            self._end_by(signal.SIGKILL, 10)
        finally:
            self.unlock()

    def kill9(self) -> None:
        """End the child at once, as a crash would. Idempotent."""
        self.stop()

    def log_tail(self) -> str:
        """The last lines that the child wrote."""
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[-16_384:].decode(errors="replace").splitlines()
            return "\n".join(lines[-_LOG_TAIL_LINES:])
        return ""

    def _is_ours(self, pid: int) -> bool:
        known = Path(f"/proc/{pid}/cmdline")
        if sys.platform == "linux":
            try:
                command_line = known.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                return False
        else:
            command_line = subprocess.run(
                ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
            ).stdout
        return f"{self.folder}/" in command_line

    def _end_by(self, sent: signal.Signals, patience_s: float) -> bool:
        if self._child is None or self._child.poll() is not None:
            return True
        self._child.send_signal(sent)
        try:
            self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _launch(self, command: Sequence[str | Path]) -> list[str]:
        account = (str(self.account.uid), str(self.account.gid)) if self.account else ("", "")
        tie = [str(os.getpid()), str(int(self._on_parent_death)), *account]
        return [sys.executable, "-I", "-S", str(_LAUNCHER), *tie, *(os.fspath(part) for part in command)]


@dataclass(frozen=True)
class _Start:
    command: list[str]
    folder: Path
    environment: dict[str, str]
    log: IO[bytes]
    started: Future[subprocess.Popen[bytes]]


_starts: queue.SimpleQueue[_Start] = queue.SimpleQueue()
_starter_guard = threading.Lock()
_starter: threading.Thread | None = None


def _start_from_lasting_thread(
    command: list[str], folder: Path, environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    global _starter  # one per process is the point: its end would be taken for our death
    with _starter_guard:
        if _starter is None or not _starter.is_alive():
            _starter = threading.Thread(target=_start_forever, name="embedded-starter", daemon=True)
            _starter.start()
    started: Future[subprocess.Popen[bytes]] = Future()
    _starts.put(_Start(command, folder, environment, log, started))
    return started.result(timeout=30)


def _start_forever() -> None:
    while True:
        order = _starts.get()
        try:
            child = subprocess.Popen(
                order.command,
                cwd=order.folder,
                env=order.environment,
                stdin=subprocess.DEVNULL,
                stdout=order.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException as fault:  # handed to the caller, who waits for it
            order.started.set_exception(fault)
        else:
            order.started.set_result(child)
