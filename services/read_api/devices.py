"""What a device said last, and what became of it.

`report` answers for a device in the field: its latest packets, each with the events that it caused and the dead letters that it
left. Events are found through what the device's configuration leads to now (its planned actions) and its measurements, so a
report about something that the device is no longer configured for is only in the history of the microgrid. A report that came
without a packet (a status posted over HTTP) stands for itself under its event reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from event_store.database import Connection
from event_store.dead_letters import DeadLetter, DeadLetterFilter, list_dead_letters
from event_store.read import EVENT_COLUMNS, StoredEvent, history_of, latest_of, stored_event
from microgrid import subjects
from microgrid.capability import freshness
from microgrid.report_facts import Source, Value, received_at, source_of, text_or_none, value_or_none
from microgrid.reporting import APPLIED, RECORDED
from microgrid.routing import plan_device
from microgrid.site_model import RECORD_MEASUREMENT, Device, Site
from read_api.answers import MeasurandKey, NoQuery, Page, TimeRange, json_answer, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.history import history_cursor, history_place
from sensor_packet.catalogue import CATALOGUE
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import problem_responses
from site_registry.load import depot_of_device


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value in the catalogue's unit, and as it was sent; `history_only` ones never become the latest."""

    measurand: str
    value: Value | None
    unit: str | None
    raw_value: Value | None
    raw_unit: str | None
    quality: str | None
    history_only: bool
    observed_at: datetime
    sent_at: datetime
    received_at: datetime | None
    recorded_at: datetime
    source: Source
    source_event_ref: str | None
    event_id: str


@dataclass(frozen=True, slots=True)
class LatestMeasurement(Measurement):
    """The latest value of a measurand, and how old it is."""

    freshness: str
    age_s: float | None
    stale_after_s: float
    stale_at: datetime | None


