"""Packets over MQTT 5 with QoS 1, in order, each confirmed by the reason in its PUBACK.

Reason 0 confirms. Reason 0x10 (no matching subscribers) does not: the broker took the packet, and nobody would ever see it.
Neither does an error. The packets handed over together are published together and awaited together; what is left after a lost
connection is published again on a new one, in its order.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from gmqtt import Client, Message
from gmqtt.mqtt.handler import MQTTConnectError

from depot_sim.sending import PATIENCE_S, RETRY_S, Confirmed, Outgoing, UndeliveredError

_ANSWER_S = 5.0
_CONNECT_S = 5.0
_AT_ONCE = 100
_TAKEN, _NO_SUBSCRIBER = 0, 0x10
_NEVER_BY_ITSELF = {"reconnect_retries": -2}


class MqttSender:
    """Sends to one broker under one client id; `patience_s` is how long nothing may be confirmed before it gives up."""

    def __init__(self, url: str, client_id: str, *, patience_s: float = PATIENCE_S) -> None:
        address = urlsplit(url)
        self._tls = address.scheme == "mqtts"
        self._host = address.hostname or "127.0.0.1"
        self._port = address.port or (8883 if self._tls else 1883)
        self._username = unquote(address.username) if address.username else None
        self._password = unquote(address.password) if address.password else None
        self._client_id = client_id
        self._patience_s = patience_s
        self._connection: _Connection | None = None

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        """Return when all are confirmed; UndeliveredError when nothing was for too long."""
        clock = asyncio.get_running_loop().time
        waiting = list(packets)
        last_progress = clock()
        why = "nothing was tried"
        while waiting:
            taken, why = await self._try(waiting[:_AT_ONCE], confirmed)
            if taken:
                waiting = [packet for packet in waiting if packet.number not in taken]
                last_progress = clock()
            elif clock() - last_progress > self._patience_s:
                raise UndeliveredError(f"the MQTT broker at {self._host}:{self._port} confirms nothing: {why}")
            else:
                await asyncio.sleep(RETRY_S)

    async def reconnect(self) -> None:
        """Drop the connection without a word, as a broken line would; the next packet makes a new one."""
        if self._connection is not None:
            self._connection.cut()
            self._connection = None

    async def close(self) -> None:
        """Leave the broker in order."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _try(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> tuple[set[int], str]:
        taken: set[int] = set()
        try:
            if self._connection is None or self._connection.lost.is_set():
                self._connection = await self._open()
            answers = [self._connection.publish(packet) for packet in packets]
            why = ""
            async with asyncio.timeout(_ANSWER_S):
                for packet, answer in zip(packets, answers, strict=True):
                    reason = await answer
                    if reason != _TAKEN:
                        why = "nobody has subscribed" if reason == _NO_SUBSCRIBER else f"it answers with reason {reason:#04x}"
                        continue
                    taken.add(packet.number)
                    confirmed(packet.number, None)
        except (OSError, TimeoutError, MQTTConnectError) as fault:
            await self.reconnect()
            why = str(fault) or type(fault).__name__
        return taken, why

    async def _open(self) -> _Connection:
        client: Any = Client(self._client_id, clean_session=True, logger=_quiet)
        client.set_config(_NEVER_BY_ITSELF)
        if self._username is not None:
            client.set_auth_credentials(self._username, self._password)
        connection = _Connection(client)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await client.connect(self._host, self._port, ssl=self._tls, keepalive=20)
        except BaseException:
            connection.cut()
            raise
        return connection


class _Connection:
    """One connection and the answers that are awaited on it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._answers: dict[int, asyncio.Future[int]] = {}
        self.lost = asyncio.Event()
        client.on_disconnect = self._on_disconnect
        # The answer to a publish carries a reason that the library does not hand on.
        client._package_handler._handle_puback_packet = self._on_puback

    def publish(self, packet: Outgoing) -> asyncio.Future[int]:
        if self.lost.is_set():
            raise ConnectionResetError("the connection to the broker was lost")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        mid, _ = self._client._connection.publish(Message(packet.topic, packet.body, qos=1))
        self._answers[mid] = answer
        return answer

    def cut(self) -> None:
        self._fail_all()
        if self._client._connection is not None:
            self._client._connection._transport.abort()

    async def close(self) -> None:
        self._fail_all()
        if self._client._connection is not None:
            await self._client.disconnect()

    def _on_puback(self, _command: int, packet: bytes) -> None:
        (mid,) = struct.unpack("!H", packet[:2])
        self._client._package_handler.id_generator.free_id(mid)
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(packet[2] if len(packet) > 2 else 0)

    def _on_disconnect(self, _client: Any, _packet: Any, _fault: Any = None) -> None:
        self._fail_all()

    def _fail_all(self) -> None:
        self.lost.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection to the broker was lost"))
                answer.exception()  # so that one that nobody awaits any more is not complained about
        self._answers.clear()


_quiet = logging.getLogger("gmqtt.quiet")
_quiet.setLevel(logging.CRITICAL)
