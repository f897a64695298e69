"""Create, change, delete controller bindings, and let one take over; by the version that the caller has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, gone, not_found, problem_of
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import MEDIA_TYPE, FieldFault, Problem, ProblemDocument, problem_responses
from site_operations.binding_faults import CHANGE_SCHEMA, CREATION_SCHEMA, TAKE_OVER_SCHEMA
from site_operations.change_site import Faulty, NotFound
from site_operations.conduct import Answer
from site_operations.controller_bindings import (
    KIND,
    Bound,
    Contested,
    SourceConflict,
    VersionConflict,
    change_binding,
    create_binding,
    delete_binding,
    take_over,
)
from site_registry.binding_documents import ControllerBindingDocument, describe_bindings

_LIST = "/api/depot/{depot_id}/controller-binding"
_ONE = "/api/controller-binding/{controller_binding_id}"
_VERSION = {"ETag": {"description": "the version, for If-Match", "required": True, "schema": {"type": "string"}}}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "the ETag of the binding as it was seen; with another version than the present one nothing is done",
    "schema": {"type": "string"},
}


class CapabilityConflict(BaseModel):
    """A capability that has another source already. `node_id` null is the whole site; null as active: nobody has it."""

    microgrid_id: str
    capability: str
    node_id: str | None
    active_device_id: str | None
    active_controller_binding_id: str | None
    incoming_device_id: str
    incoming_controller_binding_id: str | None = Field(description="null for a binding that was not made")


class SourceConflictDocument(ProblemDocument):
    """A conflict; `conflicts` where the code is CAPABILITY_SOURCE_CONFLICT. Nothing was stored."""

    conflicts: list[CapabilityConflict] | None = None


class VersionConflictDocument(ProblemDocument):
    """The binding is at another version than the request says; `current` is the binding as it is."""

    current: ControllerBindingDocument


def controller_binding_routes(backing: Backing) -> APIRouter:
    """`POST …/controller-binding`, `PATCH` and `DELETE` of one, and its `take-over`."""
    router = APIRouter(tags=["controller binding"])
    _add_creation(router, backing)
    _add_change(router, backing)
    _add_deletion(router, backing)
    _add_take_over(router, backing)
    return router


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    own = {409: SourceConflictDocument, 412: VersionConflictDocument}
    found = problem_responses(*statuses)
    for status, model in own.items():
        if status in found:
            schema = {"$ref": f"#/components/schemas/{model.__name__}"}
            found[status] = {"model": model, "content": {MEDIA_TYPE: {"schema": schema}}}
    return found


def _with_if_match(extra: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {**extra, "parameters": [*extra.get("parameters", []), {**_IF_MATCH, "required": required}]}


def _add_creation(router: APIRouter, backing: Backing) -> None:
    @router.post(
        _LIST,
        status_code=201,
        response_model=ControllerBindingDocument,
        responses={**_refusals(404, 409, 413, 422), 201: {"headers": _VERSION}},
        openapi_extra=described(CREATION_SCHEMA, with_key=True),
    )
    async def post_controller_binding(request: Request, depot_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Let a device own capabilities of the depot's microgrid; with `enabled` false, only be ready to take them over."""

        async def handler(given: Given) -> Answer:
            if not is_identifier(depot_id) or not given.principal.may_see(depot_id):
                raise not_found("depot", depot_id if is_identifier(depot_id) else "")
            outcome = await create_binding(
                given.connection,
                depot_id,
                given.document(),
                sees=given.principal.may_see,
                now=backing.clock(),
                new_id=backing.new_id,
            )
            return await _answer(backing, given, outcome, created=True)

        return await carry_out(backing, request, handler)


