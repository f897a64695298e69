"""A capability status that is posted is judged as the same report in a packet, and is one event with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import uuid_utils
from tests.command_api.conftest import T0, AccessAs, Clock, Origin, codes
from tests.command_api.test_packets import packet

from command_api.app import create_app
from event_store.database import Pool
from service_runtime.access import Principal

PATH = "/api/depot/d/microgrid/capability-status"
NOWHERE = "01900000-0000-7000-8000-0000000000ff"
_NUMBERS = iter(range(10_000))


def status(value: object = True, capability: str = "PEAK_SHAVING", **more: object) -> dict[str, Any]:
    """A status of device `dev`, observed at the clock's time, under a reference of its own."""
    return {
        "capability": capability,
        "value": value,
        "observed_at": "2026-11-20T12:00:00Z",
        "source_event_ref": f"s-{next(_NUMBERS)}",
        "device_id": "dev",
        **more,
    }


@pytest.fixture
async def bound(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    """Device `dev` owns both capabilities of the whole site, by a flag and by a battery mode, and one of its grid connection by
    another flag; `dev-2` reports the same and owns nothing."""
    await origin.post("/api/device", {"device_id": "dev-2", "gateway_id": "gw"})
    node_id = await _node_id(pool)
    for measurand, capability, scope in (
        ("PEAK_SHAVING", "PEAK_SHAVING", None),
        ("BESS_OPERATIONAL_MODE", "DER", None),
        ("ANY_FLAG", "PEAK_SHAVING", node_id),
    ):
        for device_id in ("dev", "dev-2"):
            await pool.execute(
                "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability, node_id) "
                "VALUES (gen_random_uuid(), 'd', $1, $2, 'UPDATE_MICROGRID_STATE', $3, $4)",
                device_id,
                measurand,
                capability,
                scope,
            )
        await _own(pool, capability, measurand, node_id=scope)


async def _node_id(pool: Pool) -> str:
    return await pool.fetchval("SELECT node_id::text FROM microgrid_node")


async def _own(pool: Pool, capability: str, measurand: str, *, node_id: str | None = None) -> None:
    await pool.execute(
        "INSERT INTO capability_control_point (control_point_id, microgrid_id, node_id, capability, device_id, measurand, "
        "stale_after_s, enabled) SELECT gen_random_uuid(), microgrid_id, $3, $1, 'dev', $2, 120, true FROM microgrid",
        capability,
        measurand,
        node_id,
    )


_UNBOUND = "UPDATE capability_control_point SET enabled = false"
_NO_MICROGRID = "DELETE FROM capability_control_point; DELETE FROM microgrid_node; DELETE FROM microgrid"
_DISABLED = "UPDATE device SET enabled = false"
_ENABLED = "UPDATE device SET enabled = true"


# changes to the report; capability, measurand and value; status, then outcome and operational status, or code and pointer
_JUDGED: list[tuple[dict[str, str], str, str, object, tuple[int, str, str | None]]] = [
    ({}, "PEAK_SHAVING", "PEAK_SHAVING", True, (200, "APPLIED", "ON")),
    ({}, "PEAK_SHAVING", "PEAK_SHAVING", False, (200, "APPLIED", "OFF")),
    ({}, "PEAK_SHAVING", "ANY_FLAG", True, (200, "APPLIED", "ON")),
    ({}, "DER", "BESS_OPERATIONAL_MODE", "ARMED_BOTH", (200, "APPLIED", "ON")),
    ({}, "DER", "BESS_OPERATIONAL_MODE", "STANDBY", (200, "APPLIED", "OFF")),
    ({}, "DER", "BESS_OPERATIONAL_MODE", "TRANSITION", (200, "RECORDED", None)),
    ({}, "DER", "BESS_OPERATIONAL_MODE", "NO_MODE", (422, "INVALID_VALUE", "/value")),
    ({}, "PEAK_SHAVING", "PEAK_SHAVING", "ON", (422, "INVALID_VALUE", "/value")),
    ({}, "PEAK_SHAVING", "PEAK_SHAVING", 1, (422, "INVALID_VALUE", "/value")),
    ({}, "PEAK_SHAVING", "ANY_FLAG", 1, (422, "VALUE_NOT_APPLICABLE", "/value")),
    ({}, "PEAK_SHAVING", "ANY_FLAG", "ON", (422, "VALUE_NOT_APPLICABLE", "/value")),
    ({"observed_at": "2026-11-20T12:05:00Z"}, "PEAK_SHAVING", "PEAK_SHAVING", True, (200, "APPLIED", "ON")),
    ({"observed_at": "2026-11-20T12:05:00.001Z"}, "PEAK_SHAVING", "PEAK_SHAVING", True, (422, "CLOCK_SKEW", "/observed_at")),
    ({"observed_at": "2026-11-20T12:00:00"}, "PEAK_SHAVING", "PEAK_SHAVING", True, (422, "INVALID_TIMESTAMP", "/observed_at")),
    ({"device_id": "dev-2"}, "PEAK_SHAVING", "PEAK_SHAVING", True, (409, "CAPABILITY_SOURCE_CONFLICT", "/capability")),
    ({"device_id": "dev-2"}, "PEAK_SHAVING", "ANY_FLAG", "x", (409, "CAPABILITY_SOURCE_CONFLICT", "/capability")),
    ({"device_id": "nobody"}, "PEAK_SHAVING", "PEAK_SHAVING", True, (422, "UNKNOWN_DEVICE", "/device_id")),
]


@pytest.mark.usefixtures("bound")
async def test_a_status_is_judged_as_the_same_report_in_a_packet(origin: Origin, pool: Pool) -> None:
    node_id = await _node_id(pool)
    for changes, capability, key, value, expected in _JUDGED:
        scope = node_id if key == "ANY_FLAG" else None
        answered = await origin.post(PATH, status(value, capability, measurand=key, node_id=scope, **changes), expected[0])
        if expected[0] == 200:
            assert (answered["outcome"], answered["operational_status"]) == expected[1:], (changes, key, value)
        else:
            assert codes(answered) == [(expected[2], expected[1])], (changes, key, value)
        assert await _by_packet(origin, key, value, changes) == expected[1], (changes, key, value)


@pytest.mark.usefixtures("bound")
async def test_what_is_configured_now_decides_about_both(origin: Origin, pool: Pool) -> None:
    for script, expected, code in (
        (_DISABLED, 422, "DEVICE_DISABLED"),
        (_ENABLED, 200, None),
        (_UNBOUND, 409, "CAPABILITY_NOT_BOUND"),
        (_NO_MICROGRID, 404, "MICROGRID_NOT_FOUND"),
    ):
        async with pool.acquire() as connection:
            await connection.execute(script)
        assert (await origin.post(PATH, status(), expected)).get("code") == code
        assert await _by_packet(origin, "PEAK_SHAVING", True, {}) == (code or "APPLIED")


async def _by_packet(origin: Origin, key: str, value: object, changes: dict[str, Any]) -> str:
    """The code or outcome that a packet with the same report gets."""
    renamed = {"observed_at": "sent_at"}
    body = packet(
        f"by-packet-{next(_NUMBERS)}", (key, value), **{renamed.get(name, name): change for name, change in changes.items()}
    )
    [result] = (await origin.post("/api/packet/batch", [body], 200))["results"]
    if "outcomes" not in result:
        return result["code"]
    [outcome] = result["outcomes"]
    return outcome.get("code") or outcome["outcome"]


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("first", ["packet", "status"])
async def test_a_report_by_packet_and_by_post_is_one_event(origin: Origin, pool: Pool, first: str) -> None:
    stated = status(True, source_event_ref="p-1", observed_at="2026-11-20T14:00:00+02:00")
    sent = packet("p-1", ("PEAK_SHAVING", True))
    if first == "packet":
        await origin.post("/api/packet", sent, 200)
        second = await origin.post(PATH, stated, 200)
    else:
        await origin.post(PATH, stated, 200)
        [second] = (await origin.post("/api/packet", sent, 200))["outcomes"]
    assert second["outcome"] == "DUPLICATE"
    found = await pool.fetch("SELECT event_id::text, sent_at, observed_at FROM event_store WHERE source_event_ref = 'p-1'")
    assert [one["event_id"] for one in found] == [second["event_id"]]
    assert found[0]["sent_at"] == found[0]["observed_at"] == T0


@pytest.mark.usefixtures("bound")
async def test_a_status_shows_on_the_card_with_the_event_that_says_it(origin: Origin) -> None:
    answered = await origin.post(PATH, status(True, observed_at="2026-11-20T11:59:50Z"), 200)
    await origin.post(PATH, status(False, observed_at="2026-11-20T11:59:00Z"), 200)
    shown = (await origin.get("/api/depot/d/microgrid/card"))["capabilities"][0]
    assert (shown["capability"], shown["operational_status"], shown["event_id"]) == ("PEAK_SHAVING", "ON", answered["event_id"])
    assert (shown["age_s"], shown["freshness"], shown["detail"]["raw_value"]) == (10, "FRESH", True)
    assert shown["source"] == {"device_id": "dev", "gateway_id": "gw"}


@pytest.mark.usefixtures("bound")
async def test_a_posted_status_stands_among_the_devices_reports(origin: Origin) -> None:
    await origin.post(PATH, status(True, source_event_ref="shift-17"), 200)
    await origin.post(PATH, status("TRANSITION", "DER", measurand="BESS_OPERATIONAL_MODE", source_event_ref="shift-18"), 200)
    found = {one["packet_id"]: one["events"] for one in (await origin.get("/api/device/dev/report"))["items"]}
    assert [(one["measurand"], one["outcome"], one["raw_value"]) for one in found["shift-17"]] == [
        ("PEAK_SHAVING", "APPLIED", True)
    ]
    assert [one["outcome"] for one in found["shift-18"]] == ["RECORDED"]


@pytest.mark.usefixtures("bound")
async def test_a_status_needs_no_sensor_action_and_runs_no_other(origin: Origin, pool: Pool) -> None:
    await pool.execute("DELETE FROM sensor_action WHERE measurand = 'PEAK_SHAVING'")
    await origin.post("/api/sensor_action", {"device_id": "dev", "measurand": "PEAK_SHAVING", "action": "RECORD_MEASUREMENT"})
    answered = await origin.post(PATH, status(), 200)
    assert (answered["outcome"], answered["measurand"]) == ("APPLIED", "PEAK_SHAVING")
    assert [row[0] for row in await pool.fetch("SELECT event_type FROM event_store WHERE source_event_ref LIKE 's-%'")] == [
        "CapabilityStatusReported"
    ]


@pytest.mark.usefixtures("bound")
async def test_a_status_of_a_grid_connection_is_its_own_scope(origin: Origin, pool: Pool) -> None:
    node_id = await _node_id(pool)
    stated = await origin.post(PATH, status(False, node_id=node_id, measurand="ANY_FLAG"), 200)
    assert stated["node_id"] == node_id
    shown = (await origin.get("/api/depot/d/microgrid/capability-status"))["items"]
    assert [(one["scope"]["node_id"], one["operational_status"]) for one in shown if one["capability"] == "PEAK_SHAVING"] == [
        (None, None),
        (node_id, "OFF"),
    ]
    refused = await origin.post(PATH, status(capability="DER", node_id=node_id), 409)
    assert (refused["code"], refused["node_id"], refused["active_device_id"]) == ("CAPABILITY_NOT_BOUND", node_id, None)
    assert codes(await origin.post(PATH, status(node_id=NOWHERE), 422)) == [("/node_id", "UNKNOWN_NODE")]


@pytest.mark.usefixtures("bound")
async def test_an_owner_may_state_it_in_other_words_than_its_packets_use(origin: Origin, pool: Pool) -> None:
    assert (await origin.post(PATH, status(True, "DER"), 200))["measurand"] == "DER"
    await pool.execute(
        "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability) "
        "VALUES (gen_random_uuid(), 'd', 'dev', 'DER', 'UPDATE_MICROGRID_STATE', 'DER')"
    )
    # A packet would be refused now, for there are two who feed it; so is this.
    refused = await origin.post(PATH, status(True, "DER"), 409)
    assert refused["code"] == await _by_packet(origin, "DER", True, {}) == "CAPABILITY_SOURCE_CONFLICT"
    assert "BESS_OPERATIONAL_MODE of this device" in refused["detail"]


@pytest.mark.usefixtures("bound")
async def test_a_conflict_names_the_owner_and_what_to_do_and_leaves_the_status_as_it_was(origin: Origin) -> None:
    before = await origin.post(PATH, status(True), 200)
    refused = await origin.post(PATH, status(False, device_id="dev-2"), 409)
    assert (refused["active_device_id"], refused["device_id"], refused["capability"]) == ("dev", "dev-2", "PEAK_SHAVING")
    assert "let dev-2 take it over" in refused["detail"]
    shown = (await origin.get("/api/depot/d/microgrid/card"))["capabilities"][0]
    assert (shown["operational_status"], shown["event_id"]) == ("ON", before["event_id"])


@pytest.mark.usefixtures("bound")
async def test_what_a_person_must_settle_is_listed_until_a_status_applies(origin: Origin, pool: Pool) -> None:
    await pool.execute(_UNBOUND)
    await origin.post(PATH, status(measurand="ODD_FLAG"), 409)
    await origin.post(PATH, status(measurand="ODD_FLAG"), 409)
    [item] = (await origin.get("/api/depot/d/remediation"))["items"]
    assert (item["device_id"], item["measurand"], item["code"], item["count"]) == ("dev", "ODD_FLAG", "CAPABILITY_NOT_BOUND", 2)
    await pool.execute("UPDATE capability_control_point SET enabled = true")
    await origin.post(PATH, status(measurand="ODD_FLAG"), 200)
    assert (await origin.get("/api/depot/d/remediation"))["items"] == []
    assert await pool.fetchval("SELECT count(*) FROM dead_letter") == 0


_FAULTS: list[tuple[object, list[tuple[str, str]]]] = [
    ({**status(), "valeu": True}, [("/valeu", "UNKNOWN_FIELD")]),
    ({}, [(f"/{name}", "MISSING_FIELD") for name in ("capability", "device_id", "observed_at", "source_event_ref", "value")]),
    (
        {
            **status(),
            "capability": "CHARGING",
            "value": None,
            "observed_at": "noon",
            "source_event_ref": "",
            "device_id": "a b",
        },
        [
            ("/capability", "INVALID_VALUE"),
            ("/device_id", "INVALID_VALUE"),
            ("/observed_at", "INVALID_TIMESTAMP"),
            ("/source_event_ref", "INVALID_VALUE"),
            ("/value", "INVALID_VALUE"),
        ],
    ),
    ({**status(), "source_event_ref": "x" * 65}, [("/source_event_ref", "INVALID_VALUE")]),
    ({**status(), "source_event_ref": "a\0b"}, [("/source_event_ref", "INVALID_VALUE")]),
    ({**status(), "value": "x" * 257}, [("/value", "INVALID_VALUE")]),
    ({**status(), "measurand": "1st"}, [("/measurand", "INVALID_VALUE")]),
    ({**status(), "node_id": "gc"}, [("/node_id", "INVALID_VALUE")]),
    ([], [("", "INVALID_VALUE")]),
]


@pytest.mark.usefixtures("site")
async def test_every_fault_of_a_status_is_told_at_its_place(origin: Origin) -> None:
    for body, faults in _FAULTS:
        assert sorted(codes(await origin.post(PATH, body, 422))) == faults, body


@pytest.mark.usefixtures("bound")
async def test_a_device_of_another_depot_is_named_to_those_who_may_see_that_depot_only(
    origin: Origin, pool: Pool, clock: Clock
) -> None:
    await origin.post("/api/depot", {**_OTHER})
    await origin.post("/api/gateway", {"gateway_id": "gw-e", "depot_id": "e", "name": "Gateway"})
    await origin.post("/api/device", {"device_id": "dev-e", "gateway_id": "gw-e"})
    assert codes(await origin.post(PATH, status(device_id="dev-e"), 422)) == [("/device_id", "DEVICE_OF_OTHER_DEPOT")]
    async with _as(pool, clock, Principal("op", frozenset({"operator"}), frozenset({"d"}), None)) as operator:
        assert (await operator.post(PATH, json=status(device_id="dev-e"))).json()["code"] == "UNKNOWN_DEVICE"
        elsewhere = await operator.post("/api/depot/e/microgrid/capability-status", json=status(device_id="dev-e"))
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "DEPOT_NOT_FOUND")
    assert (await origin.post("/api/depot/nowhere/microgrid/capability-status", status(), 404))["code"] == "DEPOT_NOT_FOUND"


