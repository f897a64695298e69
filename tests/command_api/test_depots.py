"""Depots over HTTP: creating one makes its microgrid, and everything is refused that would leave half of something."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.command_api.conftest import Origin, codes, depot, event_types

from event_store.database import Pool


async def test_a_depot_is_created_with_its_circuits_and_its_microgrid(origin: Origin, pool: Pool) -> None:
    made = await origin.post("/api/depot", depot())
    assert made == {name: value for name, value in (await origin.get("/api/depot/d")).items() if name != "summary"}
    microgrid = await origin.get("/api/depot/d/microgrid")
    assert made["microgrid_id"] == microgrid["microgrid_id"]
    assert [(node["source_circuit_id"], node["name"]) for node in microgrid["nodes"]] == [("d-gc", "Grid connection")]
    assert await event_types(pool) == ["MicrogridProvisioned"]


@pytest.mark.parametrize(
    "circuits",
    [[], None, [{"circuit_id": "c", "name": ""}], [{"circuit_id": "c", "name": "  "}]],
    ids=["none", "left out", "nameless", "blank"],
)
async def test_a_depot_without_a_top_level_circuit_is_refused_and_nothing_is_stored(
    origin: Origin, pool: Pool, circuits: Any
) -> None:
    body = {name: value for name, value in {**depot(), "circuits": circuits}.items() if value is not None}
    problem = await origin.post("/api/depot", body, 422)
    assert problem["code"] == "NO_TOP_LEVEL_CIRCUIT"
    assert await pool.fetchval("SELECT (SELECT count(*) FROM depot) + (SELECT count(*) FROM circuit)") == 0


async def test_every_fault_of_a_new_depot_is_named_at_once(origin: Origin) -> None:
    body = depot(
        "d", {"circuit_id": "a", "parent_circuit_id": "x", "name": "A"}, {"circuit_id": "no good", "name": "B", "colour": 1}
    )
    problem = await origin.post("/api/depot", {**body, "timezone": "Mars/Base", "extra": 1}, 422)
    assert problem["code"] == "VALIDATION_FAILED"
    assert sorted(codes(problem)) == [
        ("/circuits/0/parent_circuit_id", "CIRCUIT_NOT_FOUND"),
        ("/circuits/1/circuit_id", "INVALID_VALUE"),
        ("/circuits/1/colour", "UNKNOWN_FIELD"),
        ("/extra", "UNKNOWN_FIELD"),
        ("/timezone", "INVALID_VALUE"),
    ]


async def test_a_single_unknown_field_is_refused_under_its_own_code(origin: Origin) -> None:
    problem = await origin.post("/api/depot", {**depot(), "time_zone": "UTC"}, 422)
    assert (problem["code"], codes(problem)) == ("UNKNOWN_FIELD", [("/time_zone", "UNKNOWN_FIELD")])


async def test_a_depot_that_exists_is_not_created_again(origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    assert (await origin.post("/api/depot", depot(), 409))["code"] == "ALREADY_EXISTS"


async def test_an_id_of_another_depot_is_refused(origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    problem = await origin.post("/api/depot", depot("e", {"circuit_id": "d-gc", "name": "Mine"}), 409)
    assert codes(problem) == [("/circuits/0/circuit_id", "ALREADY_EXISTS")]
    await origin.get("/api/depot/e", 404)


async def test_creations_of_one_depot_at_once_make_one_microgrid(origin: Origin, pool: Pool) -> None:
    answered = await asyncio.gather(*(origin.commands.post("/api/depot", json=depot()) for _ in range(6)))
    assert sorted(one.status_code for one in answered) == [201, 409, 409, 409, 409, 409]
    assert await pool.fetchval("SELECT count(*) FROM microgrid") == 1
    assert await event_types(pool) == ["MicrogridProvisioned"]


async def test_depots_that_claim_one_circuit_at_once_get_it_once(origin: Origin, pool: Pool) -> None:
    bodies = [depot(f"d{n}", {"circuit_id": "shared", "name": "S"}) for n in range(5)]
    answered = await asyncio.gather(*(origin.commands.post("/api/depot", json=body) for body in bodies))
    assert sorted(one.status_code for one in answered) == [201, 409, 409, 409, 409]
    assert await pool.fetchval("SELECT count(*) FROM depot") == 1


async def test_a_depot_is_renamed_and_keeps_what_is_not_named(origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    changed = await origin.patch("/api/depot/d", {"name": "Northside"})
    assert (changed["name"], changed["timezone"]) == ("Northside", "UTC")
    assert codes(await origin.patch("/api/depot/d", {"timezone": "Mars/Base"}, 422)) == [("/timezone", "INVALID_VALUE")]


async def test_a_depot_with_something_in_it_is_not_deleted(origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    problem = await origin.delete("/api/depot/d", 409)
    assert problem["code"] == "DEPOT_IN_USE"
    assert "circuit d-gc" in problem["detail"]


async def test_deleting_a_depot_retires_its_microgrid_and_a_new_one_gets_another(origin: Origin, pool: Pool) -> None:
    first = await origin.post("/api/depot", depot())
    await origin.delete("/api/circuit/d-gc")
    assert (await origin.get("/api/depot/d/microgrid"))["status"] == "NO_GRID_CONNECTION"
    await origin.delete("/api/depot/d")
    assert (await origin.get(f"/api/microgrid/{first['microgrid_id']}"))["status"] == "RETIRED"
    assert (await event_types(pool))[-1] == "MicrogridRetired"
    assert (await origin.get("/api/depot/d", 404))["code"] == "DEPOT_NOT_FOUND"
    again = await origin.post("/api/depot", depot())
    assert again["microgrid_id"] != first["microgrid_id"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/depot/nobody", {"name": "N"}),
        ("DELETE", "/api/depot/nobody", None),
        ("POST", "/api/depot/nobody/microgrid", None),
        ("POST", "/api/depot/nobody/microgrid/resync", None),
        ("PATCH", "/api/depot/no%20body", {"name": "N"}),
        ("PATCH", "/api/depot/%00", {"name": "N"}),
    ],
)
async def test_an_unknown_depot_is_not_found(origin: Origin, method: str, path: str, body: Any) -> None:
    assert (await origin.send(method, path, body, 404))["code"] == "DEPOT_NOT_FOUND"


async def _old_depot(pool: Pool, *, top_level: bool = True) -> None:
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'Old', 'UTC')")
    if top_level:
        await pool.execute("INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('gc', 'd', 'Grid', 0)")


async def test_a_depot_from_before_microgrids_is_provisioned_once(origin: Origin, pool: Pool) -> None:
    await _old_depot(pool)
    made = await origin.post("/api/depot/d/microgrid")
    assert made == await origin.get("/api/depot/d/microgrid")
    assert await origin.post("/api/depot/d/microgrid", {}, 200) == made


async def test_a_depot_without_a_top_level_circuit_is_not_provisioned(origin: Origin, pool: Pool) -> None:
    await _old_depot(pool, top_level=False)
    assert (await origin.post("/api/depot/d/microgrid", None, 409))["code"] == "NO_TOP_LEVEL_CIRCUIT"
    assert (await origin.post("/api/depot/d/microgrid/resync", None, 404))["code"] == "MICROGRID_NOT_FOUND"


async def test_the_first_top_level_circuit_provisions_its_depot(origin: Origin, pool: Pool) -> None:
    await _old_depot(pool, top_level=False)
    await origin.post("/api/circuit", {"circuit_id": "gc", "depot_id": "d", "name": "Grid"})
    assert [node["name"] for node in (await origin.get("/api/depot/d/microgrid"))["nodes"]] == ["Grid"]


async def test_a_resync_tells_what_it_repairs_and_repairs_it_only_when_asked(origin: Origin, pool: Pool) -> None:
    await origin.post("/api/depot", depot())
    await pool.execute("UPDATE microgrid_node SET name = 'Edited'")
    await pool.execute("INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('gc-2', 'd', 'Second', 1)")
    told = await origin.post("/api/depot/d/microgrid/resync?dry_run=true", None, 200)
    assert ([one["name"] for one in told["added"]], [one["old_name"] for one in told["renamed"]]) == (["Second"], ["Edited"])
    assert (await origin.get("/api/depot/d/microgrid"))["version"] == 1
    done = await origin.post("/api/depot/d/microgrid/resync", None, 200)
    assert (done["changed"], done["version"], len(done["added"])) == (True, 2, 1)
    again = await origin.post("/api/depot/d/microgrid/resync", None, 200)
    assert (again["changed"], again["added"], again["removed"], again["renamed"], again["reordered"]) == (False, [], [], [], [])
    assert (await event_types(pool))[-1] == "MicrogridResynced"


async def test_a_body_where_none_is_expected_is_refused(origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    problem = await origin.post("/api/depot/d/microgrid", {"force": True}, 422)
    assert codes(problem) == [("/force", "UNKNOWN_FIELD")]


_SITE: dict[str, Any] = {
    "depot": {"depot_id": "d", "name": "D", "timezone": "UTC"},
    "circuits": [{"circuit_id": "gc", "name": "Grid"}],
    "gateways": [{"gateway_id": "gw", "name": "G"}],
    "devices": [{"device_id": "dev", "gateway_id": "gw", "profile": "sitepwrmon"}],
}


async def test_a_depot_is_made_to_be_a_document_and_what_that_leaves_out_goes(origin: Origin) -> None:
    made = await origin.put("/api/depot/d/site", _SITE)
    assert made == await origin.get("/api/depot/d/site")
    assert [one["capabilities"] for one in made["controller_bindings"]] != []
    smaller = {"depot": _SITE["depot"], "circuits": _SITE["circuits"]}
    assert (await origin.put("/api/depot/d/site", smaller))["devices"] == []
    await origin.get("/api/device/dev", 404)


async def test_the_same_document_again_changes_nothing(origin: Origin, pool: Pool) -> None:
    await origin.put("/api/depot/d/site", _SITE)
    before = await pool.fetchval("SELECT count(*) FROM site_change")
    await origin.put("/api/depot/d/site", await origin.get("/api/depot/d/site"))
    assert await pool.fetchval("SELECT count(*) FROM site_change") == before


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"circuits": []}, "/circuits", "NO_TOP_LEVEL_CIRCUIT"),
        ({"depot": {"depot_id": "e", "name": "D", "timezone": "UTC"}}, "/depot/depot_id", "INVALID_VALUE"),
        ({"devices": [{"device_id": "dev", "gateway_id": "no"}]}, "/devices/0/gateway_id", "GATEWAY_NOT_FOUND"),
        ({"gatways": []}, "/gatways", "UNKNOWN_FIELD"),
    ],
)
async def test_a_document_that_can_not_be_is_refused_whole(origin: Origin, change: dict[str, Any], pointer: str, code: str) -> None:
    problem = await origin.put("/api/depot/d/site", {**_SITE, **change}, 422)
    assert (problem["code"], codes(problem)) == (code, [(pointer, code)])
    await origin.get("/api/depot/d", 404)


async def test_a_body_that_is_no_json_is_told_as_such(origin: Origin) -> None:
    assert (await origin.post("/api/depot", b'{"depot_id": ', 422))["code"] == "MALFORMED_JSON"
    assert (await origin.post("/api/depot", [1], 422))["code"] == "INVALID_VALUE"
