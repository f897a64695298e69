"""Every rule that finds a target, with no, one and several candidates; none of it needs a site model."""

from __future__ import annotations

import pytest
from tests.microgrid.sites import (
    BATTERY,
    CONTROL_POINT_ID,
    GRID,
    MICROGRID_ID,
    NODE_ID,
    SECOND_BATTERY,
    SOLAR,
    action,
    control_point,
    on,
    plan,
    site,
)

from microgrid.routing import Target, Unroutable, plan_device, resolve_capability, resolve_circuit, resolve_power_source
from microgrid.site_model import Circuit, ControlPoint, Gateway, PowerSource, Site

Sources = tuple[PowerSource, ...]
TRANSLATING = Gateway("gw", "Gateway", None, {}, {"ACTIVE_POWER": "solar"})
NOTHING: Sources = ()
FOUND = "found"
REMEDIATION = "REMEDIATION"


def outcome(decided: Target | Unroutable) -> tuple[str, str, tuple[str, ...]]:
    if isinstance(decided, Target):
        return FOUND, decided.rule, decided.candidates
    return decided.outcome, decided.code, decided.candidates


@pytest.mark.parametrize(
    ("explicit", "sources", "gateway", "expected"),
    [
        # rule 0 decides alone, before whatever the other rules would say
        ("solar", (SOLAR,), None, (FOUND, "EXPLICIT", ("solar",))),
        ("solar", (on("gc-1", BATTERY), SOLAR), None, (FOUND, "EXPLICIT", ("solar",))),
        ("grid", (GRID,), None, (FOUND, "EXPLICIT", ("grid",))),
        ("elsewhere", (on("gc-1", BATTERY),), TRANSLATING, (REMEDIATION, "INVALID_POWER_SOURCE", ("elsewhere",))),
        ("elsewhere", NOTHING, None, (REMEDIATION, "INVALID_POWER_SOURCE", ("elsewhere",))),
        # rule 1
        (None, (on("gc-1", SOLAR),), None, (FOUND, "CIRCUIT", ("solar",))),
        (None, (on("gc-1", SOLAR), BATTERY), TRANSLATING, (FOUND, "CIRCUIT", ("solar",))),
        (None, (GRID, on("gc-1", SOLAR)), None, (FOUND, "CIRCUIT", ("solar",))),
        (
            None,
            (on("gc-1", SOLAR), on("gc-1", BATTERY)),
            TRANSLATING,
            (REMEDIATION, "AMBIGUOUS_CIRCUIT_POWER_SOURCE", ("bess", "solar")),
        ),
        # rule 2
        (None, (BATTERY,), None, (FOUND, "DEPOT_BATTERY", ("bess",))),
        (None, (GRID, BATTERY), None, (FOUND, "DEPOT_BATTERY", ("bess",))),
        (None, (BATTERY, SOLAR), TRANSLATING, (FOUND, "DEPOT_BATTERY", ("bess",))),
        (None, (on("k-1", BATTERY),), None, (FOUND, "DEPOT_BATTERY", ("bess",))),
        (
            None,
            (SECOND_BATTERY, BATTERY, SOLAR),
            TRANSLATING,
            (REMEDIATION, "AMBIGUOUS_DEPOT_BATTERY", ("bess", "bess-2")),
        ),
        # rule 3
        (None, (SOLAR,), TRANSLATING, (FOUND, "OUTPUT_TRANSLATION", ("solar",))),
        (None, (GRID, SOLAR), TRANSLATING, (FOUND, "OUTPUT_TRANSLATION", ("solar",))),
        (None, NOTHING, TRANSLATING, (REMEDIATION, "INVALID_POWER_SOURCE", ("solar",))),
        # no rule
        (None, NOTHING, None, (REMEDIATION, "NO_POWER_SOURCE", ())),
        (None, (GRID,), None, (REMEDIATION, "NO_POWER_SOURCE", ())),
        (None, (SOLAR,), None, (REMEDIATION, "NO_POWER_SOURCE", ())),
        (None, (SOLAR,), Gateway("gw", "Gateway", None, {}, {"SOC": "solar"}), (REMEDIATION, "NO_POWER_SOURCE", ())),
    ],
)
def test_the_first_rule_with_a_candidate_decides_the_power_source(
    explicit: str | None, sources: Sources, gateway: Gateway | None, expected: tuple[str, str, tuple[str, ...]]
) -> None:
    depot = site(sources=sources, gateway=gateway)
    assert depot.gateways[0].site_model_name is None
    assert outcome(resolve_power_source(depot, depot.devices[0], "ACTIVE_POWER", explicit)) == expected


def test_a_device_without_circuit_starts_at_the_batteries_of_its_depot() -> None:
    depot = site(sources=(SOLAR, BATTERY), circuit_id=None)
    assert outcome(resolve_power_source(depot, depot.devices[0], "SOC")) == (FOUND, "DEPOT_BATTERY", ("bess",))


