"""Whether Kafka is to be had, asked of one that is there, one that is not, and one that says nothing."""

from __future__ import annotations

import asyncio

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.real_services.waiting import until

from broker_sessions.kafka_reach import KafkaReach
from operator_cli.embedded_process import free_port


async def test_a_cluster_answers_where_one_of_its_servers_does(kafka: EmbeddedKafka) -> None:
    reach = KafkaReach(f"127.0.0.1:{free_port()},{kafka.bootstrap_servers}", "test")
    # A look of its own gives up after 3 s, which a busy machine may take.
    await until(reach.look, "Kafka is found")
    assert reach.trouble is None


async def test_a_cluster_that_is_not_there_is_told_by_its_name() -> None:
    servers = f"127.0.0.1:{free_port()}"
    reach = KafkaReach(servers, "test")
    assert not await reach.look()
    assert reach.trouble is not None
    assert f"Kafka at {servers} is not to be had" in reach.trouble


async def test_a_server_that_takes_the_connection_and_says_nothing_is_as_good_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_sessions.kafka_reach._SILENCE_S", 0.3)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reach = KafkaReach(f"127.0.0.1:{port}", "test")
        assert not await reach.look()
    assert reach.trouble is not None
