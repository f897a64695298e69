"""The event store of a process: what a use case may do in one transaction, and what it may read.

`PostgresEventStore` is the real one; `event_store.memory.InMemoryEventStore` is its twin for tests and simulations, and passes
the same tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Protocol

from event_store import append, controller_health, dead_letters, follow, read, remediation
from event_store.append import Appended
from event_store.database import Connection, Pool
from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.read import Position, StoredEvent
from event_store.remediation import RemediationEntry
from event_store.trial import Trial
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event


class StoreTransaction(Protocol):
    """What belongs together: all of it is stored when the transaction ends, or none."""

    async def append(self, events: Sequence[Event]) -> Appended: ...
    async def put_dead_letters(self, letters: Sequence[DeadLetter]) -> None: ...
    async def put_remediation(self, entries: Sequence[RemediationEntry]) -> None: ...
    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None: ...
    async def lock_health(self, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]: ...
    async def lock_overdue(self, now: datetime, limit: int) -> list[ControllerHealth]: ...
    async def save_health(self, healths: Sequence[ControllerHealth]) -> None: ...
    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]: ...
    async def restore_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Put letters back that are not there any more, and the bytes of those that lost them."""
        ...

    async def settle_letters(self, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime) -> frozenset[str]:
        """Mark pending letters as replayed, count another attempt of others; gives the ids of those that were pending still."""
        ...


class Transactions(Protocol):
    """Where use cases get their transactions from: the store, or a trial of it."""

    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]: ...


class EventStore(Transactions, Protocol):
    """Transactions, and reads outside of them."""

    def trial(self) -> AbstractAsyncContextManager[Transactions]:
        """Transactions that see what the ones before them did, and of which nothing is ever stored."""
        ...

    async def append(self, events: Sequence[Event]) -> Appended:
        """A transaction that only appends."""
        ...

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None: ...
    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]: ...
    async def history_of(self, subject: str, limit: int) -> list[StoredEvent]: ...
    async def follow(self, after: Position, limit: int) -> list[StoredEvent]: ...
    async def outbox_positions(self) -> list[tuple[str, int | None, str | None]]:
        """What waits to be published, in order: stream, event position, dead letter id."""
        ...

    async def list_dead_letters(self, wanted: DeadLetterFilter, limit: int) -> list[DeadLetter]: ...
    async def list_remediation(self, depot_id: str, limit: int) -> list[RemediationEntry]: ...
    async def count_waiting(self, wanted: DeadLetterFilter, begun_at: datetime) -> int: ...
    async def next_pending(
        self, wanted: DeadLetterFilter, begun_at: datetime, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        """Letters that wait since `begun_at` or longer, first received first, behind the (`received_at`, id) of the one before."""
        ...

    async def get_dead_letters(self, letter_ids: Sequence[str]) -> dict[str, DeadLetter]: ...


class PostgresTransaction:
    """A transaction on one connection. The caller began it and ends it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def append(self, events: Sequence[Event]) -> Appended:
        return await append.append_events(self.connection, events)

    async def put_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        await dead_letters.put_dead_letters(self.connection, letters)

    async def put_remediation(self, entries: Sequence[RemediationEntry]) -> None:
        await remediation.put_remediation(self.connection, entries)

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        await remediation.settle_remediation(self.connection, applied)

    async def lock_health(self, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
        return await controller_health.lock_health(self.connection, sensor_action_ids)

    async def lock_overdue(self, now: datetime, limit: int) -> list[ControllerHealth]:
        return await controller_health.lock_overdue(self.connection, now, limit=limit)

    async def save_health(self, healths: Sequence[ControllerHealth]) -> None:
        await controller_health.save_health(self.connection, healths)

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        return await read.latest_of(self.connection, subjects)

    async def restore_letters(self, letters: Sequence[DeadLetter]) -> None:
        await dead_letters.restore_letters(self.connection, letters)

    async def settle_letters(self, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime) -> frozenset[str]:
        return await dead_letters.settle_letters(self.connection, replayed, failed, by, at)


class PostgresEventStore:
    """The event store in PostgreSQL, on a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._giving_back: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[StoreTransaction]:
        async with self.pool.acquire() as connection, connection.transaction():
            yield PostgresTransaction(connection)

    @asynccontextmanager
    async def trial(self) -> AsyncGenerator[Transactions]:
        async with self.pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            yield Trial(connection)

    async def append(self, events: Sequence[Event]) -> Appended:
        connection = await self.pool.acquire()
        try:
            return await append.append_events(connection, events)
        finally:
            # Giving it back takes turns of the event loop, for which who appends batch after batch need not wait.
            giving_back = asyncio.ensure_future(self.pool.release(connection))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._given_back)

    def _given_back(self, done: asyncio.Future[None]) -> None:
        self._giving_back.discard(done)
        if not done.cancelled():
            done.exception()  # a pool that was ended meanwhile has no use for it

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        await remediation.settle_remediation(self.pool, applied)

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        async with self.pool.acquire() as connection:
            return await read.latest_of(connection, subjects)

    async def history_of(self, subject: str, limit: int) -> list[StoredEvent]:
        async with self.pool.acquire() as connection:
            return await read.history_of(connection, subject, limit=limit)

    async def follow(self, after: Position, limit: int) -> list[StoredEvent]:
        async with self.pool.acquire() as connection:
            return await follow.follow(connection, after, limit=limit)

    async def outbox_positions(self) -> list[tuple[str, int | None, str | None]]:
        rows = await self.pool.fetch(
            "SELECT stream_id, event_position, dead_letter_id::text AS dead_letter_id FROM event_outbox "
            "ORDER BY transaction_id, outbox_position"
        )
        return [(row["stream_id"], row["event_position"], row["dead_letter_id"]) for row in rows]

    async def list_dead_letters(self, wanted: DeadLetterFilter, limit: int) -> list[DeadLetter]:
        async with self.pool.acquire() as connection:
            return await dead_letters.list_dead_letters(connection, wanted, limit=limit)

    async def list_remediation(self, depot_id: str, limit: int) -> list[RemediationEntry]:
        async with self.pool.acquire() as connection:
            return await remediation.list_remediation(connection, depot_id, limit=limit)

    async def count_waiting(self, wanted: DeadLetterFilter, begun_at: datetime) -> int:
        async with self.pool.acquire() as connection:
            return await dead_letters.count_waiting(connection, wanted, begun_at=begun_at)

    async def next_pending(
        self, wanted: DeadLetterFilter, begun_at: datetime, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        async with self.pool.acquire() as connection:
            return await dead_letters.next_pending(connection, wanted, begun_at=begun_at, after=after, limit=limit)

    async def get_dead_letters(self, letter_ids: Sequence[str]) -> dict[str, DeadLetter]:
        async with self.pool.acquire() as connection:
            return await dead_letters.get_dead_letters(connection, letter_ids)
