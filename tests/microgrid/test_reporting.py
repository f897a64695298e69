"""Each action of each measurand ends in exactly one step, in the order of the packet and then of the sensor actions."""

from __future__ import annotations

from typing import Any

import pytest
from tests.microgrid.sites import (
    ACTION_ID,
    BATTERY,
    CONTROL_POINT_ID,
    MICROGRID_ID,
    NOW,
    SECOND_ACTION_ID,
    SECOND_BATTERY,
    action,
    ago,
    control_point,
    packet,
    plan,
    site,
    steps,
)

from microgrid.reporting import CapacityStep, Ignored, Refused, Reported, Step, report
from microgrid.site_model import ACTIONS, Gateway
from sensor_packet.battery_mode import MODES


def reported(step: Step) -> Reported:
    assert isinstance(step, Reported), step
    return step


def one_step(kind: str, key: str, value: Any, **rest: Any) -> Step:
    """The one step of one measurand with one action, in a depot with one battery whose device owns both capabilities by it."""
    fields: dict[str, Any] = {name: rest.pop(name) for name in ("scale",) if name in rest}
    if kind == "UPDATE_MICROGRID_STATE":
        fields["capability"] = rest.pop("capability", "PEAK_SHAVING")
    depot = site(
        action(kind, key, **fields),
        sources=(BATTERY,),
        points=(control_point("PEAK_SHAVING", measurand=key), control_point("DER", measurand=key)),
    )
    (step,) = steps(depot, {"key": key, "value": value, **rest})
    return step


@pytest.mark.parametrize(
    ("kind", "key", "value", "unit"),
    [
        ("UPDATE_POWER_SOURCE_LOAD", "PEAK_SHAVING", True, None),
        ("UPDATE_POWER_SOURCE_LOAD", "NOTE", "12", None),
        ("UPDATE_POWER_SOURCE_LOAD", "NOTE", True, None),
        ("UPDATE_POWER_SOURCE_LOAD", "SOC", 50, None),
        ("UPDATE_POWER_SOURCE_LOAD", "IMPORT_ENERGY", 50, "kWh"),
        ("UPDATE_POWER_SOURCE_LOAD", "CURRENT", 50, "A"),
        ("UPDATE_POWER_SOURCE_LOAD", "ENERGY", 50, "kWh"),
        ("UPDATE_POWER_SOURCE_LOAD", "POWER", 1e308, "MW"),
        ("UPDATE_POWER_SOURCE_STATE", "SOC", 50, None),
        ("UPDATE_POWER_SOURCE_STATE", "DISPATCH_STATE", "IDLE", None),
        ("UPDATE_POWER_SOURCE_STATE", "STATE", "on", None),
        ("UPDATE_POWER_SOURCE_STATE", "STATE", 1, None),
        ("UPDATE_MICROGRID_STATE", "SOC", 1, None),
        ("UPDATE_MICROGRID_STATE", "DISPATCH_STATE", "IDLE", None),
        ("UPDATE_MICROGRID_STATE", "MY_MODE", "PEAK_SHAVING", None),
        ("UPDATE_CIRCUIT_CAPACITY", "HEARTBEAT_STATUS", True, None),
        ("UPDATE_CIRCUIT_CAPACITY", "LIMIT", "300", None),
        ("UPDATE_CIRCUIT_CAPACITY", "SOC", 100, None),
        ("UPDATE_CIRCUIT_CAPACITY", "LIMIT", -1, None),
        ("UPDATE_CIRCUIT_CAPACITY", "LIMIT", 1, "A"),
    ],
)
def test_a_valid_value_that_is_unfit_for_its_action_is_refused(kind: str, key: str, value: Any, unit: str | None) -> None:
    depot = site(
        action(kind, key, capability="DER" if kind == "UPDATE_MICROGRID_STATE" else None),
        sources=(BATTERY,),
        points=(control_point("DER", measurand=key),),
    )
    refused = steps(depot, {"key": key, "value": value} | ({"unit": unit} if unit else {}))[0]
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.code, refused.action) == ("REJECTED", "VALUE_NOT_APPLICABLE", kind)
    assert (refused.pointer, refused.sensor_action_id) == ("/measurands/0/value", ACTION_ID)


