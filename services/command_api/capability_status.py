"""A capability status that is stated over HTTP instead of sent in a packet; the same decisions, told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, not_found, problem_of_site_faults, refused
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from command_api.packets import SOURCE, PacketDesk
from microgrid.directory import SiteDirectory
from microgrid.routing import REMEDIATION
from microgrid.site_model import Site
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import FieldFault, Problem, problem_responses
from service_runtime.tracing import parse_traceparent
from site_operations.conduct import Answer
from site_operations.ingest import ActionOutcome, printable
from site_operations.post_status import STATUS_SCHEMA, Speaker, StatedStatus, StatusRefused, post_status, read_status

_NOT_FOUND = frozenset({"MICROGRID_NOT_FOUND"})
_CONFLICTS = frozenset({"CAPABILITY_NOT_BOUND", "CAPABILITY_SOURCE_CONFLICT"})


@dataclass(frozen=True, slots=True)
class OutcomeOfStatus:
    """What came of a status: `APPLIED`, `RECORDED` (as history only) or `DUPLICATE`.

    `operational_status` is null for a mode that says nothing of the capability.
    """

    capability: str
    node_id: str | None
    measurand: str
    action: str | None
    outcome: str
    operational_status: str | None
    event_id: str | None


def capability_status_routes(backing: Backing, desk: PacketDesk) -> APIRouter:
    """`POST /api/depot/{depot_id}/microgrid/capability-status`."""
    router = APIRouter(tags=["microgrid"])

    @router.post(
        "/api/depot/{depot_id}/microgrid/capability-status",
        response_model=OutcomeOfStatus,
        responses=problem_responses(404, 409, 413, 422),
        openapi_extra=described(STATUS_SCHEMA, with_key=True),
    )
    async def post_capability_status(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """State that a capability is on or off, or a battery mode that tells; decided as if it had come in a packet."""

        async def handler(given: Given) -> Answer:
            directory, ingest = await desk.ready(given.connection)
            site, speaker = _depot_and_speaker(given, directory, depot_id)
            status = read_status(given.document())
            if isinstance(status, list):
                raise problem_of_site_faults(status)
            trace = parse_traceparent(request.headers.get("traceparent"))
            outcome = await post_status(
                given.connection,
                ingest,
                directory,
                depot_id,
                status,
                speaker,
                source=SOURCE,
                topic=printable(request.url.path),
                received_at=backing.clock(),
                trace_id=trace.trace_id if trace is not None else None,
            )
            if isinstance(outcome, StatusRefused):
                answer = refused(_problem(outcome, status, site), printable(request.url.path))
                # What waits for a person is to stay among the open questions.
                return dataclasses.replace(answer, refused=outcome.outcome != REMEDIATION)
            return done(200, _document(status, outcome.action, outcome.operational_status))

        return await carry_out(backing, request, handler)

    return router


def _depot_and_speaker(given: Given, directory: SiteDirectory, depot_id: str) -> tuple[Site, Speaker]:
    """A person speaks in depots that they may see, a gateway in the one that it is in; to others there is no such depot."""
    principal = given.principal
    site = directory.site(depot_id)
    if principal.has("operator") and principal.may_see(depot_id):
        if site is None:
            raise not_found("depot", depot_id if is_identifier(depot_id) else "")
        return site, Speaker(None, principal.may_see)
    if "device" in principal.roles and principal.gateway_id is None:
        raise Problem(403, "FORBIDDEN", "the token names no gateway, so it can state nothing")
    if site is None or "device" not in principal.roles or principal.gateway_id not in site.gateway_by_id:
        raise not_found("depot", depot_id if is_identifier(depot_id) else "")
    return site, Speaker(principal.gateway_id, principal.may_see)


def _problem(outcome: StatusRefused, status: StatedStatus, site: Site) -> Problem:
    http_status = 404 if outcome.code in _NOT_FOUND else 409 if outcome.code in _CONFLICTS else 422
    if outcome.code == "MICROGRID_NOT_FOUND":
        return Problem(http_status, outcome.code, f"depot {site.depot.depot_id} has no microgrid")
    extra: dict[str, Any] = {}
    detail = outcome.detail
    if outcome.code in _CONFLICTS:
        microgrid_id = site.microgrid.microgrid_id if site.microgrid else None
        point = site.active_control_point(status.capability, status.node_id)
        owner = point.device_id if point is not None else None
        scope = f"node {status.node_id}" if status.node_id else "the whole site"
        if point is None:
            belongs, advice = "is bound to no device", f"bind it to {status.device_id}"
        elif owner == status.device_id:
            belongs, advice = (
                f"is fed by {point.measurand} of this device",
                f"state it with that measurand, or bind {status.measurand}",
            )
        else:
            belongs, advice = f"is reported by device {owner}", f"let {status.device_id} take it over, or let it say no more"
        detail = f"{status.capability} of {scope} in microgrid {microgrid_id} {belongs}; {advice}"
        extra = {
            "microgrid_id": microgrid_id,
            "capability": status.capability,
            "node_id": status.node_id,
            "active_device_id": owner,
            "device_id": status.device_id,
        }
    fault = FieldFault(outcome.pointer, outcome.code, detail)
    return Problem(http_status, outcome.code, detail, errors=[fault], extra=extra)


def _document(status: StatedStatus, action: ActionOutcome, operational_status: str | None) -> OutcomeOfStatus:
    return OutcomeOfStatus(
        capability=status.capability,
        node_id=status.node_id,
        measurand=status.measurand,
        action=action.action,
        outcome=action.outcome,
        operational_status=operational_status,
        event_id=action.event_id,
    )
