"""The microgrid card: what a depot's microgrid is doing, how old each statement is, and who made it.

The card is made from the site, the latest counting report of each subject (the `CardPlan` names them), the health of the
controllers and `now`; nothing else, so the same input gives the same card.

Capabilities. One entry for each scope (the whole site, or the subtree under a grid connection) and capability that is bound (an
enabled control point) or was ever reported; a disabled control point keeps its last report visible. The stale time is that of
the active control point, else of the reporting device's own point, else the default. Sorted by scope, the whole site first and
then by name, and within one by capability in the order of `site_model.CAPABILITIES`.

Power sources. All of the depot, by id, the grid supply too. State and load are the latest reports about the source. A state of
charge is a measurement of a device; it belongs to the power source that routing would find for it: rules 0 to 3 on each enabled
`RECORD_MEASUREMENT` action of `SOC`; of several devices the latest report counts. The freshness of the source as a whole is
that of its oldest reading that was reported: what is shown together can be trusted only as far as its oldest part.

Circuits: see `circuit_status`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import msgspec

from microgrid import events, subjects
from microgrid.capability import FRESH, NEVER_REPORTED, STALE, freshness, latest_key
from microgrid.circuit_capacity import ControllerHealth
from microgrid.circuit_status import CircuitEntry, Controllers, circuit_entries, find_controllers
from microgrid.events import Event
from microgrid.report_facts import (
    ReportDetail,
    Source,
    Value,
    number_or_none,
    received_at,
    report_detail,
    source_of,
    text_or_none,
    value_or_none,
)
from microgrid.routing import Target, resolve_power_source
from microgrid.site_model import (
    CAPABILITIES,
    DEFAULT_STALE_AFTER_S,
    RECORD_MEASUREMENT,
    ControlPoint,
    Microgrid,
    PowerSource,
    Site,
)

STATE_OF_CHARGE = "SOC"
WHOLE_SITE = "Whole site"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a capability governs: the whole site (`node_id` null), or the subtree under a grid connection."""

    node_id: str | None
    name: str


@dataclass(frozen=True, slots=True)
class CapabilityEntry:
    """The latest status of one capability in one scope; `source` of one that was never reported is who should report it."""

    capability: str
    scope: Scope
    operational_status: str | None
    freshness: str
    observed_at: datetime | None
    received_at: datetime | None
    age_s: float | None
    stale_after_s: float
    stale_at: datetime | None
    source: Source | None
    event_id: str | None
    detail: ReportDetail


@dataclass(frozen=True, slots=True)
class Reading:
    """One latest value of a power source: how old it is, who said so and by which rule it belongs there."""

    freshness: str
    observed_at: datetime | None
    received_at: datetime | None
    age_s: float | None
    stale_after_s: float
    stale_at: datetime | None
    source: Source | None
    event_id: str | None
    measurand: str | None
    raw_value: Value | None
    rule: str | None


@dataclass(frozen=True, slots=True)
class Readings:
    """The three readings of a power source."""

    state: Reading
    load_kw: Reading
    soc_pct: Reading


@dataclass(frozen=True, slots=True)
class PowerSourceEntry:
    """A power source: load in kW, import into the depot positive; freshness and times are those of the oldest reading."""

    power_source_id: str
    kind: str
    name: str
    circuit_id: str | None
    rated_kw: float | None
    state: str | None
    load_kw: float | None
    soc_pct: float | None
    freshness: str
    observed_at: datetime | None
    received_at: datetime | None
    age_s: float | None
    stale_after_s: float
    stale_at: datetime | None
    readings: Readings


@dataclass(frozen=True, slots=True)
class Card:
    """The microgrid card of a depot as of a moment."""

    microgrid_id: str
    depot_id: str
    depot_name: str
    as_of: datetime
    feature_flags: dict[str, bool]
    capabilities: tuple[CapabilityEntry, ...]
    power_sources: tuple[PowerSourceEntry, ...]
    circuits: tuple[CircuitEntry, ...]
    remediation_count: int
    dead_letter_count: int


@dataclass(frozen=True, slots=True)
class CardPlan:
    """What of a card depends on the configuration alone, decided once for as long as that stays.

    `subjects` are those whose latest reports the card needs; `soc_subjects` tells for each power source which measurements of
    state of charge are its own, each with the rule that leads it there.
    """

    subjects: tuple[str, ...]
    soc_subjects: Mapping[str, Mapping[str, str]]
    controllers: Controllers


def plan_card(site: Site, microgrid: Microgrid) -> CardPlan:
    """Decide what a site's card is made from."""
    names = capability_subjects(microgrid)
    for source in site.power_sources:
        names.append(subjects.power_source_state_subject(source.power_source_id))
        names.append(subjects.power_source_load_subject(source.power_source_id))
    soc_subjects = _soc_subjects(site)
    names.extend(sorted({subject for found in soc_subjects.values() for subject in found}))
    names.extend(subjects.circuit_capacity_subject(circuit.circuit_id) for circuit in site.circuits)
    return CardPlan(tuple(names), soc_subjects, find_controllers(site))


