"""A gateway that floods over Kafka waits in its partition; devices in others are stored meanwhile, and in the end all is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka.partitioner import DefaultPartitioner
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.real_services.comparison import all_arrived, compare
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import NumberedPacket, Sender, plan_packets
from tests.real_services.sites import rows, seed_fleet
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

_Partitioner: Any = DefaultPartitioner
_PARTITIONS = 4
_LIMIT = 300


def partition_of(sender: Sender) -> int:
    every = list(range(_PARTITIONS))
    partition: int = _Partitioner()(sender.device_id.encode(), every, every)
    return partition


async def test_a_flood_in_one_partition_waits_and_neighbours_in_others_are_stored(
    database_url: str, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    senders = await seed_fleet(database_url, 20)
    group = f"group-{database_url.rpartition('/')[2]}"
    await start_group_at_end(kafka.bootstrap_servers, group, _PARTITIONS)
    flooding = next(sender for sender in senders if sender.gateway_id == "gw-0")
    calm = next(sender for sender in senders if sender.gateway_id != "gw-0" and partition_of(sender) != partition_of(flooding))
    flood = plan_packets([flooding], 4_000, datetime.now(UTC))
    others = [replace(packet, number=10_000 + packet.number) for packet in plan_packets([calm], 50, datetime.now(UTC), run="calm")]

    async def stored_of(sender: Sender) -> int:
        query = "SELECT count(*) FROM event_store WHERE payload ->> 'device_id' = $1"
        return int((await rows(database_url, query, sender.device_id))[0][0])

    async def publish(packets: Sequence[NumberedPacket]) -> None:
        async with asyncio.timeout(120):
            await KafkaPublisher(kafka.bootstrap_servers, packets).run()

    made = WorkerProcess(tmp_path, database_url, kafka=kafka.bootstrap_servers, kafka_group_id=group)
    with made.setting(gateway_packets_per_s=_LIMIT, gateway_burst_s=1) as worker:
        await publish(flood)
        await worker.says("its partition rests")
        await publish(others)

        async def calm_is_stored() -> bool:
            return await stored_of(calm) == len(others)

        await until(calm_is_stored, "the neighbour is stored", timeout_s=60)
        await all_arrived(database_url, [*flood, *others])
        report = await compare(database_url, "flood", [*flood, *others], [*flood, *others])
    assert report.flawless, report.row()
    # Held to the order in which they were stored, and not to a look at the right moment.
    last = "SELECT payload ->> 'device_id' FROM event_store ORDER BY transaction_id DESC, global_position DESC LIMIT 1"
    assert [tuple(row) for row in await rows(database_url, last)] == [(flooding.device_id,)], "the neighbour waited, too"