TWO_TOP = (Circuit("gc-1", None, "One", 0), Circuit("gc-2", None, "Two", 1), Circuit("k-1", "gc-1", "Below", 0))
ONE_TOP = (Circuit("gc-1", None, "One", 0), Circuit("k-1", "gc-1", "Below", 0))


@pytest.mark.parametrize(
    ("explicit", "linked", "circuits", "expected"),
    [
        ("k-1", "gc-1", TWO_TOP, (FOUND, "EXPLICIT", ("k-1",))),
        ("elsewhere", "gc-1", TWO_TOP, (REMEDIATION, "CIRCUIT_NOT_FOUND", ("elsewhere",))),
        (None, "k-1", TWO_TOP, (FOUND, "DEVICE_CIRCUIT", ("k-1",))),
        (None, "elsewhere", ONE_TOP, (REMEDIATION, "CIRCUIT_NOT_FOUND", ("elsewhere",))),
        (None, None, ONE_TOP, (FOUND, "ONLY_TOP_LEVEL_CIRCUIT", ("gc-1",))),
        (None, None, TWO_TOP, (REMEDIATION, "AMBIGUOUS_CIRCUIT", ("gc-1", "gc-2"))),
        (None, None, (), (REMEDIATION, "CIRCUIT_NOT_FOUND", ())),
    ],
)
def test_the_circuit_is_the_actions_own_else_the_devices_else_the_only_top_level_one(
    explicit: str | None, linked: str | None, circuits: tuple[Circuit, ...], expected: tuple[str, str, tuple[str, ...]]
) -> None:
    depot = site(circuit_id=linked, circuits=circuits)
    assert outcome(resolve_circuit(depot, depot.devices[0], explicit)) == expected


@pytest.mark.parametrize(
    ("points", "node_id", "expected"),
    [
        ((control_point("PEAK_SHAVING"),), None, (FOUND, "DEPOT_MICROGRID", (MICROGRID_ID,))),
        ((), None, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("DER"),), None, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("PEAK_SHAVING", enabled=False),), None, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("PEAK_SHAVING", "other"),), None, ("REJECTED", "CAPABILITY_SOURCE_CONFLICT", ("other",))),
        ((control_point("PEAK_SHAVING", "other", enabled=False),), None, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("PEAK_SHAVING"),), NODE_ID, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("PEAK_SHAVING", node_id=NODE_ID),), None, (REMEDIATION, "CAPABILITY_NOT_BOUND", ())),
        ((control_point("PEAK_SHAVING", node_id=NODE_ID),), NODE_ID, (FOUND, "DEPOT_MICROGRID", (MICROGRID_ID,))),
    ],
)
def test_only_the_owner_of_the_active_control_point_speaks_for_a_capability(
    points: tuple[ControlPoint, ...], node_id: str | None, expected: tuple[str, str, tuple[str, ...]]
) -> None:
    depot = site(points=points)
    decided = resolve_capability(depot, depot.devices[0], "PEAK_SHAVING", node_id)
    assert outcome(decided) == expected
    if isinstance(decided, Target):
        assert decided.target_id == CONTROL_POINT_ID


CONFLICT = ("REJECTED", "CAPABILITY_SOURCE_CONFLICT")
NOT_BOUND = (REMEDIATION, "CAPABILITY_NOT_BOUND")
FED_BY_FLAG = control_point("DER", measurand="FLAG")
FED_IN_A_SCOPE = control_point("DER", measurand="FLAG", node_id=NODE_ID)


@pytest.mark.parametrize(
    ("point", "measurand", "node_id", "expected"),
    [
        (FED_BY_FLAG, "FLAG", None, (FOUND, "DEPOT_MICROGRID")),
        (FED_BY_FLAG, "DER", None, CONFLICT),
        (FED_BY_FLAG, "BESS_OPERATIONAL_MODE", None, CONFLICT),
        (FED_BY_FLAG, "FLAG", NODE_ID, NOT_BOUND),
        (FED_IN_A_SCOPE, "FLAG", NODE_ID, (FOUND, "DEPOT_MICROGRID")),
        (FED_IN_A_SCOPE, "DER", NODE_ID, CONFLICT),
        (FED_IN_A_SCOPE, "FLAG", None, NOT_BOUND),
        (control_point("DER", "other", measurand="FLAG"), "FLAG", None, CONFLICT),
        (control_point("DER", "other", measurand="FLAG"), "DER", None, CONFLICT),
        (control_point("DER", measurand="FLAG", enabled=False), "FLAG", None, NOT_BOUND),
        (control_point("DER", measurand="FLAG", enabled=False), "DER", None, NOT_BOUND),
    ],
)
def test_only_the_measurand_of_the_control_point_feeds_a_capability_and_no_second_one_of_the_owner(
    point: ControlPoint, measurand: str, node_id: str | None, expected: tuple[str, str]
) -> None:
    feeding = action("UPDATE_MICROGRID_STATE", measurand, capability="DER", node_id=node_id)
    depot = site(feeding, points=(point,))
    (planned,) = plan_device(depot, depot.devices[0]).actions[measurand]
    assert outcome(planned.target)[:2] == expected
    assert (planned.control_point_id is not None) == (expected[0] == FOUND)


