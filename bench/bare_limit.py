"""The bare MQTT limit: gmqtt, msgspec and one `unnest` insert with dedupe per batch; no rules, no routing, one index.

What is left when everything that makes the product is taken away, on the same client, the same broker and the same database.
Acknowledged after commit as ours is. Runs as a process: `python -m bench.bare_limit DATABASE_URL MQTT_PORT`.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import uvloop
from gmqtt import Client, Subscription

CLIENT_ID = "bench-bare"
TABLE = """
CREATE TABLE bare (
    position bigint GENERATED ALWAYS AS IDENTITY, event_id uuid PRIMARY KEY, device_id text NOT NULL, body jsonb NOT NULL
)
"""
"""Both bare limits and the stock handler write here; `position` is only there to be counted by."""
_INSERT = """
INSERT INTO bare (event_id, device_id, body) SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[]) ON CONFLICT DO NOTHING
"""


class _Packet(msgspec.Struct):
    packet_id: str
    device_id: str
    measurands: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Packet).decode


async def insert(connection: Any, bodies: Sequence[bytes]) -> None:
    """Store a batch, each packet once."""
    packets = [_decode(body) for body in bodies]
    await connection.execute(
        _INSERT,
        [hashlib.sha1(packet.packet_id.encode()).hexdigest()[:32] for packet in packets],
        [packet.device_id for packet in packets],
        [body.decode() for body in bodies],
    )


async def main(database_url: str, port: int) -> None:
    """Consume until killed."""
    connection = await asyncpg.connect(database_url)
    waiting: list[tuple[int, bytes]] = []
    arrived = asyncio.Event()
    client: Any = Client(CLIENT_ID, clean_session=False, optimistic_acknowledgement=False, session_expiry_interval=3600)

    def take(mid: int, payload: bytes, _topic: str, _properties: Any) -> None:
        waiting.append((mid, payload))
        arrived.set()

    client._package_handler._handle_qos_1_publish_packet = take

    def subscribe(client: Any, *_: object) -> None:
        client.subscribe(Subscription("iot/v1/+/+/packet", qos=1))

    client.on_connect = subscribe
    await client.connect("127.0.0.1", port)
    while True:
        await arrived.wait()
        arrived.clear()
        while waiting:
            batch = waiting[:2000]
            del waiting[:2000]
            await insert(connection, [payload for _, payload in batch])
            client._connection._transport.write(b"".join([struct.pack("!BBH", 0x40, 2, mid) for mid, _ in batch]))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
