"""Packets over HTTP: each action's outcome is told, the same decisions as by broker, nothing is dead-lettered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
import uuid_utils
from tests.command_api.conftest import AccessAs, Clock, Origin

from command_api.app import create_app
from event_store.database import Pool
from service_runtime.access import Principal


def packet(packet_id: str = "p-1", *measurands: tuple[str, object], **more: Any) -> dict[str, Any]:
    """A packet of device `dev` behind gateway `gw`, sent at the clock's time."""
    return {
        "schema_version": "1.0",
        "packet_id": packet_id,
        "gateway_id": "gw",
        "device_id": "dev",
        "sent_at": "2026-11-20T12:00:00Z",
        "measurands": [{"key": key, "value": value} for key, value in measurands or (("SOC", 55),)],
        **more,
    }


def told(outcomes: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["measurand"], one["action"], one["outcome"], one.get("code")) for one in outcomes]


async def test_each_action_of_a_packet_is_told(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    await origin.post("/api/sensor_action", {"device_id": "dev", "measurand": "TEXT", "action": "UPDATE_POWER_SOURCE_LOAD"})
    measurands = (("SOC", 55), ("TEXT", "x"), ("OTHER", 1), ("FAIL_SAFE_CAPACITY", -1))
    answered = await origin.post("/api/packet", packet("p", *measurands), 200)
    assert answered["packet_id"] == "p"
    assert sorted(told(answered["outcomes"]), key=str) == [
        ("FAIL_SAFE_CAPACITY", None, "REJECTED", "INVALID_VALUE"),
        ("OTHER", None, "IGNORED", None),
        ("SOC", "RECORD_MEASUREMENT", "APPLIED", None),
        ("TEXT", "UPDATE_POWER_SOURCE_LOAD", "REJECTED", "VALUE_NOT_APPLICABLE"),
    ]
    assert await pool.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_a_packet_that_applies_is_stored_once_and_told_as_duplicate_after(origin: Origin, site: dict[str, Any]) -> None:
    first = await origin.post("/api/packet", packet(), 200)
    assert told(first["outcomes"]) == [("SOC", "RECORD_MEASUREMENT", "APPLIED", None)]
    again = await origin.post("/api/packet", packet(), 200)
    assert told(again["outcomes"]) == [("SOC", "RECORD_MEASUREMENT", "DUPLICATE", None)]
    assert again["outcomes"][0]["event_id"] == first["outcomes"][0]["event_id"]
    assert [one["value"] for one in (await origin.get("/api/device/dev/measurement"))["items"]] == [55]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device_id": "nobody"}, "UNKNOWN_DEVICE"),
        ({"gateway_id": "nobody"}, "UNKNOWN_DEVICE"),
        ({"schema_version": "2.0"}, "UNSUPPORTED_SCHEMA_VERSION"),
        ({"sent_at": "2026-11-20T12:00:00"}, "INVALID_TIMESTAMP"),
        ({"measurands": []}, "INVALID_PACKET"),
    ],
)
async def test_a_refused_envelope_is_told_with_its_code_and_leaves_nothing(
    origin: Origin, site: dict[str, Any], pool: Pool, change: dict[str, Any], code: str
) -> None:
    problem = await origin.post("/api/packet", {**packet(), **change}, 422)
    assert problem["code"] == code
    batch = await origin.post("/api/packet/batch", [{**packet(), **change}], 200)
    assert batch["results"][0]["code"] == problem["code"]
    assert "outcomes" not in batch["results"][0]
    assert await pool.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_a_batch_is_told_in_its_order(origin: Origin, site: dict[str, Any]) -> None:
    batch = [packet("p-1"), {**packet("p-2"), "device_id": "nobody"}, packet("p-3", ("NOTHING", 1)), packet("p-1")]
    results = (await origin.post("/api/packet/batch", batch, 200))["results"]
    assert [one["packet_id"] for one in results] == ["p-1", "p-2", "p-3", "p-1"]
    assert [told(one.get("outcomes", [])) for one in results] == [
        [("SOC", "RECORD_MEASUREMENT", "APPLIED", None)],
        [],
        [("NOTHING", None, "IGNORED", None)],
        [("SOC", "RECORD_MEASUREMENT", "DUPLICATE", None)],
    ]
    assert results[1]["code"] == "UNKNOWN_DEVICE"


