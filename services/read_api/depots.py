"""The depots: which there are, how each one is doing, and what each consists of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.database import Connection
from event_store.read import latest_of
from microgrid.card import CapabilityEntry, capability_entries, capability_subjects, overall_freshness
from read_api.answers import NoQuery, Page, decode_cursor, encode_cursor, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import problem_responses
from site_registry.load import load_site, load_sites
from site_registry.site_file import export_site


@dataclass(frozen=True, slots=True)
class DepotSummary:
    """How a depot is doing; `freshness` is the worst of its capabilities."""

    capabilities: tuple[CapabilityEntry, ...]
    freshness: str
    remediation_count: int
    dead_letter_count: int


@dataclass(frozen=True, slots=True)
class DepotDocument:
    """A depot; `microgrid_id` is null while it has none, `summary` is null unless it was asked for."""

    depot_id: str
    name: str
    timezone: str
    microgrid_id: str | None
    created_at: datetime
    updated_at: datetime
    summary: DepotSummary | None


@dataclass(frozen=True, slots=True)
class DepotPage:
    """Depots in order of their ids."""

    items: tuple[DepotDocument, ...]
    next: str | None


class DepotQuery(NoQuery):
    """What to tell besides."""

    include: Literal["summary"] | None = None


class DepotPageQuery(Page):
    """Which depots, and what to tell besides."""

    include: Literal["summary"] | None = None


_DEPOTS = """
SELECT d.depot_id, d.name, d.timezone, d.created_at, d.updated_at, m.microgrid_id::text AS microgrid_id
FROM depot d LEFT JOIN microgrid m ON m.depot_id = d.depot_id AND m.status <> 'RETIRED'
"""
_PAGE = _DEPOTS + "WHERE d.depot_id > $1 ORDER BY d.depot_id LIMIT $2"
_ONE = _DEPOTS + "WHERE d.depot_id = $1"
_COUNTS = """
SELECT i.depot_id,
       (SELECT count(*) FROM remediation r WHERE r.depot_id = i.depot_id) AS remediation_count,
       (SELECT count(*) FROM dead_letter l WHERE l.depot_id = i.depot_id AND l.status = 'PENDING') AS dead_letter_count
FROM unnest($1::text[]) AS i (depot_id)
"""


def depot_routes(backing: Backing) -> APIRouter:
    """`/api/depot`, `/api/depot/{depot_id}` and its site document."""
    router = APIRouter(tags=["depot"])

    @router.get("/api/depot", response_model=DepotPage, responses=problem_responses(422))
    async def list_depots(request: Request, wanted: Annotated[DepotPageQuery, Query()]) -> Response:
        """Depots in order of their ids."""
        place = decode_cursor(wanted.cursor, tuple[str])
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            rows = await connection.fetch(_PAGE, place[0] if place else "", wanted.limit + 1)
            items = await _documents(backing, connection, rows[: wanted.limit], with_summary=wanted.include is not None)
        more = len(rows) > wanted.limit
        return json_answer(request, DepotPage(items, encode_cursor(items[-1].depot_id) if more else None))

    @router.get("/api/depot/{depot_id}", response_model=DepotDocument, responses=problem_responses(404, 422))
    async def get_depot(request: Request, depot_id: str, wanted: Annotated[DepotQuery, Query()]) -> Response:
        """One depot."""
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            rows = await connection.fetch(_ONE, depot_id)
            items = await _documents(backing, connection, rows, with_summary=wanted.include is not None)
        if not items:
            raise not_found("DEPOT", depot_id)
        return json_answer(request, items[0])

    @router.get("/api/depot/{depot_id}/site", response_model=dict[str, Any], responses=problem_responses(404, 422))
    async def get_site(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The depot with all that is configured in it, as a site file has it."""
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            site = await load_site(connection, depot_id)
        if site is None:
            raise not_found("DEPOT", depot_id)
        return json_answer(request, export_site(site))

    return router


async def _documents(backing: Backing, connection: Connection, rows: list[Any], *, with_summary: bool) -> tuple[DepotDocument, ...]:
    summaries = await _summaries(backing, connection, [row["depot_id"] for row in rows]) if with_summary and rows else {}
    return tuple(DepotDocument(**dict(row), summary=summaries.get(row["depot_id"])) for row in rows)


async def _summaries(backing: Backing, connection: Connection, depot_ids: list[str]) -> dict[str, DepotSummary]:
    """The summaries of a page of depots, in as many queries as for one."""
    sites = await load_sites(connection, depot_ids)
    subjects = [name for site in sites.values() if site.microgrid for name in capability_subjects(site.microgrid)]
    latest = {name: stored.event for name, stored in (await latest_of(connection, subjects)).items()}
    counts: dict[str, Any] = {row["depot_id"]: row for row in await connection.fetch(_COUNTS, depot_ids)}
    now = backing.clock()
    summaries: dict[str, DepotSummary] = {}
    for depot_id, site in sites.items():
        entries = capability_entries(site, site.microgrid, latest, now, backing.stale_after_default_s) if site.microgrid else ()
        found = counts[depot_id]
        summaries[depot_id] = DepotSummary(
            entries, overall_freshness(entries), found["remediation_count"], found["dead_letter_count"]
        )
    return summaries
