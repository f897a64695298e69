"""One report is one event, however often and by whatever way it comes; another report is another one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.microgrid.sites import BATTERY, NOW, SOLAR, action, control_point, on, packet, plan, site

from microgrid import events
from microgrid.events import action_selectors, heartbeat_event_id, report_event_id
from microgrid.reporting import Reported, report
from microgrid.site_model import Site

NO_SELECTORS = action_selectors(None, None, None, None)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
values = st.booleans() | texts | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
moments = st.integers(0, 10**15).map(lambda microseconds: NOW + timedelta(microseconds=microseconds))
reports = st.tuples(
    st.sampled_from(["MeasurementRecorded", "PowerSourceLoadReported"]),
    texts,
    texts,
    texts,
    st.builds(action_selectors, *[st.none() | texts.filter(bool)] * 4),
    moments,
    values,
    st.none() | texts.filter(bool),
)


def sameness(one: tuple[Any, ...]) -> tuple[Any, ...]:
    """What of a report makes it that report; 1 and true are equal in Python only, and numbers are 64-bit floats."""
    value = one[6]
    kind = "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return (*one[:6], kind, float(value) if kind == "number" else value, one[7])


@given(reports, reports)
def test_two_reports_are_one_event_exactly_if_nothing_of_them_differs(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (report_event_id(*one) == report_event_id(*other)) == (sameness(one) == sameness(other))


@given(reports, st.integers(0, 7), reports)
def test_one_differing_part_is_enough_to_be_another_event(one: tuple[Any, ...], part: int, other: tuple[Any, ...]) -> None:
    changed = (*one[:part], other[part], *one[part + 1 :])
    assume(sameness(changed) != sameness(one))
    assert report_event_id(*changed) != report_event_id(*one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (0.0, -0.0, True),
        (10**20, 1e20, True),
        (1, True, False),
        (0, False, False),
        (1, "1", False),
        (True, "true", False),
        (True, "1", False),
        (1, 1.0000000000000002, False),
        ("", " ", False),
    ],
)
def test_numbers_are_compared_as_numbers_and_never_with_flags_or_texts(one: Any, other: Any, same: bool) -> None:
    ids = [report_event_id("T", "d", "p", "k", NO_SELECTORS, NOW, value) for value in (one, other)]
    assert (ids[0] == ids[1]) == same


@given(moments, st.integers(-23 * 60, 23 * 60))
def test_the_offset_in_which_a_time_is_written_plays_no_part(moment: datetime, offset_minutes: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert report_event_id("T", "d", "p", "k", NO_SELECTORS, moment, 1) == report_event_id(
        "T", "d", "p", "k", NO_SELECTORS, elsewhere, 1
    )


def test_an_event_id_is_a_uuid_of_version_5_and_stays_what_it_was_in_every_release() -> None:
    event_id = report_event_id("MeasurementRecorded", "dev", "packet-1", "SOC", NO_SELECTORS, NOW, 74.5, "%")
    assert UUID(event_id).version == 5
    assert event_id == "3a1d53f5-989b-5e8b-bab1-ef3978c098d3"


def ids_of(of: Site, *measurands: dict[str, Any], received_at: datetime = NOW) -> list[str]:
    decided = report(packet(*measurands), plan(of), received_at, {})
    return [step.event.event_id for step in decided if isinstance(step, Reported)]


LOAD = action("UPDATE_POWER_SOURCE_LOAD", "ACTIVE_POWER")
DER = action("UPDATE_MICROGRID_STATE", "DER", capability="DER")


def test_a_report_keeps_its_identity_when_the_configuration_sends_it_elsewhere() -> None:
    before = site(LOAD, DER, sources=(BATTERY,), points=(control_point("DER"),))
    after = site(LOAD, DER, sources=(BATTERY, on("gc-1", SOLAR)), points=(control_point("DER"),), circuit_id="gc-1")
    measurands = ({"key": "ACTIVE_POWER", "value": 5}, {"key": "DER", "value": True})
    assert len(ids_of(before, *measurands)) == 2
    assert ids_of(before, *measurands) == ids_of(after, *measurands, received_at=NOW + timedelta(hours=1))


def test_an_actions_own_selectors_make_another_event() -> None:
    explicit = action("UPDATE_POWER_SOURCE_LOAD", "ACTIVE_POWER", power_source_id="bess")
    measurand = {"key": "ACTIVE_POWER", "value": 5}
    assert ids_of(site(LOAD, sources=(BATTERY,)), measurand) != ids_of(site(explicit, sources=(BATTERY,)), measurand)


@pytest.mark.parametrize(
    "other", [{"value": 6}, {"value": 5, "unit": "kW"}, {"value": 5, "observed_at": NOW - timedelta(microseconds=1)}]
)
def test_another_value_unit_or_time_under_one_packet_id_is_another_event(other: dict[str, Any]) -> None:
    depot = site(LOAD, sources=(BATTERY,))
    assert ids_of(depot, {"key": "ACTIVE_POWER", "value": 5}) != ids_of(depot, {"key": "ACTIVE_POWER", **other})


def test_a_lost_and_a_restored_heartbeat_are_told_apart_by_type_device_circuit_and_heartbeat() -> None:
    args = [
        (kind, device, circuit, at)
        for kind in (events.CONTROLLER_HEARTBEAT_LOST, events.CONTROLLER_HEARTBEAT_RESTORED)
        for device in ("a", "b")
        for circuit in ("a", "b")
        for at in (NOW, NOW + timedelta(microseconds=1))
    ]
    assert len({heartbeat_event_id(*one) for one in args}) == len(args)


def test_every_event_type_is_listed_once() -> None:
    assert len(set(events.EVENT_TYPES)) == len(events.EVENT_TYPES)
