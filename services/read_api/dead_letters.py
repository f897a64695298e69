"""Dead letters: which there are, counted by cause, and each one with its original bytes.

A body is shown as text where it is text: UTF-8 without control characters other than tab and line ends. Anything else is shown
as hex. A body that was cut at the size limit may end within a character, which does not make it less of a text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from event_store.dead_letters import (
    GROUP_FIELDS,
    DeadLetter,
    DeadLetterFilter,
    get_dead_letter,
    group_dead_letters,
    list_dead_letters,
)
from event_store.replay_jobs import ReplayJobDocument, describe_job
from read_api.answers import (
    AwareMoment,
    Code,
    Identifier,
    Moment,
    NoQuery,
    Page,
    UuidText,
    decode_cursor,
    encode_cursor,
    is_uuid,
    json_answer,
    not_found,
    told_as_some_of,
)
from read_api.backing import ACQUIRE_S, Backing
from service_runtime.access import principal_of
from service_runtime.problem import FieldFault, problem_of_faults, problem_responses

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class DeadLetterItem:
    """A dead letter without its bytes; `attempts` counts how often it failed.

    `body_dropped_at` is when its bytes were let go of, because there were too many of its cause.
    """

    dead_letter_id: str
    first_failed_at: datetime
    last_failed_at: datetime
    attempts: int
    status: str
    reason_code: str
    stage: str
    detail: str
    source: str
    topic: str
    partition: int | None
    offset: int | None
    body_length: int
    body_sha256: str
    received_at: datetime
    depot_id: str | None
    gateway_id: str | None
    device_id: str | None
    failed_actions: tuple[Mapping[str, Any], ...]
    trace_id: str | None
    replayed_by: str | None
    replayed_at: datetime | None
    discarded_by: str | None
    discarded_at: datetime | None
    discarded_why: str | None
    body_dropped_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetterDocument(DeadLetterItem):
    """A dead letter with its bytes: `text` or `hex` by `…_encoding`. `body_length` is the length as received, in bytes."""

    key: str | None
    key_encoding: Literal["text", "hex"] | None
    headers: Mapping[str, str]
    body: str
    body_encoding: Literal["text", "hex"]
    body_truncated: bool


@dataclass(frozen=True, slots=True)
class DeadLetterGroupDocument:
    """Letters that have the same values of the fields grouped by; of `bodies_dropped` of them the bytes were let go of."""

    group: Mapping[str, str | None]
    count: int
    bodies_dropped: int
    first_at: datetime
    last_at: datetime
    sample_id: str


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Letters, last failed first; or, with `group_by`, groups of them, most first."""

    items: tuple[DeadLetterItem | DeadLetterGroupDocument, ...]
    next: str | None


class DeadLetterQuery(Page):
    """Which letters; times are of the last failure."""

    reason_code: Code | None = None
    stage: Literal["DECODE", "VALIDATE", "AUTHORISE", "ROUTE", "APPLY"] | None = None
    status: Literal["PENDING", "REPLAYED", "DISCARDED"] | None = None
    depot_id: Identifier | None = None
    gateway_id: Identifier | None = None
    device_id: Identifier | None = None
    since: Moment | None = Field(None, description="inclusive")
    until: Moment | None = Field(None, description="exclusive")
    group_by: Annotated[str, Field(max_length=200), told_as_some_of(GROUP_FIELDS)] | None = Field(
        None, description=f"count by these, separated by commas: {', '.join(GROUP_FIELDS)}"
    )


def dead_letter_routes(backing: Backing) -> APIRouter:
    """`/api/dead-letter`, `/api/dead-letter/{dead_letter_id}` and `/api/dead-letter/replay/{job_id}`."""
    router = APIRouter(tags=["dead letter"])

    @router.get("/api/dead-letter", response_model=DeadLetterPage, responses=problem_responses(422))
    async def list_letters(request: Request, wanted: Annotated[DeadLetterQuery, Query()]) -> Response:
        """Letters, last failed first; with `group_by`, at most 500 groups with a count, times and a sample each."""
        of_depots = principal_of(request).depots
        meant = DeadLetterFilter(**wanted.model_dump(exclude={"limit", "cursor", "group_by"}), of_depots=of_depots)
        place = decode_cursor(wanted.cursor, tuple[AwareMoment, UuidText])
        fields = _group_fields(wanted.group_by) if wanted.group_by is not None else None
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            if fields is not None:
                groups = await group_dead_letters(connection, meant, fields)
                items = tuple(
                    DeadLetterGroupDocument(
                        dict(zip(fields, group.values, strict=True)),
                        group.count,
                        group.bodies_dropped,
                        group.first_at,
                        group.last_at,
                        group.sample_id,
                    )
                    for group in groups
                )
                return json_answer(request, DeadLetterPage(items, None))
            letters = await list_dead_letters(connection, meant, limit=wanted.limit + 1, before=place, with_bodies=False)
        shown = letters[: wanted.limit]
        more = encode_cursor(shown[-1].last_failed_at, shown[-1].dead_letter_id) if len(letters) > wanted.limit else None
        return json_answer(request, DeadLetterPage(tuple(DeadLetterItem(**_facts(letter)) for letter in shown), more))

    @router.get("/api/dead-letter/{dead_letter_id}", response_model=DeadLetterDocument, responses=problem_responses(404, 422))
    async def get_letter(request: Request, dead_letter_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """One letter with its original bytes."""
        letter = None
        if is_uuid(dead_letter_id):
            async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                letter = await get_dead_letter(connection, dead_letter_id)
        if letter is None:
            raise not_found("DEAD_LETTER", dead_letter_id)
        return json_answer(request, dead_letter_document(letter))

    @router.get("/api/dead-letter/replay/{job_id}", response_model=ReplayJobDocument, responses=problem_responses(404, 422))
    async def get_replay(request: Request, job_id: str, _: Annotated[NoQuery, Query()]) -> Response:
        """How far a replay is, and what became of its first 1,000 letters."""
        job = None
        if is_uuid(job_id):
            async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                job = await describe_job(connection, job_id, principal_of(request).depots)
        if job is None:
            raise not_found("REPLAY_JOB", job_id)
        return json_answer(request, job)

    return router


def dead_letter_document(letter: DeadLetter) -> DeadLetterDocument:
    """A letter with its bytes made readable."""
    truncated = len(letter.body) < letter.body_length
    body, body_encoding = readable(letter.body, truncated=truncated)
    key, key_encoding = readable(letter.key) if letter.key is not None else (None, None)
    return DeadLetterDocument(
        **_facts(letter),
        key=key,
        key_encoding=key_encoding,
        headers=letter.headers,
        body=body,
        body_encoding=body_encoding,
        body_truncated=truncated,
    )


def readable(data: bytes, *, truncated: bool = False) -> tuple[str, Literal["text", "hex"]]:
    """Bytes as text where they are text, as hex where not, and which of the two it is."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=not truncated)
    except UnicodeDecodeError:
        return data.hex(), "hex"
    return (data.hex(), "hex") if _CONTROL.search(text) else (text, "text")


def _group_fields(text: str) -> tuple[str, ...]:
    fields = tuple(dict.fromkeys(text.split(",")))
    unknown = [field for field in fields if field not in GROUP_FIELDS]
    if unknown:
        detail = f"{unknown[0][:40]!r} is not one of {', '.join(GROUP_FIELDS)}"
        raise problem_of_faults([FieldFault("/query/group_by", "INVALID_VALUE", detail)])
    return fields


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in DeadLetterItem.__dataclass_fields__}
