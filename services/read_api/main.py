"""The read API as a process: settings in, an HTTP server out.

Signals: the first SIGTERM or SIGINT ends the streams, lets open answers finish and stops within 5 s; a second one leaves at
once.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from event_store.database import DatabaseFault, close_pool, open_pool
from read_api.app import create_app
from service_runtime import health
from service_runtime.access import open_access
from service_runtime.dev_issuer import dev_issuer_routes
from service_runtime.dev_key import DevKeyFault, load_dev_key
from service_runtime.feature_flags import load_flags
from service_runtime.process import StartFault, run_process
from service_runtime.settings import Need, Settings, SettingsFault, variable

SERVICE = "depotgrid-read-api"
_CONNECTIONS = 10

_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The clock of this process."""
    return datetime.now(UTC)  # noqa: TID251 - the process's main owns its clock


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then end streams, finish open answers and return, within 5 s.

    Raises `StartFault`, `DatabaseFault` or `health.ListenError`, each with one line for a person.
    """
    if settings.database_url is None:
        raise StartFault(f"{variable('database_url')}: is not set; give postgresql://user:password@host:5432/depotgrid")
    flags = load_flags(settings.feature_flags_file)
    if isinstance(flags, SettingsFault):
        raise StartFault(flags.line())
    try:
        access = open_access(settings, now)
        local_issuer = dev_issuer_routes(load_dev_key(settings.dev_key_file), now) if settings.auth == "dev" else ()
    except DevKeyFault as fault:
        raise StartFault(str(fault)) from fault
    pool = await open_pool(settings.database_url, SERVICE, min_size=2, max_size=_CONNECTIONS, leaves_nothing=True)
    try:
        access.announce()
        api = create_app(pool, now, flags, access, more_routes=local_issuer, stale_after_default_s=settings.stale_after_default_s)
        async with health.serve(api.app, settings.http_host, settings.http_port) as port:
            _log.info("serving", address=f"http://{settings.http_host}:{port}")
            await stop.wait()
            api.streams.end()
    finally:
        await close_pool(pool)


def run() -> int:
    """Run as a process of its own until a signal: 0, 1 with one line when the start fails, 2 for wrong settings."""
    return run_process("read-api", SERVICE, serve, need=(Need.DATABASE, Need.ACCESS), faults=(DatabaseFault,))
