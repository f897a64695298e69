"""Which gateways of an MQTT session are on their detour (`ingest_worker.waiting_room`), kept for whoever holds the session next.

A row is written before the first packet of the gateway goes onto its detour, and removed after the last one has been stored. It
belongs to one holder, the one with the lease; who takes the session over takes the rows over, and from then on the former holder
can neither remove one nor write one. `reserved_place` is no less than the place of any message that was ever published on that
detour.
"""

from __future__ import annotations

from collections.abc import Mapping

from event_store.database import Connection, Pool

_TAKE_OVER = "UPDATE waiting_gateway SET holder = $2 WHERE lease_name = $1 RETURNING gateway_id, reserved_place"
_RESERVE = """
INSERT INTO waiting_gateway AS w (lease_name, gateway_id, holder, reserved_place)
SELECT $1, wanted.gateway_id, $2, wanted.place FROM unnest($3::text[], $4::bigint[]) AS wanted (gateway_id, place)
WHERE EXISTS (SELECT FROM lease WHERE lease.lease_name = $1 AND lease.holder = $2)
ON CONFLICT (lease_name, gateway_id) DO UPDATE
SET holder = excluded.holder, reserved_place = greatest(w.reserved_place, excluded.reserved_place)
RETURNING true
"""
_FORGET = "DELETE FROM waiting_gateway WHERE lease_name = $1 AND holder = $2 AND gateway_id = $3"
_COUNT = "SELECT count(*) FROM waiting_gateway WHERE lease_name = $1"


async def take_waiting_over(connection: Connection | Pool, lease_name: str, holder: str) -> Mapping[str, int]:
    """Make all rows of a session ours; gives each gateway's reserved place."""
    return {row["gateway_id"]: row["reserved_place"] for row in await connection.fetch(_TAKE_OVER, lease_name, holder)}


async def reserve_places(connection: Connection | Pool, lease_name: str, holder: str, places: Mapping[str, int]) -> bool:
    """Note that gateways are on their detour, with messages up to these places; False where the lease is another holder's."""
    return bool(await connection.fetch(_RESERVE, lease_name, holder, list(places), list(places.values())))


async def forget_waiting(connection: Connection | Pool, lease_name: str, holder: str, gateway_id: str) -> None:
    """Note that nothing of a gateway is on its detour any more; nothing happens where another holder has taken over."""
    await connection.execute(_FORGET, lease_name, holder, gateway_id)


async def count_waiting(connection: Connection | Pool, lease_name: str) -> int:
    """How many gateways of a session are on their detour."""
    return await connection.fetchval(_COUNT, lease_name)
