"""Packets to Kafka, keyed by device, each confirmed by all replicas.

The producer is idempotent, so that its own retries neither double nor reorder. Where it gives up, a new one sends what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError

from depot_sim.sending import PATIENCE_S, RETRY_S, Confirmed, Outgoing, UndeliveredError
from sensor_packet.topics import KAFKA_PACKET_TOPIC

_Producer: Any = aiokafka.AIOKafkaProducer
_REQUEST_MS = 5_000


class KafkaSender:
    """Sends to the brokers of `host:port,…`."""

    def __init__(self, bootstrap_servers: str, client_id: str, *, patience_s: float = PATIENCE_S) -> None:
        self._servers = bootstrap_servers
        self._client_id = client_id
        self._patience_s = patience_s
        self._producer: Any = None

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        """Return when all are confirmed; UndeliveredError when nothing was for too long."""
        clock = asyncio.get_running_loop().time
        waiting = list(packets)
        last_progress = clock()
        while waiting:
            taken, why = await self._try(waiting, confirmed)
            waiting = [packet for packet in waiting if packet.number not in taken]
            if taken:
                last_progress = clock()
            elif clock() - last_progress > self._patience_s:
                raise UndeliveredError(f"Kafka at {self._servers} confirms nothing: {why}")
            if waiting:
                await self.reconnect()
                await asyncio.sleep(RETRY_S)

    async def reconnect(self) -> None:
        """Leave the producer; the next packet makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def close(self) -> None:
        """Leave."""
        await self.reconnect()

    async def _try(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> tuple[set[int], str]:
        taken: set[int] = set()
        why = ""
        try:
            async with asyncio.timeout(self._patience_s):
                if self._producer is None:
                    self._producer = await self._open()
                sent: list[Any] = [
                    await self._producer.send(KAFKA_PACKET_TOPIC, packet.body, key=packet.device_id.encode()) for packet in packets
                ]
                for packet, answer in zip(packets, sent, strict=True):
                    await answer
                    taken.add(packet.number)
                    confirmed(packet.number, None)
        except (KafkaError, OSError, TimeoutError) as fault:
            why = str(fault) or type(fault).__name__
        return taken, why

    async def _open(self) -> Any:
        producer = _Producer(
            bootstrap_servers=self._servers.split(","),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            request_timeout_ms=_REQUEST_MS,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer
