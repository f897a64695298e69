"""Microgrids by depot and by their own id, and the tree from the grid connections down."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.database import Connection
from microgrid.structure import Structure, build_structure
from read_api.answers import NoQuery, is_uuid, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.card import no_microgrid
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import problem_responses
from site_registry.documents import MicrogridDocument, describe_microgrid, describe_microgrid_by_id
from site_registry.load import load_site


async def microgrid_by_id(connection: Connection, microgrid_id: str) -> MicrogridDocument | None:
    """A microgrid by its own id, retired ones too: its history outlives its depot."""
    return await describe_microgrid_by_id(connection, microgrid_id) if is_uuid(microgrid_id) else None


def microgrid_routes(backing: Backing) -> APIRouter:
    """`/api/depot/{depot_id}/microgrid`, its structure, and `/api/microgrid/{microgrid_id}`."""
    router = APIRouter(tags=["microgrid"])

    @router.get("/api/depot/{depot_id}/microgrid", response_model=MicrogridDocument, responses=problem_responses(404, 422))
    async def get_microgrid_of_depot(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The depot's microgrid."""
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            found = await describe_microgrid(connection, depot_id)
            if found is None:
                exists = await connection.fetchval("SELECT true FROM depot WHERE depot_id = $1", depot_id)
                raise no_microgrid(depot_id) if exists else not_found("DEPOT", depot_id)
        return json_answer(request, found)

    @router.get("/api/depot/{depot_id}/microgrid/structure", response_model=Structure, responses=problem_responses(404, 422))
    async def get_structure(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The tree from the grid connections down: circuits, charge points, connectors, power sources."""
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            site = await load_site(connection, depot_id)
        if site is None:
            raise not_found("DEPOT", depot_id)
        if site.microgrid is None:
            raise no_microgrid(depot_id)
        return json_answer(request, build_structure(site, site.microgrid))

    @router.get("/api/microgrid/{microgrid_id}", response_model=MicrogridDocument, responses=problem_responses(404, 422))
    async def get_microgrid(request: Request, microgrid_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """A microgrid by its own id; also one that is retired."""
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            found = await microgrid_by_id(connection, microgrid_id)
        if found is None:
            raise not_found("MICROGRID", microgrid_id)
        return json_answer(request, found)

    return router
