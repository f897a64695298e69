"""A batch of packets ends in stored events, dead letters, duplicates or nothing to do, all of it together or none of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.microgrid.sites import BATTERY, NOW, SECOND_ACTION_ID, SECOND_BATTERY, action, ago, control_point, site

from event_store.append import Appended
from event_store.database import open_pool
from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.memory import InMemoryEventStore
from event_store.read import Position
from event_store.store import EventStore, PostgresEventStore
from microgrid.directory import SiteDirectory
from microgrid.events import Event, utc_text
from microgrid.reporting import Reported
from microgrid.site_model import (
    RECORD_MEASUREMENT,
    UPDATE_CIRCUIT_CAPACITY,
    UPDATE_MICROGRID_STATE,
    UPDATE_POWER_SOURCE_STATE,
    Site,
)
from sensor_packet.packet import ClaimedIdentity
from site_operations.ingest import BatchOutcome, Ingest, PreparedPacket, RawPacket, packet_outcome

SOC = action(RECORD_MEASUREMENT, "SOC")
POISON = "poison"
ANY = DeadLetterFilter()


def raw(
    *measurands: object, packet_id: str = "p-1", device_id: str = "dev", source: str = "mqtt", sent_at: str | None = None
) -> RawPacket:
    body = {
        "schema_version": "1.0",
        "packet_id": packet_id,
        "gateway_id": "gw",
        "device_id": device_id,
        "sent_at": sent_at or NOW.isoformat(),
        "measurands": measurands,
    }
    return raw_bytes(json.dumps(body).encode(), device_id=device_id, source=source)


def raw_bytes(body: bytes, *, device_id: str = "dev", source: str = "mqtt") -> RawPacket:
    return RawPacket(body, source, f"iot/v1/gw/{device_id}/packet", ClaimedIdentity("gw", device_id), NOW, trace_id="0af7")


def soc(number: int, packet_id: str | None = None) -> RawPacket:
    return raw({"key": "SOC", "value": number % 100}, packet_id=packet_id or f"p-{number}")


def ingest_into(store: EventStore, *sites: Site) -> Ingest:
    return Ingest(store, SiteDirectory(sites or (site(SOC),)), lambda: NOW)


async def take(ingest: Ingest, *packets: RawPacket) -> BatchOutcome:
    return (await ingest.store([ingest.prepare(one) for one in packets])).outcome()


async def letters_of(store: EventStore) -> list[DeadLetter]:
    return await store.list_dead_letters(ANY, 1000)


async def events_of(store: EventStore) -> list[Event]:
    return [stored.event for stored in await store.follow(Position(0, 0), 10_000)]


async def references_of(store: EventStore) -> list[str | None]:
    return [event.source_event_ref for event in await events_of(store)]


class ChoosyStore(InMemoryEventStore):
    """Refuses events of packets whose id begins with `poison` as PostgreSQL refuses what it can not hold, whatever is with them."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0

    async def append(self, events: Sequence[Event]) -> Appended:
        self.transactions += 1
        if any((event.source_event_ref or "").startswith(POISON) for event in events):
            raise asyncpg.DataError("unsupported Unicode escape sequence")
        return await super().append(events)


