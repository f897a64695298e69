"""Follow the store without ever skipping an event, at the same cost however much waits.

A position is taken before its transaction commits, so positions alone may appear out of order: a reader that has seen 12 may
later find that 11 was still being written. Readers therefore follow (`transaction_id`, `global_position`) and stop below the
oldest transaction still running: whatever stands below that can not grow any more.

Cost. A page reads along the one index that has its order, from the cursor on, and as many rows as it may give; who looks for a few
microgrids among all is given what a bounded stretch holds for them. The planner is not asked for another way: the store grows
faster than it learns of it, and what it takes for a handful of rows it would gather and sort anew for each page. Of a single
microgrid the bounds are written over (`microgrid_id`, `transaction_id`, `global_position`), which only that index can serve: as an
equality it could also be looked for among the rows of all others.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Collection, Sequence

import msgspec

from event_store.database import ALONG_THE_INDEX, OTHER_WAYS, Connection
from event_store.read import EVENT_COLUMNS, Position, StoredEvent, stored_event
from microgrid.events import Event

_FOLLOW = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE (e.transaction_id, e.global_position) > ($1::text::xid8, $2::bigint)
  AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.transaction_id, e.global_position LIMIT $3
"""  # noqa: S608 - constants of ours

_FOLLOW_MICROGRID = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE (e.microgrid_id, e.transaction_id, e.global_position) > ($4::uuid, $1::text::xid8, $2::bigint)
  AND (e.microgrid_id, e.transaction_id) < ($4::uuid, pg_snapshot_xmin(pg_current_snapshot()))
ORDER BY e.microgrid_id, e.transaction_id, e.global_position LIMIT $3
"""  # noqa: S608 - constants of ours

_STRETCH = f"""
WITH stretch AS MATERIALIZED (
    SELECT {EVENT_COLUMNS} FROM event_store e
    WHERE (e.transaction_id, e.global_position) > ($1::text::xid8, $2::bigint) AND e.transaction_id <= $3::text::xid8
    ORDER BY e.transaction_id, e.global_position LIMIT $4
)
SELECT s.*, (SELECT count(*) FROM stretch) AS looked_at FROM stretch s
WHERE s.microgrid_id = ANY ($5::text[]) AND (s.event_type = ANY ($6::text[]) OR s.payload ->> 'measurand' = ANY ($7::text[]))
   OR (s.transaction_id, s.global_position) = (
        SELECT l.transaction_id, l.global_position FROM stretch l
        ORDER BY l.transaction_id DESC, l.global_position DESC LIMIT 1)
ORDER BY s.transaction_id, s.global_position
"""  # noqa: S608 - constants of ours

START = Position(0, 0)


class Wanted(msgspec.Struct, frozen=True):
    """Events of these microgrids that are of one of these types, or reports of one of these measurands."""

    microgrid_ids: Collection[str]
    event_types: Collection[str]
    measurands: Collection[str]

    def includes(self, event: Event) -> bool:
        """Whether an event is meant."""
        of_kind = event.event_type in self.event_types or event.payload.get("measurand") in self.measurands
        return event.microgrid_id in self.microgrid_ids and of_kind


class Stretch(msgspec.Struct, frozen=True):
    """What was meant of a stretch of the store, oldest first, and where it ends: None if nothing is behind it up to the end."""

    events: Sequence[StoredEvent]
    end: Position | None


async def follow(connection: Connection, after: Position, *, limit: int, microgrid_id: str | None = None) -> list[StoredEvent]:
    """The next events after a position, oldest first, of one microgrid or of all."""
    async with connection.transaction():
        await connection.execute(ALONG_THE_INDEX)
        if microgrid_id is None:
            rows = await connection.fetch(_FOLLOW, str(after.transaction_id), after.global_position, limit)
        else:
            rows = await connection.fetch(_FOLLOW_MICROGRID, str(after.transaction_id), after.global_position, limit, microgrid_id)
    return [stored_event(row) for row in rows]


async def next_stretch(connection: Connection, after: Position, end: Position, wanted: Wanted, *, look_at: int) -> Stretch:
    """What is wanted among the next `look_at` events after a position, none behind `end`, which is settled.

    For who asks often, on a connection that `along_the_index` prepared.
    """
    rows = await connection.fetch(
        _STRETCH,
        str(after.transaction_id),
        after.global_position,
        str(end.transaction_id),
        look_at,
        list(wanted.microgrid_ids),
        list(wanted.event_types),
        list(wanted.measurands),
    )
    if not rows:
        return Stretch((), None)
    # The last row only tells where the stretch ends, unless it is wanted itself.
    events = [stored_event(row) for row in rows]
    place = events[-1].position if rows[-1]["looked_at"] == look_at else None
    return Stretch(events if wanted.includes(events[-1].event) else events[:-1], place)


@contextlib.asynccontextmanager
async def along_the_index(connection: Connection) -> AsyncGenerator[None]:
    """Let a connection read in the order of an index, and not by gathering and sorting, while the context lasts."""
    await connection.execute("; ".join(f"SET {way} = off" for way in OTHER_WAYS))
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("; ".join(f"RESET {way}" for way in OTHER_WAYS))


async def end_position(connection: Connection) -> Position:
    """The position below which everything is settled now: where a reader starts who wants only what comes."""
    settled = await connection.fetchval("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint)")
    return Position(int(settled) - 1, 2**62)
