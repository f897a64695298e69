"""Bring the database to the code's schema, and tell where the two differ.

Migrations are one Alembic history (`deploy/migrations`), and travel with the package. One migration runs at a time: an
advisory lock makes a second process wait for the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from event_store import tables as event_store_tables
from event_store.database import TRANSACTIONS_AHEAD, DatabaseFault, address, restored_elsewhere
from site_registry import tables as site_registry_tables

_LOCK = 7_340_116


def migrate(url: str, revision: str = "head", *, down: bool = False) -> str:
    """Run migrations up (or down) to a revision; returns the revision that the database has then.

    Raises `DatabaseFault` with one line when the database can not be used.
    """

    def run(connection: sa.Connection) -> str:
        connection.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        config = _config(connection)
        (command.downgrade if down else command.upgrade)(config, revision)
        connection.commit()
        connection.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
        return MigrationContext.configure(connection).get_current_revision() or "base"

    return asyncio.run(_with_connection(url, run))


def differences(url: str) -> list[str]:
    """What a database has otherwise than the code expects, one line each; empty when they agree."""

    def run(connection: sa.Connection) -> str:
        context = MigrationContext.configure(connection)
        head = ScriptDirectory.from_config(_config(connection)).get_current_head()
        current = context.get_current_revision()
        lines: list[str] = []
        if current != head:
            lines.append(f"the database is at revision {current or 'base'}, the code at {head}: run `depotgrid db migrate`")
        for metadata in (event_store_tables.metadata, site_registry_tables.metadata):
            names = set(metadata.tables)

            def ours(name: str | None, kind: str, _: object, names: set[str] = names) -> bool:
                return kind != "table" or name in names

            narrowed = MigrationContext.configure(connection, opts={"include_name": ours})
            lines.extend(str(difference) for difference in compare_metadata(narrowed, metadata))
        if current == head and (newest := connection.scalar(sa.text(TRANSACTIONS_AHEAD))) is not None:
            lines.append(restored_elsewhere(newest))
        return "\n".join(lines)

    return [line for line in asyncio.run(_with_connection(url, run)).splitlines() if line]


async def _with_connection(url: str, run: Callable[[sa.Connection], str]) -> str:
    engine = create_async_engine(_sqlalchemy_url(url), poolclass=sa.NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(run)
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as fault:
        reason = str(fault.__cause__ or fault).splitlines()[0]
        raise DatabaseFault(
            f"cannot migrate the database at {address(url)}: {reason}; check DEPOTGRID_DATABASE_URL and that PostgreSQL is up"
        ) from fault
    finally:
        await engine.dispose()


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _sqlalchemy_url(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    return parsed.set(drivername="postgresql+asyncpg")
