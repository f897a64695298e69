"""The card endpoint tells what the database holds now."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.read_api.conftest import Clock, Reader
from tests.read_api.seed import (
    MICROGRID,
    NODE_2,
    T0,
    bind,
    capability,
    capacity,
    health,
    load,
    owner,
    put,
    put_health,
    put_remediation,
    run,
    soc,
)
from tests.read_api.test_dead_letters import letter

from event_store.database import Pool
from event_store.dead_letters import put_dead_letters
from event_store.read import latest_of
from read_api.app import create_app
from read_api.backing import Backing
from read_api.card import read_card, read_cards
from read_api.site_cache import SiteCache
from service_runtime.access import Access
from service_runtime.feature_flags import FeatureFlags, load_flags
from service_runtime.problem import Problem

CARD = "/api/depot/d-1/microgrid/card"


@pytest.mark.usefixtures("site")
async def test_a_card_tells_status_freshness_source_and_event_of_each_capability(pool: Pool, reader: Reader) -> None:
    await bind(pool, "PEAK_SHAVING")
    await bind(pool, "DER", stale_after_s=10)
    reported = capability("PEAK_SHAVING", True, T0 - timedelta(seconds=12.5), received_at=T0 - timedelta(seconds=12))
    await put(pool, reported)
    card = await reader.get(CARD)
    peak, der = card["capabilities"]
    assert (card["microgrid_id"], card["depot_id"], card["depot_name"]) == (MICROGRID, "d-1", "Harbour")
    assert card["feature_flags"] == {"new-microgrid-fields-load-chart": True}
    assert peak["scope"] == {"node_id": None, "name": "Whole site"}
    assert (peak["operational_status"], peak["freshness"], peak["age_s"], peak["stale_after_s"]) == ("ON", "FRESH", 12.5, 120)
    assert (peak["observed_at"], peak["received_at"]) == ("2026-11-20T11:59:47.500000Z", "2026-11-20T11:59:48Z")
    assert peak["source"] == {"device_id": "ctrl-1", "gateway_id": "gw-1"}
    assert peak["event_id"] == reported.event_id
    assert (peak["detail"]["raw_value"], peak["detail"]["rule"]) == (True, "CIRCUIT")
    assert (der["operational_status"], der["freshness"], der["event_id"]) == (None, "NEVER_REPORTED", None)
    assert der["source"] == {"device_id": "ctrl-1", "gateway_id": "gw-1"}


@pytest.mark.usefixtures("site")
async def test_a_card_follows_the_clock_and_the_latest_observation(pool: Pool, reader: Reader, clock: Clock) -> None:
    await bind(pool, "DER", stale_after_s=10)
    await put(pool, capability("DER", True, T0))
    await put(pool, capability("DER", False, T0 - timedelta(hours=1)))
    clock.now = T0 + timedelta(seconds=10)
    assert [(one["operational_status"], one["freshness"]) for one in (await reader.get(CARD))["capabilities"]] == [("ON", "FRESH")]
    clock.now += timedelta(microseconds=1)
    assert [(one["operational_status"], one["freshness"]) for one in (await reader.get(CARD))["capabilities"]] == [("ON", "STALE")]


@pytest.mark.usefixtures("site")
async def test_a_changed_configuration_shows_in_the_very_next_card(pool: Pool, reader: Reader) -> None:
    assert (await reader.get(CARD))["capabilities"] == []
    for number in range(20):
        await run(pool, f"UPDATE depot SET name = 'Harbour {number}'")
        assert (await reader.get(CARD))["depot_name"] == f"Harbour {number}"
    await bind(pool, "PEAK_SHAVING", node_id=NODE_2)
    assert [one["scope"]["name"] for one in (await reader.get(CARD))["capabilities"]] == ["Annex"]


@pytest.mark.usefixtures("site")
async def test_a_changed_configuration_shows_also_while_others_read_the_same(pool: Pool, reader: Reader) -> None:
    ended = asyncio.Event()

    async def read_on() -> None:
        while not ended.is_set():
            await reader.get(CARD)

    async with asyncio.TaskGroup() as others:
        for _ in range(4):
            others.create_task(read_on())
        for number in range(15):
            await run(pool, f"UPDATE depot SET name = 'Harbour {number}'")
            assert (await reader.get(CARD))["depot_name"] == f"Harbour {number}"
        ended.set()


@pytest.mark.usefixtures("site")
async def test_a_change_that_commits_late_is_not_missed(database_url: str, pool: Pool, reader: Reader) -> None:
    late = await owner(database_url)
    try:
        transaction = late.transaction()
        await transaction.start()
        await late.execute("UPDATE gateway SET name = 'late'")
        await late.execute("UPDATE depot SET name = 'Late'")
        for number in range(3):
            await run(pool, f"UPDATE device SET profile = 'p{number}'")
            assert (await reader.get(CARD))["depot_name"] == "Harbour"
        await transaction.commit()
    finally:
        await late.close()
    assert (await reader.get(CARD))["depot_name"] == "Late"


@pytest.mark.usefixtures("site")
async def test_power_sources_show_load_and_the_charge_that_routing_assigns(pool: Pool, reader: Reader) -> None:
    await put(pool, load("bess-1", -120.0, T0 - timedelta(seconds=1)), soc(74.5, T0 - timedelta(seconds=301)))
    battery, grid, solar = (await reader.get(CARD))["power_sources"]
    assert [battery["power_source_id"], grid["power_source_id"], solar["power_source_id"]] == ["bess-1", "grid-1", "solar-1"]
    assert (battery["kind"], battery["state"], battery["load_kw"], battery["soc_pct"]) == ("BATTERY", None, -120.0, 74.5)
    assert battery["readings"]["soc_pct"]["rule"] == "CIRCUIT"
    assert (battery["readings"]["load_kw"]["freshness"], battery["freshness"]) == ("FRESH", "STALE")
    assert (solar["freshness"], solar["soc_pct"]) == ("NEVER_REPORTED", None)


@pytest.mark.usefixtures("site")
async def test_circuits_stand_by_id(pool: Pool, reader: Reader) -> None:
    await put(pool, capacity("k-1", 100.0, T0), capacity("gc-2", 50.0, T0))
    shown = (await reader.get(CARD))["circuits"]
    assert [(one["circuit_id"], one["available_capacity_kw"]) for one in shown] == [("gc-1", None), ("gc-2", 50.0), ("k-1", 100.0)]


@pytest.mark.usefixtures("site")
async def test_an_overdue_heartbeat_shows_as_lost_before_any_sweep(pool: Pool, reader: Reader, clock: Clock) -> None:
    assert [(one["circuit_id"], one["heartbeat"], one["source"]) for one in (await reader.get(CARD))["circuits"]] == [
        ("gc-1", "NEVER_REPORTED", "NONE")
    ]
    await put(pool, capacity("gc-1", 350.0, T0))
    await put_health(pool, health(T0))
    (circuit,) = (await reader.get(CARD))["circuits"]
    assert (circuit["available_capacity_kw"], circuit["source"], circuit["heartbeat"]) == (350.0, "CONTROLLER", "OK")
    clock.now = T0 + timedelta(seconds=60)
    (circuit,) = (await reader.get(CARD))["circuits"]
    assert (circuit["available_capacity_kw"], circuit["source"], circuit["heartbeat"]) == (100.0, "FAIL_SAFE", "LOST")
    assert circuit["observed_at"] == "2026-11-20T12:01:00Z"


@pytest.mark.usefixtures("site")
async def test_a_card_counts_what_there_is_to_settle(pool: Pool, reader: Reader) -> None:
    await put_remediation(pool)
    assert (await reader.get(CARD))["remediation_count"] == 1


@pytest.mark.usefixtures("site")
async def test_capability_status_tells_what_the_card_tells(pool: Pool, reader: Reader) -> None:
    await put(pool, capability("DER", True, T0))
    statuses = await reader.get("/api/depot/d-1/microgrid/capability-status")
    assert statuses["items"] == (await reader.get(CARD))["capabilities"]
    assert statuses["items"][0]["detail"]["bound"] is False


async def test_a_card_needs_a_depot_with_a_microgrid(pool: Pool, reader: Reader) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) VALUES ('d-2', 'Empty', 'UTC')")
    await reader.problem(CARD, 404, "DEPOT_NOT_FOUND")
    await reader.problem("/api/depot/d-2/microgrid/card", 404, "MICROGRID_NOT_FOUND")


@pytest.mark.usefixtures("site")
async def test_without_any_power_source_both_capabilities_show_once_bound_or_reported(pool: Pool, reader: Reader) -> None:
    await run(pool, "DELETE FROM power_source")
    assert (await reader.get(CARD))["capabilities"] == []
    await bind(pool, "DER")
    card = await reader.get(CARD)
    assert [(one["capability"], one["freshness"]) for one in card["capabilities"]] == [("DER", "NEVER_REPORTED")]
    await bind(pool, "PEAK_SHAVING", enabled=False)
    await put(pool, capability("PEAK_SHAVING", False, T0))
    card = await reader.get(CARD)
    assert [(one["capability"], one["operational_status"]) for one in card["capabilities"]] == [
        ("PEAK_SHAVING", "OFF"),
        ("DER", None),
    ]
    assert card["power_sources"] == []


@pytest.mark.usefixtures("site")
async def test_disabling_a_binding_leaves_the_last_status_to_become_stale(pool: Pool, reader: Reader, clock: Clock) -> None:
    await bind(pool, "DER", stale_after_s=10)
    await put(pool, capability("DER", True, T0))
    await run(pool, "UPDATE capability_control_point SET enabled = false")
    for seconds, freshness in ((10, "FRESH"), (11, "STALE")):
        clock.now = T0 + timedelta(seconds=seconds)
        [shown] = (await reader.get(CARD))["capabilities"]
        assert (shown["operational_status"], shown["freshness"], shown["detail"]["bound"]) == ("ON", freshness, False)


@pytest.mark.usefixtures("site")
async def test_an_age_counts_from_the_earlier_of_observation_and_receipt(pool: Pool, reader: Reader, clock: Clock) -> None:
    await put(pool, capability("DER", True, T0 + timedelta(seconds=200), received_at=T0))
    clock.now = T0 + timedelta(seconds=301)
    [shown] = (await reader.get(CARD))["capabilities"]
    assert (shown["age_s"], shown["stale_after_s"], shown["freshness"]) == (301, 300, "STALE")
    assert shown["stale_at"] == "2026-11-20T12:05:00Z"


@pytest.mark.usefixtures("site")
async def test_dead_letters_count_for_their_depot_until_they_are_settled(pool: Pool, reader: Reader) -> None:
    letters = [letter(bytes([number]), at=T0, device_id="ctrl-1") for number in range(3)]
    async with pool.acquire() as connection:
        await put_dead_letters(connection, [msgspec.structs.replace(one, depot_id="d-1") for one in letters])
        await connection.execute(
            "UPDATE dead_letter SET status = 'DISCARDED' WHERE dead_letter_id = $1::text::uuid", letters[0].dead_letter_id
        )
    assert (await reader.get(CARD))["dead_letter_count"] == 2


@pytest.mark.usefixtures("site")
async def test_a_flag_is_told_for_the_depot_and_hides_no_data(pool: Pool, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("new-microgrid-fields-load-chart: {default: true, depots: {d-1: false}}")
    flags = load_flags(file)
    assert isinstance(flags, FeatureFlags)
    await bind(pool, "DER")
    transport = httpx2.ASGITransport(app=create_app(pool, clock, flags, Access(None)).app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as http:
        card = (await http.get(CARD)).json()
    assert card["feature_flags"] == {"new-microgrid-fields-load-chart": False}
    assert [one["capability"] for one in card["capabilities"]] == ["DER"]


@pytest.mark.usefixtures("site")
async def test_cards_that_are_read_together_are_those_that_are_read_alone(pool: Pool, clock: Clock) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) VALUES ('d-2', 'Empty', 'UTC')")
    await put(pool, capability("DER", True, T0), capacity("gc-1", 350, T0), soc(50, T0))
    await put_health(pool, health(T0))
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    backing = Backing(pool, clock, lambda depot_id: {"flag": flags.flag("flag", depot_id)}, SiteCache())
    for _ in range(2):
        together = await read_cards(backing, ["d-1", "d-2", "d-3", "no depot"])
        assert together["d-1"] == await read_card(backing, "d-1")
        refused = [problem.code for problem in together.values() if isinstance(problem, Problem)]
        assert refused == ["MICROGRID_NOT_FOUND", "DEPOT_NOT_FOUND", "DEPOT_NOT_FOUND"]


@pytest.mark.parametrize("length", [10, 200_000])
@pytest.mark.usefixtures("site")
async def test_a_latest_value_costs_the_same_however_long_the_history(database_url: str, pool: Pool, length: int) -> None:
    reported = capability("PEAK_SHAVING", True, T0)
    connection = await owner(database_url)
    try:
        await connection.execute(
            """INSERT INTO event_store (event_id, stream_id, event_type, schema_version, depot_id, microgrid_id, subject,
                   observed_at, sent_at, payload, metadata)
               SELECT gen_random_uuid(), 'd-1', 'CapabilityStatusReported', 1, 'd-1', $3, $2, $4::timestamptz - i * interval '1 s',
                   now(), '{"filler": "a payload of a usual length, a payload of a usual length"}', '{}'
               FROM generate_series(1, $1::int) AS i""",
            length,
            reported.subject,
            MICROGRID,
            T0,
        )
        await connection.execute("VACUUM ANALYZE event_store")
    finally:
        await connection.close()
    await put(pool, reported)
    async with pool.acquire() as reading:
        asked: list[tuple[str, tuple[object, ...]]] = []
        fetch = reading.fetch

        class Spy:
            async def fetch(self, query: str, *arguments: object) -> object:
                asked.append((query, arguments))
                return await fetch(query, *arguments)

        latest = await latest_of(Spy(), [reported.subject or ""])  # type: ignore[arg-type]
        assert latest[reported.subject or ""].event.event_id == reported.event_id
        query, arguments = asked[0]
        plan = "\n".join(row[0] for row in await reading.fetch("EXPLAIN (ANALYZE, BUFFERS) " + query, *arguments))
    first_line = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    assert first_line is not None, plan
    buffers = sum(int(count) for count in first_line.groups() if count)
    assert buffers <= 8, plan
