"""Packets from MQTT 5: one batching source, QoS 1, acknowledged after the commit.

One worker at a time consumes a broker, under a fixed client id and a lease in PostgreSQL; the others stand by and take the
session over when the lease runs out. The session is persistent, so what arrives while nobody is connected waits in the broker.
Every connection subscribes again, also to a session that was resumed, and nobody unsubscribes on leaving.

Each connection is a gmqtt client of its own, so nothing of one connection leaks into the next: an acknowledgement is written to
the connection that its packet came by, or not at all. gmqtt's own way would wait for a coroutine per packet and answer on
whatever connection is current then; we take the QoS 1 packets where it hands them on (`_handle_qos_1_publish_packet`), and
write the acknowledgements of a batch together. See docs/adr/0001-mqtt-source.md for what else was tried.
"""

from __future__ import annotations

import asyncio
import logging
import random
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import structlog
from gmqtt import Client, Subscription
from gmqtt.mqtt.handler import MQTTConnectError

from event_store.database import UNREACHABLE, Pool
from event_store.lease import release_lease, take_lease
from ingest_worker.batching import Pipeline
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import MQTT_PACKET_FILTER, parse_mqtt_packet_topic
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import RawPacket

log = structlog.get_logger("ingest_worker.mqtt")

LEASE_TTL_S = 2.5
_LEASE_RENEWAL_S = 0.8
_STANDBY_POLL_S = 0.5
_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_NEVER_BY_ITSELF = {"reconnect_retries": -2}
"""gmqtt's word for "not even once": reconnecting is ours, on a new client."""


