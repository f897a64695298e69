"""The microgrid card, and the capability statuses that stand on it.

All of a card is read in one snapshot and in a number of queries that does not depend on the depot's size or history: the look
at the site (`site_cache`), the latest reports of all subjects, and the health of the controllers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.controller_health import health_of_circuits
from event_store.database import Connection
from event_store.read import latest_of
from microgrid.card import CapabilityEntry, Card, CardPlan, build_card
from microgrid.site_model import Microgrid
from read_api.answers import NoQuery, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.site_cache import DepotNow
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import Problem, problem_responses


@dataclass(frozen=True, slots=True)
class CapabilityStatuses:
    """The latest status of each capability that is bound or was reported, in the card's order."""

    microgrid_id: str
    depot_id: str
    as_of: datetime
    items: tuple[CapabilityEntry, ...]
    next: str | None


async def read_card(backing: Backing, depot_id: str) -> Card:
    """The card of a depot now; raises the 404 of a depot or microgrid that is not there."""
    if not is_identifier(depot_id):
        raise not_found("DEPOT", depot_id)
    async with (
        backing.pool.acquire(timeout=ACQUIRE_S) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # Before the first query, which takes the snapshot: a card never claims to be younger than what it was made from.
        now = backing.clock()
        depot, microgrid, plan = await _depot_with_microgrid(backing, connection, depot_id, now)
        latest = await latest_of(connection, plan.subjects)
        healths = await health_of_circuits(connection, [circuit.circuit_id for circuit in depot.site.circuits])
    return build_card(
        depot.site,
        microgrid,
        plan,
        {subject: stored.event for subject, stored in latest.items()},
        healths,
        now=now,
        feature_flags=backing.flags(depot_id),
        remediation_count=depot.remediation_count,
        dead_letter_count=depot.dead_letter_count,
        stale_after_default_s=backing.stale_after_default_s,
    )


async def _depot_with_microgrid(
    backing: Backing, connection: Connection, depot_id: str, now: datetime
) -> tuple[DepotNow, Microgrid, CardPlan]:
    depot = await backing.sites.depot_now(connection, depot_id, now)
    if depot is None:
        raise not_found("DEPOT", depot_id)
    if depot.site.microgrid is None or depot.plan is None:
        raise no_microgrid(depot_id)
    return depot, depot.site.microgrid, depot.plan


def no_microgrid(depot_id: str) -> Problem:
    """404 for a depot that has no microgrid."""
    return Problem(404, "MICROGRID_NOT_FOUND", f"depot {depot_id} has no microgrid")


def card_routes(backing: Backing) -> APIRouter:
    """`…/microgrid/card` and `…/microgrid/capability-status`."""
    router = APIRouter(tags=["microgrid"])

    @router.get("/api/depot/{depot_id}/microgrid/card", response_model=Card, responses=problem_responses(404, 422))
    async def get_card(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The microgrid card: capabilities, power sources, circuits, and how much there is to settle."""
        return json_answer(request, await read_card(backing, depot_id))

    @router.get(
        "/api/depot/{depot_id}/microgrid/capability-status",
        response_model=CapabilityStatuses,
        responses=problem_responses(404, 422),
    )
    async def get_capability_statuses(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The latest status of each capability, from the same events as the card's."""
        card = await read_card(backing, depot_id)
        return json_answer(request, CapabilityStatuses(card.microgrid_id, card.depot_id, card.as_of, card.capabilities, None))

    return router
