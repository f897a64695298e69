"""What a command leaves besides its change: a row of audit, and the answer that the same key gets again.

Rows of audit are added and never changed; the database itself lets go of those alone that are older than a month. An answer is kept
for a day under principal, path and key; older ones count for nothing and are cleared away a few at a time by whoever adds one, and
by the hour, so that the table stays as small as a day is busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from event_store.database import Connection, Pool

KEPT_FOR = timedelta(hours=24)
_LOCK_SEED = 7_340_118
_CLEARED_AT_ONCE = 100
_REQUEST_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a key was answered with, and the fingerprint of what was asked."""

    request_sha256: bytes
    status: int
    headers: Mapping[str, str]
    body: bytes


async def lock_key(connection: Connection, principal: str, path: str, key: str) -> None:
    """Wait until no other transaction answers this key; held until the transaction ends."""
    # No principal and no path has U+0000, so no two keys lock the same text.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", f"{principal}\x01{path}\x01{key}", _LOCK_SEED
    )


async def find_answer(connection: Connection, principal: str, path: str, key: str, now: datetime) -> StoredAnswer | None:
    """What the key was answered with in the last day."""
    row = await connection.fetchrow(
        "SELECT request_sha256, status, headers, body FROM idempotency_key "
        "WHERE principal = $1 AND path = $2 AND key = $3 AND created_at > $4",
        principal,
        path,
        key,
        now - KEPT_FOR,
    )
    return None if row is None else StoredAnswer(row["request_sha256"], row["status"], row["headers"], row["body"])


async def keep_answer(connection: Connection, principal: str, path: str, key: str, answer: StoredAnswer, now: datetime) -> None:
    """Keep an answer under its key, in place of one that is too old to count."""
    await prune_answers(connection, now, _CLEARED_AT_ONCE)
    await connection.execute(
        "INSERT INTO idempotency_key (principal, path, key, created_at, request_sha256, status, headers, body) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (principal, path, key) DO UPDATE "
        "SET created_at = excluded.created_at, request_sha256 = excluded.request_sha256, status = excluded.status, "
        "headers = excluded.headers, body = excluded.body",
        principal,
        path,
        key,
        now,
        answer.request_sha256,
        answer.status,
        dict(answer.headers),
        answer.body,
    )


async def prune_answers(connection: Connection | Pool, now: datetime, most: int) -> int:
    """Clear away answers that are too old to count, the oldest first; gives how many, at most `most`."""
    done = await connection.execute(
        "DELETE FROM idempotency_key WHERE (principal, path, key) IN (SELECT principal, path, key FROM idempotency_key "
        "WHERE created_at <= $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        now - KEPT_FOR,
        most,
    )
    return int(done.rpartition(" ")[2])


async def prune_audit(connection: Connection | Pool, older_than: datetime, most: int) -> int:
    """Clear away rows of audit from before a time and of a month ago at least, the oldest first; gives how many, at most `most`."""
    return await connection.fetchval("SELECT prune_audit($1, $2)", older_than, most)


async def put_audit(
    connection: Connection,
    *,
    at: datetime,
    principal: str,
    method: str,
    path: str,
    status: int,
    code: str | None,
    idempotency_key: str | None,
    request: bytes | None,
) -> None:
    """Note who asked for what and what came of it; of a long request its beginning is kept."""
    await connection.execute(
        "INSERT INTO audit (at, principal, method, path, status, code, idempotency_key, request) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        at,
        principal,
        method,
        path,
        status,
        code,
        idempotency_key,
        None if request is None else request[:_REQUEST_LIMIT],
    )
