"""What other programs receive: subscribers to MQTT and Kafka that keep every message in the order of its arrival."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import Any, Self

import aiokafka
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

_Consumer: Any = aiokafka.AIOKafkaConsumer
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Received:
    """One message; `key` is Kafka's."""

    topic: str
    body: bytes
    headers: dict[str, str]
    content_type: str | None
    key: bytes | None = None


class MqttSubscriber:
    """Subscribes with a lasting session, so that nothing is missed while the broker restarts."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.messages: list[Received] = []
        self._port = port
        self._filter = topic_filter
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"subscriber-{next(_numbers)}", protocol=MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        lasting: Any = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 600
        self._client.connect("127.0.0.1", self._port, keepalive=10, clean_start=False, properties=lasting)
        self._client.loop_start()
        assert self._subscribed.wait(30), "no answer to SUBSCRIBE"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, _u: object, _f: ConnectFlags, _r: ReasonCode, _p: Properties | None) -> None:
        client.subscribe(self._filter, options=SubscribeOptions(qos=1))

    def _on_subscribe(self, _c: Client, _u: object, _m: int, _r: list[ReasonCode], _p: Properties | None) -> None:
        self._subscribed.set()

    def _on_message(self, _c: Client, _u: object, message: MQTTMessage) -> None:
        properties: Any = message.properties
        self.messages.append(
            Received(
                message.topic,
                bytes(message.payload),
                dict(getattr(properties, "UserProperty", ())),
                getattr(properties, "ContentType", None),
            )
        )


class KafkaSubscriber:
    """Reads a topic from the end that it has when the context begins."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.messages: list[Received] = []
        self._consumer = _Consumer(
            bootstrap_servers=bootstrap_servers, enable_auto_commit=False, auto_offset_reset="latest", request_timeout_ms=15_000
        )
        self._topic = topic

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        partitions = [aiokafka.TopicPartition(self._topic, number) for number in await self._partitions()]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._consumer.stop()

    async def _partitions(self) -> list[int]:
        # The first question makes the broker create the topic.
        while not (found := await self._consumer._client._wait_on_metadata(self._topic)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return sorted(found)

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = {name: value.decode() for name, value in record.headers}
            self.messages.append(Received(record.topic, record.value, headers, headers.pop("content-type", None), record.key))
