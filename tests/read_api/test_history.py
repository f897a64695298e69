"""Histories page without gap and repetition, in their order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import MICROGRID, NODE_1, T0, capability, load, put, soc

from event_store.database import Pool

EVENTS = f"/api/microgrid/{MICROGRID}/event"
REPORTS = "/api/depot/d-1/microgrid/capability-status/history"


async def _all(reader: Reader, path: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await reader.get(path, **params)
        found += page["items"]
        if page["next"] is None:
            return found
        params["cursor"] = page["next"]


@pytest.mark.usefixtures("site")
async def test_events_come_last_recorded_first_whatever_they_observed(pool: Pool, reader: Reader) -> None:
    stored = [capability("DER", number % 2 == 0, T0 - timedelta(seconds=number)) for number in range(5)]
    for one in stored:
        await put(pool, one)
    await put(pool, load("bess-1", 1.0, T0), soc(50, T0))
    found = await _all(reader, EVENTS, limit=2)
    assert [one["event_id"] for one in found][2:] == [one.event_id for one in reversed(stored)]
    assert [one["event_type"] for one in found][:2] == ["MeasurementRecorded", "PowerSourceLoadReported"]
    newer = await reader.get(EVENTS, after=found[3]["position"])
    assert [one["event_id"] for one in newer["items"]] == [one["event_id"] for one in found[:3]]
    older = await reader.get(EVENTS, before=found[3]["position"])
    assert [one["event_id"] for one in older["items"]] == [one["event_id"] for one in found[4:]]
    chosen = await reader.get(EVENTS, event_type=["MeasurementRecorded", "PowerSourceLoadReported"])
    assert len(chosen["items"]) == 2
    between = await reader.get(EVENTS, **{"from": "2026-11-20T11:59:57Z", "to": "2026-11-20T11:59:59Z"})
    assert [one["event_id"] for one in between["items"]] == [stored[3].event_id, stored[2].event_id]


@pytest.mark.usefixtures("site")
async def test_reports_of_a_capability_come_newest_observation_first(pool: Pool, reader: Reader) -> None:
    der = [capability("DER", True, T0 - timedelta(seconds=number)) for number in (3, 1, 2)]
    peak = capability("PEAK_SHAVING", False, T0 - timedelta(seconds=2.5), history_only=True)
    elsewhere = capability("DER", False, T0, node_id=NODE_1)
    await put(pool, *der, peak, elsewhere)
    expected = [der[1].event_id, der[2].event_id, peak.event_id, der[0].event_id]
    for limit in (1, 2, 3, 100):
        assert [one["event_id"] for one in await _all(reader, REPORTS, limit=limit)] == expected
    assert [one["event_id"] for one in await _all(reader, REPORTS, capability="PEAK_SHAVING")] == [peak.event_id]
    assert [one["event_id"] for one in await _all(reader, REPORTS, node_id=NODE_1.upper())] == [elsewhere.event_id]
    (only,) = await _all(reader, REPORTS, **{"from": "2026-11-20T11:59:58Z", "to": "2026-11-20T11:59:59Z"})
    assert (only["event_id"], only["operational_status"], only["source"]["device_id"]) == (der[2].event_id, "ON", "ctrl-1")
    assert [one["history_only"] for one in await _all(reader, REPORTS)] == [False, False, True, False]


@pytest.mark.usefixtures("site")
async def test_a_page_of_events_between_two_positions_does_not_shift_when_more_arrive(pool: Pool, reader: Reader) -> None:
    for number in range(6):
        await put(pool, capability("DER", True, T0 + timedelta(seconds=number)))
    first = await reader.get(EVENTS, limit=2)
    await put(pool, capability("DER", False, T0 - timedelta(days=1)))
    second = await reader.get(EVENTS, limit=2, cursor=first["next"])
    assert [one["observed_at"][-3:-1] for one in first["items"] + second["items"]] == ["05", "04", "03", "02"]
    between = await reader.get(EVENTS, after=second["items"][-1]["position"], before=first["items"][0]["position"])
    assert [one["event_id"] for one in between["items"]] == [one["event_id"] for one in [first["items"][1], second["items"][0]]]
    await reader.problem(EVENTS, 422, "INVALID_VALUE", cursor=first["next"], before=first["next"])
    await reader.problem(EVENTS, 422, "INVALID_CURSOR", after="yesterday")
