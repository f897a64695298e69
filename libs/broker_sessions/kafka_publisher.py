"""Publish to Kafka with `acks=all` and an idempotent producer, in order per key, and know what the broker confirmed.

The producer retries by itself, without end and without doubling or reordering. Where it gives up, or confirms nothing for a
while, it is thrown away with everything that it still had, and the caller sends again from the first unconfirmed message on, by a
new one. Then a message may arrive twice, yet never before one that precedes it: a broker refuses a producer's message whose
predecessor it has not got.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError

from broker_sessions.outgoing import NotPublishedError, Outgoing

_START_TIMEOUT_S = 10.0
_SILENCE_S = 5.0
_LARGEST_REQUEST = 1024 * 1024
_BATCH_BYTES = 256 * 1024
_Producer: Any = aiokafka.AIOKafkaProducer  # its types are only partly known


class KafkaPublisher:
    """One publisher at one cluster."""

    def __init__(self, bootstrap_servers: str, client_id: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._producer: Any = None

    @property
    def _name(self) -> str:
        return f"Kafka at {self._bootstrap_servers}"

    async def open(self) -> None:
        """Connect, where it is not connected already; NotPublishedError when that can not be done."""
        await self._started()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages in their order and return when the broker has confirmed all; else NotPublishedError."""
        producer = await self._started()
        sent: list[asyncio.Future[Any]] = []
        try:
            await self._publish(producer, messages, sent)
        except BaseException:
            self._producer = None
            await _throw_away(producer)
            for one in sent:
                if one.done() and not one.cancelled():
                    one.exception()  # looked at, so that nobody complains about it later
            raise

    async def close(self) -> None:
        """Leave in order; under 1 s."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _throw_away(producer)

    async def _started(self) -> Any:
        if self._producer is not None:
            return self._producer
        producer = _Producer(
            bootstrap_servers=self._bootstrap_servers.split(","),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            max_request_size=_LARGEST_REQUEST,
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=int(_SILENCE_S * 1000),
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as fault:
            await _throw_away(producer)
            raise NotPublishedError(0, f"{self._name} is not to be had: {str(fault) or type(fault).__name__}") from fault
        except BaseException:
            await _throw_away(producer)
            raise
        self._producer = producer
        return producer

    async def _publish(self, producer: Any, messages: Sequence[Outgoing], sent: list[asyncio.Future[Any]]) -> None:
        refusal: BaseException | None = None
        try:
            for message in messages:
                headers = list(message.headers)
                if message.content_type is not None:
                    headers.insert(0, ("content-type", message.content_type.encode()))
                sent.append(await producer.send(message.topic, message.body, key=message.key, headers=headers))
        except (KafkaError, OSError) as fault:
            refusal = fault
        waiting = set(sent)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise NotPublishedError(_confirmed(sent), f"{self._name} confirms nothing for {_SILENCE_S:g} s")
            failed = next((one for one in done if one.exception() is not None), None)
            if failed is not None:
                refusal = failed.exception()
                break
        if refusal is not None:
            reason = f"{self._name} does not take a message: {str(refusal) or type(refusal).__name__}"
            raise NotPublishedError(_confirmed(sent), reason)


def _confirmed(sent: Sequence[asyncio.Future[Any]]) -> int:
    """How many from the beginning are confirmed."""
    return next((place for place, one in enumerate(sent) if not one.done() or one.exception() is not None), len(sent))


async def _throw_away(producer: Any) -> None:
    """End a producer with what it still has: its own way of closing would wait for a broker that may be gone."""
    with contextlib.suppress(Exception):  # it is on its way out, whatever it has to say
        async with asyncio.timeout(0.8):
            await producer.client.close()
            await producer._sender.close()
    producer._closed = True
