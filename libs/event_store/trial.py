"""What transactions would do, with nothing stored: the answer to "what if?".

A trial reads one snapshot of the database in a transaction that may not write, and keeps in memory what its own transactions would
have written, so that each sees what the ones before it did. The statement that looks up which events are known converts every
value as storing would, so that what could not be stored is refused here with the same error. A transaction that ends with an error
leaves nothing behind in the trial either.

What it can not know: what others write meanwhile, and what the database refuses only when it is really written (a value too long
for an index). Letters and remediation entries are not kept: no decision reads them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec

from event_store.append import NOTHING_APPENDED, Appended
from event_store.controller_health import peek_health
from event_store.database import Connection
from event_store.dead_letters import DeadLetter
from event_store.read import Position, StoredEvent, latest_of
from event_store.remediation import RemediationEntry
from microgrid.capability import latest_key
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event

_NOWHERE = Position(0, 0)

_UNKNOWN = """
SELECT i.event_id::text
FROM jsonb_to_recordset($1::text::jsonb)
     AS i (event_id uuid, event_type text, schema_version smallint, depot_id text, microgrid_id uuid, subject text,
           history_only boolean, observed_at timestamptz, sent_at timestamptz, source_event_ref text, payload jsonb, metadata jsonb)
WHERE NOT EXISTS (SELECT FROM event_store e WHERE e.observed_at = i.observed_at AND e.event_id = i.event_id)
"""


class Trial:
    """Transactions on a connection whose own transaction may not write."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.known: set[str] = set()
        self.healths: dict[str, ControllerHealth] = {}
        self.latest: dict[str, Event] = {}

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[TrialTransaction]:
        """One transaction; its outcome counts for the next ones if it ends in order."""
        trying = TrialTransaction(self)
        async with self.connection.transaction():
            yield trying
        self.known |= trying.known
        self.healths |= trying.healths
        self.latest |= trying.latest


class TrialTransaction:
    """One transaction of a trial: ids of new events, healths and latest events that it adds to what the trial knows."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.known: set[str] = set()
        self.healths: dict[str, ControllerHealth] = {}
        self.latest: dict[str, Event] = {}

    async def append(self, events: Sequence[Event]) -> Appended:
        if not events:
            return NOTHING_APPENDED
        rows = await self._trial.connection.fetch(_UNKNOWN, msgspec.json.encode(events).decode())
        unknown = {row[0] for row in rows}
        new_ids: list[str] = []
        for event in events:
            if event.event_id in unknown and event.event_id not in self.known and event.event_id not in self._trial.known:
                self.known.add(event.event_id)
                new_ids.append(event.event_id)
                self._note_latest(event)
        return Appended(None if len(new_ids) == len(events) else frozenset(new_ids), open_remediation=False)

    async def put_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing reads them in a trial."""

    async def put_remediation(self, entries: Sequence[RemediationEntry]) -> None:
        """Nothing reads them in a trial."""

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        """Nothing reads them in a trial."""

    async def lock_health(self, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
        """As it would be; nobody is held up by a trial."""
        asked = set(sensor_action_ids)
        tried = {**self._trial.healths, **self.healths}
        found = await peek_health(self._trial.connection, [one for one in asked if one not in tried])
        return {**found, **{one: tried[one] for one in asked if one in tried}}

    async def lock_overdue(self, now: datetime, limit: int) -> list[ControllerHealth]:
        raise NotImplementedError("heartbeats are not swept on trial")

    async def save_health(self, healths: Sequence[ControllerHealth]) -> None:
        self.healths.update({one.sensor_action_id: one for one in healths})

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        stored = await latest_of(self._trial.connection, subjects)
        for subject in subjects:
            tried = self.latest.get(subject) or self._trial.latest.get(subject)
            known = stored.get(subject)
            if tried is not None and (known is None or latest_key(tried) > latest_key(known.event)):
                stored[subject] = StoredEvent(tried, _NOWHERE, tried.observed_at)
        return stored

    async def restore_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing reads them in a trial."""

    async def settle_letters(self, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime) -> frozenset[str]:
        """All of them: who would take one away meanwhile is not known."""
        return frozenset(replayed) | {letter.dead_letter_id for letter in failed}

    def _note_latest(self, event: Event) -> None:
        if event.subject is None or event.history_only:
            return
        known = self.latest.get(event.subject) or self._trial.latest.get(event.subject)
        if known is None or latest_key(event) > latest_key(known):
            self.latest[event.subject] = event
