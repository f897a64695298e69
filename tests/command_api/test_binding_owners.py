"""One controller for each capability of a scope: conflicts that say how to resolve them, and taking over in one step."""

from __future__ import annotations

import asyncio

import pytest
from tests.command_api.bindings import DER, LIST, PS, one, patch, said, send_packet, switches, wanted
from tests.command_api.conftest import Origin, codes, event_types

from event_store.database import Pool


@pytest.mark.usefixtures("site")
async def test_a_capability_of_a_device_and_scope_is_in_one_binding(origin: Origin) -> None:
    made = await origin.post(LIST, wanted(capabilities=DER))
    problem = await origin.post(LIST, wanted(enabled=False), 409)
    assert (problem["code"], made["controller_binding_id"] in problem["detail"]) == ("ALREADY_EXISTS", True)
    await origin.post(LIST, wanted(capabilities=PS))


async def test_a_second_source_is_a_conflict_that_names_both_and_says_how_to_resolve_it(
    origin: Origin, rival: str, pool: Pool
) -> None:
    active = await origin.post(LIST, wanted())
    before = await event_types(pool)
    problem = await origin.post(LIST, wanted(rival), 409)
    assert problem["code"] == "CAPABILITY_SOURCE_CONFLICT"
    assert codes(problem) == [(f"/capabilities/{index}/capability", "CAPABILITY_SOURCE_CONFLICT") for index in (0, 1)]
    for named in ("PEAK_SHAVING", "DER", "the whole site", active["microgrid_id"], "dev", rival, "take-over", "enabled: false"):
        assert named in problem["detail"], named
    assert problem["conflicts"] == [
        {
            "microgrid_id": active["microgrid_id"],
            "capability": capability,
            "node_id": None,
            "active_device_id": "dev",
            "active_controller_binding_id": active["controller_binding_id"],
            "incoming_device_id": rival,
            "incoming_controller_binding_id": None,
        }
        for capability in ("PEAK_SHAVING", "DER")
    ]
    assert (await origin.get(LIST))["items"] == [active]
    assert await event_types(pool) == before


async def test_of_two_who_bind_one_capability_at_once_exactly_one_wins(origin: Origin, rival: str, pool: Pool) -> None:
    asked = [wanted(device_id, DER) for device_id in ("dev", rival)]
    for made in range(1, 6):
        answered = await asyncio.gather(*(origin.commands.post(LIST, json=body) for body in asked))
        assert sorted(each.status_code for each in answered) == [201, 409]
        won, lost = sorted((each.json() for each in answered), key=lambda document: "code" in document)
        (conflict,) = lost["conflicts"]
        assert (lost["code"], conflict["active_device_id"]) == ("CAPABILITY_SOURCE_CONFLICT", won["device_id"])
        assert {conflict["active_device_id"], conflict["incoming_device_id"]} == {"dev", rival}
        assert (await origin.get(LIST))["items"] == [won]
        assert (await event_types(pool)).count("ControllerBindingCreated") == made
        await origin.delete(one(won))


async def test_a_disabled_binding_is_never_in_conflict_and_takes_over_in_one_step(origin: Origin, rival: str, pool: Pool) -> None:
    active = await origin.post(LIST, wanted())
    incoming = await origin.post(LIST, wanted(rival, DER, enabled=False))
    assert await switches(origin, rival) == {"DER": False}
    before = await event_types(pool)
    taken = await origin.post(f"{one(incoming)}/take-over", {"expected_device_id": "dev"}, 200)
    assert (said(taken), taken["version"]) == ((rival, True, [("DER", "DER")]), 2)
    kept = await origin.get(one(active))
    assert (said(kept), kept["version"]) == (("dev", True, [("PEAK_SHAVING", "PEAK_SHAVING")]), 2)
    items = (await origin.get(LIST))["items"]
    (let_go,) = [item for item in items if item not in (taken, kept)]
    assert said(let_go) == ("dev", False, [("DER", "DER")])
    assert await switches(origin, "dev") == {"DER": False, "PEAK_SHAVING": True}
    assert (await event_types(pool))[len(before) :] == ["ControllerBindingUpdated"] * 2 + ["CapabilityOwnershipMoved"]
    history = await origin.get(f"/api/microgrid/{active['microgrid_id']}/event", event_type="CapabilityOwnershipMoved")
    moved = history["items"][0]["payload"]
    assert (moved["capability"], moved["from_device_id"], moved["to_device_id"]) == ("DER", "dev", rival)
    assert moved["to_control_point_id"] == taken["capabilities"][0]["control_point_id"]


