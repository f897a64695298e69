"""The peer: FastStream's own MQTT broker with a handler that stores each packet in a transaction of its own.

What its documentation leads one to write. Runs as a process: `python -m bench.stock_handler DATABASE_URL MQTT_PORT`.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import asyncpg
import uvloop
from faststream import FastStream
from faststream.mqtt import MQTTBroker, QoS

CLIENT_ID = "bench-stock"


async def main(database_url: str, port: int) -> None:
    """Consume until killed."""
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=2)
    broker = MQTTBroker(
        f"mqtt://127.0.0.1:{port}",
        client_id=CLIENT_ID,
        clean_session=False,
        session_expiry_interval=3600,
        logger=None,
    )

    @broker.subscriber("iot/v1/+/+/packet", qos=QoS.AT_LEAST_ONCE)
    async def store(packet: dict[str, Any]) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO bare (event_id, device_id, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                hashlib.sha1(packet["packet_id"].encode()).hexdigest()[:32],
                packet["device_id"],
                str(packet["measurands"]).replace("'", '"').replace("True", "true").replace("False", "false"),
            )

    _ = store
    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
