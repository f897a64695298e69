"""Controller bindings: which device owns which capability, and what it has last reported of it.

The ETag of a binding is its version, the one that a change names in `If-Match`. It says nothing of reports, which come all the
time, so there is no 304 for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from microgrid.controller_bindings import binding_of, controller_bindings
from read_api.answers import NoQuery, Page, UuidText, decode_cursor, encode_cursor, is_uuid, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.card import no_microgrid
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import problem_responses
from site_registry.binding_documents import ControllerBindingDocument, describe_bindings
from site_registry.find_depot import depot_of

_VERSION = {"ETag": {"description": "the version, for If-Match", "required": True, "schema": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class ControllerBindingPage:
    """Controller bindings in order of their ids."""

    items: tuple[ControllerBindingDocument, ...]
    next: str | None


def controller_binding_routes(backing: Backing) -> APIRouter:
    """`/api/depot/{depot_id}/controller-binding` and `/api/controller-binding/{controller_binding_id}`."""
    router = APIRouter(tags=["controller binding"])

    @router.get(
        "/api/depot/{depot_id}/controller-binding", response_model=ControllerBindingPage, responses=problem_responses(404, 422)
    )
    async def list_controller_bindings(request: Request, depot_id: str, wanted: Annotated[Page, Query()]) -> Response:
        """The controller bindings of a depot's microgrid, disabled ones too."""
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        place = decode_cursor(wanted.cursor, tuple[UuidText])
        after = place[0] if place else ""
        now = backing.clock()
        async with (
            backing.pool.acquire(timeout=ACQUIRE_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            depot = await backing.sites.depot_now(connection, depot_id, now)
            if depot is None:
                raise not_found("DEPOT", depot_id)
            if depot.site.microgrid is None:
                raise no_microgrid(depot_id)
            bindings = controller_bindings(depot.site.microgrid.control_points)
            rest = [binding for binding in bindings if binding.controller_binding_id > after]
            items = await describe_bindings(connection, depot.site, rest[: wanted.limit], now)
        more = encode_cursor(items[-1].controller_binding_id) if len(rest) > wanted.limit else None
        return json_answer(request, ControllerBindingPage(tuple(items), more))

    @router.get(
        "/api/controller-binding/{controller_binding_id}",
        response_model=ControllerBindingDocument,
        responses={**problem_responses(404, 422), 200: {"headers": _VERSION}},
    )
    async def get_controller_binding(controller_binding_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """One controller binding."""
        wanted = controller_binding_id.lower()
        if not is_uuid(wanted):
            raise not_found("CONTROLLER_BINDING", controller_binding_id)
        now = backing.clock()
        async with (
            backing.pool.acquire(timeout=ACQUIRE_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            depot_id = await depot_of(connection, "controller_binding", wanted)
            depot = await backing.sites.depot_now(connection, depot_id, now) if depot_id is not None else None
            binding = binding_of(depot.site.microgrid, wanted) if depot is not None else None
            if depot is None or binding is None:
                raise not_found("CONTROLLER_BINDING", controller_binding_id)
            (document,) = await describe_bindings(connection, depot.site, [binding], now)
        headers = {"ETag": f'"{binding.version}"', "Cache-Control": "no-store"}
        return Response(msgspec.json.encode(document), headers=headers, media_type="application/json")

    return router
