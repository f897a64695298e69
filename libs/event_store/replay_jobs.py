"""Jobs that replay dead letters: what was asked for, how far it is, and who is at it.

A job is held by one runner at a time, by a lease that the database's clock measures; when it runs out, any other runner goes on.
How far a job is is noted in the transaction of the letters themselves, so that a runner that dies leaves nothing done and not
counted, nor counted and not done. A runner that lost its job to another one finds out before it can commit anything.

Outcomes are counted of all letters; what became of each is kept of the first `LETTERS_KEPT`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from event_store.database import Connection, Pool
from event_store.dead_letters import DeadLetterFilter

LETTERS_KEPT = 1_000
KEPT_FOR_S = 30 * 24 * 3600.0
"""Seconds for which a job that has ended is kept."""

Status = Literal["RUNNING", "DONE", "CANCELLED", "FAILED"]


@dataclass(frozen=True, slots=True)
class ReplayedAction:
    """What one action of one measurand came to."""

    measurand: str | None
    action: str | None
    outcome: str
    code: str | None
    event_id: str | None


@dataclass(frozen=True, slots=True)
class ReplayedChange:
    """An event that came of a letter, or would on a trial; `is_latest`: its subject's latest value is this one then."""

    event_id: str
    event_type: str
    subject: str | None
    observed_at: datetime
    is_latest: bool


@dataclass(frozen=True, slots=True)
class ReplayedLetter:
    """What became of a letter, or would on a trial.

    `STORED`, `DUPLICATE` (its events were there), `IGNORED` (nobody asks for its values), `DEAD_LETTERED` (it failed again) or
    `NOT_REPLAYABLE` (its bytes are not all there); `code` and `detail` say why, for the last two.
    """

    dead_letter_id: str
    outcome: str
    code: str | None
    detail: str | None
    actions: tuple[ReplayedAction, ...]
    difference: tuple[ReplayedChange, ...]


@dataclass(frozen=True, slots=True)
class ReplayJobDocument:
    """A job: letters that waited when it began, letters done, how many had which outcome, and the first 1,000 one by one."""

    job_id: str
    status: Status
    total: int
    done: int
    outcomes: dict[str, int]
    letters: tuple[ReplayedLetter, ...]


class ReplayJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as a runner needs it. `after` is the (`received_at`, id) of the last letter done; `most` bounds the letters."""

    job_id: str
    requested_by: str
    requested_at: datetime
    wanted: DeadLetterFilter
    most: int | None
    rate_per_s: float | None
    dry_run: bool
    status: Status
    total: int
    done: int
    outcomes: Mapping[str, int]
    after: tuple[datetime, str] | None


class JobLostError(Exception):
    """The job is another runner's now, or gone."""


_COLUMNS = """job_id::text AS job_id, requested_by, requested_at, wanted, most_letters, rate_per_s, dry_run, status, total, done,
    outcomes, after_received_at, after_id::text AS after_id"""

_TAKE = f"""
UPDATE replay_job SET holder = $1, held_until = clock_timestamp() + make_interval(secs => $2)
WHERE job_id = (SELECT job_id FROM replay_job
                WHERE status = 'RUNNING' AND (held_until IS NULL OR held_until < clock_timestamp() OR holder = $1)
                ORDER BY requested_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants of ours

_FAR = "SELECT done, outcomes FROM replay_job WHERE job_id = $1::uuid AND holder = $2 AND status = 'RUNNING' FOR UPDATE"

_NOTE = """
UPDATE replay_job SET done = $2, total = greatest(total, $2), outcomes = $3, after_received_at = $4, after_id = $5::uuid,
    held_until = clock_timestamp() + make_interval(secs => $6)
