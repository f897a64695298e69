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

from event_store.append import EVENT_CHANNEL
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
    discarded_by: str | None = None
    discarded_at: datetime | None = None
    discarded_why: str | None = None
    body_dropped_at: datetime | None = None
    """When the bytes were let go of to keep a flood within its bounds; `body` is empty then."""


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; None means any. Times are of the last failure, `until` exclusive.

    `of_depots` are depots of which one must be the letter's: what belongs to no depot is in none of them.
    """

    reason_code: str | None = None
    stage: str | None = None
    status: str | None = None
    depot_id: str | None = None
    gateway_id: str | None = None
    device_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    of_depots: frozenset[str] | None = None
    dead_letter_ids: frozenset[str] | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of those meant."""
        wanted = (self.reason_code, self.stage, self.status, self.depot_id, self.gateway_id, self.device_id)
        found = (letter.reason_code, letter.stage, letter.status, letter.depot_id, letter.gateway_id, letter.device_id)
        return (
            all(want is None or want == have for want, have in zip(wanted, found, strict=True))
            and (self.since is None or letter.last_failed_at >= self.since)
            and (self.until is None or letter.last_failed_at < self.until)
            and (self.of_depots is None or letter.depot_id in self.of_depots)
            and (self.dead_letter_ids is None or letter.dead_letter_id in self.dead_letter_ids)
        )


GROUP_FIELDS = ("reason_code", "stage", "status", "depot_id", "gateway_id", "device_id", "source")


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """Letters with the same values of the fields that were grouped by, in their order; how many of them lost their bytes."""

    values: tuple[str | None, ...]
    count: int
    bodies_dropped: int
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
    """A letter that failed again: the new failure's facts, the first failure's time, one more attempt.

    Where the whole of it fails now and only some actions did before, those stay the ones to replay: the others were applied. Bytes
    that were let go of are back.
    """
    return msgspec.structs.replace(
        letter,
        first_failed_at=known.first_failed_at,
        attempts=known.attempts + letter.attempts,
        received_at=known.received_at,
        failed_actions=letter.failed_actions or known.failed_actions,
        replayed_by=known.replayed_by,
        replayed_at=known.replayed_at,
        discarded_by=known.discarded_by,
        discarded_at=known.discarded_at,
        discarded_why=known.discarded_why,
    )


_FACTS = (
    "dead_letter_id::text AS dead_letter_id, first_failed_at, last_failed_at, attempts, status, reason_code, stage, detail, "
    'source, topic, partition, "offset", body_length, body_sha256, received_at, depot_id, gateway_id, device_id, failed_actions, '
    "trace_id, replayed_by, replayed_at, discarded_by, discarded_at, discarded_why, body_dropped_at"
)
_COLUMNS = f"{_FACTS}, key, headers, body"
_COLUMNS_WITHOUT_BODY = f"{_FACTS}, NULL::bytea AS key, '{{}}'::jsonb AS headers, ''::bytea AS body"

_PUT = f"""
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
        failed_actions = CASE excluded.failed_actions WHEN '[]' THEN d.failed_actions ELSE excluded.failed_actions END,
        trace_id = excluded.trace_id, body = CASE WHEN d.body_dropped_at IS NULL THEN d.body ELSE excluded.body END,
        body_dropped_at = NULL
    RETURNING d.dead_letter_id
), queued AS (
    INSERT INTO event_outbox (stream_id, dead_letter_id) SELECT 'dead-letter', dead_letter_id FROM put
)
SELECT pg_notify('{EVENT_CHANNEL}', '')
"""  # noqa: S608 - a constant of ours

_WHERE = """($1::text IS NULL OR reason_code = $1) AND ($2::text IS NULL OR stage = $2) AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR depot_id = $4) AND ($5::text IS NULL OR gateway_id = $5) AND ($6::text IS NULL OR device_id = $6)
  AND ($7::timestamptz IS NULL OR last_failed_at >= $7) AND ($8::timestamptz IS NULL OR last_failed_at < $8)
  AND ($9::text[] IS NULL OR depot_id = ANY ($9)) AND ($10::uuid[] IS NULL OR dead_letter_id = ANY ($10))"""