def capability_subjects(microgrid: Microgrid) -> list[str]:
    """The subjects of every capability in every scope."""
    scopes = [None, *(node.node_id for node in microgrid.nodes)]
    return [subjects.capability_subject(microgrid.microgrid_id, node_id, name) for node_id in scopes for name in CAPABILITIES]


def build_card(
    site: Site,
    microgrid: Microgrid,
    plan: CardPlan,
    latest: Mapping[str, Event],
    healths: Iterable[ControllerHealth],
    *,
    now: datetime,
    feature_flags: Mapping[str, bool],
    remediation_count: int,
    dead_letter_count: int,
    stale_after_default_s: float = DEFAULT_STALE_AFTER_S,
) -> Card:
    """The card of a site's microgrid at `now` from the latest report of each subject of its plan that has one."""
    return Card(
        microgrid_id=microgrid.microgrid_id,
        depot_id=site.depot.depot_id,
        depot_name=site.depot.name,
        as_of=now,
        feature_flags=dict(feature_flags),
        capabilities=capability_entries(site, microgrid, latest, now, stale_after_default_s),
        power_sources=_power_source_entries(site, plan, latest, now, stale_after_default_s),
        circuits=circuit_entries(site, plan.controllers, latest, healths, now),
        remediation_count=remediation_count,
        dead_letter_count=dead_letter_count,
    )


def capability_entries(
    site: Site,
    microgrid: Microgrid,
    latest: Mapping[str, Event],
    now: datetime,
    stale_after_default_s: float = DEFAULT_STALE_AFTER_S,
) -> tuple[CapabilityEntry, ...]:
    """The capabilities that are bound or were reported, in the order of the card."""
    nodes = sorted(microgrid.nodes, key=lambda node: (node.name, node.node_id))
    entries: list[CapabilityEntry] = []
    for scope in (Scope(None, WHOLE_SITE), *(Scope(node.node_id, node.name) for node in nodes)):
        node_id = scope.node_id
        for capability in CAPABILITIES:
            event = latest.get(subjects.capability_subject(microgrid.microgrid_id, node_id, capability))
            points = [p for p in microgrid.control_points if p.node_id == node_id and p.capability == capability]
            active = next((point for point in points if point.enabled), None)
            if event is None and active is None:
                continue
            entries.append(_capability_entry(site, capability, scope, event, active, points, now, stale_after_default_s))
    return tuple(entries)


def lasting(card: Card) -> object:
    """The card without what the clock alone changes from moment to moment: two cards with equal `lasting` tell the same."""
    return _without_ages(msgspec.to_builtins(card))


def next_turn(card: Card) -> datetime | None:
    """The next moment after `as_of` at which the clock alone changes the card: something turns stale or a heartbeat is lost."""
    moments = [entry.stale_at for entry in card.capabilities]
    for source in card.power_sources:
        moments.extend(one.stale_at for one in (source.readings.state, source.readings.load_kw, source.readings.soc_pct))
    moments.extend(circuit.deadline_at for circuit in card.circuits)
    # What is fresh up to and with `stale_at` turns stale after it.
    ahead = [moment for moment in moments if moment is not None and moment >= card.as_of]
    return min(ahead) + timedelta(microseconds=1) if ahead else None


def _capability_entry(
    site: Site,
    capability: str,
    scope: Scope,
    event: Event | None,
    active: ControlPoint | None,
    points: Sequence[ControlPoint],
    now: datetime,
    stale_after_default_s: float,
) -> CapabilityEntry:
    if event is None:
        device = site.device_by_id.get(active.device_id) if active else None
        source = Source(active.device_id, device.gateway_id if device else None) if active else None
        detail = ReportDetail(
            raw_value=None,
            raw_unit=None,
            measurand=active.measurand if active else None,
            quality=None,
            rule=None,
            candidates=(),
            control_point_id=active.control_point_id if active else None,
            bound=active is not None,
        )
    else:
        source = source_of(event)
        detail = report_detail(event, bound=active is not None)
    reporter = source.device_id if source else None
    point = active or next((one for one in points if one.device_id == reporter), None)
    stale_after_s = point.stale_after_s if point else stale_after_default_s
    observed_at = event.observed_at if event else None
    arrived_at = received_at(event) if event else None
    age = freshness(observed_at, arrived_at, stale_after_s, now)
    return CapabilityEntry(
        capability=capability,
        scope=scope,
        operational_status=text_or_none(event.payload.get("operational_status")) if event else None,
        freshness=age.freshness,
        observed_at=observed_at,
        received_at=arrived_at,
        age_s=age.age_s,
        stale_after_s=stale_after_s,
        stale_at=age.stale_at,
        source=source,
        event_id=event.event_id if event else None,
        detail=detail,
    )


