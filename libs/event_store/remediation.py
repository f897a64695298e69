"""What a person must settle: actions that had no or no single target, counted by device, measurand, action and code.

An entry disappears when its action next applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from event_store.database import Connection, Pool


class RemediationEntry(msgspec.Struct, frozen=True):
    """One open question: which action of which device could not find its target, between when, how often."""

    depot_id: str
    device_id: str
    measurand: str
    action: str
    code: str
    candidates: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    count: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.device_id, self.measurand, self.action, self.code)


def merged(entries: Sequence[RemediationEntry]) -> list[RemediationEntry]:
    """Entries with one key added up, in order of the key."""
    by_key: dict[tuple[str, str, str, str], RemediationEntry] = {}
    for entry in entries:
        known = by_key.get(entry.key)
        by_key[entry.key] = entry if known is None else added(known, entry)
    return [by_key[key] for key in sorted(by_key)]


def added(known: RemediationEntry, entry: RemediationEntry) -> RemediationEntry:
    """Two entries of one key as one."""
    return msgspec.structs.replace(
        entry,
        first_at=min(known.first_at, entry.first_at),
        last_at=max(known.last_at, entry.last_at),
        count=known.count + entry.count,
    )


_PUT = """
INSERT INTO remediation AS r (depot_id, device_id, measurand, action, code, candidates, first_at, last_at, count)
SELECT i.depot_id, i.device_id, i.measurand, i.action, i.code, i.candidates::jsonb, i.first_at, i.last_at, i.count
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
            $9::bigint[]) AS i (depot_id, device_id, measurand, action, code, candidates, first_at, last_at, count)
ON CONFLICT (device_id, measurand, action, code) DO UPDATE SET
    depot_id = excluded.depot_id, candidates = excluded.candidates, first_at = least(r.first_at, excluded.first_at),
    last_at = greatest(r.last_at, excluded.last_at), count = r.count + excluded.count
"""


async def put_remediation(connection: Connection, entries: Sequence[RemediationEntry]) -> None:
    """Count entries in."""
    rows = merged(entries)
    if not rows:
        return
    await connection.execute(
        _PUT,
        [row.depot_id for row in rows],
        [row.device_id for row in rows],
        [row.measurand for row in rows],
        [row.action for row in rows],
        [row.code for row in rows],
        [msgspec.json.encode(row.candidates).decode() for row in rows],
        [row.first_at for row in rows],
        [row.last_at for row in rows],
        [row.count for row in rows],
    )


async def settle_remediation(connection: Connection | Pool, applied: Sequence[tuple[str, str, str]]) -> None:
    """Remove the entries of (device, measurand, action) that applied."""
    if not applied:
        return
    await connection.execute(
        "DELETE FROM remediation r USING unnest($1::text[], $2::text[], $3::text[]) AS i (device_id, measurand, action) "
        "WHERE (r.device_id, r.measurand, r.action) = (i.device_id, i.measurand, i.action)",
        [one[0] for one in applied],
        [one[1] for one in applied],
        [one[2] for one in applied],
    )


async def list_remediation(
    connection: Connection, depot_id: str, *, limit: int, after: tuple[str, str, str, str] | None = None
) -> list[RemediationEntry]:
    """Open entries of a depot, by device, measurand, action and code, after a key."""
    start = after or ("", "", "", "")
    rows = await connection.fetch(
        "SELECT depot_id, device_id, measurand, action, code, candidates, first_at, last_at, count FROM remediation "
        "WHERE depot_id = $1 AND (device_id, measurand, action, code) > ($2, $3, $4, $5) "
        "ORDER BY device_id, measurand, action, code LIMIT $6",
        depot_id,
        *start,
        limit,
    )
    return [msgspec.convert(dict(row), RemediationEntry) for row in rows]


async def count_remediation(connection: Connection, depot_id: str) -> int:
    """How many entries of a depot are open."""
    return int(await connection.fetchval("SELECT count(*) FROM remediation WHERE depot_id = $1", depot_id))
