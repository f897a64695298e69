"""Evidence over HTTP: runs, one run, its packets a page at a time, and nothing but runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from depot_sim.evidence import CONFIRMED, PACKETS, PASSED, EvidenceWriter
from depot_sim.runs_api import runs_app
from service_runtime.access import Access


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    writer = EvidenceWriter(tmp_path / "runs" / "run-1", {"run_id": "run-1", "scenario": "s"})
    for number in range(5):
        writer.add(PACKETS, {"n": number, "step": number, "topic": "iot/v1/g/d/packet", "state": {"soc_pct": 5.0}})
        if number != 3:
            writer.add(CONFIRMED, {"n": number})
    writer.finish(PASSED)
    (tmp_path / "secret.txt").write_text("x")
    with TestClient(runs_app(tmp_path / "runs", Access(None))) as client:
        yield client


def test_runs_are_listed_with_how_they_ended(http: TestClient) -> None:
    (run,) = http.get("/api/sim/run").json()["items"]
    assert (run["run_id"], run["status"], run["confirmed"]) == ("run-1", PASSED, 4)
    assert http.get("/api/sim/run/run-1").json()["expectations"] == []


def test_packets_have_topic_step_and_state_and_whether_they_were_confirmed(http: TestClient) -> None:
    page = http.get("/api/sim/run/run-1/packet").json()
    assert [(one["step"], one["confirmed"]) for one in page["items"]] == [(0, True), (1, True), (2, True), (3, False), (4, True)]
    assert page["items"][0]["topic"] == "iot/v1/g/d/packet"
    assert page["items"][0]["state"] == {"soc_pct": 5.0}
    assert page["next"] is None


def test_packets_come_a_page_at_a_time(http: TestClient) -> None:
    numbers: list[int] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = http.get("/api/sim/run/run-1/packet", params={"limit": 2, "cursor": cursor}).json()
        numbers += [one["n"] for one in page["items"]]
        cursor = page["next"]
    assert numbers == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", ["nothing", "..", "%2e%2e", "..%2fsecret.txt", ".hidden"])
def test_what_is_no_run_is_not_found(http: TestClient, path: str) -> None:
    assert http.get(f"/api/sim/run/{path}/packet").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "cursor=-1", "cursor=x", "foo=1"])
def test_a_wrong_page_is_refused(http: TestClient, query: str) -> None:
    answer = http.get(f"/api/sim/run/run-1/packet?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
