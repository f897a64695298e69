"""What a gateway sends above its limit waits in the broker, and is stored in the end: all of it, in order, once."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.real_services.comparison import all_arrived, compare
from tests.real_services.packet_plan import NumberedPacket, Sender, plan_packets
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import rows, seed_fleet
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

LIMIT: dict[str, object] = {"gateway_packets_per_s": 400, "gateway_burst_s": 1}


class Depot:
    """A database with a fleet, a broker and the workers on them."""

    def __init__(self, folder: Path, database_url: str, broker: EmbeddedMosquitto, senders: Sequence[Sender]) -> None:
        self.folder = folder
        self.database_url = database_url
        self.broker = broker
        self.workers: list[WorkerProcess] = []
        self._senders = senders
        self._planned = 0

    async def worker(self, **settings: object) -> WorkerProcess:
        made = WorkerProcess(self.folder, self.database_url, mqtt_url=self.broker.url())
        worker = made.setting(**{**LIMIT, **settings}).start()
        self.workers.append(worker)
        await worker.consuming_mqtt()
        return worker

    def plan(self, gateway_id: str, count: int) -> list[NumberedPacket]:
        """Packets of one gateway; all plans of a depot together number theirs on."""
        senders = [sender for sender in self._senders if sender.gateway_id == gateway_id]
        first, self._planned = self._planned, self._planned + count
        planned = plan_packets(senders, count, datetime.now(UTC), run=f"from-{first}")
        return [replace(packet, number=first + packet.number) for packet in planned]

    def publish(self, packets: Sequence[NumberedPacket], name: str = "flood", rate: float | None = None) -> MqttPublisher:
        return MqttPublisher(self.broker.port, packets, name=name, rate=rate).start()

    async def stored_of(self, gateway_id: str) -> int:
        found = await rows(
            self.database_url,
            "SELECT count(*) FROM event_store e JOIN device d ON d.device_id = e.payload ->> 'device_id' WHERE d.gateway_id = $1",
            gateway_id,
        )
        return int(found[0][0])


@pytest.fixture
async def depot(database_url: str, service_folder: Path) -> AsyncGenerator[Depot]:
    senders = await seed_fleet(database_url, 20)
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        made = Depot(service_folder, database_url, broker, senders)
        yield made
        for worker in made.workers:
            if worker.running:
                worker.kill9()


async def metric(worker: WorkerProcess, name: str) -> float:
    _, text = await worker.get("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_a_calm_gateway_is_stored_while_a_flood_beside_it_waits_and_the_flood_is_stored_in_the_end(depot: Depot) -> None:
    worker = await depot.worker()
    flooding = depot.publish(depot.plan("gw-0", 30_000), rate=3_000)
    await worker.says("gateway is above its limit and waits")
    enough = flooding.confirmed_count + 1_200
    await until(lambda: flooding.confirmed_count > enough, "more of the flood")
    flooding.begin_no_more()
    await flooding.finished()
    flood = flooding.sent
    calm = depot.plan("gw-1", 50)
    await depot.publish(calm, "calm").finished()

    async def calm_is_stored() -> bool:
        return await depot.stored_of("gw-1") == len(calm)

    await until(calm_is_stored, "the calm gateway is stored")
    assert await depot.stored_of("gw-0") < len(flood)
    assert await metric(worker, "depotgrid_waiting_gateways") == 1
    assert await metric(worker, "depotgrid_waiting_bytes") > 0
    assert await metric(worker, 'depotgrid_in_flight_packets{source="mqtt-waiting"}') <= 1_000
    await all_arrived(depot.database_url, [*flooding.confirmed, *calm])
    report = await compare(depot.database_url, "flood", [*flood, *calm], [*flooding.confirmed, *calm])
    assert report.flawless, report.row()
    assert await metric(worker, "depotgrid_diverted_packets_total") > 500
