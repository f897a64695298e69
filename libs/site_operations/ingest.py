"""Take in a batch of packets: decide what becomes of each, and store all of it in one transaction.

A batch goes through two stages. `prepare` decodes, authorises and routes; it is pure work on the directory of sites and touches
no database, so the next batch can be prepared while the one before commits. `store` decides what depends on stored state (the
charging capacity of circuits), and writes events, outbox rows, dead letters and remediation entries together. When it returns,
every packet of the batch has ended in stored events, in a dead letter, as a duplicate of one of these, or as ignored; so the
caller may acknowledge the batch to its broker, and only then.

A batch whose transaction fails on its data is split in halves until the culprit is alone; its neighbours are stored, and it
becomes a dead letter of stage `APPLY`. Faults of the infrastructure are the caller's to try again: nothing was stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import msgspec

from event_store.append import Appended, EncodedEvents
from event_store.database import UNREACHABLE, UNSTORABLE
from event_store.dead_letters import BODY_LIMIT, DeadLetter, dead_letter_id
from event_store.remediation import RemediationEntry
from event_store.store import EventStore, StoreTransaction
from microgrid import circuit_capacity
from microgrid.circuit_capacity import UNLIMITED, CircuitLimits, ControllerHealth
from microgrid.directory import NotAuthorised, SiteDirectory
from microgrid.events import CONTROLLER_HEARTBEAT_LOST, Event, utc_text
from microgrid.reporting import APPLIED, DUPLICATE, IGNORED, RECORDED, CapacityStep, Ignored, Refused, Reported, Step, report
from microgrid.routing import REMEDIATION, DevicePlan
from sensor_packet.decode import decode
from sensor_packet.packet import ClaimedIdentity, Packet, Refusal

STORED = "STORED"
DEAD_LETTERED = "DEAD_LETTERED"
REFUSED = "REFUSED"


class RawPacket(msgspec.Struct, frozen=True, gc=False):
    """A packet as it arrived. `partition` and `offset` are Kafka's; `headers` are text for people, `trace_id` is W3C."""

    body: bytes
    source: str
    topic: str
    claimed: ClaimedIdentity
    received_at: datetime
    key: bytes | None = None
    partition: int | None = None
    offset: int | None = None
    headers: Mapping[str, str] = {}
    trace_id: str | None = None


class PreparedPacket(msgspec.Struct, frozen=True, gc=False):
    """A packet decided as far as that goes without stored state. `refusal` is set when the whole of it is refused.

    `asks_health` is set where a step may be a `CapacityStep`, so that the others need not be searched for one.
    """

    raw: RawPacket
    packet: Packet | None
    depot_id: str | None
    steps: Sequence[Step]
    refusal: Refusal | None
    letter: DeadLetter | None
    asks_health: bool = False


class ActionOutcome(msgspec.Struct, frozen=True):
    """What one action of one measurand came to, in the words of the HTTP interface."""

    measurand: str | None
    action: str | None
    outcome: str
    code: str | None = None
    event_id: str | None = None


class PacketOutcome(msgspec.Struct, frozen=True):
    """What a packet came to: `STORED`, `DUPLICATE`, `IGNORED`, `DEAD_LETTERED` or `REFUSED`, and each action of it."""

    summary: str
    code: str | None
    actions: Sequence[ActionOutcome]


class BatchOutcome(msgspec.Struct):
    """Counts of one stored batch: packets by source and summary, dead letters and remediation by code, heartbeats lost."""

    packets: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter[tuple[str, str]])
    dead_letters: Counter[str] = msgspec.field(default_factory=Counter[str])
    remediations: Counter[str] = msgspec.field(default_factory=Counter[str])
    causes: Counter[tuple[str, str | None]] = msgspec.field(default_factory=Counter[tuple[str, str | None]])
    """Dead letters by code and gateway."""
    heartbeats_lost: int = 0


_Part = tuple[Sequence[PreparedPacket], Mapping[int, circuit_capacity.CapacityDecision], Appended]


class _Assembled(msgspec.Struct, frozen=True):
    """A batch with all of its storing done that needs no stored state. `events` are known where there are no capacity steps."""

    packets: Sequence[PreparedPacket]
    letters: Sequence[DeadLetter]
    capacity_steps: Sequence[CapacityStep]
    events: Sequence[Event]


