"""Everything on this machine: what is not given is embedded, our services are children, and nothing of it outlives us.

Start: the data folder's lock, the ports, broker, database, migrations, the demo's site, the services. The addresses are written
to `run.json` once all are ready. Stop (Ctrl-C or SIGTERM): services first, then the broker, then the database; a second signal
kills them all at once. Whatever goes wrong on the way up, what was started is stopped again. A service, broker or database that
dies is started again, for as long as it takes: a full disk may have room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from operator_cli.embedded_process import ServiceFailedError, free_port, port_is_free
from operator_cli.pages import sign_in_config
from operator_cli.places import RUN_FILE, CommandFault, RunFile, dev_key_file, pages_folder, write_run_file
from operator_cli.sim_commands import RUNS
from operator_cli.site_commands import new_id, now
from operator_cli.supervised import SupervisedService
from service_runtime.dev_key import DEV_PATH, DevGrant, access_token, load_dev_key
from service_runtime.settings import Settings
from site_operations.migrate import migrate
from site_operations.site_transfer import export_from, import_into
from site_registry.site_file import parse_site

DATABASE = "depotgrid"
_HOST = "127.0.0.1"
_PORT_PATIENCE_S = 1.0
_READY_S = 120.0  # all services start at once, and a small machine may be busy with other things
_WATCH_S = 1.0
_RETRY_S = 5.0
_DEMO = "demo-depot.yaml"
_DEMO_DEPOT = "demo-depot"
_DEMO_TOKEN_S = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `depotgrid up` was asked for; `settings` hold what is given instead of embedded, and the port."""

    settings: Settings
    data_dir: Path
    mqtt_port: int
    demo: bool
    bridge: bool = False


def read_example(name: str) -> bytes:
    """One of the site files that travel with the package (`deploy/examples`)."""
    return (files("operator_cli") / "examples" / name).read_bytes()


class Stack:
    """All that `up` runs. `run` is its life; `say` prints a line of the result, `pass_on` a line of a service's log."""

    def __init__(self, options: UpOptions, say: Callable[[str], None], pass_on: Callable[[str, str], None]) -> None:
        self._options = options
        self._say = say
        self._pass_on = pass_on
        self._stop = asyncio.Event()
        self._mosquitto: EmbeddedMosquitto | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._services: list[SupervisedService] = []

    async def run(self) -> None:
        """Start, wait for a signal, stop. CommandFault or ServiceFailedError, all stopped, when the start fails."""
        self._take_signals()
        data_dir = self._options.data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise CommandFault(f"--data-dir {data_dir}: {fault.strerror or fault}; choose a folder that can be written") from fault
        with _own(data_dir):
            try:
                await self._until_stopped(asyncio.create_task(self._live()))
            finally:
                (data_dir / RUN_FILE).unlink(missing_ok=True)
                await self._stop_all()

    async def _until_stopped(self, living: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not living.done():
            living.cancel()
        # A start in a thread is not interrupted: it comes to its end, and is then undone.
        with contextlib.suppress(asyncio.CancelledError):
            await living

    async def _live(self) -> None:
        settings, demo = self._options.settings, self._options.demo
        port = settings.http_port or free_port()
        await _require_port(port, "--port")
        mqtt_url = settings.mqtt_url or await self._start_mosquitto()
        database_url = settings.database_url or await self._start_postgres()
        await asyncio.shield(asyncio.to_thread(migrate, database_url))
        if demo:
            await _load_demo(database_url)
        api_url = f"http://{_HOST}:{port}"
        environment = self._environment(database_url, mqtt_url, api_url)
        if self._options.bridge:
            self._service("bridge", ["mqtt_bridge"], environment, free_port())
        # With a bridge the MQTT session is the bridge's, and the worker has Kafka alone.
        taking = {**environment, "DEPOTGRID_MQTT_URL": ""} if self._options.bridge else environment
        self._service("ingest", ["ingest_worker"], taking, free_port())
        self._service("relay", ["event_relay"], environment, free_port())
        read_port, command_port = free_port(), free_port()
        self._service("read-api", ["read_api"], environment, read_port)
        self._service("command-api", ["command_api"], environment, command_port)
        runs_port = free_port()
        self._service("sim-runs", ["depot_sim", "serve", "--runs", str(self._options.data_dir / RUNS)], environment, runs_port)
        front = [
            "operator_cli.front",
            str(port),
            str(read_port),
            str(command_port),
            str(pages_folder(settings)),
            msgspec.json.encode(sign_in_config(settings)).decode(),
            str(runs_port),
        ]
        self._service("front", front, environment, port)
        if demo:
            self._service("gateway", ["depot_sim", "demo", "--depot", _DEMO_DEPOT], self._as_viewer(environment, api_url), None)
        running = [service.start() for service in self._services]
        await _all_unless_one_ends([service.wait_ready(_READY_S) for service in self._services], running)
        write_run_file(
            self._options.data_dir, RunFile(os.getpid(), api_url, database_url, mqtt_url, settings.kafka_bootstrap_servers)
        )
        self._say(f"depotgrid is up: {api_url}   packets: {_shown(mqtt_url)}   Ctrl-C stops it")
        if demo:
            self._say(
                f"the demo depot's page: {api_url}/depot/demo-depot   its card: {api_url}/api/depot/demo-depot/microgrid/card"
            )
        await _all_unless_one_ends([self._watch_embedded()], running)

    async def _start_mosquitto(self) -> str:
        self._mosquitto = await asyncio.to_thread(
            EmbeddedMosquitto, self._options.data_dir / "mosquitto", port=self._options.mqtt_port
        )
        await asyncio.shield(asyncio.to_thread(self._mosquitto.start))
        return self._mosquitto.url()

    async def _start_postgres(self) -> str:
        postgres = self._postgres = await asyncio.to_thread(EmbeddedPostgres, self._options.data_dir / "postgres")
        await asyncio.shield(asyncio.to_thread(postgres.start))

        def create() -> None:
            if DATABASE not in postgres.execute("SELECT datname FROM pg_database").split():
                postgres.create_database(DATABASE)

        await asyncio.shield(asyncio.to_thread(create))
        return postgres.url(DATABASE)

    def _environment(self, database_url: str, mqtt_url: str, api_url: str) -> dict[str, str]:
        settings = self._options.settings
        given = {
            "DATABASE_URL": database_url,
            "MQTT_URL": mqtt_url,
            "API_URL": api_url,
            "AUTH": settings.auth,
            "DEV_KEY_FILE": str(dev_key_file(settings, self._options.data_dir).absolute()),
            "HTTP_HOST": _HOST,
            "LOG_FORMAT": "pretty" if _on_terminal() else "json",
        }
        if settings.kafka_bootstrap_servers is not None:
            given["KAFKA_BOOTSTRAP_SERVERS"] = settings.kafka_bootstrap_servers
        return {**os.environ, **{f"DEPOTGRID_{name}": value for name, value in given.items()}, "PYTHONUNBUFFERED": "1"}

    def _as_viewer(self, environment: Mapping[str, str], api_url: str) -> Mapping[str, str]:
        """The same with a token to read with, where those of the local issuer are checked; elsewhere a person gives one."""
        settings = self._options.settings
        if settings.auth != "dev" or settings.api_token is not None:
            return environment
        key = load_dev_key(dev_key_file(settings, self._options.data_dir))
        grant = DevGrant("demo@up", "viewer", [_DEMO_DEPOT], None)
        token = access_token(key, f"{api_url}{DEV_PATH}", grant, now_s=int(now().timestamp()), ttl_s=_DEMO_TOKEN_S)
        return {**environment, "DEPOTGRID_API_TOKEN": token}

    def _service(self, name: str, module: list[str], environment: Mapping[str, str], port: int | None) -> None:
        own = {**environment, "DEPOTGRID_HTTP_PORT": str(port)} if port is not None else environment
        self._services.append(SupervisedService(name, module, own, port, self._pass_on))

    async def _watch_embedded(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for embedded, name in ((self._mosquitto, "mosquitto"), (self._postgres, "postgres")):
                if embedded is not None and not embedded.running:
                    self._pass_on(name, "has ended, starts again")
                    try:
                        await asyncio.shield(asyncio.to_thread(embedded.start))
                    except (ServiceFailedError, OSError) as fault:
                        # What keeps it from starting, such as a full disk, may pass; ending all the rest would mend nothing.
                        self._pass_on(name, f"could not start, tried again in {_RETRY_S:g} s: {fault}")
                        await asyncio.sleep(_RETRY_S)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(service.stop() for service in self._services))
        for embedded in (self._mosquitto, self._postgres):
            if embedded is not None:
                await asyncio.to_thread(embedded.stop)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def leave_at_once() -> None:
            for service in self._services:
                service.kill()
            for embedded in (self._mosquitto, self._postgres):
                if embedded is not None:
                    embedded.kill9()
            with contextlib.suppress(OSError):
                (self._options.data_dir / RUN_FILE).unlink(missing_ok=True)
            os._exit(1)

        def first() -> None:
            self._stop.set()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, leave_at_once)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, first)


