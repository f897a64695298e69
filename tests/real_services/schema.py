"""Bring a test's database to the newest migration, by the code that `depotgrid db migrate` runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import site_operations.migrate


def migrate(url: str) -> None:
    """Run all migrations on the database at `url`; raises what they raise."""
    # In a thread of its own, which has no event loop: the migrations run one themselves.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(site_operations.migrate.migrate, url).result(timeout=120)
