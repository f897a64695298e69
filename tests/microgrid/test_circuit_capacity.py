"""What a circuit may draw, by every combination of what is known of its controller, and the laws that no clock may bend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.microgrid.sites import MICROGRID_ID, NOW, action, ago, site, steps

from microgrid.capability import fold_latest
from microgrid.circuit_capacity import CircuitLimits, ControllerHealth, decide, effective_capacity, lapse, new_health
from microgrid.events import Event
from microgrid.reporting import CapacityStep, Reported
from microgrid.site_model import Circuit, Site

TIMEOUT_S = 60.0
RATING_KW = 500.0
SAFE_KW = 30.0
CAPACITY = action("UPDATE_CIRCUIT_CAPACITY", "AVAILABLE_CHARGING_CAPACITY", heartbeat_timeout_s=TIMEOUT_S)


def depot(rating_kw: float | None = RATING_KW, safe_kw: float | None = SAFE_KW, circuit_id: str = "gc-1", **fields: Any) -> Site:
    circuits = tuple(
        Circuit(one, None, one, 0, safe_capacity_kw=safe_kw, rating_kw=rating_kw) for one in dict.fromkeys(("gc-1", circuit_id))
    )
    return site(replace(CAPACITY, **fields), circuits=circuits, circuit_id=circuit_id)


@dataclass
class Controller:
    """A controller's health and every event about its circuit, as a worker would keep them."""

    at: Site = field(default_factory=depot)
    health: ControllerHealth | None = None
    events: dict[tuple[datetime, str], Event] = field(default_factory=dict[tuple[datetime, str], Event])

    def store(self, *events: Event) -> list[Event]:
        new = [event for event in events if (event.observed_at, event.event_id) not in self.events]
        self.events.update({(event.observed_at, event.event_id): event for event in new})
        return new

    def hear(self, now: datetime = NOW, received_at: datetime | None = None, **said: Any) -> tuple[list[Event], Reported | None]:
        """Take in a packet: `capacity`, `heartbeat`, `fail_safe`, each a value or a measurand's members; what was new of it."""
        keys = {"capacity": "AVAILABLE_CHARGING_CAPACITY", "heartbeat": "HEARTBEAT_STATUS", "fail_safe": "FAIL_SAFE_CAPACITY"}
        sent_at = said.pop("sent_at", now)
        measurands = [
            {"key": keys[name], **(value if isinstance(value, dict) else {"value": value})}
            for name, value in said.items()
            if value is not None
        ]
        decided = steps(
            self.at,
            {"key": "NOTE", "value": 0},
            *measurands,
            sent_at=sent_at,
            received_at=received_at or now,
        )
        for step in decided:
            if isinstance(step, CapacityStep):
                decision = decide(self.health or new_health(step), step, now)
                self.health = decision.health
                new = self.store(*decision.transitions)
                if decision.reported is not None:
                    self.store(decision.reported.event)
                return new, decision.reported
        return [], None

    def sweep(self, now: datetime) -> list[Event]:
        if self.health is None:
            return []
        limits = self.at.circuits[0]
        self.health, lapsed = lapse(self.health, CircuitLimits(limits.rating_kw, limits.safe_capacity_kw), now)
        return self.store(*lapsed)

    def in_force(self, circuit_id: str = "gc-1") -> tuple[float, str] | None:
        latest = fold_latest(self.events.values()).get(f"circuit/{circuit_id}/capacity")
        return None if latest is None else (kw(latest), str(latest.payload["source"]))

    @property
    def status(self) -> str:
        return "NEVER_REPORTED" if self.health is None else self.health.status


def kw(event: Event) -> float:
    value = event.payload["available_capacity_kw"]
    assert isinstance(value, float)
    return value


def controller(status: str) -> Controller:
    """One of each status, 10 s ago; with 100 kW reported and 40 kW to fall back to unless never heard of."""
    one = Controller()
    if status != "NEVER_REPORTED":
        one.hear(ago(10), capacity=100, heartbeat=True, fail_safe=40)
    if status == "LOST":
        one.hear(ago(9), heartbeat=False)
    assert one.status == status
    return one


