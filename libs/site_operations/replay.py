"""Replay dead letters: the original bytes once more through the very same pipeline, as received when they were.

A letter is decided by what is configured now, with its own receive time, so that it makes the events that it would have made
then, under the same identities; `now` is the time of the replay, so an old promise of a controller brings nothing into force.

- Of a letter in which only some actions failed, these alone are replayed: what was applied at the time is left alone, also where
  it would be refused today, and an action that was bound since is not carried out on old packets. An action that was named by its
  measurand (the measurand itself was bad) stands for all actions of that measurand. A circuit's capacity is decided from up to
  three measurands; it acts with those that failed.
- What goes well makes the letter `REPLAYED`, in the transaction of its events. A good packet for whose values nothing is
  configured goes well: it is `IGNORED`, as it would be on arrival.
- What fails again stays the same letter, with the new reason and one more attempt.
- A letter whose bytes were cut, or let go of, is `NOT_REPLAYABLE`: it waits as before, and no attempt is counted.
- Letters are taken in batches of one transaction each, first received first. Whatever ends a replay between or within two
  batches, each letter is either done or waiting, and another replay does the rest. A letter that somebody else settles while its
  batch is under way makes the batch start over without it. One that the database refuses is found by halving its batch.
- On trial the same code runs on transactions that store nothing (`event_store.trial`), so it tells what would happen.

To tell which events came of which letter, letters that touch a circuit's capacity go one by one: such a step may make events that
no action names.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from event_store.append import Appended
from event_store.database import UNREACHABLE, UNSTORABLE
from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.read import StoredEvent
from event_store.remediation import RemediationEntry
from event_store.store import EventStore, StoreTransaction, Transactions
from microgrid.capability import latest_key
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event
from microgrid.reporting import DUPLICATE, CapacityStep, Refused, Step
from sensor_packet.packet import ClaimedIdentity, Measurand, Packet
from sensor_packet.topics import KAFKA_PACKET_TOPIC, kafka_claimed_identity, parse_mqtt_packet_topic
from site_operations.ingest import (
    DEAD_LETTERED,
    ActionOutcome,
    Ingest,
    PacketOutcome,
    PreparedPacket,
    RawPacket,
    letter_of_failed_actions,
    unstorable,
)

NOT_REPLAYABLE = "NOT_REPLAYABLE"
BATCH = 100
"""Letters in one transaction, at most."""
_TRIES = 5
_LONGEST_PAUSE_S = 1.0
_INDEX = re.compile(r"/measurands/(\d+)(?:/|\Z)", re.ASCII)
_NOBODY = ClaimedIdentity("", "")


class Change(msgspec.Struct, frozen=True):
    """An event that came of a letter. `is_latest`: its subject's latest value is this one now."""

    event_id: str
    event_type: str
    subject: str | None
    observed_at: datetime
    is_latest: bool


class LetterReport(msgspec.Struct, frozen=True):
    """What became of a letter: `STORED`, `DUPLICATE`, `IGNORED`, `DEAD_LETTERED` or `NOT_REPLAYABLE`; why, for the last two.

    `actions` are those that were replayed; `difference` is what is in the store now and was not before.
    """

    dead_letter_id: str
    outcome: str
    code: str | None = None
    detail: str | None = None
    actions: tuple[ActionOutcome, ...] = ()
    difference: tuple[Change, ...] = ()


Within = Callable[[StoreTransaction, Sequence[DeadLetter], Sequence[LetterReport]], Awaitable[None]]
"""What else belongs into the transaction of some letters, and what became of them."""


class _Task(msgspec.Struct, frozen=True):
    """A letter and its packet, decided as far as that goes without stored state; or the report that it can not be replayed."""

    letter: DeadLetter
    prepared: PreparedPacket | None
    report: LetterReport | None


class _OvertakenError(Exception):
    """Somebody else settled a letter of the batch meanwhile."""


