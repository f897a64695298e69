"""Packets from MQTT to Kafka: acknowledged to MQTT after Kafka has them, in order per device, from whom they really came.

A batch is whatever arrived while the one before was on its way. It goes out in order with `acks=all`, and only when all of it is
confirmed is it acknowledged, on the connection that each packet came by. While Kafka is away nothing is acknowledged: the rest of
the batch is sent again with a jittered backoff, for ever, and reading stops at a bound of packets and bytes in hand, so that the
backlog stays in the MQTT broker. What was sent and not acknowledged comes again and goes out again; the workers behind Kafka
recognise it.

The record's key is the device of the topic, so a device keeps to its partition. A header names the whole topic that the MQTT
broker let the sender publish on; a worker holds the packet's gateway and device to it as if it had come over MQTT. It is ours
alone: a user property of that name is left out. Other user properties go along as headers, up to a bound; beyond that only the
trace does.

A packet larger than any packet may be does not go to Kafka, whose own limit might refuse it for ever: it is given to `refuse`,
which must keep it as a dead letter before the batch is acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any, Protocol

import msgspec
import structlog

from broker_sessions.mqtt_session import Connection
from broker_sessions.outgoing import NotPublishedError, Outgoing, Publisher
from sensor_packet.decode import MAX_PACKET_BYTES
from sensor_packet.topics import KAFKA_BRIDGED_TOPIC_HEADER, KAFKA_PACKET_TOPIC, parse_mqtt_packet_topic
from service_runtime.metrics import BridgeMetrics

log = structlog.get_logger("mqtt_bridge")

_OUR_HEADERS = "depotgrid-"
_LARGEST_HEADERS = 8 * 1024
_TRACE_HEADERS = ("traceparent", "tracestate")
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0


class Taken(msgspec.Struct, frozen=True, gc=False):
    """One packet in hand: where it came by, what it is, and when it arrived by the clock and by `perf_counter`."""

    connection: Connection
    mid: int | None
    topic: str
    body: bytes
    headers: Mapping[str, str]
    received_at: datetime
    since: float


class Session(Protocol):
    """Where packets come from: `broker_sessions.mqtt_session.MqttSession`, as far as this needs it."""

    def is_current(self, connection: Connection) -> bool: ...
    def acknowledge(self, delivered: Sequence[tuple[Connection, int | None]]) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


Refuse = Callable[[Taken], Awaitable[None]]
"""Keeps a packet as a dead letter; any exception means that it is not kept."""


class Forwarder:
    """Takes packets from a session and forwards them. `run` is the task that works until cancelled."""

    def __init__(
        self,
        publisher: Publisher,
        refuse: Refuse,
        metrics: BridgeMetrics,
        clock: Callable[[], datetime],
        *,
        batch_max: int,
        max_packets: int,
        max_bytes: int,
    ) -> None:
        self._publisher = publisher
        self._refuse = refuse
        self._metrics = metrics
        self._clock = clock
        self._batch_max = batch_max
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._session: Session | None = None
        self._waiting: deque[Taken] = deque()
        self._batch: list[Taken] = []
        self._bytes_in_hand = 0
        self._paused = False
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.trouble: str | None = None
        """Why the batch in hand is not taken, while it is not."""
        metrics.watch(in_flight=lambda: float(self._in_hand()), unacknowledged_age_s=self.unacknowledged_age_s)

    def take_from(self, session: Session) -> None:
        """Name the session that `take` is called by."""
        self._session = session

    def take(self, connection: Connection, mid: int | None, topic: str, payload: bytes, properties: Mapping[str, Any]) -> None:
        """Take one packet from a connection, unless its session is leaving: then the broker keeps it."""
        session = self._session
        if session is None or not session.is_current(connection):
            return
        headers = dict(properties.get("user_property", ()))
        self._waiting.append(Taken(connection, mid, topic, payload, headers, self._clock(), perf_counter()))
        self._bytes_in_hand += len(payload)
        self._arrived.set()
        self._idle.clear()
        if not self._paused and (self._in_hand() >= self._max_packets or self._bytes_in_hand >= self._max_bytes):
            self._paused = True
            session.pause()

    def unacknowledged_age_s(self) -> float:
        """Seconds since the oldest packet in hand arrived; 0 when there is none."""
        oldest = self._batch[0] if self._batch else self._waiting[0] if self._waiting else None
        return 0.0 if oldest is None else perf_counter() - oldest.since

    async def wait_until_idle(self) -> None:
        """Return when nothing is in hand."""
        await self._idle.wait()

    async def open(self) -> None:
        """Return when Kafka is there to forward to, however long that takes."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._publisher.open()
            except NotPublishedError as fault:
                self._note(str(fault), "waiting for Kafka")
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                self.trouble = None
                return

    async def run(self) -> None:
        """Forward until cancelled. Cancelling leaves what is in hand unacknowledged."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                self._batch = [self._waiting.popleft() for _ in range(min(self._batch_max, len(self._waiting)))]
                await self._forward(self._batch)
                self._acknowledge(self._batch)
                self._batch = []
            self._arrived.clear()
            self._idle.set()

    async def _forward(self, batch: Sequence[Taken]) -> None:
        """Return when Kafka, or the dead letters, have every packet of a batch."""
        too_large = [one for one in batch if len(one.body) > MAX_PACKET_BYTES]
        records = [record_of(one) for one in batch if len(one.body) <= MAX_PACKET_BYTES]
        refused = confirmed = 0
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                if confirmed < len(records):
                    await self._publisher.publish(records[confirmed:])
                    confirmed = len(records)
                for one in too_large[refused:]:
                    await self._refuse(one)
                    refused += 1
            except Exception as fault:  # whatever it is, what nobody has must not be acknowledged
                if isinstance(fault, NotPublishedError):
                    confirmed += fault.confirmed
                self._note(str(fault) or type(fault).__name__, "batch not taken, trying again")
                self._metrics.count_retry()
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                self.trouble = None
                self._metrics.count("FORWARDED", len(records))
                self._metrics.count("DEAD_LETTERED", len(too_large))
                return

    def _note(self, fault: str, what: str) -> None:
        reason = fault.splitlines()[0]
        if reason != self.trouble:
            # Said once and not at every try; `/readyz` goes on saying it.
            log.warning(what, reason=reason)
        self.trouble = reason

    def _acknowledge(self, batch: Sequence[Taken]) -> None:
        self._bytes_in_hand -= sum(len(one.body) for one in batch)
        if self._session is None:
            return
        self._session.acknowledge([(one.connection, one.mid) for one in batch])
        if self._paused and len(self._waiting) < self._max_packets // 2 and self._bytes_in_hand < self._max_bytes // 2:
            self._paused = False
            self._session.resume()

    def _in_hand(self) -> int:
        return len(self._waiting) + len(self._batch)


def record_of(packet: Taken) -> Outgoing:
    """The Kafka record of a packet."""
    claimed = parse_mqtt_packet_topic(packet.topic)
    headers = [(name, value.encode("utf-8", "replace")) for name, value in packet.headers.items() if not _is_ours(name)]
    if sum(len(name.encode("utf-8", "replace")) + len(value) for name, value in headers) > _LARGEST_HEADERS:
        headers = [(name, value) for name, value in headers if name in _TRACE_HEADERS and len(value) <= _LARGEST_HEADERS // 4]
    return Outgoing(
        KAFKA_PACKET_TOPIC,
        packet.body,
        [(KAFKA_BRIDGED_TOPIC_HEADER, packet.topic.encode("utf-8", "replace")), *headers],
        key=(claimed.device_id or "").encode("utf-8", "replace") if claimed is not None else b"",
    )


def _is_ours(name: str) -> bool:
    return name.lower().startswith(_OUR_HEADERS)
