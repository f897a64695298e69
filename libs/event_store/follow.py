"""Follow the store without ever skipping an event.

A position is taken before its transaction commits, so positions alone may appear out of order: a reader that has seen 12 may
later find that 11 was still being written. Readers therefore follow (`transaction_id`, `global_position`) and stop below the
oldest transaction still running: whatever stands below that can not grow any more.
"""

from __future__ import annotations

from event_store.database import Connection
from event_store.read import EVENT_COLUMNS, Position, StoredEvent, stored_event

_FOLLOW = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE (e.transaction_id, e.global_position) > ($1::text::xid8, $2::bigint)
  AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.transaction_id, e.global_position LIMIT $3
"""  # noqa: S608 - constants of ours

_FOLLOW_MICROGRID = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE e.microgrid_id = $4::uuid
  AND (e.transaction_id, e.global_position) > ($1::text::xid8, $2::bigint)
  AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.transaction_id, e.global_position LIMIT $3
"""  # noqa: S608 - constants of ours

START = Position(0, 0)


async def follow(connection: Connection, after: Position, *, limit: int, microgrid_id: str | None = None) -> list[StoredEvent]:
    """The next events after a position, oldest first, of one microgrid or of all."""
    if microgrid_id is None:
        rows = await connection.fetch(_FOLLOW, str(after.transaction_id), after.global_position, limit)
    else:
        rows = await connection.fetch(_FOLLOW_MICROGRID, str(after.transaction_id), after.global_position, limit, microgrid_id)
    return [stored_event(row) for row in rows]


async def end_position(connection: Connection) -> Position:
    """The position below which everything is settled now: where a reader starts who wants only what comes."""
    settled = await connection.fetchval("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint)")
    return Position(int(settled) - 1, 2**62)
