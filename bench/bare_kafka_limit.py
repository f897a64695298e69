"""The bare Kafka limit: aiokafka, msgspec and one `unnest` insert with dedupe per batch; no rules, no routing, one index.

What is left when everything that makes the product is taken away, on the same client, the same broker and the same database.
Offsets are committed after the rows, as ours are. Runs as a process: `python -m bench.bare_kafka_limit DATABASE_URL SERVERS`.
"""

from __future__ import annotations

import sys
from typing import Any

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.bare_limit import insert
from sensor_packet.topics import KAFKA_PACKET_TOPIC

GROUP_ID = "bench-bare"


async def main(database_url: str, servers: str) -> None:
    """Consume until killed."""
    connection = await asyncpg.connect(database_url)
    consumer: Any = AIOKafkaConsumer(
        KAFKA_PACKET_TOPIC,
        bootstrap_servers=servers,
        group_id=GROUP_ID,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=20, max_records=2000)).values():
            await insert(connection, [record.value for record in records])
        await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
