"""The single things of a depot over HTTP: made, shown, changed, deleted, and refused with every fault at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.command_api.conftest import Origin, codes, depot, event_types

from event_store.database import Pool

_KINDS = ("circuit", "charge_point", "connector", "power_source", "gateway", "device", "sensor_action")


@pytest.mark.parametrize("kind", _KINDS)
async def test_what_was_created_is_shown_alone_and_in_the_list(origin: Origin, site: dict[str, Any], kind: str) -> None:
    made = {name: value for name, value in site[kind].items() if name not in ("sensor_actions", "notes")}
    assert await origin.get(f"/api/{kind}/{made[f'{kind}_id']}") == made
    assert made in (await origin.get(f"/api/{kind}", depot_id="d"))["items"]
    assert made["depot_id"] == "d"


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("circuit/k", {"name": "Renamed", "rating_kw": None, "safe_capacity_kw": 0, "position": 3}),
        ("charge_point/cp", {"max_kw": 22.5, "circuit_id": "d-gc"}),
        ("connector/cp-1", {"number": 2, "max_kw": 50}),
        ("power_source/bess", {"kind": "SOLAR", "circuit_id": None, "rated_kw": 90}),
        ("gateway/gw", {"site_model_name": "m", "model_outputs": {"GEN": "UPDATE_POWER_SOURCE_LOAD"}, "output_translation": {}}),
        ("device/dev", {"enabled": False, "circuit_id": None}),
    ],
)
async def test_a_change_touches_the_named_fields_alone(
    origin: Origin, site: dict[str, Any], path: str, change: dict[str, Any]
) -> None:
    before = await origin.get(f"/api/{path}")
    changed = await origin.patch(f"/api/{path}", change)
    after = await origin.get(f"/api/{path}")
    assert after == {**before, **change}
    assert {name: changed[name] for name in after} == after


@pytest.mark.parametrize("kind", _KINDS)
async def test_what_is_not_there_is_not_found(origin: Origin, kind: str) -> None:
    code = f"{kind.upper()}_NOT_FOUND"
    assert (await origin.get(f"/api/{kind}/nobody", 404))["code"] == code
    assert (await origin.patch(f"/api/{kind}/nobody", {}, 404))["code"] == code
    assert (await origin.delete(f"/api/{kind}/nobody", 404))["code"] == code


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("circuit", {"circuit_id": "x", "depot_id": "no", "name": "X"}, "DEPOT_NOT_FOUND"),
        ("charge_point", {"charge_point_id": "x", "circuit_id": "no", "name": "X", "max_kw": 1}, "CIRCUIT_NOT_FOUND"),
        ("connector", {"connector_id": "x", "charge_point_id": "no", "number": 1}, "CHARGE_POINT_NOT_FOUND"),
        ("device", {"device_id": "x", "gateway_id": "no"}, "GATEWAY_NOT_FOUND"),
        ("sensor_action", {"device_id": "no", "measurand": "SOC", "action": "RECORD_MEASUREMENT"}, "DEVICE_NOT_FOUND"),
    ],
)
async def test_a_thing_of_something_unknown_is_not_found(
    origin: Origin, site: dict[str, Any], kind: str, body: Any, code: str
) -> None:
    assert (await origin.post(f"/api/{kind}", body, 404))["code"] == code


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("circuit", {"circuit_id": "k", "depot_id": "d", "name": "X"}),
        ("circuit", {"circuit_id": "e-gc", "depot_id": "d", "name": "X"}),
        ("connector", {"connector_id": "cp-1", "charge_point_id": "cp", "number": 2}),
        ("device", {"device_id": "dev", "gateway_id": "gw"}),
        ("sensor_action", {"device_id": "dev", "measurand": "SOC", "action": "RECORD_MEASUREMENT", "enabled": False}),
    ],
)
async def test_what_exists_is_not_created_again(origin: Origin, site: dict[str, Any], kind: str, body: Any) -> None:
    await origin.post("/api/depot", depot("e"))
    assert (await origin.post(f"/api/{kind}", body, 409))["code"] == "ALREADY_EXISTS"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (
            "circuit",
            {"circuit_id": "x", "depot_id": "d", "name": 1, "ratng_kw": 5},
            [("/name", "INVALID_VALUE"), ("/ratng_kw", "UNKNOWN_FIELD")],
        ),
        (
            "circuit",
            {"depot_id": "d", "rating_kw": -1},
            [("/circuit_id", "MISSING_FIELD"), ("/name", "MISSING_FIELD"), ("/rating_kw", "INVALID_VALUE")],
        ),
        (
            "circuit",
            {"circuit_id": "x", "depot_id": "d", "name": "X", "parent_circuit_id": "no", "position": "1"},
            [("/parent_circuit_id", "CIRCUIT_NOT_FOUND"), ("/position", "INVALID_VALUE")],
        ),
        ("circuit", {"circuit_id": "a/b", "depot_id": "d", "name": "X"}, [("/circuit_id", "INVALID_VALUE")]),
        (
            "circuit",
            {"circuit_id": "a\0", "depot_id": "d", "name": "\0"},
            [("/circuit_id", "INVALID_VALUE"), ("/name", "INVALID_VALUE")],
        ),
        (
            "power_source",
            {"power_source_id": "x", "depot_id": "d", "kind": "WIND", "name": "X", "circuit_id": "e-gc"},
            [("/circuit_id", "CIRCUIT_NOT_FOUND"), ("/kind", "INVALID_VALUE")],
        ),
        (
            "gateway",
            {"gateway_id": "x", "depot_id": "d", "name": "X", "model_outputs": {"a": "UPDATE_POWER_SOURCE_LOAD"}},
            [("/model_outputs", "MODEL_OUTPUT_WITHOUT_MODEL")],
        ),
        (
            "gateway",
            {"gateway_id": "x", "depot_id": "d", "name": "X", "output_translation": {"a": "no", "b": "bess"}},
            [("/output_translation/a", "INVALID_POWER_SOURCE")],
        ),
        ("device", {"device_id": "x", "gateway_id": "gw", "depot_id": "e"}, [("/gateway_id", "GATEWAY_NOT_FOUND")]),
        ("device", {"device_id": "x", "gateway_id": "gw", "profile": "none-such"}, [("/profile", "UNKNOWN_PROFILE")]),
        (
            "sensor_action",
            {"device_id": "dev", "measurand": "X", "action": "UPDATE_MICROGRID_STATE"},
            [("/capability", "INVALID_VALUE")],
        ),
        (
            "sensor_action",
            {"device_id": "dev", "measurand": "SOC", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"},
            [("/measurand", "MEASURAND_NOT_SUPPORTED")],
        ),
        (
            "sensor_action",
            {"device_id": "dev", "measurand": "X", "action": "UPDATE_POWER_SOURCE_LOAD", "power_source_id": "no"},
            [("/power_source_id", "INVALID_POWER_SOURCE")],
        ),
        (
            "sensor_action",
            {"device_id": "dev", "measurand": "X", "action": "UPDATE_CIRCUIT_CAPACITY", "circuit_id": "e-gc"},
            [("/circuit_id", "CIRCUIT_NOT_FOUND")],
        ),
        (
            "sensor_action",
            {
                "device_id": "dev",
                "measurand": "X",
                "action": "UPDATE_MICROGRID_STATE",
                "capability": "DER",
                "node_id": "01900000-0000-7000-8000-000000000001",
            },
            [("/node_id", "UNKNOWN_NODE")],
        ),
        (
            "sensor_action",
            {"sensor_action_id": "x", "device_id": "dev", "measurand": "X", "action": "RECORD_MEASUREMENT"},
            [("/sensor_action_id", "UNKNOWN_FIELD")],
        ),
    ],
)
async def test_what_can_not_be_is_refused_with_every_fault(
    origin: Origin, site: dict[str, Any], pool: Pool, kind: str, body: Any, expected: list[tuple[str, str]]
) -> None:
    await origin.post("/api/depot", depot("e"))
    before = await pool.fetchval(f"SELECT count(*) FROM {kind}")
    problem = await origin.post(f"/api/{kind}", body, 422)
    assert codes(problem) == expected
    assert problem["code"] == (expected[0][1] if len(expected) == 1 else "VALIDATION_FAILED")
    assert await pool.fetchval(f"SELECT count(*) FROM {kind}") == before


@pytest.mark.parametrize(
    ("path", "code", "named"),
    [
        ("circuit/d-gc", "CIRCUIT_IN_USE", ("circuit k", "power source bess", "device dev")),
        ("circuit/k", "CIRCUIT_IN_USE", ("charge point cp",)),
        ("charge_point/cp", "CHARGE_POINT_IN_USE", ("connector cp-1",)),
        ("power_source/bess", "POWER_SOURCE_IN_USE", ("gateway gw",)),
        ("gateway/gw", "GATEWAY_IN_USE", ("device dev",)),
    ],
)
async def test_what_others_refer_to_is_not_deleted_and_they_are_named(
    origin: Origin, site: dict[str, Any], path: str, code: str, named: tuple[str, ...]
) -> None:
    problem = await origin.delete(f"/api/{path}", 409)
    assert problem["code"] == code
    assert all(name in problem["detail"] for name in named), problem["detail"]


async def test_a_depot_is_emptied_from_the_leaves_to_the_root(origin: Origin, site: dict[str, Any]) -> None:
    for path in ("connector/cp-1", "charge_point/cp", "circuit/k", "device/dev", "gateway/gw", "power_source/bess", "circuit/d-gc"):
        await origin.delete(f"/api/{path}")
        await origin.get(f"/api/{path}", 404)
    await origin.delete("/api/depot/d")
    assert (await origin.get("/api/depot/d", 404))["code"] == "DEPOT_NOT_FOUND"


async def test_a_circuit_can_not_come_under_itself(origin: Origin, site: dict[str, Any]) -> None:
    problem = await origin.patch("/api/circuit/d-gc", {"parent_circuit_id": "k"}, 409)
    assert (problem["code"], codes(problem)) == ("CIRCUIT_CYCLE", [("/parent_circuit_id", "CIRCUIT_CYCLE")])
    assert (await origin.patch("/api/circuit/k", {"parent_circuit_id": "k"}, 409))["code"] == "CIRCUIT_CYCLE"


async def test_two_circuits_that_come_under_each_other_at_once_make_no_cycle(origin: Origin, site: dict[str, Any]) -> None:
    pairs = [(f"a{n}", f"b{n}") for n in range(6)]
    for name in (name for pair in pairs for name in pair):
        await origin.post("/api/circuit", {"circuit_id": name, "depot_id": "d", "parent_circuit_id": "k", "name": "C"})
    moves = [(child, parent) for one, other in pairs for child, parent in ((one, other), (other, one))]
    answered = await asyncio.gather(
        *(origin.commands.patch(f"/api/circuit/{child}", json={"parent_circuit_id": parent}) for child, parent in moves)
    )
    assert sorted(one.status_code for one in answered) == [200] * 6 + [409] * 6


@pytest.mark.parametrize("field", ["circuit_id", "depot_id", "colour"])
async def test_a_change_of_what_can_not_change_is_refused(origin: Origin, site: dict[str, Any], field: str) -> None:
    assert codes(await origin.patch("/api/circuit/k", {field: "x"}, 422)) == [(f"/{field}", "UNKNOWN_FIELD")]


async def test_the_microgrid_follows_its_top_level_circuits(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    first = await origin.get("/api/depot/d/microgrid")
    await origin.patch("/api/circuit/d-gc", {"name": "North"})
    await origin.patch("/api/circuit/k", {"name": "Not a grid connection"})
    renamed = await origin.get("/api/depot/d/microgrid")
    assert (renamed["version"], renamed["nodes"]) == (1, [{**first["nodes"][0], "name": "North"}])
    await origin.patch("/api/circuit/k", {"parent_circuit_id": None, "position": -1})
    await origin.post("/api/circuit", {"circuit_id": "gc-3", "depot_id": "d", "name": "Third", "position": 9})
    grown = await origin.get("/api/depot/d/microgrid")
    assert (grown["version"], [node["source_circuit_id"] for node in grown["nodes"]]) == (3, ["k", "d-gc", "gc-3"])
    assert grown["nodes"][1]["node_id"] == first["nodes"][0]["node_id"]
    await origin.patch("/api/circuit/gc-3", {"position": -5})
    await origin.delete("/api/circuit/gc-3")
    assert (await event_types(pool))[1:] == [
        "GridConnectionRenamed",
        "GridConnectionAdded",
        "GridConnectionAdded",
        "GridConnectionsReordered",
        "GridConnectionRemoved",
    ]


async def test_changes_of_one_depot_at_once_count_one_by_one(origin: Origin, site: dict[str, Any]) -> None:
    bodies = [{"circuit_id": f"gc-{n}", "depot_id": "d", "name": "N"} for n in range(5)]
    answered = await asyncio.gather(*(origin.commands.post("/api/circuit", json=body) for body in bodies))
    assert {one.status_code for one in answered} == {201}
    microgrid = await origin.get("/api/depot/d/microgrid")
    assert (microgrid["version"], len(microgrid["nodes"])) == (6, 6)


async def test_a_device_with_a_profile_gets_its_actions_and_its_binding(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    made = await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    assert [(one["measurand"], one["capability"], one["enabled"], one["origin"]) for one in made["sensor_actions"]] == [
        ("DER", "DER", True, "PROFILE"),
        ("PEAK_SHAVING", "PEAK_SHAVING", True, "PROFILE"),
    ]
    assert await pool.fetchval("SELECT count(*) FROM capability_control_point WHERE device_id = 'mon' AND enabled") == 2
    assert (await event_types(pool)).count("ControllerBindingCreated") == 2


async def test_a_second_device_of_a_capability_gets_its_actions_disabled_and_is_told(origin: Origin, site: dict[str, Any]) -> None:
    await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    second = await origin.post("/api/device", {"device_id": "mon-2", "gateway_id": "gw", "profile": "sitepwrmon"})
    assert [one["enabled"] for one in second["sensor_actions"]] == [False, False]
    assert len(second["notes"]) == 2
    assert all("mon owns" in note for note in second["notes"])


async def test_a_device_takes_its_actions_and_bindings_with_it(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    await origin.delete("/api/device/mon")
    assert (await origin.get("/api/sensor_action", device_id="mon"))["items"] == []
    assert await pool.fetchval("SELECT count(*) FROM capability_control_point") == 0
    assert (await event_types(pool)).count("ControllerBindingDeleted") == 2


async def test_changing_a_device_brings_no_deleted_action_back(origin: Origin, site: dict[str, Any]) -> None:
    made = await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    await origin.delete(f"/api/sensor_action/{made['sensor_actions'][0]['sensor_action_id']}")
    changed = await origin.patch("/api/device/mon", {"circuit_id": "k"})
    assert [one["measurand"] for one in changed["sensor_actions"]] == ["PEAK_SHAVING"]


_DER = {"device_id": "dev", "measurand": "DER", "action": "UPDATE_MICROGRID_STATE", "capability": "DER"}


async def _points(pool: Pool) -> list[tuple[str, str, str, bool]]:
    rows = await pool.fetch("SELECT device_id, capability, measurand, enabled FROM capability_control_point ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_an_action_and_its_control_point_follow_each_other(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    made = await origin.post("/api/sensor_action", _DER)
    path = f"/api/sensor_action/{made['sensor_action_id']}"
    assert await _points(pool) == [("dev", "DER", "DER", True)]
    assert (await origin.patch(path, {"measurand": "MY_FLAG"}))["sensor_action_id"] == made["sensor_action_id"]
    assert await _points(pool) == [("dev", "DER", "MY_FLAG", True)]
    await origin.patch(path, {"enabled": False})
    assert await _points(pool) == [("dev", "DER", "MY_FLAG", False)]
    await origin.patch(path, {"enabled": True})
    assert await _points(pool) == [("dev", "DER", "MY_FLAG", True)]
    await origin.delete(path)
    assert await _points(pool) == []
    assert (await event_types(pool))[1:] == [
        "ControllerBindingCreated",
        "ControllerBindingUpdated",
        "ControllerBindingUpdated",
        "ControllerBindingUpdated",
        "ControllerBindingDeleted",
    ]


async def test_a_capability_that_another_device_owns_is_not_taken(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    problem = await origin.post("/api/sensor_action", _DER, 409)
    assert problem["code"] == "CAPABILITY_SOURCE_CONFLICT"
    assert all(name in problem["detail"] for name in ("mon", "dev", "DER", "the whole site"))
    waiting = await origin.post("/api/sensor_action", {**_DER, "enabled": False})
    problem = await origin.patch(f"/api/sensor_action/{waiting['sensor_action_id']}", {"enabled": True}, 409)
    assert problem["code"] == "CAPABILITY_SOURCE_CONFLICT"
    assert ("dev", "DER", "DER", True) not in await _points(pool)


async def test_two_measurands_can_not_feed_one_capability_of_a_device(origin: Origin, site: dict[str, Any]) -> None:
    await origin.post("/api/sensor_action", _DER)
    problem = await origin.post("/api/sensor_action", {**_DER, "measurand": "OTHER"}, 422)
    assert codes(problem) == [("/measurand", "INVALID_VALUE")]


async def test_what_a_person_changed_is_theirs_and_what_nobody_changed_is_not(origin: Origin, site: dict[str, Any]) -> None:
    made = await origin.post("/api/device", {"device_id": "m", "gateway_id": "gw", "profile": "bess-meter"})
    path = f"/api/sensor_action/{made['sensor_actions'][0]['sensor_action_id']}"
    assert (await origin.patch(path, {"scale": None}))["origin"] == "PROFILE"
    assert (await origin.patch(path, {"scale": 0.001}))["origin"] == "PERSON"


async def test_lists_page_through_everything_once(origin: Origin, site: dict[str, Any]) -> None:
    for number in range(5):
        await origin.post("/api/circuit", {"circuit_id": f"z{number}", "depot_id": "d", "parent_circuit_id": "k", "name": "Z"})
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await origin.get("/api/circuit", depot_id="d", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [one["circuit_id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["d-gc", "k", "z0", "z1", "z2", "z3", "z4"]


async def test_lists_are_narrowed_to_what_things_belong_to(origin: Origin, site: dict[str, Any]) -> None:
    for path, params in (
        ("charge_point", {"circuit_id": "k"}),
        ("connector", {"charge_point_id": "cp"}),
        ("power_source", {"circuit_id": "d-gc"}),
        ("device", {"gateway_id": "gw"}),
        ("sensor_action", {"device_id": "dev"}),
    ):
        assert len((await origin.get(f"/api/{path}", **params))["items"]) == 1
        assert (await origin.get(f"/api/{path}", **dict.fromkeys(params, "other")))["items"] == []
    assert (await origin.get("/api/circuit", 404, depot_id="nobody"))["code"] == "DEPOT_NOT_FOUND"
