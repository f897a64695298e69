"""Dead letters go through the pipeline once more: done or waiting, never lost, never twice, and a trial tells it all beforehand."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.microgrid.sites import BATTERY, NOW, SECOND_ACTION_ID, SECOND_BATTERY, action, ago, site
from tests.site_operations.test_ingest import (
    CAPACITY,
    POISON,
    SOC,
    STATE,
    events_of,
    letters_of,
    postgres_store,
    raw,
    raw_bytes,
    references_of,
    soc,
    take,
)

from event_store.append import Appended
from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.memory import InMemoryEventStore
from event_store.store import EventStore, PostgresEventStore, StoreTransaction
from microgrid.directory import SiteDirectory
from microgrid.events import Event
from microgrid.reporting import CapacityStep, Ignored, Reported, Step
from microgrid.site_model import UPDATE_POWER_SOURCE_LOAD, Site
from sensor_packet.packet import ClaimedIdentity
from site_operations import replay as replay_module
from site_operations.ingest import Ingest, RawPacket
from site_operations.replay import LetterReport, Replay, only_failed, packet_of, walk

ANY = DeadLetterFilter()
LATER = NOW + timedelta(minutes=10)
ON = {"key": "DEVICE_POWER_STATE", "value": "ON"}
AMBIGUOUS = site(STATE, SOC, sources=(BATTERY, SECOND_BATTERY), circuit_id=None)
SETTLED = site(STATE, SOC, sources=(BATTERY,), circuit_id=None)


def ingest_at(store: EventStore, moment: datetime, *sites: Site) -> Ingest:
    return Ingest(store, SiteDirectory(sites), lambda: moment)


async def receive(store: EventStore, *packets: RawPacket, at: Sequence[Site] = ()) -> list[DeadLetter]:
    """Take packets in at depots that are configured so; gives the letters."""
    await take(ingest_at(store, NOW, *at), *packets)
    return await letters_of(store)


async def replay(store: EventStore, *sites: Site, moment: datetime = LATER, **wanted: Any) -> list[LetterReport]:
    """Replay what is wanted at depots that are configured so now."""
    replaying = Replay(store, store, ingest_at(store, moment, *sites), lambda: moment, "alice")
    return [one async for reports in walk(replaying, store, DeadLetterFilter(**wanted), begun_at=moment) for one in reports]


async def try_out(store: EventStore, *sites: Site, moment: datetime = LATER) -> list[LetterReport]:
    async with store.trial() as trial:
        replaying = Replay(store, trial, ingest_at(store, moment, *sites), lambda: moment, "alice")
        return [one async for reports in walk(replaying, store, ANY, begun_at=moment) for one in reports]


def outcomes(reports: Sequence[LetterReport]) -> list[tuple[str, str | None]]:
    return [(one.outcome, one.code) for one in reports]


async def test_what_was_repaired_is_stored_as_it_would_have_been_at_the_time() -> None:
    store, untroubled = InMemoryEventStore(), InMemoryEventStore()
    await receive(store, soc(50))
    (report,) = await replay(store, site(SOC))
    assert report.outcome == "STORED"
    await receive(untroubled, soc(50), at=[site(SOC)])
    assert await events_of(store) == await events_of(untroubled)
    (letter,) = await letters_of(store)
    assert (letter.status, letter.replayed_by, letter.replayed_at, letter.attempts) == ("REPLAYED", "alice", LATER, 1)


async def test_replaying_twice_does_nothing_the_second_time() -> None:
    store = InMemoryEventStore()
    await receive(store, soc(50))
    await replay(store, site(SOC))
    before = await letters_of(store)
    assert await replay(store, site(SOC)) == []
    assert (await letters_of(store), await references_of(store)) == (before, ["p-50"])


async def test_a_letter_that_fails_again_is_the_same_letter_with_one_more_attempt_and_the_new_reason() -> None:
    store = InMemoryEventStore()
    (before,) = await receive(store, soc(50))
    other_gateway = dataclasses.replace(site(SOC), devices=(dataclasses.replace(site(SOC).devices[0], gateway_id="other"),))
    assert outcomes(await replay(store, other_gateway)) == [("DEAD_LETTERED", "DEVICE_NOT_OWNED")]
    (after,) = await letters_of(store)
    assert (after.dead_letter_id, after.status, after.attempts) == (before.dead_letter_id, "PENDING", 2)
    assert (after.reason_code, after.last_failed_at, after.first_failed_at) == ("DEVICE_NOT_OWNED", LATER, before.first_failed_at)
    assert (after.body, after.received_at) == (before.body, before.received_at)
    assert await store.outbox_positions() == [("dead-letter", None, before.dead_letter_id)] * 2


async def test_only_the_actions_that_failed_are_replayed() -> None:
    store = InMemoryEventStore()
    await receive(store, raw({"key": "SOC", "value": 50}, ON), at=[AMBIGUOUS])
    also = action(UPDATE_POWER_SOURCE_LOAD, "SOC", sensor_action_id=SECOND_ACTION_ID)
    changed = dataclasses.replace(SETTLED, sensor_actions=(*SETTLED.sensor_actions, also))
    (report,) = await replay(store, changed)
    assert [(one.measurand, one.action, one.outcome) for one in report.actions] == [
        ("DEVICE_POWER_STATE", "UPDATE_POWER_SOURCE_STATE", "APPLIED")
    ]
    assert [event.event_type for event in await events_of(store)] == ["MeasurementRecorded", "PowerSourceStateReported"]
    assert await store.list_remediation("depot", 10) == []


@pytest.mark.parametrize(
    ("failed", "replayed"),
    [
        ([], ["SOC", "SOC", "DEVICE_POWER_STATE", "AVAILABLE_CHARGING_CAPACITY+HEARTBEAT_STATUS", "HEARTBEAT_STATUS"]),
        ([("/measurands/0/value", None)], ["SOC", "SOC"]),
        ([("/measurands/0", "RECORD_MEASUREMENT")], ["SOC"]),
        ([("/measurands/1", "UPDATE_POWER_SOURCE_STATE")], ["DEVICE_POWER_STATE"]),
        ([("/measurands/1", "RECORD_MEASUREMENT")], []),
        ([("/measurands/2", "UPDATE_CIRCUIT_CAPACITY")], ["AVAILABLE_CHARGING_CAPACITY+HEARTBEAT_STATUS"]),
        ([("/measurands/2/value", None)], ["AVAILABLE_CHARGING_CAPACITY"]),
        ([("/measurands/3/value", None)], ["HEARTBEAT_STATUS", "HEARTBEAT_STATUS"]),
        ([("/measurands/13/value", None)], []),
    ],
)
def test_what_failed_is_found_again_by_its_place_and_action(failed: list[tuple[str, str | None]], replayed: list[str]) -> None:
    """A measurand that was bad itself stands for all of its actions; of a capacity's measurands only those that were bad act."""
    controller = dataclasses.replace(CAPACITY, sensor_action_id=SECOND_ACTION_ID)
    twice = action(UPDATE_POWER_SOURCE_LOAD, "SOC", sensor_action_id="00000000-0000-7000-8000-000000000009")
    ingest = ingest_at(InMemoryEventStore(), NOW, site(SOC, twice, STATE, controller, sources=(BATTERY,)))
    measurands = (
        {"key": "SOC", "value": 50},
        ON,
        {"key": "AVAILABLE_CHARGING_CAPACITY", "value": 300},
        {"key": "HEARTBEAT_STATUS", "value": True},
    )
    named = [{"pointer": pointer, "measurand": "", "action": kind, "code": ""} for pointer, kind in failed]
    kept = only_failed(ingest.prepare(raw(*measurands)), named)

    def name(step: Step) -> str:
        if isinstance(step, CapacityStep):
            return "+".join(part.key for part in (step.capacity, step.heartbeat, step.fail_safe) if part is not None)
        return step.measurand or ""

    assert [name(step) for step in kept.steps if not isinstance(step, Ignored)] == replayed


