"""The event store's twin in memory: same methods, same answers, gone with the process.

It folds latest values with the rule itself (`microgrid.capability.latest_key`), so the tests that both stores pass hold the
index of the real one to that rule. A transaction works on a copy and replaces the state when it ends; transactions take turns.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from event_store import remediation
from event_store.append import NOTHING_APPENDED, Appended
from event_store.dead_letters import BODY_LIMIT, DeadLetter, DeadLetterFilter, another_attempt, merged
from event_store.read import Position, StoredEvent
from event_store.remediation import RemediationEntry
from event_store.store import StoreTransaction, Transactions
from microgrid.capability import latest_key
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class _State:
    events: list[StoredEvent] = field(default_factory=list[StoredEvent])
    known: set[tuple[datetime, str]] = field(default_factory=set[tuple[datetime, str]])
    outbox: list[tuple[str, int | None, str | None]] = field(default_factory=list[tuple[str, int | None, str | None]])
    letters: dict[str, DeadLetter] = field(default_factory=dict[str, DeadLetter])
    open_questions: dict[tuple[str, str, str, str, str], RemediationEntry] = field(
        default_factory=dict[tuple[str, str, str, str, str], RemediationEntry]
    )
    health: dict[str, ControllerHealth] = field(default_factory=dict[str, ControllerHealth])
    transaction_id: int = 0


class _Transaction:
    def __init__(self, state: _State) -> None:
        self._state = state
        state.transaction_id += 1

    async def append(self, events: Sequence[Event]) -> Appended:
        state = self._state
        if not events:
            return NOTHING_APPENDED
        new_ids: list[str] = []
        for event in events:
            identity = (event.observed_at, event.event_id)
            if identity in state.known:
                continue
            state.known.add(identity)
            position = Position(state.transaction_id, len(state.events) + 1)
            state.events.append(StoredEvent(event, position, _EPOCH))
            state.outbox.append((event.depot_id, position.global_position, None))
            new_ids.append(event.event_id)
        return Appended(None if len(new_ids) == len(events) else frozenset(new_ids), open_remediation=bool(state.open_questions))

    async def put_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in merged(letters):
            known = self._state.letters.get(letter.dead_letter_id)
            stored = letter if known is None else another_attempt(known, letter)
            stored = msgspec.structs.replace(stored, status="PENDING", body=stored.body[:BODY_LIMIT])
            self._state.letters[letter.dead_letter_id] = stored
            self._state.outbox.append(("dead-letter", None, letter.dead_letter_id))

    async def put_remediation(self, entries: Sequence[RemediationEntry]) -> None:
        for entry in remediation.merged(entries):
            known = self._state.open_questions.get(entry.key)
            self._state.open_questions[entry.key] = entry if known is None else remediation.added(known, entry)

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        settled = set(applied)
        for key in [key for key in self._state.open_questions if (*key[:3], key[4]) in settled]:
            del self._state.open_questions[key]

    async def lock_health(self, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
        return {one: self._state.health[one] for one in sensor_action_ids if one in self._state.health}

    async def lock_overdue(self, now: datetime, limit: int) -> list[ControllerHealth]:
        overdue = [one for one in self._state.health.values() if one.deadline_at is not None and one.deadline_at <= now]
        return sorted(overdue, key=lambda one: (one.deadline_at or now, one.sensor_action_id))[:limit]

    async def save_health(self, healths: Sequence[ControllerHealth]) -> None:
        self._state.health.update({one.sensor_action_id: one for one in healths})

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        return _latest_of(self._state, subjects)

    async def restore_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in merged(letters):
            known = self._state.letters.get(letter.dead_letter_id)
            if known is None:
                fresh = msgspec.structs.replace(letter, status="PENDING", body=letter.body[:BODY_LIMIT])
                self._state.letters[letter.dead_letter_id] = fresh
            elif known.body_dropped_at is not None:
                mended = msgspec.structs.replace(known, body=letter.body[:BODY_LIMIT], body_dropped_at=None)
                self._state.letters[letter.dead_letter_id] = mended

    async def settle_letters(self, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime) -> frozenset[str]:
        letters = self._state.letters
        pending = {one for one in letters if letters[one].status == "PENDING"}
        for one in pending.intersection(replayed):
            letters[one] = msgspec.structs.replace(letters[one], status="REPLAYED", replayed_by=by, replayed_at=at)
        for letter in merged(failed):
            if letter.dead_letter_id in pending:
                known = letters[letter.dead_letter_id]
                letters[letter.dead_letter_id] = msgspec.structs.replace(letter, attempts=known.attempts + 1)
                self._state.outbox.append(("dead-letter", None, letter.dead_letter_id))
        return frozenset(pending.intersection({*replayed, *(letter.dead_letter_id for letter in failed)}))


class InMemoryEventStore:
    """An event store for tests: deterministic, and as strict as the real one about what is new."""

    def __init__(self) -> None:
        self._state = _State()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[StoreTransaction]:
        async with self._turn:
            working_copy = copy.deepcopy(self._state)
            yield _Transaction(working_copy)
            self._state = working_copy

    @asynccontextmanager
    async def trial(self) -> AsyncGenerator[Transactions]:
        twin = InMemoryEventStore()
        twin._state = copy.deepcopy(self._state)
        yield twin

    async def append(self, events: Sequence[Event]) -> Appended:
        async with self.transaction() as transaction:
            return await transaction.append(events)

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        async with self.transaction() as transaction:
            await transaction.settle_remediation(applied)

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        return _latest_of(self._state, subjects)

    async def history_of(self, subject: str, limit: int) -> list[StoredEvent]:
        found = [stored for stored in self._state.events if stored.event.subject == subject]
        return sorted(found, key=lambda stored: latest_key(stored.event), reverse=True)[:limit]

    async def follow(self, after: Position, limit: int) -> list[StoredEvent]:
        return [stored for stored in self._state.events if stored.position > after][:limit]

    async def outbox_positions(self) -> list[tuple[str, int | None, str | None]]:
        return list(self._state.outbox)

    async def list_dead_letters(self, wanted: DeadLetterFilter, limit: int) -> list[DeadLetter]:
        found = [letter for letter in self._state.letters.values() if wanted.matches(letter)]
        return sorted(found, key=lambda one: (one.last_failed_at, one.dead_letter_id), reverse=True)[:limit]

    async def list_remediation(self, depot_id: str, limit: int) -> list[RemediationEntry]:
        entries = self._state.open_questions
        return [entries[key] for key in sorted(entries) if entries[key].depot_id == depot_id][:limit]

    async def count_waiting(self, wanted: DeadLetterFilter, begun_at: datetime) -> int:
        return len(self._waiting(wanted, begun_at))

    async def next_pending(
        self, wanted: DeadLetterFilter, begun_at: datetime, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        found = self._waiting(wanted, begun_at)
        return [one for one in found if after is None or (one.received_at, one.dead_letter_id) > after][:limit]

    async def get_dead_letters(self, letter_ids: Sequence[str]) -> dict[str, DeadLetter]:
        return {one: self._state.letters[one] for one in letter_ids if one in self._state.letters}

    def _waiting(self, wanted: DeadLetterFilter, begun_at: datetime) -> list[DeadLetter]:
        found = [
            one
            for one in self._state.letters.values()
            if wanted.matches(one) and one.status == "PENDING" and one.first_failed_at <= begun_at
        ]
        return sorted(found, key=lambda one: (one.received_at, one.dead_letter_id))


def _latest_of(state: _State, subjects: Sequence[str]) -> dict[str, StoredEvent]:
    latest: dict[str, StoredEvent] = {}
    for stored in state.events:
        subject = stored.event.subject
        if subject is None or subject not in subjects or stored.event.history_only:
            continue
        if subject not in latest or latest_key(stored.event) > latest_key(latest[subject].event):
            latest[subject] = stored
    return latest
