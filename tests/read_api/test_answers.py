"""Every answer: ETag, refusals, paging."""

from __future__ import annotations

import itertools
import json
from typing import Any, get_args

import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import MICROGRID, SOC_ACTION, run

from event_store.database import Pool
from microgrid.site_model import CAPABILITIES
from read_api.answers import CapabilityName
from read_api.openapi import openapi_text

_UNKNOWN_UUID = "01900000-0000-7000-8000-0000000000ff"
_ODD_NAMES = ["nobody", _UNKNOWN_UUID, "%00", "a%00b", "x" * 65, "x" * 5000, "%F0%9F%9A%8C", "%FF", "a b", "'"]
_PLACES = (
    ("/api/depot/{}", "DEPOT"),
    ("/api/depot/{}/site", "DEPOT"),
    ("/api/depot/{}/microgrid", "DEPOT"),
    ("/api/depot/{}/microgrid/structure", "DEPOT"),
    ("/api/depot/{}/microgrid/card", "DEPOT"),
    ("/api/depot/{}/microgrid/capability-status", "DEPOT"),
    ("/api/depot/{}/microgrid/capability-status/history", "DEPOT"),
    ("/api/depot/{}/remediation", "DEPOT"),
    ("/api/microgrid/{}", "MICROGRID"),
    ("/api/microgrid/{}/event", "MICROGRID"),
    ("/api/microgrid/{}/stream", "MICROGRID"),
    ("/api/device/{}/report", "DEVICE"),
    ("/api/device/{}/measurement", "DEVICE"),
    ("/api/device/{}/measurement/history?measurand=SOC", "DEVICE"),
    ("/api/dead-letter/{}", "DEAD_LETTER"),
)


@pytest.mark.usefixtures("site")
async def test_what_is_not_there_is_404_whatever_its_name(reader: Reader) -> None:
    for identifier, (place, kind) in itertools.product(_ODD_NAMES, _PLACES):
        await reader.problem(place.format(identifier), 404, f"{kind}_NOT_FOUND")


_NOT_UNDERSTOOD: list[tuple[str, dict[str, Any], str]] = [
    ("/api/depot", {"limit": 0}, "INVALID_VALUE"),
    ("/api/depot", {"limit": 501}, "INVALID_VALUE"),
    ("/api/depot", {"include": "all"}, "INVALID_VALUE"),
    ("/api/depot", {"cursor": "x"}, "INVALID_CURSOR"),
    ("/api/depot", {"cursor": "WyJhXHUwMDAwYiJd"}, "INVALID_CURSOR"),
    ("/api/depot", {"cursor": "ü"}, "INVALID_CURSOR"),
    ("/api/depot", {"cursor": "x" * 2000}, "INVALID_VALUE"),
    ("/api/dead-letter", {"cursor": "WyIyMDI2LTExLTIwVDEyOjAwOjAwIiwgIngiXQ"}, "INVALID_CURSOR"),
    ("/api/dead-letter", {"stage": "LUNCH"}, "INVALID_VALUE"),
    ("/api/dead-letter", {"device_id": "a\0b"}, "INVALID_VALUE"),
    ("/api/dead-letter", {"reason_code": "'; --"}, "INVALID_VALUE"),
    ("/api/dead-letter", {"since": "2026-11-20T12:00:00"}, "INVALID_TIMESTAMP"),
    ("/api/dead-letter", {"since": "0001-01-01T00:00:00+14:00"}, "INVALID_TIMESTAMP"),
    ("/api/dead-letter", {"group_by": "body"}, "INVALID_VALUE"),
    ("/api/dead-letter", {"group_by": ""}, "INVALID_VALUE"),
    ("/api/dead-letter", {"stage": "LUNCH", "status": "?"}, "VALIDATION_FAILED"),
    (f"/api/microgrid/{MICROGRID}/event", {"event_type": "Lunch"}, "INVALID_VALUE"),
    (f"/api/microgrid/{MICROGRID}/event", {"after": "1-2-3"}, "INVALID_CURSOR"),
    (f"/api/microgrid/{MICROGRID}/event", {"before": "9" * 30 + "-1"}, "INVALID_CURSOR"),
    (f"/api/microgrid/{MICROGRID}/event", {"before": "1-1", "cursor": "1-1"}, "INVALID_VALUE"),
    (f"/api/microgrid/{MICROGRID}/event", {"from": "yesterday"}, "INVALID_TIMESTAMP"),
    ("/api/depot/d-1/microgrid/capability-status/history", {"capability": "LUNCH"}, "INVALID_VALUE"),
    ("/api/depot/d-1/microgrid/capability-status/history", {"node_id": "x"}, "INVALID_VALUE"),
    ("/api/device/ctrl-1/measurement/history", {}, "MISSING_FIELD"),
    ("/api/device/ctrl-1/measurement/history", {"measurand": "a\0"}, "INVALID_VALUE"),
]


