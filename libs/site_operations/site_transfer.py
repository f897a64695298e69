"""Import and export a site over a connection of one's own, for a command that does one thing and ends.

A database that goes away meanwhile is a `DatabaseFault`: one line for a person, without any secret.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from event_store.database import UNREACHABLE, DatabaseFault, Pool, address, open_pool
from site_operations.import_site import SiteReport, import_site
from site_registry.load import load_site
from site_registry.site_file import SiteDocument, SiteFault, export_site


async def import_into(
    url: str,
    document: SiteDocument,
    *,
    provision: bool = True,
    prune: bool = False,
    now: datetime,
    new_id: Callable[[], str],
) -> SiteReport | list[SiteFault]:
    """`import_site` into the database at `url`."""
    async with _pool(url) as pool:
        return await import_site(pool, document, provision=provision, prune=prune, now=now, new_id=new_id)


async def export_from(url: str, depot_id: str) -> dict[str, Any] | None:
    """The site document of a depot in the database at `url`, or None where there is no such depot."""
    async with _pool(url) as pool, pool.acquire() as connection:
        site = await load_site(connection, depot_id)
    return export_site(site) if site is not None else None


@asynccontextmanager
async def _pool(url: str) -> AsyncGenerator[Pool]:
    pool = await open_pool(url, "depotgrid-site", max_size=1)
    try:
        yield pool
    except UNREACHABLE as fault:
        reason = str(fault) or type(fault).__name__
        raise DatabaseFault(f"the database at {address(url)} went away: {reason}; nothing was stored, try again") from fault
    finally:
        await pool.close()
