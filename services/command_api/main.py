"""The command API as a process: settings in, an HTTP server out.

Signals: the first SIGTERM or SIGINT lets open commands finish and stops within 5 s; a second one leaves at once.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
import uuid_utils

from command_api.app import create_app
from command_api.trail_pruning import keep_trail_pruned
from event_store.database import DatabaseFault, close_pool, open_pool
from service_runtime import health
from service_runtime.access import open_access
from service_runtime.dev_key import DevKeyFault
from service_runtime.process import StartFault, run_process
from service_runtime.settings import Need, Settings, variable

SERVICE = "depotgrid-command-api"
_CONNECTIONS = 10

_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The clock of this process."""
    return datetime.now(UTC)  # noqa: TID251 - the process's main owns its clock


def new_id() -> str:
    """A new id of our own."""
    return str(uuid_utils.uuid7())


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish open commands and return, within 5 s.

    Raises `StartFault`, `DatabaseFault` or `health.ListenError`, each with one line for a person.
    """
    if settings.database_url is None:
        raise StartFault(f"{variable('database_url')}: is not set; give postgresql://user:password@host:5432/depotgrid")
    try:
        access = open_access(settings, now)
    except DevKeyFault as fault:
        raise StartFault(str(fault)) from fault
    pool = await open_pool(settings.database_url, SERVICE, min_size=2, max_size=_CONNECTIONS)
    try:
        access.announce()
        app = create_app(pool, now, new_id, access, max_ahead_s=settings.max_clock_ahead_s)
        keep_audit = timedelta(days=settings.audit_keep_days)
        beside = [
            asyncio.create_task(app.state.replays.run(), name="replays"),
            asyncio.create_task(keep_trail_pruned(pool, now, keep_audit), name="prune"),
        ]
        try:
            async with health.serve(app, settings.http_host, settings.http_port) as port:
                _log.info("serving", address=f"http://{settings.http_host}:{port}")
                await stop.wait()
        finally:
            for task in beside:
                task.cancel()
            # Giving a connection back waits for a database that may say nothing any more; closing the pool cuts it.
            await asyncio.wait(beside, timeout=0.5)
    finally:
        await close_pool(pool)


def run() -> int:
    """Run as a process of its own until a signal: 0, 1 with one line when the start fails, 2 for wrong settings."""
    return run_process("command-api", SERVICE, serve, need=(Need.DATABASE, Need.ACCESS), faults=(DatabaseFault,))
