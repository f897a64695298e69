"""Depots as they are configured now, without reading all of their tables each time.

A depot that was read before is used again only if nothing about it was changed since, and that is asked of the database each
time, so whoever has changed a depot sees it in the next answer. Every change leaves a row in `site_change`; a change that was
not visible when the depot was read has a transaction id at or above the oldest transaction that was running then. So a cached
depot carries that floor and the changes at or above it that were seen, and stands as long as the same question has the same
answer. Each look moves the floor up, which keeps the range that it reads short. Entries not looked at for a minute are read
anew, and the least recently used one makes room when there are too many.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from event_store.database import Connection
from microgrid.card import CardPlan, plan_card
from microgrid.site_model import Site
from site_registry.load import load_site

_KEPT_DEPOTS = 256
_KEPT_FOR = timedelta(seconds=60)

_LOOK = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS floor,
       ARRAY(SELECT transaction_id::text || '/' || change_id FROM site_change
             WHERE transaction_id >= $2::text::xid8 AND depot_id = $1) AS changes,
       (SELECT count(*) FROM remediation WHERE depot_id = $1) AS remediation_count,
       (SELECT count(*) FROM dead_letter WHERE depot_id = $1 AND status = 'PENDING') AS dead_letter_count
"""


@dataclass(frozen=True, slots=True)
class DepotNow:
    """A depot in one snapshot: its configuration, the plan of its card if it has a microgrid, how much there is to settle."""

    site: Site
    plan: CardPlan | None
    remediation_count: int
    dead_letter_count: int


@dataclass(slots=True)
class _Entry:
    site: Site
    plan: CardPlan | None
    floor: str
    changes: frozenset[str]
    seen_at: datetime


class SiteCache:
    """Keeps the depots that were asked for last."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def depot_now(self, connection: Connection, depot_id: str, now: datetime) -> DepotNow | None:
        """The depot, or None if there is none. The caller's transaction is repeatable read, so that all of it fits together."""
        entry = self._entries.get(depot_id)
        look: Any = await connection.fetchrow(_LOOK, depot_id, entry.floor if entry else "0")
        floor, changes = look["floor"], frozenset(look["changes"])
        stands = entry is not None and changes == entry.changes and abs(now - entry.seen_at) < _KEPT_FOR
        if entry is None or not stands:
            self._entries.pop(depot_id, None)
            site = await load_site(connection, depot_id, with_assets=False)
            if site is None:
                return None
            plan = plan_card(site, site.microgrid) if site.microgrid else None
            entry = self._entries[depot_id] = _Entry(site, plan, floor, changes, now)
            if len(self._entries) > _KEPT_DEPOTS:
                self._entries.popitem(last=False)
        entry.floor = floor
        entry.changes = frozenset(change for change in changes if int(change.partition("/")[0]) >= int(floor))
        entry.seen_at = now
        if depot_id in self._entries:
            self._entries.move_to_end(depot_id)
        return DepotNow(entry.site, entry.plan, look["remediation_count"], look["dead_letter_count"])