class AbsentStore(InMemoryEventStore):
    """A database that is away: every transaction fails as one fails that lost its connection."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.tries = 0
        self._fault = fault

    async def append(self, events: Sequence[Event]) -> Appended:
        self.tries += 1
        raise self._fault


async def test_a_packet_becomes_its_events() -> None:
    store = InMemoryEventStore()
    outcome = await take(ingest_into(store), soc(50))
    assert outcome.packets == Counter({("mqtt", "STORED"): 1})
    (event,) = await events_of(store)
    assert (event.event_type, event.source_event_ref, event.payload["value"]) == ("MeasurementRecorded", "p-50", 50)
    assert event.metadata == {"source": "mqtt", "received_at": "2026-11-20T21:00:00.000000Z", "trace_id": "0af7"}


async def test_the_same_packet_twice_in_a_batch_or_later_is_one_event() -> None:
    store = InMemoryEventStore()
    ingest = ingest_into(store)
    first = await take(ingest, soc(1), soc(1))
    later = await take(ingest, soc(1), soc(2))
    assert first.packets == Counter({("mqtt", "STORED"): 1, ("mqtt", "DUPLICATE"): 1})
    assert later.packets == Counter({("mqtt", "STORED"): 1, ("mqtt", "DUPLICATE"): 1})
    assert await references_of(store) == ["p-1", "p-2"]


async def test_a_packet_of_nothing_that_is_bound_is_ignored() -> None:
    store = InMemoryEventStore()
    outcome = await take(ingest_into(store), raw({"key": "EXPORT_ENERGY", "value": 1}))
    assert outcome.packets == Counter({("mqtt", "IGNORED"): 1})
    assert (await events_of(store), await letters_of(store)) == ([], [])


async def test_sources_are_counted_apart() -> None:
    outcome = await take(ingest_into(InMemoryEventStore()), soc(1), raw({"key": "SOC", "value": 3}, packet_id="k", source="kafka"))
    assert outcome.packets == Counter({("mqtt", "STORED"): 1, ("kafka", "STORED"): 1})


@pytest.mark.parametrize(
    ("packet", "code", "stage"),
    [
        (raw_bytes(b"garbage"), "MALFORMED_JSON", "DECODE"),
        (raw_bytes(b""), "MALFORMED_JSON", "DECODE"),
        (raw_bytes(b"x" * 70_000), "PACKET_TOO_LARGE", "DECODE"),
        (raw({"key": "SOC", "value": 1}, device_id="nobody"), "UNKNOWN_DEVICE", "AUTHORISE"),
        (raw(), "INVALID_PACKET", "VALIDATE"),
        (raw({"key": "SOC", "value": 1}, sent_at="2026-11-20T21:06:00Z"), "CLOCK_SKEW", "VALIDATE"),
    ],
)
async def test_a_refused_packet_is_a_dead_letter_with_its_bytes_and_no_event(packet: RawPacket, code: str, stage: str) -> None:
    store = InMemoryEventStore()
    outcome = await take(ingest_into(store), soc(1), packet, soc(2))
    assert outcome.packets == Counter({("mqtt", "STORED"): 2, ("mqtt", "DEAD_LETTERED"): 1})
    assert outcome.dead_letters == Counter({code: 1})
    (letter,) = await letters_of(store)
    assert (letter.reason_code, letter.stage, letter.attempts, letter.status) == (code, stage, 1, "PENDING")
    assert (letter.body, letter.body_length) == (packet.body[:65_536], len(packet.body))
    assert letter.trace_id == "0af7"
    assert await references_of(store) == ["p-1", "p-2"]


async def test_a_redelivered_bad_packet_is_one_more_attempt_of_the_same_letter() -> None:
    store = InMemoryEventStore()
    ingest = ingest_into(store)
    await take(ingest, raw_bytes(b"bad"), raw_bytes(b"bad"), raw_bytes(b"worse"))
    await take(ingest, raw_bytes(b"bad"))
    assert {letter.body: letter.attempts for letter in await letters_of(store)} == {b"bad": 3, b"worse": 1}


async def test_actions_that_fail_share_one_letter_and_hold_nothing_back() -> None:
    store = InMemoryEventStore()
    packet = raw(
        {"key": "SOC", "value": 50}, {"key": "DISPATCH_STATE", "value": "HOVERING"}, {"key": "PEAK_SHAVING", "value": True}
    )
    peak_shaving = action(UPDATE_MICROGRID_STATE, "PEAK_SHAVING", capability="PEAK_SHAVING", sensor_action_id=SECOND_ACTION_ID)
    outcome = await take(ingest_into(store, site(SOC, peak_shaving, points=(control_point("PEAK_SHAVING", "other"),))), packet)
    assert outcome.packets == Counter({("mqtt", "DEAD_LETTERED"): 1})
    (letter,) = await letters_of(store)
    assert (letter.reason_code, letter.stage) == ("INVALID_VALUE", "VALIDATE")
    assert letter.failed_actions == [
        {"pointer": "/measurands/1/value", "measurand": "DISPATCH_STATE", "code": "INVALID_VALUE"},
        {
            "pointer": "/measurands/2",
            "measurand": "PEAK_SHAVING",
            "action": "UPDATE_MICROGRID_STATE",
            "code": "CAPABILITY_SOURCE_CONFLICT",
        },
    ]
    assert [event.payload["measurand"] for event in await events_of(store)] == ["SOC"]


STATE = action(UPDATE_POWER_SOURCE_STATE, "DEVICE_POWER_STATE")


async def test_an_ambiguity_writes_no_event_and_is_a_question_until_the_action_applies() -> None:
    store = InMemoryEventStore()
    on = {"key": "DEVICE_POWER_STATE", "value": "ON"}
    ambiguous = ingest_into(store, site(STATE, sources=(BATTERY, SECOND_BATTERY), circuit_id=None))
    outcome = await take(ambiguous, raw(on, packet_id="a"), raw(on, packet_id="b"))
    assert outcome.remediations == Counter({"AMBIGUOUS_DEPOT_BATTERY": 2})
    assert await events_of(store) == []
    (question,) = await store.list_remediation("depot", 10)
    assert (question.code, tuple(question.candidates), question.count) == ("AMBIGUOUS_DEPOT_BATTERY", ("bess", "bess-2"), 2)
    settled = ingest_into(store, site(STATE, sources=(BATTERY,), circuit_id=None))
    await take(settled, raw({"key": "SOC", "value": 1}, packet_id="of something else"))
    assert await store.list_remediation("depot", 10) != []
    await take(settled, raw(on, packet_id="c"))
    assert await store.list_remediation("depot", 10) == []


async def test_a_question_is_settled_also_where_a_neighbour_of_the_batch_is_dead_lettered() -> None:
    store = InMemoryEventStore()
    on = {"key": "DEVICE_POWER_STATE", "value": "ON"}
    await take(ingest_into(store, site(STATE, sources=(BATTERY, SECOND_BATTERY), circuit_id=None)), raw(on, packet_id="a"))
    await take(ingest_into(store, site(STATE, sources=(BATTERY,), circuit_id=None)), raw(on, packet_id="b"), raw_bytes(b"bad"))
    assert await store.list_remediation("depot", 10) == []


@given(st.lists(st.booleans(), min_size=1, max_size=40))
async def test_exactly_what_can_not_be_stored_is_dead_lettered_and_the_rest_stored_in_order(
    poisoned: list[bool],
) -> None:
    store = ChoosyStore()
    packets = [soc(number, f"{POISON if bad else 'p'}-{number}") for number, bad in enumerate(poisoned)]
    outcome = await take(ingest_into(store), *packets)
    assert await references_of(store) == [f"p-{number}" for number, bad in enumerate(poisoned) if not bad]
    letters = await letters_of(store)
    assert {letter.body for letter in letters} == {one.body for one, bad in zip(packets, poisoned, strict=True) if bad}
    assert {(letter.reason_code, letter.stage, letter.device_id) for letter in letters} <= {("NOT_STORABLE", "APPLY", "dev")}
    assert outcome.packets.total() == len(packets)
    assert outcome.dead_letters.total() == sum(poisoned)


async def test_finding_one_culprit_of_a_full_batch_takes_few_transactions() -> None:
    store = ChoosyStore()
    packets = [soc(number, f"{POISON if number == 1234 else 'p'}-{number}") for number in range(2000)]
    await take(ingest_into(store), *packets)
    assert store.transactions <= 2 * 11 + 1


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionResetError("gone"),
        TimeoutError(),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.DiskFullError("No space left on device"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_database_that_is_away_is_told_to_the_caller_and_blamed_on_no_packet(fault: Exception) -> None:
    store = AbsentStore(fault)
    with pytest.raises(type(fault)):
        await take(ingest_into(store), *(soc(number) for number in range(10)))
    assert store.tries == 1
    assert await letters_of(store) == []


CAPACITY = action(UPDATE_CIRCUIT_CAPACITY, "AVAILABLE_CHARGING_CAPACITY")


async def test_packets_of_one_batch_see_what_the_ones_before_them_said_of_a_circuit() -> None:
    store = InMemoryEventStore()
    packets = [
        raw({"key": "HEARTBEAT_STATUS", "value": True}, packet_id="alive", sent_at=ago(3).isoformat()),
        raw({"key": "AVAILABLE_CHARGING_CAPACITY", "value": 900}, packet_id="capacity", sent_at=ago(2).isoformat()),
        raw({"key": "HEARTBEAT_STATUS", "value": False}, packet_id="given up", sent_at=ago(1).isoformat()),
    ]
    outcome = await take(ingest_into(store, site(CAPACITY)), *packets)
    assert outcome.heartbeats_lost == 1
    events = [event for event in await events_of(store) if "circuit_id" in event.payload]
    assert [event.event_type for event in events] == ["CircuitCapacityReported", "ControllerHeartbeatLost"]
    assert (events[0].payload["available_capacity_kw"], events[0].payload["uncut_kw"]) == (500, 900)
    assert (events[1].payload["available_capacity_kw"], events[1].payload["source"]) == (0, "FAIL_SAFE")


async def test_one_packet_alone_tells_its_outcome_action_by_action() -> None:
    ingest = ingest_into(InMemoryEventStore(), site(SOC))
    prepared = ingest.prepare(raw({"key": "SOC", "value": 1}, {"key": "SOC2", "value": 1}, {"key": "DER", "value": "no"}))
    told = packet_outcome(prepared, None)
    assert [(one.measurand, one.outcome, one.code) for one in told.actions] == [
        ("SOC", "APPLIED", None),
        ("SOC2", "IGNORED", None),
        ("DER", "REJECTED", "INVALID_VALUE"),
    ]


@asynccontextmanager
async def postgres_store(database_url: str) -> AsyncGenerator[PostgresEventStore]:
    pool = await open_pool(database_url, "test")
    try:
        yield PostgresEventStore(pool)
    finally:
        pool.terminate()


def spoiled(prepared: PreparedPacket, **fields: object) -> PreparedPacket:
    """The packet with an event that PostgreSQL can not hold, which no packet of today can cause."""
    (step,) = prepared.steps
    assert isinstance(step, Reported)
    event = msgspec.structs.replace(step.event, **fields)
    return msgspec.structs.replace(prepared, steps=(msgspec.structs.replace(step, event=event),))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"payload": {"text": "\0"}}, id="U+0000 in jsonb"),
        pytest.param({"source_event_ref": "\0"}, id="U+0000 in text"),
        pytest.param({"source_event_ref": "\ud800"}, id="lone surrogate"),
        pytest.param({"event_id": "not a uuid"}, id="no uuid"),
        pytest.param({"subject": "x" * 300_000}, id="too long for an index"),
    ],
)
async def test_what_postgresql_refuses_is_alone_in_the_dead_letters(database_url: str, fields: dict[str, object]) -> None:
    async with postgres_store(database_url) as store:
        ingest = ingest_into(store)
        batch = [ingest.prepare(soc(number)) for number in range(9)]
        batch[4] = spoiled(batch[4], **fields)
        outcome = (await ingest.store(batch)).outcome()
        assert outcome.packets == Counter({("mqtt", "STORED"): 8, ("mqtt", "DEAD_LETTERED"): 1})
        assert sorted(str(one) for one in await references_of(store)) == [f"p-{number}" for number in range(9) if number != 4]
        (letter,) = await letters_of(store)
        assert (letter.reason_code, letter.stage, letter.body) == ("NOT_STORABLE", "APPLY", soc(4).body)


async def test_a_batch_that_fails_leaves_nothing_of_it(database_url: str) -> None:
    async with postgres_store(database_url) as store:
        ingest = ingest_into(store)
        await store.pool.close()
        with pytest.raises(asyncpg.InterfaceError):
            await take(ingest, soc(1), raw_bytes(b"bad"))
    async with postgres_store(database_url) as store:
        assert (await events_of(store), await letters_of(store)) == ([], [])


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z", "1970-01-01T00:00:00Z"])
async def test_a_report_of_long_ago_is_read_back_with_the_time_that_it_had(database_url: str, moment: str) -> None:
    async with postgres_store(database_url) as store:
        await take(ingest_into(store), raw({"key": "SOC", "value": 1, "observed_at": moment}), raw({"key": "SOC", "value": 2}))
        long_ago, now = await events_of(store)
        assert long_ago.observed_at == datetime.fromisoformat(moment)
        assert await store.latest_of([now.subject or ""]) == {now.subject: (await store.follow(Position(0, 0), 10))[1]}


async def test_a_fail_safe_value_of_long_ago_does_not_keep_a_controller_from_being_heard(database_url: str) -> None:
    async with postgres_store(database_url) as store:
        ingest = ingest_into(store, site(CAPACITY))
        await take(ingest, raw({"key": "FAIL_SAFE_CAPACITY", "value": 80, "observed_at": "0001-01-01T00:00:00Z"}))
        alive = raw(
            {"key": "HEARTBEAT_STATUS", "value": True},
            {"key": "AVAILABLE_CHARGING_CAPACITY", "value": 300},
            {"key": "FAIL_SAFE_CAPACITY", "value": 90},
            packet_id="alive",
        )
        outcome = await take(ingest, alive)
        assert outcome.packets == Counter({("mqtt", "STORED"): 1})
        assert await letters_of(store) == []


_ARRIVALS = st.tuples(
    st.sampled_from(["mqtt", "kafka"]), st.sampled_from([NOW, ago(1), ago(2)]), st.sampled_from([None, "0af7", "0af8"])
)


@given(st.lists(_ARRIVALS, max_size=12))
def test_an_event_tells_how_its_own_packet_arrived_whatever_came_before(arrivals: list[tuple[str, datetime, str | None]]) -> None:
    ingest = ingest_into(InMemoryEventStore())
    for number, (source, received_at, trace_id) in enumerate(arrivals):
        arrived = msgspec.structs.replace(soc(number), source=source, received_at=received_at, trace_id=trace_id)
        (reported,) = ingest.prepare(arrived).steps
        assert isinstance(reported, Reported)
        traced = {} if trace_id is None else {"trace_id": trace_id}
        assert reported.event.metadata == {"source": source, "received_at": utc_text(received_at), **traced}
