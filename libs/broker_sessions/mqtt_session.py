"""A lasting MQTT 5 session that loses nothing: QoS 1, acknowledged when the taker says so.

One process at a time consumes a broker, under a fixed client id and a lease in PostgreSQL; the others stand by and take the
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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from gmqtt import Client, Subscription
from gmqtt.mqtt.handler import MQTTConnectError

from event_store.database import UNREACHABLE, Pool
from event_store.lease import give_back_in_time, take_lease

log = structlog.get_logger("broker_sessions.mqtt")

LEASE_TTL_S = 2.5
_LEASE_RENEWAL_S = 0.8
_STANDBY_POLL_S = 0.5
_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 2.0
"""The broker may be back for this long before anybody notices, and packets are to flow again within 5 s."""
_puback = struct.Struct("!BBH").pack
_NEVER_BY_ITSELF = {"reconnect_retries": -2}
"""gmqtt's word for "not even once": reconnecting is ours, on a new client."""


class Connection:
    """One connection to the broker, and the acknowledgements that belong on it."""

    def __init__(self, client_id: str, session_expiry_s: int, topic_filter: str, take: Take) -> None:
        self._topic_filter = topic_filter
        self._take = take
        self.client: Any = Client(
            client_id,
            clean_session=False,
            optimistic_acknowledgement=False,
            logger=_quiet,
            session_expiry_interval=session_expiry_s,
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

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Write PUBACKs in the order of delivery, unless this connection is gone: then the broker sends the packets again."""
        transport = self.transport
        if not self.lost.is_set() and transport is not None and not transport.is_closing():
            transport.write(b"".join([_puback(0x40, 2, mid) for mid in mids]))

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

    def silent_s(self) -> float:
        """Seconds since the broker sent anything."""
        return time.monotonic() - self.client._connection._last_data_in if self.client._connection is not None else 0.0

    def stay_alive_unread(self) -> None:
        """Keep gmqtt from taking a pause of ours for a silent broker."""
        if self.client._connection is not None:
            self.client._connection._last_data_in = time.monotonic()

    async def close(self, *, end_session: bool = False) -> None:
        """Leave in order; the session and its subscription stay at the broker, unless it is to end."""
        self.lost.set()
        if self.client._connection is not None:
            await (self.client.disconnect(session_expiry_interval=0) if end_session else self.client.disconnect())

    def _on_connect(self, client: Any, _session_present: int, _result: int, _properties: Any) -> None:
        client.subscribe(Subscription(self._topic_filter, qos=1, retain_handling_options=1))

    def _on_subscribe(self, _client: Any, _mid: int, granted: Sequence[int], _properties: Any) -> None:
        if granted[0] != 1:
            self.refused = f"the broker grants QoS {granted[0]} for {self._topic_filter}, not 1"
            self.lost.set()
        self.subscribed.set()

    def _on_disconnect(self, _client: Any, _packet: Any, _fault: Any = None) -> None:
        if not self.subscribed.is_set():
            self.refused = "the broker closed the connection before it confirmed the subscription"
            self.subscribed.set()
        self.lost.set()

    def _on_qos_0(self, _client: Any, topic: str, payload: bytes, _qos: int, properties: Mapping[str, Any]) -> None:
        self._take(self, None, topic, payload, properties)

    def _on_qos_1(self, mid: int, payload: bytes, topic: str, properties: Mapping[str, Any]) -> None:
        self._take(self, mid, topic, payload, properties)


Take = Callable[[Connection, int | None, str, bytes, Mapping[str, Any]], None]
"""Is given each packet: its connection, its number there (None for QoS 0), topic, body and MQTT properties."""


class LastingSession:
    """The session of one client id at one broker, for whoever knows to be the only one under that id. `consume` keeps it connected.

    `take` may be called for a packet whose connection `is_current` no more: that packet comes again and is to be left. Its comings
    and goings are logged with `severity`.
    """

    def __init__(
        self, url: str, client_id: str, session_expiry_s: int, topic_filter: str, take: Take, *, severity: int = logging.INFO
    ) -> None:
        address = urlsplit(url)
        self._host = address.hostname or "127.0.0.1"
        self._tls = address.scheme == "mqtts"
        self._port = address.port or (8883 if self._tls else 1883)
        self._username = unquote(address.username) if address.username else None
        self._password = unquote(address.password) if address.password else None
        self._client_id = client_id
        self._session_expiry_s = session_expiry_s
        self._topic_filter = topic_filter
        self._take = take
        self._severity = severity
        self._severity_of_trouble = logging.WARNING if severity >= logging.INFO else severity
        self._connection: Connection | None = None
        self._paused = False
        self._stopping = asyncio.Event()
        self.subscribed = asyncio.Event()
        """Set once the broker has confirmed the subscription, on any connection."""
        self.trouble: str | None = None
        """Why no packets come, while the broker is not to be had."""

    def stop_taking(self) -> None:
        """Take no more packets; those in hand are still acknowledged until the connection is dropped."""
        self._stopping.set()

    async def drop(self) -> None:
        """Disconnect in order; the session stays at the broker."""
        self._stopping.set()
        await self._drop_connection()

    async def end(self) -> None:
        """Disconnect and let the broker forget the session with all that waits in it; unconnected, that takes until its expiry."""
        self._stopping.set()
        await self._drop_connection(end_session=True)

    def is_current(self, connection: Connection) -> bool:
        """Whether packets of this connection are taken: it is the one in use, and we are not leaving."""
        return connection is self._connection and not self._stopping.is_set()

    def acknowledge(self, delivered: Sequence[tuple[Connection, int | None]]) -> None:
        """Acknowledge packets, each on the connection that it came by, in the order of their delivery."""
        connection = self._connection
        if connection is None:
            return
        mids = [mid for of, mid in delivered if of is connection and mid is not None]
        if mids:
            connection.acknowledge(mids)

    def pause(self) -> None:
        """Read no more until `resume`: TCP holds the broker back."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read again after a pause."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    async def consume(self) -> None:
        """Connect and connect again, without end, until cancelled or told to stop."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            connection = Connection(self._client_id, self._session_expiry_s, self._topic_filter, self._take)
            self._connection = connection
            try:
                await connection.open(self._host, self._port, self._username, self._password, tls=self._tls)
                self.trouble = None
                await self._until_subscribed(connection)
                backoff_s = _FIRST_BACKOFF_S
                self.subscribed.set()
                log.log(self._severity, "connected to MQTT", broker=f"{self._host}:{self._port}")
                await self._watch(connection)
                if self._stopping.is_set():
                    return
                log.log(self._severity_of_trouble, "connection to MQTT lost, connecting again")
            except (OSError, TimeoutError, MQTTConnectError) as fault:
                trouble = f"MQTT at {self._host}:{self._port} is not to be had: {str(fault) or type(fault).__name__}"
                if trouble != self.trouble:
                    # Said once and not at every try; `/readyz` goes on saying it.
                    log.log(
                        self._severity_of_trouble,
                        "waiting for MQTT",
                        broker=f"{self._host}:{self._port}",
                        reason=str(fault) or type(fault).__name__,
                    )
                self.trouble = trouble
            await connection.close()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    async def _until_subscribed(self, connection: Connection) -> None:
        """Return when the broker has confirmed the subscription.

        To a resumed session it sends the whole backlog first, which takes as long as storing it takes. So only silence counts,
        and none of our own making.
        """
        if self._paused:
            connection.pause()
        while not connection.subscribed.is_set():
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S / 4):
                    await connection.subscribed.wait()
            except TimeoutError:
                if self._paused:
                    connection.stay_alive_unread()
                elif connection.silent_s() > _CONNECT_TIMEOUT_S:
                    raise TimeoutError("the broker does not confirm the subscription") from None
        if connection.refused is not None:
            raise ConnectionRefusedError(connection.refused)

    async def _watch(self, connection: Connection) -> None:
        """Return when the connection is lost; meanwhile keep it alive through pauses of our own."""
        while not connection.lost.is_set():
            try:
                async with asyncio.timeout(_KEEPALIVE_S / 4):
                    await connection.lost.wait()
            except TimeoutError:
                if self._paused:
                    connection.stay_alive_unread()

    async def _drop_connection(self, *, end_session: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(1):
                    await connection.close(end_session=end_session)
            except (OSError, TimeoutError) as fault:
                log.warning("MQTT connection not closed in order", reason=str(fault) or type(fault).__name__)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


class NotYetError(Exception):
    """The session must not be read by this process now; the message says why and what to do."""


class MqttSession(LastingSession):
    """A lasting session that one process at a time holds, by a lease. `run` is the task that holds it until `stop_taking`.

    `taken_over` is awaited when the lease is ours and before anything is read; it may raise `NotYetError`, or what the database
    raises. Then the lease is given back and asked for again later.
    `lost` is awaited when another process has the lease.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        session_expiry_s: int,
        topic_filter: str,
        take: Take,
        pool: Pool,
        holder: str,
        *,
        taken_over: Callable[[], Awaitable[None]] | None = None,
        lost: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(url, client_id, session_expiry_s, topic_filter, take)
        self._pool = pool
        self._holder = holder
        self._taken_over = taken_over
        self._lost = lost
        self._is_holder = False
        self._not_yet: str | None = None

    @property
    def lease_name(self) -> str:
        return f"mqtt/{self._client_id}"

    async def run(self) -> None:
        """Hold the lease when it can be had, and the connection while it is held."""
        while not self._stopping.is_set():
            if not await self._take_lease():
                await self._wait(_STANDBY_POLL_S)
                continue
            if not await self._is_taken_over():
                await self._wait(_STANDBY_POLL_S)
                continue
            log.info("consuming MQTT", broker=f"{self._host}:{self._port}", client_id=self._client_id)
            renewal = asyncio.create_task(self._renew_lease(), name="mqtt-lease")
            consuming = asyncio.create_task(self.consume(), name="mqtt-connection")
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({renewal, consuming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (renewal, consuming, stopping):
                    task.cancel()
                await asyncio.gather(renewal, consuming, stopping, return_exceptions=True)
            if not self._stopping.is_set():
                await self._drop_connection()
                if self._lost is not None:
                    await self._lost()
                log.warning("the MQTT lease went to another process, standing by", lease=self.lease_name)

    async def close(self) -> None:
        """Disconnect in order, and let a standby have the session at once."""
        await self._drop_connection()
        await self._give_lease_back()

    async def _give_lease_back(self) -> None:
        if self._is_holder:
            self._is_holder = False
            if not await give_back_in_time(self._pool, self.lease_name, self._holder, 1.0):
                log.warning("the MQTT lease was not given back, it runs out by itself", lease=self.lease_name)

    async def _take_lease(self) -> bool:
        try:
            self._is_holder = await take_lease(self._pool, self.lease_name, self._holder, LEASE_TTL_S)
        except UNREACHABLE as fault:
            self.trouble = f"the lease can not be asked for: {fault}"
            return False
        self.trouble = self._not_yet if self._is_holder else None
        return self._is_holder

    async def _is_taken_over(self) -> bool:
        if self._taken_over is None:
            return True
        try:
            async with asyncio.timeout(LEASE_TTL_S / 2):
                await self._taken_over()
        except (NotYetError, *UNREACHABLE) as fault:
            trouble = f"MQTT is not read yet: {fault}"
            if trouble != self._not_yet:
                log.warning("MQTT is not read yet", reason=str(fault))
            self.trouble = self._not_yet = trouble
            await self._give_lease_back()
            return False
        self.trouble = self._not_yet = None
        return True

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


_quiet = logging.getLogger("gmqtt.quiet")
_quiet.setLevel(logging.CRITICAL)