async def test_of_several_failed_actions_those_that_still_fail_are_what_is_left() -> None:
    store = InMemoryEventStore()
    bad = {"key": "DISPATCH_STATE", "value": "HOVERING"}
    (before,) = await receive(store, raw(bad, ON), at=[AMBIGUOUS])
    assert len(before.failed_actions) == 2
    assert outcomes(await replay(store, SETTLED)) == [("DEAD_LETTERED", "INVALID_VALUE")]
    (after,) = await letters_of(store)
    assert [one["measurand"] for one in after.failed_actions] == ["DISPATCH_STATE"]
    assert len(await events_of(store)) == 1


async def test_a_packet_that_is_refused_whole_now_keeps_the_actions_that_are_left_to_replay() -> None:
    store = InMemoryEventStore()
    (before,) = await receive(store, raw({"key": "SOC", "value": 50}, ON), at=[AMBIGUOUS])
    assert outcomes(await replay(store)) == [("DEAD_LETTERED", "UNKNOWN_DEVICE")]
    (after,) = await letters_of(store)
    assert after.failed_actions == before.failed_actions
    await take(ingest_at(store, LATER), raw({"key": "SOC", "value": 50}, ON))
    assert (await letters_of(store))[0].failed_actions == before.failed_actions
    (report,) = await replay(store, SETTLED)
    assert [one.measurand for one in report.actions] == ["DEVICE_POWER_STATE"]