LOST_EVENT, RESTORED_EVENT = "ControllerHeartbeatLost", "ControllerHeartbeatRestored"
STALE = {"observed_at": ago(TIMEOUT_S + 1)}
OLDER = {"observed_at": ago(20)}
HEARTBEATS: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "stale true": {"value": True, **STALE},
    "stale false": {"value": False, **STALE},
    "BAD true": {"value": True, "quality": "BAD"},
    "BAD false": {"value": False, "quality": "BAD"},
    "older true": {"value": True, **OLDER},
    "older false": {"value": False, **OLDER},
}
CAPACITIES: dict[str, Any] = {
    "none": None,
    "fresh": {"value": 200},
    "stale": {"value": 200, **STALE},
    "BAD": {"value": 200, "quality": "BAD"},
}
# Status before: by heartbeat, the status after and the transition; a heartbeat that is not named changes nothing.
AFTER: dict[str, dict[str, tuple[str, str | None]]] = {
    "NEVER_REPORTED": {
        "true": ("OK", None),
        "older true": ("OK", None),  # older than nothing
        "false": ("LOST", LOST_EVENT),
        "older false": ("LOST", LOST_EVENT),
    },
    "OK": {"false": ("LOST", LOST_EVENT)},
    "LOST": {"true": ("OK", RESTORED_EVENT)},
}
# Status before and after: what is in force with a capacity that counts, and without.
IN_FORCE: dict[tuple[str, str], tuple[tuple[float, str] | None, tuple[float, str] | None]] = {
    ("NEVER_REPORTED", "NEVER_REPORTED"): (None, None),
    ("NEVER_REPORTED", "OK"): ((200.0, "CONTROLLER"), None),
    ("NEVER_REPORTED", "LOST"): ((SAFE_KW, "FAIL_SAFE"), (SAFE_KW, "FAIL_SAFE")),
    ("OK", "OK"): ((200.0, "CONTROLLER"), (100.0, "CONTROLLER")),
    ("OK", "LOST"): ((40.0, "FAIL_SAFE"), (40.0, "FAIL_SAFE")),
    ("LOST", "OK"): ((200.0, "CONTROLLER"), (100.0, "CONTROLLER")),
    ("LOST", "LOST"): ((40.0, "FAIL_SAFE"), (40.0, "FAIL_SAFE")),
}


@pytest.mark.parametrize("before", AFTER)
@pytest.mark.parametrize("heartbeat", HEARTBEATS)
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_a_packet_changes_status_and_capacity_by_the_table(before: str, heartbeat: str, capacity: str) -> None:
    one = controller(before)
    transitions, reported = one.hear(heartbeat=HEARTBEATS[heartbeat], capacity=CAPACITIES[capacity])
    after, transition = AFTER[before].get(heartbeat, (before, None))
    assert one.status == after
    assert [event.event_type for event in transitions] == ([transition] if transition else [])
    counting, without = IN_FORCE[before, after]
    assert one.in_force() == (counting if capacity == "fresh" else without)
    applied = capacity == "fresh" and after != "NEVER_REPORTED"
    assert (reported.outcome if reported else None) == (None if capacity == "none" else "APPLIED" if applied else "RECORDED")
    assert reported is None or reported.event.history_only == (not applied)


@pytest.mark.parametrize(
    ("fail_safe", "safe_kw", "expected", "rule"),
    [
        (40, 30.0, 40.0, "REPORTED_FAIL_SAFE"),
        (0, 30.0, 0.0, "REPORTED_FAIL_SAFE"),
        (None, 30.0, 30.0, "CIRCUIT_SAFE_CAPACITY"),
        (None, 0.0, 0.0, "CIRCUIT_SAFE_CAPACITY"),
        (None, None, 0.0, "NO_FAIL_SAFE_KNOWN"),
        ({"value": 40, "quality": "BAD"}, 30.0, 30.0, "CIRCUIT_SAFE_CAPACITY"),
        (800, 30.0, RATING_KW, "REPORTED_FAIL_SAFE"),
        (None, 800.0, RATING_KW, "CIRCUIT_SAFE_CAPACITY"),
    ],
)
def test_the_fail_safe_capacity_is_the_reported_else_the_circuits_else_nothing(
    fail_safe: Any, safe_kw: float | None, expected: float, rule: str
) -> None:
    one = Controller(depot(safe_kw=safe_kw))
    (lost,), _ = one.hear(heartbeat=False, fail_safe=fail_safe)
    assert one.in_force() == (expected, "FAIL_SAFE")
    assert lost.payload["capacity_rule"] == rule


