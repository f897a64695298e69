"""Wait for something to become true, with a bound: never for luck."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_POLL_S = 0.03


async def until(condition: Callable[[], Awaitable[object] | object], what: str, *, timeout_s: float = 30.0) -> float:
    """Return the seconds until `condition` gave something true; AssertionError that says `what` after `timeout_s`."""
    started = time.monotonic()
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        waited = time.monotonic() - started
        if answer:
            return waited
        if waited > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(_POLL_S)
