"""Dead letters: what could not be applied, with its original bytes and why.

A letter's identity is derived from where it came from (source, topic, key, Kafka position) and its body, so a redelivery is one
more attempt of the same letter and makes a replayed or discarded one pending again. Bodies are kept up to 64 KiB, with the full
length and hash beyond. Whatever a sender or a broker put into topic, key, headers or ids, the letter itself can always be stored:
characters that PostgreSQL holds in no text become U+FFFD, and only the body is kept as it came.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import uuid_utils

from event_store.database import Connection

BODY_LIMIT = 64 * 1024

_NAMESPACE = uuid_utils.UUID("b6a5b2de-4a5c-5d9b-8d0e-2d5b7c0f7a11")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TEXTS = ("reason_code", "detail", "source", "topic", "depot_id", "gateway_id", "device_id", "trace_id")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One packet that failed, wholly or in `failed_actions` (`{pointer, measurand, action?, code}` each).

    `partition` and `offset` are set for Kafka only. `attempts` counts how often this very letter failed.
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
    key: bytes | None
    headers: Mapping[str, str]
    body: bytes
    body_length: int
    body_sha256: str
    received_at: datetime
    depot_id: str | None
    gateway_id: str | None
    device_id: str | None
    failed_actions: Sequence[Mapping[str, object]]
    trace_id: str | None
    replayed_by: str | None = None
    replayed_at: datetime | None = None


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; None means any. Times are of the last failure, `until` exclusive."""

    reason_code: str | None = None
    stage: str | None = None
    status: str | None = None
    depot_id: str | None = None
    gateway_id: str | None = None
    device_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of those meant."""
        wanted = (self.reason_code, self.stage, self.status, self.depot_id, self.gateway_id, self.device_id)
        found = (letter.reason_code, letter.stage, letter.status, letter.depot_id, letter.gateway_id, letter.device_id)
        return (
            all(want is None or want == have for want, have in zip(wanted, found, strict=True))
            and (self.since is None or letter.last_failed_at >= self.since)
            and (self.until is None or letter.last_failed_at < self.until)
        )


GROUP_FIELDS = ("reason_code", "stage", "status", "depot_id", "gateway_id", "device_id", "source")


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """Letters with the same values of the fields that were grouped by, in their order."""

    values: tuple[str | None, ...]
    count: int
    first_at: datetime
    last_at: datetime
    sample_id: str


def dead_letter_id(source: str, topic: str, key: bytes | None, partition: int | None, offset: int | None, body: bytes) -> str:
    """The identity of the letter that this failure belongs to."""
    position = f"{partition}/{offset}" if offset is not None else ""
    digest = hashlib.sha256(body).hexdigest()
    name = f"{source}\0{topic}\0{(key or b'').hex()}\0{position}\0{digest}"
    return str(uuid_utils.uuid5(_NAMESPACE, name.encode("utf-8", "backslashreplace").decode()))


def merged(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Letters as they are stored; the same one failing several times within one batch is one with that many attempts."""
    by_id: dict[str, DeadLetter] = {}
    for letter in map(_storable, letters):
        known = by_id.get(letter.dead_letter_id)
        by_id[letter.dead_letter_id] = letter if known is None else another_attempt(known, letter)
    return list(by_id.values())


def _storable(letter: DeadLetter) -> DeadLetter:
    changed: dict[str, Any] = {
        name: _UNSTORABLE.sub("\ufffd", text)
        for name in _TEXTS
        if (text := getattr(letter, name)) is not None and _UNSTORABLE.search(text)
    }
    if any(_UNSTORABLE.search(name) or _UNSTORABLE.search(value) for name, value in letter.headers.items()):
        changed["headers"] = {
            _UNSTORABLE.sub("\ufffd", name): _UNSTORABLE.sub("\ufffd", value) for name, value in letter.headers.items()
        }
    return msgspec.structs.replace(letter, **changed) if changed else letter


def another_attempt(known: DeadLetter, letter: DeadLetter) -> DeadLetter:
    """A letter that failed again: the new failure's facts, the first failure's time, one more attempt."""
    return msgspec.structs.replace(
        letter,
        first_failed_at=known.first_failed_at,
        attempts=known.attempts + letter.attempts,
        received_at=known.received_at,
        replayed_by=known.replayed_by,
        replayed_at=known.replayed_at,
    )


_COLUMNS = (
    "dead_letter_id::text AS dead_letter_id, first_failed_at, last_failed_at, attempts, status, reason_code, stage, detail, "
    'source, topic, partition, "offset", key, headers, body, body_length, body_sha256, received_at, depot_id, gateway_id, '
    "device_id, failed_actions, trace_id, replayed_by, replayed_at"
)