@pytest.mark.parametrize(
    ("reported_kw", "rating_kw", "cut"),
    [(499, 500.0, 499.0), (500, 500.0, 500.0), (501, 500.0, 500.0), (501, None, 501.0), (1, 0.0, 0.0)],
)
def test_a_capacity_above_the_rating_is_cut_and_both_are_kept(reported_kw: float, rating_kw: float | None, cut: float) -> None:
    one = Controller(depot(rating_kw=rating_kw))
    _, reported = one.hear(heartbeat=True, capacity=reported_kw)
    assert reported is not None
    assert (kw(reported.event), reported.event.payload["uncut_kw"]) == (cut, float(reported_kw))
    assert (reported.event.payload["controller_value_kw"], reported.event.payload["rating_kw"]) == (float(reported_kw), rating_kw)


def test_a_capacity_is_scaled_and_its_fail_safe_value_is_not() -> None:
    one = Controller(depot(scale=0.001))
    one.hear(heartbeat=True, capacity=200_000, fail_safe=40)
    assert one.in_force() == (200.0, "CONTROLLER")
    one.hear(NOW + timedelta(seconds=1), heartbeat=False)
    assert one.in_force() == (40.0, "FAIL_SAFE")
    (restated,), _ = one.hear(NOW + timedelta(seconds=2), fail_safe=50)
    assert (kw(restated), restated.payload["controller_value_kw"]) == (50.0, 50.0)


@pytest.mark.parametrize(("after_s", "lost"), [(TIMEOUT_S - 0.000001, False), (TIMEOUT_S, True), (TIMEOUT_S + 1000, True)])
def test_a_heartbeat_is_lost_by_the_clock_when_its_timeout_passes_and_once_only(after_s: float, lost: bool) -> None:
    one = Controller()
    one.hear(heartbeat=True, capacity=100, fail_safe=40)
    now = NOW + timedelta(seconds=after_s)
    events = one.sweep(now) + one.sweep(now)
    assert [event.event_type for event in events] == ([LOST_EVENT] if lost else [])
    assert all(event.observed_at == NOW + timedelta(seconds=TIMEOUT_S) for event in events)
    assert one.in_force() == ((40.0, "FAIL_SAFE") if lost else (100.0, "CONTROLLER"))


@pytest.mark.parametrize("ahead_s", [0, 1, 299])
def test_a_clock_that_runs_ahead_buys_no_time(ahead_s: float) -> None:
    one = Controller()
    ahead = NOW + timedelta(seconds=ahead_s)
    one.hear(sent_at=ahead, heartbeat=True, capacity=100)
    assert one.sweep(NOW + timedelta(seconds=TIMEOUT_S))
    assert one.in_force() == (SAFE_KW, "FAIL_SAFE")


def test_a_clock_that_runs_behind_loses_time_and_its_lowered_capacity_still_counts_at_once() -> None:
    one = Controller()

    def hear(after_s: float, **said: Any) -> None:
        now = NOW + timedelta(seconds=after_s)
        one.hear(now, sent_at=now - timedelta(seconds=50), **said)

    hear(0, heartbeat=True, capacity=300)
    assert one.sweep(NOW + timedelta(seconds=10))
    hear(12, heartbeat=True, capacity=300)
    assert one.in_force() == (300.0, "CONTROLLER")
    hear(13, heartbeat=True, capacity=50)
    assert one.in_force() == (50.0, "CONTROLLER")
    hear(14, capacity=20)
    assert one.in_force() == (20.0, "CONTROLLER")


def test_a_fail_safe_value_lowered_while_in_force_counts_at_once_also_by_a_clock_behind() -> None:
    one = Controller()
    one.hear(heartbeat=True, fail_safe=100)
    one.sweep(NOW + timedelta(seconds=TIMEOUT_S))
    now = NOW + timedelta(seconds=TIMEOUT_S + 1)
    one.hear(now, sent_at=now - timedelta(seconds=30), fail_safe=50)
    assert one.in_force() == (50.0, "FAIL_SAFE")
    one.hear(now, sent_at=now - timedelta(seconds=29), fail_safe=20, capacity={"value": 400, "quality": "BAD"})
    assert one.in_force() == (20.0, "FAIL_SAFE")
    one.hear(now, sent_at=now - timedelta(seconds=28), fail_safe=10, capacity=400)
    assert one.in_force() == (10.0, "FAIL_SAFE")


