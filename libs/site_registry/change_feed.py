"""Keep a directory of sites equal to what is configured, while it changes.

Triggers write a row to `site_change` for every change of a depot's configuration, by whatever way it was made, and notify. A
follower wakes by the notification, or by its poll where one is missed, and loads the changed depots again.

Changes must not be missed because their transaction commits late: each look covers everything since the oldest transaction that
was still running at the look before, and remembers what it has already handled of that.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from event_store.database import Connection, Pool
from microgrid.directory import SiteDirectory
from site_registry.load import load_sites

CHANGE_CHANNEL = "depotgrid_site_change"
POLL_S = 0.5
"""Seconds between looks where no notification comes."""

_CHANGES = """
SELECT transaction_id::text || '/' || change_id AS change, depot_id FROM site_change
WHERE transaction_id >= $1::text::xid8 ORDER BY transaction_id, change_id
"""
_OLDEST_RUNNING = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
_DEPOTS_AT_ONCE = 200


KEEP_CHANGES_S = 24 * 3600
"""Seconds for which changes are kept; who was away for longer loads everything anew."""

_PRUNE = "DELETE FROM site_change WHERE changed_at < now() - make_interval(secs => $1)"


async def prune_changes(pool: Pool) -> None:
    """Forget changes that every follower has seen."""
    await pool.execute(_PRUNE, float(KEEP_CHANGES_S))


class ChangeFollower:
    """Follows changes into a directory, over a connection of its own that listens."""

    def __init__(self, directory: SiteDirectory) -> None:
        self._directory = directory
        self._floor = "0"
        self._handled: set[str] = set()

    async def load_all(self, connection: Connection) -> None:
        """Take in every depot as it is now; changes from here on are followed."""
        self._floor = await connection.fetchval(_OLDEST_RUNNING)
        self._handled = set()
        # Inside a transaction the isolation is the caller's; what changes meanwhile is followed, for the floor was taken before.
        inside = connection.is_in_transaction()
        async with nullcontext() if inside else connection.transaction(isolation="repeatable_read", readonly=True):
            depot_ids = await connection.fetch("SELECT depot_id FROM depot ORDER BY depot_id")
            known = [row["depot_id"] for row in depot_ids]
            for gone in self._directory.depot_ids().difference(known):
                self._directory.remove(gone)
            # Portion by portion, since the rows of all depots at once would take as much memory as the depots themselves.
            for start in range(0, len(known), _DEPOTS_AT_ONCE):
                for site in (await load_sites(connection, known[start : start + _DEPOTS_AT_ONCE])).values():
                    self._directory.put(site)

    async def catch_up(self, connection: Connection) -> list[str]:
        """Load again what changed since the last look; returns the depots, in order."""
        floor = await connection.fetchval(_OLDEST_RUNNING)
        rows = await connection.fetch(_CHANGES, self._floor)
        changed = sorted({row["depot_id"] for row in rows if row["change"] not in self._handled})
        for start in range(0, len(changed), _DEPOTS_AT_ONCE):
            some = changed[start : start + _DEPOTS_AT_ONCE]
            sites = await load_sites(connection, some)
            for depot_id in some:
                site = sites.get(depot_id)
                if site is None:
                    self._directory.remove(depot_id)
                else:
                    self._directory.put(site)
        self._floor = floor
        self._handled = {row["change"] for row in rows if int(row["change"].partition("/")[0]) >= int(floor)}
        return changed

    async def follow(self, connection: Connection) -> None:
        """Catch up for ever; ends only by cancellation or with the connection's error."""
        wake = asyncio.Event()

        def woken(*_: object) -> None:
            wake.set()

        await connection.add_listener(CHANGE_CHANNEL, woken)
        while True:
            wake.clear()
            await self.catch_up(connection)
            try:
                async with asyncio.timeout(POLL_S):
                    await wake.wait()
            except TimeoutError:
                continue
