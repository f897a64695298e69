"""Runs replay jobs in the command API's process, one at a time, oldest first.

Every command API looks for jobs that nobody holds: at once after one was asked for here, else every second. A process that is
stopped gives its job back; one that dies is followed when its lease runs out. Either way another process, or the same one when
it is back, goes on where the letters stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from event_store.database import UNREACHABLE, Connection, Pool
from event_store.replay_jobs import prune_jobs, release_jobs, take_job
from event_store.store import PostgresEventStore
from microgrid.directory import SiteDirectory
from site_operations.ingest import Ingest
from site_operations.replay_job import TTL_S, run_job

_POLL_S = 1.0
_PRUNING_S = 3600.0
_RELEASE_S = 1.0

_log = structlog.get_logger(__name__)


class ReplayRunner:
    """`ready` brings what is configured up to date; `holder` names this process among all."""

    def __init__(
        self,
        pool: Pool,
        ready: Callable[[Connection], Awaitable[tuple[SiteDirectory, Ingest]]],
        clock: Callable[[], datetime],
        holder: str,
    ) -> None:
        self._pool = pool
        self._store = PostgresEventStore(pool)
        self._ready = ready
        self._clock = clock
        self._holder = holder
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be a job."""
        self._woken.set()

    async def run(self) -> None:
        """Run jobs until cancelled; then give back what is held."""
        loop = asyncio.get_running_loop()
        next_pruning = loop.time()
        try:
            while True:
                self._woken.clear()
                try:
                    await self.run_waiting()
                    if loop.time() >= next_pruning:
                        await prune_jobs(self._pool)
                        next_pruning = loop.time() + _PRUNING_S
                except UNREACHABLE as fault:
                    _log.warning("replay jobs wait for the database", reason=str(fault) or type(fault).__name__)
                except Exception:  # one job's fault must not keep the next ones from running
                    _log.exception("a replay job failed")
                try:
                    async with asyncio.timeout(_POLL_S):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            await self._release()

    async def run_waiting(self) -> int:
        """Run the jobs that nobody is at, one after the other; gives how many it were."""
        jobs = 0
        while (job := await take_job(self._pool, self._holder, TTL_S)) is not None:
            jobs += 1
            _log.info("replaying dead letters", job_id=job.job_id, requested_by=job.requested_by, done=job.done, total=job.total)
            status = await run_job(self._store, job, self._holder, self._refreshed, self._clock)
            _log.info("replay job ended", job_id=job.job_id, status=status or "taken over")
        return jobs

    async def _refreshed(self) -> Ingest:
        async with self._pool.acquire() as connection:
            _, ingest = await self._ready(connection)
            return ingest

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASE_S):
                await release_jobs(self._pool, self._holder)
        except UNREACHABLE:
            # Its lease runs out by itself.
            return
