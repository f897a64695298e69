"""What happened: the events of a microgrid, and the reports of a capability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from event_store.read import HistoryKey, Position, StoredEvent, events_of_microgrid, history_of
from microgrid import subjects
from microgrid.events import EVENT_TYPES
from microgrid.report_facts import ReportDetail, Source, received_at, report_detail, source_of, text_or_none
from microgrid.site_model import CAPABILITIES
from read_api.answers import (
    AwareMoment,
    CapabilityName,
    Page,
    TimeRange,
    UuidParameter,
    UuidText,
    decode_cursor,
    encode_cursor,
    invalid_cursor,
    json_answer,
    not_found,
    told_as_one_of,
)
from read_api.backing import ACQUIRE_S, Backing
from read_api.card import no_microgrid
from read_api.microgrids import microgrid_by_id
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import FieldFault, problem_of_faults, problem_responses


@dataclass(frozen=True, slots=True)
class EventDocument:
    """An event as it is stored; `position` is its cursor in the order in which readers follow."""

    event_id: str
    event_type: str
    schema_version: int
    depot_id: str
    microgrid_id: str | None
    subject: str | None
    history_only: bool
    observed_at: datetime
    sent_at: datetime
    recorded_at: datetime
    source_event_ref: str | None
    position: str
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, last recorded first."""

    items: tuple[EventDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class CapabilityReport:
    """One report of a capability; `history_only` ones never become its status."""

    event_id: str
    capability: str
    node_id: str | None
    operational_status: str | None
    history_only: bool
    observed_at: datetime
    sent_at: datetime
    received_at: datetime | None
    recorded_at: datetime
    source: Source
    source_event_ref: str | None
    detail: ReportDetail


@dataclass(frozen=True, slots=True)
class CapabilityReportPage:
    """Reports, newest observation first."""

    items: tuple[CapabilityReport, ...]
    next: str | None


def known_event_type(name: str) -> str:
    """The name of an event type, refused when there is no such type."""
    if name not in EVENT_TYPES:
        raise PydanticCustomError("INVALID_VALUE", "not one of {known}", {"known": ", ".join(EVENT_TYPES)})
    return name


EventTypeName = Annotated[str, AfterValidator(known_event_type), told_as_one_of(EVENT_TYPES)]


class EventQuery(Page, TimeRange):
    """Which events of a microgrid."""

    event_type: list[EventTypeName] | None = Field(None, description="only these types; may be repeated")
    after: str | None = Field(None, max_length=100, description="`position`: only what was recorded after it")
    before: str | None = Field(None, max_length=100, description="`position`: only what was recorded before it")


class CapabilityHistoryQuery(Page, TimeRange):
    """Which reports."""

    capability: CapabilityName | None = None
    node_id: UuidParameter | None = Field(None, description="the subtree under this node; the whole site when left out")


HistoryCursor = tuple[AwareMoment, AwareMoment, UuidText]


def event_document(stored: StoredEvent) -> EventDocument:
    """A stored event as it is shown."""
    event = stored.event
    return EventDocument(
        event_id=event.event_id,
        event_type=event.event_type,
        schema_version=event.schema_version,
        depot_id=event.depot_id,
        microgrid_id=event.microgrid_id,
        subject=event.subject,
        history_only=event.history_only,
        observed_at=event.observed_at,
        sent_at=event.sent_at,
        recorded_at=stored.recorded_at,
        source_event_ref=event.source_event_ref,
        position=stored.position.cursor(),
        payload=event.payload,
        metadata=event.metadata,
    )


def history_key(stored: StoredEvent) -> HistoryKey:
    """Where a report stands in the history of its subject."""
    return HistoryKey(stored.event.observed_at, stored.event.sent_at, stored.event.event_id)


def history_place(cursor: str | None) -> HistoryKey | None:
    """Where the page before ended, from its cursor."""
    place = decode_cursor(cursor, HistoryCursor)
    return HistoryKey(*place) if place else None


def history_cursor(stored: StoredEvent) -> str:
    """The cursor of a page of a subject's history that ended with this report."""
    return encode_cursor(stored.event.observed_at, stored.event.sent_at, stored.event.event_id)


def history_routes(backing: Backing) -> APIRouter:
    """`/api/microgrid/{microgrid_id}/event` and `…/capability-status/history`."""
    router = APIRouter(tags=["history"])

    @router.get("/api/microgrid/{microgrid_id}/event", response_model=EventPage, responses=problem_responses(404, 422))
    async def list_events(request: Request, microgrid_id: str, wanted: Annotated[EventQuery, Query()]) -> Response:
        """A microgrid's events, last recorded first; `next` goes back as `cursor`, and is the same as `before`."""
        if wanted.cursor is not None and wanted.before is not None:
            raise problem_of_faults([FieldFault("/query/before", "INVALID_VALUE", "give cursor or before, not both")])
        before = position_at(wanted.cursor, "/query/cursor") or position_at(wanted.before, "/query/before")
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            if await microgrid_by_id(connection, microgrid_id) is None:
                raise not_found("MICROGRID", microgrid_id)
            stored = await events_of_microgrid(
                connection,
                microgrid_id,
                limit=wanted.limit + 1,
                event_types=wanted.event_type,
                since=wanted.since,
                until=wanted.until,
                before=before,
                after=position_at(wanted.after, "/query/after"),
            )
        shown = stored[: wanted.limit]
        more = shown[-1].position.cursor() if len(stored) > wanted.limit else None
        return json_answer(request, EventPage(tuple(map(event_document, shown)), more))

    @router.get(
        "/api/depot/{depot_id}/microgrid/capability-status/history",
        response_model=CapabilityReportPage,
        responses=problem_responses(404, 422),
    )
    async def list_capability_reports(
        request: Request, depot_id: str, wanted: Annotated[CapabilityHistoryQuery, Query()]
    ) -> Response:
        """Every report of one or all capabilities of a scope, newest observation first."""
        before = history_place(wanted.cursor)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            microgrid_id = await _microgrid_id(connection, depot_id)
            stored: list[StoredEvent] = []
            for capability in [wanted.capability] if wanted.capability else CAPABILITIES:
                node_id = wanted.node_id.lower() if wanted.node_id else None
                stored += await history_of(
                    connection,
                    subjects.capability_subject(microgrid_id, node_id, capability),
                    limit=wanted.limit + 1,
                    since=wanted.since,
                    until=wanted.until,
                    before=before,
                )
        stored.sort(key=lambda one: (one.event.observed_at, one.event.sent_at, one.event.event_id), reverse=True)
        shown = stored[: wanted.limit]
        more = history_cursor(shown[-1]) if len(stored) > wanted.limit else None
        return json_answer(request, CapabilityReportPage(tuple(map(_capability_report, shown)), more))

    return router


def position_at(cursor: str | None, pointer: str) -> Position | None:
    """The position in a parameter; raises the 422 `INVALID_CURSOR` at `pointer` for one that is none."""
    if cursor is None:
        return None
    position = Position.from_cursor(cursor)
    if position is None:
        raise invalid_cursor(pointer)
    return position


async def _microgrid_id(connection: Any, depot_id: str) -> str:
    if not is_identifier(depot_id):
        raise not_found("DEPOT", depot_id)
    row = await connection.fetchrow(
        "SELECT m.microgrid_id::text FROM depot d LEFT JOIN microgrid m ON m.depot_id = d.depot_id AND m.status <> 'RETIRED' "
        "WHERE d.depot_id = $1",
        depot_id,
    )
    if row is None:
        raise not_found("DEPOT", depot_id)
    if row[0] is None:
        raise no_microgrid(depot_id)
    return row[0]


def _capability_report(stored: StoredEvent) -> CapabilityReport:
    event = stored.event
    return CapabilityReport(
        event_id=event.event_id,
        capability=str(event.payload.get("capability")),
        node_id=text_or_none(event.payload.get("node_id")),
        operational_status=text_or_none(event.payload.get("operational_status")),
        history_only=event.history_only,
        observed_at=event.observed_at,
        sent_at=event.sent_at,
        received_at=received_at(event),
        recorded_at=stored.recorded_at,
        source=source_of(event),
        source_event_ref=event.source_event_ref,
        detail=report_detail(event, bound=event.payload.get("control_point_id") is not None),
    )
