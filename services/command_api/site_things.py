"""Create, change and delete the single things of a depot: circuits, charge points, connectors, power sources, gateways, devices,
sensor actions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, gone, problem_of
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from microgrid.site_model import Device, Site
from service_runtime.problem import problem_responses
from site_operations.change_site import Changed, change_thing, create_thing, delete_thing
from site_operations.conduct import Answer
from site_operations.thing_faults import change_schema, creation_schema
from site_registry.documents import DOCUMENTS, DeviceDocument, SensorActionDocument, document_of


@dataclass(frozen=True, slots=True)
class ConfiguredDevice(DeviceDocument):
    """A device with the sensor actions that it has now; `notes` say which of them could not be enabled, and why."""

    sensor_actions: tuple[SensorActionDocument, ...]
    notes: tuple[str, ...]


def site_thing_routes(backing: Backing) -> APIRouter:
    """`POST /api/circuit`, `PATCH` and `DELETE /api/circuit/{circuit_id}` and so on for each kind of thing."""
    router = APIRouter(tags=["site model"])
    for kind in DOCUMENTS:
        _add_creation(router, backing, kind)
        _add_change(router, backing, kind)
        _add_deletion(router, backing, kind)
    return router


def _model(kind: str) -> type[Any]:
    return ConfiguredDevice if kind == "device" else DOCUMENTS[kind]


def _add_creation(router: APIRouter, backing: Backing, kind: str) -> None:
    async def create(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        async def handler(given: Given) -> Answer:
            outcome = await create_thing(
                given.connection,
                kind,
                given.document(),
                sees=given.principal.may_see,
                now=backing.clock(),
                new_id=backing.new_id,
            )
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            return done(201, _document(kind, outcome), location=f"/api/{kind}/{getattr(outcome.thing, f'{kind}_id')}")

        return await carry_out(backing, request, handler)

    router.post(
        f"/api/{kind}",
        name=f"create_{kind}",
        status_code=201,
        response_model=_model(kind),
        responses=problem_responses(404, 409, 413, 422),
        openapi_extra=described(creation_schema(kind), with_key=True),
        description=f"Create a {_plain(kind)}.",
    )(create)


def _add_change(router: APIRouter, backing: Backing, kind: str) -> None:
    async def change(request: Request, identifier: str, _: Annotated[NoQuery, Query()]) -> Response:
        async def handler(given: Given) -> Answer:
            await given.require_seen(kind, identifier)
            outcome = await change_thing(
                given.connection, kind, identifier, given.document(), now=backing.clock(), new_id=backing.new_id
            )
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            return done(200, _document(kind, outcome))

        return await carry_out(backing, request, handler)

    change.__annotations__["identifier"] = Annotated[str, Path(alias=f"{kind}_id")]
    router.patch(
        f"/api/{kind}/{{{kind}_id}}",
        name=f"change_{kind}",
        response_model=_model(kind),
        responses=problem_responses(404, 409, 413, 422),
        openapi_extra=described(change_schema(kind)),
        description=f"Change the fields of a {_plain(kind)} that are sent; null clears those that may be null.",
    )(change)


def _add_deletion(router: APIRouter, backing: Backing, kind: str) -> None:
    async def delete(request: Request, identifier: str, _: Annotated[NoQuery, Query()]) -> Response:
        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            await given.require_seen(kind, identifier)
            outcome = await delete_thing(given.connection, kind, identifier, now=backing.clock(), new_id=backing.new_id)
            if not isinstance(outcome, Changed):
                raise problem_of(outcome)
            return gone()

        return await carry_out(backing, request, handler)

    delete.__annotations__["identifier"] = Annotated[str, Path(alias=f"{kind}_id")]
    router.delete(
        f"/api/{kind}/{{{kind}_id}}",
        name=f"delete_{kind}",
        status_code=204,
        responses=problem_responses(404, 409, 413, 422),
        description=f"Delete a {_plain(kind)} to which nothing refers.",
    )(delete)


def _document(kind: str, changed: Changed) -> object:
    depot_id = changed.site.depot.depot_id
    document = document_of(kind, depot_id, changed.thing)
    if not isinstance(changed.thing, Device):
        return document
    return ConfiguredDevice(**asdict(document), sensor_actions=actions_of(changed.site, changed.thing), notes=changed.notes)


def actions_of(site: Site, device: Device) -> tuple[SensorActionDocument, ...]:
    """The documents of a device's sensor actions, by measurand, then by id."""
    mine = sorted(site.actions_by_device.get(device.device_id, ()), key=lambda one: (one.measurand, one.sensor_action_id))
    return tuple(document_of("sensor_action", site.depot.depot_id, action) for action in mine)


def _plain(kind: str) -> str:
    return kind.replace("_", " ")