_OTHER = {"depot_id": "e", "name": "Other", "timezone": "UTC", "circuits": [{"circuit_id": "e-gc", "name": "Grid"}]}


@asynccontextmanager
async def _as(pool: Pool, clock: Clock, principal: Principal) -> AsyncGenerator[httpx2.AsyncClient]:
    app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), AccessAs(principal))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://depotgrid") as caller:
        yield caller


_SPEAKERS: list[tuple[set[Any], set[str], str | None, int, str | None]] = [
    ({"device"}, set[str](), "gw", 200, None),
    ({"device"}, {"d"}, "gw", 200, None),
    ({"device"}, {"d"}, None, 403, "FORBIDDEN"),
    ({"device"}, set[str](), "gw-2", 422, "DEVICE_NOT_OWNED"),
    ({"device"}, {"d"}, "gw-3", 404, "DEPOT_NOT_FOUND"),
    ({"operator"}, {"d"}, None, 200, None),
    ({"operator"}, {"e"}, None, 404, "DEPOT_NOT_FOUND"),
    ({"operator", "device"}, {"d"}, "gw-2", 200, None),
    ({"admin"}, {"d"}, None, 200, None),
    ({"viewer"}, {"d"}, None, 403, "FORBIDDEN"),
]


@pytest.mark.usefixtures("bound")
async def test_a_gateway_states_for_its_own_devices_and_an_operator_for_those_of_their_depots(
    origin: Origin, pool: Pool, clock: Clock
) -> None:
    await origin.post("/api/gateway", {"gateway_id": "gw-2", "depot_id": "d", "name": "Second"})
    for roles, depots, gateway_id, expected, code in _SPEAKERS:
        async with _as(pool, clock, Principal("caller", frozenset(roles), frozenset(depots), gateway_id)) as caller:
            answered = await caller.post(PATH, json=status())
        assert (answered.status_code, answered.json().get("code")) == (expected, code), (roles, depots, gateway_id)


@pytest.mark.usefixtures("bound")
async def test_a_key_makes_a_retry_answer_the_same_and_every_try_leaves_its_row_of_audit(
    origin: Origin, pool: Pool, clock: Clock
) -> None:
    stated, refused = status(), status(device_id="dev-2")
    first = await origin.post(PATH, stated, 200, key="k-1")
    clock.now += timedelta(seconds=1)
    assert await origin.post(PATH, stated, 200, key="k-1") == first
    assert await origin.post(PATH, refused, 409, key="k-2") == await origin.post(PATH, refused, 409, key="k-2")
    assert (await origin.post(PATH, refused, 422, key="k-1"))["code"] == "IDEMPOTENCY_KEY_REUSED"
    rows = await pool.fetch("SELECT status, code FROM audit WHERE path = $1 ORDER BY audit_id", PATH)
    assert [tuple(row) for row in rows] == [
        (200, None),
        (409, "CAPABILITY_SOURCE_CONFLICT"),
        (422, "IDEMPOTENCY_KEY_REUSED"),
    ]
