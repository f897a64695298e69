"""The outbox as relays read it: eight shares of the streams per broker, each with a cursor and at most one holder.

Order. A stream belongs to one share, by a hash of its name. A relay reads the rows of the shares that it holds in the order of
(`transaction_id`, `outbox_position`) below the oldest transaction still running, as `follow.py` says, so that no row can appear
behind it later. A row is not changed by being published: the cursor of its share moves over it, once for each broker, so that a
broker that is away holds up no other.

Holders. A share is its holder's until `held_until` by the database's clock; then, or once it is given back, another relay may take
it. The shares of a broker are spread evenly: with n relays alive nobody takes more than 8/n, rounded up. A cursor moves only in
its holder's name, and only over what the broker confirmed.

Why a holder whose time has run out can do no harm but repeat. Every holder sends the rows of a share in ascending order, without
a gap, from a place up to which everything was confirmed before. So whenever anybody sends a row, all rows before it in its
stream were sent before, by the same holder or by one that had them confirmed. Hence with any number of holders at once, however
late their messages arrive, the rows as they are seen for the first time are in order; what comes a second time has an id that
was seen. Edge: a broker that confirms a row and refuses the one before it breaks the premise. Kafka can not, since the producer is
idempotent; an MQTT broker that refuses some topics and not others may.

Cost. A page is read along the index, as `follow.py` says, and costs the same however much waits behind it.

Removal. What every broker confirmed is removed in bounded batches once it is old enough. Brokers that no relay has served for a
long time hold nothing back: their cursors are forgotten. Where there are no cursors at all, since nobody relays, rows are kept for
that same long time and then let go; the events themselves stay in `event_store`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from event_store.database import ALONG_THE_INDEX, Connection, Pool
from event_store.dead_letters import DeadLetter, get_dead_letters
from event_store.read import EVENT_COLUMNS, StoredEvent, stored_event

SHARES = 8
"""Fixed: another number would give streams to other cursors."""
_SHARE = f"get_byte(sha256(convert_to(o.stream_id, 'UTF8')), 0) % {SHARES}"
_NEVER = str(2**64 - 1)
_PRUNING_LOCK = 7_340_117


class OutboxPosition(msgspec.Struct, frozen=True, order=True):
    """A place in the order of the outbox."""

    transaction_id: int
    outbox_position: int


class OutboxEntry(msgspec.Struct, frozen=True):
    """One row: an event or a dead letter (as it is now), and since when it waits. Neither, if a letter is gone."""

    position: OutboxPosition
    share: int
    event: StoredEvent | None
    letter: DeadLetter | None
    waiting_since: datetime | None


class OutboxPage(msgspec.Struct, frozen=True):
    """Rows in order, and the place up to which there is nothing else for these shares, now or later.

    `more` tells that rows are there already which can not be given yet: beyond a full page, or above a transaction that still runs.
    """

    entries: Sequence[OutboxEntry]
    end: OutboxPosition
    more: bool


class Holding(msgspec.Struct, frozen=True):
    """The shares that a relay holds now, each with its cursor, and how many of them it should hold at most."""

    cursors: Mapping[int, OutboxPosition]
    fair: int


class Pruned(msgspec.Struct, frozen=True):
    """What a round of pruning did: `unsent` rows are those that nobody had relayed."""

    rows: int
    unsent: bool
    forgotten: Sequence[str]


_PRESENT = """
INSERT INTO lease (lease_name, holder, expires_at)
VALUES ('relay/' || $1 || '/' || $2, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (lease_name) DO UPDATE SET expires_at = excluded.expires_at
"""
_ALIVE = "SELECT count(*) FROM lease WHERE starts_with(lease_name, 'relay/' || $1 || '/') AND expires_at > clock_timestamp()"
_GONE = """
DELETE FROM lease WHERE starts_with(lease_name, 'relay/' || $1 || '/') AND expires_at < clock_timestamp() - interval '1 hour'
"""
_RENEW = """
UPDATE relay_share SET held_until = clock_timestamp() + make_interval(secs => $3) WHERE broker = $1 AND holder = $2
"""
_MAKE = f"""
INSERT INTO relay_share (broker, share) SELECT $1, share FROM generate_series(0, {SHARES - 1}) AS s (share)
ON CONFLICT (broker, share) DO NOTHING
"""  # noqa: S608 - a constant of ours
_TAKE = """
UPDATE relay_share SET holder = $2, held_until = clock_timestamp() + make_interval(secs => $3)
WHERE broker = $1 AND share IN (
    SELECT share FROM relay_share
    WHERE broker = $1 AND (holder IS NULL OR held_until < clock_timestamp())
    ORDER BY share LIMIT $4 FOR UPDATE SKIP LOCKED)
"""
_HELD = """
SELECT share, transaction_id::text::bigint AS transaction_id, outbox_position FROM relay_share
WHERE broker = $1 AND holder = $2 AND held_until > clock_timestamp()
"""


async def hold_shares(pool: Pool, broker: str, holder: str, ttl_s: float) -> Holding:
    """Keep what we hold for another `ttl_s` seconds, and take what is free up to our fair part.

    `holder` names one relay process, never used twice. Held beyond the fair part is the caller's to give back.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_PRESENT, broker, holder, ttl_s)
        fair = -(-SHARES // max(1, await connection.fetchval(_ALIVE, broker)))
        await connection.execute(_RENEW, broker, holder, ttl_s)
        held = await connection.fetch(_HELD, broker, holder)
        if len(held) < fair:
            await connection.execute(_MAKE, broker)
            await connection.execute(_TAKE, broker, holder, ttl_s, fair - len(held))
            await connection.execute(_GONE, broker)
            held = await connection.fetch(_HELD, broker, holder)
    return Holding({row["share"]: OutboxPosition(row["transaction_id"], row["outbox_position"]) for row in held}, fair)


async def release_shares(pool: Pool, broker: str, holder: str, shares: Collection[int] | None = None) -> None:
    """Give shares back, so that another relay may have them at once; all of them and our presence for None."""
    if shares is None:
        await pool.execute("UPDATE relay_share SET holder = NULL WHERE broker = $1 AND holder = $2", broker, holder)
        await pool.execute("DELETE FROM lease WHERE lease_name = 'relay/' || $1::text || '/' || $2::text", broker, holder)
    else:
        await pool.execute(
            "UPDATE relay_share SET holder = NULL WHERE broker = $1 AND holder = $2 AND share = ANY ($3::smallint[])",
            broker,
            holder,
            list(shares),
        )


_NEXT = f"""
WITH settled AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS below), page AS (
    SELECT o.transaction_id, o.outbox_position, o.event_position, o.dead_letter_id, {_SHARE} AS share
    FROM event_outbox o
    WHERE (o.transaction_id, o.outbox_position) > ($1::text::xid8, $2::bigint)
      AND o.transaction_id < (SELECT below FROM settled)
      AND (o.transaction_id, o.outbox_position) > (($3::text[])[{_SHARE} + 1]::xid8, ($4::bigint[])[{_SHARE} + 1])
    ORDER BY o.transaction_id, o.outbox_position LIMIT $5
)
SELECT settled.below::text::bigint AS below,
       EXISTS (SELECT FROM event_outbox u WHERE u.transaction_id >= (SELECT below FROM settled)) AS unsettled,
       page.share, page.transaction_id::text::bigint AS outbox_transaction_id,
       page.outbox_position, page.dead_letter_id::text AS dead_letter_id, {EVENT_COLUMNS}
FROM settled LEFT JOIN page ON true
LEFT JOIN event_store e ON e.transaction_id = page.transaction_id AND e.global_position = page.event_position
ORDER BY page.transaction_id, page.outbox_position
"""  # noqa: S608 - constants of ours


async def next_entries(connection: Connection, cursors: Mapping[int, OutboxPosition], limit: int) -> OutboxPage:
    """The next rows of some shares after their cursors, at most `limit`, in order; `cursors` names at least one share."""
    lowest = min(cursors.values())
    after = [cursors.get(share) for share in range(SHARES)]
    async with connection.transaction():
        await connection.execute(ALONG_THE_INDEX)
        rows = await connection.fetch(
            _NEXT,
            str(lowest.transaction_id),
            lowest.outbox_position,
            [_NEVER if one is None else str(one.transaction_id) for one in after],
            [0 if one is None else one.outbox_position for one in after],
            limit,
        )
    settled = OutboxPosition(rows[0]["below"] - 1, 2**62)
    if rows[0]["share"] is None:
        return OutboxPage((), settled, rows[0]["unsettled"])
    letter_ids = [row["dead_letter_id"] for row in rows if row["dead_letter_id"] is not None]
    letters = await get_dead_letters(connection, letter_ids) if letter_ids else {}
    entries: list[OutboxEntry] = []
    for row in rows:
        event = stored_event(row) if row["event_id"] is not None else None
        letter = letters.get(row["dead_letter_id"] or "")
        since = event.recorded_at if event is not None else letter.last_failed_at if letter is not None else None
        position = OutboxPosition(row["outbox_transaction_id"], row["outbox_position"])
        entries.append(OutboxEntry(position, row["share"], event, letter, since))
    full = len(rows) == limit
    return OutboxPage(entries, entries[-1].position if full else settled, full or rows[0]["unsettled"])


async def advance(pool: Pool, broker: str, holder: str, shares: Collection[int], to: OutboxPosition) -> frozenset[int]:
    """Move the cursors of shares over what the broker confirmed; gives back those that are still ours, which moved."""
    rows = await pool.fetch(
        """
        UPDATE relay_share SET transaction_id = greatest(transaction_id, $4::text::xid8),
               outbox_position = CASE WHEN transaction_id > $4::text::xid8 THEN outbox_position
                                      WHEN transaction_id = $4::text::xid8 THEN greatest(outbox_position, $5::bigint)
                                      ELSE $5::bigint END
        WHERE broker = $1 AND holder = $2 AND share = ANY ($3::smallint[]) RETURNING share
        """,
        broker,
        holder,
        list(shares),
        str(to.transaction_id),
        to.outbox_position,
    )
    return frozenset(row["share"] for row in rows)


_FORGET = """
DELETE FROM relay_share WHERE broker IN (
    SELECT broker FROM relay_share GROUP BY broker HAVING max(held_until) < clock_timestamp() - make_interval(secs => $1))
RETURNING broker
"""
_CONFIRMED = """
SELECT transaction_id::text AS transaction_id, outbox_position FROM relay_share
ORDER BY relay_share.transaction_id, relay_share.outbox_position LIMIT 1
"""
_PRUNE = """
WITH oldest AS (
    SELECT o.transaction_id, o.outbox_position, coalesce(e.recorded_at, d.last_failed_at, '-infinity') AS since
    FROM (
        SELECT * FROM event_outbox o
        WHERE (o.transaction_id, o.outbox_position) <= ($1::text::xid8, $2::bigint)
        ORDER BY o.transaction_id, o.outbox_position LIMIT $3
    ) o
    LEFT JOIN event_store e ON e.transaction_id = o.transaction_id AND e.global_position = o.event_position
    LEFT JOIN dead_letter d ON d.dead_letter_id = o.dead_letter_id
), pruned AS (
    DELETE FROM event_outbox o USING oldest
    WHERE o.transaction_id = oldest.transaction_id AND o.outbox_position = oldest.outbox_position
      AND oldest.since < clock_timestamp() - make_interval(secs => $4)
    RETURNING 1
)
SELECT count(*) FROM pruned
"""


async def prune_outbox(pool: Pool, *, keep_sent_s: float, keep_unsent_s: float, limit: int = 2_000) -> Pruned:
    """Remove at most `limit` rows that nobody waits for. As many rows as `limit` mean that there may be more.

    `keep_sent_s`: age up to which what every broker has is kept. `keep_unsent_s`: how long a broker without a relay is waited for.
    """
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _PRUNING_LOCK):
            return Pruned(0, unsent=False, forgotten=())
        forgotten = sorted({row["broker"] for row in await connection.fetch(_FORGET, float(keep_unsent_s))})
        confirmed = await connection.fetchrow(_CONFIRMED)
        await connection.execute(ALONG_THE_INDEX)
        if confirmed is None:
            rows = await connection.fetchval(_PRUNE, _NEVER, 0, limit, float(keep_unsent_s))
        else:
            place = (confirmed["transaction_id"], confirmed["outbox_position"])
            rows = await connection.fetchval(_PRUNE, *place, limit, float(keep_sent_s))
    return Pruned(rows, unsent=confirmed is None, forgotten=forgotten)
