"""From MQTT to Kafka: what a record says, and when a packet is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from tests.real_services.waiting import until

from broker_sessions.mqtt_session import Connection
from broker_sessions.outgoing import NotPublishedError, Outgoing
from mqtt_bridge.forwarding import Forwarder, Taken, record_of
from sensor_packet.decode import MAX_PACKET_BYTES
from service_runtime.metrics import BridgeMetrics

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
TOPIC = "iot/v1/gw/dev/packet"
CONNECTION = cast("Connection", object())


def taken(topic: str = TOPIC, **headers: str) -> Taken:
    return Taken(CONNECTION, 1, topic, b"{}", headers, NOW, 0.0)


def headers_of(packet: Taken) -> dict[str, str]:
    return {name: value.decode() for name, value in record_of(packet).headers}


def test_a_record_is_the_packet_as_it_came_keyed_by_its_device_with_its_topic_and_its_properties() -> None:
    record = record_of(taken(traceparent="00-1", firmware="7"))
    assert (record.topic, record.key, record.body) == ("iot.sensor-packet.v1", b"dev", b"{}")
    assert dict(record.headers) == {"depotgrid-mqtt-topic": TOPIC.encode(), "traceparent": b"00-1", "firmware": b"7"}


@pytest.mark.parametrize("name", ["depotgrid-mqtt-topic", "Depotgrid-MQTT-Topic", "depotgrid-anything"])
def test_a_sender_can_not_write_the_headers_that_are_ours(name: str) -> None:
    assert headers_of(taken(**{name: "iot/v1/other/dev/packet"})) == {"depotgrid-mqtt-topic": TOPIC}


def test_a_topic_of_odd_levels_is_passed_on_for_the_worker_to_refuse() -> None:
    record = record_of(taken("iot/v1/gw//packet"))
    assert (record.key, dict(record.headers)["depotgrid-mqtt-topic"]) == (b"", b"iot/v1/gw//packet")


def test_of_more_properties_than_a_record_should_carry_only_the_trace_is_left() -> None:
    packet = taken(traceparent="00-1", **{f"p{number}": "x" * 1_000 for number in range(20)})
    assert headers_of(packet) == {"depotgrid-mqtt-topic": TOPIC, "traceparent": "00-1"}
    assert headers_of(taken(traceparent="x" * 60_000)) == {"depotgrid-mqtt-topic": TOPIC}


class FakeSession:
    """Keeps what was acknowledged, and whether reading is paused."""

    def __init__(self) -> None:
        self.acknowledged: list[int | None] = []
        self.paused = False
        self.current: object = CONNECTION

    def is_current(self, connection: Connection) -> bool:
        return connection is self.current

    def acknowledge(self, delivered: Sequence[tuple[Connection, int | None]]) -> None:
        self.acknowledged += [mid for _, mid in delivered]

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class FakeKafka:
    """Keeps what arrived. `faults` are how much of each of the next batches is confirmed."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.faults: list[int] = []
        self.open_for_business = asyncio.Event()
        self.open_for_business.set()
        self.asked = asyncio.Event()
        self.away = 0

    async def open(self) -> None:
        if self.away:
            self.away -= 1
            raise NotPublishedError(0, "away")

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self.asked.set()
        await self.open_for_business.wait()
        if self.faults:
            confirmed = min(self.faults.pop(0), len(messages))
            self.arrived += [message.body for message in messages[:confirmed]]
            raise NotPublishedError(confirmed, "cut short")
        self.arrived += [message.body for message in messages]

    async def close(self) -> None:
        return


