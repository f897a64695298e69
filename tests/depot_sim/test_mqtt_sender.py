"""Sending over MQTT: nothing counts as confirmed that nobody would see, order is kept, and a lost line loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from gmqtt import Client
from tests.real_services.waiting import until

from depot_sim.mqtt_sender import MqttSender
from depot_sim.sending import Outgoing, UndeliveredError
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_process import free_port


def _packets(topic: str, count: int) -> list[Outgoing]:
    return [Outgoing(number, topic, "device", str(number).encode()) for number in range(count)]


@contextlib.asynccontextmanager
async def _listening(port: int, topic: str, client_id: str) -> AsyncGenerator[list[bytes]]:
    got: list[bytes] = []
    listener: Any = Client(client_id, clean_session=False, session_expiry_interval=600)
    subscribed = asyncio.Event()

    def take(_client: object, _topic: str, payload: bytes, _qos: int, _properties: object) -> int:
        got.append(payload)
        return 0

    listener.on_message = take

    def note(*_: object) -> None:
        subscribed.set()

    listener.on_subscribe = note
    await listener.connect("127.0.0.1", port)
    listener.subscribe(topic, qos=1)
    async with asyncio.timeout(60):
        await subscribed.wait()
    yield got
    await listener.disconnect()


@pytest.fixture
def unheard(service_folder: Path) -> Iterator[EmbeddedMosquitto]:
    """A broker on which nobody is subscribed; on the run's, sessions of former tests may be."""
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        yield broker


async def test_a_packet_that_nobody_subscribed_to_is_kept_until_somebody_does(unheard: EmbeddedMosquitto) -> None:
    topic = "iot/v1/kept-gw/kept-device/packet"
    sender, confirmed = MqttSender(unheard.url(), "kept-sender"), list[int]()
    sending = asyncio.create_task(sender.send(_packets(topic, 5), lambda number, _code: confirmed.append(number)))
    done, _ = await asyncio.wait({sending}, timeout=1)
    assert not done
    assert confirmed == []
    async with _listening(unheard.port, topic, "kept-listener") as got:
        async with asyncio.timeout(120):
            await sending
        await until(lambda: len(set(got)) == 5, "all have come")
    assert confirmed == [0, 1, 2, 3, 4]
    assert list(dict.fromkeys(got)) == [b"0", b"1", b"2", b"3", b"4"]
    await sender.close()


async def test_nobody_who_confirms_is_told_with_the_reason(unheard: EmbeddedMosquitto) -> None:
    sender = MqttSender(unheard.url(), "unheard", patience_s=0.5)
    with pytest.raises(UndeliveredError, match="nobody has subscribed"):
        await sender.send(_packets("iot/v1/unheard/device/packet", 1), lambda _number, _code: None)
    await sender.close()


async def test_no_broker_is_told_with_the_reason() -> None:
    sender = MqttSender(f"mqtt://127.0.0.1:{free_port()}", "lost", patience_s=0.5)
    with pytest.raises(UndeliveredError, match="confirms nothing"):
        await sender.send(_packets("iot/v1/g/d/packet", 1), lambda _number, _code: None)
    await sender.close()


async def test_reconnecting_in_a_storm_loses_nothing_and_keeps_the_order(mosquitto: EmbeddedMosquitto) -> None:
    topic = "iot/v1/storm-gw/storm-device/packet"
    sender, confirmed = MqttSender(mosquitto.url(), "storm-sender"), list[int]()
    async with _listening(mosquitto.port, topic, "storm-listener") as got:
        for packet in _packets(topic, 20):
            await sender.send([packet], lambda number, _code: confirmed.append(number))
            await sender.reconnect()
        await until(lambda: len(set(got)) == 20, "all have come")
    assert confirmed == list(range(20))
    assert list(dict.fromkeys(got)) == [str(number).encode() for number in range(20)]
    await sender.close()


async def test_packets_outlive_the_broker(service_folder: Path) -> None:
    topic = "iot/v1/g/d/packet"
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        async with _listening(broker.port, topic, "listener"):
            sender, confirmed = MqttSender(broker.url(), "sender"), list[int]()
            packets = _packets(topic, 4)
            await sender.send(packets[:1], lambda number, _code: confirmed.append(number))
        await asyncio.to_thread(broker.stop)
        sending = asyncio.create_task(sender.send(packets[1:], lambda number, _code: confirmed.append(number)))
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(120):
            await sending
        assert confirmed == [0, 1, 2, 3]
        await sender.close()