def test_a_fail_safe_value_too_old_to_act_does_not_hide_the_next_one() -> None:
    one = controller("LOST")
    one.hear(NOW, fail_safe={"value": 15, "observed_at": ago(9)}, received_at=NOW)
    assert one.in_force() == (15.0, "FAIL_SAFE")
    later = NOW + timedelta(seconds=100)
    one.hear(later, fail_safe={"value": 5, "observed_at": NOW})
    assert one.in_force() == (15.0, "FAIL_SAFE")
    one.hear(later, fail_safe=5)
    assert one.in_force() == (5.0, "FAIL_SAFE")


def test_a_return_without_a_young_capacity_stays_at_the_fail_safe_value_and_follows_it() -> None:
    one = controller("LOST")
    later = NOW + timedelta(seconds=200)
    (restored,), _ = one.hear(later, heartbeat=True)
    assert (restored.event_type, one.in_force()) == (RESTORED_EVENT, (40.0, "FAIL_SAFE"))
    one.hear(later + timedelta(seconds=1), fail_safe=20)
    assert one.in_force() == (20.0, "FAIL_SAFE")
    one.hear(later + timedelta(seconds=2), capacity=200)
    assert one.in_force() == (200.0, "CONTROLLER")
    one.hear(later + timedelta(seconds=3), fail_safe=10)
    assert one.in_force() == (200.0, "CONTROLLER")


def test_the_first_heartbeat_brings_the_newest_waiting_capacity_into_force_and_not_an_older_one_beside_it() -> None:
    one = Controller()
    one.hear(ago(5), capacity=100)
    assert one.in_force() is None
    one.hear(heartbeat=True, capacity={"value": 300, "observed_at": ago(8)})
    assert one.in_force() == (100.0, "CONTROLLER")


def test_a_capacity_older_than_the_one_that_a_first_heartbeat_brought_in_does_not_replace_it() -> None:
    one = Controller()
    one.hear(ago(1), capacity=100)
    one.hear(NOW, heartbeat={"value": True, "observed_at": ago(5)})
    one.hear(NOW, capacity={"value": 300, "observed_at": ago(3)})
    assert one.in_force() == (100.0, "CONTROLLER")


def test_a_late_capacity_from_before_the_loss_does_not_turn_the_fail_safe_value_back() -> None:
    one = controller("LOST")
    for seconds in (30, 10, 9, 8.9, 0.1):
        one.hear(NOW, capacity={"value": 300, "observed_at": ago(seconds)}, sent_at=NOW)
        assert one.in_force() == (40.0, "FAIL_SAFE")


def test_a_replayed_packet_is_judged_by_the_time_at_which_it_acts() -> None:
    one = Controller()
    _, reported = one.hear(NOW + timedelta(hours=1), received_at=NOW, sent_at=NOW, heartbeat=True, capacity=300)
    assert reported is not None
    assert (reported.outcome, one.status, one.in_force()) == ("RECORDED", "NEVER_REPORTED", None)


def test_a_loss_that_nobody_swept_is_noticed_by_the_next_packet_before_what_that_one_says() -> None:
    one = Controller()
    one.hear(heartbeat=True, capacity=100)
    transitions, _ = one.hear(NOW + timedelta(minutes=5), heartbeat=True, capacity=200)
    assert [event.event_type for event in transitions] == [LOST_EVENT, RESTORED_EVENT]
    assert one.in_force() == (200.0, "CONTROLLER")


def test_an_action_that_was_given_another_circuit_speaks_for_that_one_under_its_own_limits() -> None:
    one = controller("OK")
    one.at = depot(rating_kw=150.0, circuit_id="gc-2")
    one.hear(capacity=200)
    assert one.in_force("gc-2") == (150.0, "CONTROLLER")


def test_a_loss_is_in_the_stream_of_the_microgrid_that_the_depot_got_meanwhile() -> None:
    one = Controller(site(CAPACITY, with_microgrid=False))
    one.hear(ago(10), heartbeat=True)
    one.at = depot()
    one.hear(ago(9), heartbeat=True)
    (lost,) = one.sweep(NOW + timedelta(minutes=2))
    assert lost.microgrid_id == MICROGRID_ID


