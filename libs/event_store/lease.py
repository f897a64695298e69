"""A lease: one holder at a time of something that must not be held twice, such as an MQTT session.

The database's clock decides, so the holders' clocks need not agree. A holder that can not renew loses the lease when it
expires; one that ends in order gives it back at once.
"""

from __future__ import annotations

import asyncio

from event_store.database import UNREACHABLE, Connection, Pool

_TAKE = """
INSERT INTO lease AS l (lease_name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (lease_name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
RETURNING true
"""


async def take_lease(connection: Connection | Pool, name: str, holder: str, ttl_s: float) -> bool:
    """Take or renew a lease for `ttl_s` seconds; False while another one holds it."""
    return bool(await connection.fetchval(_TAKE, name, holder, ttl_s))


async def release_lease(connection: Connection | Pool, name: str, holder: str) -> None:
    """Give a lease back, if it is still ours."""
    await connection.execute("DELETE FROM lease WHERE lease_name = $1 AND holder = $2", name, holder)


async def give_back_in_time(pool: Pool, name: str, holder: str, patience_s: float) -> bool:
    """Give a lease back, waiting at most `patience_s` seconds; False where that could not be done, and it runs out by itself.

    Who cancels a statement waits for the database's word on that, which one that says nothing any more never gives. So the attempt
    is left behind, for whoever closes the pool to cut.
    """
    giving = asyncio.create_task(release_lease(pool, name, holder), name="give-lease-back")
    done, _ = await asyncio.wait({giving}, timeout=patience_s)
    if not done:
        giving.cancel()
        return False
    try:
        giving.result()
    except UNREACHABLE:
        return False
    return True
