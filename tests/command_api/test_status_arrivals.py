"""The card in the database tells the same in whatever order, by whatever way and however often reports arrive."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from tests.command_api.conftest import T0, Clock, Origin

from event_store.database import Pool

DEPOTS = 6


def packet(
    depot: str, packet_id: str, observed_s: float, value: bool, *, sent_s: float | None = None, **more: Any
) -> dict[str, Any]:
    """A packet of a depot's owner, or of another device; times are seconds from now."""
    device_id = more.pop("device_id", "owner")
    return {
        "schema_version": "1.0",
        "packet_id": packet_id,
        "gateway_id": f"{depot}-gw",
        "device_id": f"{depot}-{device_id}",
        "sent_at": _at(observed_s if sent_s is None else sent_s),
        "measurands": [{"key": "PEAK_SHAVING", "value": value, "observed_at": _at(observed_s), **more}],
    }


def _at(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()


def arrivals(depot: str) -> list[tuple[str, dict[str, Any]]]:
    """What arrives, each by packet or as a posted status; the fourth is the latest that counts."""
    posted = {"capability": "PEAK_SHAVING", "device_id": f"{depot}-owner"}
    return [
        ("packet", packet(depot, "replayed", -86_400, False)),
        ("packet", packet(depot, "same-moment", -10, False, sent_s=-10)),
        ("status", {**posted, "value": False, "observed_at": _at(-11), "source_event_ref": "posted"}),
        ("packet", packet(depot, "latest", -10, True, sent_s=-5)),
        ("packet", packet(depot, "latest", -10, True, sent_s=-5)),
        ("packet", packet(depot, "bad", -1, False, quality="BAD")),
        ("packet", packet(depot, "too-far-ahead", 301, False)),
        ("packet", packet(depot, "not-the-owner", -2, False, device_id="former")),
        ("status", {**posted, "value": False, "observed_at": _at(-20), "source_event_ref": "again"}),
        ("status", {**posted, "value": False, "observed_at": _at(-20), "source_event_ref": "again"}),
        ("packet", packet(depot, "again", -20, False)),
    ]


@pytest.fixture
async def depots(origin: Origin, pool: Pool) -> list[str]:
    """Depots that differ in nothing but their names; each has an owner of the capability, and a device that was one before."""
    names = [f"d{number}" for number in range(DEPOTS)]
    await pool.execute(
        """
        WITH names AS (SELECT unnest($1::text[]) AS d),
             depots AS (INSERT INTO depot SELECT d, d, 'UTC' FROM names),
             gateways AS (INSERT INTO gateway (gateway_id, depot_id, name) SELECT d || '-gw', d, 'Gateway' FROM names),
             devices AS (INSERT INTO device (device_id, depot_id, gateway_id)
                         SELECT d || '-' || n, d, d || '-gw' FROM names, unnest(ARRAY['owner', 'former']) n),
             actions AS (INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
                         SELECT gen_random_uuid(), d, d || '-' || n, 'PEAK_SHAVING', 'UPDATE_MICROGRID_STATE', 'PEAK_SHAVING'
                         FROM names, unnest(ARRAY['owner', 'former']) n),
             microgrids AS (INSERT INTO microgrid (microgrid_id, depot_id, version, status)
                            SELECT gen_random_uuid(), d, 1, 'ACTIVE' FROM names RETURNING microgrid_id, depot_id)
        INSERT INTO capability_control_point
            (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, enabled)
        SELECT gen_random_uuid(), microgrid_id, 'PEAK_SHAVING', depot_id || '-owner', 'PEAK_SHAVING', 120, true FROM microgrids
        """,
        names,
    )
    return names


async def _arrive(origin: Origin, depot: str, what: list[tuple[str, dict[str, Any]]]) -> None:
    for way, body in what:
        if way == "packet":
            await origin.post("/api/packet/batch", [body], 200)
        else:
            await origin.post(f"/api/depot/{depot}/microgrid/capability-status", body, 200)


async def _shown(origin: Origin, depot: str) -> dict[str, Any]:
    card = await origin.get(f"/api/depot/{depot}/microgrid/card")
    [entry] = card["capabilities"]
    assert entry == (await origin.get(f"/api/depot/{depot}/microgrid/capability-status"))["items"][0]
    return entry


async def test_a_card_tells_the_same_for_any_order_of_arrival_and_once_more_the_same(
    origin: Origin, pool: Pool, clock: Clock, depots: list[str]
) -> None:
    chance = random.Random(7)
    for depot in depots:
        what = arrivals(depot)
        await _arrive(origin, depot, chance.sample(what, len(what)))
    for depot in depots:
        entry = await _shown(origin, depot)
        assert (entry["operational_status"], entry["observed_at"]) == ("ON", "2026-11-20T11:59:50Z"), depot
        assert (entry["age_s"], entry["freshness"], entry["source"]["device_id"]) == (10, "FRESH", f"{depot}-owner")
        history = await origin.get(f"/api/depot/{depot}/microgrid/capability-status/history")
        found = [(one["source_event_ref"], one["history_only"]) for one in history["items"]]
        assert found[:2] == [("bad", True), ("latest", False)]
        assert sorted(name for name, _ in found) == ["again", "bad", "latest", "posted", "replayed", "same-moment"], depot
    before = {depot: await _shown(origin, depot) for depot in depots}
    for depot in depots:
        await _arrive(origin, depot, arrivals(depot))
    assert {depot: await _shown(origin, depot) for depot in depots} == before
    assert await pool.fetchval("SELECT count(*) FROM event_store WHERE event_type = 'CapabilityStatusReported'") == 6 * DEPOTS


async def test_a_former_owners_last_status_stays_until_the_new_one_says_something(
    origin: Origin, pool: Pool, depots: list[str]
) -> None:
    depot = depots[0]
    hand_over = "UPDATE capability_control_point SET device_id = $2 WHERE device_id = $1"
    await pool.execute(hand_over, f"{depot}-owner", f"{depot}-former")
    await _arrive(origin, depot, [("packet", packet(depot, "last", -60, True, device_id="former"))])
    await pool.execute(hand_over, f"{depot}-former", f"{depot}-owner")
    late = packet(depot, "late", -30, False, device_id="former")
    [result] = (await origin.post("/api/packet/batch", [late], 200))["results"]
    assert [one["code"] for one in result["outcomes"]] == ["CAPABILITY_SOURCE_CONFLICT"]
    kept = await _shown(origin, depot)
    assert (kept["operational_status"], kept["source"]["device_id"], kept["age_s"]) == ("ON", f"{depot}-former", 60)
    await _arrive(origin, depot, [("packet", packet(depot, "first", -61, False))])
    assert (await _shown(origin, depot))["event_id"] == kept["event_id"]
    await _arrive(origin, depot, [("packet", packet(depot, "second", -59, False))])
    assert (await _shown(origin, depot))["source"]["device_id"] == f"{depot}-owner"
