"""What commands leave behind does not grow for ever: old rows of audit and answers that no key can get any more are cleared away.

A round takes at most 1,000 rows of each at a time, one transaction each, until less is left; rounds are an hour apart. Several
processes at once do no harm: none waits for a row that another one has. A round that fails is made good by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from event_store.database import UNREACHABLE, Pool
from site_registry.command_trail import prune_answers, prune_audit

_EVERY_S = 3600.0
_AT_ONCE = 1_000

_log = structlog.get_logger(__name__)


async def prune_trail(pool: Pool, now: datetime, keep_audit: timedelta) -> tuple[int, int]:
    """One round; gives how many rows of audit and how many answers went."""

    async def rounds(once: Callable[[], Awaitable[int]]) -> int:
        total = 0
        while True:
            gone = await once()
            total += gone
            if gone < _AT_ONCE:
                return total

    audit = await rounds(lambda: prune_audit(pool, now - keep_audit, _AT_ONCE))
    return audit, await rounds(lambda: prune_answers(pool, now, _AT_ONCE))


async def keep_trail_pruned(pool: Pool, clock: Callable[[], datetime], keep_audit: timedelta) -> None:
    """A round now and every hour; ends only by cancellation."""
    while True:
        try:
            audit, answers = await prune_trail(pool, clock(), keep_audit)
            if audit or answers:
                _log.info("old traces of commands cleared away", audit=audit, answers=answers)
        except UNREACHABLE as fault:
            _log.warning("old traces of commands stay for now", reason=type(fault).__name__)
        await asyncio.sleep(_EVERY_S)