_PAGE = f"""
FROM dead_letter
WHERE {_WHERE} AND (last_failed_at, dead_letter_id) < (coalesce($11::timestamptz, 'infinity'),
                                                       coalesce($12::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY last_failed_at DESC, dead_letter_id DESC LIMIT $13
"""

_PENDING = f"{_WHERE} AND status = 'PENDING' AND first_failed_at <= $11"

_NEXT_PENDING = f"""
SELECT {_COLUMNS} FROM dead_letter
WHERE {_PENDING} AND (received_at, dead_letter_id) > (coalesce($12::timestamptz, '-infinity'),
                                                      coalesce($13::uuid, '00000000-0000-0000-0000-000000000000'))
ORDER BY received_at, dead_letter_id LIMIT $14
"""  # noqa: S608 - constants of ours

_COUNT_PENDING = f"SELECT count(*) FROM dead_letter WHERE {_PENDING}"  # noqa: S608 - constants of ours

_REPLAYED = """
UPDATE dead_letter d SET status = 'REPLAYED', replayed_by = $2, replayed_at = $3
FROM (SELECT dead_letter_id FROM dead_letter WHERE dead_letter_id = ANY ($1::uuid[]) AND status = 'PENDING'
      ORDER BY dead_letter_id FOR UPDATE) AS held
WHERE d.dead_letter_id = held.dead_letter_id RETURNING d.dead_letter_id::text
"""

_FAILED_AGAIN = f"""
WITH put AS (
    UPDATE dead_letter d SET last_failed_at = i.last_failed_at, attempts = d.attempts + 1, reason_code = i.reason_code,
        stage = i.stage, detail = i.detail, depot_id = i.depot_id, gateway_id = i.gateway_id, device_id = i.device_id,
        failed_actions = i.failed_actions::jsonb
    FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
         AS i (dead_letter_id, last_failed_at, reason_code, stage, detail, depot_id, gateway_id, device_id, failed_actions)
    WHERE d.dead_letter_id = i.dead_letter_id AND d.status = 'PENDING'
    RETURNING d.dead_letter_id
), queued AS (
    INSERT INTO event_outbox (stream_id, dead_letter_id) SELECT 'dead-letter', dead_letter_id FROM put
)
SELECT coalesce(array_agg(dead_letter_id::text), '{{}}'), CASE WHEN count(*) > 0 THEN pg_notify('{EVENT_CHANNEL}', '') END
FROM put
"""  # noqa: S608 - a constant of ours

_DISCARD = f"""
UPDATE dead_letter d SET status = 'DISCARDED', discarded_by = $11, discarded_at = $12, discarded_why = $13
FROM (SELECT dead_letter_id FROM dead_letter WHERE {_WHERE} AND status = 'PENDING' ORDER BY dead_letter_id LIMIT $14
      FOR UPDATE) AS held
WHERE d.dead_letter_id = held.dead_letter_id
"""  # noqa: S608 - constants of ours

_RESTORE = """
INSERT INTO dead_letter (dead_letter_id, first_failed_at, last_failed_at, attempts, status, reason_code, stage, detail, source,
    topic, partition, "offset", key, headers, body, body_length, body_sha256, received_at, depot_id, gateway_id, device_id,
    failed_actions, trace_id)
VALUES ($1, $2, $3, $4, 'PENDING', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
ON CONFLICT (dead_letter_id) DO UPDATE SET body = excluded.body, body_dropped_at = NULL
WHERE dead_letter.body_dropped_at IS NOT NULL
"""


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
    connection: Connection,
    wanted: DeadLetterFilter,
    *,
    limit: int,
    before: tuple[datetime, str] | None = None,
    with_bodies: bool = True,
) -> list[DeadLetter]:
    """Letters, last failed first; `before` is the (`last_failed_at`, id) at which the page before ended.

    Without bodies, they come with neither body nor key nor headers, and none of these is read from the disk.
    """
    columns = _COLUMNS if with_bodies else _COLUMNS_WITHOUT_BODY
    place = before or (None, None)
    rows = await connection.fetch(f"SELECT {columns} {_PAGE}", *_arguments(wanted), *place, limit)
    return [_letter(row) for row in rows]


