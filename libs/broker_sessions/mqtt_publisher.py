"""Publish to MQTT 5 with QoS 1, in order, and know what the broker confirmed.

Confirmed is what was answered with PUBACK and a reason below 0x80; 0x10 says that nobody is subscribed, which is nobody's loss,
unless the caller `needs_subscriber`.
gmqtt does not look at that reason, so the answers are taken where it hands them on (`_handle_puback_packet`). Every connection is a
gmqtt client of its own, as in `mqtt_session.py`, with a clean session: what was not confirmed is the caller's to send again. So a
message never goes out on a later connection behind the caller's back. At most as many are unanswered as the broker allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from gmqtt import Client
from gmqtt.mqtt.handler import MQTTConnectError

from broker_sessions.outgoing import NotPublishedError, Outgoing

_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_SILENCE_S = 10.0
"""A broker that answers nothing for this long while something is on its way is given up."""
_LARGEST_WINDOW = 1_000
_REFUSED = 0x80
_NO_SUBSCRIBER = 0x10
_NEVER_BY_ITSELF = {"reconnect_retries": -2}


class _Connection:
    def __init__(self, client_id: str, *, needs_subscriber: bool) -> None:
        self._least_refusal = _NO_SUBSCRIBER if needs_subscriber else _REFUSED
        self.client: Any = Client(client_id, clean_session=True, logger=_quiet)
        self.client.set_config(_NEVER_BY_ITSELF)
        self.client.on_disconnect = self._on_disconnect
        self.client._package_handler._handle_puback_packet = self._on_puback  # see the module's docstring
        self.unanswered: dict[int, int] = {}
        """Packet identifier → place in the batch."""
        self.refused: tuple[int, int] | None = None
        """Place and reason of the first message that the broker refused."""
        self.lost = False
        self.changed = asyncio.Event()

    @property
    def window(self) -> int:
        allowed = self.client._package_handler._connack_properties.get("receive_maximum", [65_535])[0]
        return max(1, min(allowed - 1, _LARGEST_WINDOW))

    def begin(self) -> None:
        self.unanswered.clear()
        self.refused = None

    def send(self, place: int, message: Outgoing) -> None:
        properties: dict[str, Any] = {"user_property": [(name, value.decode()) for name, value in message.headers]}
        if message.content_type is not None:
            properties["content_type"] = message.content_type
        self.client.publish(message.topic, message.body, qos=1, **properties)
        # The identifier that gmqtt has just dealt out: it keeps unanswered messages in the order of sending.
        self.unanswered[next(reversed(self.client._persistent_storage._messages))] = place

    def drop(self) -> None:
        """Leave at once, with what is not written yet."""
        self.lost = True
        connection = self.client._connection
        if connection is not None:
            connection._transport.abort()

    def _on_puback(self, _command: int, packet: bytes) -> None:
        mid = int.from_bytes(packet[:2], "big")
        reason = packet[2] if len(packet) > 2 else 0
        place = self.unanswered.pop(mid, None)
        self.client._package_handler.id_generator.free_id(mid)
        self.client._persistent_storage.remove_message_by_mid(mid)
        if reason >= self._least_refusal and place is not None and (self.refused is None or place < self.refused[0]):
            self.refused = (place, reason)
        self.changed.set()

    def _on_disconnect(self, _client: Any, _packet: Any, _fault: Any = None) -> None:
        self.lost = True
        self.changed.set()


class MqttPublisher:
    """One publisher at one broker; `client_id` must be no one else's.

    Where it `needs_subscriber`, a message that nobody is subscribed to is not confirmed.
    """

    def __init__(self, url: str, client_id: str, *, needs_subscriber: bool = False) -> None:
        address = urlsplit(url)
        self._host = address.hostname or "127.0.0.1"
        self._tls = address.scheme == "mqtts"
        self._port = address.port or (8883 if self._tls else 1883)
        self._username = unquote(address.username) if address.username else None
        self._password = unquote(address.password) if address.password else None
        self._client_id = client_id
        self._needs_subscriber = needs_subscriber
        self._connection: _Connection | None = None

    @property
    def _name(self) -> str:
        return f"MQTT at {self._host}:{self._port}"

    async def open(self) -> None:
        """Connect, where it is not connected already; NotPublishedError when that can not be done."""
        await self._connected()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages in their order and return when the broker has confirmed all; else NotPublishedError."""
        connection = await self._connected()
        try:
            await self._publish(connection, messages)
        except BaseException:
            self._connection = None
            connection.drop()
            raise

    async def close(self) -> None:
        """Leave in order; under 1 s."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(0.8):
                await connection.client.disconnect()
        except (OSError, TimeoutError):
            connection.drop()

    async def _connected(self) -> _Connection:
        if self._connection is not None and not self._connection.lost:
            return self._connection
        connection = _Connection(self._client_id, needs_subscriber=self._needs_subscriber)
        if self._username is not None:
            connection.client.set_auth_credentials(self._username, self._password)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await connection.client.connect(self._host, self._port, ssl=self._tls, keepalive=_KEEPALIVE_S)
        except (OSError, TimeoutError, MQTTConnectError) as fault:
            connection.drop()
            raise NotPublishedError(0, f"{self._name} is not to be had: {str(fault) or type(fault).__name__}") from fault
        except BaseException:
            connection.drop()
            raise
        self._connection = connection
        return connection

    async def _publish(self, connection: _Connection, messages: Sequence[Outgoing]) -> None:
        connection.begin()
        sent = 0
        while sent < len(messages) or connection.unanswered:
            while sent < len(messages) and len(connection.unanswered) < connection.window and not connection.lost:
                connection.send(sent, messages[sent])
                sent += 1
            connection.changed.clear()
            if connection.lost or connection.refused is not None:
                break
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await connection.changed.wait()
            except TimeoutError:
                raise NotPublishedError(
                    min(connection.unanswered.values()), f"{self._name} confirms nothing for {_SILENCE_S:g} s"
                ) from None
        if connection.refused is not None:
            place, reason = connection.refused
            confirmed = min([place, *connection.unanswered.values()])
            raise NotPublishedError(confirmed, f"{self._name} refuses {messages[place].topic} with reason {reason:#x}")
        if connection.lost:
            confirmed = min([sent, *connection.unanswered.values()])
            if confirmed < len(messages):
                raise NotPublishedError(confirmed, f"the connection to {self._name} was lost")


_quiet = logging.getLogger("gmqtt.quiet")
_quiet.setLevel(logging.CRITICAL)
