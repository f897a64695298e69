"""Read events: the latest of a subject, the history of a subject or a microgrid.

The latest value of a subject costs one descent of the index `event_store_latest`, however long the history is. A page costs the
same at every depth: an absent bound is an infinite one and not a condition left out, since a plan that is made without knowing
the arguments can use the index for the one and not for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from event_store.database import ALONG_THE_INDEX, Connection, in_utc
from microgrid.events import Event


class Position(msgspec.Struct, frozen=True, order=True):
    """Where an event stands in the order in which readers may follow."""

    transaction_id: int
    global_position: int

    def cursor(self) -> str:
        """The position as text, for a cursor or a `Last-Event-ID`."""
        return f"{self.transaction_id}-{self.global_position}"

    @staticmethod
    def from_cursor(cursor: str) -> Position | None:
        """The position that `cursor()` wrote, or None for any other text."""
        transaction_id, _, global_position = cursor.partition("-")
        if not (cursor.isascii() and transaction_id.isdigit() and global_position.isdigit()):
            return None
        if len(cursor) > 40 or int(transaction_id) >= 2**63 or int(global_position) >= 2**63:
            return None
        return Position(int(transaction_id), int(global_position))


class StoredEvent(msgspec.Struct, frozen=True):
    """An event with what storing it added."""

    event: Event
    position: Position
    recorded_at: datetime


EVENT_COLUMNS = """e.transaction_id::text::bigint AS transaction_id, e.global_position, e.event_id::text AS event_id, e.event_type,
    e.schema_version, e.depot_id, e.microgrid_id::text AS microgrid_id, e.subject, e.history_only, e.observed_at, e.sent_at,
    e.recorded_at, e.source_event_ref, e.payload, e.metadata"""

_LATEST = f"""
SELECT e.* FROM unnest($1::text[]) AS s (subject) CROSS JOIN LATERAL (
    SELECT {EVENT_COLUMNS} FROM event_store e
    WHERE e.subject = s.subject AND NOT e.history_only
    ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC LIMIT 1
) e
"""  # noqa: S608 - constants of ours

_HISTORY_HALF = """
(SELECT {columns} FROM event_store e
 WHERE e.subject = $1 AND e.history_only = {history_only}
   AND e.observed_at >= coalesce($2::timestamptz, '-infinity') AND e.observed_at < coalesce($3::timestamptz, 'infinity')
   AND (e.observed_at, e.sent_at, e.event_id) < (coalesce($4::timestamptz, 'infinity'), coalesce($5::timestamptz, 'infinity'),
                                                 coalesce($6::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
 ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC LIMIT $7)
"""
_HISTORY = (
    _HISTORY_HALF.format(columns=EVENT_COLUMNS, history_only="false")
    + " UNION ALL "
    + _HISTORY_HALF.format(columns=EVENT_COLUMNS, history_only="true")
    + " ORDER BY observed_at DESC, sent_at DESC, event_id DESC LIMIT $7"
)

_OF_MICROGRID = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE (e.microgrid_id, e.transaction_id, e.global_position)
      < ($1::uuid, coalesce($2::text, '18446744073709551615')::xid8, coalesce($3::bigint, 0))
  AND (e.microgrid_id, e.transaction_id, e.global_position)
      > ($1::uuid, coalesce($4::text, '0')::xid8, coalesce($5::bigint, 0))
  AND ($6::text[] IS NULL OR e.event_type = ANY ($6))
  AND ($7::timestamptz IS NULL OR e.observed_at >= $7) AND ($8::timestamptz IS NULL OR e.observed_at < $8)
ORDER BY e.microgrid_id DESC, e.transaction_id DESC, e.global_position DESC LIMIT $9
"""  # noqa: S608 - constants of ours


# From the end of the range to its beginning, from one step with an event to the one before: as many descents as there are such
# steps, and one more for what was before the range. Steps without an event cost nothing.
_LAST_BEFORE = """
    SELECT e.observed_at, e.sent_at, e.event_id, e.payload -> {of}.field AS value FROM event_store e
    WHERE e.subject = {of}.subject AND NOT e.history_only AND e.observed_at < {before}
    ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC LIMIT 1
"""
_LAST_OF_RANGE = _LAST_BEFORE.format(of="s", before="$4::timestamptz")
_LAST_OF_STEP_BEFORE = _LAST_BEFORE.format(of="w", before="date_bin(make_interval(secs => $5), w.observed_at, $3::timestamptz)")
_LAST_OF_STEPS = f"""
WITH RECURSIVE walk AS (
    SELECT s.subject, s.field, e.* FROM unnest($1::text[], $2::text[]) AS s (subject, field)
    CROSS JOIN LATERAL ({_LAST_OF_RANGE}) e
    UNION ALL
    SELECT w.subject, w.field, e.* FROM walk w
    CROSS JOIN LATERAL ({_LAST_OF_STEP_BEFORE}) e
    WHERE w.observed_at >= $3::timestamptz
)
SELECT subject, observed_at, sent_at, event_id::text AS event_id, value FROM walk
"""  # noqa: S608 - constants of ours


class HistoryKey(msgspec.Struct, frozen=True):
    """Where a page of a subject's history ended."""

    observed_at: datetime
    sent_at: datetime
    event_id: str


class StepValue(msgspec.Struct, frozen=True):
    """The last counting report of a subject within a step, or before the first: one value of its payload."""

    subject: str
    key: HistoryKey
    value: object


async def latest_of(connection: Connection, subjects: Sequence[str]) -> dict[str, StoredEvent]:
    """The latest counting report of each subject that has one."""
    rows = await connection.fetch(_LATEST, list(dict.fromkeys(subjects)))
    stored = [stored_event(row) for row in rows]
    return {one.event.subject: one for one in stored if one.event.subject is not None}


async def history_of(
    connection: Connection,
    subject: str,
    *,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
    before: HistoryKey | None = None,
) -> list[StoredEvent]:
    """Every report of a subject, newest observation first, history-only ones included; `until` is exclusive."""
    rows = await connection.fetch(
        _HISTORY,
        subject,
        since,
        until,
        before.observed_at if before else None,
        before.sent_at if before else None,
        before.event_id if before else None,
        limit,
    )
    return [stored_event(row) for row in rows]


async def last_of_steps(
    connection: Connection, fields: Sequence[tuple[str, str]], *, since: datetime, until: datetime, step_s: float
) -> list[StepValue]:
    """For each (subject, field of its payload): the last counting report of every step that has one, and the one before `since`.

    Steps are `step_s` seconds long and begin at `since`; `until` is exclusive. In no particular order; the number of answers and
    the cost are bounded by the number of steps, whatever the number of events.
    """
    subjects, names = [one[0] for one in fields], [one[1] for one in fields]
    rows = await connection.fetch(_LAST_OF_STEPS, subjects, names, since, until, step_s)
    return [
        StepValue(row["subject"], HistoryKey(in_utc(row["observed_at"]), in_utc(row["sent_at"]), row["event_id"]), row["value"])
        for row in rows
    ]


async def events_of_microgrid(
    connection: Connection,
    microgrid_id: str,
    *,
    limit: int,
    event_types: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: Position | None = None,
    after: Position | None = None,
) -> list[StoredEvent]:
    """A microgrid's events, last recorded first, between two positions (both exclusive)."""
    wanted = (
        microgrid_id,
        str(before.transaction_id) if before else None,
        before.global_position if before else None,
        str(after.transaction_id) if after else None,
        after.global_position if after else None,
        list(event_types) if event_types is not None else None,
        since,
        until,
        limit,
    )
    if since is not None or until is not None:
        # Events of a time long ago may be cheaper to find by their time.
        rows = await connection.fetch(_OF_MICROGRID, *wanted)
    else:
        async with connection.transaction():
            await connection.execute(ALONG_THE_INDEX)
            rows = await connection.fetch(_OF_MICROGRID, *wanted)
    return [stored_event(row) for row in rows]


def stored_event(row: Any) -> StoredEvent:
    """An event from a row with `EVENT_COLUMNS`."""
    event = Event(
        event_id=row["event_id"],
        event_type=row["event_type"],
        depot_id=row["depot_id"],
        microgrid_id=row["microgrid_id"],
        subject=row["subject"],
        history_only=row["history_only"],
        observed_at=in_utc(row["observed_at"]),
        sent_at=in_utc(row["sent_at"]),
        source_event_ref=row["source_event_ref"],
        payload=row["payload"],
        metadata=row["metadata"],
        schema_version=row["schema_version"],
    )
    return StoredEvent(event, Position(row["transaction_id"], row["global_position"]), row["recorded_at"])