_PUT = """
WITH put AS (
    INSERT INTO dead_letter AS d (dead_letter_id, first_failed_at, last_failed_at, attempts, status, reason_code, stage, detail,
        source, topic, partition, "offset", key, headers, body, body_length, body_sha256, received_at, depot_id, gateway_id,
        device_id, failed_actions, trace_id)
    SELECT i.dead_letter_id, i.first_failed_at, i.last_failed_at, i.attempts, 'PENDING', i.reason_code, i.stage, i.detail,
        i.source, i.topic, i.partition, i."offset", i.key, i.headers::jsonb, i.body, i.body_length, i.body_sha256, i.received_at,
        i.depot_id, i.gateway_id, i.device_id, i.failed_actions::jsonb, i.trace_id
    FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::int[], $11::bigint[], $12::bytea[], $13::text[], $14::bytea[], $15::int[], $16::text[],
                $17::timestamptz[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[])
         AS i (dead_letter_id, first_failed_at, last_failed_at, attempts, reason_code, stage, detail, source, topic, partition,
               "offset", key, headers, body, body_length, body_sha256, received_at, depot_id, gateway_id, device_id,
               failed_actions, trace_id)
    ON CONFLICT (dead_letter_id) DO UPDATE SET
        last_failed_at = excluded.last_failed_at, attempts = d.attempts + excluded.attempts, status = 'PENDING',
        reason_code = excluded.reason_code, stage = excluded.stage, detail = excluded.detail, headers = excluded.headers,
        depot_id = excluded.depot_id, gateway_id = excluded.gateway_id, device_id = excluded.device_id,
        failed_actions = excluded.failed_actions, trace_id = excluded.trace_id
    RETURNING d.dead_letter_id
)
INSERT INTO event_outbox (stream_id, dead_letter_id) SELECT 'dead-letter', dead_letter_id FROM put
"""

_WHERE = """($1::text IS NULL OR reason_code = $1) AND ($2::text IS NULL OR stage = $2) AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR depot_id = $4) AND ($5::text IS NULL OR gateway_id = $5) AND ($6::text IS NULL OR device_id = $6)
  AND ($7::timestamptz IS NULL OR last_failed_at >= $7) AND ($8::timestamptz IS NULL OR last_failed_at < $8)"""

_LIST = f"""
SELECT {_COLUMNS} FROM dead_letter
WHERE {_WHERE} AND (last_failed_at, dead_letter_id) < (coalesce($9::timestamptz, 'infinity'),
                                                       coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY last_failed_at DESC, dead_letter_id DESC LIMIT $11
"""  # noqa: S608 - constants of ours


async def put_dead_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Store letters, or count one more attempt of those that are there, each with its outbox row."""
    rows = merged(letters)
    if not rows:
        return
    encode = msgspec.json.encode
    await connection.execute(
        _PUT,
        [row.dead_letter_id for row in rows],
        [row.first_failed_at for row in rows],
        [row.last_failed_at for row in rows],
        [row.attempts for row in rows],
        [row.reason_code for row in rows],
        [row.stage for row in rows],
        [row.detail for row in rows],
        [row.source for row in rows],
        [row.topic for row in rows],
        [row.partition for row in rows],
        [row.offset for row in rows],
        [row.key for row in rows],
        [encode(row.headers).decode() for row in rows],
        [row.body[:BODY_LIMIT] for row in rows],
        [row.body_length for row in rows],
        [row.body_sha256 for row in rows],
        [row.received_at for row in rows],
        [row.depot_id for row in rows],
        [row.gateway_id for row in rows],
        [row.device_id for row in rows],
        [encode(row.failed_actions).decode() for row in rows],
        [row.trace_id for row in rows],
    )


async def list_dead_letters(
    connection: Connection, wanted: DeadLetterFilter, *, limit: int, before: tuple[datetime, str] | None = None
) -> list[DeadLetter]:
    """Letters, last failed first; `before` is the (`last_failed_at`, id) at which the page before ended."""
    rows = await connection.fetch(_LIST, *_arguments(wanted), before[0] if before else None, before[1] if before else None, limit)
    return [_letter(row) for row in rows]


async def get_dead_letter(connection: Connection, letter_id: str) -> DeadLetter | None:
    """One letter by its id (a UUID as text)."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE dead_letter_id = $1::uuid",  # noqa: S608 - a constant of ours
        letter_id,
    )
    return None if row is None else _letter(row)


async def group_dead_letters(connection: Connection, wanted: DeadLetterFilter, fields: Sequence[str]) -> list[DeadLetterGroup]:
    """Count letters by the given fields (of `GROUP_FIELDS`), most first, with times and a sample of each group."""
    if not fields or any(field not in GROUP_FIELDS for field in fields):
        raise ValueError(f"group by one or more of {', '.join(GROUP_FIELDS)}")
    columns = ", ".join(fields)
    rows = await connection.fetch(
        f"""SELECT {columns}, count(*) AS letters, min(first_failed_at) AS first_at, max(last_failed_at) AS last_at,
                   max(dead_letter_id::text) AS sample_id
            FROM dead_letter WHERE {_WHERE} GROUP BY {columns} ORDER BY letters DESC, {columns} LIMIT 500""",  # noqa: S608 - checked
        *_arguments(wanted),
    )
    return [
        DeadLetterGroup(tuple(row[field] for field in fields), row["letters"], row["first_at"], row["last_at"], row["sample_id"])
        for row in rows
    ]


async def count_pending(connection: Connection, depot_id: str) -> int:
    """How many letters of a depot wait for someone."""
    return int(await connection.fetchval("SELECT count(*) FROM dead_letter WHERE depot_id = $1 AND status = 'PENDING'", depot_id))


def _arguments(wanted: DeadLetterFilter) -> tuple[object, ...]:
    return (
        wanted.reason_code,
        wanted.stage,
        wanted.status,
        wanted.depot_id,
        wanted.gateway_id,
        wanted.device_id,
        wanted.since,
        wanted.until,
    )


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(**dict(row))