async def test_what_nobody_asks_for_any_more_is_ignored_and_done() -> None:
    store = InMemoryEventStore()
    await receive(store, raw(ON), at=[AMBIGUOUS])
    assert outcomes(await replay(store, site(SOC))) == [("IGNORED", None)]
    assert [one.status for one in await letters_of(store)] == ["REPLAYED"]


async def test_a_letter_whose_bytes_are_not_all_there_waits_as_before() -> None:
    store = InMemoryEventStore()
    cut, *_ = before = await receive(store, raw_bytes(b"x" * 70_000))
    dropped = msgspec.structs.replace(cut, dead_letter_id="0" * 8 + cut.dead_letter_id[8:], body=b"", body_dropped_at=NOW)
    reports = await Replay(store, store, ingest_at(store, LATER), lambda: LATER, "alice").batch([cut, dropped])
    assert outcomes(reports) == [("NOT_REPLAYABLE", "BODY_TRUNCATED"), ("NOT_REPLAYABLE", "BODY_DROPPED")]
    assert await letters_of(store) == before


async def test_an_old_promise_of_a_controller_is_history_and_its_loss_is_told_with_the_letter() -> None:
    store = InMemoryEventStore()
    controller = site(CAPACITY, dataclasses.replace(SOC, sensor_action_id=SECOND_ACTION_ID))
    alive = raw({"key": "HEARTBEAT_STATUS", "value": True}, packet_id="alive", sent_at=ago(2).isoformat())
    await receive(store, alive, at=[controller])
    promise = raw({"key": "AVAILABLE_CHARGING_CAPACITY", "value": 300}, packet_id="c", sent_at=ago(1).isoformat())
    before, after = (msgspec.structs.replace(soc(number), received_at=ago(-number)) for number in (-1, 1))
    await receive(store, before, promise, after)
    reports = await replay(store, controller)
    assert [[(one.event_type, one.is_latest) for one in report.difference] for report in reports] == [
        [("MeasurementRecorded", True)],
        [("ControllerHeartbeatLost", True), ("CircuitCapacityReported", False)],
        [("MeasurementRecorded", True)],
    ]


