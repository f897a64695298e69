"""The microgrid card, and the capability statuses that stand on it.

All of a card is read in one snapshot and in a number of queries that does not depend on the depot's size or history: the look
at the site (`site_cache`), the latest reports of all subjects, and the health of the controllers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.controller_health import health_of_circuits
from event_store.read import latest_of
from microgrid.card import CapabilityEntry, Card, build_card
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event
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
    card = (await read_cards(backing, [depot_id]))[depot_id]
    if isinstance(card, Problem):
        raise card
    return card


async def read_cards(backing: Backing, depot_ids: Sequence[str]) -> dict[str, Card | Problem]:
    """The cards of several depots now, or for each why there is none; all from one snapshot, at the cost of one in queries."""
    possible = [depot_id for depot_id in depot_ids if is_identifier(depot_id)]
    async with (
        backing.pool.acquire(timeout=ACQUIRE_S) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # Before the first query, which takes the snapshot: a card never claims to be younger than what it was made from.
        now = backing.clock()
        depots = await backing.sites.depots_now(connection, possible, now)
        plans = [depot.plan for depot in depots.values() if depot.plan is not None]
        latest = await latest_of(connection, [subject for plan in plans for subject in plan.subjects])
        circuits = [circuit.circuit_id for depot in depots.values() if depot.plan is not None for circuit in depot.site.circuits]
        healths = await health_of_circuits(connection, circuits)
    events = {subject: stored.event for subject, stored in latest.items()}
    found: dict[str, Card | Problem] = {}
    for depot_id in depot_ids:
        depot = depots.get(depot_id)
        found[depot_id] = not_found("DEPOT", depot_id) if depot is None else _card(backing, depot, events, healths, now)
    return found


def _card(
    backing: Backing, depot: DepotNow, latest: Mapping[str, Event], healths: Sequence[ControllerHealth], now: datetime
) -> Card | Problem:
    site, plan = depot.site, depot.plan
    if site.microgrid is None or plan is None:
        return no_microgrid(site.depot.depot_id)
    return build_card(
        site,
        site.microgrid,
        plan,
        latest,
        [health for health in healths if health.circuit_id in site.circuit_by_id],
        now=now,
        feature_flags=backing.flags(site.depot.depot_id),
        remediation_count=depot.remediation_count,
        dead_letter_count=depot.dead_letter_count,
        stale_after_default_s=backing.stale_after_default_s,
    )


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
