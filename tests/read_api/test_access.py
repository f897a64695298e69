"""Nobody reads without a token and a role, and nobody reads what belongs to a depot that is not theirs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi.routing import iter_route_contexts
from tests.read_api.conftest import Clock
from tests.read_api.seed import MICROGRID, T0, run, soc
from tests.read_api.test_dead_letters import letter
from tests.service_runtime.identity import ISSUER, claims, jwks, keys_of, signed

from event_store.append import append_events
from event_store.database import Pool
from event_store.dead_letters import DeadLetter, put_dead_letters
from read_api.app import ReadApi, create_app
from read_api.openapi import openapi_text
from read_api.visibility import ACCESS_RULES
from service_runtime import health
from service_runtime.access import ROLES, Access
from service_runtime.access_tokens import AccessTokens, same_issuer
from service_runtime.feature_flags import FeatureFlags, load_flags

_PATHS = sorted(json.loads(openapi_text())["paths"])
_LISTS = [path for path in _PATHS if "{" not in path]
_THINGS = [path for path in _PATHS if "{" in path]
_QUERIES = {
    "/api/device/{device_id}/measurement/history": {"measurand": "SOC"},
    "/api/depot/{depot_id}/series": {"measure": "load_kw"},
}
_NOWHERE = "01900000-0000-7000-8000-0000000000ff"

_MICROGRID_2 = "01900000-0000-7000-8000-000000000002"
_ACTION_2 = "01900000-0000-7000-8000-000000000023"
_BINDING_2 = "01900000-0000-7000-8000-000000000024"
_JOB_OF_D2 = "01900000-0000-7000-8000-000000000024"
_OF_D2 = letter(b"of-d-2", at=T0)
_OF_NOBODY = letter(b"of-nobody", at=T0)
_OF_CTRL_1_AND_NOBODY = letter(b"of-ctrl-1", at=T0, device_id="ctrl-1")

_SITE_2 = f"""
INSERT INTO depot (depot_id, name, timezone) VALUES ('d-2', 'Depot of-d-2', 'Europe/Berlin');
INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('c-of-d-2', 'd-2', 'Grid', 0);
INSERT INTO charge_point (charge_point_id, circuit_id, name, max_kw) VALUES ('cp-of-d-2', 'c-of-d-2', 'Bay', 150);
INSERT INTO connector (connector_id, charge_point_id, number) VALUES ('con-of-d-2', 'cp-of-d-2', 1);
INSERT INTO power_source (power_source_id, depot_id, kind, name) VALUES ('ps-of-d-2', 'd-2', 'GRID', 'Grid');
INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('gw-of-d-2', 'd-2', 'Gateway');
INSERT INTO device (device_id, depot_id, gateway_id) VALUES ('dev-of-d-2', 'd-2', 'gw-of-d-2');
INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES ('{_MICROGRID_2}', 'd-2', 1, 'NO_GRID_CONNECTION');
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action) VALUES
    ('{_ACTION_2}', 'd-2', 'dev-of-d-2', 'SOC', 'RECORD_MEASUREMENT');
INSERT INTO capability_control_point
    (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, enabled, controller_binding_id)
    VALUES ('{_BINDING_2}', '{_MICROGRID_2}', 'DER', 'dev-of-d-2', 'DER', 300, true, '{_BINDING_2}');
INSERT INTO replay_job (job_id, requested_by, requested_at, wanted, dry_run, of_depots, status, total) VALUES
    ('{_JOB_OF_D2}', 'somebody', now(), '{{}}', false, '{{d-2}}', 'DONE', 0);
"""
# By the name of a path's parameter: what belongs to depot d-2, and the code of one that does not exist.
_ITS_THINGS = {
    "depot_id": ("d-2", "DEPOT_NOT_FOUND"),
    "microgrid_id": (_MICROGRID_2, "MICROGRID_NOT_FOUND"),
    "circuit_id": ("c-of-d-2", "CIRCUIT_NOT_FOUND"),
    "charge_point_id": ("cp-of-d-2", "CHARGE_POINT_NOT_FOUND"),
    "connector_id": ("con-of-d-2", "CONNECTOR_NOT_FOUND"),
    "power_source_id": ("ps-of-d-2", "POWER_SOURCE_NOT_FOUND"),
    "gateway_id": ("gw-of-d-2", "GATEWAY_NOT_FOUND"),
    "device_id": ("dev-of-d-2", "DEVICE_NOT_FOUND"),
    "sensor_action_id": (_ACTION_2, "SENSOR_ACTION_NOT_FOUND"),
    "controller_binding_id": (_BINDING_2, "CONTROLLER_BINDING_NOT_FOUND"),
    "dead_letter_id": (_OF_D2.dead_letter_id, "DEAD_LETTER_NOT_FOUND"),
    "job_id": (_JOB_OF_D2, "REPLAY_JOB_NOT_FOUND"),
}


class Caller:
    """Asks the API with tokens of its own."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, query: dict[str, Any] | None = None, **told: Any) -> httpx2.Response:
        """The answer to someone whose token says this besides the role of a viewer."""
        return await self.http.get(path, params=query or _QUERIES.get(path), headers=bearer(**told))


