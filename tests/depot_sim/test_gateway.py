"""The demo's gateway: the same story for the same seed, valid packets, and none of them given up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gmqtt import Client

from depot_sim.gateway import KEPT_PACKETS, Devices, Gateway, Outgoing, packets, site_states
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from sensor_packet.decode import decode
from sensor_packet.packet import Packet
from sensor_packet.topics import parse_mqtt_packet_topic

_EPOCH = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)


def _story(seed: int, seconds: int) -> list[Outgoing]:
    states = site_states(seed)
    return [one for n in range(seconds) for one in packets(states(), Devices(), seed, _EPOCH + timedelta(seconds=n))]


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    assert _story(1, 120) == _story(1, 120)
    assert _story(1, 120) != _story(2, 120)


def test_every_packet_is_valid_and_has_an_id_of_its_own() -> None:
    ids: set[str] = set()
    story = _story(3, 200)
    for outgoing in story:
        claimed = parse_mqtt_packet_topic(outgoing.topic)
        assert claimed is not None
        packet = decode(outgoing.body, received_at=_EPOCH, claimed=claimed, max_ahead_s=1000)
        assert isinstance(packet, Packet), packet
        assert not packet.refused
        ids.add(packet.packet_id)
    assert len(ids) == len(story)


def test_capabilities_switch_and_the_battery_does_everything_within_a_minute() -> None:
    states = site_states(1)
    minute = [states() for _ in range(60)]
    assert {state.peak_shaving for state in minute} == {True, False}
    assert {state.der for state in minute} == {True, False}
    assert {state.dispatch for state in minute} == {"IDLE", "CHARGING", "DISCHARGING"}
    assert all(state.battery_kw < 0 for state in minute if state.dispatch == "DISCHARGING")
    assert all(state.battery_kw == 0 for state in minute if state.dispatch == "IDLE")


def test_the_mode_says_what_the_other_measurands_say() -> None:
    for outgoing in _story(1, 60)[::3]:
        said = {one["key"]: one["value"] for one in msgspec.json.decode(outgoing.body)["measurands"]}
        if said["BESS_OPERATIONAL_MODE"].startswith("ARMED") or said["BESS_OPERATIONAL_MODE"] == "STANDBY":
            assert said["DISPATCH_STATE"] == "IDLE"
        if said["BESS_OPERATIONAL_MODE"].startswith("DER"):
            assert said["DER"] is True


async def _until(gateway: Gateway, confirmed: int) -> None:
    async with asyncio.timeout(30):
        while gateway.confirmed < confirmed:  # noqa: ASYNC110 - the gateway has no reason to tell
            await asyncio.sleep(0.02)


async def test_packets_wait_for_a_broker_and_for_a_subscriber_and_come_in_order(mosquitto: EmbeddedMosquitto) -> None:
    topic = "iot/v1/kept-gw/kept-device/packet"
    gateway = Gateway(mosquitto.url(), "kept-gateway")
    for number in range(5):
        gateway.offer(Outgoing(topic, str(number).encode()))
    running = asyncio.create_task(gateway.run())
    try:
        # Nobody subscribes yet: the broker confirms with reason 0x10, which is no delivery.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await _until(gateway, 1)
        assert gateway.waiting == 5
        got: list[bytes] = []
        listener: Any = Client("kept-listener")

        def take(_client: object, _topic: str, payload: bytes, _qos: int, _properties: object) -> None:
            got.append(payload)

        listener.on_message = take
        await listener.connect("127.0.0.1", mosquitto.port)
        listener.subscribe(topic, qos=1)
        await _until(gateway, 5)
        assert list(dict.fromkeys(got)) == [b"0", b"1", b"2", b"3", b"4"]
        assert gateway.waiting == 0
        await listener.disconnect()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_packets_outlive_the_broker(service_folder: Path) -> None:

    topic = "iot/v1/g/d/packet"
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        subscriber: Any = Client("listener", clean_session=False, session_expiry_interval=600)
        await subscriber.connect("127.0.0.1", broker.port)
        subscriber.subscribe(topic, qos=1)
        gateway = Gateway(broker.url(), "gateway")
        running = asyncio.create_task(gateway.run())
        try:
            gateway.offer(Outgoing(topic, b"before"))
            await _until(gateway, 1)
            await subscriber.disconnect()
            await asyncio.to_thread(broker.stop)
            for number in range(3):
                gateway.offer(Outgoing(topic, str(number).encode()))
            await asyncio.to_thread(broker.start)
            await _until(gateway, 4)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def test_the_oldest_packets_are_dropped_past_the_bound() -> None:
    gateway = Gateway("mqtt://127.0.0.1:1", "bounded")
    for number in range(KEPT_PACKETS + 3):
        gateway.offer(Outgoing("t", str(number).encode()))
    assert gateway.waiting == KEPT_PACKETS
