"""The card is a fold of the site, the latest reports, the controllers' health and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid import subjects
from microgrid.card import (
    Card,
    build_card,
    is_card_event,
    lasting,
    next_turn,
    overall_freshness,
    plan_card,
)
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event
from microgrid.site_model import (
    RECORD_MEASUREMENT,
    UPDATE_CIRCUIT_CAPACITY,
    Circuit,
    ControlPoint,
    Depot,
    Device,
    Gateway,
    Microgrid,
    Node,
    PowerSource,
    SensorAction,
    Site,
)

NOW = datetime.fromisoformat("2026-11-20T21:00:00+00:00")
MICROGRID_ID = "m"
BATTERY = PowerSource("bess", "gc-1", "BATTERY", "Battery")
SOC = SensorAction("a-soc", "dev", "SOC", RECORD_MEASUREMENT)
CAPACITY = SensorAction("a-cap", "dev", "AVAILABLE_CHARGING_CAPACITY", UPDATE_CIRCUIT_CAPACITY)


def point(
    capability: str, device_id: str = "dev", *, node_id: str | None = None, enabled: bool = True, s: float = 60
) -> ControlPoint:
    return ControlPoint(f"cp-{capability}-{node_id}-{device_id}", node_id, capability, device_id, capability, s, enabled)


def site(
    *actions: SensorAction,
    points: tuple[ControlPoint, ...] = (),
    nodes: tuple[Node, ...] = (Node("n-1", "gc-1", "North", 1),),
    sources: tuple[PowerSource, ...] = (),
    rating_kw: float | None = None,
    safe_capacity_kw: float | None = None,
) -> Site:
    return Site(
        Depot("d", "Depot", "UTC"),
        circuits=(Circuit("gc-1", None, "North", 1, None, safe_capacity_kw, rating_kw),),
        power_sources=sources,
        gateways=(Gateway("gw", "Gateway"),),
        devices=(Device("dev", "gw", "gc-1", None, True), Device("dev-2", "gw", "gc-1", None, True)),
        sensor_actions=actions,
        microgrid=Microgrid(MICROGRID_ID, 1, "ACTIVE", nodes, points),
    )


def event(
    subject: str, age_s: float = 0.0, *, late_s: float = 0.0, device_id: str = "dev", event_id: str = "e", **payload: Any
) -> Event:
    observed_at = NOW - timedelta(seconds=age_s)
    received_at = (observed_at + timedelta(seconds=late_s)).isoformat()
    return Event(
        event_id,
        "any",
        "d",
        MICROGRID_ID,
        subject,
        False,
        observed_at,
        observed_at,
        "p",
        {"device_id": device_id, "gateway_id": "gw", **payload},
        {"received_at": received_at},
    )


def status(capability: str, value: str, age_s: float = 0.0, *, node_id: str | None = None, **more: Any) -> Event:
    return event(subjects.capability_subject(MICROGRID_ID, node_id, capability), age_s, operational_status=value, **more)


def card(
    of: Site, *events: Event, healths: tuple[ControllerHealth, ...] = (), now: datetime = NOW, flags: Mapping[str, bool] = {}
) -> Card:
    assert of.microgrid is not None
    latest = {one.subject: one for one in events if one.subject is not None}
    plan = plan_card(of, of.microgrid)
    assert set(latest) <= set(plan.subjects)
    return build_card(
        of, of.microgrid, plan, latest, healths, now=now, feature_flags=flags, remediation_count=1, dead_letter_count=2
    )


BOUND, OFF_BINDING = point("DER"), point("DER", enabled=False)


@pytest.mark.parametrize(
    ("points", "reported", "expected"),
    [
        ((), (), []),
        ((BOUND,), (), [(None, "NEVER_REPORTED", True)]),
        ((BOUND,), (status("DER", "ON", 60),), [("ON", "FRESH", True)]),
        ((BOUND,), (status("DER", "OFF", 60.5),), [("OFF", "STALE", True)]),
        ((OFF_BINDING,), (), []),
        ((OFF_BINDING,), (status("DER", "ON", 61),), [("ON", "STALE", False)]),
        ((), (status("DER", "ON", 300),), [("ON", "FRESH", False)]),
        ((), (status("DER", "ON", 301),), [("ON", "STALE", False)]),
        ((point("DER", "dev-2", enabled=False, s=5),), (status("DER", "ON", 61),), [("ON", "FRESH", False)]),
        ((point("DER", "dev-2", s=5), OFF_BINDING), (status("DER", "ON", 6),), [("ON", "STALE", True)]),
        ((BOUND,), (status("DER", "ON", -30, late_s=-31),), [("ON", "FRESH", True)]),
        ((BOUND,), (status("DER", "ON", -30, late_s=-91),), [("ON", "STALE", True)]),
    ],
)
def test_a_capability_shows_when_bound_or_reported(
    points: tuple[ControlPoint, ...], reported: tuple[Event, ...], expected: list[tuple[str | None, str, bool]]
) -> None:
    found = card(site(points=points), *reported).capabilities
    assert [(one.operational_status, one.freshness, one.detail.bound) for one in found] == expected


def test_capabilities_stand_by_scope_the_whole_site_first_then_by_name() -> None:
    nodes = (Node("n-1", "gc-1", "North", 1), Node("n-2", "gc-2", "Annex", 2))
    points = tuple(point(name, node_id=node_id) for node_id in ("n-1", None, "n-2") for name in ("DER", "PEAK_SHAVING"))
    found = card(site(points=points, nodes=nodes)).capabilities
    assert [(one.scope.name, one.capability) for one in found] == [
        (scope, capability) for scope in ("Whole site", "Annex", "North") for capability in ("PEAK_SHAVING", "DER")
    ]


def test_what_was_never_reported_names_who_should() -> None:
    (found,) = card(site(points=(BOUND,))).capabilities
    assert found.source is not None
    assert (found.source.device_id, found.source.gateway_id, found.detail.measurand) == ("dev", "gw", "DER")
    assert (found.event_id, found.age_s, found.stale_at, found.stale_after_s) == (None, None, None, 60)


def test_a_power_source_is_as_fresh_as_its_oldest_reading() -> None:
    load = event(subjects.power_source_load_subject("bess"), 1, load_kw=-5)
    soc = event(subjects.measurement_subject("dev", "SOC"), 301, value=70.0)
    (found,) = card(site(SOC, sources=(BATTERY,)), load, soc).power_sources
    assert (found.load_kw, found.soc_pct, found.state, found.freshness, found.age_s) == (-5, 70.0, None, "STALE", 301)
    assert (found.readings.load_kw.freshness, found.readings.state.freshness) == ("FRESH", "NEVER_REPORTED")


@pytest.mark.parametrize(
    ("sources", "action", "expected"),
    [
        ((BATTERY,), SOC, {"bess": 70.0}),
        ((replace(BATTERY, circuit_id=None),), SOC, {"bess": 70.0}),
        ((BATTERY, PowerSource("bess-2", "gc-1", "BATTERY", "2")), SOC, {"bess": None, "bess-2": None}),
        (
            (BATTERY, PowerSource("bess-2", "gc-1", "BATTERY", "2")),
            replace(SOC, power_source_id="bess-2"),
            {"bess": None, "bess-2": 70.0},
        ),
        ((BATTERY, PowerSource("grid", "gc-1", "GRID", "Grid")), SOC, {"bess": 70.0, "grid": None}),
        ((BATTERY,), replace(SOC, power_source_id="elsewhere"), {"bess": None}),
    ],
)
def test_a_state_of_charge_goes_where_routing_would_lead_it(
    sources: tuple[PowerSource, ...], action: SensorAction, expected: dict[str, float | None]
) -> None:
    of = site(action, sources=sources)
    soc = event(subjects.measurement_subject("dev", "SOC"), value=70.0)
    wanted = [soc] if of.microgrid and soc.subject in plan_card(of, of.microgrid).subjects else []
    assert {one.power_source_id: one.soc_pct for one in card(of, *wanted).power_sources} == expected


def test_a_disabled_action_gives_no_state_of_charge() -> None:
    of = site(replace(SOC, enabled=False), sources=(BATTERY,))
    assert of.microgrid is not None
    assert subjects.measurement_subject("dev", "SOC") not in plan_card(of, of.microgrid).subjects


def test_of_several_meters_of_one_battery_the_latest_report_counts() -> None:
    second = SensorAction("a-soc-2", "dev-2", "SOC", RECORD_MEASUREMENT)
    older = event(subjects.measurement_subject("dev", "SOC"), 10, value=1.0, event_id="f")
    newer = event(subjects.measurement_subject("dev-2", "SOC"), 9, value=2.0, event_id="e", device_id="dev-2")
    (found,) = card(site(SOC, second, sources=(BATTERY,)), older, newer).power_sources
    assert found.soc_pct == 2.0
    assert found.readings.soc_pct.source is not None
    assert found.readings.soc_pct.source.device_id == "dev-2"


def health(
    status: str = "OK", *, beat_s: float = 0.0, fail_safe_kw: float | None = None, device_id: str = "dev"
) -> ControllerHealth:
    beat = NOW - timedelta(seconds=beat_s)
    return ControllerHealth(
        f"a-{device_id}",
        device_id,
        "gw",
        "d",
        MICROGRID_ID,
        "gc-1",
        status,
        heartbeat_at=beat,
        deadline_at=beat + timedelta(seconds=60) if status == "OK" else None,
        available_kw=300.0,
        available_at=beat,
        fail_safe_kw=fail_safe_kw,
    )


def reported_capacity(capacity_kw: float, source: str = "CONTROLLER", heartbeat: str = "OK") -> Event:
    return event(
        subjects.circuit_capacity_subject("gc-1"),
        available_capacity_kw=capacity_kw,
        source=source,
        heartbeat=heartbeat,
        capacity_rule="R",
        uncut_kw=capacity_kw,
    )


@pytest.mark.parametrize(
    ("healths", "events", "limits", "expected"),
    [
        ((), (), {}, (None, "NONE", "NEVER_REPORTED")),
        ((health("NEVER_REPORTED"),), (), {}, (None, "NONE", "NEVER_REPORTED")),
        ((health(),), (reported_capacity(300.0),), {}, (300.0, "CONTROLLER", "OK")),
        ((health(),), (reported_capacity(300.0),), {"rating_kw": 200.0}, (200.0, "CONTROLLER", "OK")),
        ((health(beat_s=59.9),), (reported_capacity(300.0),), {}, (300.0, "CONTROLLER", "OK")),
        ((health(beat_s=60),), (reported_capacity(300.0),), {"safe_capacity_kw": 50.0}, (50.0, "FAIL_SAFE", "LOST")),
        (
            (health(beat_s=60, fail_safe_kw=80.0),),
            (reported_capacity(300.0),),
            {"safe_capacity_kw": 50.0},
            (80.0, "FAIL_SAFE", "LOST"),
        ),
        ((health(beat_s=60),), (reported_capacity(300.0),), {}, (0.0, "FAIL_SAFE", "LOST")),
        ((health("LOST", beat_s=90),), (reported_capacity(50.0, "FAIL_SAFE", "LOST"),), {}, (50.0, "FAIL_SAFE", "LOST")),
        ((health(),), (), {}, (300.0, "CONTROLLER", "OK")),
        ((health(beat_s=60),), (), {"safe_capacity_kw": 50.0}, (50.0, "FAIL_SAFE", "LOST")),
        ((), (reported_capacity(300.0),), {}, (300.0, "CONTROLLER", "OK")),
        ((health(device_id="dev-2", beat_s=500), health()), (reported_capacity(300.0),), {}, (300.0, "CONTROLLER", "OK")),
    ],
)
def test_a_circuit_shows_what_holds_now(
    healths: tuple[ControllerHealth, ...],
    events: tuple[Event, ...],
    limits: dict[str, float],
    expected: tuple[float | None, str, str],
) -> None:
    (found,) = card(site(CAPACITY, **limits), *events, healths=healths).circuits  # type: ignore[arg-type]
    assert (found.available_capacity_kw, found.source, found.heartbeat) == expected


def test_a_circuit_without_controller_and_report_is_not_shown() -> None:
    assert card(site()).circuits == ()
    assert card(site(replace(CAPACITY, enabled=False))).circuits == ()


def test_the_next_turn_is_when_the_clock_alone_changes_the_card() -> None:
    of = site(CAPACITY, SOC, points=(BOUND,), sources=(BATTERY,))
    events = (status("DER", "ON", 10), reported_capacity(1.0), event(subjects.measurement_subject("dev", "SOC"), 290, value=1.0))
    turn = next_turn(card(of, *events, healths=(health(beat_s=30),)))
    assert turn == NOW + timedelta(seconds=10, microseconds=1)
    assert next_turn(card(of)) is None
    assert next_turn(card(of, status("DER", "ON", 61))) is None


@given(ages=st.lists(st.floats(0, 400), min_size=3, max_size=3), wait_s=st.floats(0, 500), order=st.randoms())
def test_a_card_tells_the_same_until_its_next_turn(ages: list[float], wait_s: float, order: Any) -> None:
    of = site(CAPACITY, SOC, points=(BOUND,), sources=(BATTERY,), safe_capacity_kw=10.0)
    healths = (health(beat_s=min(ages[2], 59.0)),)
    events = [
        status("DER", "ON", ages[0]),
        reported_capacity(300.0),
        event(subjects.measurement_subject("dev", "SOC"), ages[1], value=1.0),
    ]
    first = card(of, *events, healths=healths)
    order.shuffle(events)
    later = card(of, *events, healths=healths, now=NOW + timedelta(seconds=wait_s))
    turn = next_turn(first)
    assert (lasting(first) == lasting(later)) == (turn is None or later.as_of < turn)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ((), "NEVER_REPORTED"),
        ((status("DER", "ON"), status("PEAK_SHAVING", "ON")), "FRESH"),
        ((status("DER", "ON", 61), status("PEAK_SHAVING", "ON")), "STALE"),
        ((status("PEAK_SHAVING", "ON"),), "NEVER_REPORTED"),
    ],
)
def test_several_capabilities_are_as_fresh_as_the_worst(reported: tuple[Event, ...], expected: str) -> None:
    of = site(points=(BOUND, point("PEAK_SHAVING")))
    assert overall_freshness(card(of, *reported).capabilities) == expected


def test_of_measurements_only_the_state_of_charge_changes_a_card() -> None:
    assert is_card_event("MeasurementRecorded", "SOC")
    assert not is_card_event("MeasurementRecorded", "IMPORT_ENERGY")
    assert is_card_event("CapabilityStatusReported", "DER")
