"""What a device itself last reported, among what others report of the same subject."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.read_api.seed import T0, capability, soc

from event_store.append import append_events
from event_store.database import Pool
from event_store.last_report import LOOKED_AT, last_reports
from microgrid.events import Event


def _reported(device_id: str, second: int, **more: object) -> Event:
    return capability("DER", True, T0 + timedelta(seconds=second), **{"device_id": device_id, **more})  # type: ignore[arg-type]


_SUBJECT = _reported("any", 0).subject or ""


async def _told(pool: Pool, *device_ids: str) -> dict[str, int]:
    """The second of the last report of each of the devices that is told."""
    async with pool.acquire() as connection:
        found = await last_reports(connection, [(_SUBJECT, device_id) for device_id in device_ids])
    return {device_id: round((event.observed_at - T0).total_seconds()) for (_, device_id), event in found.items()}


async def test_each_device_has_its_own_last_report_whatever_came_last(pool: Pool) -> None:
    await append_events(pool, [_reported("new", 9), _reported("old", 3), _reported("old", 5), _reported("old", 1), soc(50.0, T0)])
    assert await _told(pool, "old", "new", "nobody") == {"old": 5, "new": 9}


async def test_a_report_that_is_history_only_is_not_a_last_one(pool: Pool) -> None:
    await append_events(pool, [_reported("old", 3), _reported("old", 5, history_only=True)])
    assert await _told(pool, "old") == {"old": 3}


@pytest.mark.parametrize(("newer", "told"), [(LOOKED_AT - 1, {"old": 0}), (LOOKED_AT, {})])
async def test_a_report_that_lies_behind_many_of_others_is_not_looked_for(pool: Pool, newer: int, told: dict[str, int]) -> None:
    await append_events(pool, [_reported("old", 0), *(_reported("new", second) for second in range(1, newer + 1))])
    assert await _told(pool, "old") == told
