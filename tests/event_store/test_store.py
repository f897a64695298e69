"""What every event store does, the real one and its twin alike."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import msgspec
import pytest
from tests.event_store.stores import NOW, event, health, letter, seconds, uuid

from event_store.dead_letters import BODY_LIMIT, DeadLetterFilter, dead_letter_id
from event_store.read import Position
from event_store.remediation import RemediationEntry
from event_store.store import EventStore
from microgrid.capability import fold_latest, latest_key
from microgrid.events import Event

START = Position(0, 0)
ANY = DeadLetterFilter()


async def stored(store: EventStore) -> list[Event]:
    return [one.event for one in await store.follow(START, 1000)]


# --- events ---------------------------------------------------------------------------------------


async def test_an_event_comes_back_as_it_went_in(store: EventStore) -> None:
    one = event(1, payload={"big": 10**25, "float": 0.1, "small": 1e-300, "text": "\\u0000 \u2028", "deep": {"a": [None]}})
    await store.append([one])
    assert await stored(store) == [one]


async def test_an_event_about_nothing_in_no_microgrid_comes_back_too(store: EventStore) -> None:
    one = event(1, subject=None, microgrid_id=None, source_event_ref=None)
    await store.append([one])
    assert await stored(store) == [one]


async def test_appending_nothing_is_nothing(store: EventStore) -> None:
    appended = await store.append([])
    assert appended.new_ids is None
    assert await stored(store) == []


async def test_positions_follow_the_order_of_the_batch(store: EventStore) -> None:
    numbers = random.Random(7).sample(range(500), 200)
    await store.append([event(number, observed_at=seconds(-number)) for number in numbers])
    assert [one.event_id for one in await stored(store)] == [uuid(number) for number in numbers]
    positions = [one.position for one in await store.follow(START, 1000)]
    assert positions == sorted(set(positions))


async def test_an_event_that_is_there_already_is_passed_over(store: EventStore) -> None:
    assert (await store.append([event(1), event(2)])).new_ids is None
    assert (await store.append([event(2), event(3)])).new_ids == {uuid(3)}
    assert (await store.append([event(1), event(2)])).new_ids == frozenset()
    assert [one.event_id for one in await stored(store)] == [uuid(1), uuid(2), uuid(3)]


async def test_what_was_stored_first_stays(store: EventStore) -> None:
    await store.append([event(1, payload={"value": 1})])
    await store.append([event(1, payload={"value": 2}, history_only=True)])
    assert await stored(store) == [event(1, payload={"value": 1})]


async def test_an_event_twice_in_a_batch_is_stored_once(store: EventStore) -> None:
    assert (await store.append([event(1), event(2), event(1)])).new_ids == {uuid(1), uuid(2)}
    assert len(await stored(store)) == 2


async def test_each_new_event_and_no_other_waits_in_the_outbox_in_order(store: EventStore) -> None:
    await store.append([event(1), event(2, depot_id="other")])
    await store.append([event(2, depot_id="other"), event(3)])
    positions = [one.position.global_position for one in await store.follow(START, 10)]
    expected = [(depot_id, position, None) for depot_id, position in zip(("depot", "other", "depot"), positions, strict=True)]
    assert await store.outbox_positions() == expected


async def test_following_gives_pages_without_gap_or_overlap(store: EventStore) -> None:
    for start in range(0, 30, 10):
        await store.append([event(number) for number in range(start, start + 10)])
    seen: list[str] = []
    after = START
    while page := await store.follow(after, 7):
        seen += [one.event.event_id for one in page]
        after = page[-1].position
    assert seen == [uuid(number) for number in range(30)]


def random_reports(seed: int) -> list[Event]:
    chance = random.Random(seed)
    return [
        event(
            number,
            subject=chance.choice(["one", "two", "three"]),
            history_only=chance.random() < 0.3,
            observed_at=seconds(chance.randrange(3)),
            sent_at=seconds(chance.randrange(3)),
        )
        for number in chance.sample(range(1000), 40)
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_the_latest_of_a_subject_is_what_folding_its_history_gives(store: EventStore, seed: int) -> None:
    reports = random_reports(seed)
    for start in range(0, len(reports), 9):
        await store.append(reports[start : start + 9])
    latest = await store.latest_of(["three", "one", "two", "one", "never heard of"])
    assert {subject: one.event for subject, one in latest.items()} == fold_latest(reports)


@pytest.mark.parametrize("seed", range(2))
async def test_history_is_newest_observation_first_with_what_never_counted(store: EventStore, seed: int) -> None:
    reports = random_reports(seed)
    await store.append(reports)
    expected = sorted((one for one in reports if one.subject == "one"), key=latest_key, reverse=True)
    assert any(one.history_only for one in expected)
    for limit in (1, 5, 100):
        assert [one.event for one in await store.history_of("one", limit)] == expected[:limit]


# --- transactions ---------------------------------------------------------------------------------


async def test_an_error_inside_a_transaction_leaves_nothing_of_it(store: EventStore) -> None:
    await store.append([event(1)])
    with pytest.raises(RuntimeError, match="pulled"):  # noqa: PT012 - what was done before the error is the point
        async with store.transaction() as transaction:
            await transaction.append([event(2)])
            await transaction.put_dead_letters([letter()])
            await transaction.put_remediation([question()])
            await transaction.lock_health([uuid(1)])
            await transaction.save_health([health(1)])
            raise RuntimeError("plug pulled")
    assert await stored(store) == [event(1)]
    assert len(await store.outbox_positions()) == 1
    assert await store.list_dead_letters(ANY, 10) == []
    assert await store.list_remediation("depot", 10) == []
    async with store.transaction() as transaction:
        assert await transaction.lock_health([uuid(1)]) == {}


async def test_a_transaction_stores_events_and_letters_in_the_order_in_which_they_were_given(store: EventStore) -> None:
    async with store.transaction() as transaction:
        await transaction.append([event(1)])
        await transaction.put_dead_letters([letter(b"a"), letter(b"b")])
        await transaction.append([event(2)])
    letters = {one.body: one.dead_letter_id for one in await store.list_dead_letters(ANY, 10)}
    first, second = [one.position.global_position for one in await store.follow(START, 10)]
    assert await store.outbox_positions() == [
        ("depot", first, None),
        ("dead-letter", None, letters[b"a"]),
        ("dead-letter", None, letters[b"b"]),
        ("depot", second, None),
    ]


# --- dead letters ---------------------------------------------------------------------------------


async def put(store: EventStore, *letters: Any) -> None:
    async with store.transaction() as transaction:
        await transaction.put_dead_letters(letters)


async def test_a_letter_comes_back_as_it_went_in(store: EventStore) -> None:
    one = letter(b"\x00\xff{", key=b"\x00dev", partition=3, offset=2**40, trace_id="0" * 32)
    await put(store, one)
    assert await store.list_dead_letters(ANY, 10) == [one]


async def test_a_redelivered_letter_is_one_more_attempt_of_the_same_letter(store: EventStore) -> None:
    await put(store, letter())
    again = letter(first_failed_at=seconds(5), last_failed_at=seconds(5), received_at=seconds(5), reason_code="UNKNOWN_DEVICE")
    await put(store, again)
    assert await store.list_dead_letters(ANY, 10) == [
        msgspec.structs.replace(again, attempts=2, first_failed_at=NOW, received_at=NOW)
    ]
    assert [one[2] for one in await store.outbox_positions()] == [again.dead_letter_id] * 2


async def test_a_letter_that_failed_twice_within_a_batch_is_stored_once_with_two_attempts(store: EventStore) -> None:
    await put(store, letter(), letter(b"other"), letter(last_failed_at=seconds(1)))
    found = {one.body: one for one in await store.list_dead_letters(ANY, 10)}
    assert (found[b"not json"].attempts, found[b"not json"].last_failed_at) == (2, seconds(1))
    assert found[b"other"].attempts == 1
    assert len(await store.outbox_positions()) == 2


async def test_a_letter_is_pending_again_whatever_it_was_said_to_be(store: EventStore) -> None:
    await put(store, letter(status="REPLAYED"))
    assert [one.status for one in await store.list_dead_letters(ANY, 10)] == ["PENDING"]


@pytest.mark.parametrize(("length", "kept"), [(BODY_LIMIT, BODY_LIMIT), (BODY_LIMIT + 1, BODY_LIMIT), (10_000_000, BODY_LIMIT)])
async def test_a_body_is_kept_up_to_its_bound_with_full_length_and_hash(store: EventStore, length: int, kept: int) -> None:
    body = b"x" * length
    await put(store, letter(body))
    (found,) = await store.list_dead_letters(ANY, 10)
    assert found.body == body[:kept]
    assert (found.body_length, found.body_sha256) == (length, hashlib.sha256(body).hexdigest())


async def test_a_letter_with_characters_that_no_database_holds_is_kept_with_them_replaced(store: EventStore) -> None:
    await put(store, letter(detail="a\0b", topic="t\ud800", headers={"na\0me": "val\0ue\udfff"}, trace_id="\0", device_id="d\0"))
    (found,) = await store.list_dead_letters(ANY, 10)
    assert (found.detail, found.topic, found.headers) == ("a\ufffdb", "t\ufffd", {"na\ufffdme": "val\ufffdue\ufffd"})


async def test_letters_are_listed_last_failed_first_and_by_every_filter(store: EventStore) -> None:
    letters = [
        letter(bytes([number]), last_failed_at=seconds(number), **fields)
        for number, fields in enumerate(
            [
                {"reason_code": "A"},
                {"stage": "ROUTE"},
                {"depot_id": None},
                {"gateway_id": "gw-2"},
                {"device_id": "dev-2"},
                {},
            ]
        )
    ]
    await put(store, *letters)

    async def found(**wanted: Any) -> list[int]:
        return [one.body[0] for one in await store.list_dead_letters(DeadLetterFilter(**wanted), 10)]

    assert await found() == [5, 4, 3, 2, 1, 0]
    assert await found(reason_code="A") == [0]
    assert await found(stage="ROUTE") == [1]
    assert await found(depot_id="depot") == [5, 4, 3, 1, 0]
    assert await found(gateway_id="gw-2") == [3]
    assert await found(device_id="dev-2") == [4]
    assert await found(status="DISCARDED") == []
    assert await found(since=seconds(2), until=seconds(4)) == [3, 2]
    assert len(await store.list_dead_letters(ANY, 2)) == 2


@pytest.mark.parametrize(
    "other",
    [
        ("kafka", "topic", b"key", 1, 5, b"body"),
        ("mqtt", "topic2", b"key", 1, 5, b"body"),
        ("mqtt", "topic", b"key2", 1, 5, b"body"),
        ("mqtt", "topic", b"key", 2, 5, b"body"),
        ("mqtt", "topic", b"key", 1, 6, b"body"),
        ("mqtt", "topic", b"key", 1, 5, b"body2"),
    ],
)
def test_source_topic_key_position_and_body_make_a_letter_what_it_is(other: Any) -> None:
    assert dead_letter_id("mqtt", "topic", b"key", 1, 5, b"body") == dead_letter_id("mqtt", "topic", b"key", 1, 5, b"body")
    assert dead_letter_id("mqtt", "topic", b"key", 1, 5, b"body") != dead_letter_id(*other)


def test_any_topic_and_source_make_an_identity_and_it_stays_what_it_was_in_every_release() -> None:
    assert dead_letter_id("mqtt", "t\ud800", None, None, None, b"") != dead_letter_id("mqtt", "t\ud801", None, None, None, b"")
    assert dead_letter_id("mqtt", "iot/v1/g/d/packet", None, None, None, b"x") == "06d5834b-b0db-5b14-9f82-0e5e45c166ed"


# --- remediation ----------------------------------------------------------------------------------


def question(at: float = 0, count: int = 1, **fields: Any) -> RemediationEntry:
    known: dict[str, Any] = {
        "depot_id": "depot",
        "device_id": "dev",
        "measurand": "ACTIVE_POWER",
        "action": "UPDATE_POWER_SOURCE_LOAD",
        "code": "AMBIGUOUS_DEPOT_BATTERY",
        "candidates": ("bess", "bess-2"),
        "first_at": seconds(at),
        "last_at": seconds(at),
        "count": count,
    }
    return RemediationEntry(**{**known, **fields})


async def ask(store: EventStore, *entries: RemediationEntry) -> None:
    async with store.transaction() as transaction:
        await transaction.put_remediation(entries)


async def test_the_same_question_is_counted_between_its_first_and_last_time_with_the_newest_candidates(store: EventStore) -> None:
    await ask(store, question(5), question(9), question(7))
    await ask(store, question(1, count=4, candidates=("bess",)))
    (found,) = await store.list_remediation("depot", 10)
    assert found == question(count=7, first_at=seconds(1), last_at=seconds(9), candidates=("bess",))


async def test_questions_are_listed_by_depot_in_order(store: EventStore) -> None:
    keys = [(device, measurand, code) for device in ("a", "b") for measurand in ("m", "n") for code in ("X", "Y")]
    entries = [question(device_id=device, measurand=measurand, code=code) for device, measurand, code in keys]
    await ask(store, *reversed(entries), question(depot_id="other", device_id="c"))
    assert await store.list_remediation("depot", 100) == entries
    assert await store.list_remediation("depot", 3) == entries[:3]


async def test_what_applied_settles_every_question_about_it_and_no_other(store: EventStore) -> None:
    others = [question(device_id="dev-2"), question(measurand="SOC"), question(action="UPDATE_CIRCUIT_CAPACITY")]
    await ask(store, question(), question(code="NO_POWER_SOURCE"), *others)
    await store.settle_remediation([("dev", "ACTIVE_POWER", "UPDATE_POWER_SOURCE_LOAD"), ("nobody", "x", "y")])
    assert {one.key for one in await store.list_remediation("depot", 10)} == {one.key for one in others}


async def test_an_append_tells_whether_there_is_any_open_question(store: EventStore) -> None:
    assert not (await store.append([event(1)])).open_remediation
    await ask(store, question())
    assert (await store.append([event(2)])).open_remediation
    await store.settle_remediation([question().key[:3]])
    assert not (await store.append([event(3)])).open_remediation


# --- health ---------------------------------------------------------------------------------------


async def test_health_comes_back_as_it_was_saved_and_only_where_there_is_some(store: EventStore) -> None:
    full = health(
        1,
        status="OK",
        heartbeat_at=seconds(1),
        lost_from=seconds(2),
        deadline_at=seconds(3),
        available_kw=4.5,
        available_at=seconds(4),
        fail_safe_kw=0.0,
        fail_safe_at=seconds(5),
        capacity_at=seconds(6),
    )
    async with store.transaction() as transaction:
        assert await transaction.lock_health([uuid(2), uuid(1)]) == {}
        await transaction.save_health([full, health(2, microgrid_id=None)])
    async with store.transaction() as transaction:
        assert await transaction.lock_health([uuid(3), uuid(2), uuid(1)]) == {
            uuid(1): full,
            uuid(2): health(2, microgrid_id=None),
        }
        await transaction.save_health([health(1, status="LOST")])
        await transaction.save_health([])
    async with store.transaction() as transaction:
        assert await transaction.lock_health([uuid(1)]) == {uuid(1): health(1, status="LOST")}


async def test_overdue_health_is_what_has_a_deadline_up_to_now_oldest_first(store: EventStore) -> None:
    deadlines: dict[int, float | None] = {1: 10, 2: 5, 3: None, 4: 10.000001, 5: 5}
    async with store.transaction() as transaction:
        await transaction.save_health(
            [health(number, deadline_at=None if at is None else seconds(at)) for number, at in deadlines.items()]
        )
    async with store.transaction() as transaction:
        assert [one.sensor_action_id for one in await transaction.lock_overdue(seconds(10), 10)] == [uuid(2), uuid(5), uuid(1)]
        assert len(await transaction.lock_overdue(seconds(10), 2)) == 2
        assert await transaction.lock_overdue(seconds(4.9), 10) == []