def test_a_depot_without_microgrid_has_none_to_report_for() -> None:
    depot = site(with_microgrid=False)
    decided = resolve_capability(depot, depot.devices[0], "DER", None)
    assert outcome(decided) == (REMEDIATION, "MICROGRID_NOT_FOUND", ())


MODEL = Gateway("gw", "Gateway", "model", {"GEN": "UPDATE_POWER_SOURCE_LOAD"}, {"GEN": "solar"})
WITHOUT_MODEL = Gateway("gw", "Gateway", None, {"GEN": "UPDATE_POWER_SOURCE_LOAD"}, {"GEN": "solar"})


def planned(depot: Site, measurand: str) -> list[tuple[str | None, str, tuple[str, str, tuple[str, ...]]]]:
    return [(one.sensor_action_id, one.action, outcome(one.target)) for one in plan(depot).actions.get(measurand, ())]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((SOLAR,), (FOUND, "OUTPUT_TRANSLATION", ("solar",))),
        ((on("gc-1", BATTERY), SOLAR), (FOUND, "OUTPUT_TRANSLATION", ("solar",))),
        ((BATTERY, SECOND_BATTERY, SOLAR), (FOUND, "OUTPUT_TRANSLATION", ("solar",))),
        ((BATTERY,), (REMEDIATION, "INVALID_POWER_SOURCE", ("solar",))),
    ],
)
def test_a_model_output_always_goes_where_the_translation_says(
    sources: Sources, expected: tuple[str, str, tuple[str, ...]]
) -> None:
    assert planned(site(sources=sources, gateway=MODEL), "GEN") == [(None, "UPDATE_POWER_SOURCE_LOAD", expected)]


def test_a_model_output_without_translation_has_no_power_source_even_beside_a_single_battery() -> None:
    gateway = Gateway("gw", "Gateway", "model", {"GEN": "UPDATE_POWER_SOURCE_STATE"}, {})
    expected = (None, "UPDATE_POWER_SOURCE_STATE", (REMEDIATION, "NO_POWER_SOURCE", ()))
    assert planned(site(sources=(BATTERY,), gateway=gateway), "GEN") == [expected]


def test_a_sensor_action_for_a_model_outputs_key_is_not_run_besides() -> None:
    depot = site(action("UPDATE_POWER_SOURCE_LOAD", "GEN", power_source_id="bess"), sources=(BATTERY, SOLAR), gateway=MODEL)
    assert [one[0] for one in planned(depot, "GEN")] == [None]


def test_a_capacity_action_for_a_model_outputs_key_does_not_listen_to_heartbeats_either() -> None:
    depot = site(action("UPDATE_CIRCUIT_CAPACITY", "GEN"), sources=(SOLAR,), gateway=MODEL)
    assert plan(depot).capacity_actions == ()


@pytest.mark.parametrize("gateway", [WITHOUT_MODEL, Gateway("gw", "Gateway", "model", {}, {"GEN": "solar"})])
def test_without_a_site_model_output_the_sensor_action_runs(gateway: Gateway) -> None:
    depot = site(action("UPDATE_POWER_SOURCE_LOAD", "GEN"), sources=(BATTERY, SOLAR), gateway=gateway)
    assert [one[2] for one in planned(depot, "GEN")] == [(FOUND, "DEPOT_BATTERY", ("bess",))]


def test_a_disabled_action_is_not_planned() -> None:
    assert planned(site(action("RECORD_MEASUREMENT", "SOC", enabled=False)), "SOC") == []


def test_what_a_capacity_depends_on_is_recorded_once_whether_bound_or_not() -> None:
    capacity = action("UPDATE_CIRCUIT_CAPACITY", "AVAILABLE_CHARGING_CAPACITY")
    bound = action("RECORD_MEASUREMENT", "HEARTBEAT_STATUS", sensor_action_id="00000000-0000-7000-8000-000000000002")
    decided = plan_device(depot := site(capacity, bound), depot.devices[0])
    assert [one.sensor_action_id for one in decided.actions["HEARTBEAT_STATUS"]] == [bound.sensor_action_id]
    assert [one.sensor_action_id for one in decided.actions["FAIL_SAFE_CAPACITY"]] == [None]


def test_a_device_without_capacity_action_gets_nothing_recorded_that_nobody_bound() -> None:
    assert plan(site(action("RECORD_MEASUREMENT", "SOC"))).actions.keys() == {"SOC"}
