"""Series answer what was reported, in the steps asked for, at a cost that does not grow with the history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.event_store.test_postgres import explained, nodes
from tests.read_api.conftest import Clock, Reader
from tests.read_api.seed import MICROGRID, NODE_1, T0, bind, capability, capacity, load, owner, put, run, soc

from event_store import read
from event_store.database import Pool
from event_store.read import last_of_steps
from microgrid import events, subjects

SERIES = "/api/depot/d-1/series"
HOUR = {"from": "2026-11-20T12:00:00Z", "to": "2026-11-20T13:00:00Z", "step": 600}


def values(document: dict[str, Any]) -> dict[tuple[str, str], list[Any]]:
    return {(one["measure"], one["target"]): [value for _, value in one["points"]] for one in document["series"]}


@pytest.fixture
def later(clock: Clock) -> None:
    clock.now = T0 + timedelta(hours=1)


@pytest.mark.usefixtures("site", "later")
async def test_load_and_charge_are_the_last_of_each_step_and_null_where_nothing_came(pool: Pool, reader: Reader) -> None:
    minute = timedelta(minutes=1)
    await put(
        pool,
        load("bess-1", 5.0, T0 - minute),
        load("bess-1", -10.0, T0),
        load("bess-1", 0.0, T0 + 9 * minute),
        load("bess-1", 7.5, T0 + 20 * minute),
        load("bess-1", 9.0, T0 + 60 * minute),
        soc(74.5, T0 + 30 * minute),
    )
    document = await reader.get(SERIES, measure="load_kw,soc_pct", **HOUR)
    assert (document["depot_id"], document["step_s"]) == ("d-1", 600)
    assert document["series"][0]["points"][:3] == [
        ["2026-11-20T12:00:00Z", 0.0],
        ["2026-11-20T12:10:00Z", None],
        ["2026-11-20T12:20:00Z", 7.5],
    ]
    assert values(document) == {
        ("load_kw", "bess-1"): [0.0, None, 7.5, None, None, None],
        ("load_kw", "grid-1"): [None] * 6,
        ("load_kw", "solar-1"): [None] * 6,
        ("soc_pct", "bess-1"): [None, None, None, 74.5, None, None],
    }


@pytest.mark.usefixtures("site", "later")
async def test_a_capability_holds_while_it_is_fresh_and_a_capacity_until_it_changes(pool: Pool, reader: Reader) -> None:
    await bind(pool, "DER", stale_after_s=1200)
    minute = timedelta(minutes=1)
    await put(
        pool,
        capability("DER", True, T0 - 5 * minute),
        capability("DER", False, T0 + 50 * minute),
        capability("DER", True, T0 + 51 * minute, history_only=True),
        capability("PEAK_SHAVING", True, T0 + 10 * minute, node_id=NODE_1),
        capacity("gc-1", 350.0, T0 - timedelta(days=3)),
        capacity("gc-1", 0.0, T0 + 30 * minute),
    )
    document = await reader.get(SERIES, measure=["DER,available_capacity_kw", "PEAK_SHAVING"], **HOUR)
    assert values(document) == {
        ("DER", MICROGRID): ["ON", "ON", None, None, None, "OFF"],
        ("available_capacity_kw", "gc-1"): [350.0, 350.0, 350.0, 0.0, 0.0, 0.0],
        ("PEAK_SHAVING", NODE_1): [None, "ON", None, None, None, None],
    }


@pytest.mark.usefixtures("site")
async def test_of_two_meters_of_one_battery_the_later_report_of_a_step_counts(pool: Pool, reader: Reader) -> None:
    await run(
        pool,
        "INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action) "
        "VALUES (gen_random_uuid(), 'd-1', 'ctrl-1', 'SOC', 'RECORD_MEASUREMENT')",
    )
    await put(pool, soc(1, T0), soc(2, T0 + timedelta(seconds=2), device_id="ctrl-1"), soc(3, T0 + timedelta(seconds=1)))
    assert values(await reader.get(SERIES, measure="soc_pct", **HOUR))["soc_pct", "bess-1"][0] == 2


@pytest.mark.usefixtures("site")
async def test_without_a_range_it_is_the_last_day_in_usual_steps(reader: Reader) -> None:
    document = await reader.get(SERIES, measure="load_kw")
    points = document["series"][0]["points"]
    assert (document["step_s"], len(points), points[0][0]) == (300, 288, "2026-11-19T12:00:00Z")
    until_early = await reader.get(SERIES, measure="load_kw", to="1970-01-01T00:00:10Z")
    assert (until_early["step_s"], len(until_early["series"][0]["points"])) == (1, 10)


@pytest.mark.usefixtures("site")
async def test_a_series_question_that_can_not_be_answered_is_refused_at_its_place(reader: Reader) -> None:
    for params, pointer, code in (
        ({}, "/query/measure", "MISSING_FIELD"),
        ({"measure": "load"}, "/query/measure", "INVALID_VALUE"),
        ({"measure": "load_kw,"}, "/query/measure", "INVALID_VALUE"),
        ({"measure": "load_kw", "step": 0}, "/query/step", "INVALID_VALUE"),
        ({"measure": "load_kw", "step": "1m"}, "/query/step", "INVALID_VALUE"),
        ({"measure": "load_kw", "from": "2026-11-20"}, "/query/from", "INVALID_TIMESTAMP"),
        ({"measure": "load_kw", "from": "1969-12-31T23:59:59Z"}, "/query/from", "INVALID_VALUE"),
        ({"measure": "load_kw", "to": "0001-01-01T00:00:00Z"}, "/query/to", "INVALID_VALUE"),
        ({"measure": "load_kw", **HOUR, "from": HOUR["to"]}, "/query/to", "INVALID_VALUE"),
        ({"measure": "load_kw", **HOUR, "step": 1}, "/query/step", "INVALID_VALUE"),
        ({"measure": "load_kw", "step": 600, "until": "2026-11-20T12:00:00Z"}, "/query/until", "UNKNOWN_FIELD"),
    ):
        refused = await reader.problem(SERIES, 422, code, **params)
        assert [one["pointer"] for one in refused["errors"]] == [pointer], params
    finer = await reader.http.get(SERIES, params={"measure": "load_kw", **HOUR, "step": 2})
    assert (finer.status_code, len(finer.json()["series"][0]["points"])) == (200, 1800)


async def test_many_series_at_once_are_bounded_together(pool: Pool, reader: Reader) -> None:
    await run(
        pool,
        "INSERT INTO depot (depot_id, name, timezone) VALUES ('d-1', 'Large', 'UTC'); "
        "INSERT INTO power_source (power_source_id, depot_id, kind, name) "
        "SELECT 'ps-' || i, 'd-1', 'GRID', 'Source' FROM generate_series(1, 40) AS i",
    )
    refused = await reader.problem(SERIES, 422, "INVALID_VALUE", measure="load_kw", **{**HOUR, "step": 2})
    assert (refused["errors"][0]["pointer"], "at least 5 s" in refused["detail"]) == ("/query/step", True)
    assert len((await reader.get(SERIES, measure="load_kw", **{**HOUR, "step": 5}))["series"]) == 40


async def test_a_depot_without_microgrid_has_series_of_its_power_sources_alone(pool: Pool, reader: Reader) -> None:
    await reader.problem(SERIES, 404, "DEPOT_NOT_FOUND", measure="load_kw")
    await run(
        pool,
        "INSERT INTO depot (depot_id, name, timezone) VALUES ('d-1', 'Small', 'UTC'); "
        "INSERT INTO power_source (power_source_id, depot_id, kind, name) VALUES ('grid', 'd-1', 'GRID', 'Grid')",
    )
    everything = "load_kw,soc_pct,available_capacity_kw,PEAK_SHAVING,DER"
    assert list(values(await reader.get(SERIES, measure=everything, **HOUR))) == [("load_kw", "grid")]


@pytest.mark.usefixtures("site")
async def test_a_series_costs_a_descent_per_step_however_long_the_history(database_url: str, pool: Pool) -> None:
    subject = subjects.power_source_load_subject("bess-1")
    connection = await owner(database_url)
    try:
        await connection.execute(
            """INSERT INTO event_store (event_id, stream_id, event_type, schema_version, depot_id, microgrid_id, subject,
                   observed_at, sent_at, payload, metadata)
               SELECT gen_random_uuid(), 'd-1', $1, 1, 'd-1', $2, $3, $4::timestamptz + i * interval '1 s', now(),
                   jsonb_build_object('load_kw', i), '{}'
               FROM generate_series(0, 59999) AS i""",
            events.POWER_SOURCE_LOAD_REPORTED,
            MICROGRID,
            subject,
            T0,
        )
        await connection.execute("VACUUM ANALYZE event_store")
    finally:
        await connection.close()
    since, until = T0 + timedelta(hours=4), T0 + timedelta(hours=8)
    async with pool.acquire() as reading:
        found = await last_of_steps(reading, [(subject, "load_kw")], since=since, until=until, step_s=3600)
    assert sorted(one.value for one in found) == [4 * 3600 - 1, *(hour * 3600 - 1 for hour in range(5, 9))]  # type: ignore[type-var]
    for generic in (False, True):
        arguments = ([subject], ["load_kw"], since, until, 3600)
        plan = await explained(pool, read._LAST_OF_STEPS, *arguments, generic=generic)  # pyright: ignore[reportPrivateUsage]
        assert {node["Index Name"] for node in nodes(plan) if "Index Name" in node} == {"event_store_latest"}
        assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 8 * 5
