"""Both stores: the one in PostgreSQL and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from event_store.database import Connection, Pool, open_pool, prepare_connection
from event_store.memory import InMemoryEventStore
from event_store.store import EventStore, PostgresEventStore


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    """Connections to this test's own database, as the service's role."""
    opened = await open_pool(database_url, "test", max_size=12)
    yield opened
    await opened.close()


@pytest.fixture
async def owner(database_url: str) -> AsyncGenerator[Connection]:
    """A superuser's connection, under no other role."""
    connection = await asyncpg.connect(database_url)
    await prepare_connection(connection)
    yield connection
    await connection.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest) -> EventStore:
    if request.param == "memory":
        return InMemoryEventStore()
    return PostgresEventStore(request.getfixturevalue("pool"))
