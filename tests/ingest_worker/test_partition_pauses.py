"""Partitions rest for as long as a gateway in them owes something, and no others do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from ingest_worker.partition_pauses import PartitionPauses
from ingest_worker.token_bucket import GatewayLimit
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import kafka_claimed_identity

FIRST, SECOND = TopicPartition("packets", 0), TopicPartition("packets", 1)
OWNERS = {"dev-a": "gw-a", "dev-a2": "gw-a", "dev-b": "gw-b"}


def pauses() -> PartitionPauses:
    return PartitionPauses(GatewayLimit(10, 5), OWNERS.get)


def by_key(device_id: str) -> ClaimedIdentity:
    return kafka_claimed_identity(device_id.encode())


def bridged(gateway_id: str, device_id: str) -> ClaimedIdentity:
    return kafka_claimed_identity(device_id.encode(), f"iot/v1/{gateway_id}/{device_id}/packet")


@pytest.mark.parametrize(
    ("records", "rests"),
    [
        pytest.param([(FIRST, by_key("dev-a"))] * 4, {}, id="within the burst"),
        pytest.param([(FIRST, by_key("dev-a"))] * 25, {FIRST: 2.1}, id="above it, until there is a token again"),
        pytest.param([(FIRST, by_key("dev-a"))] * 25 + [(SECOND, by_key("dev-b"))], {FIRST: 2.1}, id="a neighbour goes on"),
        pytest.param(
            [(FIRST, by_key("dev-a"))] * 15 + [(SECOND, by_key("dev-a2"))] * 10,
            {FIRST: 2.1, SECOND: 2.1},
            id="all partitions of a gateway",
        ),
        pytest.param([(FIRST, by_key("dev-b"))] * 7 + [(FIRST, by_key("dev-a"))] * 25, {FIRST: 2.1}, id="the longest debt counts"),
        pytest.param(
            [(FIRST, bridged("gw-b", "dev-a"))] * 25 + [(SECOND, by_key("dev-a"))], {FIRST: 2.1}, id="a bridge says who it was"
        ),
        pytest.param([(FIRST, by_key(f"nobody-{n}")) for n in range(25)], {FIRST: 2.1}, id="unknown devices count together"),
        pytest.param([(FIRST, kafka_claimed_identity(None))] * 25, {FIRST: 2.1}, id="so do records without a key"),
    ],
)
def test_the_partitions_of_an_indebted_gateway_rest(
    records: Sequence[tuple[TopicPartition, ClaimedIdentity]], rests: dict[TopicPartition, float]
) -> None:
    assert pauses().charge(records, 0.0) == {partition: pytest.approx(seconds) for partition, seconds in rests.items()}


def test_a_debt_that_was_paid_is_forgotten() -> None:
    limited = pauses()
    assert limited.charge([(FIRST, by_key("dev-a"))] * 25, 0.0)
    assert limited.charge([(FIRST, by_key("dev-a"))], 2.3) == {}
