"""Publishing to MQTT: in order, with everything that belongs to a message, and with the truth about what was confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.real_services.subscriber import MqttSubscriber
from tests.real_services.waiting import until

from broker_sessions.mqtt_publisher import MqttPublisher
from broker_sessions.outgoing import NotPublishedError, Outgoing
from operator_cli.embedded_mosquitto import EmbeddedMosquitto


def numbered(count: int, topic: str = "microgrid/v1/publisher-test/event/E") -> list[Outgoing]:
    return [Outgoing(topic, b"%d" % number, [("id", b"%d" % number)], "application/json") for number in range(count)]


async def test_messages_arrive_in_order_with_headers_and_content_type_also_more_than_the_window(
    mosquitto: EmbeddedMosquitto,
) -> None:
    publisher = MqttPublisher(mosquitto.url(), "publisher-test")
    with MqttSubscriber(mosquitto.port, "microgrid/v1/publisher-test/#") as subscriber:
        await publisher.publish(numbered(2_500))
        await until(lambda: len(subscriber.messages) >= 2_500, "all arrive")
    await publisher.close()
    assert [int(message.body) for message in subscriber.messages] == list(range(2_500))
    assert subscriber.messages[7].headers == {"id": "7"}
    assert subscriber.messages[7].content_type == "application/json"


async def test_a_message_that_nobody_subscribed_to_counts_as_confirmed(mosquitto: EmbeddedMosquitto) -> None:
    publisher = MqttPublisher(mosquitto.url(), "publisher-test-alone")
    try:
        await publisher.publish(numbered(3, "microgrid/v1/nobody-listens/event/E"))
        confirmed = 3
    except NotPublishedError as fault:
        confirmed = fault.confirmed
    assert confirmed == 3
    await publisher.close()


async def test_a_broker_that_went_away_is_told_and_found_again(service_folder: Path) -> None:
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        publisher = MqttPublisher(broker.url(), "publisher-test")
        await publisher.publish(numbered(1))
        broker.stop()
        with pytest.raises(NotPublishedError):
            await publisher.publish(numbered(1))
        with pytest.raises(NotPublishedError, match="not to be had"):
            await publisher.open()
        broker.start()
        await publisher.publish(numbered(1))
        await publisher.close()


Answers = Callable[[int], bytes | None]
"""What a broker answers to the message of that number: the reason and properties of a PUBACK, None for nothing."""


@asynccontextmanager
async def broker_that(answers: Answers) -> AsyncGenerator[int]:
    """A broker that takes one connection after another and answers as told; gives its port."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while True:
                kind = (await reader.readexactly(1))[0]
                length, shift = 0, 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                packet = await reader.readexactly(length)
                if kind >> 4 == 1:
                    writer.write(bytes([0x20, 3, 0, 0, 0]))
                elif kind >> 4 == 3:
                    topic_end = 2 + int.from_bytes(packet[:2], "big")
                    reason = answers(seen)
                    seen += 1
                    if reason is None:
                        writer.close()
                        return
                    answer = packet[topic_end : topic_end + 2] + reason
                    writer.write(bytes([0x40, len(answer)]) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("reasons", "confirmed"),
    [
        ([b"", b"\x00", b"\x10\x00"], 3),
        ([b"\x87", b"", b""], 0),
        ([b"", b"\x97\x00", b""], 1),
        ([b"", None, b""], 1),
    ],
    ids=["success in every spelling", "first refused", "second refused", "hangs up at the second"],
)
async def test_what_is_confirmed_is_what_was_answered_from_the_beginning_without_a_refusal(
    reasons: Sequence[bytes | None], confirmed: int
) -> None:
    async with broker_that(lambda number: reasons[number]) as port:
        publisher = MqttPublisher(f"mqtt://127.0.0.1:{port}", "publisher-test")
        if confirmed == len(reasons):
            await publisher.publish(numbered(len(reasons)))
        else:
            with pytest.raises(NotPublishedError) as fault:
                await publisher.publish(numbered(len(reasons)))
            assert fault.value.confirmed == confirmed
        await publisher.close()