class _Choosy:
    """Transactions that refuse events of packets whose id begins with `poison`, as PostgreSQL refuses what it can not hold."""

    def __init__(self, store: InMemoryEventStore) -> None:
        self._store = store

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[StoreTransaction]:
        async with self._store.transaction() as transaction:
            append = transaction.append

            async def choosy(events: Sequence[Event]) -> Appended:
                if any((event.source_event_ref or "").startswith(POISON) for event in events):
                    raise asyncpg.DataError("unsupported Unicode escape sequence")
                return await append(events)

            vars(transaction)["append"] = choosy
            yield transaction


@given(st.lists(st.booleans(), min_size=1, max_size=30))
async def test_exactly_what_can_not_be_stored_fails_again_and_the_rest_is_done(poisoned: list[bool]) -> None:
    store = InMemoryEventStore()
    await receive(store, *(soc(number, f"{POISON if bad else 'p'}-{number}") for number, bad in enumerate(poisoned)))
    replaying = Replay(store, _Choosy(store), ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice")
    reports = [one async for some in walk(replaying, store, ANY, begun_at=LATER) for one in some]
    assert sorted(outcomes(reports), key=str) == sorted(
        [("DEAD_LETTERED", "NOT_STORABLE") if bad else ("STORED", None) for bad in poisoned], key=str
    )
    assert [one.stage for one in await letters_of(store) if one.status == "PENDING"] == ["APPLY"] * sum(poisoned)


def test_a_kafka_letter_claims_its_key_and_one_of_an_unknown_way_nobody() -> None:
    letter = msgspec.structs.replace(_letter(), source="kafka", topic="iot.sensor-packet.v1", key=b"dev")
    assert packet_of(letter).claimed == ClaimedIdentity(None, "dev")
    assert packet_of(msgspec.structs.replace(letter, key=None)).claimed == ClaimedIdentity(None, "")
    assert packet_of(msgspec.structs.replace(letter, source="pigeon")).claimed == ClaimedIdentity("", "")


def _letter() -> DeadLetter:
    store = InMemoryEventStore()
    return asyncio.run(receive(store, soc(1)))[0]


async def test_letters_are_chosen_by_filter_first_received_first_and_no_more_than_asked_for() -> None:
    store = InMemoryEventStore()
    packets = [msgspec.structs.replace(soc(number), received_at=NOW - timedelta(seconds=number)) for number in range(250)]
    await receive(store, *packets, raw_bytes(b"bad"))
    assert await replay(store, site(SOC), reason_code="NOT_A_CODE") == []
    replaying = Replay(store, store, ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice")
    wanted = DeadLetterFilter(reason_code="UNKNOWN_DEVICE")
    batches = [some async for some in walk(replaying, store, wanted, begun_at=LATER, most=201)]
    assert [len(some) for some in batches] == [100, 100, 1]
    assert await references_of(store) == [f"p-{number}" for number in range(249, 48, -1)]


async def test_letters_that_fail_after_a_replay_began_are_left_to_the_next() -> None:
    store = InMemoryEventStore()
    await receive(store, soc(1))
    replaying = Replay(store, store, ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice")
    assert [some async for some in walk(replaying, store, ANY, begun_at=ago(1))] == []


class _StandingLoop:
    """Stands in for asyncio where time is told and waited for: it passes by waiting alone."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def get_running_loop(self) -> _StandingLoop:
        return self

    def time(self) -> float:
        return self.passed_s

    async def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


async def test_a_replay_keeps_its_pace_and_breathes_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    store, loop = InMemoryEventStore(), _StandingLoop()
    monkeypatch.setattr(replay_module, "asyncio", loop)
    await receive(store, *(soc(number) for number in range(2)))
    replaying = Replay(store, store, ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice")
    sizes = [len(some) async for some in walk(replaying, store, ANY, begun_at=LATER, rate_per_s=0.9)]
    assert sizes == [1, 0, 1, 0]
    assert loop.passed_s == pytest.approx(2 / 0.9)


async def test_a_replay_that_stops_half_way_leaves_each_letter_done_or_waiting() -> None:
    store = InMemoryEventStore()
    await receive(store, *(soc(number) for number in range(150)))
    replaying = Replay(store, store, ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice")
    walking = walk(replaying, store, ANY, begun_at=LATER)
    await anext(walking)
    await walking.aclose()
    statuses = [one.status for one in await letters_of(store)]
    assert (statuses.count("REPLAYED"), statuses.count("PENDING")) == (100, 50)
    assert len(await events_of(store)) == 100


_VALUES: dict[str, list[object]] = {
    "SOC": [50, 101, "much"],
    "DEVICE_POWER_STATE": ["ON", "OFF", "HOVERING"],
    "AVAILABLE_CHARGING_CAPACITY": [300, 900, -1],
    "HEARTBEAT_STATUS": [True, False, 7],
    "FAIL_SAFE_CAPACITY": [80, 60, "x"],
}
_measurands = st.lists(
    st.one_of([st.fixed_dictionaries({"key": st.just(key), "value": st.sampled_from(values)}) for key, values in _VALUES.items()]),
    max_size=4,
)


def _packet(measurands: list[dict[str, object]], number: int, age_s: int, device_id: str) -> RawPacket:
    return raw(*measurands, packet_id=f"p-{number}", sent_at=ago(age_s).isoformat(), device_id=device_id)


_packets = st.lists(
    st.one_of(
        st.builds(
            _packet,
            _measurands,
            st.integers(0, 6),
            st.integers(0, 90),
            st.sampled_from(["dev", "dev", "dev", "nobody"]),
        ),
        st.builds(raw_bytes, st.sampled_from([b"bad", b"worse", b"x" * 70_000])),
    ),
    max_size=12,
)
_sites = st.sampled_from(
    [
        [],
        [AMBIGUOUS],
        [SETTLED],
        [site(CAPACITY, dataclasses.replace(SOC, sensor_action_id=SECOND_ACTION_ID))],
        [site(dataclasses.replace(CAPACITY, circuit_id="nowhere"))],
    ]
)


@given(_packets, _packets, _sites, _sites, _sites, st.integers(0, 100))
async def test_a_trial_tells_what_a_replay_then_does_and_changes_nothing(
    first: list[RawPacket], then: list[RawPacket], at: list[Site], later: list[Site], now: list[Site], after_s: int
) -> None:
    store = InMemoryEventStore()
    await receive(store, *first, at=at)
    await receive(store, *then, at=later)
    before = copy.deepcopy(vars(store)["_state"])
    moment = NOW + timedelta(seconds=after_s)
    told = await try_out(store, *now, moment=moment)
    assert vars(store)["_state"] == before
    assert await replay(store, *now, moment=moment) == told
    new = [one.event_id for one in (await events_of(store))[len(before.events) :]]
    assert sorted(change.event_id for report in told for change in report.difference) == sorted(new)


_CHECKSUMS = "SELECT string_agg(md5(t::text), '' ORDER BY md5(t::text)) FROM {} AS t"


async def checksums(store: PostgresEventStore) -> dict[str, object]:
    """Every table's content."""
    pool = store.pool
    names = [row[0] for row in await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {name: await pool.fetchval(_CHECKSUMS.format(name)) for name in names}


def _mixture() -> list[RawPacket]:
    """Two hundred packets of every fate, some of them of one packet id."""
    return [_one_of_a_mixture(number) for number in range(200)]


def _one_of_a_mixture(number: int) -> RawPacket:
    def aged(*measurands: dict[str, object], name: str, age_s: int) -> RawPacket:
        return raw(*measurands, packet_id=name, sent_at=ago(age_s).isoformat())

    match number % 5:
        case 0:
            return soc(number % 150)
        case 1:
            return aged({"key": "SOC", "value": number}, {**ON}, name=f"m-{number % 60}", age_s=number % 50)
        case 2:
            return aged({"key": "HEARTBEAT_STATUS", "value": number % 2 == 0}, name=f"h-{number}", age_s=number % 90)
        case 3:
            return aged({"key": "AVAILABLE_CHARGING_CAPACITY", "value": number}, name=f"c-{number}", age_s=number % 70)
        case _:
            return raw_bytes(b"bad %d" % number)


async def test_a_trial_in_postgresql_changes_no_table_and_tells_what_a_replay_then_does(database_url: str) -> None:
    async with postgres_store(database_url) as store:
        packets = _mixture()
        await receive(store, *packets[:40], at=[site(SOC, dataclasses.replace(CAPACITY, sensor_action_id=SECOND_ACTION_ID))])
        await receive(store, *packets)
        now = site(SOC, dataclasses.replace(CAPACITY, sensor_action_id=SECOND_ACTION_ID))
        moment = NOW + timedelta(seconds=70)
        before = await checksums(store)
        told = await try_out(store, now, moment=moment)
        assert await checksums(store) == before
        assert await replay(store, now, moment=moment) == told
        assert {one.outcome for one in told} == {"STORED", "DUPLICATE", "DEAD_LETTERED"}
        assert any(change.event_type == "ControllerHeartbeatLost" for one in told for change in one.difference)
        assert await replay(store, now, moment=moment, reason_code="UNKNOWN_DEVICE") == []


async def test_a_trial_in_postgresql_finds_what_could_not_be_stored(database_url: str) -> None:
    async with postgres_store(database_url) as store, store.trial() as trial:
        ingest = ingest_at(store, NOW, site(SOC))
        prepared = ingest.prepare(soc(1))
        (step,) = prepared.steps
        assert isinstance(step, Reported)
        event = step.event
        for wrong in ({"payload": {"text": "\0"}}, {"source_event_ref": "\0"}, {"event_id": "not a uuid"}):
            with pytest.raises((asyncpg.DataError, ValueError)):
                async with trial.transaction() as transaction:
                    await transaction.append([msgspec.structs.replace(event, **wrong)])
        async with trial.transaction() as transaction:
            assert (await transaction.append([event, event])).new_ids == frozenset({event.event_id})
        async with trial.transaction() as transaction:
            assert (await transaction.append([event])).new_ids == frozenset()
            assert (await transaction.latest_of([event.subject or ""]))[event.subject or ""].event == event


async def test_two_replays_at_once_do_each_letter_once(database_url: str) -> None:
    async with postgres_store(database_url) as store:
        await receive(store, *(soc(number) for number in range(300)), raw_bytes(b"bad"))
        both = await asyncio.gather(replay(store, site(SOC)), replay(store, site(SOC)))
        done = [one.dead_letter_id for reports in both for one in reports if one.outcome == "STORED"]
        assert (len(done), len(set(done)), len(await events_of(store))) == (300, 300, 300)
        assert {one.status for one in await letters_of(store) if one.reason_code == "UNKNOWN_DEVICE"} == {"REPLAYED"}


async def test_a_letter_that_is_discarded_while_it_is_replayed_stays_out_of_the_store(database_url: str) -> None:
    async with postgres_store(database_url) as store:
        letters = await receive(store, soc(1), soc(2))
        await store.pool.execute(
            "UPDATE dead_letter SET status = 'DISCARDED' WHERE dead_letter_id = $1::uuid", letters[0].dead_letter_id
        )
        reports = await Replay(store, store, ingest_at(store, LATER, site(SOC)), lambda: LATER, "alice").batch(letters)
        assert [one.dead_letter_id for one in reports] == [letters[1].dead_letter_id]
        (stored,) = await references_of(store)
        assert json.loads(letters[1].body)["packet_id"] == stored
