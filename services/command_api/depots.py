"""Create, change and delete depots, make one be what a document says, and see to its microgrid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, gone, not_found, problem_of, problem_of_site_faults
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import Problem, problem_responses
from site_operations.change_site import Changed, change_depot, create_depot, delete_depot
from site_operations.conduct import Answer
from site_operations.import_site import import_within
from site_operations.provision_microgrid import DepotNotFound, NoTopLevelCircuit, provision_within
from site_operations.resync_microgrid import (
    MicrogridNotFound,
    NodeDescription,
    RenamedNode,
    Resynced,
    resync_within,
    try_out_resync,
)
from site_operations.thing_faults import change_schema, creation_schema, site_schema
from site_registry.documents import DepotDescription, MicrogridDocument, describe_depot, describe_microgrid
from site_registry.load import load_site
from site_registry.site_file import SiteFault, export_site, parse_site

_SITE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnboundControlPoint:
    """A control point that went with its node."""

    control_point_id: str
    node_id: str | None
    capability: str
    device_id: str
    measurand: str


@dataclass(frozen=True, slots=True)
class ResyncDocument:
    """What a repair did, or with `dry_run` would do.

    `reordered` is all nodes in their new order where the order of those that stay changed, else empty; `corrected` names what else
    was put right: `position` (without effect on the order) and `status`. A node that a trial would make has no id.
    """

    microgrid_id: str
    depot_id: str
    version: int
    status: str
    dry_run: bool
    changed: bool
    added: tuple[NodeDescription, ...]
    removed: tuple[NodeDescription, ...]
    renamed: tuple[RenamedNode, ...]
    reordered: tuple[NodeDescription, ...]
    corrected: tuple[str, ...]
    unbound: tuple[UnboundControlPoint, ...]


class ResyncQuery(NoQuery):
    """Whether to do it."""

    dry_run: bool = False


def depot_routes(backing: Backing) -> APIRouter:
    """`/api/depot`, `/api/depot/{depot_id}` and its site document."""
    router = APIRouter(tags=["depot"])

    @router.post(
        "/api/depot",
        status_code=201,
        response_model=DepotDescription,
        responses=problem_responses(409, 413, 422),
        openapi_extra=described(creation_schema("depot"), with_key=True),
    )
    async def post_depot(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        """Create a depot with its circuits and its microgrid."""

        async def handler(given: Given) -> Answer:
            outcome = await create_depot(given.connection, given.document(), now=backing.clock(), new_id=backing.new_id)
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            depot_id = outcome.site.depot.depot_id
            _require_own(given, depot_id)
            return done(201, await describe_depot(given.connection, depot_id), location=f"/api/depot/{depot_id}")

        return await carry_out(backing, request, handler)

    @router.patch(
        "/api/depot/{depot_id}",
        response_model=DepotDescription,
        responses=problem_responses(404, 413, 422),
        openapi_extra=described(change_schema("depot")),
    )
    async def patch_depot(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Change a depot's name or time zone."""

        async def handler(given: Given) -> Answer:
            _require_seen(given, depot_id)
            outcome = await change_depot(given.connection, depot_id, given.document(), now=backing.clock(), new_id=backing.new_id)
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            return done(200, await describe_depot(given.connection, depot_id))

        return await carry_out(backing, request, handler)

    @router.delete("/api/depot/{depot_id}", status_code=204, responses=problem_responses(404, 409, 413, 422))
    async def remove_depot(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Delete a depot in which nothing is left, and retire its microgrid."""

        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            _require_seen(given, depot_id)
            outcome = await delete_depot(given.connection, depot_id, now=backing.clock(), new_id=backing.new_id)
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            return gone()

        return await carry_out(backing, request, handler)

    @router.put(
        "/api/depot/{depot_id}/site",
        response_model=dict[str, Any],
        responses=problem_responses(404, 409, 413, 422),
        openapi_extra=described(site_schema()),
    )
    async def put_site(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Make the depot be what the document says: create it if need be, and delete what the document leaves out."""

        async def handler(given: Given) -> Answer:
            return done(200, await _put_site(backing, given, depot_id))

        return await carry_out(backing, request, handler, most_bytes=_SITE_BYTES)

    return router


def microgrid_routes(backing: Backing) -> APIRouter:
    """`POST /api/depot/{depot_id}/microgrid` and its resync."""
    router = APIRouter(tags=["microgrid"])

    @router.post(
        "/api/depot/{depot_id}/microgrid",
        status_code=201,
        response_model=MicrogridDocument,
        responses={**problem_responses(404, 409, 413, 422), 200: {"model": MicrogridDocument, "description": "It was there."}},
        openapi_extra=described(None, with_key=True),
    )
    async def post_microgrid(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Provision the depot's microgrid; 200 with it where it exists."""

        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            _require_seen(given, depot_id)
            outcome = await provision_within(given.connection, depot_id, now=backing.clock(), new_id=backing.new_id)
            if isinstance(outcome, DepotNotFound):
                raise not_found("depot", depot_id)
            if isinstance(outcome, NoTopLevelCircuit):
                detail = f"depot {depot_id} has no circuit without a parent and with a name, so there is no grid connection"
                raise Problem(409, "NO_TOP_LEVEL_CIRCUIT", detail)
            document = await describe_microgrid(given.connection, depot_id)
            if not outcome.created:
                return done(200, document)
            return done(201, document, location=f"/api/depot/{depot_id}/microgrid")

        return await carry_out(backing, request, handler)

    @router.post(
        "/api/depot/{depot_id}/microgrid/resync",
        response_model=ResyncDocument,
        responses=problem_responses(404, 413, 422),
        openapi_extra=described(None, with_key=True),
    )
    async def post_resync(request: Request, depot_id: str, wanted: Annotated[ResyncQuery, Query()]) -> Response:
        """Make the microgrid equal to the depot's top-level circuits again; tells the difference."""

        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            _require_seen(given, depot_id)
            if wanted.dry_run:
                outcome = await try_out_resync(given.connection, depot_id)
            else:
                outcome = await resync_within(given.connection, depot_id, now=backing.clock(), new_id=backing.new_id)
            if isinstance(outcome, DepotNotFound):
                raise not_found("depot", depot_id)
            if isinstance(outcome, MicrogridNotFound):
                raise Problem(404, "MICROGRID_NOT_FOUND", f"depot {depot_id} has no microgrid yet")
            return done(200, _resynced(outcome, depot_id, dry_run=wanted.dry_run))

        return await carry_out(backing, request, handler)

    return router


def _require_seen(given: Given, depot_id: str) -> None:
    if not is_identifier(depot_id) or not given.principal.may_see(depot_id):
        raise not_found("depot", depot_id if is_identifier(depot_id) else "")


def _require_own(given: Given, depot_id: str) -> None:
    """Who is for some depots does not make others."""
    if not given.principal.may_see(depot_id):
        raise Problem(403, "FORBIDDEN", f"the token is for some depots, and {depot_id} is none of them")


async def _put_site(backing: Backing, given: Given, depot_id: str) -> dict[str, Any]:
    if not is_identifier(depot_id):
        raise not_found("depot", "")
    _require_own(given, depot_id)
    parsed = parse_site(given.document())  # type: ignore[arg-type] - whatever it is, its faults are told
    if isinstance(parsed, list):
        raise problem_of_site_faults(parsed)
    if parsed.depot.depot_id != depot_id:
        detail = f"{parsed.depot.depot_id} is not the depot of the address, {depot_id}"
        raise problem_of_site_faults([SiteFault("/depot/depot_id", "INVALID_VALUE", detail)])
    outcome = await import_within(given.connection, parsed, prune=True, now=backing.clock(), new_id=backing.new_id)
    if isinstance(outcome, list):
        raise problem_of_site_faults(outcome)
    site = await load_site(given.connection, depot_id)
    if site is None:
        raise RuntimeError("what was just stored is there")
    return export_site(site)


def _resynced(outcome: Resynced, depot_id: str, *, dry_run: bool) -> ResyncDocument:
    microgrid = outcome.microgrid
    unbound = (
        UnboundControlPoint(point.control_point_id, point.node_id, point.capability, point.device_id, point.measurand)
        for point in outcome.unbound
    )
    return ResyncDocument(
        microgrid.microgrid_id,
        depot_id,
        microgrid.version,
        microgrid.status,
        dry_run,
        outcome.changed,
        outcome.added,
        outcome.removed,
        outcome.renamed,
        outcome.reordered,
        outcome.corrected,
        tuple(unbound),
    )