def _add_change(router: APIRouter, backing: Backing) -> None:
    @router.patch(
        _ONE,
        response_model=ControllerBindingDocument,
        responses={**_refusals(404, 409, 412, 413, 422, 428), 200: {"headers": _VERSION}},
        openapi_extra=_with_if_match(described(CHANGE_SCHEMA), required=True),
    )
    async def patch_controller_binding(request: Request, controller_binding_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Change the switch, `stale_after_s`, or all capabilities of a binding; needs `If-Match`."""

        async def handler(given: Given) -> Answer:
            await given.require_seen(KIND, controller_binding_id)
            outcome = await change_binding(
                given.connection,
                controller_binding_id,
                given.document(),
                holds=_holds(request, required=True),
                now=backing.clock(),
                new_id=backing.new_id,
            )
            return await _answer(backing, given, outcome)

        return await carry_out(backing, request, handler)


def _add_deletion(router: APIRouter, backing: Backing) -> None:
    @router.delete(
        _ONE,
        status_code=204,
        responses=_refusals(404, 412, 413, 422),
        openapi_extra=_with_if_match({}),
    )
    async def delete_controller_binding(request: Request, controller_binding_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Delete a binding; what was reported through it stays in history."""

        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            await given.require_seen(KIND, controller_binding_id)
            outcome = await delete_binding(
                given.connection, controller_binding_id, holds=_holds(request), now=backing.clock(), new_id=backing.new_id
            )
            if isinstance(outcome, Bound):
                return gone()
            return await _answer(backing, given, outcome)

        return await carry_out(backing, request, handler)


def _add_take_over(router: APIRouter, backing: Backing) -> None:
    @router.post(
        f"{_ONE}/take-over",
        response_model=ControllerBindingDocument,
        responses={**_refusals(404, 409, 412, 413, 422), 200: {"headers": _VERSION}},
        openapi_extra=_with_if_match(described(TAKE_OVER_SCHEMA, with_key=True)),
    )
    async def post_take_over(request: Request, controller_binding_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Enable a binding and take its capabilities from `expected_device_id`, if that one has them."""

        async def handler(given: Given) -> Answer:
            await given.require_seen(KIND, controller_binding_id)
            outcome = await take_over(
                given.connection,
                controller_binding_id,
                given.document(),
                holds=_holds(request),
                now=backing.clock(),
                new_id=backing.new_id,
            )
            return await _answer(backing, given, outcome)

        return await carry_out(backing, request, handler)


def _holds(request: Request, *, required: bool = False) -> Callable[[int], bool]:
    """Whether the request's `If-Match` holds for a version; raises the 428 only when asked, for who is not there is 404."""
    given = ",".join(request.headers.getlist("if-match"))
    named = {one.strip() for one in given.split(",")} - {""}

    def holds(version: int) -> bool:
        if required and not named:
            detail = "send the ETag of the binding as you have seen it in If-Match, so that nobody's change is lost"
            raise Problem(428, "PRECONDITION_REQUIRED", detail)
        # A version is an ETag in quotes; without them it is meant all the same.
        return not named or not named.isdisjoint({"*", f'"{version}"', str(version)})

    return holds


async def _answer(
    backing: Backing,
    given: Given,
    outcome: Bound | NotFound | VersionConflict | Faulty | SourceConflict,
    *,
    created: bool = False,
) -> Answer:
    match outcome:
        case Bound(site=site, binding=binding) if binding is not None:
            (document,) = await describe_bindings(given.connection, site, [binding], backing.clock())
            location = f"/api/controller-binding/{binding.controller_binding_id}" if created else None
            return done(201 if created else 200, document, location=location, etag=f'"{binding.version}"')
        case VersionConflict(site=site, binding=binding):
            (document,) = await describe_bindings(given.connection, site, [binding], backing.clock())
            detail = f"the binding is at version {binding.version} by now; `current` is how it stands"
            raise Problem(412, "VERSION_CONFLICT", detail, headers={"ETag": f'"{binding.version}"'}, extra={"current": document})
        case SourceConflict():
            raise _conflict(outcome)
        case NotFound() | Faulty():
            raise problem_of(outcome)
        case _:
            raise RuntimeError("a binding that was stored is there")


def _conflict(outcome: SourceConflict) -> Problem:
    faults = [FieldFault(one.pointer, "CAPABILITY_SOURCE_CONFLICT", _told(outcome, one)) for one in outcome.contested]
    conflicts = [
        {
            "microgrid_id": outcome.microgrid_id,
            "capability": one.capability,
            "node_id": outcome.node_id,
            "active_device_id": one.active.device_id if one.active else None,
            "active_controller_binding_id": one.active.controller_binding_id if one.active else None,
            "incoming_device_id": one.incoming_device_id,
            "incoming_controller_binding_id": outcome.incoming_binding_id,
        }
        for one in outcome.contested
    ]
    detail = "; ".join(_what(outcome, one) for one in outcome.contested) + ". " + _way_out(outcome, outcome.contested[0])
    return Problem(409, "CAPABILITY_SOURCE_CONFLICT", detail, errors=faults, extra={"conflicts": conflicts})


def _told(outcome: SourceConflict, one: Contested) -> str:
    return f"{_what(outcome, one)}. {_way_out(outcome, one)}"


def _what(outcome: SourceConflict, one: Contested) -> str:
    owner = one.active.device_id if one.active else "nobody"
    where = f"{outcome.scope} of microgrid {outcome.microgrid_id}"
    return f"{one.capability} for {where} is owned by {owner} and claimed by {one.incoming_device_id}"


def _way_out(outcome: SourceConflict, one: Contested) -> str:
    if one.active is None:
        return "Enable the binding by PATCH: there is nobody to take over from"
    if one.active.device_id == one.incoming_device_id:
        return "There is nothing to take over"
    which = f"/api/controller-binding/{outcome.incoming_binding_id}/take-over"
    take = f'POST {which} with {{"expected_device_id": "{one.active.device_id}"}} takes it over'
    if outcome.incoming_binding_id is None:
        take = f"create it with enabled: false, then {take.replace('/None/', '/{its id}/')}"
    return f"To resolve it, {take}; or disable binding {one.active.controller_binding_id} first"