@pytest.mark.parametrize(
    ("key", "value", "unit", "scale", "load_kw"),
    [
        ("ACTIVE_POWER", 230.1, "W", None, 0.2301),
        ("ACTIVE_POWER", 0.5, "MW", None, 500.0),
        ("ACTIVE_POWER", 2, "MW", -0.5, -1000.0),
        ("ACTIVE_POWER", -7, None, None, -7.0),
        ("POWER", 230.1, "W", None, 0.2301),
        ("POWER", 230.1, "kW", None, 230.1),
        ("POWER", 0.5, "MW", None, 500.0),
        ("POWER", 12, None, None, 12.0),
        ("POWER", 12, None, 0.001, 0.012),
        ("POWER", 12, "W", 10.0, 0.12),
        ("POWER", 5, None, 0.0, 0.0),
    ],
)
def test_a_load_is_in_kw_whatever_its_unit_and_scale(
    key: str, value: float, unit: str | None, scale: float | None, load_kw: float
) -> None:
    rest: dict[str, Any] = {"unit": unit} if unit else {}
    step = reported(one_step("UPDATE_POWER_SOURCE_LOAD", key, value, scale=scale, **rest))
    assert step.event.payload["load_kw"] == pytest.approx(load_kw, rel=1e-15)
    assert step.event.payload["raw_value"] == value
    assert step.event.payload.get("raw_unit") == unit


def test_a_watt_more_is_not_lost_by_converting() -> None:
    assert reported(one_step("UPDATE_POWER_SOURCE_LOAD", "POWER", 230.1, unit="W")).event.payload["load_kw"] == 0.2301


@pytest.mark.parametrize(
    ("key", "value", "state"),
    [
        ("DEVICE_POWER_STATE", True, "ON"),
        ("DEVICE_POWER_STATE", False, "OFF"),
        *[("DEVICE_POWER_STATE", state, state) for state in ("ON", "OFF", "STARTING", "STOPPING", "FAULT")],
        ("GENERATOR_RUNS", True, "ON"),
        ("GENERATOR_RUNS", False, "OFF"),
        ("GENERATOR_RUNS", "FAULT", "FAULT"),
    ],
)
def test_a_power_sources_state_is_a_word_or_a_flag(key: str, value: Any, state: str) -> None:
    assert reported(one_step("UPDATE_POWER_SOURCE_STATE", key, value)).event.payload["state"] == state


@pytest.mark.parametrize("key", ["PEAK_SHAVING", "DER", "LIMIT_DER_EXPORT", "HEARTBEAT_STATUS", "ANY_FLAG"])
@pytest.mark.parametrize(("value", "status"), [(True, "ON"), (False, "OFF")])
@pytest.mark.parametrize("capability", ["PEAK_SHAVING", "DER"])
def test_any_flag_may_feed_any_capability(key: str, value: bool, status: str, capability: str) -> None:
    step = reported(one_step("UPDATE_MICROGRID_STATE", key, value, capability=capability))
    assert step.outcome == "APPLIED"
    assert step.event.subject == f"microgrid/{MICROGRID_ID}/{capability}"
    assert step.event.payload["operational_status"] == status
    assert step.event.payload["control_point_id"] == CONTROL_POINT_ID
    assert step.event.payload["rule"] == "DEPOT_MICROGRID"


BOTH_OFF = ("OFF", "OFF")
STATUS_OF_MODE = {
    "ARMED_PEAK_SHAVING": ("ON", "OFF"),
    "PEAK_SHAVING": ("ON", "OFF"),
    "PEAK_SHAVING_RECHARGE": ("ON", "OFF"),
    "ARMED_DER": ("OFF", "ON"),
    "DER_EXPORT": (None, "ON"),
    "DER_ABSORB": (None, "ON"),
    "ARMED_BOTH": ("ON", "ON"),
    "STANDBY": BOTH_OFF,
    "OFF": BOTH_OFF,
    "UNATTRIBUTED_DISCHARGE": BOTH_OFF,
    "UNATTRIBUTED_CHARGE": BOTH_OFF,
    "UNKNOWN": (None, None),
    "FAULT": (None, None),
    "TRANSITION": (None, None),
}


@pytest.mark.parametrize(("mode", "statuses"), STATUS_OF_MODE.items())
def test_a_mode_sets_a_capability_or_is_kept_as_history_only(mode: str, statuses: tuple[str | None, str | None]) -> None:
    for capability, status in zip(("PEAK_SHAVING", "DER"), statuses, strict=True):
        step = reported(one_step("UPDATE_MICROGRID_STATE", "BESS_OPERATIONAL_MODE", mode, capability=capability))
        assert step.event.payload["operational_status"] == status
        assert step.event.history_only == (status is None)
        assert step.outcome == ("RECORDED" if status is None else "APPLIED")


def test_every_mode_is_in_that_table() -> None:
    assert set(STATUS_OF_MODE) == set(MODES)


