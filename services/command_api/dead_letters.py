"""Replay dead letters as a job, stop such a job, and give letters up for good.

What a command names is narrowed to the caller's depots: letters of another depot, or of none, are not there for those who see only
some. A job belongs to whoever may see all the depots that it may touch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done, gone, not_found
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from command_api.replay_runner import ReplayRunner
from event_store.dead_letters import DeadLetterFilter, count_waiting, discard_letters
from event_store.replay_jobs import ReplayJob, ReplayJobDocument, cancel_or_delete_job, describe_job, put_job
from sensor_packet.timestamps import parse_timestamp
from service_runtime.problem import problem_of_body, problem_responses
from site_operations.conduct import Answer
from site_operations.ingest import printable

MOST_AT_ONCE = 10_000
"""Letters that one command discards, at most."""
_MOST_NAMED = 1_000


def _moment(value: object) -> datetime:
    moment = parse_timestamp(value) if isinstance(value, str) else None
    if moment is None:
        raise PydanticCustomError("INVALID_TIMESTAMP", "not an RFC 3339 time with an offset")
    return moment


_Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
_Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_Uuid = Annotated[str, Field(pattern=_UUID)]
_Wanted = TypeVar("_Wanted", bound="LettersWanted")


def _whole(number: object) -> object:
    # JSON has one kind of number, so that 5.0 is a whole one.
    return int(number) if isinstance(number, float) and number.is_integer() else number


class LettersWanted(BaseModel):
    """Which pending letters; all where nothing is said. Times are of the last failure."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason_code: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,64}$")] | None = None
    stage: Literal["DECODE", "VALIDATE", "AUTHORISE", "ROUTE", "APPLY"] | None = None
    status: Literal["PENDING", "REPLAYED", "DISCARDED"] | None = Field(None, description="letters that are not pending are left")
    depot_id: _Identifier | None = None
    gateway_id: _Identifier | None = None
    device_id: _Identifier | None = None
    since: _Moment | None = Field(None, description="inclusive")
    until: _Moment | None = Field(None, description="exclusive")
    dead_letter_ids: Annotated[list[_Uuid], Field(max_length=_MOST_NAMED)] | None = None

    def filter(self, of_depots: frozenset[str] | None) -> DeadLetterFilter:
        """The letters meant, of these depots."""
        facts = self.model_dump(include=set(LettersWanted.model_fields) - {"dead_letter_ids"})
        named = None if self.dead_letter_ids is None else frozenset(one.lower() for one in self.dead_letter_ids)
        return DeadLetterFilter(**facts, of_depots=of_depots, dead_letter_ids=named)


class ReplayWanted(LettersWanted):
    """Which letters to replay, and how."""

    limit: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)] | None = Field(None, description="at most so many")
    rate_per_s: float | None = Field(None, ge=0.1, le=10_000, allow_inf_nan=False, description="at most so many per second")
    dry_run: bool = Field(default=False, description="only tell what would happen")


class DiscardWanted(LettersWanted):
    """Which letters to give up, and why."""

    why: Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many letters were given up, and how many that were meant are still pending."""

    discarded: int
    remaining: int


def dead_letter_routes(backing: Backing, runner: ReplayRunner) -> APIRouter:
    """`POST /api/dead-letter/replay`, `DELETE /api/dead-letter/replay/{job_id}`, `POST /api/dead-letter/discard`."""
    router = APIRouter(tags=["dead letter"])

    @router.post(
        "/api/dead-letter/replay",
        status_code=202,
        response_model=ReplayJobDocument,
        responses=problem_responses(413, 422),
        openapi_extra=described(_schema(ReplayWanted), with_key=True),
    )
    async def post_replay(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        """Have pending letters replayed; the answer names the job, which GET on its address follows."""

        async def handler(given: Given) -> Answer:
            wanted = _read(ReplayWanted, given)
            job = await _put_job(backing, given, wanted)
            document = await describe_job(given.connection, job.job_id, None)
            return done(202, document, location=f"/api/dead-letter/replay/{job.job_id}")

        answered = await carry_out(backing, request, handler)
        runner.wake()
        return answered

    @router.delete(
        "/api/dead-letter/replay/{job_id}",
        status_code=204,
        responses={
            **problem_responses(404, 413, 422),
            202: {"model": ReplayJobDocument, "description": "It was running, and stops between two batches."},
        },
    )
    async def delete_replay(request: Request, job_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """Cancel a job that runs (202), or forget one that has ended (204). Letters that are done stay done."""

        async def handler(given: Given) -> Answer:
            given.expect_nothing()
            if not re.fullmatch(_UUID, job_id):
                raise not_found("replay_job", "")
            if await describe_job(given.connection, job_id, given.principal.depots) is None:
                raise not_found("replay_job", job_id)
            if await cancel_or_delete_job(given.connection, job_id, backing.clock()):
                return done(202, await describe_job(given.connection, job_id, None))
            return gone()

        return await carry_out(backing, request, handler)

    @router.post(
        "/api/dead-letter/discard",
        response_model=Discarded,
        responses=problem_responses(413, 422),
        openapi_extra=described(_schema(DiscardWanted), with_key=True),
    )
    async def post_discard(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        """Give pending letters up for good, at most 10,000 at once. They stay, with who, when and why."""

        async def handler(given: Given) -> Answer:
            wanted = _read(DiscardWanted, given)
            meant, now = wanted.filter(given.principal.depots), backing.clock()
            by = printable(given.principal.subject)
            discarded = await discard_letters(given.connection, meant, why=printable(wanted.why), by=by, at=now, limit=MOST_AT_ONCE)
            return done(200, Discarded(discarded, await count_waiting(given.connection, meant, begun_at=now)))

        return await carry_out(backing, request, handler)

    return router


async def _put_job(backing: Backing, given: Given, wanted: ReplayWanted) -> ReplayJob:
    meant, now = wanted.filter(given.principal.depots), backing.clock()
    waiting = await count_waiting(given.connection, meant, begun_at=now)
    job = ReplayJob(
        job_id=backing.new_id(),
        requested_by=printable(given.principal.subject),
        requested_at=now,
        wanted=meant,
        most=wanted.limit,
        rate_per_s=wanted.rate_per_s,
        dry_run=wanted.dry_run,
        status="RUNNING",
        total=waiting if wanted.limit is None else min(waiting, wanted.limit),
        done=0,
        outcomes={},
        after=None,
    )
    await put_job(given.connection, job)
    return job


def _read(wanted: type[_Wanted], given: Given) -> _Wanted:
    try:
        return wanted.model_validate(given.document())
    except ValidationError as fault:
        raise problem_of_body(fault) from None


def _schema(wanted: type[BaseModel]) -> dict[str, Any]:
    return wanted.model_json_schema()
