"""Load, state of charge, charging capacity and capabilities of a depot over time, on an even grid, for charts.

What a point is stands in `microgrid.series`. Load and state of charge are measured from moment to moment, so a step without a
report is a gap. A capability holds while its report is fresh: for the stale time of its control point. A circuit's capacity holds
until an event changes it, because its loss is an event, too. Only reports that count are shown, so what was sent with quality
`BAD` is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from event_store.read import StepValue, last_of_steps
from microgrid import subjects
from microgrid.report_facts import value_or_none
from microgrid.series import HELD_FOR_GOOD, NOT_HELD, Observation, Point, number_of_points, points
from microgrid.site_model import CAPABILITIES, DEFAULT_STALE_AFTER_S, Microgrid
from read_api.answers import TimeRange, json_answer, not_found, told_as_some_of
from read_api.backing import ACQUIRE_S, Backing
from read_api.site_cache import DepotNow
from sensor_packet.identifiers import is_identifier
from service_runtime.problem import FieldFault, problem_of_faults, problem_responses

LOAD_KW = "load_kw"
SOC_PCT = "soc_pct"
AVAILABLE_CAPACITY_KW = "available_capacity_kw"
MEASURES = (LOAD_KW, SOC_PCT, AVAILABLE_CAPACITY_KW, *CAPABILITIES)

MOST_POINTS = 2_000
"""Of one series."""
MOST_VALUES = 30_000
"""Of all series of an answer together."""
_USUAL_POINTS = 500
_USUAL_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
_LONGEST_STEP_S = 31 * 86_400
_USUAL_RANGE = timedelta(days=1)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Series:
    """One measure of one target: [time, value or null] for each step, at its beginning.

    `target` is the power source, the circuit, or for a capability the node that it is about, and the microgrid where it is about
    the whole site. Loads and capacities are in kW, states of charge in %, capabilities `ON` or `OFF`.
    """

    measure: str
    target: str
    points: tuple[tuple[datetime, bool | float | str | None], ...]


@dataclass(frozen=True, slots=True)
class SeriesDocument:
    """The series that were asked for, by measure in the order of the question, then as on the card; `step_s` is in seconds."""

    depot_id: str
    step_s: int
    series: tuple[Series, ...]


class SeriesQuery(TimeRange):
    """Which measures, when, and how fine."""

    measure: list[Annotated[str, told_as_some_of(MEASURES)]] = Field(
        description=f"one or more of {', '.join(MEASURES)}, separated by commas; may be repeated"
    )
    step: int | None = Field(
        None, ge=1, le=_LONGEST_STEP_S, description="seconds between two points; chosen by the length of the range where left out"
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A series to be made: from which subjects, by which field of their payloads, for how long a value holds, in seconds.

    One that is not `always` shown is shown if it has a value.
    """

    measure: str
    target: str
    subjects: tuple[str, ...]
    field: str
    held_s: float
    always: bool


@dataclass(frozen=True, slots=True)
class _Grid:
    since: datetime
    until: datetime
    step_s: int


