"""What a device itself last reported of a subject that others may have reported since.

Only the newest reports of the subject are looked at, so that the answer costs the same however long the history is: of a device
that has long handed its subject over to another one it is no longer told.
"""

from __future__ import annotations

from collections.abc import Iterable

from event_store.database import Connection
from event_store.read import EVENT_COLUMNS, stored_event
from microgrid.events import Event

LOOKED_AT = 200
"""Reports of one subject that are looked at, newest first."""

_LAST = f"""
SELECT w.subject AS wanted, w.device_id, newest.*
FROM unnest($1::text[], $2::text[]) AS w (subject, device_id) CROSS JOIN LATERAL (
    SELECT * FROM (
        SELECT {EVENT_COLUMNS} FROM event_store e WHERE e.subject = w.subject AND NOT e.history_only
        ORDER BY e.observed_at DESC, e.sent_at DESC, e.event_id DESC LIMIT {LOOKED_AT}
    ) looked_at
    WHERE looked_at.payload ->> 'device_id' = w.device_id
    ORDER BY looked_at.observed_at DESC, looked_at.sent_at DESC, looked_at.event_id DESC LIMIT 1
) newest
"""  # noqa: S608 - constants of ours


async def last_reports(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Event]:
    """By subject and device, the device's last counting report of it, where it is among the newest of the subject."""
    pairs = list(dict.fromkeys(wanted))
    rows = await connection.fetch(_LAST, [subject for subject, _ in pairs], [device_id for _, device_id in pairs])
    return {(row["wanted"], row["device_id"]): stored_event(row).event for row in rows}
