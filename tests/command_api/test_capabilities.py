"""A device says what it measures, and what a person made of that stays."""

from __future__ import annotations

from typing import Any

import pytest
from tests.command_api.conftest import Origin, codes

from event_store.database import Pool

_BOTH = [{"key": "PEAK_SHAVING", "type": "boolean"}, {"key": "DER", "type": "boolean"}]


async def _put(origin: Origin, *measurands: dict[str, Any], device: str = "dev") -> dict[str, dict[str, Any]]:
    answered = await origin.put(f"/api/device/{device}/capabilities", {"measurands": list(measurands)})
    assert answered["measurands"] == [{"unit": None, **one} for one in measurands]
    return {one["measurand"]: one for one in answered["sensor_actions"]}


@pytest.fixture
async def bare(origin: Origin, site: dict[str, Any]) -> None:
    """The device of the site without any action."""
    await origin.delete(f"/api/sensor_action/{site['sensor_action']['sensor_action_id']}")


async def _owners(pool: Pool) -> list[tuple[str, str, bool]]:
    rows = await pool.fetch("SELECT device_id, capability, enabled FROM capability_control_point ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_capabilities_are_fed_and_bound_and_the_rest_is_recorded(origin: Origin, bare: None, pool: Pool) -> None:
    actions = await _put(origin, *_BOTH, {"key": "SOC", "type": "number", "unit": "%"}, {"key": "own_flag", "type": "boolean"})
    assert {key: (one["action"], one["capability"], one["enabled"]) for key, one in actions.items()} == {
        "PEAK_SHAVING": ("UPDATE_MICROGRID_STATE", "PEAK_SHAVING", True),
        "DER": ("UPDATE_MICROGRID_STATE", "DER", True),
        "SOC": ("RECORD_MEASUREMENT", None, True),
        "own_flag": ("RECORD_MEASUREMENT", None, True),
    }
    assert await _owners(pool) == [("dev", "DER", True), ("dev", "PEAK_SHAVING", True)]


async def test_said_again_it_changes_nothing(origin: Origin, bare: None, pool: Pool) -> None:
    first = await _put(origin, *_BOTH)
    before = await pool.fetchval("SELECT count(*) FROM site_change")
    assert await _put(origin, *_BOTH) == first
    assert await pool.fetchval("SELECT count(*) FROM site_change") == before


async def test_what_a_person_edited_or_deleted_stays_so(origin: Origin, bare: None) -> None:
    soc, power = {"key": "SOC", "type": "number"}, {"key": "ACTIVE_POWER", "type": "number"}
    actions = await _put(origin, soc, power, *_BOTH)
    await origin.patch(f"/api/sensor_action/{actions['SOC']['sensor_action_id']}", {"scale": 2, "enabled": False})
    await origin.patch(f"/api/sensor_action/{actions['DER']['sensor_action_id']}", {"enabled": False})
    await origin.delete(f"/api/sensor_action/{actions['ACTIVE_POWER']['sensor_action_id']}")
    again = await _put(origin, soc, power, *_BOTH)
    assert (again["SOC"]["scale"], again["SOC"]["enabled"], again["DER"]["enabled"]) == (2, False, False)
    assert "ACTIVE_POWER" not in again


async def test_a_measurand_that_is_gone_disables_its_action_and_one_that_comes_back_enables_it(
    origin: Origin, bare: None, pool: Pool
) -> None:
    first = await _put(origin, *_BOTH)
    gone = await _put(origin, _BOTH[0])
    assert (gone["DER"]["enabled"], gone["PEAK_SHAVING"]["enabled"]) == (False, True)
    assert await _owners(pool) == [("dev", "DER", False), ("dev", "PEAK_SHAVING", True)]
    assert await _put(origin, *_BOTH) == first
    assert await _owners(pool) == [("dev", "DER", True), ("dev", "PEAK_SHAVING", True)]


async def test_a_persons_action_of_a_measurand_that_is_gone_stays(origin: Origin, bare: None) -> None:
    await origin.post("/api/sensor_action", {"device_id": "dev", "measurand": "MINE", "action": "RECORD_MEASUREMENT"})
    assert (await _put(origin))["MINE"]["enabled"] is True


async def test_a_capability_that_another_device_owns_is_not_taken_and_the_answer_says_so(
    origin: Origin, bare: None, pool: Pool
) -> None:
    await origin.post("/api/device", {"device_id": "owner", "gateway_id": "gw", "profile": "sitepwrmon"})
    for _ in range(2):
        actions = await _put(origin, *_BOTH)
        for one in actions.values():
            assert (one["enabled"], one["code"]) == (False, "CAPABILITY_SOURCE_CONFLICT")
            assert "owner" in one["detail"]
    assert await _owners(pool) == [("owner", "DER", True), ("owner", "PEAK_SHAVING", True)]


async def test_the_profile_says_what_its_measurands_do(origin: Origin, site: dict[str, Any]) -> None:
    await origin.post("/api/device", {"device_id": "ctrl", "gateway_id": "gw", "profile": "bba-microgrid-controller"})
    actions = await _put(
        origin,
        {"key": "LIMIT_DER_EXPORT", "type": "boolean"},
        {"key": "DER", "type": "boolean"},
        {"key": "extra", "type": "text"},
        device="ctrl",
    )
    assert (actions["LIMIT_DER_EXPORT"]["capability"], actions["LIMIT_DER_EXPORT"]["enabled"]) == ("DER", True)
    assert "DER" not in actions
    assert (actions["extra"]["action"], actions["extra"]["origin"]) == ("RECORD_MEASUREMENT", "REPORTED")
    assert actions["SOC"]["enabled"] is False


@pytest.mark.parametrize("profile", ["generic", "sitepwrmon"])
async def test_another_profile_leaves_what_the_device_reported(origin: Origin, bare: None, profile: str) -> None:
    await _put(origin, *_BOTH)
    changed = await origin.patch("/api/device/dev", {"profile": profile})
    actions = [(one["measurand"], one["enabled"], one["origin"]) for one in changed["sensor_actions"]]
    assert actions == [("DER", True, "REPORTED"), ("PEAK_SHAVING", True, "REPORTED")]


async def test_every_fault_is_named_at_once(origin: Origin, bare: None) -> None:
    path = "/api/device/dev/capabilities"
    shape = await origin.put(
        path, {"measurands": [{"key": "no good", "type": "number"}, {"key": "A", "type": "bool", "x": 1}]}, 422
    )
    assert codes(shape) == [
        ("/measurands/0/key", "INVALID_VALUE"),
        ("/measurands/1/type", "INVALID_VALUE"),
        ("/measurands/1/x", "UNKNOWN_FIELD"),
    ]
    sense = await origin.put(
        path,
        {
            "measurands": [
                {"key": "SOC", "type": "boolean"},
                {"key": "A", "type": "text"},
                {"key": "A", "type": "text"},
                {"key": "ACTIVE_POWER", "type": "number", "unit": "V"},
            ]
        },
        422,
    )
    assert codes(sense) == [
        ("/measurands/0/type", "INVALID_VALUE"),
        ("/measurands/2/key", "ALREADY_EXISTS"),
        ("/measurands/3/unit", "INVALID_VALUE"),
    ]
    assert (await origin.put("/api/device/nobody/capabilities", {"measurands": []}, 404))["code"] == "DEVICE_NOT_FOUND"
