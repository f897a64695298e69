"""Every code that the description of the commands promises is answered to a request of this page, under the status it stands for.

A new code fails the first test until it has a row here, or in `SEEN_ELSEWHERE` the name of the test that sees it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import httpx2
import pytest
import uuid_utils
from tests.command_api.conftest import T0, AccessAs, Clock, Origin, depot
from tests.contracts.http_codes import missing_in, promised
from tests.service_runtime.identity import ISSUER, claims, jwks, keys_of, signed

from command_api.app import create_app
from event_store.database import Pool
from sensor_packet.packet import MAX_PACKET_BYTES
from service_runtime.access import Access, Principal
from service_runtime.access_tokens import AccessTokens, KeysUnavailable, same_issuer

Row = tuple[int, str, str, Any]
"""Status, method, path and body of a request."""

_NOWHERE = "01900000-0000-7000-8000-0000000000ff"
SEEN_ELSEWHERE = {
    "BODY_DROPPED": "tests/site_operations/test_replay.py::test_a_letter_whose_bytes_are_not_all_there_waits_as_before",
    "BODY_TRUNCATED": "tests/site_operations/test_replay.py::test_a_letter_whose_bytes_are_not_all_there_waits_as_before",
    "NOT_STORABLE": "tests/site_operations/test_ingest.py::test_what_postgresql_refuses_is_alone_in_the_dead_letters",
    "SERVICE_UNAVAILABLE": "tests/operator_cli/test_front.py::test_an_api_that_is_away_is_told_as_such",
}
"""What can not be asked for here, and where it is."""


def _circuit(**changed: Any) -> dict[str, Any]:
    return {"circuit_id": "new", "depot_id": "d", "parent_circuit_id": "k", "name": "N", **changed}


def _gateway(**changed: Any) -> dict[str, Any]:
    return {"gateway_id": "new", "depot_id": "d", "name": "G", **changed}


def _action(action: str, device_id: str = "dev", **changed: Any) -> dict[str, Any]:
    return {"device_id": device_id, "measurand": "ACTIVE_POWER", "action": action, **changed}


def _site(*bindings: dict[str, Any]) -> dict[str, Any]:
    return {
        "depot": {"depot_id": "new", "name": "D", "timezone": "UTC"},
        "circuits": [{"circuit_id": "new-gc", "name": "Grid"}],
        "gateways": [{"gateway_id": "new-gw", "name": "G"}],
        "devices": [{"device_id": "new-dev", "gateway_id": "new-gw", "profile": "sitepwrmon"}],
        "controller_bindings": list(bindings),
    }


def _binding(**changed: Any) -> dict[str, Any]:
    return {"device_id": "new-dev", "capabilities": [{"capability": "DER", "measurand": "DER"}], **changed}


def _status(**changed: Any) -> dict[str, Any]:
    known = {"capability": "DER", "value": True, "device_id": "dev", "observed_at": T0.isoformat(), "source_event_ref": "s"}
    return {**known, **changed}


_DER = _action("UPDATE_MICROGRID_STATE", measurand="DER", capability="DER")
REQUESTS: dict[str, Row] = {
    "ALREADY_EXISTS": (409, "POST", "/api/circuit", _circuit(circuit_id="k", parent_circuit_id="d-gc")),
    "CAPABILITY_SOURCE_CONFLICT": (409, "POST", "/api/sensor_action", _DER),
    "CHARGE_POINT_IN_USE": (409, "DELETE", "/api/charge_point/cp", None),
    "CHARGE_POINT_NOT_FOUND": (404, "DELETE", "/api/charge_point/nobody", None),
    "CIRCUIT_CYCLE": (409, "PATCH", "/api/circuit/d-gc", {"parent_circuit_id": "k"}),
    "CIRCUIT_IN_USE": (409, "DELETE", "/api/circuit/k", None),
    "CIRCUIT_NOT_FOUND": (404, "DELETE", "/api/circuit/nobody", None),
    "CONNECTOR_NOT_FOUND": (404, "DELETE", "/api/connector/nobody", None),
    "CONTENT_TOO_LARGE": (413, "POST", "/api/circuit", b" " * (1024 * 1024 + 1)),
    "DEPOT_IN_USE": (409, "DELETE", "/api/depot/d", None),
    "DEPOT_NOT_FOUND": (404, "PATCH", "/api/depot/nobody", {"name": "N"}),
    "DEVICE_OF_OTHER_DEPOT": (422, "POST", "/api/depot/d/microgrid/capability-status", _status(device_id="e-dev")),
    "DEVICE_NOT_FOUND": (404, "DELETE", "/api/device/nobody", None),
    "EMPTY_BINDING": (422, "PUT", "/api/depot/new/site", _site(_binding(capabilities=[]))),
    "GATEWAY_IN_USE": (409, "DELETE", "/api/gateway/gw", None),
    "GATEWAY_NOT_FOUND": (404, "DELETE", "/api/gateway/nobody", None),
    "INVALID_POWER_SOURCE": (422, "POST", "/api/gateway", _gateway(output_translation={"GEN": "nothing"})),
    "INVALID_STALE_AFTER": (422, "PUT", "/api/depot/new/site", _site(_binding(stale_after_s=0))),
    "INVALID_VALUE": (422, "POST", "/api/circuit", _circuit(name=1)),
    "MALFORMED_JSON": (422, "POST", "/api/circuit", b"{"),
    "MEASURAND_NOT_SUPPORTED": (422, "POST", "/api/sensor_action", {**_DER, "measurand": "SOC"}),
    "CONTROLLER_BINDING_NOT_FOUND": (404, "DELETE", f"/api/controller-binding/{_NOWHERE}", None),
    "REPLAY_JOB_NOT_FOUND": (404, "DELETE", f"/api/dead-letter/replay/{_NOWHERE}", None),
    "METHOD_NOT_ALLOWED": (405, "PUT", "/api/circuit/k", {}),
    "MICROGRID_NOT_FOUND": (404, "POST", "/api/depot/old/microgrid/resync", None),
    "MISSING_FIELD": (422, "POST", "/api/gateway", {"gateway_id": "new", "depot_id": "d"}),
    "MODEL_OUTPUT_WITHOUT_MODEL": (422, "POST", "/api/gateway", _gateway(model_outputs={"GEN": "UPDATE_POWER_SOURCE_LOAD"})),
    "NOT_FOUND": (404, "POST", "/api/lunch", {}),
    "NO_TOP_LEVEL_CIRCUIT": (409, "POST", "/api/depot/old/microgrid", None),
    "POWER_SOURCE_IN_USE": (409, "DELETE", "/api/power_source/bess", None),
    "POWER_SOURCE_NOT_FOUND": (404, "DELETE", "/api/power_source/nobody", None),
    "SENSOR_ACTION_NOT_FOUND": (404, "DELETE", "/api/sensor_action/nobody", None),
    "UNKNOWN_FIELD": (422, "POST", "/api/circuit", _circuit(colour="red")),
    "UNKNOWN_NODE": (422, "POST", "/api/sensor_action", {**_DER, "node_id": "01900000-0000-7000-8000-000000000001"}),
    "UNKNOWN_PROFILE": (422, "POST", "/api/device", {"device_id": "new", "gateway_id": "gw", "profile": "toaster"}),
    "UNSUPPORTED_CAPABILITY": (
        422,
        "PUT",
        "/api/depot/new/site",
        _site(_binding(capabilities=[{"capability": "LUNCH", "measurand": "DER"}])),
    ),
    "VALIDATION_FAILED": (422, "POST", "/api/circuit", _circuit(name=1, colour="red")),
}


def _packet(*measurands: dict[str, Any], **changed: Any) -> dict[str, Any]:
    said = list(measurands) or [{"key": "SOC", "value": 55}]
    known = {"schema_version": "1.0", "packet_id": "p", "gateway_id": "gw", "device_id": "dev", "sent_at": T0.isoformat()}
    return {**known, "measurands": said, **changed}


REFUSED_PACKETS: dict[str, Any] = {
    "CLOCK_SKEW": _packet(sent_at=(T0 + timedelta(hours=1)).isoformat()),
    "DEVICE_DISABLED": _packet(device_id="off"),
    "DEVICE_NOT_OWNED": _packet(device_id="e-dev"),
    "INVALID_PACKET": _packet(measurands=[]),
    "INVALID_TIMESTAMP": _packet(sent_at="2026-11-20T12:00:00"),
    "PACKET_TOO_LARGE": b'"' + b"x" * MAX_PACKET_BYTES + b'"',
    "UNKNOWN_DEVICE": _packet(device_id="nobody"),
    "UNSUPPORTED_SCHEMA_VERSION": _packet(schema_version="2.0"),
}
_POWER = {"key": "ACTIVE_POWER", "value": 5}
_E = {"gateway_id": "e-gw"}
OUTCOMES: dict[str, dict[str, Any]] = {
    "AMBIGUOUS_CIRCUIT": _packet({"key": "AVAILABLE_CHARGING_CAPACITY", "value": 5}, device_id="e-loose", **_E),
    "AMBIGUOUS_CIRCUIT_POWER_SOURCE": _packet(_POWER, device_id="e-dev", **_E),
    "AMBIGUOUS_DEPOT_BATTERY": _packet(_POWER, device_id="e-loose", **_E),
    "CAPABILITY_NOT_BOUND": _packet({"key": "PEAK_SHAVING", "value": True}, device_id="mon"),
    "DUPLICATE_MEASURAND": _packet({"key": "SOC", "value": 5}, {"key": "SOC", "value": 6}),
    "INVALID_UNIT": _packet({"key": "SOC", "value": 5, "unit": "kW"}),
    "NO_POWER_SOURCE": _packet(_POWER, device_id="f-dev", gateway_id="f-gw"),
    "VALUE_NOT_APPLICABLE": _packet({"key": "ANY", "value": "text"}),
}


@pytest.fixture
async def things(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    """Besides depot d: one with two of everything, one without power sources, and one from before microgrids."""
    await pool.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('old', 'Old', 'UTC')")
    await origin.post("/api/depot", depot("e", *({"circuit_id": f"e-{n}", "name": "N"} for n in (1, 2))))
    await origin.post("/api/depot", depot("f"))
    for battery in ("e-b1", "e-b2"):
        body = {"power_source_id": battery, "depot_id": "e", "circuit_id": "e-1", "kind": "BATTERY", "name": "B"}
        await origin.post("/api/power_source", body)
    for gateway in ("e", "f"):
        await origin.post("/api/gateway", {"gateway_id": f"{gateway}-gw", "depot_id": gateway, "name": "G"})
    for device in (
        {"device_id": "mon", "gateway_id": "gw", "profile": "sitepwrmon"},
        {"device_id": "off", "gateway_id": "gw", "enabled": False},
        {"device_id": "e-dev", "gateway_id": "e-gw", "circuit_id": "e-1"},
        {"device_id": "e-loose", "gateway_id": "e-gw"},
        {"device_id": "f-dev", "gateway_id": "f-gw"},
    ):
        await origin.post("/api/device", device)
    for device_id in ("dev", "e-dev", "e-loose", "f-dev"):
        await origin.post("/api/sensor_action", _action("UPDATE_POWER_SOURCE_LOAD", device_id))
    await origin.post("/api/sensor_action", _action("UPDATE_POWER_SOURCE_LOAD", measurand="ANY"))
    capacity = _action("UPDATE_CIRCUIT_CAPACITY", "e-loose", measurand="AVAILABLE_CHARGING_CAPACITY")
    await origin.post("/api/sensor_action", capacity)
    await pool.execute(
        "UPDATE capability_control_point SET enabled = false WHERE device_id = 'mon' AND capability = 'PEAK_SHAVING'"
    )


def _client(pool: Pool, clock: Clock, access: Access) -> httpx2.AsyncClient:
    app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), access)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://depotgrid")


async def _by_token(pool: Pool, clock: Clock, keys: Callable[[str | None], Any], **told: Any) -> httpx2.Response:
    now_s = int(T0.timestamp())
    token = signed(claims(**{"iat": now_s, "exp": now_s + 60, "roles": ["admin"], **told}))
    async with _client(pool, clock, Access(AccessTokens(keys, same_issuer(ISSUER), clock))) as caller:
        return await caller.post("/api/depot", json=depot("new"), headers={"Authorization": f"Bearer {token}"})


async def _no_keys(_: str | None) -> KeysUnavailable:
    return KeysUnavailable()


async def _without_token(pool: Pool, clock: Clock) -> httpx2.Response:
    async with _client(pool, clock, Access(AccessTokens(keys_of(jwks()), same_issuer(ISSUER), clock))) as caller:
        return await caller.post("/api/depot", json=depot("new"))


async def _of_other_gateway(pool: Pool, clock: Clock) -> httpx2.Response:
    device = Principal("gw", frozenset({"device"}), frozenset(), "other")
    async with _client(pool, clock, AccessAs(device)) as caller:
        return await caller.post("/api/packet", json=_packet())


async def _reused_key(pool: Pool, clock: Clock) -> httpx2.Response:
    async with _client(pool, clock, Access(None)) as caller:
        for name in ("One", "Other"):
            body = _gateway(gateway_id="kept", name=name)
            answered = await caller.post("/api/gateway", json=body, headers={"Idempotency-Key": "k"})
        return answered


async def _changed_binding(pool: Pool, clock: Clock, **headers: str) -> httpx2.Response:
    binding_id = await pool.fetchval("SELECT controller_binding_id::text FROM capability_control_point LIMIT 1")
    async with _client(pool, clock, Access(None)) as caller:
        return await caller.patch(f"/api/controller-binding/{binding_id}", json={"enabled": False}, headers=headers)


async def _failing(_: Pool, clock: Clock) -> httpx2.Response:
    async with _client(cast("Pool", object()), clock, Access(None)) as caller:
        return await caller.post("/api/depot", json=depot("new"))


async def _without_database(pool: Pool, clock: Clock) -> httpx2.Response:
    await pool.close()
    async with _client(pool, clock, Access(None)) as caller:
        return await caller.post("/api/depot", json=depot("new"))


CIRCUMSTANCES: dict[str, tuple[int, Callable[[Pool, Clock], Awaitable[httpx2.Response]]]] = {
    "FORBIDDEN": (403, lambda pool, clock: _by_token(pool, clock, keys_of(jwks()), roles=["viewer"])),
    "IDEMPOTENCY_KEY_REUSED": (422, _reused_key),
    "IDENTITY_MISMATCH": (422, _of_other_gateway),
    "IDENTITY_PROVIDER_UNAVAILABLE": (503, lambda pool, clock: _by_token(pool, clock, _no_keys)),
    "INTERNAL_ERROR": (500, _failing),
    "PRECONDITION_REQUIRED": (428, _changed_binding),
    "VERSION_CONFLICT": (412, lambda pool, clock: _changed_binding(pool, clock, **{"If-Match": '"99"'})),
    "TOKEN_EXPIRED": (401, lambda pool, clock: _by_token(pool, clock, keys_of(jwks()), exp=int(T0.timestamp()) - 60)),
    "TOKEN_INVALID": (401, lambda pool, clock: _by_token(pool, clock, keys_of(jwks()), iss="https://somebody.example")),
    "UNAUTHENTICATED": (401, _without_token),
    # Last, for it takes the database away.
    "DATABASE_UNAVAILABLE": (503, _without_database),
}


def test_every_code_that_is_promised_is_seen_by_a_test_and_no_other() -> None:
    here = REQUESTS.keys() | REFUSED_PACKETS.keys() | OUTCOMES.keys() | CIRCUMSTANCES.keys()
    assert promised("command") - here - SEEN_ELSEWHERE.keys() == set(), "add a row for each, or name the test that sees it"
    assert here - promised("command") == set(), "not in CODES of services/command_api/codes.py"
    assert [why for code, test in SEEN_ELSEWHERE.items() if (why := missing_in(code, test))] == []


@pytest.mark.usefixtures("things")
async def test_every_request_of_this_page_is_refused_with_its_code(origin: Origin) -> None:
    seen = {code: await _refusal(origin, method, path, body) for code, (_, method, path, body) in REQUESTS.items()}
    assert seen == {code: (row[0], code) for code, row in REQUESTS.items()}


@pytest.mark.usefixtures("things")
async def test_every_packet_of_this_page_is_refused_with_its_code(origin: Origin) -> None:
    seen = {code: await _refusal(origin, "POST", "/api/packet", body) for code, body in REFUSED_PACKETS.items()}
    assert seen == {code: (422, code) for code in REFUSED_PACKETS}


@pytest.mark.usefixtures("things")
async def test_every_action_of_this_page_is_told_with_its_code(origin: Origin) -> None:
    seen = {code: (await origin.post("/api/packet", body, 200))["outcomes"] for code, body in OUTCOMES.items()}
    codes = {code: {one.get("code") for one in outcomes} for code, outcomes in seen.items()}
    assert {code: code for code in OUTCOMES if code not in codes[code]} == {}, codes


@pytest.mark.usefixtures("things")
async def test_every_circumstance_of_this_page_is_told_with_its_code(pool: Pool, clock: Clock) -> None:
    seen = {code: await ask(pool, clock) for code, (_, ask) in CIRCUMSTANCES.items()}
    assert {code: (one.status_code, one.json()["code"]) for code, one in seen.items()} == {
        code: (status, code) for code, (status, _) in CIRCUMSTANCES.items()
    }


async def _refusal(origin: Origin, method: str, path: str, body: Any) -> tuple[int, str]:
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    answered = await origin.commands.request(method, path, content=content)
    assert answered.headers["content-type"] == "application/problem+json", answered.text
    return answered.status_code, answered.json()["code"]