@contextlib.contextmanager
def _own(data_dir: Path) -> Generator[None]:
    """Hold the folder while the context lasts: two at once would write over each other's addresses."""
    with (data_dir / "up.lock").open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFault(
                f"--data-dir {data_dir} is in use by another `depotgrid up`; stop it, or choose another folder"
            ) from None
        yield


async def _require_port(port: int, option: str) -> None:
    deadline = time.monotonic() + _PORT_PATIENCE_S
    while not port_is_free(port):
        if time.monotonic() >= deadline:
            raise CommandFault(f"port {port} on {_HOST} is taken; choose another with {option}")
        await asyncio.sleep(0.05)


async def _all_unless_one_ends(work: Sequence[Coroutine[None, None, None]], running: Sequence[asyncio.Task[None]]) -> None:
    """Return when all work is done; the fault of what runs besides, if one of those ends before."""
    doing = asyncio.gather(*work)
    try:
        await asyncio.wait({doing, *running}, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done():
                task.result()
        await doing
    finally:
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)


async def _load_demo(database_url: str) -> None:
    document = parse_site(read_example(_DEMO))
    if isinstance(document, list):
        raise CommandFault(f"the demo's site file is broken: {document[0].pointer} {document[0].detail}")
    if await export_from(database_url, document.depot.depot_id) is not None:
        return  # as it was left, with whatever a person has changed
    outcome = await import_into(database_url, document, now=now(), new_id=new_id)
    if isinstance(outcome, list):
        raise CommandFault(f"the demo's site can not be loaded: {outcome[0].pointer} {outcome[0].detail}")


def _on_terminal() -> bool:
    return sys.stderr.isatty()


def _shown(url: str) -> str:
    return f"{url.partition('://')[0]}://{url.rpartition('@')[2].rpartition('://')[2]}"


__all__ = ["ServiceFailedError", "Stack", "UpOptions", "read_example"]