@dataclass(frozen=True, slots=True)
class LatestMeasurements:
    """The latest value of each measurand of a device that was recorded, by measurand."""

    device_id: str
    depot_id: str
    as_of: datetime
    items: tuple[LatestMeasurement, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class MeasurementPage:
    """The values of one measurand, newest observation first."""

    items: tuple[Measurement, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ReportedEvent:
    """What an action of a packet came to: `APPLIED`, or `RECORDED` as history only."""

    event_id: str
    event_type: str
    measurand: str | None
    outcome: str
    observed_at: datetime
    raw_value: Value | None
    rule: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """A dead letter that a packet left."""

    dead_letter_id: str
    reason_code: str
    stage: str
    status: str
    detail: str
    attempts: int
    last_failed_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One packet and what became of it; `packet_id` is null where none could be read."""

    packet_id: str | None
    at: datetime
    sent_at: datetime | None
    received_at: datetime | None
    events: tuple[ReportedEvent, ...]
    dead_letters: tuple[ReportedFailure, ...]


@dataclass(frozen=True, slots=True)
class DeviceReports:
    """The latest packets of a device, newest first by the time of their newest observation or failure."""

    device_id: str
    gateway_id: str
    depot_id: str
    enabled: bool
    items: tuple[DeviceReport, ...]
    next: str | None


class ReportQuery(NoQuery):
    """How many packets."""

    limit: int = Field(100, ge=1, le=500, description="most packets")


class MeasurementHistoryQuery(Page, TimeRange):
    """Which measurand, and which part of its history."""

    measurand: MeasurandKey


class _PacketId(msgspec.Struct):
    packet_id: str


_READ_PACKET_ID = msgspec.json.Decoder(_PacketId)

_LATEST_REPORTS = f"""
SELECT e.* FROM unnest($1::text[]) AS s (subject) CROSS JOIN (VALUES (false), (true)) AS h (history_only) CROSS JOIN LATERAL (
    SELECT {EVENT_COLUMNS} FROM event_store e
    WHERE e.subject = s.subject AND e.history_only = h.history_only
    ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC LIMIT $3
) e
WHERE e.payload ->> 'device_id' = $2
ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC
"""  # noqa: S608 - constants of ours


def device_routes(backing: Backing) -> APIRouter:
    """`/api/device/{device_id}/report`, `…/measurement` and `…/measurement/history`."""
    router = APIRouter(tags=["device"])

    @router.get("/api/device/{device_id}/report", response_model=DeviceReports, responses=problem_responses(404, 422))
    async def get_reports(request: Request, device_id: str, wanted: Annotated[ReportQuery, Query()]) -> Response:
        """The latest packets of a device and what became of each: events and dead letters."""
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            site, device = await _site_of_device(backing, connection, device_id)
            rows = await connection.fetch(_LATEST_REPORTS, _subjects(site, device), device_id, wanted.limit)
            letters = await list_dead_letters(connection, DeadLetterFilter(device_id=device_id), limit=wanted.limit)
        items = _reports(map(stored_event, rows), letters)[: wanted.limit]
        found = DeviceReports(device_id, device.gateway_id, site.depot.depot_id, device.enabled, tuple(items), None)
        return json_answer(request, found)

    @router.get("/api/device/{device_id}/measurement", response_model=LatestMeasurements, responses=problem_responses(404, 422))
    async def get_measurements(request: Request, device_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """The latest value of each measurand of a device."""
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            site, device = await _site_of_device(backing, connection, device_id)
            latest = await latest_of(connection, _measurement_subjects(site, device))
        now = backing.clock()
        stale_after_s = backing.stale_after_default_s
        items = sorted((_latest(stored, now, stale_after_s) for stored in latest.values()), key=lambda one: one.measurand)
        return json_answer(request, LatestMeasurements(device_id, site.depot.depot_id, now, tuple(items), None))

    @router.get(
        "/api/device/{device_id}/measurement/history", response_model=MeasurementPage, responses=problem_responses(404, 422)
    )
    async def get_history(request: Request, device_id: str, wanted: Annotated[MeasurementHistoryQuery, Query()]) -> Response:
        """The values of one measurand of a device, newest observation first."""
        before = history_place(wanted.cursor)
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            if not is_identifier(device_id) or await depot_of_device(connection, device_id) is None:
                raise not_found("DEVICE", device_id)
            stored = await history_of(
                connection,
                subjects.measurement_subject(device_id, wanted.measurand),
                limit=wanted.limit + 1,
                since=wanted.since,
                until=wanted.until,
                before=before,
            )
        shown = stored[: wanted.limit]
        more = history_cursor(shown[-1]) if len(stored) > wanted.limit else None
        items = tuple(Measurement(**_measured(one)) for one in shown)
        return json_answer(request, MeasurementPage(items, more))

    return router


async def _site_of_device(backing: Backing, connection: Connection, device_id: str) -> tuple[Site, Device]:
    depot_id = await depot_of_device(connection, device_id) if is_identifier(device_id) else None
    if depot_id is not None:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            depot = await backing.sites.depot_now(connection, depot_id, backing.clock())
        device = depot.site.device_by_id.get(device_id) if depot else None
        if depot is not None and device is not None:
            return depot.site, device
    raise not_found("DEVICE", device_id)


def _measurement_subjects(site: Site, device: Device) -> list[str]:
    recorded = [one.measurand for one in site.actions_by_device.get(device.device_id, []) if one.action == RECORD_MEASUREMENT]
    return [subjects.measurement_subject(device.device_id, measurand) for measurand in sorted({*recorded, *CATALOGUE})]


def _subjects(site: Site, device: Device) -> list[str]:
    planned = [action.subject for actions in plan_device(site, device).actions.values() for action in actions]
    microgrid = site.microgrid
    owned = microgrid.control_points if microgrid else ()
    scopes = {(point.node_id, point.capability) for point in owned if point.device_id == device.device_id}
    scopes |= {(one.node_id, one.capability) for one in site.actions_by_device.get(device.device_id, []) if one.capability}
    fed = [subjects.capability_subject(microgrid.microgrid_id, *scope) for scope in scopes] if microgrid else []
    names = {name for name in planned if name is not None}
    return sorted(names.union(fed, _measurement_subjects(site, device)))


def _reports(stored: Iterable[StoredEvent], letters: Iterable[DeadLetter]) -> list[DeviceReport]:
    events_of: dict[str, list[StoredEvent]] = {}
    for one in stored:
        events_of.setdefault(one.event.source_event_ref or one.event.event_id, []).append(one)
    letters_of: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        # Letters whose packet id can not be read stand each for itself; the id of a letter is no packet's id.
        letters_of.setdefault(packet_id_in(letter.body) or f"\0{letter.dead_letter_id}", []).append(letter)
    reports = [
        _report(reference, events_of.get(reference, []), letters_of.get(reference, [])) for reference in {**events_of, **letters_of}
    ]
    return sorted(reports, key=lambda one: (one.at, one.packet_id or ""), reverse=True)


def _report(reference: str, stored: list[StoredEvent], letters: list[DeadLetter]) -> DeviceReport:
    newest = stored[0].event if stored else None
    return DeviceReport(
        packet_id=None if reference.startswith("\0") else reference,
        at=max([one.event.observed_at for one in stored] + [letter.received_at for letter in letters]),
        sent_at=newest.sent_at if newest else None,
        received_at=received_at(newest) if newest else letters[0].received_at,
        events=tuple(_reported(one) for one in stored),
        dead_letters=tuple(
            ReportedFailure(
                letter.dead_letter_id,
                letter.reason_code,
                letter.stage,
                letter.status,
                letter.detail,
                letter.attempts,
                letter.last_failed_at,
            )
            for letter in letters
        ),
    )


def packet_id_in(body: bytes) -> str | None:
    """The packet id in the bytes of a packet, None where none can be read."""
    try:
        return _READ_PACKET_ID.decode(body).packet_id or None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _reported(stored: StoredEvent) -> ReportedEvent:
    event = stored.event
    return ReportedEvent(
        event_id=event.event_id,
        event_type=event.event_type,
        measurand=text_or_none(event.payload.get("measurand")),
        outcome=RECORDED if event.history_only else APPLIED,
        observed_at=event.observed_at,
        raw_value=value_or_none(event.payload.get("raw_value")),
        rule=text_or_none(event.payload.get("rule")),
        subject=event.subject,
    )


def _measured(stored: StoredEvent) -> dict[str, Any]:
    event = stored.event
    return {
        "measurand": str(event.payload.get("measurand")),
        "value": value_or_none(event.payload.get("value")),
        "unit": text_or_none(event.payload.get("unit")),
        "raw_value": value_or_none(event.payload.get("raw_value")),
        "raw_unit": text_or_none(event.payload.get("raw_unit")),
        "quality": text_or_none(event.payload.get("quality")),
        "history_only": event.history_only,
        "observed_at": event.observed_at,
        "sent_at": event.sent_at,
        "received_at": received_at(event),
        "recorded_at": stored.recorded_at,
        "source": source_of(event),
        "source_event_ref": event.source_event_ref,
        "event_id": event.event_id,
    }


def _latest(stored: StoredEvent, now: datetime, stale_after_s: float) -> LatestMeasurement:
    age = freshness(stored.event.observed_at, received_at(stored.event), stale_after_s, now)
    return LatestMeasurement(
        **_measured(stored), freshness=age.freshness, age_s=age.age_s, stale_after_s=stale_after_s, stale_at=age.stale_at
    )
