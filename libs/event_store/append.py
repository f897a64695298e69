"""Append events: the one place where an event enters the store.

One statement per batch inserts the events and their outbox rows; an event that is already there is passed over, and the answer
tells which ones were new. Their positions follow the order of the batch.

The batch travels as one JSON document, an array for each event. Encoding it takes a worker 1 µs for each event, where an array for
each of the twelve columns takes 8, since the driver handles every element by itself; taking it apart costs the database 8 µs more,
on another core (11 if each event were an object, whose keys are sorted first and then looked up).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from event_store.database import Connection, Pool
from microgrid.events import Event

EVENT_CHANNEL = "depotgrid_event"
"""Notified once per transaction that puts anything into the outbox: PostgreSQL keeps one of several that say the same."""

_APPEND = f"""
WITH appended AS (
    INSERT INTO event_store (event_id, event_type, schema_version, stream_id, depot_id, microgrid_id, subject, history_only,
                             observed_at, sent_at, source_event_ref, payload, metadata)
    SELECT (e ->> 0)::uuid, e ->> 1, (e ->> 2)::smallint, e ->> 3, e ->> 3, (e ->> 4)::uuid, e ->> 5, (e ->> 6)::boolean,
           (e ->> 7)::timestamptz, (e ->> 8)::timestamptz, e ->> 9, e -> 10, e -> 11
    FROM jsonb_array_elements($1::text::jsonb) AS e
    ON CONFLICT (observed_at, event_id) DO NOTHING
    RETURNING global_position, event_id, stream_id
), queued AS (
    INSERT INTO event_outbox (stream_id, event_position)
    SELECT stream_id, global_position FROM appended
)
SELECT CASE WHEN count(*) = $2 THEN NULL ELSE coalesce(array_agg(event_id::text), '{{}}') END,
       EXISTS (SELECT FROM remediation),
       pg_notify('{EVENT_CHANNEL}', '')
FROM appended
"""  # noqa: S608 - the only thing put in is a constant of ours


class Appended(msgspec.Struct, frozen=True):
    """What an append did: `new_ids` is None if every event was new, else the ids of those that were.

    `open_remediation` tells whether there is any open remediation entry, which an applied action might settle.
    """

    new_ids: frozenset[str] | None
    open_remediation: bool


NOTHING_APPENDED = Appended(None, open_remediation=False)


class EncodedEvents(list[Event]):
    """Events as they travel to the database, for who has time to encode them before it is their turn.

    Raises what storing them would raise for a value that has no encoding: `ValueError`, `TypeError`, `OverflowError`.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        super().__init__(events)
        self.document = _document(self)


async def append_events(connection: Connection | Pool, events: Sequence[Event]) -> Appended:
    """Store events in their order.

    Runs in the caller's transaction, or is one of its own. Raises what asyncpg raises: `asyncpg.DataError` for a value that
    PostgreSQL can not hold, connection errors for everything that another try may mend.
    """
    if not events:
        return NOTHING_APPENDED
    document = events.document if isinstance(events, EncodedEvents) else _document(events)
    row = await connection.fetchrow(_APPEND, document, len(events))
    if row is None:
        raise RuntimeError("an aggregate always answers with one row")
    return Appended(None if row[0] is None else frozenset(row[0]), open_remediation=row[1])


def _document(events: Sequence[Event]) -> str:
    rows = [
        (
            event.event_id,
            event.event_type,
            event.schema_version,
            event.depot_id,
            event.microgrid_id,
            event.subject,
            event.history_only,
            event.observed_at,
            event.sent_at,
            event.source_event_ref,
            event.payload,
            event.metadata,
        )
        for event in events
    ]
    return msgspec.json.encode(rows).decode()
