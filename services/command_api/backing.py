"""What every command is carried out with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from event_store.database import Pool


@dataclass(frozen=True)
class Backing:
    """The database, the clock (aware times), and where new ids of our own come from (UUID version 7 as text)."""

    pool: Pool
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
