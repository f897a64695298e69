"""Is Kafka to be had? Asked anew every few seconds, on a connection of its own.

A consumer or producer that has nothing to do does not notice that its brokers are away, or goes on trying in silence. So the
question is put to the bootstrap servers themselves: connect, ask who the brokers are, leave. One server that answers is enough, and
one that takes the connection and says nothing is as good as away. What is found says nothing of topics and rights: about those the
consumer or producer complains when it has something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiokafka.client
import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger("broker_sessions.kafka")

_PAUSE_S = 2.0
_SILENCE_S = 3.0
_Client: Any = aiokafka.client.AIOKafkaClient  # its types are only partly known


class KafkaReach:
    """Whether the brokers of one cluster answer. `run` keeps `trouble` true to the state of things, within a few seconds."""

    def __init__(self, bootstrap_servers: str, client_id: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self.trouble: str | None = None
        """Why Kafka is not to be had, while it is not; None before the first look."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_PAUSE_S)

    async def wait(self) -> None:
        """Return when Kafka answers, however long that takes."""
        while True:
            if await self.look():
                return
            await asyncio.sleep(_PAUSE_S)

    async def look(self) -> bool:
        """Whether Kafka answers now."""
        client = _Client(
            bootstrap_servers=self._bootstrap_servers.split(","),
            client_id=self._client_id,
            request_timeout_ms=int(_SILENCE_S * 1000),
        )
        try:
            async with asyncio.timeout(_SILENCE_S):
                await client.bootstrap()
        except (KafkaError, OSError, TimeoutError) as fault:
            trouble = f"Kafka at {self._bootstrap_servers} is not to be had: {str(fault) or 'it says nothing'}"
            if self.trouble is None:
                # Said once and not at every look; `/readyz` goes on saying it.
                log.warning("waiting for Kafka", servers=self._bootstrap_servers, reason=str(fault) or type(fault).__name__)
            self.trouble = trouble
        else:
            if self.trouble is not None:
                log.info("Kafka is back", servers=self._bootstrap_servers)
            self.trouble = None
        finally:
            with contextlib.suppress(Exception):  # it is on its way out, whatever it has to say
                async with asyncio.timeout(1):
                    await client.close()
        return self.trouble is None
