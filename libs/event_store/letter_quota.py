"""Keep what a flood of dead letters may take of the disk: of each cause only so many bytes of bodies, the newest ones.

A cause is a reason code and a gateway. The gateway and not the device, because who sends garbage may make up any device; a letter
without a gateway counts with the others of its code that have none. When the bodies of a cause are more than its share, the oldest
are let go of, those that are replayed or discarded before those that wait. The letter itself stays, with all its facts, the length
and hash of its body, and `body_dropped_at`: nothing goes without a trace, and the dead-letter topic may still have the bytes.

Only causes with a letter since the last look are looked at, so a look costs next to nothing while nothing fails. One process looks
at a time. Bodies go in batches, so that no transaction holds many letters.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from event_store.database import Pool

AT_ONCE = 1_000
"""Bodies that one transaction lets go of."""
_MOST_ROUNDS = 50
_LOCK = 7_340_119

_CAUSES = "SELECT DISTINCT reason_code, gateway_id FROM dead_letter WHERE last_failed_at >= $1 ORDER BY 1, 2"

_DROP = """
WITH ranked AS (
    SELECT dead_letter_id, sum(least(body_length, 65536)) OVER (
        ORDER BY (status = 'PENDING') DESC, received_at DESC, dead_letter_id DESC ROWS UNBOUNDED PRECEDING) AS bytes
    FROM dead_letter WHERE reason_code = $1 AND {of_gateway} AND body_dropped_at IS NULL
), oldest AS (
    SELECT d.dead_letter_id FROM dead_letter d JOIN ranked r USING (dead_letter_id)
    WHERE r.bytes > $3 ORDER BY r.bytes DESC LIMIT $4 FOR UPDATE OF d SKIP LOCKED
)
UPDATE dead_letter d SET body = '', body_dropped_at = $5 FROM oldest o WHERE d.dead_letter_id = o.dead_letter_id
"""


async def keep_quota(pool: Pool, since: datetime, most_bytes: int, now: datetime) -> Counter[str]:
    """Let go of bodies beyond `most_bytes` of each cause that has a letter since a time; gives how many, by reason code.

    Does nothing while another process is at it.
    """
    dropped: Counter[str] = Counter()
    async with pool.acquire() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            return dropped
        try:
            for reason_code, gateway_id in await connection.fetch(_CAUSES, since):
                of_gateway = "gateway_id = $2" if gateway_id is not None else "gateway_id IS NULL AND $2::text IS NULL"
                for _ in range(_MOST_ROUNDS):
                    statement = _DROP.format(of_gateway=of_gateway)
                    done = await connection.execute(statement, reason_code, gateway_id, most_bytes, AT_ONCE, now)
                    bodies = int(done.rpartition(" ")[2])
                    dropped[reason_code] += bodies
                    if bodies < AT_ONCE:
                        break
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return +dropped
