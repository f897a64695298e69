"""The read API as an application: every route, error answer and counter, on a pool, a clock and flags that are handed in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from event_store.database import UNREACHABLE, Pool
from microgrid.site_model import DEFAULT_STALE_AFTER_S
from read_api.backing import Backing
from read_api.card import card_routes
from read_api.controller_bindings import controller_binding_routes
from read_api.dead_letters import dead_letter_routes
from read_api.depots import depot_routes
from read_api.devices import device_routes
from read_api.history import history_routes
from read_api.microgrids import microgrid_routes
from read_api.remediation import remediation_routes
from read_api.series import series_routes
from read_api.site_cache import SiteCache
from read_api.site_model import site_model_routes
from read_api.stream import Streams, stream_routes
from read_api.visibility import ACCESS_RULES, seen_by_caller
from sensor_packet.contract_files import read_contract
from service_runtime.access import Access
from service_runtime.feature_flags import BUILT_IN_DEFAULTS, FeatureFlags
from service_runtime.http_api import answer_without_database, http_api
from service_runtime.request_watch import StreamMetrics

VERSION = "1.0.0"
"""Of the interface, not of the program: a path, field or code that goes away makes a new major one."""
_FOLLOWER_SILENT_S = 10.0
_LAST_LOOK_S = 0.5


@dataclass(frozen=True)
class ReadApi:
    """The application, and the streams that have to be ended before it can stop."""

    app: FastAPI
    streams: Streams


def create_app(
    pool: Pool,
    clock: Callable[[], datetime],
    flags: FeatureFlags,
    access: Access,
    *,
    more_routes: Sequence[Route] = (),
    stale_after_default_s: float = DEFAULT_STALE_AFTER_S,
) -> ReadApi:
    """The read API on a pool of connections; `clock` gives aware times.

    `access` decides who may ask; `more_routes` are open to everyone. The pool needs two connections at least: one follows the
    events for as long as the application runs.
    """

    def flags_of(depot_id: str) -> dict[str, bool]:
        return {name: flags.flag(name, depot_id) for name in BUILT_IN_DEFAULTS}

    backing = Backing(pool, clock, flags_of, SiteCache(), stale_after_default_s)
    streams = Streams(backing)
    registry = CollectorRegistry()
    StreamMetrics(registry).watch(lambda: streams.clients)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        following = asyncio.create_task(streams.run(), name="streams")
        try:
            yield
        finally:
            streams.end()
            following.cancel()
            # Giving its connection back waits for a database that may say nothing any more; whoever closes the pool cuts it.
            await asyncio.wait({following}, timeout=_LAST_LOOK_S)

    app = http_api(
        "Depotgrid read API",
        VERSION,
        "What is configured, what happens and what went wrong in the microgrids of electric-bus depots",
        (
            depot_routes(backing),
            microgrid_routes(backing),
            card_routes(backing),
            controller_binding_routes(backing),
            history_routes(backing),
            series_routes(backing),
            stream_routes(backing, streams),
            remediation_routes(backing),
            device_routes(backing),
            site_model_routes(backing),
            dead_letter_routes(backing),
        ),
        guards=(Depends(access.enforce(ACCESS_RULES)), Depends(seen_by_caller(backing))),
        open_routes=more_routes,
        other_api=read_contract("openapi.command.json"),
        readiness=lambda: _not_ready_because(pool, streams),
        registry=registry,
        lifespan=lifespan,
    )
    answer_without_database(app, UNREACHABLE, "the database does not answer at the moment")
    return ReadApi(app, streams)


async def _not_ready_because(pool: Pool, streams: Streams) -> Sequence[str]:
    async with pool.acquire(timeout=1.0) as connection:
        await connection.fetchval("SELECT 1")
    silent_s = asyncio.get_running_loop().time() - streams.last_round if streams.last_round is not None else None
    if silent_s is None or silent_s > _FOLLOWER_SILENT_S:
        return ["the events are not being followed"]
    return []
