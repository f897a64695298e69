"""Both stores let a replay walk along what waits, settle it, put it back, and try things out."""

from __future__ import annotations

from datetime import datetime

import msgspec
from tests.event_store.stores import NOW, event, health, letter, seconds

from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.store import EventStore

ANY = DeadLetterFilter()


def waiting(*ages_s: float) -> list[DeadLetter]:
    """Letters received so many seconds ago."""
    return [letter(b"%d" % number, received_at=seconds(-age_s)) for number, age_s in enumerate(ages_s)]


async def put(store: EventStore, *letters: DeadLetter) -> None:
    async with store.transaction() as transaction:
        await transaction.put_dead_letters(letters)


async def settle(store: EventStore, replayed: list[str], failed: list[DeadLetter], at: datetime = NOW) -> frozenset[str]:
    async with store.transaction() as transaction:
        return await transaction.settle_letters(replayed, failed, "alice", at)


async def test_pending_letters_are_met_once_in_the_order_of_their_receipt(store: EventStore) -> None:
    letters = waiting(5, 9, 7, 7, 1)
    await put(store, *letters)
    await settle(store, [letters[4].dead_letter_id], [])
    expected = sorted(letters[:4], key=lambda one: (one.received_at, one.dead_letter_id))
    found: list[DeadLetter] = []
    while page := await store.next_pending(ANY, NOW, (found[-1].received_at, found[-1].dead_letter_id) if found else None, 3):
        found += page
        # What fails again meanwhile keeps its place.
        await settle(store, [], [msgspec.structs.replace(one, last_failed_at=seconds(60)) for one in page])
    assert [one.dead_letter_id for one in found] == [one.dead_letter_id for one in expected]
    assert await store.count_waiting(ANY, NOW) == 4
    assert await store.count_waiting(ANY, seconds(-1)) == 0
    assert await store.count_waiting(DeadLetterFilter(dead_letter_ids=frozenset({expected[0].dead_letter_id})), NOW) == 1


async def test_a_letter_is_settled_once(store: EventStore) -> None:
    one, other = waiting(1, 2)
    await put(store, one, other)
    again = msgspec.structs.replace(other, last_failed_at=seconds(9), reason_code="UNKNOWN_DEVICE", stage="AUTHORISE")
    assert await settle(store, [one.dead_letter_id], [again]) == {one.dead_letter_id, other.dead_letter_id}
    assert await settle(store, [one.dead_letter_id], []) == frozenset()
    found = await store.get_dead_letters([one.dead_letter_id, other.dead_letter_id])
    done, waits = found[one.dead_letter_id], found[other.dead_letter_id]
    assert (done.status, done.replayed_by, done.replayed_at, done.attempts) == ("REPLAYED", "alice", NOW, 1)
    assert (waits.status, waits.attempts, waits.reason_code, waits.last_failed_at) == ("PENDING", 2, "UNKNOWN_DEVICE", seconds(9))
    assert len(await store.outbox_positions()) == 3


async def test_a_letter_that_is_gone_is_put_back_and_one_that_is_there_stays(store: EventStore) -> None:
    there, gone = waiting(1, 2)
    await put(store, there)
    await settle(store, [there.dead_letter_id], [])
    async with store.transaction() as transaction:
        await transaction.restore_letters([msgspec.structs.replace(there, detail="another"), gone])
    found = await store.get_dead_letters([there.dead_letter_id, gone.dead_letter_id])
    assert (found[there.dead_letter_id].status, found[there.dead_letter_id].detail) == ("REPLAYED", there.detail)
    assert found[gone.dead_letter_id] == gone


async def test_what_fails_wholly_after_it_failed_in_part_keeps_what_is_left_to_replay(store: EventStore) -> None:
    (one,) = waiting(1)
    await put(store, one)
    await put(store, msgspec.structs.replace(one, failed_actions=[]))
    found = await store.get_dead_letters([one.dead_letter_id])
    assert found[one.dead_letter_id].failed_actions == one.failed_actions


async def test_a_trial_sees_what_it_did_and_leaves_nothing(store: EventStore) -> None:
    await store.append([event(1)])
    async with store.trial() as trial:
        async with trial.transaction() as transaction:
            appended = await transaction.append([event(1), event(2, observed_at=seconds(5)), event(2, observed_at=seconds(5))])
            assert appended.new_ids == {event(2).event_id}
            await transaction.save_health([health(1, available_kw=7.0)])
        async with trial.transaction() as transaction:
            assert (await transaction.append([event(2, observed_at=seconds(5))])).new_ids == frozenset()
            assert (await transaction.latest_of(["device/dev/SOC"]))["device/dev/SOC"].event == event(2, observed_at=seconds(5))
            known = await transaction.lock_health([health(1).sensor_action_id])
            assert known[health(1).sensor_action_id].available_kw == 7.0
    assert [stored.event for stored in await store.history_of("device/dev/SOC", 10)] == [event(1)]
    async with store.transaction() as transaction:
        assert await transaction.lock_health([health(1).sensor_action_id]) == {}


async def test_a_transaction_of_a_trial_that_fails_leaves_nothing_in_the_trial(store: EventStore) -> None:
    class NeverMindError(Exception):
        pass

    async with store.trial() as trial:
        try:
            async with trial.transaction() as transaction:
                await transaction.append([event(1)])
                raise NeverMindError
        except NeverMindError:
            pass
        async with trial.transaction() as transaction:
            assert (await transaction.append([event(1)])).new_ids is None
