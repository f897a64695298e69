"""Controller bindings over HTTP: made, seen, changed, deleted, and refused with every fault at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import uuid_utils
from tests.command_api.bindings import BOTH, DER, LIST, NOBODY, actions_of, one, patch, said, send_packet, switches, wanted
from tests.command_api.conftest import AccessAs, Clock, Origin, codes, depot, event_types

from command_api.app import create_app
from event_store.database import Pool
from service_runtime.access import ROLES, Access, Principal


@pytest.mark.usefixtures("site")
async def test_a_binding_is_made_with_its_actions_and_found_again(origin: Origin, pool: Pool) -> None:
    before = len(await event_types(pool))
    answered = await origin.commands.post(LIST, json=wanted(stale_after_s=120))
    made = answered.json()
    microgrid = await origin.get("/api/depot/d/microgrid")
    assert answered.status_code == 201
    assert answered.headers["location"] == one(made)
    assert answered.headers["etag"] == '"1"'
    assert {name: value for name, value in made.items() if name not in ("controller_binding_id", "capabilities")} == {
        "depot_id": "d",
        "microgrid_id": microgrid["microgrid_id"],
        "device_id": "dev",
        "node_id": None,
        "enabled": True,
        "stale_after_s": 120.0,
        "supported_capabilities": ["PEAK_SHAVING", "DER"],
        "version": 1,
    }
    assert [{**feed, "control_point_id": None} for feed in made["capabilities"]] == [
        {**feed, "control_point_id": None, "last_reported_at": None, "freshness": "NEVER_REPORTED"} for feed in BOTH
    ]
    assert await switches(origin, "dev") == {"DER": True, "PEAK_SHAVING": True}
    seen = await origin.reads.get(one(made))
    assert (seen.json(), seen.headers["etag"], seen.headers["cache-control"]) == (made, '"1"', "no-store")
    assert await origin.get(LIST) == {"items": [made], "next": None}
    assert (await event_types(pool))[before:] == ["ControllerBindingCreated"] * 2


@pytest.mark.usefixtures("site")
async def test_the_list_pages_by_cursor_and_knows_its_depot(origin: Origin, pool: Pool) -> None:
    made = [await origin.post(LIST, wanted("dev", [feed])) for feed in BOTH]
    first = await origin.get(LIST, limit=1)
    rest = await origin.get(LIST, limit=1, cursor=first["next"])
    assert [*first["items"], *rest["items"]] == made
    assert rest["next"] is None
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('old', 'Old', 'UTC')")
    assert (await origin.get("/api/depot/old/controller-binding", 404))["code"] == "MICROGRID_NOT_FOUND"
    assert (await origin.get("/api/depot/nobody/controller-binding", 404))["code"] == "DEPOT_NOT_FOUND"
    assert (await origin.get("/api/depot/nobody%00/controller-binding", 404))["code"] == "DEPOT_NOT_FOUND"


@pytest.mark.usefixtures("site")
async def test_a_refused_binding_names_every_fault_at_once_and_stores_nothing(origin: Origin, pool: Pool) -> None:
    await origin.post("/api/device", {"device_id": "meter", "gateway_id": "gw", "profile": "bess-meter", "enabled": False})
    before = await event_types(pool)
    body = wanted(
        "meter",
        [{"capability": "DER", "measurand": "DER"}, {"capability": "LUNCH", "measurand": "SOC", "colour": "red"}],
        node_id=NOBODY,
        stale_after_s=0,
    )
    problem = await origin.post(LIST, body, 422)
    assert problem["code"] == "VALIDATION_FAILED"
    assert codes(problem) == [
        ("/capabilities/0/capability", "UNSUPPORTED_CAPABILITY"),
        ("/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED"),
        ("/capabilities/1/capability", "UNSUPPORTED_CAPABILITY"),
        ("/capabilities/1/colour", "UNKNOWN_FIELD"),
        ("/capabilities/1/measurand", "MEASURAND_NOT_SUPPORTED"),
        ("/device_id", "DEVICE_DISABLED"),
        ("/node_id", "UNKNOWN_NODE"),
        ("/stale_after_s", "INVALID_STALE_AFTER"),
    ]
    assert (await origin.get(LIST))["items"] == []
    assert await actions_of(origin, "meter") == []
    assert await event_types(pool) == before


FAULTS: list[tuple[Any, tuple[str, str]]] = [
    (wanted("nobody"), ("/device_id", "UNKNOWN_DEVICE")),
    (wanted("abroad"), ("/device_id", "DEVICE_OF_OTHER_DEPOT")),
    (wanted(capabilities=[]), ("/capabilities", "EMPTY_BINDING")),
    (
        wanted(capabilities=[{"capability": "LUNCH", "measurand": "DER"}]),
        ("/capabilities/0/capability", "UNSUPPORTED_CAPABILITY"),
    ),
    (
        wanted(capabilities=[{"capability": "DER", "measurand": "SOC"}]),
        ("/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED"),
    ),
    (
        wanted("ctrl", [{"capability": "DER", "measurand": "NOT_IN_PROFILE"}], enabled=False),
        ("/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED"),
    ),
    (
        wanted("ctrl", [{"capability": "DER", "measurand": "DISPATCH_STATE"}], enabled=False),
        ("/capabilities/0/measurand", "MEASURAND_NOT_SUPPORTED"),
    ),
    (wanted(capabilities=[*DER, {"capability": "DER", "measurand": "FLAG"}]), ("/capabilities/1/capability", "INVALID_VALUE")),
    (wanted(stale_after_s=0.5), ("/stale_after_s", "INVALID_STALE_AFTER")),
    (wanted(stale_after_s=86_401), ("/stale_after_s", "INVALID_STALE_AFTER")),
    (wanted(stale_after_s="60"), ("/stale_after_s", "INVALID_STALE_AFTER")),
    (wanted(node_id=NOBODY), ("/node_id", "UNKNOWN_NODE")),
    (wanted(node_id="nowhere"), ("/node_id", "UNKNOWN_NODE")),
    (wanted(version=3), ("/version", "UNKNOWN_FIELD")),
    ({"device_id": "dev"}, ("/capabilities", "MISSING_FIELD")),
    (b"[1", ("", "MALFORMED_JSON")),
]


@pytest.mark.usefixtures("rival")
async def test_each_fault_has_its_pointer_and_code(origin: Origin) -> None:
    await origin.post("/api/device", {"device_id": "ctrl", "gateway_id": "gw", "profile": "bba-microgrid-controller"})
    for action in await actions_of(origin, "ctrl"):
        await origin.delete(f"/api/sensor_action/{action['sensor_action_id']}")
    await origin.post("/api/depot", depot("e"))
    await origin.post("/api/gateway", {"gateway_id": "e-gw", "depot_id": "e", "name": "G"})
    await origin.post("/api/device", {"device_id": "abroad", "gateway_id": "e-gw"})
    for body, expected in FAULTS:
        assert codes(await origin.post(LIST, body, 422)) == [expected], body
    assert (await origin.get(LIST))["items"] == []


async def test_a_depot_without_microgrid_or_without_existence_has_no_bindings(origin: Origin, pool: Pool) -> None:
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('old', 'Old', 'UTC')")
    problem = await origin.post("/api/depot/old/controller-binding", wanted(), 422)
    assert codes(problem) == [("/device_id", "UNKNOWN_DEVICE"), ("/path/depot_id", "MICROGRID_NOT_FOUND")]
    assert (await origin.post("/api/depot/nobody/controller-binding", wanted(), 404))["code"] == "DEPOT_NOT_FOUND"


@pytest.mark.usefixtures("site")
async def test_a_change_needs_the_version_that_it_has_seen(origin: Origin, pool: Pool) -> None:
    made = await origin.post(LIST, wanted())
    missing = await origin.send("PATCH", one(made), {"enabled": False}, 428)
    assert missing["code"] == "PRECONDITION_REQUIRED"
    changed = await patch(origin, made, {"stale_after_s": 60})
    assert changed["version"] == 2
    stale = await origin.commands.patch(one(made), json={"enabled": False}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"], stale.headers["etag"]) == (412, "VERSION_CONFLICT", '"2"')
    assert stale.json()["current"] == changed == await origin.get(one(made))
    await origin.send("DELETE", one(made), None, 412, if_match='"1"')
    await origin.send("POST", f"{one(made)}/take-over", {"expected_device_id": "dev"}, 412, if_match='"1"')
    for if_match in ("2", '"1", "2"', "*"):
        assert (await origin.send("PATCH", one(made), {}, 200, if_match=if_match))["version"] == 2
    audited = await pool.fetch("SELECT status, code FROM audit WHERE method = 'PATCH' ORDER BY audit_id")
    assert [tuple(row) for row in audited][:3] == [(428, "PRECONDITION_REQUIRED"), (200, None), (412, "VERSION_CONFLICT")]


@pytest.mark.usefixtures("site")
async def test_of_two_changes_of_one_version_one_is_made(origin: Origin) -> None:
    made = await origin.post(LIST, wanted())
    bodies = [{"stale_after_s": 60}, {"enabled": False}]
    answered = await asyncio.gather(*(origin.commands.patch(one(made), json=b, headers={"If-Match": '"1"'}) for b in bodies))
    assert sorted(each.status_code for each in answered) == [200, 412]
    (winner,) = [each.json() for each in answered if each.status_code == 200]
    assert await origin.get(one(made)) == winner


@pytest.mark.usefixtures("site")
async def test_reports_do_not_make_a_version_stale_and_are_told(origin: Origin, clock: Clock) -> None:
    made = await origin.post(LIST, wanted(stale_after_s=60))
    await send_packet(origin, "dev", "DER")
    seen = await origin.get(one(made))
    assert [(feed["last_reported_at"], feed["freshness"]) for feed in seen["capabilities"]] == [
        (None, "NEVER_REPORTED"),
        ("2026-11-20T12:00:00Z", "FRESH"),
    ]
    clock.now += timedelta(seconds=61)
    assert (await patch(origin, made, {}))["capabilities"][1]["freshness"] == "STALE"


async def test_what_the_former_owner_reported_is_told_of_that_one_alone(origin: Origin, rival: str) -> None:
    former = await origin.post(LIST, wanted(capabilities=DER))
    incoming = await origin.post(LIST, wanted(rival, DER, enabled=False))
    await send_packet(origin, "dev", "DER")
    await origin.post(f"{one(incoming)}/take-over", {"expected_device_id": "dev"}, 200)
    freshness = [(await origin.get(one(binding)))["capabilities"][0]["freshness"] for binding in (former, incoming)]
    assert freshness == ["FRESH", "NEVER_REPORTED"]
    await send_packet(origin, rival, "DER")
    freshness = [(await origin.get(one(binding)))["capabilities"][0]["freshness"] for binding in (former, incoming)]
    assert freshness == ["FRESH", "FRESH"]


@pytest.mark.usefixtures("site")
async def test_disabling_stops_the_updates_and_leaves_the_last_status_to_become_stale(
    origin: Origin, clock: Clock, pool: Pool
) -> None:
    made = await origin.post(LIST, wanted(capabilities=DER, stale_after_s=60))
    await send_packet(origin, "dev", "DER")
    off = await patch(origin, made, {"enabled": False})
    assert said(off) == ("dev", False, [("DER", "DER")])
    assert await send_packet(origin, "dev", "DER", number=2) == [("IGNORED", None)]
    clock.now += timedelta(seconds=61)
    (entry,) = (await origin.get("/api/depot/d/microgrid/card"))["capabilities"]
    assert (entry["operational_status"], entry["freshness"]) == ("ON", "STALE")
    assert (await event_types(pool))[-2:] == ["CapabilityStatusReported", "ControllerBindingUpdated"]
    again = await patch(origin, off, {"enabled": True})
    assert (again["enabled"], again["version"]) == (True, 3)
    assert await send_packet(origin, "dev", "DER", number=3) == [("APPLIED", None)]


async def test_a_binding_that_would_be_enabled_beside_an_owner_stays_as_it_is(origin: Origin, rival: str) -> None:
    await origin.post(LIST, wanted())
    incoming = await origin.post(LIST, wanted(rival, DER, enabled=False))
    problem = await patch(origin, incoming, {"enabled": True, "capabilities": BOTH}, 409)
    assert [conflict["capability"] for conflict in problem["conflicts"]] == ["PEAK_SHAVING", "DER"]
    assert await origin.get(one(incoming)) == incoming


@pytest.mark.usefixtures("site")
async def test_a_change_of_the_capabilities_changes_the_actions_with_them(origin: Origin) -> None:
    made = await origin.post(LIST, wanted())
    changed = await patch(origin, made, {"capabilities": [{"capability": "DER", "measurand": "FLAG"}]})
    assert said(changed) == ("dev", True, [("DER", "FLAG")])
    assert changed["capabilities"][0]["control_point_id"] == made["capabilities"][1]["control_point_id"]
    assert await switches(origin, "dev") == {"FLAG": True}
    assert await send_packet(origin, "dev", "DER", "PEAK_SHAVING", "FLAG") == [
        ("IGNORED", None),
        ("IGNORED", None),
        ("APPLIED", None),
    ]
    assert codes(await patch(origin, changed, {"capabilities": []}, 422)) == [("/capabilities", "EMPTY_BINDING")]
    assert codes(await patch(origin, changed, {"device_id": "x"}, 422)) == [("/device_id", "UNKNOWN_FIELD")]


async def test_an_edited_action_shows_in_the_binding(origin: Origin, rival: str) -> None:
    made = await origin.post(LIST, wanted(capabilities=DER))
    (action,) = await actions_of(origin, "dev")
    path = f"/api/sensor_action/{action['sensor_action_id']}"
    await origin.patch(path, {"measurand": "FLAG"})
    assert said(await origin.get(one(made))) == ("dev", True, [("DER", "FLAG")])
    await origin.patch(path, {"enabled": False})
    seen = await origin.get(one(made))
    assert (said(seen), seen["version"]) == (("dev", False, [("DER", "FLAG")]), 3)
    await origin.post("/api/sensor_action", {**_feeding("DER"), "device_id": "dev", "measurand": "DER"})
    assert said(await origin.get(one(made))) == ("dev", True, [("DER", "DER")])
    await origin.delete(path)
    (left,) = await actions_of(origin, "dev")
    await origin.delete(f"/api/sensor_action/{left['sensor_action_id']}")
    await origin.get(one(made), 404)
    await origin.post("/api/sensor_action", {**_feeding("DER"), "device_id": rival, "measurand": "DER"})
    assert [said(item) for item in (await origin.get(LIST))["items"]] == [(rival, True, [("DER", "DER")])]


def _feeding(capability: str) -> dict[str, Any]:
    return {"action": "UPDATE_MICROGRID_STATE", "capability": capability}


@pytest.mark.usefixtures("site")
async def test_one_capability_that_is_switched_off_by_its_action_leaves_the_binding_and_comes_back(origin: Origin) -> None:
    made = await origin.post(LIST, wanted())
    action = (await actions_of(origin, "dev"))[0]
    path = f"/api/sensor_action/{action['sensor_action_id']}"
    await origin.patch(path, {"enabled": False})
    assert [said(item) for item in (await origin.get(LIST))["items"]] == [
        ("dev", True, [("PEAK_SHAVING", "PEAK_SHAVING")]),
        ("dev", False, [("DER", "DER")]),
    ]
    await origin.patch(path, {"enabled": True})
    back = await origin.get(one(made))
    assert said(back) == said(made)
    assert (await origin.get(LIST))["items"] == [back]


async def test_a_device_that_says_what_it_measures_gets_its_binding_and_never_anothers(origin: Origin, rival: str) -> None:
    measurands = {"measurands": [{"key": "DER", "type": "boolean"}]}
    await origin.put("/api/device/dev/capabilities", measurands)
    (made,) = (await origin.get(LIST))["items"]
    assert said(made) == ("dev", True, [("DER", "DER")])
    answered = await origin.put(f"/api/device/{rival}/capabilities", measurands)
    assert [action["code"] for action in answered["sensor_actions"]] == ["CAPABILITY_SOURCE_CONFLICT"]
    incoming = await origin.post(LIST, wanted(rival, DER, enabled=False))
    await origin.post(f"{one(incoming)}/take-over", {"expected_device_id": "dev"}, 200)
    await origin.put("/api/device/dev/capabilities", measurands)
    assert [item["device_id"] for item in (await origin.get(LIST))["items"] if item["enabled"]] == [rival]


async def test_an_imported_site_shows_in_the_bindings_and_a_binding_in_the_site(origin: Origin, rival: str) -> None:
    made = await origin.post(LIST, wanted(stale_after_s=60))
    document = await origin.get("/api/depot/d/site")
    assert document["controller_bindings"] == [
        {"device_id": "dev", "enabled": True, "stale_after_s": 60, "capabilities": BOTH},
    ]
    await origin.put("/api/depot/d/site", document)
    assert (await origin.get(LIST))["items"] == [made]
    document["controller_bindings"] = [
        {"device_id": "dev", "stale_after_s": 60, "enabled": False, "capabilities": DER},
        {"device_id": rival, "capabilities": DER},
    ]
    await origin.put("/api/depot/d/site", document)
    assert sorted(said(item) for item in (await origin.get(LIST))["items"]) == [
        ("dev", False, [("DER", "DER")]),
        (rival, True, [("DER", "DER")]),
    ]
    history = await origin.get(f"/api/microgrid/{made['microgrid_id']}/event", event_type="CapabilityOwnershipMoved")
    assert [event["payload"]["to_device_id"] for event in history["items"]] == [rival]


@pytest.mark.usefixtures("site")
async def test_a_scope_has_its_own_controller_and_is_named_in_a_conflict(origin: Origin) -> None:
    node_id = (await origin.get("/api/depot/d/microgrid"))["nodes"][0]["node_id"]
    for device_id in ("a", "b"):
        await origin.post("/api/device", {"device_id": device_id, "gateway_id": "gw"})
    await origin.post(LIST, wanted("dev", DER))
    scoped = await origin.post(LIST, wanted("a", DER, node_id=node_id))
    assert scoped["node_id"] == node_id
    assert await send_packet(origin, "a", "DER") == [("APPLIED", None)]
    problem = await origin.post(LIST, wanted("b", DER, node_id=node_id), 409)
    assert [conflict["node_id"] for conflict in problem["conflicts"]] == [node_id]
    assert "Grid connection" in problem["detail"]
    await origin.post(LIST, wanted("a", DER, enabled=False))
    entries = (await origin.get("/api/depot/d/microgrid/card"))["capabilities"]
    assert [(entry["scope"]["node_id"], entry["source"]["device_id"]) for entry in entries] == [(None, "dev"), (node_id, "a")]


@pytest.mark.usefixtures("site")
async def test_a_deleted_binding_leaves_its_history_and_an_import_does_not_bring_it_back(origin: Origin, pool: Pool) -> None:
    await origin.post("/api/device", {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"})
    (made,) = (await origin.get(LIST))["items"]
    await send_packet(origin, "mon", "DER")
    await origin.delete(one(made))
    await origin.get(one(made), 404)
    assert (await origin.delete(one(made), 404))["code"] == "CONTROLLER_BINDING_NOT_FOUND"
    assert await switches(origin, "mon") == {"DER": False, "PEAK_SHAVING": False}
    assert (await event_types(pool))[-3:] == ["CapabilityStatusReported", *["ControllerBindingDeleted"] * 2]
    history = await origin.get("/api/depot/d/microgrid/capability-status/history", capability="DER")
    assert len(history["items"]) == 1
    await origin.put("/api/depot/d/site", await origin.get("/api/depot/d/site"))
    assert (await origin.get(LIST))["items"] == []
    again = await origin.post(LIST, wanted("mon"))
    assert again["controller_binding_id"] != made["controller_binding_id"]


@pytest.mark.usefixtures("site")
async def test_a_binding_is_made_once_per_key(origin: Origin) -> None:
    made = await origin.post(LIST, wanted(), key="k")
    assert await origin.post(LIST, wanted(), key="k") == made
    assert (await origin.get(LIST))["items"] == [made]
    other = await origin.post(LIST, wanted("x"), 422, key="k")
    assert other["code"] == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.usefixtures("site")
async def test_only_a_configurator_of_the_depot_changes_bindings(origin: Origin, pool: Pool, clock: Clock) -> None:
    made = await origin.post(LIST, wanted())
    for role in ROLES:
        may = role in ("configurator", "admin")
        for depots, statuses in (({"d"}, [409, 200, 200, 428]), ({"e"}, [404] * 4)):
            access: Access = AccessAs(Principal("somebody", frozenset({role}), frozenset(depots), None))
            app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), access)
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as caller:
                answered = [
                    await caller.post(LIST, json=wanted()),
                    await caller.patch(one(made), json={}, headers={"If-Match": "*"}),
                    await caller.post(f"{one(made)}/take-over", json={"expected_device_id": "dev"}),
                    await caller.patch(one(made), json={}),
                ]
            assert [each.status_code for each in answered] == (statuses if may else [403] * 4), (role, depots)