class Stored(msgspec.Struct, frozen=True):
    """What was stored of a batch, in the parts that it took. Counting it is left to the caller, who may have better to do first."""

    parts: Sequence[_Part]

    def outcome(self) -> BatchOutcome:
        """Count what became of the packets."""
        outcome = BatchOutcome()
        for batch, decided, appended in self.parts:
            _count_in(outcome, batch, decided, appended)
        return outcome


class Ingest:
    """The use case, with what it needs: where to store, who is who, how far ahead a sender's clock may be, in seconds."""

    def __init__(
        self, store: EventStore, directory: SiteDirectory, clock: Callable[[], datetime], max_ahead_s: float = 300.0
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._max_ahead_s = max_ahead_s
        self._last_arrival: tuple[str, datetime, str | None] | None = None
        self._last_metadata: Mapping[str, object] = {}

    def prepare(self, raw: RawPacket, planned: Callable[[DevicePlan], DevicePlan] | None = None) -> PreparedPacket:
        """Decode, authorise and route one packet; no body makes this raise.

        `planned` gives what is to be done in place of the device's plan, for a sender who names the target.
        """
        packet = decode(raw.body, received_at=raw.received_at, claimed=raw.claimed, max_ahead_s=self._max_ahead_s)
        if isinstance(packet, Refusal):
            depot_id = self._directory.depot_of(packet.device_id)
            letter = _letter(raw, packet.code, packet.stage, packet.detail, packet.gateway_id, packet.device_id, depot_id, ())
            return PreparedPacket(raw, None, depot_id, (), packet, letter)
        plan = self._directory.authorise(packet.gateway_id, packet.device_id)
        if isinstance(plan, NotAuthorised):
            refusal = Refusal(plan.code, "AUTHORISE", "", plan.detail, packet.gateway_id, packet.device_id)
            letter = _letter(raw, plan.code, "AUTHORISE", plan.detail, packet.gateway_id, packet.device_id, plan.depot_id, ())
            return PreparedPacket(raw, packet, plan.depot_id, (), refusal, letter)
        if planned is not None:
            plan = planned(plan)
        steps = report(packet, plan, raw.received_at, self._metadata(raw))
        letter = None
        for step in steps:
            if isinstance(step, Refused):
                failed = [one for one in steps if isinstance(one, Refused)]
                letter = letter_of_failed_actions(raw, packet, plan.depot_id, failed)
                break
        return PreparedPacket(raw, packet, plan.depot_id, steps, None, letter, bool(plan.capacity_actions))

    def _metadata(self, raw: RawPacket) -> Mapping[str, object]:
        """How a packet arrived, for the metadata of its events. Packets that arrived together share one, which nobody changes."""
        arrival = (raw.source, raw.received_at, raw.trace_id)
        if arrival != self._last_arrival:
            metadata: dict[str, object] = {"source": raw.source, "received_at": utc_text(raw.received_at)}
            if raw.trace_id is not None:
                metadata["trace_id"] = raw.trace_id
            self._last_arrival, self._last_metadata = arrival, metadata
        return self._last_metadata

    async def store(self, batch: Sequence[PreparedPacket]) -> Stored:
        """Store a batch; raises what says that the database can not do it now, and then has stored nothing of it."""
        return await self._store_assembled(_assembled(batch))

    def assemble(self, batch: Sequence[PreparedPacket]) -> Callable[[], Awaitable[Stored]]:
        """Do of `store` what needs no database, while it has other work; gives what does the rest, as often as that takes."""
        return partial(self._store_assembled, _assembled(batch))

    async def _store_assembled(self, assembled: _Assembled) -> Stored:
        batch = assembled.packets
        try:
            return Stored((await self._store_together(assembled),))
        except UNREACHABLE:
            raise
        except UNSTORABLE as fault:
            if len(batch) == 1:
                return Stored((await self._store_together(_assembled([unstorable(batch[0], fault)])),))
        middle = len(batch) // 2
        first = await self.store(batch[:middle])
        return Stored((*first.parts, *(await self.store(batch[middle:])).parts))

    async def _store_together(self, assembled: _Assembled) -> _Part:
        batch, now = assembled.packets, self._clock()
        if not assembled.letters and not assembled.capacity_steps:
            appended = await self._store.append(assembled.events)
            if appended.open_remediation:
                await self._store.settle_remediation(_applied(batch, {}))
            return batch, {}, appended
        async with self._store.transaction() as transaction:
            decided, appended = await self._store_within(transaction, assembled, now)
            await transaction.put_dead_letters([_failed_at(letter, now) for letter in assembled.letters])
        return batch, decided, appended

    async def tell(self, transaction: StoreTransaction, batch: Sequence[PreparedPacket]) -> list[PacketOutcome]:
        """Store a batch whose sender waits for the answer, in the caller's transaction, and tell what became of each packet.

        What is refused is told and leaves no dead letter. Raises what the store raises, and then has stored nothing of it.
        """
        decided, appended = await self._store_within(transaction, _assembled(batch), self._clock())
        seen: set[str] = set()
        return [_told(prepared, decided, appended.new_ids, seen) for prepared in batch]

    async def _store_within(
        self, transaction: StoreTransaction, assembled: _Assembled, now: datetime
    ) -> tuple[Mapping[int, circuit_capacity.CapacityDecision], Appended]:
        batch, events = assembled.packets, assembled.events
        decided: dict[int, circuit_capacity.CapacityDecision] = {}
        if assembled.capacity_steps:
            decided = await _decide_capacities(transaction, assembled.capacity_steps, now, self._directory)
            events = _events_of(batch, decided)
        appended = await transaction.append(events)
        if appended.open_remediation:
            await transaction.settle_remediation(_applied(batch, decided))
        await transaction.put_remediation(_remediation_entries(batch, now))
        return decided, appended


def packet_outcome(prepared: PreparedPacket, new_ids: frozenset[str] | None) -> PacketOutcome:
    """What became of one packet without capacity steps, by the ids that were new (None: all)."""
    if prepared.refusal is not None:
        return PacketOutcome(DEAD_LETTERED, prepared.refusal.code, ())
    actions = [_action_outcome(step, new_ids) for step in prepared.steps if not isinstance(step, CapacityStep)]
    return PacketOutcome(_summary(prepared, {}, new_ids, set()), None, actions)


def _told(
    prepared: PreparedPacket,
    decided: Mapping[int, circuit_capacity.CapacityDecision],
    new_ids: frozenset[str] | None,
    seen: set[str],
) -> PacketOutcome:
    """What became of one packet and of each of its actions; `seen` are the events of the packets before it."""
    if prepared.refusal is not None:
        return PacketOutcome(REFUSED, prepared.refusal.code, ())
    actions: list[ActionOutcome] = []
    for step in prepared.steps:
        decision = decided[id(step)] if isinstance(step, CapacityStep) else None
        told = decision.reported if decision is not None else step
        if isinstance(told, Reported):
            # Twice in one batch, it is new once.
            actions.append(_action_outcome(told, frozenset() if told.event.event_id in seen else new_ids))
            seen.add(told.event.event_id)
        elif isinstance(told, Refused | Ignored):
            actions.append(_action_outcome(told, new_ids))
        elif isinstance(step, CapacityStep) and decision is not None and step.heartbeat is not None and decision.transitions:
            actions.append(
                ActionOutcome(step.heartbeat.key, step.action.action, APPLIED, event_id=decision.transitions[-1].event_id)
            )
    summary = next((known for known in (STORED, DUPLICATE) if any(_is(known, one) for one in actions)), IGNORED)
    return PacketOutcome(summary, None, actions)


def _is(summary: str, action: ActionOutcome) -> bool:
    return action.outcome == DUPLICATE if summary == DUPLICATE else action.outcome in (APPLIED, RECORDED)


def _assembled(batch: Sequence[PreparedPacket]) -> _Assembled:
    letters = [prepared.letter for prepared in batch if prepared.letter is not None]
    capacity_steps = _capacity_steps(batch)
    return _Assembled(batch, letters, capacity_steps, () if capacity_steps else _encoded(_events_of(batch, {})))


def _encoded(events: Sequence[Event]) -> Sequence[Event]:
    try:
        return EncodedEvents(events)
    except UNSTORABLE:
        return events  # storing them raises it again, where the event at fault is looked for


def _capacity_steps(batch: Sequence[PreparedPacket]) -> list[CapacityStep]:
    asking = [prepared for prepared in batch if prepared.asks_health]
    return [step for prepared in asking for step in prepared.steps if isinstance(step, CapacityStep)]


async def _decide_capacities(
    transaction: StoreTransaction, steps: Sequence[CapacityStep], now: datetime, directory: SiteDirectory
) -> dict[int, circuit_capacity.CapacityDecision]:
    """Decide capacity steps in order, on locked health rows; keyed by the step's identity."""
    healths = await transaction.lock_health([step.action.sensor_action_id or "" for step in steps])
    touched: dict[str, ControllerHealth] = {}
    decided: dict[int, circuit_capacity.CapacityDecision] = {}
    for step in steps:
        key = step.action.sensor_action_id or ""
        health = touched.get(key) or healths.get(key) or circuit_capacity.new_health(step)
        decision = circuit_capacity.decide(health, step, now, limits_of(directory, health))
        decided[id(step)] = decision
        touched[key] = decision.health
    await transaction.save_health([health for key, health in touched.items() if healths.get(key) != health])
    return decided


def limits_of(directory: SiteDirectory, health: ControllerHealth) -> CircuitLimits:
    """The limits of the circuit that a health is about; none where the circuit is not known any more."""
    site = directory.site(health.depot_id)
    circuit = site.circuit_by_id.get(health.circuit_id) if site is not None else None
    return CircuitLimits(circuit.rating_kw, circuit.safe_capacity_kw) if circuit is not None else UNLIMITED


def _events_of(batch: Sequence[PreparedPacket], decided: Mapping[int, circuit_capacity.CapacityDecision]) -> list[Event]:
    if not decided:
        return [step.event for prepared in batch for step in prepared.steps if isinstance(step, Reported)]
    events: list[Event] = []
    for prepared in batch:
        for step in prepared.steps:
            if isinstance(step, Reported):
                events.append(step.event)
            elif isinstance(step, CapacityStep):
                decision = decided[id(step)]
                events.extend(decision.transitions)
                if decision.reported is not None:
                    events.append(decision.reported.event)
    return events


def _applied(
    batch: Sequence[PreparedPacket], decided: Mapping[int, circuit_capacity.CapacityDecision]
) -> list[tuple[str, str, str, str]]:
    """(device, measurand, action, sensor action) of all that applied, each once, in an order that avoids deadlocks."""
    applied: set[tuple[str, str, str, str]] = set()
    for prepared in batch:
        if prepared.packet is None:
            continue
        for step in prepared.steps:
            reported = decided[id(step)].reported if isinstance(step, CapacityStep) else step
            if isinstance(reported, Reported) and reported.outcome == APPLIED:
                applied.add((prepared.packet.device_id, reported.measurand, reported.action, reported.sensor_action_id or ""))
    return sorted(applied)


def _remediation_entries(batch: Sequence[PreparedPacket], now: datetime) -> list[RemediationEntry]:
    return [
        RemediationEntry(
            prepared.depot_id or "",
            prepared.packet.device_id,
            step.measurand or "",
            step.action or "",
            step.code,
            step.candidates,
            now,
            now,
            1,
            step.sensor_action_id or "",
        )
        for prepared in batch
        if prepared.packet is not None
        for step in prepared.steps
        if isinstance(step, Refused) and step.outcome == REMEDIATION
    ]


def _count_in(
    outcome: BatchOutcome,
    batch: Sequence[PreparedPacket],
    decided: Mapping[int, circuit_capacity.CapacityDecision],
    appended: Appended,
) -> None:
    seen: set[str] = set()
    new_ids = appended.new_ids
    outcome.packets.update([(prepared.raw.source, _summary(prepared, decided, new_ids, seen)) for prepared in batch])
    for prepared in batch:
        if prepared.letter is not None:
            outcome.dead_letters[prepared.letter.reason_code] += 1
            outcome.causes[prepared.letter.reason_code, prepared.letter.gateway_id] += 1
            for step in prepared.steps:
                if isinstance(step, Refused) and step.outcome == REMEDIATION:
                    outcome.remediations[step.code] += 1
    for decision in decided.values():
        outcome.heartbeats_lost += sum(event.event_type == CONTROLLER_HEARTBEAT_LOST for event in decision.transitions)


def _summary(
    prepared: PreparedPacket,
    decided: Mapping[int, circuit_capacity.CapacityDecision],
    new_ids: frozenset[str] | None,
    seen: set[str],
) -> str:
    if prepared.letter is not None:
        return DEAD_LETTERED
    summary = IGNORED
    for step in prepared.steps:
        if isinstance(step, CapacityStep):
            decision = decided.get(id(step))
            event = decision.reported.event if decision is not None and decision.reported is not None else None
        else:
            event = step.event if isinstance(step, Reported) else None
        if event is None:
            continue
        if new_ids is None:
            return STORED
        if event.event_id in new_ids and event.event_id not in seen:
            seen.add(event.event_id)
            summary = STORED
        elif summary == IGNORED:
            summary = DUPLICATE
    return summary


def _action_outcome(step: Reported | Refused | Ignored, new_ids: frozenset[str] | None) -> ActionOutcome:
    if isinstance(step, Reported):
        is_new = new_ids is None or step.event.event_id in new_ids
        return ActionOutcome(step.measurand, step.action, step.outcome if is_new else DUPLICATE, event_id=step.event.event_id)
    if isinstance(step, Refused):
        return ActionOutcome(step.measurand, step.action, step.outcome, step.code)
    return ActionOutcome(step.measurand, None, IGNORED)


def letter_of_failed_actions(raw: RawPacket, packet: Packet, depot_id: str, failed: Sequence[Refused]) -> DeadLetter:
    """The letter of a packet of which some actions failed, at least one."""
    first = failed[0]
    stage = "VALIDATE" if first.action is None else "ROUTE"
    actions = [
        {"pointer": step.pointer, "measurand": step.measurand, "action": step.action, "code": step.code}
        if step.action is not None
        else {"pointer": step.pointer, "measurand": step.measurand, "code": step.code}
        for step in failed
    ]
    return _letter(raw, first.code, stage, first.detail, packet.gateway_id, packet.device_id, depot_id, actions)


def _letter(
    raw: RawPacket,
    code: str,
    stage: str,
    detail: str,
    gateway_id: str | None,
    device_id: str | None,
    depot_id: str | None,
    failed_actions: Sequence[Mapping[str, object]],
) -> DeadLetter:
    return DeadLetter(
        dead_letter_id=dead_letter_id(raw.source, raw.topic, raw.key, raw.partition, raw.offset, raw.body),
        first_failed_at=raw.received_at,
        last_failed_at=raw.received_at,
        attempts=1,
        status="PENDING",
        reason_code=code,
        stage=stage,
        detail=printable(detail),
        source=raw.source,
        topic=printable(raw.topic),
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        headers={printable(name): printable(value) for name, value in raw.headers.items()},
        body=raw.body[:BODY_LIMIT],
        body_length=len(raw.body),
        body_sha256=hashlib.sha256(raw.body).hexdigest(),
        received_at=raw.received_at,
        depot_id=depot_id,
        gateway_id=gateway_id,
        device_id=device_id,
        failed_actions=failed_actions,
        trace_id=raw.trace_id,
    )


def printable(text: str) -> str:
    """Text that PostgreSQL and JSON can hold: U+0000 and lone surrogates as escapes."""
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()


def _failed_at(letter: DeadLetter, now: datetime) -> DeadLetter:
    return msgspec.structs.replace(letter, first_failed_at=now, last_failed_at=now)


def unstorable(prepared: PreparedPacket, fault: Exception) -> PreparedPacket:
    """The packet that broke its batch's transaction, as a dead letter that says what the database said."""
    raw, packet = prepared.raw, prepared.packet
    reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    letter = _letter(
        raw,
        "NOT_STORABLE",
        "APPLY",
        f"the database refused its content: {reason}",
        packet.gateway_id if packet else raw.claimed.gateway_id,
        packet.device_id if packet else raw.claimed.device_id,
        prepared.depot_id,
        (),
    )
    return PreparedPacket(raw, packet, prepared.depot_id, (), None, letter)
