"""A gateway that floods waits in the broker, and a worker that dies in the middle of that loses nothing and turns nothing round."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from tests.faults.load import FULL, Stack, sized
from tests.real_services.comparison import FaultReport, all_arrived, compare
from tests.real_services.packet_plan import Mixture, plan_packets
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.waiting import until

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_DEATHS = sized(2, 20)
# In the short form as many as it takes: the flood goes on until the last worker that is to die is dead.
_PACKETS = sized(24_000, 100_000)
_RATE = 2_000
_LIMIT = 400
"""Packets per second: a third of what comes from one gateway, and more than each of the others sends."""


async def test_a_worker_killed_in_the_middle_of_a_flood_that_waits_loses_nothing(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    start = partial(stack.worker, mqtt_url=own_mosquitto.url(), gateway_packets_per_s=_LIMIT, gateway_burst_s=1)
    worker = start()
    await worker.consuming_mqtt()
    flooding = [sender for sender in stack.senders if sender.gateway_id == "gw-0"]
    packets = plan_packets(
        [*stack.senders, *flooding * 6], _PACKETS, datetime.now(UTC), mixture=Mixture(poison=0.005, duplicate=0.02)
    )
    publisher = MqttPublisher(own_mosquitto.port, packets, rate=_RATE).start()
    chance = random.Random(11)
    try:
        await worker.says("gateway is above its limit and waits")
        for _ in range(_DEATHS):
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            worker.kill9()
            worker = start()
            await worker.says("gateway still waits")
            await stack.stores()
        if not FULL:
            publisher.begin_no_more()
        await publisher.finished(sized(120, 900))
        await all_arrived(stack.database_url, publisher.confirmed, timeout_s=sized(180, 900))
    finally:
        publisher.stop()
    report = note(
        await compare(stack.database_url, f"worker kill -9 ×{_DEATHS}, a gateway above its limit", packets, publisher.confirmed)
    )
    assert report.flawless, report.row()

    async def nobody_waits() -> bool:
        return "depotgrid_waiting_gateways 0.0" in (await worker.get("/metrics"))[1]

    await until(nobody_waits, "the gateway is at its ease again")