def series_routes(backing: Backing) -> APIRouter:
    """`/api/depot/{depot_id}/series`."""
    router = APIRouter(tags=["history"])

    @router.get("/api/depot/{depot_id}/series", response_model=SeriesDocument, responses=problem_responses(404, 422))
    async def get_series(request: Request, depot_id: str, asked: Annotated[SeriesQuery, Query()]) -> Response:
        """Load, state of charge, capacity and capabilities over time; a gap in the data is null."""
        now = backing.clock()
        measures, grid = _understood(asked, now)
        if not is_identifier(depot_id):
            raise not_found("DEPOT", depot_id)
        async with (
            backing.pool.acquire(timeout=ACQUIRE_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            depot = await backing.sites.depot_now(connection, depot_id, now)
            if depot is None:
                raise not_found("DEPOT", depot_id)
            wanted = [one for measure in measures for one in _wanted(depot, measure, backing.stale_after_default_s)]
            _require_bounded(len(wanted), grid)
            fields = [(subject, one.field) for one in wanted for subject in one.subjects]
            found = await last_of_steps(connection, fields, since=grid.since, until=grid.until, step_s=grid.step_s)
        series = tuple(_series(wanted, found, grid, now))
        return json_answer(request, SeriesDocument(depot_id, grid.step_s, series))

    return router


def _understood(asked: SeriesQuery, now: datetime) -> tuple[list[str], _Grid]:
    """What is asked for, or all that is wrong with the question."""
    measures = list(dict.fromkeys(name for given in asked.measure for name in given.split(",")))
    faults = [
        FieldFault("/query/measure", "INVALID_VALUE", f"{name[:64]!a} is none of {', '.join(MEASURES)}")
        for name in measures
        if name not in MEASURES
    ]
    until = asked.until or now
    since = asked.since or max(until, _EARLIEST + _USUAL_RANGE) - _USUAL_RANGE
    if since < _EARLIEST:
        faults.append(FieldFault("/query/from", "INVALID_VALUE", "before 1970 there was nothing"))
    if since >= until:
        faults.append(FieldFault("/query/to", "INVALID_VALUE", "the range is empty: to has to be later than from"))
    grid = _Grid(since, until, asked.step or _usual_step_s(until - since))
    if not faults and number_of_points(since, until, grid.step_s) > MOST_POINTS:
        faults.append(_too_fine(until - since, MOST_POINTS))
    if faults:
        raise problem_of_faults(faults)
    return measures, grid


def _require_bounded(series: int, grid: _Grid) -> None:
    if series * number_of_points(grid.since, grid.until, grid.step_s) > MOST_VALUES:
        raise problem_of_faults([_too_fine(grid.until - grid.since, MOST_VALUES // series)])


def _too_fine(length: timedelta, most_points: int) -> FieldFault:
    least_s = -(length // -timedelta(seconds=max(most_points, 1)))
    return FieldFault("/query/step", "INVALID_VALUE", f"that would be too many points: give a step of at least {least_s} s")


def _usual_step_s(length: timedelta) -> int:
    return next((step_s for step_s in _USUAL_STEPS_S if length <= _USUAL_POINTS * timedelta(seconds=step_s)), _LONGEST_STEP_S)


def _wanted(depot: DepotNow, measure: str, stale_after_default_s: float) -> Iterable[_Wanted]:
    site, plan = depot.site, depot.plan
    sources = sorted(one.power_source_id for one in site.power_sources)
    if measure == LOAD_KW:
        for target in sources:
            yield _Wanted(measure, target, (subjects.power_source_load_subject(target),), "load_kw", NOT_HELD, always=True)
    elif measure == SOC_PCT:
        for target in sources:
            meant = tuple(plan.soc_subjects.get(target, {})) if plan is not None else ()
            if meant:
                yield _Wanted(measure, target, meant, "value", NOT_HELD, always=True)
    elif measure == AVAILABLE_CAPACITY_KW:
        controlled = plan.controllers.of_circuit if plan is not None else dict[str, object]()
        for target in sorted(one.circuit_id for one in site.circuits):
            subject = subjects.circuit_capacity_subject(target)
            yield _Wanted(measure, target, (subject,), "available_capacity_kw", HELD_FOR_GOOD, always=target in controlled)
    elif site.microgrid is not None:
        yield from _wanted_capability(site.microgrid, measure, stale_after_default_s)


def _wanted_capability(
    microgrid: Microgrid, capability: str, stale_after_default_s: float = DEFAULT_STALE_AFTER_S
) -> Iterable[_Wanted]:
    nodes = sorted(microgrid.nodes, key=lambda node: (node.name, node.node_id))
    for node_id in (None, *(node.node_id for node in nodes)):
        active = next(
            (one for one in microgrid.control_points if one.enabled and (one.node_id, one.capability) == (node_id, capability)),
            None,
        )
        yield _Wanted(
            capability,
            node_id or microgrid.microgrid_id,
            (subjects.capability_subject(microgrid.microgrid_id, node_id, capability),),
            "operational_status",
            active.stale_after_s if active is not None else stale_after_default_s,
            always=active is not None,
        )


def _series(wanted: Iterable[_Wanted], found: Iterable[StepValue], grid: _Grid, now: datetime) -> Iterable[Series]:
    of_subject: Mapping[str, list[StepValue]] = {
        subject: list(values) for subject, values in groupby(sorted(found, key=lambda one: one.subject), lambda one: one.subject)
    }
    for one in wanted:
        values = [value for subject in one.subjects for value in of_subject.get(subject, ())]
        values.sort(key=lambda value: (value.key.observed_at, value.key.sent_at, value.key.event_id))
        observed = (Observation(value.key.observed_at, value_or_none(value.value)) for value in values)
        drawn: tuple[Point, ...] = points(observed, grid.since, grid.until, grid.step_s, one.held_s, now)
        if one.always or any(value is not None for _, value in drawn):
            yield Series(one.measure, one.target, drawn)
