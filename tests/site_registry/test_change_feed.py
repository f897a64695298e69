"""Whatever changes in whatever way is in the directory at the next look, and nothing is missed because it commits late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
from tests.site_registry.depot_rows import MICROGRID_ID, NODE_ID, delete_depot, insert_depot

from event_store.database import UNREACHABLE, Connection, Pool, connect, open_pool, prepare_connection
from microgrid.directory import NotAuthorised, SiteDirectory
from microgrid.routing import DevicePlan
from site_registry.change_feed import KEEP_CHANGES_S, ChangeFollower, prune_changes
from site_registry.load import load_sites


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    opened = await open_pool(database_url, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def console(database_url: str) -> AsyncGenerator[Connection]:
    """Somebody at a console."""
    opened = await asyncpg.connect(database_url)
    await prepare_connection(opened)
    yield opened
    await opened.close()


class Follower:
    """A directory and what keeps it up to date."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.directory = SiteDirectory()
        self.feed = ChangeFollower(self.directory)

    async def load_all(self) -> None:
        async with self.pool.acquire() as connection:
            await self.feed.load_all(connection)

    async def look(self) -> list[str]:
        async with self.pool.acquire() as connection:
            return await self.feed.catch_up(connection)

    async def assert_equal_to_the_tables(self) -> None:
        async with self.pool.acquire() as connection:
            sites = await load_sites(connection)
        assert len(self.directory) == len(sites)
        assert {depot_id: self.directory.site(depot_id) for depot_id in sites} == sites


@pytest.fixture
async def follower(pool: Pool, console: Connection) -> Follower:
    """A follower that knows two depots."""
    await insert_depot(console)
    await insert_depot(console, "other", 1)
    one = Follower(pool)
    await one.load_all()
    await one.look()
    return one


async def test_what_was_there_before_is_loaded(follower: Follower) -> None:
    assert isinstance(follower.directory.authorise("depot-gw", "depot-dev"), DevicePlan)
    await follower.assert_equal_to_the_tables()


async def test_a_look_at_no_change_does_nothing(follower: Follower) -> None:
    before = follower.directory.site("depot")
    assert await follower.look() == []
    assert follower.directory.site("depot") is before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE depot SET name = 'New' WHERE depot_id = 'depot'",
        "UPDATE circuit SET rating_kw = 10 WHERE circuit_id = 'depot-gc'",
        "INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ('new', 'depot', 'New', 9)",
        "UPDATE power_source SET kind = 'SOLAR' WHERE power_source_id = 'depot-bess'",
        "DELETE FROM power_source WHERE power_source_id = 'depot-bess'",
        "UPDATE gateway SET site_model_name = 'model' WHERE gateway_id = 'depot-gw'",
        "UPDATE device SET enabled = false WHERE device_id = 'depot-dev'",
        "UPDATE sensor_action SET enabled = false WHERE device_id = 'depot-dev'",
        "DELETE FROM sensor_action WHERE device_id = 'depot-dev'",
        f"UPDATE microgrid SET version = 4 WHERE microgrid_id = '{MICROGRID_ID}'",
        f"UPDATE microgrid SET status = 'RETIRED' WHERE microgrid_id = '{MICROGRID_ID}'",
        f"UPDATE microgrid_node SET name = 'New' WHERE node_id = '{NODE_ID}'",
        f"DELETE FROM microgrid_node WHERE node_id = '{NODE_ID}'",
        "UPDATE capability_control_point SET enabled = false WHERE device_id = 'depot-dev'",
        "DELETE FROM capability_control_point WHERE device_id = 'depot-dev'",
    ],
)
async def test_a_change_by_plain_sql_in_any_table_that_routing_reads_is_seen_once(
    follower: Follower, console: Connection, change: str
) -> None:
    await console.execute(change)
    assert await follower.look() == ["depot"]
    await follower.assert_equal_to_the_tables()
    assert await follower.look() == []


async def test_every_table_that_routing_reads_is_watched(console: Connection) -> None:
    rows = await console.fetch(
        "SELECT event_object_table AS t, event_manipulation AS m FROM information_schema.triggers "
        "WHERE action_statement LIKE '%note_site_change%'"
    )
    watched = {(row["t"], row["m"]) for row in rows}
    tables = {
        "depot",
        "circuit",
        "power_source",
        "gateway",
        "device",
        "sensor_action",
        "microgrid",
        "microgrid_node",
        "capability_control_point",
    }
    assert watched == {(table, kind) for table in tables for kind in ("INSERT", "UPDATE", "DELETE")}


