"""The single things of the site model, each by its id and in lists by depot or by what they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.database import Connection
from read_api.answers import Identifier, NoQuery, Page, decode_cursor, encode_cursor, is_uuid, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from sensor_packet.identifiers import is_identifier
from service_runtime.access import principal_of
from service_runtime.problem import problem_responses
from site_registry.documents import (
    DOCUMENTS,
    ChargePointDocument,
    CircuitDocument,
    ConnectorDocument,
    DeviceDocument,
    GatewayDocument,
    PowerSourceDocument,
    SensorActionDocument,
)


@dataclass(frozen=True, slots=True)
class CircuitPage:
    """Circuits in order of their ids."""

    items: tuple[CircuitDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ChargePointPage:
    """Charge points in order of their ids."""

    items: tuple[ChargePointDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ConnectorPage:
    """Connectors in order of their ids."""

    items: tuple[ConnectorDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class PowerSourcePage:
    """Power sources in order of their ids."""

    items: tuple[PowerSourceDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class GatewayPage:
    """Gateways in order of their ids."""

    items: tuple[GatewayDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Devices in order of their ids."""

    items: tuple[DeviceDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class SensorActionPage:
    """Sensor actions in order of their ids."""

    items: tuple[SensorActionDocument, ...]
    next: str | None


class OfDepot(Page):
    """Which of them."""

    depot_id: Identifier | None = None


class OfCircuit(OfDepot):
    """Which of them."""

    circuit_id: Identifier | None = None


class OfChargePoint(OfDepot):
    """Which of them."""

    charge_point_id: Identifier | None = None


class OfGateway(OfDepot):
    """Which of them."""

    gateway_id: Identifier | None = None


class OfDevice(OfDepot):
    """Which of them."""

    device_id: Identifier | None = None


_FROM = {
    "charge_point": "charge_point t JOIN circuit c USING (circuit_id)",
    "connector": "connector t JOIN charge_point p USING (charge_point_id) JOIN circuit c USING (circuit_id)",
}
_THROUGH_CIRCUIT = frozenset(_FROM)
_UUIDS = ("sensor_action_id", "node_id")
_PAGES: tuple[tuple[str, type[Any], type[Any], str], ...] = (
    ("circuit", CircuitPage, OfDepot, "circuits"),
    ("charge_point", ChargePointPage, OfCircuit, "charge points"),
    ("connector", ConnectorPage, OfChargePoint, "connectors"),
    ("power_source", PowerSourcePage, OfCircuit, "power sources"),
    ("gateway", GatewayPage, OfDepot, "gateways"),
    ("device", DevicePage, OfGateway, "devices"),
    ("sensor_action", SensorActionPage, OfDevice, "sensor actions"),
)


def site_model_routes(backing: Backing) -> APIRouter:
    """`/api/circuit`, `/api/circuit/{circuit_id}` and so on for each kind of thing."""
    router = APIRouter(tags=["site model"])
    for kind, page, query, plural in _PAGES:
        _add_list(router, backing, kind, page, query, plural)
        _add_one(router, backing, kind)
    return router


def _add_list(router: APIRouter, backing: Backing, kind: str, page: type[Any], query: type[OfDepot], plural: str) -> None:
    key = f"{kind}_id"
    filters = [name for name in query.model_fields if name not in Page.model_fields]

    async def list_things(request: Request, wanted: Any) -> Response:
        place = decode_cursor(wanted.cursor, tuple[str])
        given = {name: value for name in filters if (value := getattr(wanted, name)) is not None}
        after = place[0] if place else ""
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            if "depot_id" in given and not (
                principal_of(request).may_see(given["depot_id"]) and await _exists(connection, given["depot_id"])
            ):
                raise not_found("DEPOT", given["depot_id"])
            seen = principal_of(request).depots
            conditions = [
                f"($3::text[] IS NULL OR {_depot_column(kind)} = ANY ($3))",
                f'{key}::text COLLATE "C" > $1',
                *(f"{_depot_column(kind) if name == 'depot_id' else name} = ${n}" for n, name in enumerate(given, start=4)),
            ]
            rows = await connection.fetch(
                f'{_select(kind)} WHERE {" AND ".join(conditions)} ORDER BY {key}::text COLLATE "C" LIMIT $2',
                after,
                wanted.limit + 1,
                seen if seen is None else sorted(seen),
                *given.values(),
            )
        items = tuple(DOCUMENTS[kind](**dict(row)) for row in rows[: wanted.limit])
        more = encode_cursor(getattr(items[-1], key)) if len(rows) > wanted.limit else None
        return json_answer(request, page(items, more))

    list_things.__annotations__["wanted"] = Annotated[query, Query()]
    router.get(
        f"/api/{kind}",
        name=f"list_{kind}s",
        response_model=page,
        responses=problem_responses(404, 422),
        description=f"The {plural}, of one depot or all, in order of their ids.",
    )(list_things)


def _add_one(router: APIRouter, backing: Backing, kind: str) -> None:
    key = f"{kind}_id"

    async def get_thing(request: Request, identifier: str, _: Annotated[NoQuery, Query()]) -> Response:
        wanted = identifier.lower() if key in _UUIDS else identifier
        if not (is_uuid(wanted) if key in _UUIDS else is_identifier(wanted)):
            raise not_found(kind.upper(), identifier)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            row = await connection.fetchrow(f"{_select(kind)} WHERE {key} = $1{'::text::uuid' if key in _UUIDS else ''}", wanted)
        if row is None:
            raise not_found(kind.upper(), identifier)
        return json_answer(request, DOCUMENTS[kind](**dict(row)))

    get_thing.__annotations__["identifier"] = Annotated[str, Path(alias=key)]
    router.get(
        f"/api/{kind}/{{{key}}}",
        name=f"get_{kind}",
        response_model=DOCUMENTS[kind],
        responses=problem_responses(404, 422),
        description=f"One {kind.replace('_', ' ')}.",
    )(get_thing)


def _select(kind: str) -> str:
    document: Any = DOCUMENTS[kind]
    columns: list[str] = []
    for name in document.__dataclass_fields__:
        column = _depot_column(kind) if name == "depot_id" else name if name in _SHARED.get(kind, ()) else f"t.{name}"
        columns.append(f"{column}::text AS {name}" if name in _UUIDS else f"{column} AS {name}")
    return f"SELECT {', '.join(columns)} FROM {_FROM.get(kind, f'{kind} t')}"  # noqa: S608 - names of ours


# A column that two joined tables have under USING stands without the table's name.
_SHARED = {"charge_point": ("circuit_id",), "connector": ("charge_point_id",)}


def _depot_column(kind: str) -> str:
    return "c.depot_id" if kind in _THROUGH_CIRCUIT else "t.depot_id"


async def _exists(connection: Connection, depot_id: str) -> bool:
    return await connection.fetchval("SELECT true FROM depot WHERE depot_id = $1", depot_id) or False
