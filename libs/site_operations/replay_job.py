"""Carry out one replay job: walk on from where it stands, note how far it is with every batch, stop when it is to be cancelled.

A job that was interrupted goes on behind the last letter that is done. A trial knows nothing any more then and begins anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from event_store.database import UNREACHABLE, Connection
from event_store.dead_letters import DeadLetter
from event_store.replay_jobs import JobLostError, ReplayJob, Status, begin_anew, end_job, hold_job, note_progress
from event_store.store import PostgresEventStore, PostgresTransaction, StoreTransaction, Transactions
from site_operations.ingest import Ingest
from site_operations.replay import LetterReport, Replay, walk

TTL_S = 15.0
"""Seconds for which a runner holds a job without a sign of life."""


class _Course:
    """Notes how far a job is, and hears whether it is to be cancelled."""

    def __init__(self, job: ReplayJob, holder: str) -> None:
        self._job = job
        self._holder = holder
        self.cancelled = False

    async def note(self, transaction: StoreTransaction, letters: Sequence[DeadLetter], reports: Sequence[LetterReport]) -> None:
        """Note letters in their own transaction."""
        if isinstance(transaction, PostgresTransaction):
            await self._note(transaction.connection, reports, (letters[-1].received_at, letters[-1].dead_letter_id))

    async def note_trial(self, store: PostgresEventStore, reports: Sequence[LetterReport]) -> None:
        """Note letters of a trial, whose own transactions store nothing."""
        async with store.pool.acquire() as connection, connection.transaction():
            await self._note(connection, reports, None)

    async def hold(self, store: PostgresEventStore) -> None:
        """Give a sign of life while nothing is done."""
        self.cancelled = await hold_job(store.pool, self._job.job_id, self._holder, TTL_S)

    async def _note(self, connection: Connection, reports: Sequence[LetterReport], after: tuple[datetime, str] | None) -> None:
        outcomes = [report.outcome for report in reports]
        job_id = self._job.job_id
        self.cancelled = await note_progress(
            connection, job_id, self._holder, TTL_S, outcomes=outcomes, reports=reports, after=after
        )


async def run_job(
    store: PostgresEventStore,
    job: ReplayJob,
    holder: str,
    refreshed: Callable[[], Awaitable[Ingest]],
    clock: Callable[[], datetime],
) -> Status | None:
    """Carry a job out that `holder` holds; gives how it ended, None where another runner has it now.

    `refreshed` brings what is configured up to date, and gives the use case that decides by it. Raises what says that the
    database can not be used now; the job is then still to be done.
    """
    course = _Course(job, holder)
    try:
        if job.dry_run:
            await begin_anew(store.pool, job.job_id, holder)
        status: Status = "CANCELLED" if await _walk(store, job, course, refreshed, clock) else "DONE"
    except JobLostError:
        return None
    except UNREACHABLE:
        raise
    except Exception as fault:
        # The cause is a fault of ours: told, and not tried again for ever.
        with contextlib.suppress(*UNREACHABLE):
            await end_job(store.pool, job.job_id, holder, "FAILED", clock(), f"{type(fault).__name__}: {fault}")
        raise
    await end_job(store.pool, job.job_id, holder, status, clock())
    return status


async def _walk(
    store: PostgresEventStore,
    job: ReplayJob,
    course: _Course,
    refreshed: Callable[[], Awaitable[Ingest]],
    clock: Callable[[], datetime],
) -> bool:
    """Whether it was cancelled."""
    ingest = await refreshed()
    async with _transactions(store, dry_run=job.dry_run) as transactions:
        replay = Replay(store, transactions, ingest, clock, job.requested_by)
        walking = walk(
            replay,
            store,
            job.wanted,
            begun_at=job.requested_at,
            after=None if job.dry_run else job.after,
            most=None if job.most is None else job.most - (0 if job.dry_run else job.done),
            rate_per_s=job.rate_per_s,
            within=course.note,
        )
        async with contextlib.aclosing(walking):
            await course.hold(store)
            if course.cancelled:
                return True
            async for reports in walking:
                if not reports:
                    await course.hold(store)
                elif job.dry_run:
                    await course.note_trial(store, reports)
                if course.cancelled:
                    return True
                await refreshed()
    return False


@asynccontextmanager
async def _transactions(store: PostgresEventStore, *, dry_run: bool) -> AsyncGenerator[Transactions]:
    if not dry_run:
        yield store
        return
    async with store.trial() as trial:
        yield trial