def _power_source_entries(
    site: Site, plan: CardPlan, latest: Mapping[str, Event], now: datetime, stale_after_s: float
) -> tuple[PowerSourceEntry, ...]:
    entries: list[PowerSourceEntry] = []
    for source in sorted(site.power_sources, key=lambda one: one.power_source_id):
        state = latest.get(subjects.power_source_state_subject(source.power_source_id))
        load = latest.get(subjects.power_source_load_subject(source.power_source_id))
        reported = [latest[name] for name in plan.soc_subjects.get(source.power_source_id, {}) if name in latest]
        soc = max(reported, key=latest_key) if reported else None
        soc_rule = plan.soc_subjects[source.power_source_id][soc.subject or ""] if soc else None
        entries.append(_power_source_entry(source, state, load, soc, soc_rule, now, stale_after_s))
    return tuple(entries)


def _power_source_entry(
    source: PowerSource,
    state: Event | None,
    load: Event | None,
    soc: Event | None,
    soc_rule: str | None,
    now: datetime,
    stale_after_s: float,
) -> PowerSourceEntry:
    readings = Readings(
        state=_reading(state, now, stale_after_s),
        load_kw=_reading(load, now, stale_after_s),
        soc_pct=_reading(soc, now, stale_after_s, soc_rule),
    )
    # `stale_at` is the earlier of observation and receipt plus a constant, so the smallest belongs to the oldest reading.
    known = [one for one in (readings.state, readings.load_kw, readings.soc_pct) if one.stale_at is not None]
    oldest = min(known, key=lambda one: one.stale_at or now) if known else readings.state
    return PowerSourceEntry(
        power_source_id=source.power_source_id,
        kind=source.kind,
        name=source.name,
        circuit_id=source.circuit_id,
        rated_kw=source.rated_kw,
        state=text_or_none(state.payload.get("state")) if state else None,
        load_kw=number_or_none(load.payload.get("load_kw")) if load else None,
        soc_pct=number_or_none(soc.payload.get("value")) if soc else None,
        freshness=oldest.freshness,
        observed_at=oldest.observed_at,
        received_at=oldest.received_at,
        age_s=oldest.age_s,
        stale_after_s=oldest.stale_after_s,
        stale_at=oldest.stale_at,
        readings=readings,
    )


def _reading(event: Event | None, now: datetime, stale_after_s: float, rule: str | None = None) -> Reading:
    if event is None:
        return Reading(NEVER_REPORTED, None, None, None, stale_after_s, None, None, None, None, None, rule)
    arrived_at = received_at(event)
    age = freshness(event.observed_at, arrived_at, stale_after_s, now)
    return Reading(
        freshness=age.freshness,
        observed_at=event.observed_at,
        received_at=arrived_at,
        age_s=age.age_s,
        stale_after_s=stale_after_s,
        stale_at=age.stale_at,
        source=source_of(event),
        event_id=event.event_id,
        measurand=text_or_none(event.payload.get("measurand")),
        raw_value=value_or_none(event.payload.get("raw_value")),
        rule=rule or text_or_none(event.payload.get("rule")),
    )


def _soc_subjects(site: Site) -> dict[str, dict[str, str]]:
    """For each power source, the measurements of state of charge that routing would lead there, with the rule that does."""
    found: dict[str, dict[str, str]] = {}
    for action in site.sensor_actions:
        if action.measurand != STATE_OF_CHARGE or action.action != RECORD_MEASUREMENT or not action.enabled:
            continue
        device = site.device_by_id.get(action.device_id)
        target = resolve_power_source(site, device, action.measurand, action.power_source_id) if device else None
        if isinstance(target, Target):
            subject = subjects.measurement_subject(action.device_id, action.measurand)
            found.setdefault(target.target_id, {})[subject] = target.rule
    return found


def overall_freshness(entries: Iterable[CapabilityEntry]) -> str:
    """The worst of several: `STALE`, then `NEVER_REPORTED`, then `FRESH`; `NEVER_REPORTED` of none."""
    found = {entry.freshness for entry in entries}
    for worst in (STALE, NEVER_REPORTED, FRESH):
        if worst in found:
            return worst
    return NEVER_REPORTED


def is_card_event(event_type: str, measurand: object) -> bool:
    """Whether an event may change the card: every kind but measurements, and of those the state of charge."""
    return event_type != events.MEASUREMENT_RECORDED or measurand == STATE_OF_CHARGE


def _without_ages(value: object) -> object:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: _without_ages(member) for name, member in members.items() if name not in ("as_of", "age_s")}
    if isinstance(value, list | tuple):
        return [_without_ages(item) for item in cast("Sequence[object]", value)]
    return value
