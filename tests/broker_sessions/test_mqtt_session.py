"""A session is read only once whoever takes it over is content with what its last holder left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.real_services.waiting import until

from broker_sessions.mqtt_session import Connection, MqttSession, NotYetError
from event_store.database import open_pool
from event_store.lease import take_lease
from operator_cli.embedded_mosquitto import EmbeddedMosquitto


def _take(_connection: Connection, _mid: int | None, _topic: str, _payload: bytes, _properties: Mapping[str, Any]) -> None:
    pass


async def test_a_session_that_must_not_be_read_yet_says_why_and_leaves_its_lease_to_others(
    database_url: str, mosquitto: EmbeddedMosquitto
) -> None:
    content = False
    asked = 0

    async def taken_over() -> None:
        nonlocal asked
        asked += 1
        if not content:
            raise NotYetError("something waits")

    pool = await open_pool(database_url, "test-sessions")
    session = MqttSession(mosquitto.url(), "not-yet", 3600, "a/b", _take, pool, "first", taken_over=taken_over)
    running = asyncio.create_task(session.run())
    try:
        await until(lambda: asked > 1, "it asked again")
        assert session.trouble == "MQTT is not read yet: something waits"
        assert not session.subscribed.is_set()

        async def had_by_another() -> bool:
            return await take_lease(pool, session.lease_name, "second", 0.1)

        await until(had_by_another, "another one has the lease")
        content = True
        await until(session.subscribed.is_set, "it is read")
        assert session.trouble is None
    finally:
        session.stop_taking()
        await running
        await session.close()
        pool.terminate()
