"""What every answer of the read API is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from event_store.database import Pool
from microgrid.site_model import DEFAULT_STALE_AFTER_S
from read_api.site_cache import SiteCache

ACQUIRE_S = 5.0
"""How long a request waits for a free connection, in seconds."""


@dataclass(frozen=True)
class Backing:
    """The database, the clock (aware times), the value of every feature flag for a depot, and the sites read before."""

    pool: Pool
    clock: Callable[[], datetime]
    flags: Callable[[str], dict[str, bool]]
    sites: SiteCache
    stale_after_default_s: float = DEFAULT_STALE_AFTER_S