def bearer(**told: Any) -> dict[str, str]:
    """The header of a token of the tests' issuer, good for an hour from the clock's time."""
    now_s = int(T0.timestamp())
    return {"Authorization": f"Bearer {signed(claims(**{'iat': now_s, 'exp': now_s + 3600, **told}))}"}


@pytest.fixture
def guarded(pool: Pool, clock: Clock) -> ReadApi:
    """The read API that checks tokens."""
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    return create_app(pool, clock, flags, Access(AccessTokens(keys_of(jwks()), same_issuer(ISSUER), clock)))


@pytest.fixture
async def caller(guarded: ReadApi) -> AsyncIterator[Caller]:
    transport = httpx2.ASGITransport(app=guarded.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid", timeout=60) as http:
        yield Caller(http)


@pytest.fixture
async def two_depots(pool: Pool, site: None) -> None:
    """Depot d-1 as ever, depot d-2, and letters of each and of neither."""
    await run(pool, _SITE_2)

    def of(depot_id: str | None, one: DeadLetter) -> DeadLetter:
        return msgspec.structs.replace(one, depot_id=depot_id)

    of_d1 = letter(b"of-d-1", at=T0, device_id="ctrl-1")
    stored = [of("d-1", of_d1), of("d-2", _OF_D2), of(None, _OF_NOBODY), of(None, _OF_CTRL_1_AND_NOBODY)]
    async with pool.acquire() as connection:
        await put_dead_letters(connection, stored)
    await append_events(pool, [soc(50.0, T0)])


def test_every_route_has_its_rule_and_no_rule_is_left_over(guarded: ReadApi) -> None:
    routes = {f"GET {path}" for path in _PATHS}
    assert routes == set(ACCESS_RULES)
    # Also those that are left out of the description.
    ours = {route.path for route in iter_route_contexts(guarded.app.routes)}
    assert {path for path in ours if path is not None and path.startswith("/api/")} == set(_PATHS)


@pytest.mark.parametrize("path", _PATHS)
async def test_a_path_is_401_without_a_token_403_without_the_role_and_open_with_it(caller: Caller, path: str) -> None:
    asked = re.sub(r"\{\w+\}", _NOWHERE, path)
    without = await caller.http.get(asked)
    assert (without.status_code, without.json()["code"]) == (401, "UNAUTHENTICATED")
    assert without.headers["www-authenticate"].startswith("Bearer")
    for role in (*ROLES, None):
        answered = await caller.get(asked, roles=[role])
        if role in ("viewer", "operator", "configurator", "admin"):
            assert answered.status_code in (200, 404, 422), role
        else:
            assert (answered.status_code, answered.json()["code"]) == (403, "FORBIDDEN"), role
            assert answered.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_what_says_how_the_process_is_needs_no_token(caller: Caller, path: str) -> None:
    assert (await caller.http.get(path)).status_code in (200, 503)


async def test_an_expired_token_opens_nothing(caller: Caller) -> None:
    answered = await caller.get("/api/depot", exp=int(T0.timestamp()) - 31)
    assert (answered.status_code, answered.json()["code"]) == (401, "TOKEN_EXPIRED")


@pytest.mark.usefixtures("two_depots")
@pytest.mark.parametrize("path", _THINGS)
async def test_what_is_of_another_depot_answers_as_what_does_not_exist(caller: Caller, path: str) -> None:
    (parameter,) = re.findall(r"\{(\w+)\}", path)
    its, code = _ITS_THINGS[parameter]
    asked, unknown = path.replace(f"{{{parameter}}}", its), path.replace(f"{{{parameter}}}", _NOWHERE)
    query = _QUERIES.get(path)
    if not path.endswith("/stream"):
        for depots in (["d-2"], ["d-1", "d-2"], "*"):
            assert (await caller.get(asked, query, depots=depots)).status_code == 200, depots
    for depots in (["d-1"], [], None):
        hidden = await caller.get(asked, query, depots=depots)
        missing = await caller.get(unknown, query, depots=depots)
        assert (hidden.status_code, hidden.json()["code"]) == (404, code), depots
        assert hidden.text.replace(its, "…") == missing.text.replace(_NOWHERE, "…")
        assert sorted(hidden.headers) == sorted(missing.headers)
    # The one who sees all gets the very words, too: what does not exist is told apart by nobody.
    assert (await caller.get(unknown, query, depots="*")).json()["detail"] == missing.json()["detail"]


@pytest.mark.usefixtures("two_depots")
@pytest.mark.parametrize("path", _THINGS)
async def test_an_id_that_can_not_be_one_is_404_for_everyone(caller: Caller, path: str) -> None:
    asked = re.sub(r"\{\w+\}", "a%00b", path)
    for depots in ("*", ["d-1"]):
        assert (await caller.get(asked, _QUERIES.get(path), depots=depots)).status_code == 404, depots


@pytest.mark.usefixtures("two_depots")
@pytest.mark.parametrize("path", _LISTS)
async def test_a_list_shows_what_is_of_the_callers_depots_and_nothing_else(caller: Caller, path: str) -> None:
    everything = (await caller.get(path, depots="*")).json()["items"]
    of_d1 = (await caller.get(path, depots=["d-1"])).json()["items"]
    of_d2 = (await caller.get(path, depots=["d-2"])).json()["items"]
    of_both = (await caller.get(path, depots=["d-2", "d-1", "d-3"])).json()["items"]
    assert of_d1
    assert of_d2
    assert "d-2" not in json.dumps(of_d1)
    assert [one for one in everything if one in of_d1 or one in of_d2] == of_both
    assert [one for one in of_both if one not in of_d2] == of_d1
    for depots in ([], None, ["d-3"]):
        assert (await caller.get(path, depots=depots)).json()["items"] == []


@pytest.mark.usefixtures("two_depots")
async def test_a_page_of_a_narrowed_list_is_full_and_leads_to_the_next(caller: Caller) -> None:
    first = (await caller.get("/api/depot", {"limit": 1}, depots=["d-1", "d-2"])).json()
    second = (await caller.get("/api/depot", {"limit": 1, "cursor": first["next"]}, depots=["d-1", "d-2"])).json()
    assert [one["depot_id"] for one in first["items"] + second["items"]] == ["d-1", "d-2"]
    assert second["next"] is None
    assert (await caller.get("/api/depot", {"limit": 1}, depots=["d-1"])).json()["next"] is None


@pytest.mark.usefixtures("two_depots")
async def test_letters_of_no_depot_are_for_those_who_see_all(caller: Caller) -> None:
    for one in (_OF_NOBODY, _OF_CTRL_1_AND_NOBODY):
        path = f"/api/dead-letter/{one.dead_letter_id}"
        assert (await caller.get(path, depots="*")).status_code == 200
        assert (await caller.get(path, depots=["d-1", "d-2"])).status_code == 404
    groups = (await caller.get("/api/dead-letter", {"group_by": "depot_id"}, depots=["d-1", "d-2"])).json()["items"]
    assert [(one["group"]["depot_id"], one["count"]) for one in groups] == [("d-1", 1), ("d-2", 1)]
    groups = (await caller.get("/api/dead-letter", {"group_by": "depot_id"}, depots="*")).json()["items"]
    assert sorted((one["group"]["depot_id"] or "", one["count"]) for one in groups) == [("", 2), ("d-1", 1), ("d-2", 1)]
    groups = (await caller.get("/api/dead-letter", {"group_by": "device_id"}, depots=["d-1"])).json()["items"]
    assert [(one["group"]["device_id"], one["count"]) for one in groups] == [("ctrl-1", 1)]


@pytest.mark.usefixtures("two_depots")
async def test_a_filter_for_another_depot_finds_nothing(caller: Caller) -> None:
    assert (await caller.get("/api/dead-letter", {"depot_id": "d-2"}, depots=["d-1"])).json()["items"] == []
    assert len((await caller.get("/api/dead-letter", {"depot_id": "d-2"}, depots=["d-2"])).json()["items"]) == 1


@pytest.mark.usefixtures("two_depots")
async def test_a_devices_report_shows_no_letter_that_the_list_would_not(caller: Caller) -> None:
    reports = (await caller.get("/api/device/ctrl-1/report", depots=["d-1"])).json()["items"]
    assert sum(len(one["dead_letters"]) for one in reports) == 1
    reports = (await caller.get("/api/device/ctrl-1/report", depots="*")).json()["items"]
    assert sum(len(one["dead_letters"]) for one in reports) == 2


@pytest.mark.usefixtures("two_depots")
async def test_a_stream_ends_with_the_token_that_opened_it(guarded: ReadApi) -> None:
    soon = bearer(exp=int(T0.timestamp()) + 1, depots=["d-1"])
    async with health.serve(guarded.app, "127.0.0.1", 0) as port, httpx2.AsyncClient(timeout=60) as http:
        address = f"http://127.0.0.1:{port}/api/microgrid/{MICROGRID}/stream"
        async with asyncio.timeout(60), http.stream("GET", address, headers=soon) as response:
            assert response.status_code == 200
            lines = [line async for line in response.aiter_lines()]
        assert lines[0] == "event: card"
        guarded.streams.end()