class Parts:
    """A forwarder between a session and Kafka that are not real."""

    def __init__(self, **bounds: int) -> None:
        self.session = FakeSession()
        self.kafka = FakeKafka()
        self.refused: list[bytes] = []
        self.refusals_to_fail = 0
        self.forwarder = Forwarder(
            self.kafka,
            self.refuse,
            BridgeMetrics(CollectorRegistry()),
            lambda: NOW,
            **{"batch_max": 100, "max_packets": 1_000, "max_bytes": 10_000_000, **bounds},
        )
        self.forwarder.take_from(self.session)

    async def refuse(self, packet: Taken) -> None:
        if self.refusals_to_fail:
            self.refusals_to_fail -= 1
            raise ConnectionError("the database is away")
        self.refused.append(packet.body)

    def take(self, *numbers: int, body: bytes | None = None) -> None:
        for number in numbers:
            packet = b"%d" % number if body is None else body
            self.forwarder.take(CONNECTION, number, TOPIC, packet, cast("dict[str, Any]", {}))


@asynccontextmanager
async def working(parts: Parts) -> AsyncGenerator[None]:
    task = asyncio.create_task(parts.forwarder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_packets_are_acknowledged_in_order_after_kafka_has_them_and_not_before() -> None:
    parts = Parts()
    parts.kafka.open_for_business.clear()
    async with working(parts):
        parts.take(1, 2, 3)
        await parts.kafka.asked.wait()
        assert parts.session.acknowledged == []
        assert parts.forwarder.unacknowledged_age_s() > 0
        parts.kafka.open_for_business.set()
        await parts.forwarder.wait_until_idle()
    assert parts.session.acknowledged == [1, 2, 3]
    assert parts.kafka.arrived == [b"1", b"2", b"3"]
    assert parts.forwarder.unacknowledged_age_s() == 0


async def test_what_kafka_did_not_confirm_is_sent_again_from_there_on_and_the_reason_is_told() -> None:
    parts = Parts()
    parts.kafka.faults = [2, 0]
    async with working(parts):
        parts.take(*range(5))
        await until(lambda: parts.forwarder.trouble == "cut short", "the reason is told")
        assert parts.session.acknowledged == []
        await until(lambda: len(parts.session.acknowledged) == 5, "all are acknowledged")
    assert parts.kafka.arrived == [b"%d" % number for number in range(5)]
    assert parts.forwarder.trouble is None


async def test_a_packet_that_is_too_large_is_refused_and_its_neighbours_go_on_and_none_is_acknowledged_before_all_are_kept() -> (
    None
):
    parts = Parts()
    parts.refusals_to_fail = 1
    large = b"x" * (MAX_PACKET_BYTES + 1)
    parts.take(1)
    parts.take(2, body=large)
    parts.take(3)
    async with working(parts):
        await until(lambda: parts.forwarder.trouble == "the database is away", "the reason is told")
        assert parts.session.acknowledged == []
        await until(lambda: parts.session.acknowledged == [1, 2, 3], "all are acknowledged")
    assert (parts.kafka.arrived, parts.refused) == ([b"1", b"3"], [large])


@pytest.mark.parametrize("bounds", [{"max_packets": 4}, {"max_bytes": 4}], ids=["packets", "bytes"])
async def test_reading_stops_at_the_bound_and_goes_on_below_half_of_it(bounds: dict[str, int]) -> None:
    parts = Parts(**bounds)
    parts.kafka.open_for_business.clear()
    async with working(parts):
        parts.take(1, 2, 3)
        assert not parts.session.paused
        parts.take(4)
        assert parts.session.paused
        parts.kafka.open_for_business.set()
        await parts.forwarder.wait_until_idle()
        assert not parts.session.paused


async def test_a_packet_of_a_connection_that_is_no_more_is_left_to_come_again() -> None:
    parts = Parts()
    parts.session.current = object()
    async with working(parts):
        parts.take(1)
        await parts.forwarder.wait_until_idle()
    assert parts.kafka.arrived == []


async def test_opening_waits_for_kafka_and_tells_so() -> None:
    parts = Parts()
    parts.kafka.away = 2
    opening = asyncio.create_task(parts.forwarder.open())
    await until(lambda: parts.forwarder.trouble == "away", "the reason is told")
    await opening
    assert parts.forwarder.trouble is None
