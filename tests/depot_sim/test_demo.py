"""The demo: it plays whatever the depot is, says something of every device each second, and outlives what it depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from tests.depot_sim.depots import preset_depot
from tests.real_services.waiting import until

from depot_sim.configuration import Depot
from depot_sim.demo import Demo
from depot_sim.product import ProductFault
from depot_sim.sending import Confirmed, Outgoing
from sensor_packet.decode import decode
from sensor_packet.packet import Packet
from sensor_packet.topics import parse_mqtt_packet_topic


class _Product:
    """Answers after two failures, as one that is only just coming up."""

    def __init__(self) -> None:
        self.asked = 0

    async def depot(self, depot_id: str) -> Depot | None:
        self.asked += 1
        if self.asked == 1:
            raise ProductFault("not yet")
        return None if self.asked == 2 else preset_depot(depot_id)

    async def close(self) -> None: ...


class _Sender:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        self.sent += packets
        for packet in packets:
            confirmed(packet.number, None)

    async def close(self) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


async def test_it_waits_for_the_product_and_then_every_device_speaks_each_second() -> None:
    sender = _Sender()
    demo = Demo("peak-shaving-day", _Product(), sender, _now)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    playing = asyncio.create_task(demo.run())
    await until(lambda: len(sender.sent) >= 8, "two seconds are told", timeout_s=30)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    assert demo.confirmed == len(sender.sent)
    devices = [one.device_id for one in preset_depot("peak-shaving-day").devices]
    assert [packet.device_id for packet in sender.sent[:8]] == devices * 2
    ids = set[str]()
    for packet in sender.sent:
        claimed = parse_mqtt_packet_topic(packet.topic)
        assert claimed is not None
        decoded = decode(packet.body, received_at=_now(), claimed=claimed)
        assert isinstance(decoded, Packet)
        assert abs((decoded.sent_at - _now()).total_seconds()) < 30
        ids.add(decoded.packet_id)
    assert len(ids) == len(sender.sent)
    said: Mapping[str, Any] = {one["key"]: one["value"] for one in msgspec.json.decode(sender.sent[1].body)["measurands"]}
    assert said["HEARTBEAT_STATUS"] is True
    assert {"PEAK_SHAVING", "DER", "AVAILABLE_CHARGING_CAPACITY"} <= said.keys()