def _get_paths() -> list[str]:
    paths = json.loads(openapi_text())["paths"]
    ids = {
        "depot_id": "d-1",
        "microgrid_id": MICROGRID,
        "device_id": "ctrl-1",
        "dead_letter_id": _UNKNOWN_UUID,
        "circuit_id": "gc-1",
        "charge_point_id": "cp-1",
        "connector_id": "cp-1-1",
        "power_source_id": "bess-1",
        "gateway_id": "gw-1",
        "sensor_action_id": SOC_ACTION,
        "controller_binding_id": _UNKNOWN_UUID,
        "job_id": _UNKNOWN_UUID,
    }
    return [path.format(**ids) for path in paths]


@pytest.mark.usefixtures("site")
async def test_a_parameter_that_is_not_known_is_refused_everywhere(reader: Reader) -> None:
    paths = _get_paths()
    assert len(paths) >= 17
    for path in paths:
        needed = {"history": {"measurand": "SOC"}, "series": {"measure": "load_kw"}}.get(path.rpartition("/")[2], {})
        params = {"limt": "1", **(needed if not path.endswith("capability-status/history") else {})}
        fault = await reader.problem(path, 422, "UNKNOWN_FIELD", **params)
        assert fault["errors"][0]["pointer"] == "/query/limt"


@pytest.mark.usefixtures("site")
async def test_a_question_that_can_not_be_understood_is_refused(reader: Reader) -> None:
    for path, params, code in _NOT_UNDERSTOOD:
        await reader.problem(path, 422, code, **params)


@pytest.mark.usefixtures("site")
async def test_an_answer_that_is_known_already_is_not_sent_again(pool: Pool, reader: Reader) -> None:
    first = await reader.http.get("/api/depot/d-1")
    etag = first.headers["etag"]
    assert etag.startswith('"')
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await reader.http.get("/api/depot/d-1", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    await run(pool, "UPDATE depot SET name = 'Changed'")
    changed = await reader.http.get("/api/depot/d-1", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=1.0, identity", "gzip"),
        ("gzip;q=0", None),
        ("br, gzip; q=0.00", None),
        ("not-gzip", None),
        ("identity", None),
        ("", None),
    ],
)
async def test_a_long_answer_is_compressed_for_whoever_takes_it(
    pool: Pool, reader: Reader, accepted: str, coding: str | None
) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) SELECT 'd-' || i, 'Depot', 'UTC' FROM generate_series(1, 100) i")
    asking = {"Accept-Encoding": accepted}
    first = await reader.http.get("/api/depot", headers=asking)
    assert (first.headers.get("content-encoding"), first.headers["vary"]) == (coding, "Accept-Encoding")
    assert len(first.json()["items"]) == 100
    again = await reader.http.get("/api/depot", headers={**asking, "If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert again.headers["vary"] == "Accept-Encoding"


async def test_each_coding_of_an_answer_has_an_etag_of_its_own(pool: Pool, reader: Reader) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) SELECT 'd-' || i, 'Depot', 'UTC' FROM generate_series(1, 100) i")
    etags = [
        (await reader.http.get("/api/depot", headers={"Accept-Encoding": accepted})).headers["etag"]
        for accepted in ("gzip", "identity", "gzip")
    ]
    assert etags[0] == etags[2] != etags[1]


async def test_other_methods_and_places_are_problems_too(reader: Reader) -> None:
    await reader.problem("/api/lunch", 404, "NOT_FOUND")
    refused = await reader.http.post("/api/depot", json={})
    assert (refused.status_code, refused.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_without_a_database_answers_are_503(pool: Pool, reader: Reader) -> None:
    await pool.close()
    await reader.problem("/api/depot", 503, "DATABASE_UNAVAILABLE")
    assert (await reader.http.get("/livez")).status_code == 200
    assert (await reader.http.get("/readyz")).status_code == 503


async def test_requests_are_counted_by_method_and_path_template(reader: Reader) -> None:
    await reader.http.get("/api/depot/d-7")
    counted = (await reader.http.get("/metrics")).text
    assert 'depotgrid_http_requests_total{method="GET",route="/api/depot/{depot_id}",status="404"} 1.0' in counted
    assert "depotgrid_stream_clients 0.0" in counted


def test_the_capabilities_that_may_be_asked_for_are_those_there_are() -> None:
    assert get_args(CapabilityName) == CAPABILITIES
