"""What commands leave behind is cleared away when it is old, and not before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.command_api.conftest import Origin, depot

from command_api.trail_pruning import prune_trail
from event_store.database import Pool

_AUDIT = (
    "INSERT INTO audit (at, principal, method, path, status) SELECT $1, 'somebody', 'POST', '/', 200 FROM generate_series(1, $2)"
)


async def _left(pool: Pool) -> int:
    return await pool.fetchval("SELECT count(*) FROM audit")


async def test_rows_of_audit_that_are_old_enough_go_however_many_and_others_stay(pool: Pool) -> None:
    now = datetime.now(UTC)
    await pool.execute(_AUDIT, now - timedelta(days=401), 2_500)
    await pool.execute(_AUDIT, now - timedelta(days=399), 3)
    assert await prune_trail(pool, now, timedelta(days=400)) == (2_500, 0)
    assert await _left(pool) == 3
    assert await prune_trail(pool, now, timedelta(days=400)) == (0, 0)


@pytest.mark.parametrize("keep", [timedelta(0), timedelta(days=-400)])
async def test_no_row_of_the_last_month_goes_whatever_is_asked_for(pool: Pool, keep: timedelta) -> None:
    now = datetime.now(UTC)
    await pool.execute(_AUDIT, now - timedelta(days=29), 2)
    await pool.execute(_AUDIT, now - timedelta(days=31), 1)
    assert await prune_trail(pool, now, keep) == (1, 0)
    assert await _left(pool) == 2


async def test_answers_that_no_key_gets_any_more_go(origin: Origin, pool: Pool) -> None:
    await origin.post("/api/depot", depot(), key="k")
    asked_at: datetime = await pool.fetchval("SELECT created_at FROM idempotency_key")
    assert await prune_trail(pool, asked_at + timedelta(hours=23), timedelta(days=400)) == (0, 0)
    assert await prune_trail(pool, asked_at + timedelta(hours=24), timedelta(days=400)) == (0, 1)
    assert await pool.fetchval("SELECT count(*) FROM idempotency_key") == 0
