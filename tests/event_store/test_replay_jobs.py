"""A replay job belongs to who holds it while it runs: nobody else, and nobody after it has ended, moves it on."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from event_store.database import Pool
from event_store.dead_letters import DeadLetterFilter
from event_store.replay_jobs import (
    JobLostError,
    ReplayJob,
    begin_anew,
    cancel_or_delete_job,
    describe_job,
    end_job,
    hold_job,
    note_progress,
    put_job,
    take_job,
)

pytestmark = pytest.mark.services

_NOW = datetime(2026, 11, 21, 7, tzinfo=UTC)
_TTL_S = 600.0
_RAN_OUT_S = -1.0


@dataclass(frozen=True)
class Runner:
    """Someone who takes the job of that id for its own."""

    pool: Pool
    job_id: str
    name: str

    async def hold(self) -> bool:
        return await hold_job(self.pool, self.job_id, self.name, _TTL_S)

    async def note(self) -> bool:
        async with self.pool.acquire() as connection, connection.transaction():
            after = (_NOW, str(uuid.UUID(int=2)))
            return await note_progress(connection, self.job_id, self.name, _TTL_S, outcomes=["STORED"], reports=[], after=after)

    async def begin_anew(self) -> None:
        await begin_anew(self.pool, self.job_id, self.name)


Act = Callable[[Runner], Awaitable[object]]
every_act = pytest.mark.parametrize("act", [Runner.hold, Runner.note, Runner.begin_anew], ids=lambda act: act.__name__)


@pytest.fixture
async def runner(pool: Pool) -> Runner:
    """Who asked for a job of three letters and has not taken it yet."""
    job = ReplayJob(
        job_id=str(uuid.UUID(int=1)),
        requested_by="anna",
        requested_at=_NOW,
        wanted=DeadLetterFilter(),
        most=None,
        rate_per_s=None,
        dry_run=False,
        status="RUNNING",
        total=3,
        done=0,
        outcomes={},
        after=None,
    )
    async with pool.acquire() as connection:
        await put_job(connection, job)
    return Runner(pool, job.job_id, "first")


async def _told(runner: Runner) -> tuple[str, int]:
    async with runner.pool.acquire() as connection:
        job = await describe_job(connection, runner.job_id, None)
    assert job is not None
    return job.status, job.done


async def _cancel(runner: Runner) -> bool:
    async with runner.pool.acquire() as connection:
        return await cancel_or_delete_job(connection, runner.job_id, _NOW)


async def test_a_runner_notes_what_it_did_of_a_job_that_it_holds(runner: Runner) -> None:
    assert await take_job(runner.pool, runner.name, _TTL_S) is not None
    assert await runner.note() is False
    assert await runner.hold() is False
    assert await _told(runner) == ("RUNNING", 1)
    await runner.begin_anew()
    assert await _told(runner) == ("RUNNING", 0)


@every_act
async def test_a_runner_that_woke_up_after_its_job_was_cancelled_has_lost_it(runner: Runner, act: Act) -> None:
    assert await take_job(runner.pool, runner.name, _RAN_OUT_S) is not None
    await runner.note()
    await runner.pool.execute("UPDATE replay_job SET held_until = clock_timestamp() - interval '1 second'")
    assert await _cancel(runner)
    with pytest.raises(JobLostError):
        await act(runner)
    await end_job(runner.pool, runner.job_id, runner.name, "DONE", _NOW)
    assert await _told(runner) == ("CANCELLED", 1)
    assert await take_job(runner.pool, runner.name, _TTL_S) is None


@every_act
async def test_a_runner_whose_job_another_one_took_has_lost_it(runner: Runner, act: Act) -> None:
    assert await take_job(runner.pool, runner.name, _RAN_OUT_S) is not None
    assert await take_job(runner.pool, "second", _TTL_S) is not None
    with pytest.raises(JobLostError):
        await act(runner)
    await end_job(runner.pool, runner.job_id, runner.name, "DONE", _NOW)
    assert await _told(runner) == ("RUNNING", 0)


async def test_a_held_job_is_asked_to_end_and_one_that_ended_is_deleted(runner: Runner) -> None:
    assert await take_job(runner.pool, runner.name, _TTL_S) is not None
    assert await _cancel(runner)
    assert await _told(runner) == ("RUNNING", 0)
    assert await runner.hold() is True
    await end_job(runner.pool, runner.job_id, runner.name, "CANCELLED", _NOW)
    assert await _told(runner) == ("CANCELLED", 0)
    assert not await _cancel(runner)
    async with runner.pool.acquire() as connection:
        assert await describe_job(connection, runner.job_id, None) is None
