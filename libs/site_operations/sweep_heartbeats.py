"""Notice by the clock that a controller's heartbeat stopped, and let its circuit fall back to the fail-safe value.

Any number of workers may sweep at once: an overdue row is taken by one of them (`SKIP LOCKED`), and the event's identity comes
from the last heartbeat, so the loss is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from event_store.store import EventStore
from microgrid.circuit_capacity import CircuitLimits, ControllerHealth, lapse
from microgrid.directory import SiteDirectory
from microgrid.events import Event

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
        site = directory.site(health.depot_id)
        circuit = site.circuit_by_id.get(health.circuit_id) if site is not None else None
        if circuit is None:
            # The circuit is gone: there is nothing that could fall back.
            healths.append(msgspec.structs.replace(health, deadline_at=None))
            continue
        after, lapsed = lapse(health, CircuitLimits(circuit.rating_kw, circuit.safe_capacity_kw), now)
        healths.append(after)
        events.extend(lapsed)
    return healths, events
