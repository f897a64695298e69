"""Replaying dead letters as a job, cancelling one, giving letters up; who may, and what a dead runner leaves to the next."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest
import uuid_utils
from fastapi import FastAPI
from tests.command_api.conftest import AccessAs, Clock, Origin, codes
from tests.command_api.test_packets import packet
from tests.read_api.test_dead_letters import letter
from tests.real_services.waiting import until

from command_api.app import create_app
from command_api.replay_runner import ReplayRunner
from event_store.database import Pool
from event_store.dead_letters import DeadLetter, dead_letter_id, put_dead_letters
from event_store.replay_jobs import take_job
from service_runtime.access import ROLES, Access, Principal, Role


def of_packet(packet_id: str, clock: Clock, device_id: str = "new", **facts: Any) -> DeadLetter:
    """The letter of a packet from a device that was not known when it came."""
    body = msgspec.json.encode({**packet(packet_id), "device_id": device_id})
    topic = f"iot/v1/gw/{device_id}/packet"
    known: dict[str, Any] = {"topic": topic, "gateway_id": "gw", "depot_id": "d", "failed_actions": [], **facts}
    identity = dead_letter_id("mqtt", topic, None, None, None, body)
    return msgspec.structs.replace(letter(body, at=clock.now, device_id=device_id), dead_letter_id=identity, **known)


async def put(pool: Pool, *letters: DeadLetter) -> None:
    async with pool.acquire() as connection:
        await put_dead_letters(connection, list(letters))


@pytest.fixture
def app(pool: Pool, clock: Clock) -> FastAPI:
    return create_app(pool, clock, lambda: str(uuid_utils.uuid7()), Access(None))


@pytest.fixture
def runner(app: FastAPI) -> ReplayRunner:
    """A runner besides the one that answers."""
    found: object = app.state.replays
    assert isinstance(found, ReplayRunner)
    return found


@pytest.fixture
async def repaired(origin: Origin, site: dict[str, Any], pool: Pool, clock: Clock) -> None:
    """Five letters of a device that is there by now, and one that nothing can mend."""
    bad = letter(b"bad", at=clock.now, device_id="new", reason_code="MALFORMED_JSON")
    await put(pool, *(of_packet(f"p-{number}", clock) for number in range(5)), bad)
    await origin.post("/api/device", {"device_id": "new", "gateway_id": "gw"})
    await origin.post("/api/sensor_action", {"device_id": "new", "measurand": "SOC", "action": "RECORD_MEASUREMENT"})


_SLOWLY = {"rate_per_s": 0.1}
"""Ten seconds from letter to letter, so that a job is still at it when a busy machine gets to the next line."""


async def begun(origin: Origin, address: str) -> None:
    """Wait until a job has done something."""

    async def has() -> bool:
        return (await origin.get(address))["done"] > 0

    await until(has, "the job begins", timeout_s=60)


async def statuses(pool: Pool) -> list[str]:
    return [row[0] for row in await pool.fetch("SELECT status FROM dead_letter ORDER BY status")]


@pytest.mark.usefixtures("repaired")
async def test_a_replay_is_a_job_whose_end_can_be_read(origin: Origin, pool: Pool, runner: ReplayRunner) -> None:
    answered = await origin.commands.post("/api/dead-letter/replay", json={"device_id": "new"})
    assert answered.status_code == 202
    job = answered.json()
    address = f"/api/dead-letter/replay/{job['job_id']}"
    assert answered.headers["location"] == address
    assert job == {"job_id": job["job_id"], "status": "RUNNING", "total": 6, "done": 0, "outcomes": {}, "letters": []}
    assert await runner.run_waiting() == 1
    ended = await origin.get(address)
    assert (ended["status"], ended["total"], ended["done"]) == ("DONE", 6, 6)
    assert ended["outcomes"] == {"STORED": 5, "DEAD_LETTERED": 1}
    stored = [one for one in ended["letters"] if one["outcome"] == "STORED"]
    assert stored[0]["actions"][0] == {
        "measurand": "SOC",
        "action": "RECORD_MEASUREMENT",
        "outcome": "APPLIED",
        "code": None,
        "event_id": stored[0]["difference"][0]["event_id"],
    }
    failed = [one for one in ended["letters"] if one["outcome"] == "DEAD_LETTERED"]
    assert [one["code"] for one in failed] == ["MALFORMED_JSON"]
    assert await statuses(pool) == ["PENDING"] + ["REPLAYED"] * 5
    shown = await origin.get(f"/api/dead-letter/{stored[0]['dead_letter_id']}")
    assert (shown["status"], shown["replayed_by"]) == ("REPLAYED", "everyone")
    assert await pool.fetchval("SELECT request FROM audit WHERE path = '/api/dead-letter/replay'") == b'{"device_id":"new"}'


@pytest.mark.usefixtures("repaired")
async def test_a_trial_tells_the_same_and_stores_nothing(origin: Origin, pool: Pool, runner: ReplayRunner) -> None:
    asked = [await origin.post("/api/dead-letter/replay", {"dry_run": dry_run}, 202) for dry_run in (True, False)]
    before = await pool.fetchval("SELECT count(*) FROM event_store")
    first = await take_job(pool, "a runner that dies", 0.0)
    assert first is not None
    assert first.job_id == asked[0]["job_id"]
    assert await runner.run_waiting() == 2
    trial, replay = [await origin.get(f"/api/dead-letter/replay/{one['job_id']}") for one in asked]
    assert {**trial, "job_id": ""} == {**replay, "job_id": ""}
    assert await pool.fetchval("SELECT count(*) FROM event_store") == before + 5


@pytest.mark.usefixtures("repaired")
async def test_a_second_replay_finds_only_what_is_left(origin: Origin, runner: ReplayRunner) -> None:
    await origin.post("/api/dead-letter/replay", {}, 202)
    await runner.run_waiting()
    again = await origin.post("/api/dead-letter/replay", {"reason_code": "UNKNOWN_DEVICE"}, 202)
    await runner.run_waiting()
    ended = await origin.get(f"/api/dead-letter/replay/{again['job_id']}")
    assert (ended["status"], ended["total"], ended["outcomes"]) == ("DONE", 0, {})


_CHOICES: list[tuple[dict[str, Any], int]] = [
    ({}, 6),
    ({"limit": 2}, 2),
    ({"device_id": "dev"}, 0),
    ({"gateway_id": "gw"}, 5),
    ({"status": "REPLAYED"}, 0),
    ({"stage": "AUTHORISE", "depot_id": "d", "reason_code": "UNKNOWN_DEVICE"}, 5),
    ({"since": "2026-11-20T12:00:00Z", "until": "2026-11-20T12:00:01Z"}, 6),
    ({"until": "2026-11-20T12:00:00Z"}, 0),
    ({"dead_letter_ids": []}, 0),
]


@pytest.mark.usefixtures("repaired")
async def test_letters_are_chosen_by_what_they_are(origin: Origin) -> None:
    for wanted, total in _CHOICES:
        assert (await origin.post("/api/dead-letter/replay", wanted, 202))["total"] == total, wanted


_REFUSED: list[tuple[str, Any, str, str]] = [
    ("replay", {"resaon_code": "X"}, "/resaon_code", "UNKNOWN_FIELD"),
    ("replay", {"limit": 0}, "/limit", "INVALID_VALUE"),
    ("replay", {"limit": True}, "/limit", "INVALID_VALUE"),
    ("replay", {"rate_per_s": 0}, "/rate_per_s", "INVALID_VALUE"),
    ("replay", {"since": "2026-11-20T12:00:00"}, "/since", "INVALID_TIMESTAMP"),
    ("replay", {"device_id": "a\u0000"}, "/device_id", "INVALID_VALUE"),
    ("replay", {"dead_letter_ids": ["x"]}, "/dead_letter_ids/0", "INVALID_VALUE"),
    ("replay", [], "", "INVALID_VALUE"),
    ("replay", b"{", "", "MALFORMED_JSON"),
    ("discard", {}, "/why", "MISSING_FIELD"),
    ("discard", {"why": " "}, "/why", "INVALID_VALUE"),
]


async def test_what_can_not_be_meant_is_refused_and_nothing_is_given_up_without_a_reason(origin: Origin) -> None:
    for command, body, pointer, code in _REFUSED:
        assert codes(await origin.post(f"/api/dead-letter/{command}", body, 422)) == [(pointer, code)]


@pytest.mark.usefixtures("repaired")
async def test_what_is_given_up_says_who_when_and_why_and_is_not_replayed(
    origin: Origin, pool: Pool, clock: Clock, runner: ReplayRunner
) -> None:
    wanted = {"reason_code": "UNKNOWN_DEVICE", "device_id": "new", "why": "a test bench"}
    assert await origin.post("/api/dead-letter/discard", wanted, 200) == {"discarded": 5, "remaining": 0}
    assert await origin.post("/api/dead-letter/discard", wanted, 200) == {"discarded": 0, "remaining": 0}
    items = (await origin.get("/api/dead-letter", status="DISCARDED"))["items"]
    assert {(one["discarded_by"], one["discarded_why"], one["discarded_at"]) for one in items} == {
        ("everyone", "a test bench", "2026-11-20T12:00:00Z")
    }
    await origin.post("/api/dead-letter/replay", {}, 202)
    await runner.run_waiting()
    assert await statuses(pool) == ["DISCARDED"] * 5 + ["PENDING"]
    await put(pool, of_packet("p-1", clock))
    assert (await statuses(pool)).count("PENDING") == 2


@pytest.mark.usefixtures("repaired")
async def test_a_job_that_nobody_is_at_is_cancelled_at_once_and_forgotten_by_a_second_delete(
    origin: Origin, pool: Pool, runner: ReplayRunner
) -> None:
    job = await origin.post("/api/dead-letter/replay", {}, 202)
    address = f"/api/dead-letter/replay/{job['job_id']}"
    assert (await origin.delete(address, 202))["status"] == "CANCELLED"
    assert await runner.run_waiting() == 0
    assert await statuses(pool) == ["PENDING"] * 6
    await origin.delete(address)
    assert (await origin.delete(address, 404))["code"] == "REPLAY_JOB_NOT_FOUND"
    await origin.get(address, 404)


@pytest.mark.usefixtures("repaired")
async def test_a_running_job_stops_when_it_is_cancelled_and_each_letter_is_done_or_waiting(
    origin: Origin, pool: Pool, runner: ReplayRunner
) -> None:
    job = await origin.post("/api/dead-letter/replay", _SLOWLY, 202)
    address = f"/api/dead-letter/replay/{job['job_id']}"
    running = asyncio.create_task(runner.run_waiting())
    await begun(origin, address)
    assert (await origin.delete(address, 202))["status"] == "RUNNING"
    async with asyncio.timeout(60):
        assert await running == 1
    ended = await origin.get(address)
    assert ended["status"] == "CANCELLED"
    assert 0 < ended["done"] < 6
    assert (await statuses(pool)).count("REPLAYED") == ended["outcomes"].get("STORED", 0)


@pytest.mark.usefixtures("repaired")
async def test_what_a_runner_leaves_the_next_one_does_and_nothing_twice(
    origin: Origin, pool: Pool, clock: Clock, runner: ReplayRunner
) -> None:
    job = await origin.post("/api/dead-letter/replay", _SLOWLY, 202)
    address = f"/api/dead-letter/replay/{job['job_id']}"
    first = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), Access(None)).state.replays
    running = asyncio.create_task(first.run())
    await begun(origin, address)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await pool.execute("UPDATE replay_job SET rate_per_s = NULL")
    assert await runner.run_waiting() == 1
    ended = await origin.get(address)
    assert (ended["status"], ended["done"], len(ended["letters"])) == ("DONE", 6, 6)
    assert len({one["dead_letter_id"] for one in ended["letters"]}) == 6
    assert await pool.fetchval("SELECT max(attempts) FROM dead_letter WHERE status = 'PENDING'") == 2


@pytest.mark.usefixtures("repaired")
async def test_a_runner_whose_job_was_taken_over_stores_nothing_more(origin: Origin, pool: Pool, runner: ReplayRunner) -> None:
    job = await origin.post("/api/dead-letter/replay", _SLOWLY, 202)
    running = asyncio.create_task(runner.run_waiting())
    await begun(origin, f"/api/dead-letter/replay/{job['job_id']}")
    await pool.execute("UPDATE replay_job SET holder = 'another', held_until = now() + interval '1 hour'")
    done = (await statuses(pool)).count("REPLAYED")
    async with asyncio.timeout(60):
        assert await running == 1
    assert (await statuses(pool)).count("REPLAYED") == done
    assert await pool.fetchval("SELECT status FROM replay_job") == "RUNNING"


@pytest.mark.usefixtures("repaired")
async def test_a_job_that_fails_for_a_fault_of_ours_says_so_and_is_not_tried_again(
    origin: Origin, pool: Pool, runner: ReplayRunner
) -> None:
    job = await origin.post("/api/dead-letter/replay", {}, 202)
    await pool.execute("UPDATE dead_letter SET failed_actions = '[7]'")
    with pytest.raises(TypeError):
        await runner.run_waiting()
    assert (await origin.get(f"/api/dead-letter/replay/{job['job_id']}"))["status"] == "FAILED"
    assert await runner.run_waiting() == 0


def _caller(pool: Pool, clock: Clock, role: Role, depots: set[str] | None = None) -> tuple[httpx2.AsyncClient, ReplayRunner]:
    principal = Principal("somebody", frozenset({role}), frozenset(depots) if depots is not None else None, None)
    app = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), AccessAs(principal))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://depotgrid"), app.state.replays


async def test_operators_and_above_replay_cancel_and_give_up(pool: Pool, clock: Clock) -> None:
    for role in ROLES:
        http, _ = _caller(pool, clock, role)
        async with http:
            answered = [
                await http.post("/api/dead-letter/replay", json={}),
                await http.post("/api/dead-letter/discard", json={"why": "x"}),
                await http.delete(f"/api/dead-letter/replay/{uuid_utils.uuid7()}"),
            ]
        allowed = role in ("operator", "configurator", "admin")
        assert [one.status_code for one in answered] == ([202, 200, 404] if allowed else [403] * 3), role


@pytest.mark.usefixtures("repaired")
async def test_whoever_sees_some_depots_replays_and_gives_up_letters_of_these_alone(
    pool: Pool, clock: Clock, origin: Origin
) -> None:
    elsewhere = [of_packet("q-1", clock, depot_id="e"), of_packet("q-2", clock, depot_id=None)]
    await put(pool, *elsewhere)
    of_all = await origin.post("/api/dead-letter/replay", {"dry_run": True}, 202)
    http, runner = _caller(pool, clock, "operator", {"d"})
    async with http:
        job = (await http.post("/api/dead-letter/replay", json={})).json()
        assert job["total"] == 5
        await runner.run_waiting()
        hidden = await http.delete(f"/api/dead-letter/replay/{of_all['job_id']}")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "REPLAY_JOB_NOT_FOUND")
        assert (await http.delete(f"/api/dead-letter/replay/{job['job_id']}")).status_code == 204
        assert (await http.post("/api/dead-letter/discard", json={"why": "x"})).json() == {"discarded": 0, "remaining": 0}
    found = await pool.fetch(
        "SELECT status FROM dead_letter WHERE dead_letter_id = ANY($1::uuid[])", [one.dead_letter_id for one in elsewhere]
    )
    assert [row[0] for row in found] == ["PENDING", "PENDING"]


async def test_jobs_that_ended_long_ago_are_forgotten(origin: Origin, pool: Pool, clock: Clock) -> None:
    # By the database's own time, whatever that of the other tests is.
    clock.now = await pool.fetchval("SELECT now()") - timedelta(days=31)
    job = await origin.post("/api/dead-letter/replay", {}, 202)
    await origin.delete(f"/api/dead-letter/replay/{job['job_id']}", 202)
    runner = create_app(pool, clock, lambda: str(uuid_utils.uuid7()), Access(None)).state.replays

    async def kept() -> int:
        return await pool.fetchval("SELECT count(*) FROM replay_job")

    async def forgotten() -> bool:
        return await kept() == 0

    assert await kept() == 1
    running = asyncio.create_task(runner.run())
    await until(forgotten, "the job is forgotten", timeout_s=60)
    assert await kept() == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
