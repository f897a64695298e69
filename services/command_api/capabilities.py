"""A device, or the site power monitor in front of it, says what it measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, not_found, problem_of
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from service_runtime.problem import problem_responses
from site_operations.conduct import Answer
from site_operations.device_capabilities import CAPABILITIES_SCHEMA, Capabilities, report_capabilities
from site_registry.documents import SensorActionDocument, document_of
from site_registry.find_depot import gateway_of
from site_registry.reported_capabilities import ReportedMeasurand


@dataclass(frozen=True, slots=True)
class CapabilityAction(SensorActionDocument):
    """A sensor action as it stands now; `code` and `detail` tell why it could not be enabled, where that is so."""

    code: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class CapabilitiesDocument:
    """What the device measures, as it said, and all sensor actions that it has now, by measurand."""

    device_id: str
    depot_id: str
    profile: str | None
    measurands: tuple[ReportedMeasurand, ...]
    sensor_actions: tuple[CapabilityAction, ...]


def capability_routes(backing: Backing) -> APIRouter:
    """`PUT /api/device/{device_id}/capabilities`."""
    router = APIRouter(tags=["device"])

    @router.put(
        "/api/device/{device_id}/capabilities",
        response_model=CapabilitiesDocument,
        responses=problem_responses(404, 413, 422),
        openapi_extra=described(CAPABILITIES_SCHEMA),
    )
    async def put_capabilities(request: Request, device_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Say what a device measures; its sensor actions are generated from that, and what a person edited stays."""

        async def handler(given: Given) -> Answer:
            await _require_own_device(given, device_id)
            outcome = await report_capabilities(
                given.connection, device_id, given.document(), now=backing.clock(), new_id=backing.new_id
            )
            if not isinstance(outcome, Capabilities):
                raise problem_of(outcome)
            return done(200, _document(outcome))

        return await carry_out(backing, request, handler)

    return router


async def _require_own_device(given: Given, device_id: str) -> None:
    """A person configures what is of their depots; a gateway speaks for its own devices, wherever they are."""
    if given.principal.has("configurator"):
        await given.require_seen("device", device_id)
        return
    gateway_id = await gateway_of(given.connection, device_id)
    if gateway_id is None or not given.principal.may_post_packets_of(gateway_id):
        raise not_found("device", device_id)


def _document(outcome: Capabilities) -> CapabilitiesDocument:
    actions = (
        CapabilityAction(**asdict(document_of("sensor_action", outcome.depot_id, one.action)), code=one.code, detail=one.detail)
        for one in outcome.actions
    )
    return CapabilitiesDocument(
        outcome.device.device_id, outcome.depot_id, outcome.device.profile, outcome.measurands, tuple(actions)
    )