def test_what_is_in_force_before_anything_is_stored_is_said_with_its_reason() -> None:
    nothing = ControllerHealth("a", "d", "g", "depot", None, "gc-1")
    limits = CircuitLimits(RATING_KW, SAFE_KW)
    timeout = timedelta(seconds=TIMEOUT_S)
    assert effective_capacity(nothing, limits, NOW, timeout).rule == "NOT_IN_CONTROL"
    healthy = msgspec.structs.replace(nothing, status="OK", available_kw=600.0, available_at=NOW, deadline_at=NOW + timeout)
    assert effective_capacity(healthy, limits, NOW, timeout).capacity_kw == RATING_KW
    assert effective_capacity(healthy, limits, NOW + timeout, timeout).source == "FAIL_SAFE"


# --- laws -----------------------------------------------------------------------------------------

powers = st.none() | st.sampled_from([0, 20, 60, 300, 499, 900])
qualities = st.sampled_from(["GOOD", "GOOD", "GOOD", "UNCERTAIN", "BAD"])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Packets and sweeps as they come, under a clock that may jump by up to 300 s ahead and 90 s behind; times in seconds."""
    moves: list[dict[str, Any]] = []
    skew = draw(st.sampled_from([0, 0, -50, 299]))
    for _ in range(draw(st.integers(1, 14))):
        skew = draw(st.sampled_from([skew, skew, skew, 0, -50, -90, 120, 299]))
        moves.append(
            {
                "wait_s": draw(st.sampled_from([0, 0, 1, 5, 20, 59, 60, 61, 400])),
                "sweep": draw(st.booleans()),
                "again": draw(st.booleans()),
                "delay_s": draw(st.sampled_from([0, 0, 0, 3, 30, 59, 61, 3600])) - skew,
                "heartbeat": draw(st.sampled_from([None, True, True, False])),
                "capacity": draw(powers),
                "fail_safe": draw(powers),
                "quality": draw(qualities),
            }
        )
    return moves


def play(one: Controller, index: int, move: dict[str, Any], now: datetime) -> list[Event]:
    # No two packets of one moment: which of two equal times is the later one is not what these laws are about.
    said_at = now - timedelta(seconds=move["delay_s"]) - timedelta(microseconds=100 - index)
    said = {name: move[name] for name in ("heartbeat", "capacity", "fail_safe")}
    said = {
        name: {"value": value, "quality": move["quality"]} if name != "heartbeat" else value
        for name, value in said.items()
        if value is not None
    }
    if not said:
        return []
    return one.hear(now, None, sent_at=said_at, **said)[0]


@settings(max_examples=300, deadline=None)
@given(histories())
def test_whatever_the_clocks_do_the_laws_of_a_capacity_hold(history: list[dict[str, Any]]) -> None:
    one = Controller()
    now = NOW
    told: list[str] = []
    for index, move in enumerate(history):
        now += timedelta(seconds=move["wait_s"])
        new = one.sweep(now) if move["sweep"] else []
        new += play(one, index, move, now)
        told += [event.event_type for event in new if event.event_type in (LOST_EVENT, RESTORED_EVENT)]
        if move["again"]:
            before = len(one.events)
            play(one, index, move, now)
            assert len(one.events) == before, "the same packet again is nothing new"
        check_what_is_in_force(one)
    one.sweep(now + timedelta(seconds=TIMEOUT_S))
    assert one.status != "OK", "no heartbeat is younger than the timeout"
    check_what_is_in_force(one)
    assert told == [(LOST_EVENT, RESTORED_EVENT)[place % 2] for place in range(len(told))], "each loss and return is told once"
    ids = [event.event_id for event in one.events.values()]
    assert len(ids) == len(set(ids))


def check_what_is_in_force(one: Controller) -> None:
    assert all(kw(event) <= RATING_KW for event in one.events.values())
    in_force = one.in_force()
    if one.health is None or in_force is None:
        assert one.status != "LOST"
        return
    if one.status == "NEVER_REPORTED":
        pytest.fail("nobody is in control and yet a capacity is in force")
    fail_safe = SAFE_KW if one.health.fail_safe_kw is None else min(one.health.fail_safe_kw, RATING_KW)
    if one.status == "LOST" or one.health.available_kw is None:
        assert in_force == (fail_safe, "FAIL_SAFE")
    else:
        assert in_force == (min(one.health.available_kw, RATING_KW), "CONTROLLER")