async def test_a_change_made_by_the_services_own_role_is_seen(follower: Follower, pool: Pool) -> None:
    await pool.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
    assert await follower.look() == ["depot"]


async def test_a_change_whose_transaction_commits_late_is_not_missed(follower: Follower, pool: Pool, console: Connection) -> None:
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
        for number in range(3):
            await console.execute("UPDATE depot SET name = $1 WHERE depot_id = 'other'", f"Name {number}")
            assert await follower.look() == ["other"]
            assert await follower.look() == []
        await transaction.commit()
    assert await follower.look() == ["depot"]
    assert await follower.look() == []
    await follower.assert_equal_to_the_tables()


async def test_a_change_that_was_open_while_all_was_loaded_is_not_missed(pool: Pool, console: Connection) -> None:
    await insert_depot(console)
    one = Follower(pool)
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
        await one.load_all()
        await transaction.commit()
    assert await one.look() == ["depot"]
    await one.assert_equal_to_the_tables()


async def test_a_change_that_is_given_up_is_none(follower: Follower, pool: Pool) -> None:
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
        await transaction.rollback()
    assert await follower.look() == []


async def test_a_look_that_failed_is_made_good_by_the_next(follower: Follower, console: Connection) -> None:
    await console.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
    async with follower.pool.acquire() as connection, console.transaction():
        await console.execute("LOCK TABLE sensor_action IN ACCESS EXCLUSIVE MODE")
        await connection.execute("SET lock_timeout = '20ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await follower.feed.catch_up(connection)
    assert await follower.look() == ["depot"]


async def test_a_deleted_depot_disappears(follower: Follower, console: Connection) -> None:
    await delete_depot(console)
    await follower.look()
    refused = follower.directory.authorise("depot-gw", "depot-dev")
    assert isinstance(refused, NotAuthorised)
    assert refused.code == "UNKNOWN_DEVICE"
    await follower.assert_equal_to_the_tables()


async def test_a_depot_deleted_while_nobody_followed_disappears_when_all_is_loaded_again(
    follower: Follower, console: Connection
) -> None:
    await delete_depot(console)
    await follower.load_all()
    await follower.assert_equal_to_the_tables()


MOVES = ("UPDATE sensor_action SET depot_id = 'other'", "UPDATE device SET depot_id = 'other', gateway_id = 'other-gw'")


async def test_a_device_that_moved_to_another_depot_is_planned_there(follower: Follower, console: Connection) -> None:
    for move in MOVES:
        await console.execute(f"{move} WHERE device_id = 'depot-dev'")
    await follower.look()
    plan = follower.directory.authorise("other-gw", "depot-dev")
    assert isinstance(plan, DevicePlan)
    assert plan.depot_id == "other"


async def test_the_depot_that_something_moved_out_of_is_loaded_again_too(follower: Follower, console: Connection) -> None:
    await console.execute("UPDATE power_source SET depot_id = 'other', circuit_id = NULL WHERE power_source_id = 'depot-bess'")
    assert await follower.look() == ["depot", "other"]
    await follower.assert_equal_to_the_tables()


async def test_only_changes_of_long_ago_are_forgotten(follower: Follower, pool: Pool, console: Connection) -> None:
    await console.execute("UPDATE site_change SET changed_at = now() - make_interval(secs => $1)", KEEP_CHANGES_S + 60.0)
    await console.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
    await prune_changes(pool)
    assert await console.fetchval("SELECT count(*) FROM site_change WHERE changed_at < now() - interval '1 hour'") == 0
    assert await follower.look() == ["depot"]


async def test_a_follower_wakes_by_the_notification(follower: Follower, database_url: str, console: Connection) -> None:
    listening = await connect(database_url, "follower")
    following = asyncio.create_task(follower.feed.follow(listening))
    await console.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
    async with asyncio.timeout(60):
        while isinstance(follower.directory.authorise("depot-gw", "depot-dev"), DevicePlan):
            await console.fetchval("SELECT pg_sleep(0.01)")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await listening.close()


async def test_a_follower_whose_connection_dies_says_so_and_goes_on_where_it_was_on_another(
    follower: Follower, database_url: str, console: Connection
) -> None:
    listening = await connect(database_url, "follower")
    following = asyncio.create_task(follower.feed.follow(listening))
    await console.execute("SELECT pg_terminate_backend($1)", listening.get_server_pid())
    async with asyncio.timeout(60):
        with pytest.raises(UNREACHABLE):
            await following
    await console.execute("UPDATE device SET enabled = false WHERE device_id = 'depot-dev'")
    assert await follower.look() == ["depot"]
