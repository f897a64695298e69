"""Fill a broker with a backlog of packets, as fast as a socket takes them.

Packets are those of the figures: about 320 bytes, four measurands of which one is bound, from 500 devices in turn. The site that
they belong to is written by `seed_site`.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
from datetime import UTC, datetime, timedelta

import asyncpg

DEVICES = 500
GATEWAY = "bench-gw"
_WINDOW = 2_000


def packet(number: int, start: datetime, from_device: int | None = None) -> tuple[str, bytes]:
    """Topic and body of one packet; numbers make packet ids and times differ, and deal packets out to the devices by themselves."""
    device = f"bench-{number % DEVICES if from_device is None else from_device:04d}"
    sent_at = (start + timedelta(milliseconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = (
        f'{{"schema_version":"1.0","packet_id":"{number:08d}-7a31-7c55-b0a5-2f4f1f0a9d11","gateway_id":"{GATEWAY}",'
        f'"device_id":"{device}","sent_at":"{sent_at}","measurands":['
        f'{{"key":"PEAK_SHAVING","value":{"true" if number % 2 else "false"}}},'
        f'{{"key":"SOC","value":{20 + number % 60}.5,"unit":"%"}},'
        f'{{"key":"ACTIVE_POWER","value":{number % 250},"unit":"kW"}},{{"key":"DISPATCH_STATE","value":"IDLE"}}]}}'
    )
    return f"iot/v1/{GATEWAY}/{device}/packet", body.encode()


async def seed_site(database_url: str) -> None:
    """500 depots with a device each, which feeds its depot's PEAK_SHAVING."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute(
            """
            INSERT INTO depot SELECT 'bench-' || i, 'Bench ' || i, 'UTC' FROM generate_series(0, 499) i;
            INSERT INTO circuit (circuit_id, depot_id, name, position)
                SELECT 'bench-c-' || i, 'bench-' || i, 'Grid', 0 FROM generate_series(0, 499) i;
            INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('bench-gw', 'bench-0', 'Bench');
            INSERT INTO device (device_id, depot_id, gateway_id, circuit_id)
                SELECT 'bench-' || lpad(i::text, 4, '0'), 'bench-' || i, 'bench-gw', 'bench-c-' || i
                FROM generate_series(0, 499) i;
            INSERT INTO microgrid (microgrid_id, depot_id, version, status)
                SELECT uuidv7(), 'bench-' || i, 1, 'ACTIVE' FROM generate_series(0, 499) i;
            INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
                SELECT uuidv7(), depot_id, device_id, 'PEAK_SHAVING', 'UPDATE_MICROGRID_STATE', 'PEAK_SHAVING' FROM device;
            INSERT INTO capability_control_point
                (control_point_id, microgrid_id, capability, device_id, measurand, stale_after_s, enabled)
                SELECT uuidv7(), m.microgrid_id, 'PEAK_SHAVING', d.device_id, 'PEAK_SHAVING', 300, true
                FROM device d JOIN microgrid m USING (depot_id);
            """
        )
    await connection.close()


def start_time() -> datetime:
    """When the packets of a run begin: far enough back that none is ahead of the clock."""
    return datetime.now(UTC) - timedelta(minutes=10)


class MqttPublisher:
    """A bare MQTT 5 client that publishes QoS 1 and counts what the broker confirms."""

    def __init__(self, port: int, client_id: str = "bench-publisher") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = client_id.encode()
        variable = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + struct.pack("!H", len(name)) + name
        self._socket.sendall(b"\x10" + _length(len(variable)) + variable)
        self._buffer = b""
        self._sent = 0
        self.unconfirmed = 0
        self._read_until(0x20)

    def publish(self, packets: list[tuple[str, bytes]]) -> None:
        """Publish all, with a window of unconfirmed packets, and return when the broker has confirmed all."""
        left = iter(packets)
        while chunk := list(itertools.islice(left, _WINDOW - self.unconfirmed)):
            self._socket.sendall(b"".join([self._numbered(*one) for one in chunk]))
            self.take_confirmations(wait=True)
        while self.unconfirmed:
            self.take_confirmations(wait=True)

    def send(self, topic: str, body: bytes) -> None:
        """Publish one packet without waiting for anything."""
        self._socket.sendall(self._numbered(topic, body))

    def take_confirmations(self, *, wait: bool = False) -> None:
        """Count what the broker has confirmed by now, or wait for it to confirm at least one."""
        if wait or select.select([self._socket], [], [], 0)[0]:
            self.unconfirmed -= self._read_until(0x40)

    def close(self) -> None:
        """Disconnect."""
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()

    def _numbered(self, topic: str, body: bytes) -> bytes:
        self._sent += 1
        self.unconfirmed += 1
        return _publish(self._sent, topic, body)

    def _read_until(self, kind: int) -> int:
        """Read at least one packet of a kind; returns how many there were."""
        found = 0
        while not found:
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the broker closed the connection")
            self._buffer += received
            offset = 0
            while len(self._buffer) - offset >= 2 and len(self._buffer) - offset >= 2 + self._buffer[offset + 1]:
                found += self._buffer[offset] == kind
                offset += 2 + self._buffer[offset + 1]
            self._buffer = self._buffer[offset:]
        return found


def _publish(number: int, topic: str, body: bytes) -> bytes:
    name = topic.encode()
    variable = struct.pack("!H", len(name)) + name + struct.pack("!HB", number % 65535 + 1, 0) + body
    return b"\x32" + _length(len(variable)) + variable


def _length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = divmod(value, 128)
        encoded.append(low | 0x80 if value else low)
        if not value:
            return bytes(encoded)
