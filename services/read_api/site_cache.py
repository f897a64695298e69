"""Depots as they are configured now, without reading all of their tables each time.

A depot that was read before is used again only if nothing about it was changed since, and that is asked of the database each
time, so whoever has changed a depot sees it in the next answer. Every change leaves a row in `site_change`; a change that was
not visible when the depot was read has a transaction id at or above the oldest transaction that was running then. So a cached
depot carries that floor and the changes at or above it that were seen, and stands as long as the same question has the same
answer. Each look moves the floor up, which keeps the range that it reads short. Entries not looked at for a minute are read
anew, and the least recently used one makes room when there are too many. Several depots are looked at in one query.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from event_store.database import Connection
from microgrid.card import CardPlan, plan_card
from microgrid.site_model import Site
from site_registry.load import load_sites

_KEPT_DEPOTS = 1_000
_KEPT_FOR = timedelta(seconds=60)

_LOOK = """
SELECT asked.depot_id, pg_snapshot_xmin(pg_current_snapshot())::text AS floor,
       ARRAY(SELECT transaction_id::text || '/' || change_id FROM site_change c
             WHERE c.transaction_id >= asked.floor::xid8 AND c.depot_id = asked.depot_id) AS changes,
       (SELECT count(*) FROM remediation r WHERE r.depot_id = asked.depot_id) AS remediation_count,
       (SELECT count(*) FROM dead_letter l WHERE l.depot_id = asked.depot_id AND l.status = 'PENDING') AS dead_letter_count
FROM unnest($1::text[], $2::text[]) AS asked (depot_id, floor)
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
        return (await self.depots_now(connection, [depot_id], now)).get(depot_id)

    async def depots_now(self, connection: Connection, depot_ids: Sequence[str], now: datetime) -> dict[str, DepotNow]:
        """Those of the depots that exist, each once; see `depot_now`."""
        # Others may look at the same entries meanwhile, so what is asked is compared with what was known when it was asked.
        known = {depot_id: (entry, entry.floor, entry.changes) for depot_id in depot_ids if (entry := self._entries.get(depot_id))}
        asked = list(dict.fromkeys(depot_ids))
        floors = [known[depot_id][1] if depot_id in known else "0" for depot_id in asked]
        looks: dict[str, Any] = {look["depot_id"]: look for look in await connection.fetch(_LOOK, asked, floors)}
        stands: dict[str, _Entry] = {}
        for depot_id, (entry, _, changes) in known.items():
            if changes == frozenset(looks[depot_id]["changes"]) and abs(now - entry.seen_at) < _KEPT_FOR:
                stands[depot_id] = entry
        missing = [depot_id for depot_id in asked if depot_id not in stands]
        sites = await load_sites(connection, missing) if missing else {}
        found: dict[str, DepotNow] = {}
        for depot_id, look in looks.items():
            entry = stands.get(depot_id)
            if entry is None:
                self._entries.pop(depot_id, None)
                site = sites.get(depot_id)
                if site is None:
                    continue
                plan = plan_card(site, site.microgrid) if site.microgrid else None
                entry = self._entries[depot_id] = _Entry(site, plan, look["floor"], frozenset(), now)
            entry.floor = look["floor"]
            entry.changes = frozenset(change for change in look["changes"] if int(change.partition("/")[0]) >= int(entry.floor))
            entry.seen_at = now
            if self._entries.get(depot_id) is entry:
                self._entries.move_to_end(depot_id)
            found[depot_id] = DepotNow(entry.site, entry.plan, look["remediation_count"], look["dead_letter_count"])
        while len(self._entries) > _KEPT_DEPOTS:
            self._entries.popitem(last=False)
        return found
