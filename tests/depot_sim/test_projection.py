"""What each device says of a moment, and what a depot lacks to carry a scenario."""

from __future__ import annotations

from typing import Any

import pytest
from tests.depot_sim.depots import preset, preset_depot, small

from depot_sim.configuration import Depot, depot_from
from depot_sim.presets import preset_names
from depot_sim.projection import missing, say
from depot_sim.story import moments

_SOURCES = [
    {"power_source_id": "bess", "circuit_id": "gc", "kind": "BATTERY"},
    {"power_source_id": "sun", "circuit_id": "k", "kind": "SOLAR"},
    {"power_source_id": "grid", "circuit_id": "gc", "kind": "GRID"},
]


def _depot(*actions: dict[str, Any], circuit: str | None = "gc", gateway: dict[str, Any] | None = None, **more: Any) -> Depot:
    site = {
        "depot": {"depot_id": "depot-1"},
        "circuits": [{"circuit_id": "gc", "safe_capacity_kw": None}, {"circuit_id": "k", "parent_circuit_id": "gc"}],
        "power_sources": _SOURCES,
        "gateways": [{"gateway_id": "gw", **(gateway or {})}],
        "devices": [{"device_id": "dev", "gateway_id": "gw", "circuit_id": circuit}],
        **more,
    }
    return depot_from(site, [{"device_id": "dev", "enabled": True, **action} for action in actions])


def _said(depot: Depot, body: str) -> dict[str, Any]:
    moment = next(iter(moments(small(body), 1)))
    return {one["key"]: one["value"] for one in say(depot.devices[0], moment.state)}


_LOAD = {"measurand": "ACTIVE_POWER", "action": "UPDATE_POWER_SOURCE_LOAD"}
_STATE = {"measurand": "DEVICE_POWER_STATE", "action": "UPDATE_POWER_SOURCE_STATE"}
_CAPACITY = {"measurand": "AVAILABLE_CHARGING_CAPACITY", "action": "UPDATE_CIRCUIT_CAPACITY"}
_ALL = "initial: {battery: {power_state: ON, power_kw: -50}, solar: {power_state: FAULT, power_kw: 30}, site: {base_kw: 200}}"


@pytest.mark.parametrize(
    ("circuit", "more", "power_kw"),
    [
        ("gc", {}, -50),
        ("k", {}, 0),
        (None, {}, -50),
        ("k", {"power_source_id": "bess"}, -50),
        ("k", {"power_source_id": "grid"}, 150),
    ],
)
def test_power_is_that_of_the_source_that_routing_finds(circuit: str | None, more: dict[str, Any], power_kw: float) -> None:
    assert _said(_depot({**_LOAD, **more}, circuit=circuit), _ALL)["ACTIVE_POWER"] == power_kw


def test_power_that_is_only_recorded_is_the_load_of_the_site() -> None:
    assert _said(_depot({"measurand": "ACTIVE_POWER", "action": "RECORD_MEASUREMENT"}), _ALL)["ACTIVE_POWER"] == 200


@pytest.mark.parametrize(("circuit", "state"), [("gc", "ON"), ("k", "FAULT")])
def test_a_power_state_is_that_of_the_source(circuit: str, state: str) -> None:
    assert _said(_depot(_STATE, circuit=circuit), _ALL)["DEVICE_POWER_STATE"] == state


def test_a_controller_also_says_its_heartbeat_and_fail_safe_capacity() -> None:
    body = "initial: {controller: {heartbeat: true, available_kw: 300, fail_safe_kw: 50}}"
    expected = {"AVAILABLE_CHARGING_CAPACITY": 300, "FAIL_SAFE_CAPACITY": 50, "HEARTBEAT_STATUS": True}
    assert _said(_depot(_CAPACITY), body) == expected


def test_what_is_not_known_and_what_nobody_asks_for_is_not_said() -> None:
    body = "initial: {controller: {heartbeat: true, available_kw: null, peak_shaving: true}}"
    assert _said(_depot(_CAPACITY), body) == {"HEARTBEAT_STATUS": True}


def test_a_silent_controller_says_nothing_and_a_meter_goes_on() -> None:
    body = "initial: {controller: {silent: true, heartbeat: true, available_kw: 5}, battery: {power_state: ON, power_kw: 0}}"
    assert _said(_depot(_CAPACITY), body) == {}
    assert _said(_depot(_LOAD), body) == {"ACTIVE_POWER": 0}


@pytest.mark.parametrize("site_model_name", [None, "model-1"])
def test_a_site_model_changes_nothing_but_its_outputs(site_model_name: str | None) -> None:
    gateway = {
        "site_model_name": site_model_name,
        "model_outputs": {"utilise_gen_capacity_dynamic": "UPDATE_POWER_SOURCE_LOAD"},
        "output_translation": {"utilise_gen_capacity_dynamic": "sun"},
    }
    said = _said(_depot(_LOAD, gateway=gateway), _ALL.replace("FAULT", "ON"))
    assert said.pop("utilise_gen_capacity_dynamic", None) == (-30 if site_model_name else None)
    assert said == {"ACTIVE_POWER": -50}


def test_a_disabled_device_or_action_is_not_played() -> None:
    devices = [{"device_id": "dev", "gateway_id": "gw", "enabled": False}]
    assert _depot(_LOAD, devices=devices).devices == ()
    assert _depot({**_LOAD, "enabled": False}).devices[0].measurands == ()


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_s_depot_carries_it(name: str) -> None:
    assert missing(preset(name), preset_depot(name)) == []


def test_everything_that_a_depot_lacks_is_named() -> None:
    body = (
        "initial: {controller: {heartbeat: true, available_kw: 5, peak_shaving: true}, battery: {soc_pct: 5}}\n"
        "expectations: [{at: 5s, card.DER: ON, power_source.GENERATOR.state: ON, measurement.SOC: 5, circuit.source: NONE}]"
    )
    told = missing(small(body), _depot(_LOAD))
    named = ("HEARTBEAT_STATUS", "AVAILABLE_CHARGING_CAPACITY", "PEAK_SHAVING", "sends SOC", "one controller", "bound to DER")
    for word in (*named, "0 power sources of kind GENERATOR", "record SOC", "sets a circuit's capacity"):
        assert any(word in sentence for sentence in told), (word, told)


def test_a_fail_safe_value_must_be_somewhere() -> None:
    body = "initial: {controller: {heartbeat: true, available_kw: 5}}"
    (told,) = missing(small(body), _depot(_CAPACITY))
    assert "there is no fail-safe value" in told
    assert "gc has no safe_capacity_kw" in told
    safe = [{"circuit_id": "gc", "safe_capacity_kw": 0}]
    assert missing(small(body), _depot(_CAPACITY, circuits=safe)) == []
    assert missing(small(body.replace("available_kw: 5", "available_kw: 5, fail_safe_kw: 1")), _depot(_CAPACITY)) == []