async def next_pending(
    connection: Connection,
    wanted: DeadLetterFilter,
    *,
    begun_at: datetime,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[DeadLetter]:
    """Letters that wait since `begun_at` or longer, first received first; `after` is the (`received_at`, id) of the one before.

    Neither changes while a letter waits, so who walks along them meets each once, whatever fails again meanwhile.
    """
    rows = await connection.fetch(_NEXT_PENDING, *_arguments(wanted), begun_at, *(after or (None, None)), limit)
    return [_letter(row) for row in rows]


async def count_waiting(connection: Connection, wanted: DeadLetterFilter, *, begun_at: datetime) -> int:
    """How many letters `next_pending` gives in all."""
    return int(await connection.fetchval(_COUNT_PENDING, *_arguments(wanted), begun_at))


async def get_dead_letters(connection: Connection, letter_ids: Sequence[str]) -> dict[str, DeadLetter]:
    """Those of some letters that are there, by id."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE dead_letter_id = ANY ($1::uuid[])",  # noqa: S608 - a constant of ours
        list(letter_ids),
    )
    return {row["dead_letter_id"]: _letter(row) for row in rows}


async def settle_letters(
    connection: Connection, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime
) -> frozenset[str]:
    """Mark pending letters as replayed by someone, and count one more attempt of those that failed again, each with its outbox row.

    Gives the ids of those that were pending still.
    """
    settled: set[str] = set()
    if replayed:
        settled.update(row[0] for row in await connection.fetch(_REPLAYED, list(replayed), by, at))
    if failed:
        rows = sorted((_storable(letter) for letter in failed), key=lambda letter: letter.dead_letter_id)
        columns = (
            [row.dead_letter_id for row in rows],
            [row.last_failed_at for row in rows],
            [row.reason_code for row in rows],
            [row.stage for row in rows],
            [row.detail for row in rows],
            [row.depot_id for row in rows],
            [row.gateway_id for row in rows],
            [row.device_id for row in rows],
            [msgspec.json.encode(row.failed_actions).decode() for row in rows],
        )
        settled.update(await connection.fetchval(_FAILED_AGAIN, *columns))
    return frozenset(settled)


async def restore_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Put letters back that are not there any more, and the bytes of those that lost them; others stay as they are."""
    await connection.executemany(
        _RESTORE,
        [
            (
                row.dead_letter_id,
                row.first_failed_at,
                row.last_failed_at,
                row.attempts,
                row.reason_code,
                row.stage,
                row.detail,
                row.source,
                row.topic,
                row.partition,
                row.offset,
                row.key,
                dict(row.headers),
                row.body[:BODY_LIMIT],
                row.body_length,
                row.body_sha256,
                row.received_at,
                row.depot_id,
                row.gateway_id,
                row.device_id,
                list(row.failed_actions),
                row.trace_id,
            )
            for row in map(_storable, letters)
        ],
    )


async def discard_letters(connection: Connection, wanted: DeadLetterFilter, *, why: str, by: str, at: datetime, limit: int) -> int:
    """Give pending letters up for good, at most `limit`; they stay, with who, when and why. Gives how many it were."""
    status = await connection.execute(_DISCARD, *_arguments(wanted), by, at, why, limit)
    return int(status.rpartition(" ")[2])


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
        f"""SELECT {columns}, count(*) AS letters, count(body_dropped_at) AS bodies_dropped, min(first_failed_at) AS first_at,
                   max(last_failed_at) AS last_at,
                   coalesce(max(dead_letter_id::text) FILTER (WHERE body_dropped_at IS NULL), max(dead_letter_id::text))
                       AS sample_id
            FROM dead_letter WHERE {_WHERE} GROUP BY {columns} ORDER BY letters DESC, {columns} LIMIT 500""",  # noqa: S608 - checked
        *_arguments(wanted),
    )
    return [
        DeadLetterGroup(
            tuple(row[field] for field in fields),
            row["letters"],
            row["bodies_dropped"],
            row["first_at"],
            row["last_at"],
            row["sample_id"],
        )
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
        None if wanted.of_depots is None else sorted(wanted.of_depots),
        None if wanted.dead_letter_ids is None else sorted(wanted.dead_letter_ids),
    )


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(**dict(row))
