"""Carry a command out once: its change, its row of audit and the answer kept under its key are one transaction.

A command with a key that was answered before (by the same principal, at the same path, in the last day) does nothing and is
answered the same; with another request under it, it is refused. Two at once under one key: the second waits for the first and gets
its answer. What is refused changes nothing and leaves its row of audit all the same, and its answer is kept, too. A fault that is
the server's own is not kept, so that another try may mend it; its row of audit is written apart, where the database allows.

Two commands that write the same id into two depots may collide; the loser looks again, and then finds what the other one wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from event_store.database import COLLISIONS, UNREACHABLE, Connection, Pool
from site_registry import command_trail
from site_registry.command_trail import StoredAnswer

_TRIES = 5
_ACQUIRE_S = 5.0
_FAILED = 500


@dataclass(frozen=True, slots=True)
class Command:
    """Who asks for what. `query` counts as part of the request, `audited` is what of it is kept for audit (None: nothing)."""

    principal: str
    method: str
    path: str
    query: str
    body: bytes
    key: str | None
    audited: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command is answered with; `refused` takes back what it has written. `code` is for audit."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    refused: bool = False
    code: str | None = None


class _RefusedError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


async def conduct(
    pool: Pool,
    command: Command,
    work: Callable[[Connection], Awaitable[Answer]],
    *,
    key_reused: Callable[[], Answer],
    now: datetime,
) -> Answer:
    """Carry out `work` in a transaction; `key_reused` makes the refusal of a key that stood for another request.

    `work` may run more than once, each time on what the one before has not left. Raises what it raises.
    """
    try:
        async with pool.acquire(timeout=_ACQUIRE_S) as connection, connection.transaction():
            return await _within(connection, command, work, key_reused, now)
    except UNREACHABLE:
        raise
    except Exception:
        with contextlib.suppress(Exception):
            async with pool.acquire(timeout=_ACQUIRE_S) as connection:
                await _audit(connection, command, Answer(_FAILED, b"", code="INTERNAL_ERROR"), now)
        raise


async def note_refusal(pool: Pool, command: Command, status: int, code: str, now: datetime) -> None:
    """The row of audit of a command that was refused before anything was begun."""
    async with pool.acquire(timeout=_ACQUIRE_S) as connection:
        await _audit(connection, command, Answer(status, b"", refused=True, code=code), now)


async def _within(
    connection: Connection,
    command: Command,
    work: Callable[[Connection], Awaitable[Answer]],
    key_reused: Callable[[], Answer],
    now: datetime,
) -> Answer:
    fingerprint = hashlib.sha256(command.query.encode() + b"\0" + command.body).digest()
    if command.key is not None:
        await command_trail.lock_key(connection, command.principal, command.path, command.key)
        known = await command_trail.find_answer(connection, command.principal, command.path, command.key, now)
        if known is not None:
            if known.request_sha256 == fingerprint:
                return Answer(known.status, known.body, known.headers)
            refusal = key_reused()
            await _audit(connection, command, refusal, now)
            return refusal
    answer = await _try(connection, work)
    await _audit(connection, command, answer, now)
    if command.key is not None:
        kept = StoredAnswer(fingerprint, answer.status, answer.headers, answer.body)
        await command_trail.keep_answer(connection, command.principal, command.path, command.key, kept, now)
    return answer


async def _try(connection: Connection, work: Callable[[Connection], Awaitable[Answer]]) -> Answer:
    for attempt in range(1, _TRIES + 1):
        try:
            async with connection.transaction():
                answer = await work(connection)
                if answer.refused:
                    raise _RefusedError(answer)
                return answer
        except _RefusedError as refused:
            return refused.answer
        except COLLISIONS:
            if attempt == _TRIES:
                raise
    raise RuntimeError("the last try returns or raises")


async def _audit(connection: Connection, command: Command, answer: Answer, now: datetime) -> None:
    await command_trail.put_audit(
        connection,
        at=now,
        principal=command.principal,
        method=command.method,
        path=command.path if not command.query else f"{command.path}?{command.query}",
        status=answer.status,
        code=answer.code,
        idempotency_key=command.key,
        request=command.audited,
    )
