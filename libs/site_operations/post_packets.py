"""Take in packets whose sender waits for the answer: the same decisions as by broker, told instead of dead-lettered.

A batch is stored together. One whose content the database refuses is split in halves until the culprit is alone: its neighbours
are stored, and it is told as `NOT_STORABLE`.
"""

from __future__ import annotations

from collections.abc import Sequence

from event_store.database import UNREACHABLE, UNSTORABLE, Connection
from event_store.store import PostgresTransaction
from site_operations.ingest import REFUSED, Ingest, PacketOutcome, PreparedPacket

NOT_STORABLE = "NOT_STORABLE"


async def post_packets(connection: Connection, ingest: Ingest, batch: Sequence[PreparedPacket]) -> list[PacketOutcome]:
    """Store packets in the caller's transaction and tell what became of each, in order; raises what another try may mend."""
    if not batch:
        return []
    try:
        async with connection.transaction():
            return await ingest.tell(PostgresTransaction(connection), batch)
    except UNREACHABLE:
        raise
    except UNSTORABLE:
        if len(batch) == 1:
            return [PacketOutcome(REFUSED, NOT_STORABLE, ())]
    middle = len(batch) // 2
    first = await post_packets(connection, ingest, batch[:middle])
    return first + await post_packets(connection, ingest, batch[middle:])