async def test_what_a_person_must_settle_is_told_and_listed(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    await origin.post(
        "/api/power_source", {"power_source_id": "b2", "depot_id": "d", "circuit_id": "d-gc", "kind": "BATTERY", "name": "B"}
    )
    await origin.post("/api/sensor_action", {"device_id": "dev", "measurand": "ACTIVE_POWER", "action": "UPDATE_POWER_SOURCE_LOAD"})
    answered = await origin.post("/api/packet", packet("p", ("ACTIVE_POWER", 5)), 200)
    assert told(answered["outcomes"]) == [
        ("ACTIVE_POWER", "UPDATE_POWER_SOURCE_LOAD", "REMEDIATION", "AMBIGUOUS_CIRCUIT_POWER_SOURCE")
    ]
    items = (await origin.get("/api/depot/d/remediation"))["items"]
    assert [(one["code"], one["candidates"]) for one in items] == [("AMBIGUOUS_CIRCUIT_POWER_SOURCE", ["b2", "bess"])]
    await origin.delete("/api/power_source/b2")
    await origin.post("/api/packet", packet("p-2", ("ACTIVE_POWER", 6)), 200)
    assert (await origin.get("/api/depot/d/remediation"))["items"] == []


async def test_a_controllers_capacity_is_told_too(origin: Origin, site: dict[str, Any]) -> None:
    await origin.post(
        "/api/device", {"device_id": "ctrl", "gateway_id": "gw", "circuit_id": "d-gc", "profile": "bba-microgrid-controller"}
    )
    body = {**packet("p", ("AVAILABLE_CHARGING_CAPACITY", 350), ("HEARTBEAT_STATUS", True)), "device_id": "ctrl"}
    outcomes = told((await origin.post("/api/packet", body, 200))["outcomes"])
    assert ("AVAILABLE_CHARGING_CAPACITY", "UPDATE_CIRCUIT_CAPACITY", "APPLIED", None) in outcomes
    card = await origin.get("/api/depot/d/microgrid/card")
    assert [(one["circuit_id"], one["available_capacity_kw"]) for one in card["circuits"]] == [("d-gc", 350)]


async def test_the_same_key_is_answered_with_the_first_outcomes(origin: Origin, site: dict[str, Any]) -> None:
    first = await origin.post("/api/packet", packet(), 200, key="k")
    assert await origin.post("/api/packet", packet(), 200, key="k") == first


async def test_packets_posted_at_once_are_each_stored_once(origin: Origin, site: dict[str, Any], pool: Pool) -> None:
    bodies = [packet(f"p-{n % 4}", ("SOC", n % 4)) for n in range(12)]
    answered = await asyncio.gather(*(origin.commands.post("/api/packet", json=body) for body in bodies))
    outcomes = sorted(one.json()["outcomes"][0]["outcome"] for one in answered)
    assert outcomes == ["APPLIED"] * 4 + ["DUPLICATE"] * 8
    assert await pool.fetchval("SELECT count(*) FROM event_store WHERE event_type = 'MeasurementRecorded'") == 4


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[", "MALFORMED_JSON"),
        (b"{}", "INVALID_VALUE"),
        (b"[" + b"1," * 1000 + b"1]", "INVALID_VALUE"),
        (b"[NaN]", "MALFORMED_JSON"),
    ],
)
async def test_a_batch_that_is_none_is_refused_whole(origin: Origin, site: dict[str, Any], body: bytes, code: str) -> None:
    assert (await origin.post("/api/packet/batch", body, 422))["code"] == code


async def test_a_batch_may_be_empty_or_hold_a_thousand(origin: Origin, site: dict[str, Any]) -> None:
    assert await origin.post("/api/packet/batch", [], 200) == {"results": []}
    full = json.dumps([packet(f"p-{n}") for n in range(1000)]).encode()
    results = (await origin.post("/api/packet/batch", full, 200))["results"]
    assert {one["outcomes"][0]["outcome"] for one in results} == {"APPLIED"}


async def test_a_gateway_posts_its_own_packets_alone(origin: Origin, site: dict[str, Any], pool: Pool, clock: Clock) -> None:
    for gateway, status in (("gw", 200), ("other", 422), (None, 403)):
        access = AccessAs(Principal("gateway", frozenset({"device"}), frozenset(), gateway))
        app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), access)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://depotgrid") as caller:
            assert (await caller.post("/api/packet", json=packet(f"p-{gateway}"))).status_code == status
