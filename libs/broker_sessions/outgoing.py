"""What is sent to a broker, and what became of it: confirmed up to some place; from there on perhaps arrived, perhaps not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Outgoing(msgspec.Struct, frozen=True):
    """One message. `headers` are MQTT user properties or Kafka headers, `key` is Kafka's; MQTT has no such thing and leaves it out.

    For MQTT neither a header nor the topic may hold control characters: the broker would end the connection over them.
    """

    topic: str
    body: bytes
    headers: Sequence[tuple[str, bytes]]
    content_type: str | None = None
    key: bytes | None = None


class NotPublishedError(Exception):
    """The broker did not confirm all of a batch: `confirmed` of it, from its beginning, it did. The rest may have arrived, too."""

    def __init__(self, confirmed: int, reason: str) -> None:
        super().__init__(reason)
        self.confirmed = confirmed


class Publisher(Protocol):
    """Publishes to one broker, one batch at a time."""

    async def open(self) -> None:
        """Connect, where it is not connected already; NotPublishedError when that can not be done."""
        ...

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages in their order and return when the broker has confirmed all; else NotPublishedError.

        After a fault, or when cancelled, the connection is given up with whatever was still on its way.
        """
        ...

    async def close(self) -> None:
        """Leave in order; under 1 s."""
        ...
