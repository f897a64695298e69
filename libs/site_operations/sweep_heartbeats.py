"""Notice by the clock that a controller's heartbeat stopped, and let its circuit fall back to the fail-safe value.

Any number of workers may sweep at once: an overdue row is taken by one of them (`SKIP LOCKED`), and the event's identity comes
from the last heartbeat, so the loss is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from event_store.store import EventStore
from microgrid.circuit_capacity import ControllerHealth, lapse
from microgrid.directory import SiteDirectory
from microgrid.events import Event
from site_operations.ingest import limits_of

ROWS_AT_ONCE = 500


async def sweep_heartbeats(store: EventStore, directory: SiteDirectory, now: datetime) -> int:
    """Handle every heartbeat that is overdue at `now`; returns how many were lost."""
    lost = 0
    while True:
        async with store.transaction() as transaction:
            overdue = await transaction.lock_overdue(now, ROWS_AT_ONCE)
            healths, events = _lapsed(overdue, directory, now)
            await transaction.append(events)
            await transaction.save_health(healths)
        lost += len(events)
        if len(overdue) < ROWS_AT_ONCE:
            return lost


def _lapsed(
    overdue: Sequence[ControllerHealth], directory: SiteDirectory, now: datetime
) -> tuple[list[ControllerHealth], list[Event]]:
    healths: list[ControllerHealth] = []
    events: list[Event] = []
    for health in overdue:
        # A circuit that is not known (any more) falls back all the same: to what its controller last called safe, else to 0.
        after, lapsed = lapse(health, limits_of(directory, health), now)
        healths.append(after)
        events.extend(lapsed)
    return healths, events
