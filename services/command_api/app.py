"""The command API as an application: every route, error answer and counter, on a pool, a clock and an access that are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from command_api.access_rules import allowed_by
from command_api.backing import Backing
from command_api.capabilities import capability_routes
from command_api.capability_status import capability_status_routes
from command_api.controller_bindings import controller_binding_routes
from command_api.dead_letters import dead_letter_routes
from command_api.depots import depot_routes, microgrid_routes
from command_api.packets import PacketDesk, packet_routes
from command_api.replay_runner import ReplayRunner
from command_api.site_things import site_thing_routes
from event_store.database import UNREACHABLE, Pool
from sensor_packet.contract_files import read_contract
from sensor_packet.packet import DEFAULT_MAX_AHEAD_S
from service_runtime.access import Access
from service_runtime.http_api import answer_without_database, http_api

VERSION = "1.0.0"
"""Of the interface, not of the program: a path, field or code that goes away makes a new major one."""


def create_app(
    pool: Pool,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    access: Access,
    *,
    max_ahead_s: float = DEFAULT_MAX_AHEAD_S,
) -> FastAPI:
    """The command API on a pool of connections.

    `clock` gives aware times, `new_id` UUIDs (version 7) as text; `access` decides who may do what; `max_ahead_s` is how far ahead
    of us a packet's clock may be, in seconds. Who serves it also runs its `state.replays`.
    """
    backing = Backing(pool, clock, new_id)
    desk = PacketDesk(backing, max_ahead_s)
    replays = ReplayRunner(pool, desk.ready, clock, new_id())
    app = http_api(
        "Depotgrid command API",
        VERSION,
        "Everything that changes the site model and the microgrids of electric-bus depots, and packets without a broker",
        (
            depot_routes(backing),
            microgrid_routes(backing),
            site_thing_routes(backing),
            capability_routes(backing),
            controller_binding_routes(backing),
            packet_routes(backing, desk),
            capability_status_routes(backing, desk),
            dead_letter_routes(backing, replays),
        ),
        guards=(Depends(allowed_by(access, backing)),),
        other_api=read_contract("openapi.read.json"),
        readiness=lambda: _not_ready_because(pool),
        registry=CollectorRegistry(),
    )
    detail = "the database does not answer at the moment; whether the command was carried out, the same key tells"
    answer_without_database(app, UNREACHABLE, detail)
    app.state.replays = replays
    return app


async def _not_ready_because(pool: Pool) -> Sequence[str]:
    async with pool.acquire(timeout=1.0) as connection:
        await connection.fetchval("SELECT 1")
    return []
