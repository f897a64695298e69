"""A heartbeat that is overdue is noticed by the clock, once, however many sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import msgspec
import pytest
from tests.microgrid.sites import NOW, site

from event_store.database import open_pool
from event_store.memory import InMemoryEventStore
from event_store.read import Position
from event_store.store import EventStore, PostgresEventStore
from microgrid.circuit_capacity import ControllerHealth
from microgrid.directory import SiteDirectory
from microgrid.events import Event
from site_operations.sweep_heartbeats import ROWS_AT_ONCE, sweep_heartbeats

TIMEOUT = timedelta(seconds=60)


def health(number: int = 1, **fields: object) -> ControllerHealth:
    """A controller that was last heard at NOW and may draw 300 kW, 80 kW without it."""
    heard = ControllerHealth(
        f"00000000-0000-7000-8000-{number:012d}",
        f"dev-{number}",
        "gw",
        "depot",
        None,
        "gc-1",
        status="OK",
        heartbeat_at=NOW,
        deadline_at=NOW + TIMEOUT,
        available_kw=300.0,
        available_at=NOW,
        fail_safe_kw=80.0,
        fail_safe_at=NOW,
        capacity_at=NOW,
    )
    return msgspec.structs.replace(heard, **fields)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.services)])
async def store(request: pytest.FixtureRequest) -> AsyncGenerator[EventStore]:
    if request.param == "memory":
        yield InMemoryEventStore()
        return
    pool = await open_pool(request.getfixturevalue("database_url"), "test")
    yield PostgresEventStore(pool)
    pool.terminate()


DIRECTORY = SiteDirectory((site(),))


async def save(store: EventStore, *healths: ControllerHealth) -> None:
    async with store.transaction() as transaction:
        await transaction.save_health(healths)


async def losses(store: EventStore) -> list[Event]:
    return [stored.event for stored in await store.follow(Position(0, 0), 10_000)]


async def test_an_overdue_heartbeat_lets_the_circuit_fall_back_to_the_fail_safe_capacity(store: EventStore) -> None:
    await save(store, health())
    assert await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) == 1
    (loss,) = await losses(store)
    assert (loss.event_type, loss.history_only) == ("ControllerHeartbeatLost", False)
    assert (loss.payload["available_capacity_kw"], loss.payload["source"], loss.payload["heartbeat"]) == (80, "FAIL_SAFE", "LOST")
    async with store.transaction() as transaction:
        after = await transaction.lock_health([health().sensor_action_id])
    assert [(one.status, one.deadline_at) for one in after.values()] == [("LOST", None)]


async def test_a_heartbeat_is_not_overdue_before_its_deadline(store: EventStore) -> None:
    await save(store, health())
    assert await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT - timedelta(milliseconds=1)) == 0
    assert await losses(store) == []


async def test_a_loss_is_found_once(store: EventStore) -> None:
    await save(store, health())
    assert [await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) for _ in range(3)] == [1, 0, 0]
    assert len(await losses(store)) == 1


async def test_sweepers_at_the_same_time_find_each_loss_once(store: EventStore) -> None:
    await save(store, *(health(number) for number in range(1, 51)))
    found = await asyncio.gather(*(sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) for _ in range(4)))
    assert sum(found) == 50
    assert sorted(str(loss.payload["device_id"]) for loss in await losses(store)) == sorted(f"dev-{n}" for n in range(1, 51))


async def test_more_losses_than_one_transaction_takes_are_all_found_in_one_sweep(store: EventStore) -> None:
    await save(store, *(health(number) for number in range(1, ROWS_AT_ONCE + 3)))
    assert await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) == ROWS_AT_ONCE + 2
    assert len(await losses(store)) == ROWS_AT_ONCE + 2


async def test_a_controller_of_a_circuit_that_is_gone_is_let_go_without_an_event(store: EventStore) -> None:
    await save(store, health(circuit_id="gc-gone"), health(2, depot_id="depot-gone"), health(3))
    assert await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) == 1
    assert [loss.payload["device_id"] for loss in await losses(store)] == ["dev-3"]
    assert await sweep_heartbeats(store, DIRECTORY, NOW + TIMEOUT) == 0


async def test_a_sweep_without_anything_overdue_stores_nothing(store: EventStore) -> None:
    await save(store, health(status="LOST", deadline_at=None), health(2, status="NEVER_REPORTED", deadline_at=None))
    assert await sweep_heartbeats(store, DIRECTORY, NOW + 100 * TIMEOUT) == 0
    assert await losses(store) == []
