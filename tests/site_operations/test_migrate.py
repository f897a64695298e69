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


_CONTROL_POINTS = """
INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'D', 'UTC');
INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('g', 'd', 'G');
INSERT INTO device (device_id, depot_id, gateway_id) VALUES ('one', 'd', 'g'), ('two', 'd', 'g');
INSERT INTO microgrid (microgrid_id, depot_id, version, status) SELECT gen_random_uuid(), 'd', 1, 'ACTIVE';
INSERT INTO capability_control_point
    (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, enabled)
SELECT gen_random_uuid(), microgrid_id, p.capability, p.device_id, 'M', p.stale_after_s, p.enabled
FROM microgrid, (VALUES
    ('PEAK_SHAVING', 'one', 300, true), ('DER', 'one', 300, true), ('PEAK_SHAVING', 'two', 300, false), ('DER', 'two', 60, false)
) p (capability, device_id, stale_after_s, enabled)
"""


async def _with(url: str, statements: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        if statements:
            await connection.execute(statements)
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def test_control_points_from_before_controller_bindings_are_gathered_into_some(database_url: str) -> None:
    assert migrate(database_url, "0002", down=True) == "0002"
    asyncio.run(_with(database_url, _CONTROL_POINTS, "SELECT 1"))
    migrate(database_url)
    query = (
        "SELECT device_id, array_agg(capability ORDER BY capability), max(binding_version) FROM capability_control_point "
        "GROUP BY controller_binding_id, device_id ORDER BY 1, 2"
    )
    assert asyncio.run(_with(database_url, "", query)) == [
        ("one", ["DER", "PEAK_SHAVING"], 1),
        ("two", ["DER"], 1),
        ("two", ["PEAK_SHAVING"], 1),
    ]
    assert migrate(database_url, "0002", down=True) == "0002"
    assert len(asyncio.run(_with(database_url, "", "SELECT FROM capability_control_point"))) == 4


async def test_a_pool_on_an_unmigrated_database_says_what_to_run(empty_database_url: str) -> None:
    with pytest.raises(DatabaseFault, match="depotgrid db migrate"):
        await open_pool(empty_database_url, "test")