async def test_packets_follow_a_take_over_at_once(origin: Origin, rival: str) -> None:
    await origin.post(LIST, wanted(capabilities=DER))
    incoming = await origin.post(LIST, wanted(rival, DER, enabled=False))
    assert await send_packet(origin, "dev", "DER") == [("APPLIED", None)]
    assert await send_packet(origin, rival, "DER") == [("IGNORED", None)]
    await origin.post(f"{one(incoming)}/take-over", {"expected_device_id": "dev"}, 200)
    assert await send_packet(origin, "dev", "DER", number=2) == [("IGNORED", None)]
    assert await send_packet(origin, rival, "DER", number=2) == [("APPLIED", None)]


@pytest.mark.parametrize("expected", ["rival", "nobody"])
async def test_who_expects_another_owner_takes_nothing_over(origin: Origin, rival: str, expected: str, pool: Pool) -> None:
    await origin.post(LIST, wanted())
    incoming = await origin.post(LIST, wanted(rival, enabled=False))
    before = (await origin.get(LIST), await event_types(pool))
    problem = await origin.post(f"{one(incoming)}/take-over", {"expected_device_id": expected}, 409)
    assert problem["code"] == "CAPABILITY_SOURCE_CONFLICT"
    assert [conflict["active_device_id"] for conflict in problem["conflicts"]] == ["dev", "dev"]
    assert f"{one(incoming)}/take-over" in problem["detail"]
    assert (await origin.get(LIST), await event_types(pool)) == before


async def test_nothing_is_taken_over_from_nobody_but_what_is_free_beside_it_comes_along(origin: Origin, rival: str) -> None:
    incoming = await origin.post(LIST, wanted(rival, enabled=False))
    path = f"{one(incoming)}/take-over"
    problem = await origin.post(path, {"expected_device_id": "dev"}, 409)
    assert [conflict["active_device_id"] for conflict in problem["conflicts"]] == [None, None]
    await origin.post(LIST, wanted(capabilities=PS))
    assert said(await origin.post(path, {"expected_device_id": "dev"}, 200)) == (
        rival,
        True,
        [(c, c) for c in ("PEAK_SHAVING", "DER")],
    )
    problem = await origin.post(path, {"expected_device_id": "dev"}, 409)
    assert [conflict["active_device_id"] for conflict in problem["conflicts"]] == [rival, rival]


async def test_a_capability_goes_back_the_way_it_came(origin: Origin, rival: str) -> None:
    first = await origin.post(LIST, wanted())
    second = await origin.post(LIST, wanted(rival, enabled=False))
    for binding, other in ((second, "dev"), (first, rival), (second, "dev")):
        taken = await origin.post(f"{one(binding)}/take-over", {"expected_device_id": other}, 200)
        assert taken["enabled"]
        assert [item["enabled"] for item in (await origin.get(LIST))["items"]].count(True) == 1
    assert await switches(origin, "dev") == {"DER": False, "PEAK_SHAVING": False}


@pytest.mark.usefixtures("site")
async def test_a_take_over_refuses_what_it_does_not_know_and_a_device_that_is_disabled(origin: Origin) -> None:
    binding = await origin.post(LIST, wanted(enabled=False))
    await origin.patch("/api/device/dev", {"enabled": False})
    problem = await origin.post(f"{one(binding)}/take-over", {"expected": "x"}, 422)
    assert codes(problem) == [
        ("", "DEVICE_DISABLED"),
        ("/expected", "UNKNOWN_FIELD"),
        ("/expected_device_id", "MISSING_FIELD"),
    ]
    assert codes(await patch(origin, binding, {"enabled": True}, 422)) == [("/enabled", "DEVICE_DISABLED")]
    assert (await patch(origin, binding, {"stale_after_s": 60}))["stale_after_s"] == 60.0