@pytest.mark.parametrize("kind", [kind for kind in ACTIONS if kind != "UPDATE_CIRCUIT_CAPACITY"])
@pytest.mark.parametrize(
    ("quality", "outcome"), [("BAD", "RECORDED"), ("UNCERTAIN", "APPLIED"), ("GOOD", "APPLIED"), (None, "APPLIED")]
)
def test_a_bad_report_is_history_only(kind: str, quality: str | None, outcome: str) -> None:
    key, value = ("POWER", 5) if kind == "UPDATE_POWER_SOURCE_LOAD" else ("FLAG", True)
    step = reported(one_step(kind, key, value, **({"quality": quality} if quality else {})))
    assert step.outcome == outcome
    assert step.event.history_only == (outcome == "RECORDED")


@pytest.mark.parametrize(
    ("key", "value", "extra", "stored", "unit"),
    [
        ("SOC", 74.5, {}, 74.5, "%"),
        ("IMPORT_ENERGY", 1500, {"unit": "Wh"}, 1.5, "kWh"),
        ("TEMPERATURE", 21, {"unit": "C"}, 21.0, "C"),
        ("TEMPERATURE", 21, {"unit": "C", "scale": 2.0}, 42.0, "C"),
        ("TEMPERATURE", 21, {}, 21.0, None),
        ("NOTE", "fine", {"scale": 2.0}, "fine", None),
        ("FLAG", True, {"scale": 2.0}, True, None),
        ("DEVICE_POWER_STATE", True, {}, "ON", None),
    ],
)
def test_a_measurement_is_kept_in_the_catalogues_unit_else_its_own(
    key: str, value: Any, extra: dict[str, Any], stored: Any, unit: str | None
) -> None:
    event = reported(one_step("RECORD_MEASUREMENT", key, value, **extra)).event
    assert (event.payload["value"], event.payload["unit"], event.payload["raw_value"]) == (stored, unit, value)
    assert event.subject == f"device/dev/{key}"


def test_a_measurement_that_scaling_makes_infinite_is_refused() -> None:
    assert isinstance(one_step("RECORD_MEASUREMENT", "BIG", 1e308, scale=10.0), Refused)


def test_a_report_without_single_target_names_its_candidates_and_waits_for_a_person() -> None:
    depot = site(action("UPDATE_POWER_SOURCE_LOAD", "ACTIVE_POWER"), sources=(SECOND_BATTERY, BATTERY))
    (refused,) = steps(depot, {"key": "ACTIVE_POWER", "value": 1})
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.code) == ("REMEDIATION", "AMBIGUOUS_DEPOT_BATTERY")
    assert refused.candidates == ("bess", "bess-2")
    assert refused.pointer == "/measurands/0"
    assert "bess, bess-2" in refused.detail


def test_a_packet_of_a_device_that_does_not_own_the_capability_is_refused_with_the_owners_name() -> None:
    bound = action("UPDATE_MICROGRID_STATE", "DER", capability="DER")
    (refused,) = steps(site(bound, points=(control_point("DER", "other"),)), {"key": "DER", "value": True})
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.code, refused.candidates) == ("REJECTED", "CAPABILITY_SOURCE_CONFLICT", ("other",))


def test_what_nobody_bound_is_ignored_and_so_is_what_was_disabled() -> None:
    depot = site(action("RECORD_MEASUREMENT", "SOC", enabled=False))
    assert steps(depot, {"key": "SOC", "value": 1}, {"key": "NOTE", "value": "x"}) == [Ignored("SOC"), Ignored("NOTE")]


def named(step: Step) -> tuple[str | None, str | None]:
    match step:
        case CapacityStep():
            return step.action.measurand, step.action.sensor_action_id
        case Ignored():
            return step.measurand, None
        case Refused():
            return step.measurand or step.pointer, step.sensor_action_id
        case Reported():
            return step.measurand, step.sensor_action_id


def test_steps_follow_the_packet_then_the_sensor_actions_with_refused_measurands_in_place() -> None:
    depot = site(
        action("UPDATE_POWER_SOURCE_LOAD", "ACTIVE_POWER", sensor_action_id=SECOND_ACTION_ID),
        action("RECORD_MEASUREMENT", "ACTIVE_POWER"),
        action("RECORD_MEASUREMENT", "SOC", sensor_action_id="00000000-0000-7000-8000-000000000003"),
        sources=(BATTERY,),
    )
    decided = steps(
        depot,
        {"key": "SOC", "value": 100.3},
        {"key": "UNBOUND", "value": 1},
        {"key": "ACTIVE_POWER", "value": 3},
        {"key": 7, "value": 3},
    )
    assert [named(step) for step in decided] == [
        ("SOC", None),
        ("UNBOUND", None),
        ("ACTIVE_POWER", ACTION_ID),
        ("ACTIVE_POWER", SECOND_ACTION_ID),
        ("/measurands/3/key", None),
    ]
    refused = decided[0]
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.code, refused.action) == ("REJECTED", "INVALID_VALUE", None)