WHERE job_id = $1::uuid RETURNING cancel_requested
"""


async def put_job(connection: Connection, job: ReplayJob) -> None:
    """Store a job that nobody is at yet. Whoever may see it is told by the depots of its filter."""
    of_depots = job.wanted.of_depots
    await connection.execute(
        "INSERT INTO replay_job (job_id, requested_by, requested_at, wanted, most_letters, rate_per_s, dry_run, of_depots, status, "
        "total) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'RUNNING', $9)",
        job.job_id,
        job.requested_by,
        job.requested_at,
        msgspec.to_builtins(job.wanted),
        job.most,
        job.rate_per_s,
        job.dry_run,
        None if of_depots is None else sorted(of_depots),
        job.total,
    )


async def take_job(pool: Pool, holder: str, ttl_s: float) -> ReplayJob | None:
    """The oldest job that runs and is held by nobody else, held by `holder` for `ttl_s` seconds from now."""
    row = await pool.fetchrow(_TAKE, holder, ttl_s)
    return None if row is None else _job(row)


async def hold_job(pool: Pool, job_id: str, holder: str, ttl_s: float) -> bool:
    """Hold a job for longer; gives whether it is to be cancelled. Raises `JobLostError`."""
    cancel: bool | None = await pool.fetchval(
        "UPDATE replay_job SET held_until = clock_timestamp() + make_interval(secs => $3) "
        "WHERE job_id = $1::uuid AND holder = $2 AND status = 'RUNNING' RETURNING cancel_requested",
        job_id,
        holder,
        ttl_s,
    )
    if cancel is None:
        raise JobLostError(job_id)
    return cancel


async def note_progress(
    connection: Connection,
    job_id: str,
    holder: str,
    ttl_s: float,
    *,
    outcomes: Sequence[str],
    reports: Sequence[object],
    after: tuple[datetime, str] | None,
) -> bool:
    """Count letters by their outcomes and keep their reports, in the caller's transaction; gives whether to cancel the job.

    `after` is where the next letter stands. Raises `JobLostError`.
    """
    row = await connection.fetchrow(_FAR, job_id, holder)
    if row is None:
        raise JobLostError(job_id)
    first: int = row["done"]
    counted = Counter[str](row["outcomes"]) + Counter(outcomes)
    kept = list(enumerate(reports, start=first))[: max(0, LETTERS_KEPT - first)]
    if kept:
        await connection.execute(
            "INSERT INTO replay_job_letter (job_id, number, report) "
            "SELECT $1::uuid, i.number, i.report::jsonb FROM unnest($2::int[], $3::text[]) AS i (number, report)",
            job_id,
            [number for number, _ in kept],
            [msgspec.json.encode(report).decode() for _, report in kept],
        )
    done = first + len(outcomes)
    return bool(await connection.fetchval(_NOTE, job_id, done, dict(counted), *(after or (None, None)), ttl_s))


async def begin_anew(pool: Pool, job_id: str, holder: str) -> None:
    """Forget how far a trial was: what it knew went with its runner. Raises `JobLostError`."""
    async with pool.acquire() as connection, connection.transaction():
        status = await connection.execute(
            "UPDATE replay_job SET done = 0, outcomes = '{}', after_received_at = NULL, after_id = NULL "
            "WHERE job_id = $1::uuid AND holder = $2 AND status = 'RUNNING'",
            job_id,
            holder,
        )
        if status == "UPDATE 0":
            raise JobLostError(job_id)
        await connection.execute("DELETE FROM replay_job_letter WHERE job_id = $1::uuid", job_id)


async def end_job(pool: Pool, job_id: str, holder: str, status: Status, at: datetime, failure: str | None = None) -> None:
    """A job has ended, if it is still ours."""
    await pool.execute(
        "UPDATE replay_job SET status = $3, finished_at = $4, failure = $5, holder = NULL, held_until = NULL "
        "WHERE job_id = $1::uuid AND holder = $2 AND status = 'RUNNING'",
        job_id,
        holder,
        status,
        at,
        failure,
    )


async def release_jobs(pool: Pool, holder: str) -> None:
    """Let others go on with what a runner held."""
    await pool.execute("UPDATE replay_job SET holder = NULL, held_until = NULL WHERE holder = $1", holder)


async def cancel_or_delete_job(connection: Connection, job_id: str, at: datetime) -> bool:
    """Have a running job cancelled, at once where nobody is at it, or delete one that has ended; gives whether it ran."""
    running = await connection.fetchval(
        "UPDATE replay_job SET cancel_requested = true, "
        "status = CASE WHEN held_until >= clock_timestamp() THEN status ELSE 'CANCELLED' END, "
        "finished_at = CASE WHEN held_until >= clock_timestamp() THEN finished_at ELSE $2 END "
        "WHERE job_id = $1::uuid AND status = 'RUNNING' RETURNING true",
        job_id,
        at,
    )
    if running is None:
        await connection.execute("DELETE FROM replay_job WHERE job_id = $1::uuid", job_id)
    return running is not None


async def prune_jobs(pool: Pool) -> None:
    """Forget jobs that ended long ago."""
    await pool.execute("DELETE FROM replay_job WHERE finished_at < now() - make_interval(secs => $1)", KEPT_FOR_S)


async def describe_job(connection: Connection, job_id: str, of_depots: frozenset[str] | None) -> ReplayJobDocument | None:
    """A job with its letters; None where there is none, or where it may touch depots besides `of_depots` (None: all)."""
    row = await connection.fetchrow(
        "SELECT job_id::text AS job_id, status, total, done, outcomes FROM replay_job "
        "WHERE job_id = $1::uuid AND ($2::text[] IS NULL OR of_depots <@ $2)",
        job_id,
        None if of_depots is None else sorted(of_depots),
    )
    if row is None:
        return None
    letters = await connection.fetch("SELECT report FROM replay_job_letter WHERE job_id = $1::uuid ORDER BY number", job_id)
    told = msgspec.convert([letter["report"] for letter in letters], tuple[ReplayedLetter, ...])
    return ReplayJobDocument(row["job_id"], row["status"], row["total"], row["done"], row["outcomes"], told)


def _job(row: Any) -> ReplayJob:
    after = None if row["after_id"] is None else (row["after_received_at"], row["after_id"])
    return ReplayJob(
        job_id=row["job_id"],
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        wanted=msgspec.convert(row["wanted"], DeadLetterFilter),
        most=row["most_letters"],
        rate_per_s=row["rate_per_s"],
        dry_run=row["dry_run"],
        status=row["status"],
        total=row["total"],
        done=row["done"],
        outcomes=row["outcomes"],
        after=after,
    )
