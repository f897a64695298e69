"""Sensor actions and control points that a depot gets from a document, and laws of import and export without a database."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.site_registry.site_documents import site_documents

from microgrid.site_model import Site
from site_operations.import_site import SitePlan, plan_site
from site_registry.site_file import SiteDocument, export_site, parse_site


def _counter(start: int = 1) -> Callable[[], str]:
    numbers = itertools.count(start)
    return lambda: f"00000000-0000-7000-8000-{next(numbers):012d}"


def _parsed(document: dict[str, Any]) -> SiteDocument:
    parsed = parse_site(document)
    assert isinstance(parsed, SiteDocument), parsed
    return parsed


def _applied(document: dict[str, Any], before: Site | None = None, *, prune: bool = False, provision: bool = True) -> SitePlan:
    plan = plan_site(_parsed(document), before, provision=provision, prune=prune, new_id=_counter(1 if before is None else 1000))
    assert isinstance(plan, SitePlan), plan
    site = plan.site
    # As the database gives it back.
    ordered = replace(
        site,
        circuits=tuple(sorted(site.circuits, key=lambda circuit: (circuit.position, circuit.circuit_id))),
    )
    return replace(plan, site=ordered)


def _refused(document: dict[str, Any], before: Site | None = None) -> list[tuple[str, str]]:
    plan = plan_site(_parsed(document), before, provision=True, prune=False, new_id=_counter(1000))
    assert isinstance(plan, list)
    return [(fault.pointer, fault.code) for fault in plan]


def _document(devices: list[dict[str, Any]], **lists: Any) -> dict[str, Any]:
    return {
        "depot": {"depot_id": "d", "name": "D", "timezone": "UTC"},
        "circuits": [{"circuit_id": "c", "name": "C"}],
        "gateways": [{"gateway_id": "g", "name": "G"}],
        "devices": [{"gateway_id": "g", **device} for device in devices],
        **lists,
    }


def _rows(site: Site, device_id: str = "v") -> dict[str, tuple[str, bool, str]]:
    return {
        f"{row.measurand}>{row.capability or row.action}": (row.sensor_action_id, row.enabled, row.origin)
        for row in site.sensor_actions
        if row.device_id == device_id
    }


def _points(site: Site) -> dict[tuple[str, str], tuple[str, bool, float]]:
    assert site.microgrid is not None
    return {(p.device_id, p.capability): (p.measurand, p.enabled, p.stale_after_s) for p in site.microgrid.control_points}


_MONITOR = {"device_id": "v", "profile": "sitepwrmon"}
_CONTROLLER = {"device_id": "v", "profile": "bba-microgrid-controller"}


@settings(deadline=None, max_examples=40)
@given(site_documents())
def test_reading_back_what_was_written_changes_nothing(document: dict[str, Any]) -> None:
    site = _applied(document).site
    written = export_site(site)
    for prune in (False, True):
        again = _applied(written, site, prune=prune)
        assert (again.site, again.changes) == (site, ())


@settings(deadline=None, max_examples=40)
@given(site_documents())
def test_what_was_written_makes_the_same_site_in_an_empty_database(document: dict[str, Any]) -> None:
    written = export_site(_applied(document).site)
    assert export_site(_applied(written).site) == written


@settings(deadline=None, max_examples=40)
@given(site_documents())
def test_the_same_document_twice_changes_nothing(document: dict[str, Any]) -> None:
    site = _applied(document).site
    for prune in (False, True):
        assert _applied(document, site, prune=prune).site == site


@settings(deadline=None, max_examples=40)
@given(site_documents(), site_documents())
def test_a_pruning_import_makes_the_depot_the_document_whatever_was_before(first: dict[str, Any], second: dict[str, Any]) -> None:
    site = _applied(second, _applied(first).site, prune=True).site
    again = _applied(second, site, prune=True)
    assert again.site == site
    fresh = _applied(second).site
    for name in ("depot", "circuits", "charge_points", "connectors", "power_sources", "gateways", "devices"):
        assert getattr(site, name) == getattr(fresh, name)
    # Only who owns what by generation alone may differ: who had it keeps it.
    assert {(row.device_id, row.measurand, row.action, row.capability) for row in site.sensor_actions} == {
        (row.device_id, row.measurand, row.action, row.capability) for row in fresh.sensor_actions
    }


@settings(deadline=None, max_examples=40)
@given(site_documents(), site_documents(), st.booleans())
def test_every_scope_has_one_active_owner_and_every_owner_an_action(
    first: dict[str, Any], second: dict[str, Any], prune: bool
) -> None:
    before = _applied(first).site
    plan = plan_site(_parsed(second), before, provision=True, prune=prune, new_id=_counter(1000))
    if isinstance(plan, list):
        assert {fault.code for fault in plan} == {"CAPABILITY_SOURCE_CONFLICT"}
        assert not prune
        return
    assert plan.site.microgrid is not None
    points = plan.site.microgrid.control_points
    active = [(point.capability, point.node_id) for point in points if point.enabled]
    assert len(active) == len(set(active))
    keys = [(point.device_id, point.capability, point.node_id) for point in points]
    assert len(keys) == len(set(keys))


def test_a_profile_gives_actions_and_with_them_the_binding() -> None:
    plan = _applied(_document([_CONTROLLER]))
    assert {name for name, (_, enabled, origin) in _rows(plan.site).items() if enabled and origin == "PROFILE"} == {
        "AVAILABLE_CHARGING_CAPACITY>UPDATE_CIRCUIT_CAPACITY",
        "FAIL_SAFE_CAPACITY>RECORD_MEASUREMENT",
        "HEARTBEAT_STATUS>RECORD_MEASUREMENT",
        "DISPATCH_STATE>RECORD_MEASUREMENT",
        "LIMIT_DER_EXPORT>DER",
        "SOC>RECORD_MEASUREMENT",
        "DEVICE_POWER_STATE>RECORD_MEASUREMENT",
        "BESS_OPERATIONAL_MODE>PEAK_SHAVING",
    }
    assert _points(plan.site) == {
        ("v", "DER"): ("LIMIT_DER_EXPORT", True, 300.0),
        ("v", "PEAK_SHAVING"): ("BESS_OPERATIONAL_MODE", True, 300.0),
    }
    assert plan.notes == ()


def test_a_generated_binding_of_a_capability_that_is_owned_is_disabled_with_a_note() -> None:
    plan = _applied(_document([_MONITOR, {"device_id": "w", "profile": "sitepwrmon"}]))
    assert [enabled for _, enabled, _ in _rows(plan.site, "v").values()] == [True, True]
    assert [enabled for _, enabled, _ in _rows(plan.site, "w").values()] == [False, False]
    assert set(_points(plan.site)) == {("v", "PEAK_SHAVING"), ("v", "DER")}
    assert all("disabled: v owns" in note for note in plan.notes)
    assert len(plan.notes) == 2


def test_a_binding_takes_the_place_of_what_the_profile_gives_for_its_capability() -> None:
    feeds = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]
    bindings = [{"device_id": "v", "stale_after_s": 120, "capabilities": feeds}]
    plan = _applied(_document([_CONTROLLER], controller_bindings=bindings))
    rows = _rows(plan.site)
    assert "BESS_OPERATIONAL_MODE>PEAK_SHAVING" not in rows
    assert rows["PEAK_SHAVING>PEAK_SHAVING"][2] == "PERSON"
    assert rows["LIMIT_DER_EXPORT>DER"][2] == "PROFILE"
    assert _points(plan.site)["v", "PEAK_SHAVING"] == ("PEAK_SHAVING", True, 120.0)


@pytest.mark.parametrize(
    ("named", "prune", "expected"), [({}, False, 120.0), ({}, True, 300.0), ({"stale_after_s": 60}, False, 60.0)]
)
def test_what_a_binding_leaves_out_stays_unless_the_document_is_to_be_the_depot(
    named: dict[str, Any], prune: bool, expected: float
) -> None:
    feeds = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]
    first = {"device_id": "v", "stale_after_s": 120, "capabilities": feeds}
    before = _applied(_document([_CONTROLLER], controller_bindings=[first])).site
    again = {"device_id": "v", "capabilities": feeds, **named}
    after = _applied(_document([_CONTROLLER], controller_bindings=[again]), before, prune=prune).site
    assert _points(after)["v", "PEAK_SHAVING"] == ("PEAK_SHAVING", True, expected)


def test_a_binding_added_later_changes_the_generated_action_and_keeps_its_id() -> None:
    before = _applied(_document([_CONTROLLER])).site
    feeds = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]
    after = _applied(_document([_CONTROLLER], controller_bindings=[{"device_id": "v", "capabilities": feeds}]), before).site
    assert _rows(after)["PEAK_SHAVING>PEAK_SHAVING"][0] == _rows(before)["BESS_OPERATIONAL_MODE>PEAK_SHAVING"][0]
    assert _points(after)["v", "PEAK_SHAVING"] == ("PEAK_SHAVING", True, 300.0)


def test_a_sensor_action_takes_the_place_of_what_the_profile_gives_for_its_measurand() -> None:
    actions = [{"device_id": "v", "measurand": "SOC", "action": "UPDATE_POWER_SOURCE_LOAD"}]
    rows = _rows(_applied(_document([_CONTROLLER], sensor_actions=actions)).site)
    assert "SOC>RECORD_MEASUREMENT" not in rows
    assert rows["SOC>UPDATE_POWER_SOURCE_LOAD"][2] == "PERSON"


def test_an_enabled_action_that_feeds_a_capability_is_a_binding_too() -> None:
    actions = [{"device_id": "v", "measurand": "MY_FLAG", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"}]
    plan = _applied(_document([{"device_id": "v"}], sensor_actions=actions))
    assert _points(plan.site) == {("v", "DER"): ("MY_FLAG", True, 300.0)}


@pytest.mark.parametrize("change", [{"scale": 3.0}, {"enabled": False}, {"action": "UPDATE_POWER_SOURCE_LOAD"}])
def test_what_a_person_edited_stays_when_the_file_does_not_name_it(change: dict[str, Any]) -> None:
    document = _document([_CONTROLLER])
    site = _applied(document).site
    edited = replace(
        site,
        sensor_actions=tuple(
            replace(row, origin="PERSON", **change) if row.measurand == "SOC" else row for row in site.sensor_actions
        ),
    )
    assert _applied(document, edited).site == edited


def test_what_a_person_edited_yields_to_the_file_that_names_it() -> None:
    site = _applied(_document([_CONTROLLER])).site
    edited = replace(site, sensor_actions=tuple(replace(row, origin="PERSON", scale=3.0) for row in site.sensor_actions))
    actions = [{"device_id": "v", "measurand": "SOC", "action": "RECORD_MEASUREMENT", "scale": 2}]
    after = _applied(_document([_CONTROLLER], sensor_actions=actions), edited).site
    assert {row.measurand: row.scale for row in after.sensor_actions}["SOC"] == 2.0
    assert {row.measurand: row.scale for row in after.sensor_actions}["DISPATCH_STATE"] == 3.0
    assert _rows(after)["SOC>RECORD_MEASUREMENT"][0] == _rows(site)["SOC>RECORD_MEASUREMENT"][0]


def test_a_binding_that_a_person_made_blocks_the_profiles_for_the_same_capability() -> None:
    feeds = [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]
    site = _applied(_document([_CONTROLLER], controller_bindings=[{"device_id": "v", "capabilities": feeds}])).site
    assert _applied(_document([_CONTROLLER]), site).site == site


def test_a_profile_that_goes_disables_what_it_gave_and_the_binding() -> None:
    site = _applied(_document([_MONITOR])).site
    plan = _applied(_document([{"device_id": "v", "profile": "generic"}]), site)
    assert [enabled for _, enabled, _ in _rows(plan.site).values()] == [False, False]
    assert [enabled for _, enabled, _ in _points(plan.site).values()] == [False, False]
    assert len(plan.notes) == 2


def test_disabling_the_action_disables_its_binding() -> None:
    site = _applied(_document([_MONITOR])).site
    actions = [{"device_id": "v", "measurand": "DER", "action": "UPDATE_MICROGRID_STATE", "capability": "DER", "enabled": False}]
    after = _applied(_document([_MONITOR], sensor_actions=actions), site).site
    assert _points(after)["v", "DER"] == ("DER", False, 300.0)
    assert _points(after)["v", "PEAK_SHAVING"] == ("PEAK_SHAVING", True, 300.0)


def test_a_binding_against_the_active_owner_is_refused_and_names_both() -> None:
    site = _applied(_document([_MONITOR])).site
    feeds = [{"capability": "DER", "measurand": "DER"}]
    document = _document([_MONITOR, {"device_id": "w"}], controller_bindings=[{"device_id": "w", "capabilities": feeds}])
    assert _refused(document, site) == [("/controller_bindings/0/capabilities/0", "CAPABILITY_SOURCE_CONFLICT")]
    plan = plan_site(_parsed(document), site, provision=True, prune=False, new_id=_counter())
    assert isinstance(plan, list)
    assert "owned by v" in plan[0].detail
    assert "claimed by w" in plan[0].detail
    document["controller_bindings"][0]["enabled"] = False
    assert _points(_applied(document, site).site)["w", "DER"] == ("DER", False, 300.0)


def test_two_enabled_actions_of_two_devices_for_one_capability_are_refused() -> None:
    actions = [
        {"device_id": device, "measurand": "DER", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"} for device in ("v", "w")
    ]
    document = _document([{"device_id": "v"}, {"device_id": "w"}], sensor_actions=actions)
    assert _refused(document) == [("/sensor_actions/1", "CAPABILITY_SOURCE_CONFLICT")]


def test_a_file_moves_ownership_when_it_disables_the_owner() -> None:
    site = _applied(_document([_MONITOR])).site
    feeds = [{"capability": "DER", "measurand": "DER"}]
    bindings = [{"device_id": "v", "enabled": False, "capabilities": feeds}, {"device_id": "w", "capabilities": feeds}]
    after = _applied(_document([_MONITOR, {"device_id": "w"}], controller_bindings=bindings), site).site
    assert _points(after)["v", "DER"][1] is False
    assert _points(after)["w", "DER"][1] is True


def test_pruning_moves_ownership_from_a_generated_owner_to_the_one_that_the_document_names() -> None:
    site = _applied(_document([_MONITOR])).site
    feeds = [{"capability": "DER", "measurand": "DER"}]
    document = _document([_MONITOR, {"device_id": "w"}], controller_bindings=[{"device_id": "w", "capabilities": feeds}])
    after = _applied(document, site, prune=True)
    assert ("v", "DER") not in _points(after.site)
    assert _rows(after.site)["DER>DER"][1] is False
    assert after.notes == ("UPDATE_MICROGRID_STATE(DER) of v by DER is disabled: w owns DER",)


def test_a_scope_that_the_microgrid_does_not_have_is_refused() -> None:
    feeds = [{"capability": "DER", "measurand": "DER"}]
    node_id = "00000000-0000-7000-8000-00000000ffff"
    document = _document([{"device_id": "v"}], controller_bindings=[{"device_id": "v", "node_id": node_id, "capabilities": feeds}])
    assert _refused(document) == [("/controller_bindings/0/node_id", "UNKNOWN_NODE")]


def test_a_binding_of_one_grid_connection_goes_with_it() -> None:
    site = _applied(_document([{"device_id": "v"}])).site
    assert site.microgrid is not None
    node_id = site.microgrid.nodes[0].node_id
    feeds = [{"capability": "DER", "measurand": "DER"}]
    document = _document([{"device_id": "v"}], controller_bindings=[{"device_id": "v", "node_id": node_id, "capabilities": feeds}])
    bound = _applied(document, site).site
    assert _applied(export_site(bound), bound).site == bound
    under = _document([{"device_id": "v"}])
    under["circuits"] = [{"circuit_id": "n", "name": "N"}, {"circuit_id": "c", "name": "C", "parent_circuit_id": "n"}]
    after = _applied(under, bound).site
    assert after.microgrid is not None
    assert after.microgrid.control_points == ()
    assert after.sensor_actions == ()


def test_without_provisioning_there_are_actions_and_no_bindings_until_a_later_import() -> None:
    document = _document([_MONITOR])
    legacy = _applied(document, provision=False).site
    assert legacy.microgrid is None
    assert [enabled for _, enabled, _ in _rows(legacy).values()] == [True, True]
    assert set(_points(_applied(document, legacy).site)) == {("v", "PEAK_SHAVING"), ("v", "DER")}


@pytest.mark.parametrize("circuits", [None, [], [{"circuit_id": "c", "name": " "}]])
def test_a_depot_without_a_valid_top_level_circuit_is_refused(circuits: list[dict[str, Any]] | None) -> None:
    document = _document([])
    if circuits is None:
        del document["circuits"]
    else:
        document["circuits"] = circuits
    assert _refused(document) == [("/circuits", "NO_TOP_LEVEL_CIRCUIT")]
    assert _applied(document, provision=False).site.microgrid is None


def test_the_last_top_level_circuit_may_go_from_a_microgrid_that_exists() -> None:
    site = _applied(_document([])).site
    document = _document([])
    document["circuits"] = []
    after = _applied(document, site, prune=True).site
    assert after.microgrid is not None
    assert (after.microgrid.status, after.microgrid.nodes) == ("NO_GRID_CONNECTION", ())


_FEEDING = {"device_id": "v", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"}
_BY_FLAG = {**_FEEDING, "measurand": "FLAG"}


def test_a_disabled_binding_has_the_measurand_of_the_action_that_the_file_names() -> None:
    bound = {"device_id": "v", "enabled": False, "capabilities": [{"capability": "DER", "measurand": "DER"}]}
    before = _applied(_document([{"device_id": "v"}], controller_bindings=[bound])).site
    after = _applied(_document([{"device_id": "v"}], sensor_actions=[{**_BY_FLAG, "enabled": False}]), before).site
    assert _points(after) == {("v", "DER"): ("FLAG", False, 300.0)}


def test_a_binding_goes_with_the_last_action_that_feeds_it() -> None:
    before = _applied(_document([_MONITOR])).site
    recorded = {"device_id": "v", "measurand": "DER", "action": "RECORD_MEASUREMENT"}
    assert set(_points(_applied(_document([_MONITOR], sensor_actions=[recorded]), before).site)) == {("v", "PEAK_SHAVING")}


def test_a_row_never_becomes_what_another_row_of_the_device_was() -> None:
    before = _applied(_document([{"device_id": "v"}], sensor_actions=[{**_FEEDING, "measurand": "DER"}])).site
    bound = {"device_id": "v", "enabled": False, "capabilities": [{"capability": "DER", "measurand": "DER"}]}
    said = _document([{"device_id": "v"}], sensor_actions=[{**_BY_FLAG, "enabled": False}], controller_bindings=[bound])
    kept = {action.measurand: action.sensor_action_id for action in before.sensor_actions}
    after = {action.measurand: action.sensor_action_id for action in _applied(said, before).site.sensor_actions}
    assert (after["DER"], set(after)) == (kept["DER"], {"DER", "FLAG"})


def test_a_binding_and_its_action_that_disagree_about_being_enabled_are_a_contradiction() -> None:
    bound = {"device_id": "v", "capabilities": [{"capability": "DER", "measurand": "DER"}]}
    said = _document(
        [{"device_id": "v"}], sensor_actions=[{**_FEEDING, "measurand": "DER", "enabled": False}], controller_bindings=[bound]
    )
    faults = parse_site(said)
    assert isinstance(faults, list)
    assert [(fault.pointer, fault.code) for fault in faults] == [("/controller_bindings/0/enabled", "INVALID_VALUE")]
