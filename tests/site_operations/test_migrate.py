"""Migrations: forward, back and forward again on a database with data, and in agreement with the code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from event_store.database import DatabaseFault, open_pool
from site_operations.migrate import differences, migrate

_VERSIONS = Path(__file__).parents[2] / "deploy" / "migrations" / "versions"


def test_a_migrated_database_is_what_the_code_expects(database_url: str) -> None:
    assert differences(database_url) == []


def test_an_empty_database_is_told_apart_with_the_cure(empty_database_url: str) -> None:
    assert "depotgrid db migrate" in differences(empty_database_url)[0]


async def _insert_a_depot(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'D', 'UTC')")
    await connection.close()


def test_migrations_go_back_and_forward_again_on_a_database_with_data(database_url: str) -> None:
    asyncio.run(_insert_a_depot(database_url))
    assert migrate(database_url, "base", down=True) == "base"
    assert migrate(database_url) == max(path.name[:4] for path in _VERSIONS.glob("0*.py"))
    assert differences(database_url) == []


async def test_a_pool_on_an_unmigrated_database_says_what_to_run(empty_database_url: str) -> None:
    with pytest.raises(DatabaseFault, match="depotgrid db migrate"):
        await open_pool(empty_database_url, "test")
