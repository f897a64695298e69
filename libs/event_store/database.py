"""Connections to PostgreSQL: one pool per process, acting as the service's role.

The role `depotgrid_service` may insert into and read `event_store`, and neither update nor delete there. Whoever logs in acts
under it from the first statement on, so that the limit holds also for a database owner's login.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

SERVICE_ROLE = "depotgrid_service"

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query begun on a connection whose server has just said farewell
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What says that the database and not the data is at fault; the same work may succeed later."""

UNSTORABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    TypeError,
    OverflowError,
)
"""What says that the data itself can not be stored; another try would fail the same way."""

COLLISIONS = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What two writers at once may do to each other; who looks again sees what the other one wrote."""


OTHER_WAYS = ("enable_sort", "enable_bitmapscan", "enable_seqscan")
ALONG_THE_INDEX = "; ".join(f"SET LOCAL {way} = off" for way in OTHER_WAYS)
"""For the transaction it is said in: read in the order of an index and not by gathering and sorting."""


class DatabaseFault(Exception):
    """The database can not be used; the message is one line that says why and what to do, without any secret."""


TRANSACTIONS_AHEAD = """
SELECT max(newest::text::numeric)::text FROM (
    (SELECT transaction_id FROM event_store ORDER BY event_store.transaction_id DESC LIMIT 1)
    UNION ALL (SELECT transaction_id FROM event_outbox ORDER BY event_outbox.transaction_id DESC LIMIT 1)
    UNION ALL (SELECT transaction_id FROM site_change ORDER BY site_change.transaction_id DESC LIMIT 1)
) AS rows (newest)
WHERE newest >= pg_snapshot_xmax(pg_current_snapshot())
"""
"""The greatest transaction id in our tables, if the server has not dealt it out yet: rows of another server, restored here.

Readers that follow would wait for it, perhaps for years, and rows written now would sort before those that are older.
"""


def restored_elsewhere(newest: str) -> str:
    """One line for a person about what `TRANSACTIONS_AHEAD` found."""
    return (
        f"the database was restored from a dump of another server: its rows are of transaction {newest}, which this server has not "
        'reached; mend it as docs/running.md says under "After a restore"'
    )


async def open_pool(url: str, application_name: str, *, min_size: int = 1, max_size: int = 8, leaves_nothing: bool = False) -> Pool:
    """Connect as the service's role; raises `DatabaseFault` if that is not possible.

    `jsonb` comes and goes as Python values; the session's time zone is UTC. `leaves_nothing` is the promise that nobody leaves
    anything in a session (a setting, a lock beyond its transaction, LISTEN): then a connection goes back to the pool without the
    statement that would clear it, which is a round trip for every use.
    """
    pool = await _open_pool(url, application_name, min_size, max_size, leaves_nothing=leaves_nothing)
    # The role belongs to the whole server, so it says nothing of this database's tables.
    if await pool.fetchval("SELECT to_regclass('event_store')") is None:
        pool.terminate()
        raise DatabaseFault(f"the database at {address(url)} has no tables: run `depotgrid db migrate` first")
    if (newest := await pool.fetchval(TRANSACTIONS_AHEAD)) is not None:
        pool.terminate()
        raise DatabaseFault(restored_elsewhere(newest))
    return pool


async def _open_pool(url: str, application_name: str, min_size: int, max_size: int, *, leaves_nothing: bool) -> Pool:
    try:
        return await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            timeout=5,
            command_timeout=60,
            init=prepare_connection,
            reset=_leave_as_it_is if leaves_nothing else None,
            server_settings={
                "application_name": application_name,
                "role": SERVICE_ROLE,
                "timezone": "UTC",
                "jit": "off",
            },
        )
    except (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError) as fault:
        raise DatabaseFault(
            f"the database at {address(url)} has no role {SERVICE_ROLE}: run `depotgrid db migrate` first"
        ) from fault
    except asyncpg.InsufficientPrivilegeError as fault:
        raise DatabaseFault(f"the login may not act as {SERVICE_ROLE}: GRANT {SERVICE_ROLE} TO the login ({fault})") from fault
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise DatabaseFault(
            f"cannot use the database at {address(url)}: {reason}; check DEPOTGRID_DATABASE_URL and that PostgreSQL is up"
        ) from fault


async def close_pool(pool: Pool) -> None:
    """Give the connections back; those that are still busy, or whose server says nothing any more, are cut after a second."""
    try:
        async with asyncio.timeout(1):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def connect(url: str, application_name: str) -> Connection:
    """One connection of its own, outside a pool, for LISTEN; raises what asyncpg raises."""
    connection = await asyncpg.connect(
        url,
        timeout=5,
        server_settings={"application_name": application_name, "role": SERVICE_ROLE, "timezone": "UTC"},
    )
    await prepare_connection(connection)
    return connection


async def prepare_connection(connection: Connection) -> None:
    """Let `jsonb` and `json` be Python values on this connection."""
    for name in ("jsonb", "json"):
        await connection.set_type_codec(name, encoder=_to_json, decoder=msgspec.json.decode, schema="pg_catalog", format="text")


async def _leave_as_it_is(_: Connection) -> None:
    """What is done to a connection that goes back to its pool, beyond ending an open transaction."""


def in_utc(moment: datetime) -> datetime:
    """A time as it was stored: the driver keeps the first moment of year 1 as `-infinity` and gives that back without an offset."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def address(url: str) -> str:
    """Host, port and database of a URL: what may be shown of it."""
    return url.rpartition("@")[2] if "@" in url else url.partition("://")[2]


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