def test_an_unfit_value_holds_none_of_its_neighbours_back() -> None:
    depot = site(
        action("UPDATE_POWER_SOURCE_LOAD", "NOTE"),
        action("RECORD_MEASUREMENT", "NOTE", sensor_action_id=SECOND_ACTION_ID),
        sources=(BATTERY,),
    )
    first, second = steps(depot, {"key": "NOTE", "value": "x"})
    assert isinstance(first, Refused)
    assert reported(second).outcome == "APPLIED"


CAPACITY = action("UPDATE_CIRCUIT_CAPACITY", "LIMIT")


@pytest.mark.parametrize(
    ("measurands", "expected"),
    [
        ({"LIMIT": 5}, (5, None, None)),
        ({"LIMIT": 5, "HEARTBEAT_STATUS": True, "FAIL_SAFE_CAPACITY": 2}, (5, True, 2)),
        ({"HEARTBEAT_STATUS": False}, (None, False, None)),
        ({"FAIL_SAFE_CAPACITY": 2}, (None, None, 2)),
        ({"LIMIT": "unfit", "HEARTBEAT_STATUS": False}, (None, False, None)),
        ({"LIMIT": None, "HEARTBEAT_STATUS": True}, (None, True, None)),
    ],
)
def test_a_heartbeat_and_a_fail_safe_value_act_with_and_without_a_usable_capacity(
    measurands: dict[str, Any], expected: tuple[Any, Any, Any]
) -> None:
    decided = steps(site(CAPACITY), *({"key": key, "value": value} for key, value in measurands.items()))
    (step,) = [step for step in decided if isinstance(step, CapacityStep)]
    found = tuple(one.value if one is not None else None for one in (step.capacity, step.heartbeat, step.fail_safe))
    assert found == expected
    recorded = {step.measurand for step in decided if isinstance(step, Reported)}
    assert recorded == {"HEARTBEAT_STATUS", "FAIL_SAFE_CAPACITY"}.intersection(measurands)


def test_a_capacity_without_a_single_circuit_does_not_listen_to_heartbeats() -> None:
    decided = steps(site(CAPACITY, circuit_id=None, circuits=()), {"key": "HEARTBEAT_STATUS", "value": True})
    assert not [step for step in decided if isinstance(step, CapacityStep)]


def test_a_model_output_is_reported_without_sensor_action_and_without_circuit_or_battery() -> None:
    gateway = Gateway("gw", "Gateway", "model", {"utilise_gen": "UPDATE_POWER_SOURCE_LOAD"}, {"utilise_gen": "bess"})
    (step,) = steps(site(sources=(BATTERY,), gateway=gateway), {"key": "utilise_gen", "value": 12})
    event = reported(step).event
    assert (event.event_type, event.payload["rule"]) == ("PowerSourceLoadReported", "OUTPUT_TRANSLATION")


def test_an_event_says_who_said_what_when_and_why_it_went_there() -> None:
    depot = site(action("UPDATE_POWER_SOURCE_LOAD", "ACTIVE_POWER"), sources=(BATTERY,))
    event = reported(steps(depot, {"key": "ACTIVE_POWER", "value": 5, "observed_at": ago(3)}, sent_at=ago(1))[0]).event
    assert (event.depot_id, event.microgrid_id, event.source_event_ref) == ("depot", MICROGRID_ID, "packet-1")
    assert (event.observed_at, event.sent_at) == (ago(3), ago(1))
    assert event.metadata == {"source": "test"}
    assert event.payload == {
        "device_id": "dev",
        "gateway_id": "gw",
        "measurand": "ACTIVE_POWER",
        "raw_value": 5,
        "quality": "GOOD",
        "rule": "DEPOT_BATTERY",
        "candidates": ("bess",),
        "power_source_id": "bess",
        "load_kw": 5.0,
    }


def test_the_same_packet_gives_the_same_steps() -> None:
    depot = site(action("RECORD_MEASUREMENT", "SOC"), CAPACITY, sources=(BATTERY,))
    one = packet({"key": "SOC", "value": 5}, {"key": "HEARTBEAT_STATUS", "value": True})
    assert report(one, plan(depot), NOW, {}) == report(one, plan(depot), NOW, {})
