"""What a device said last, and what became of it."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import T0, bind, capability, put, soc
from tests.read_api.test_dead_letters import letter

from event_store.database import Pool
from event_store.dead_letters import put_dead_letters
from read_api.devices import packet_id_in


@pytest.mark.usefixtures("site")
async def test_a_report_joins_what_one_packet_came_to(pool: Pool, reader: Reader) -> None:
    await bind(pool, "DER")
    await put(pool, soc(50, T0, device_id="ctrl-1", packet_id="p-a"), capability("DER", True, T0, packet_id="p-a"))
    await put(pool, soc(51, T0 + timedelta(seconds=1), device_id="ctrl-1", packet_id="p-b"))
    await put(pool, soc(52, T0 + timedelta(seconds=5), device_id="meter-1", packet_id="p-other"))
    async with pool.acquire() as connection:
        body = json.dumps({"packet_id": "p-a"}).encode()
        await put_dead_letters(connection, [letter(body, at=T0, device_id="ctrl-1"), letter(b"\xff", at=T0, device_id="ctrl-1")])
    reports = (await reader.get("/api/device/ctrl-1/report"))["items"]
    assert [one["packet_id"] for one in reports] == ["p-b", "p-a", None]
    assert sorted(one["measurand"] for one in reports[1]["events"]) == ["DER", "SOC"]
    assert [one["reason_code"] for one in reports[1]["dead_letters"]] == ["UNKNOWN_DEVICE"]
    assert {one["outcome"] for one in reports[1]["events"]} == {"APPLIED"}
    assert (reports[2]["events"], len(reports[2]["dead_letters"])) == ([], 1)
    assert len((await reader.get("/api/device/ctrl-1/report", limit=1))["items"]) == 1


@pytest.mark.usefixtures("site")
async def test_measurements_show_the_latest_of_each_and_the_history_of_one(pool: Pool, reader: Reader) -> None:
    await put(pool, *(soc(50.0 + number, T0 - timedelta(seconds=number)) for number in range(5)))
    latest = await reader.get("/api/device/meter-1/measurement")
    assert [(one["measurand"], one["value"], one["unit"], one["freshness"]) for one in latest["items"]] == [
        ("SOC", 50.0, "%", "FRESH")
    ]
    page = await reader.get("/api/device/meter-1/measurement/history", measurand="SOC", limit=3)
    rest = await reader.get("/api/device/meter-1/measurement/history", measurand="SOC", limit=3, cursor=page["next"])
    assert [one["value"] for one in page["items"] + rest["items"]] == [50.0, 51.0, 52.0, 53.0, 54.0]
    assert rest["next"] is None


@pytest.mark.usefixtures("site")
async def test_a_measurement_that_does_not_count_is_history_and_never_the_latest(pool: Pool, reader: Reader) -> None:
    bad = msgspec.structs.replace(soc(99, T0 + timedelta(seconds=5)), history_only=True)
    await put(pool, soc(50, T0), bad, soc(40, T0 - timedelta(seconds=400)))
    [latest] = (await reader.get("/api/device/meter-1/measurement"))["items"]
    assert (latest["value"], latest["history_only"], latest["age_s"]) == (50, False, 0)
    path = "/api/device/meter-1/measurement/history"
    everything = (await reader.get(path, measurand="SOC"))["items"]
    assert [(one["value"], one["history_only"]) for one in everything] == [(99, True), (50, False), (40, False)]
    until_now = {"measurand": "SOC", "from": "2026-11-20T11:59:00Z", "to": "2026-11-20T12:00:05Z"}
    assert [one["value"] for one in (await reader.get(path, **until_now))["items"]] == [50]
    assert (await reader.get(path, measurand="NOTHING"))["items"] == []
    await reader.problem("/api/device/nobody/measurement", 404, "DEVICE_NOT_FOUND")
    await reader.problem("/api/device/nobody/measurement/history", 404, "DEVICE_NOT_FOUND", measurand="SOC")
    await reader.problem(path, 422, "MISSING_FIELD")


@pytest.mark.usefixtures("site")
async def test_a_device_that_said_nothing_has_an_empty_report(reader: Reader) -> None:
    found = await reader.get("/api/device/ctrl-1/report")
    assert (found["items"], found["gateway_id"], found["enabled"]) == ([], "gw-1", True)
    await reader.problem("/api/device/nobody/report", 404, "DEVICE_NOT_FOUND")


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b'{"packet_id": 1}', b'{"packet_id": ""}', b"\xff\xfe", b'{"packet_id": "\\ud800"}']
)
def test_no_packet_id_is_read_where_there_is_none(body: bytes) -> None:
    assert packet_id_in(body) is None
