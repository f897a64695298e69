"""Publishing to Kafka: in order per key, with everything that belongs to a message, and with the truth about what was confirmed."""

from __future__ import annotations

import uuid

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.real_services.subscriber import KafkaSubscriber
from tests.real_services.waiting import until

from broker_sessions.kafka_publisher import KafkaPublisher
from broker_sessions.outgoing import NotPublishedError, Outgoing
from operator_cli.embedded_process import free_port


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster on a busy machine may be silent for longer than one in production."""
    monkeypatch.setattr("broker_sessions.kafka_publisher._SILENCE_S", 60.0)
    monkeypatch.setattr("broker_sessions.kafka_publisher._START_TIMEOUT_S", 60.0)


def numbered(topic: str, count: int) -> list[Outgoing]:
    return [
        Outgoing(topic, b"%d" % number, [("ce_id", b"%d" % number)], "application/json", b"key-%d" % (number % 5))
        for number in range(count)
    ]


@pytest.mark.usefixtures("patient")
async def test_messages_arrive_in_order_per_key_with_headers_and_content_type(kafka: EmbeddedKafka) -> None:
    topic = f"publisher-{uuid.uuid4()}"
    await kafka.create_topic(topic, 3)
    publisher = KafkaPublisher(kafka.bootstrap_servers, "publisher-test")
    async with KafkaSubscriber(kafka.bootstrap_servers, topic) as subscriber:
        await publisher.open()
        await publisher.publish(numbered(topic, 2_000))
        await until(lambda: len(subscriber.messages) >= 2_000, "all arrive", timeout_s=60)
    await publisher.close()
    for key in range(5):
        got = [int(message.body) for message in subscriber.messages if message.key == b"key-%d" % key]
        assert got == list(range(key, 2_000, 5))
    message = next(message for message in subscriber.messages if message.body == b"7")
    assert (message.headers, message.content_type) == ({"ce_id": "7"}, "application/json")


async def test_a_cluster_that_is_not_there_is_told() -> None:
    publisher = KafkaPublisher(f"127.0.0.1:{free_port()}", "publisher-test")
    with pytest.raises(NotPublishedError, match="not to be had") as fault:
        await publisher.publish(numbered("any", 2))
    assert fault.value.confirmed == 0
    await publisher.close()


@pytest.mark.usefixtures("patient")
async def test_a_message_that_kafka_would_never_take_is_told_with_what_was_confirmed_before_it(kafka: EmbeddedKafka) -> None:
    topic = f"publisher-{uuid.uuid4()}"
    await kafka.create_topic(topic, 1)
    publisher = KafkaPublisher(kafka.bootstrap_servers, "publisher-test")
    messages = numbered(topic, 3)
    messages[1] = Outgoing(topic, b"x" * 2_000_000, [])
    async with KafkaSubscriber(kafka.bootstrap_servers, topic) as subscriber:
        with pytest.raises(NotPublishedError, match="does not take") as fault:
            await publisher.publish(messages)
        assert fault.value.confirmed == 1
        await publisher.publish(messages[2:])
        await until(lambda: len(subscriber.messages) >= 2, "the others arrive")
    await publisher.close()
    assert [message.body for message in subscriber.messages] == [b"0", b"2"]