class Replay:
    """Replays letters in batches. `transactions` is the store, or a trial of it; `by` is who asked for it."""

    def __init__(
        self, store: EventStore, transactions: Transactions, ingest: Ingest, clock: Callable[[], datetime], by: str
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._ingest = ingest
        self._clock = clock
        self._by = by

    async def batch(
        self, letters: Sequence[DeadLetter], *, within: Within | None = None, restore: bool = False
    ) -> list[LetterReport]:
        """Replay pending letters, with a report of each that was pending still.

        `restore` puts those back that the store has not, or not with their bytes. Raises what says that the database can not be
        used now; letters without a report wait then as before.
        """
        reports: list[LetterReport] = []
        for _ in range(_TRIES):
            done = {report.dead_letter_id for report in reports}
            try:
                tasks = [self._task(letter) for letter in letters if letter.dead_letter_id not in done]
                if tasks:
                    await self._together(tasks, within, reports, restore=restore)
            except _OvertakenError:
                now_there = await self._store.get_dead_letters([letter.dead_letter_id for letter in letters])
                letters = [
                    now_there.get(letter.dead_letter_id, letter)
                    for letter in letters
                    if letter.dead_letter_id not in now_there or now_there[letter.dead_letter_id].status == "PENDING"
                ]
            else:
                break
        return reports

    def _task(self, letter: DeadLetter) -> _Task:
        if letter.body_dropped_at is not None:
            detail = "its bytes were let go of to keep a flood within its bounds; the dead-letter topic may still have them"
            return _not_replayable(letter, "BODY_DROPPED", detail)
        if len(letter.body) < letter.body_length:
            detail = f"only the first {len(letter.body)} of its {letter.body_length} bytes are kept"
            return _not_replayable(letter, "BODY_TRUNCATED", detail)
        prepared = self._ingest.prepare(packet_of(letter))
        return _Task(letter, only_failed(prepared, letter.failed_actions), None)

    async def _together(self, tasks: Sequence[_Task], within: Within | None, reports: list[LetterReport], *, restore: bool) -> None:
        try:
            reports.extend(await self._in_one_transaction(tasks, within, restore=restore))
        except UNREACHABLE:
            raise
        except UNSTORABLE as fault:
            if len(tasks) == 1 and tasks[0].prepared is not None:
                refused = msgspec.structs.replace(tasks[0], prepared=unstorable(tasks[0].prepared, fault))
                reports.extend(await self._in_one_transaction([refused], within, restore=restore))
                return
            if len(tasks) == 1:
                raise
        else:
            return
        middle = len(tasks) // 2
        await self._together(tasks[:middle], within, reports, restore=restore)
        await self._together(tasks[middle:], within, reports, restore=restore)

    async def _in_one_transaction(self, tasks: Sequence[_Task], within: Within | None, *, restore: bool) -> list[LetterReport]:
        now = self._clock()
        async with self._transactions.transaction() as transaction:
            reports = await self._tell(transaction, tasks)
            letters = [task.letter for task in tasks]
            if restore:
                await transaction.restore_letters(letters)
            failed = [
                _failed_again(task.letter, task.prepared.letter, now)
                for task in tasks
                if task.prepared is not None and task.prepared.letter is not None
            ]
            replayed = [task.letter.dead_letter_id for task in tasks if task.prepared is not None and task.prepared.letter is None]
            settled = await transaction.settle_letters(replayed, failed, self._by, now)
            if len(settled) < len(replayed) + len(failed):
                raise _OvertakenError
            if within is not None:
                await within(transaction, letters, reports)
        return reports

    async def _tell(self, transaction: StoreTransaction, tasks: Sequence[_Task]) -> list[LetterReport]:
        reports: list[LetterReport] = []
        run: list[tuple[DeadLetter, PreparedPacket]] = []

        async def tell_run() -> None:
            if run:
                recording = _Recording(transaction)
                outcomes = await self._ingest.tell(recording, [prepared for _, prepared in run])
                alone = len(run) == 1
                for (letter, prepared), outcome in zip(run, outcomes, strict=True):
                    reports.append(_report(letter, prepared, outcome, recording.changes, alone=alone))
                run.clear()

        for task in tasks:
            touches_capacity = task.prepared is not None and any(isinstance(step, CapacityStep) for step in task.prepared.steps)
            if task.prepared is None or touches_capacity:
                await tell_run()
            if task.report is not None:
                reports.append(task.report)
            if task.prepared is not None:
                run.append((task.letter, task.prepared))
            if touches_capacity:
                await tell_run()
        await tell_run()
        return reports


async def walk(
    replay: Replay,
    store: EventStore,
    wanted: DeadLetterFilter,
    *,
    begun_at: datetime,
    after: tuple[datetime, str] | None = None,
    most: int | None = None,
    rate_per_s: float | None = None,
    within: Within | None = None,
) -> AsyncGenerator[list[LetterReport]]:
    """Replay all letters that wait since `begun_at`, in batches, at most `most` and so many per second; gives their reports.

    `after` is where an earlier walk ended. An empty batch is given about once a second while the pace holds it up. Whoever stops
    listening stops the replay, between two batches.
    """
    loop = asyncio.get_running_loop()
    size = BATCH if rate_per_s is None else max(1, min(BATCH, int(rate_per_s)))
    left = most
    while left is None or left > 0:
        began = loop.time()
        letters = await store.next_pending(wanted, begun_at, after, size if left is None else min(size, left))
        if not letters:
            return
        yield await replay.batch(letters, within=within)
        after = (letters[-1].received_at, letters[-1].dead_letter_id)
        left = None if left is None else left - len(letters)
        if rate_per_s is not None and left != 0:
            while (pause_s := began + len(letters) / rate_per_s - loop.time()) > 0:
                await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
                if pause_s > _LONGEST_PAUSE_S:
                    yield []


def packet_of(letter: DeadLetter) -> RawPacket:
    """The packet as its source handed it over, with what its topic or key said of the sender."""
    # A way that says nothing of the sender must not let it be anybody.
    by_topic = parse_mqtt_packet_topic(letter.topic) or _NOBODY
    # What a bridge brought bears the MQTT topic that it was published on.
    by_record = kafka_claimed_identity(letter.key, None if letter.topic == KAFKA_PACKET_TOPIC else letter.topic)
    claimed = by_record if letter.source == "kafka" else by_topic
    return RawPacket(
        body=letter.body,
        source=letter.source,
        topic=letter.topic,
        claimed=claimed,
        received_at=letter.received_at,
        key=letter.key,
        partition=letter.partition,
        offset=letter.offset,
        headers=letter.headers,
        trace_id=letter.trace_id,
    )


def only_failed(prepared: PreparedPacket, failed_actions: Sequence[Mapping[str, object]]) -> PreparedPacket:
    """A packet with those of its steps that failed at the time; all of them where the whole packet did (no measurand is named)."""
    packet = prepared.packet
    if not failed_actions or prepared.refusal is not None or packet is None:
        return prepared
    actions: set[tuple[int, object]] = set()
    measurands: set[int] = set()
    for failed in failed_actions:
        found = _INDEX.match(cast("str", failed["pointer"]))
        if found is not None and failed.get("action") is not None:
            actions.add((int(found[1]), failed["action"]))
        elif found is not None:
            measurands.add(int(found[1]))
    if not actions and not measurands:
        return prepared
    kept = [step for one in prepared.steps if (step := _kept(one, packet, actions, measurands)) is not None]
    refused = [step for step in kept if isinstance(step, Refused)]
    letter = letter_of_failed_actions(prepared.raw, packet, prepared.depot_id or "", refused) if refused else None
    return msgspec.structs.replace(prepared, steps=kept, letter=letter)


def _kept(step: Step, packet: Packet, actions: set[tuple[int, object]], measurands: set[int]) -> Step | None:
    if isinstance(step, CapacityStep):
        if step.capacity is not None and (step.capacity.index, step.action.action) in actions:
            return step

        def failed(part: Measurand | None) -> Measurand | None:
            return part if part is not None and part.index in measurands else None

        parts = (failed(step.capacity), failed(step.heartbeat), failed(step.fail_safe))
        return CapacityStep(step.action, step.origin, *parts) if any(parts) else None
    if isinstance(step, Refused):
        found = _INDEX.match(step.pointer)
        index = int(found[1]) if found is not None else None
        action = step.action
    else:
        index = next((one.index for one in packet.measurands if one.key == step.measurand), None)
        action = getattr(step, "action", None)
    return step if index is not None and (index in measurands or (index, action) in actions) else None


def _not_replayable(letter: DeadLetter, code: str, detail: str) -> _Task:
    return _Task(letter, None, LetterReport(letter.dead_letter_id, NOT_REPLAYABLE, code, detail))


def _failed_again(known: DeadLetter, letter: DeadLetter, now: datetime) -> DeadLetter:
    return msgspec.structs.replace(
        known,
        last_failed_at=now,
        reason_code=letter.reason_code,
        stage=letter.stage,
        detail=letter.detail,
        depot_id=letter.depot_id,
        gateway_id=letter.gateway_id,
        device_id=letter.device_id,
        # What was applied stays so where the whole packet is refused now.
        failed_actions=letter.failed_actions or known.failed_actions,
    )


def _report(
    letter: DeadLetter, prepared: PreparedPacket, outcome: PacketOutcome, changes: Sequence[Change], *, alone: bool
) -> LetterReport:
    new_ids = {one.event_id for one in outcome.actions if one.outcome != DUPLICATE}
    difference = tuple(change for change in changes if alone or change.event_id in new_ids)
    actions = tuple(outcome.actions)
    if prepared.letter is None:
        return LetterReport(letter.dead_letter_id, outcome.summary, None, None, actions, difference)
    failed = prepared.letter
    return LetterReport(letter.dead_letter_id, DEAD_LETTERED, failed.reason_code, failed.detail, actions, difference)


class _Recording:
    """A transaction that notes which events were new, and whether each is its subject's latest."""

    def __init__(self, transaction: StoreTransaction) -> None:
        self._transaction = transaction
        self.changes: list[Change] = []

    async def append(self, events: Sequence[Event]) -> Appended:
        latest = await self._transaction.latest_of([one.subject for one in events if one.subject and not one.history_only])
        keys = {subject: latest_key(stored.event) for subject, stored in latest.items()}
        appended = await self._transaction.append(events)
        new_ids = appended.new_ids
        noted: set[str] = set()
        for event in events:
            if event.event_id in noted or (new_ids is not None and event.event_id not in new_ids):
                continue
            noted.add(event.event_id)
            counts = event.subject is not None and not event.history_only
            is_latest = counts and (event.subject not in keys or latest_key(event) > keys[event.subject or ""])
            if is_latest and event.subject is not None:
                keys[event.subject] = latest_key(event)
            self.changes.append(Change(event.event_id, event.event_type, event.subject, event.observed_at, is_latest))
        return appended

    async def put_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        await self._transaction.put_dead_letters(letters)

    async def put_remediation(self, entries: Sequence[RemediationEntry]) -> None:
        await self._transaction.put_remediation(entries)

    async def settle_remediation(self, applied: Sequence[tuple[str, str, str, str]]) -> None:
        await self._transaction.settle_remediation(applied)

    async def lock_health(self, sensor_action_ids: Sequence[str]) -> dict[str, ControllerHealth]:
        return await self._transaction.lock_health(sensor_action_ids)

    async def lock_overdue(self, now: datetime, limit: int) -> list[ControllerHealth]:
        return await self._transaction.lock_overdue(now, limit)

    async def save_health(self, healths: Sequence[ControllerHealth]) -> None:
        await self._transaction.save_health(healths)

    async def latest_of(self, subjects: Sequence[str]) -> dict[str, StoredEvent]:
        return await self._transaction.latest_of(subjects)

    async def restore_letters(self, letters: Sequence[DeadLetter]) -> None:
        await self._transaction.restore_letters(letters)

    async def settle_letters(self, replayed: Sequence[str], failed: Sequence[DeadLetter], by: str, at: datetime) -> frozenset[str]:
        return await self._transaction.settle_letters(replayed, failed, by, at)
