"""Around every command: keys that answer twice, rows of audit, bounds, roles."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx2
import pytest
import uuid_utils
from fastapi.routing import iter_route_contexts
from tests.command_api.conftest import AccessAs, Clock, Origin, codes, depot

from command_api.access_rules import ACCESS_RULES
from command_api.app import create_app
from event_store.database import Pool
from service_runtime.access import Access, Principal, Role


async def _audit(pool: Pool) -> list[tuple[object, ...]]:
    rows = await pool.fetch("SELECT principal, method, path, status, code, idempotency_key FROM audit ORDER BY audit_id")
    return [tuple(row) for row in rows]


async def test_the_same_key_is_answered_as_the_first_time_and_does_nothing(origin: Origin, pool: Pool) -> None:
    first = await origin.commands.post("/api/depot", json=depot(), headers={"Idempotency-Key": "k"})
    again = await origin.commands.post("/api/depot", json=depot(), headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"] == "/api/depot/d"
    assert len(await _audit(pool)) == 1


async def test_a_refusal_is_repeated_under_its_key_too(origin: Origin) -> None:
    refused = await origin.post("/api/circuit", {"circuit_id": "c", "depot_id": "d", "name": "C"}, 404, key="k")
    await origin.post("/api/depot", depot())
    assert await origin.post("/api/circuit", {"circuit_id": "c", "depot_id": "d", "name": "C"}, 404, key="k") == refused


async def test_a_key_that_stood_for_another_request_is_refused(origin: Origin) -> None:
    await origin.post("/api/depot", depot(), key="k")
    problem = await origin.post("/api/depot", depot("e"), 422, key="k")
    assert problem["code"] == "IDEMPOTENCY_KEY_REUSED"
    await origin.get("/api/depot/e", 404)


async def test_a_key_is_of_one_path(origin: Origin) -> None:
    await origin.post("/api/depot", depot(), key="k")
    made = await origin.post("/api/circuit", {"circuit_id": "c", "depot_id": "d", "name": "C"}, key="k")
    assert made["circuit_id"] == "c"


async def test_a_key_is_forgotten_after_a_day(origin: Origin, clock: Clock, pool: Pool) -> None:
    await origin.post("/api/depot", depot(), key="k")
    clock.now += timedelta(hours=23, minutes=59)
    await origin.post("/api/depot", depot(), 201, key="k")
    clock.now += timedelta(minutes=2)
    assert (await origin.post("/api/depot", depot(), 409, key="k"))["code"] == "ALREADY_EXISTS"
    assert await pool.fetchval("SELECT count(*) FROM idempotency_key") == 1


async def test_two_at_once_under_one_key_do_it_once_and_are_answered_alike(origin: Origin, pool: Pool) -> None:
    asked = [origin.commands.post("/api/depot", json=depot(), headers={"Idempotency-Key": "k"}) for _ in range(6)]
    answered = await asyncio.gather(*asked)
    assert {(one.status_code, one.content) for one in answered} == {(201, answered[0].content)}
    assert len(await _audit(pool)) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(origin: Origin, key: str) -> None:
    problem = await origin.post("/api/depot", depot(), 422, key=key)
    assert codes(problem) == [("/header/Idempotency-Key", "INVALID_VALUE")]


async def test_a_body_beyond_its_bound_is_refused(origin: Origin) -> None:
    assert (await origin.post("/api/depot", b" " * 2_000_000, 413))["code"] == "CONTENT_TOO_LARGE"


async def test_an_unknown_parameter_is_refused(origin: Origin) -> None:
    assert codes(await origin.post("/api/depot?force=1", depot(), 422)) == [("/query/force", "UNKNOWN_FIELD")]


async def test_every_command_leaves_its_row_of_audit_refused_ones_too(origin: Origin, pool: Pool) -> None:
    await origin.post("/api/depot", depot(), key="k")
    await origin.patch("/api/depot/d", {"nme": "x"}, 422)
    await origin.delete("/api/circuit/nobody", 404)
    await origin.patch("/api/depot/%00", {}, 404)
    assert await _audit(pool) == [
        ("everyone", "POST", "/api/depot", 201, None, "k"),
        ("everyone", "PATCH", "/api/depot/d", 422, "UNKNOWN_FIELD", None),
        ("everyone", "DELETE", "/api/circuit/nobody", 404, "CIRCUIT_NOT_FOUND", None),
        ("everyone", "PATCH", "/api/depot/\\u0000", 404, "DEPOT_NOT_FOUND", None),
    ]
    assert await pool.fetchval("SELECT request FROM audit ORDER BY audit_id OFFSET 1 LIMIT 1") == b'{"nme":"x"}'


async def test_rows_of_audit_can_not_be_changed(pool: Pool, origin: Origin) -> None:
    await origin.post("/api/depot", depot())
    for statement in ("UPDATE audit SET principal = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="permission denied"):
            await pool.execute(statement)


def _caller(pool: Pool, clock: Clock, role: Role, depots: set[str] | None = None, gateway: str | None = None) -> httpx2.AsyncClient:
    principal = Principal("somebody", frozenset({role}), frozenset(depots) if depots is not None else None, gateway)
    app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), AccessAs(principal))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://depotgrid")


def test_every_route_has_a_role() -> None:
    app = create_app(None, lambda: None, str, Access(None))  # type: ignore[arg-type]
    described = {f"{method.upper()} {path}" for path, operations in app.openapi()["paths"].items() for method in operations}
    assert described == set(ACCESS_RULES)
    # Also those that are left out of the description.
    ours = {f"{method} {route.path}" for route in iter_route_contexts(app.routes) for method in route.methods or ()}
    assert {one for one in ours if " /api/" in one} == described


async def test_a_role_that_does_not_suffice_is_refused_and_noted(origin: Origin, pool: Pool, clock: Clock) -> None:
    async with _caller(pool, clock, "configurator") as caller:
        answered = await caller.post("/api/depot", json=depot())
    assert (answered.status_code, answered.json()["code"]) == (403, "FORBIDDEN")
    assert await _audit(pool) == [("somebody", "POST", "/api/depot", 403, "FORBIDDEN", None)]


async def test_another_depot_is_not_there_for_whoever_may_not_see_it(
    origin: Origin, site: dict[str, object], pool: Pool, clock: Clock
) -> None:
    async with _caller(pool, clock, "admin", {"e"}) as caller:
        answered = [
            await caller.patch("/api/depot/d", json={"name": "Mine"}),
            await caller.post("/api/circuit", json={"circuit_id": "x", "depot_id": "d", "name": "X"}),
            await caller.delete("/api/circuit/k"),
            await caller.post("/api/connector", json={"connector_id": "x", "charge_point_id": "cp", "number": 2}),
            await caller.put("/api/device/dev/capabilities", json={"measurands": []}),
            await caller.post("/api/depot/d/microgrid/resync"),
        ]
        refused = await caller.post("/api/depot", json=depot("f"))
        allowed = await caller.post("/api/depot", json=depot("e"))
    assert [one.status_code for one in answered] == [404] * 6
    assert (refused.status_code, allowed.status_code) == (403, 201)
    await origin.get("/api/depot/f", 404)


async def test_a_device_says_what_it_measures_for_its_own_gateway_alone(
    origin: Origin, site: dict[str, object], pool: Pool, clock: Clock
) -> None:
    for gateway, status in (("gw", 200), ("other", 404)):
        async with _caller(pool, clock, "device", set(), gateway) as caller:
            assert (await caller.put("/api/device/dev/capabilities", json={"measurands": []})).status_code == status
