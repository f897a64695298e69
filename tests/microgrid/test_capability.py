"""The latest status is the same whatever the order of arrival, and it is fresh for exactly as long as it is said to be."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.microgrid.sites import NOW

from microgrid.capability import FRESH, NEVER_REPORTED, STALE, fold_latest, freshness
from microgrid.events import Event

TIMES = st.integers(0, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
reports = st.builds(
    Event,
    event_id=st.sampled_from("abcd"),
    event_type=st.just("CapabilityStatusReported"),
    depot_id=st.just("depot"),
    microgrid_id=st.none(),
    subject=st.sampled_from(["one", "two", None]),
    history_only=st.booleans(),
    observed_at=TIMES,
    sent_at=TIMES,
    source_event_ref=st.none(),
    payload=st.just({}),
    metadata=st.just({}),
)
# Two reports of one identity are one report.
histories = st.lists(reports, max_size=8, unique_by=lambda event: (event.subject, event.observed_at, event.sent_at, event.event_id))


@given(histories.flatmap(lambda events: st.tuples(st.just(events), st.permutations(events))))
def test_the_latest_report_does_not_depend_on_the_order_of_arrival(orders: tuple[list[Event], list[Event]]) -> None:
    assert fold_latest(orders[0]) == fold_latest(orders[1])


@given(histories)
def test_the_latest_report_is_the_counting_one_with_the_greatest_times_and_id(events: list[Event]) -> None:
    for subject in ("one", "two"):
        counting = [event for event in events if event.subject == subject and not event.history_only]
        greatest = max(counting, key=lambda event: (event.observed_at, event.sent_at, event.event_id), default=None)
        assert fold_latest(events).get(subject) == greatest


@given(histories, reports)
def test_a_report_that_is_history_only_or_about_nothing_changes_no_latest_value(events: list[Event], late: Event) -> None:
    for silent in (msgspec.structs.replace(late, history_only=True), msgspec.structs.replace(late, subject=None)):
        assert fold_latest([*events, silent]) == fold_latest(events)


@given(histories)
def test_hearing_everything_again_changes_nothing(events: list[Event]) -> None:
    assert fold_latest([*events, *events]) == fold_latest(events)


def seconds(value: float) -> datetime:
    return NOW + timedelta(seconds=value)


@pytest.mark.parametrize(
    ("observed_at", "received_at", "now", "expected", "age_s", "stale_at"),
    [
        (seconds(0), seconds(0), seconds(0), FRESH, 0.0, seconds(300)),
        (seconds(0), seconds(0), seconds(300), FRESH, 300.0, seconds(300)),
        (seconds(0), seconds(0), seconds(300.000001), STALE, 300.000001, seconds(300)),
        (seconds(0), seconds(200), seconds(301), STALE, 301.0, seconds(300)),
        # a clock ahead: from the receipt on
        (seconds(250), seconds(0), seconds(10), FRESH, 10.0, seconds(300)),
        (seconds(250), seconds(0), seconds(301), STALE, 301.0, seconds(300)),
        # a clock ahead and nothing known of the receipt: never younger than nothing
        (seconds(250), None, seconds(0), FRESH, 0.0, seconds(550)),
        (seconds(0), None, seconds(301), STALE, 301.0, seconds(300)),
        (None, None, seconds(0), NEVER_REPORTED, None, None),
    ],
)
def test_a_status_is_fresh_up_to_its_limit_from_the_earlier_of_observation_and_receipt(
    observed_at: datetime | None,
    received_at: datetime | None,
    now: datetime,
    expected: str,
    age_s: float | None,
    stale_at: datetime | None,
) -> None:
    found = freshness(observed_at, received_at, 300.0, now)
    assert (found.freshness, found.age_s, found.stale_at) == (expected, age_s, stale_at)
