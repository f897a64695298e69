"""What a person must settle in a depot, with what to do about each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from event_store.remediation import RemediationEntry, list_remediation
from read_api.answers import Page, decode_cursor, encode_cursor, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import problem_responses

_ADVICE = {
    "AMBIGUOUS_CIRCUIT_POWER_SOURCE": (
        "Several power sources are on the device's circuit: give its sensor action the power_source_id that is meant."
    ),
    "AMBIGUOUS_DEPOT_BATTERY": (
        "The depot has several batteries: link the device to the battery's circuit, or give its sensor action a power_source_id."
    ),
    "NO_POWER_SOURCE": (
        "No rule finds a power source: give the sensor action a power_source_id, link the device to a circuit with a power source, "
        "or translate the measurand in the gateway's output_translation."
    ),
    "INVALID_POWER_SOURCE": (
        "The power source named by the sensor action or by the gateway's output_translation is not in the device's depot: "
        "name one that is."
    ),
    "MICROGRID_NOT_FOUND": "The depot has no microgrid: create a top-level circuit, or provision the microgrid.",
    "CAPABILITY_NOT_BOUND": "No device owns this capability in this scope: create a controller binding for the device.",
    "CIRCUIT_NOT_FOUND": (
        "The circuit named by the sensor action or linked to the device is not in the depot, "
        "or the depot has none: correct the link."
    ),
    "AMBIGUOUS_CIRCUIT": (
        "The depot has several top-level circuits: link the device to one, or give its sensor action a circuit_id."
    ),
}
_OTHERWISE = "Correct the sensor action or the device so that the report has one target."


@dataclass(frozen=True, slots=True)
class RemediationDocument:
    """Reports of one device and measurand that have no or no single target: between when, how often, and what to do."""

    device_id: str
    measurand: str
    action: str
    code: str
    candidates: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    count: int
    advice: str


@dataclass(frozen=True, slots=True)
class RemediationPage:
    """Open questions, by device, measurand, action and code."""

    items: tuple[RemediationDocument, ...]
    next: str | None


def advice(code: str) -> str:
    """What a person can do about a remediation code."""
    return _ADVICE.get(code, _OTHERWISE)


def remediation_routes(backing: Backing) -> APIRouter:
    """`/api/depot/{depot_id}/remediation`."""
    router = APIRouter(tags=["remediation"])

    @router.get("/api/depot/{depot_id}/remediation", response_model=RemediationPage, responses=problem_responses(404, 422))
    async def list_open(request: Request, depot_id: str, wanted: Annotated[Page, Query()]) -> Response:
        """What a person must settle in the depot; an entry disappears when its action next applies."""
        after = decode_cursor(wanted.cursor, tuple[str, str, str, str])
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            if not await connection.fetchval("SELECT true FROM depot WHERE depot_id = $1", depot_id):
                raise not_found("DEPOT", depot_id)
            entries = await list_remediation(connection, depot_id, limit=wanted.limit + 1, after=after)
        shown = entries[: wanted.limit]
        more = encode_cursor(*shown[-1].key) if len(entries) > wanted.limit else None
        return json_answer(request, RemediationPage(tuple(map(_document, shown)), more))

    return router


def _document(entry: RemediationEntry) -> RemediationDocument:
    return RemediationDocument(
        device_id=entry.device_id,
        measurand=entry.measurand,
        action=entry.action,
        code=entry.code,
        candidates=entry.candidates,
        first_at=entry.first_at,
        last_at=entry.last_at,
        count=entry.count,
        advice=advice(entry.code),
    )