class _Connection:
    """One connection to the broker, and the acknowledgements that belong on it."""

    def __init__(self, source: MqttSource) -> None:
        self._source = source
        self.client: Any = Client(
            source.client_id,
            clean_session=False,
            optimistic_acknowledgement=False,
            logger=_quiet,
            session_expiry_interval=source.session_expiry_s,
        )
        self.lost = asyncio.Event()
        self.subscribed = asyncio.Event()
        self.refused: str | None = None
        self.client.set_config(_NEVER_BY_ITSELF)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_qos_0
        self.client._package_handler._handle_qos_1_publish_packet = self._on_qos_1  # see the module's docstring

    async def open(self, host: str, port: int, username: str | None, password: str | None, *, tls: bool) -> None:
        if username is not None:
            self.client.set_auth_credentials(username, password)
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await self.client.connect(host, port, ssl=tls, keepalive=_KEEPALIVE_S)
            await self.subscribed.wait()
        if self.refused is not None:
            raise ConnectionRefusedError(self.refused)

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Write PUBACKs in the order of delivery, unless this connection is gone: then the broker sends the packets again."""
        transport = self.transport
        if not self.lost.is_set() and transport is not None and not transport.is_closing():
            transport.write(b"".join([struct.pack("!BBH", 0x40, 2, mid) for mid in mids]))

    @property
    def transport(self) -> Any:
        connection = self.client._connection  # gmqtt has no public way to stop reading
        return None if connection is None else connection._transport

    def pause(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def resume(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def stay_alive_unread(self) -> None:
        """Keep gmqtt from taking a pause of ours for a silent broker."""
        if self.client._connection is not None:
            self.client._connection._last_data_in = time.monotonic()

    async def close(self) -> None:
        """Leave in order; the session and its subscription stay at the broker."""
        self.lost.set()
        if self.client._connection is not None:
            await self.client.disconnect()

    def _on_connect(self, client: Any, _session_present: int, _result: int, _properties: Any) -> None:
        client.subscribe(Subscription(MQTT_PACKET_FILTER, qos=1, retain_handling_options=1))

    def _on_subscribe(self, _client: Any, _mid: int, granted: Sequence[int], _properties: Any) -> None:
        if granted[0] != 1:
            self.refused = f"the broker grants QoS {granted[0]} for {MQTT_PACKET_FILTER}, not 1"
            self.lost.set()
        self.subscribed.set()

    def _on_disconnect(self, _client: Any, _packet: Any, _fault: Any = None) -> None:
        if not self.subscribed.is_set():
            self.refused = "the broker closed the connection before it confirmed the subscription"
            self.subscribed.set()
        self.lost.set()

    def _on_qos_0(self, _client: Any, topic: str, payload: bytes, _qos: int, properties: Mapping[str, Any]) -> None:
        self._source.take(self, None, topic, payload, properties)

    def _on_qos_1(self, mid: int, payload: bytes, topic: str, properties: Mapping[str, Any]) -> None:
        self._source.take(self, mid, topic, payload, properties)


class MqttSource:
    """Feeds the pipeline from one broker. `run` is the task that works until `stop`."""

    name = "mqtt"

    def __init__(
        self,
        url: str,
        client_id: str,
        session_expiry_s: int,
        pipeline: Pipeline,
        pool: Pool,
        holder: str,
        clock: Callable[[], datetime],
    ) -> None:
        address = urlsplit(url)
        self._host = address.hostname or "127.0.0.1"
        self._tls = address.scheme == "mqtts"
        self._port = address.port or (8883 if self._tls else 1883)
        self._username = unquote(address.username) if address.username else None
        self._password = unquote(address.password) if address.password else None
        self.client_id = client_id
        self.session_expiry_s = session_expiry_s
        self._pipeline = pipeline
        self._pool = pool
        self._holder = holder
        self._clock = clock
        self._connection: _Connection | None = None
        self._paused = False
        self._stopping = asyncio.Event()
        self._is_holder = False
        self.trouble: str | None = None
        """Why no packets come, while the lease is ours and the broker is not to be had."""

    @property
    def lease_name(self) -> str:
        return f"mqtt/{self.client_id}"

    async def run(self) -> None:
        """Hold the lease when it can be had, and the connection while it is held."""
        while not self._stopping.is_set():
            if not await self._take_lease():
                await self._wait(_STANDBY_POLL_S)
                continue
            log.info("consuming MQTT", broker=f"{self._host}:{self._port}", client_id=self.client_id)
            renewal = asyncio.create_task(self._renew_lease(), name="mqtt-lease")
            consuming = asyncio.create_task(self._consume(), name="mqtt-connection")
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({renewal, consuming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (renewal, consuming, stopping):
                    task.cancel()
                await asyncio.gather(renewal, consuming, stopping, return_exceptions=True)
            if not self._stopping.is_set():
                await self._drop_connection()
                log.warning("the MQTT lease went to another worker, standing by", lease=self.lease_name)

    def stop_taking(self) -> None:
        """Take no more packets; those in hand are still acknowledged until `close`."""
        self._stopping.set()

    async def close(self) -> None:
        """Disconnect in order, and let a standby have the session at once."""
        await self._drop_connection()
        if self._is_holder:
            self._is_holder = False
            try:
                async with asyncio.timeout(1):
                    await release_lease(self._pool, self.lease_name, self._holder)
            except UNREACHABLE:
                log.warning("the MQTT lease was not given back, it runs out by itself", lease=self.lease_name)

    def take(self, connection: _Connection, mid: int | None, topic: str, payload: bytes, properties: Mapping[str, Any]) -> None:
        """Take one packet from a connection, unless we are leaving: then the broker keeps it."""
        if self._stopping.is_set() or connection is not self._connection:
            return
        headers = dict(properties.get("user_property", ()))
        trace = parse_traceparent(headers.get("traceparent")) if headers else None
        claimed = parse_mqtt_packet_topic(topic) or ClaimedIdentity("", "")
        raw = RawPacket(
            body=payload,
            source=self.name,
            topic=topic,
            claimed=claimed,
            received_at=self._clock(),
            headers=headers,
            trace_id=trace.trace_id if trace is not None else None,
        )
        self._pipeline.put(self, (connection, mid), raw)
        if self._pipeline.is_full:
            self._paused = True
            self._pipeline.note_full()
            connection.pause()

    def stored(self, tokens: Sequence[object]) -> None:
        """Acknowledge packets on the connection that each came by."""
        connection = self._connection
        if connection is None:
            return
        mids = [mid for of, mid in _delivered(tokens) if of is connection and mid is not None]
        if mids:
            connection.acknowledge(mids)

    def has_room(self) -> None:
        """Read again after a pause."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    async def _take_lease(self) -> bool:
        try:
            self._is_holder = await take_lease(self._pool, self.lease_name, self._holder, LEASE_TTL_S)
        except UNREACHABLE as fault:
            self.trouble = f"the lease can not be asked for: {fault}"
            return False
        self.trouble = None
        return self._is_holder

    async def _renew_lease(self) -> None:
        """Renew until another holder has it. While the database is away nobody can take it, so we stay."""
        while True:
            await asyncio.sleep(_LEASE_RENEWAL_S)
            try:
                async with asyncio.timeout(_LEASE_RENEWAL_S * 2):
                    if not await take_lease(self._pool, self.lease_name, self._holder, LEASE_TTL_S):
                        self._is_holder = False
                        return
            except UNREACHABLE as fault:
                log.warning("MQTT lease not renewed", reason=str(fault))

    async def _consume(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            connection = _Connection(self)
            self._connection = connection
            try:
                await connection.open(self._host, self._port, self._username, self._password, tls=self._tls)
                self.trouble = None
                backoff_s = _FIRST_BACKOFF_S
                log.info("connected to MQTT", broker=f"{self._host}:{self._port}")
                await self._watch(connection)
                if self._stopping.is_set():
                    return
                log.warning("connection to MQTT lost, connecting again")
            except (OSError, TimeoutError, MQTTConnectError) as fault:
                self.trouble = f"MQTT at {self._host}:{self._port} is not to be had: {fault or type(fault).__name__}"
                log.warning("waiting for MQTT", broker=f"{self._host}:{self._port}", reason=str(fault) or type(fault).__name__)
            await connection.close()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    async def _watch(self, connection: _Connection) -> None:
        """Return when the connection is lost; meanwhile keep it alive through pauses of our own."""
        if self._paused:
            connection.pause()
        while not connection.lost.is_set():
            try:
                async with asyncio.timeout(_KEEPALIVE_S / 4):
                    await connection.lost.wait()
            except TimeoutError:
                if self._paused:
                    connection.stay_alive_unread()

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(1):
                    await connection.close()
            except (OSError, TimeoutError) as fault:
                log.warning("MQTT connection not closed in order", reason=str(fault) or type(fault).__name__)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _delivered(tokens: Sequence[object]) -> Sequence[tuple[_Connection, int | None]]:
    return cast("Sequence[tuple[_Connection, int | None]]", tokens)  # a source gets back the tokens that it gave


_quiet = logging.getLogger("gmqtt.quiet")
_quiet.setLevel(logging.CRITICAL)
