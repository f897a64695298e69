"""Bring a database to the newest migration, as `depotgrid db migrate` does."""

from __future__ import annotations

from site_operations import migrate as migrations


def migrate(url: str) -> None:
    """Alembic `upgrade head` on the database at `url`."""
    migrations.migrate(url)
