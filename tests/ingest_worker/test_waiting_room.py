"""What a gateway sends above its limit waits in the broker, and is stored in the end: all of it, in order, once."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
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

from broker_sessions.mqtt_publisher import MqttPublisher as MqttOutgoing
from broker_sessions.outgoing import NotPublishedError, Outgoing
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from sensor_packet.topics import mqtt_detour_topic, mqtt_packet_topic

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
        made = WorkerProcess(self.folder, self.database_url, mqtt_url=self.url("depotgrid"))
        worker = made.setting(**{**LIMIT, **settings}).start()
        self.workers.append(worker)
        await worker.consuming_mqtt()
        return worker

    def url(self, user: str) -> str:
        """The broker's address for a user; it asks for no password."""
        return self.broker.url().replace("mqtt://", f"mqtt://{user}:any@")

    async def begin_flood(self, worker: WorkerProcess, rate: float) -> MqttPublisher:
        """Let a gateway send until it waits; it goes on sending."""
        flooding = self.publish(self.plan("gw-0", 30_000), rate=rate)
        await worker.says("gateway is above its limit and waits")
        return flooding

    async def flood(self, worker: WorkerProcess, packets: int = 800) -> Sequence[NumberedPacket]:
        """Let a gateway send until it waits, and so many packets more; gives what the broker confirmed, which is all of it."""
        flooding = await self.begin_flood(worker, 3_000)
        enough = min(flooding.confirmed_count + packets, 29_000)
        await until(lambda: flooding.confirmed_count > enough, "more of the flood")
        return await self.end_flood(flooding)

    async def end_flood(self, flooding: MqttPublisher) -> Sequence[NumberedPacket]:
        """Let the gateway send no more; gives what the broker confirmed, which is all of it."""
        flooding.begin_no_more()
        await flooding.finished()
        return flooding.confirmed

    async def all_is_stored(self, packets: Sequence[NumberedPacket]) -> None:
        await all_arrived(self.database_url, packets)
        report = await compare(self.database_url, "flood", packets, packets)
        assert report.flawless, report.row()

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
    # It goes on until all has been looked at, faster than its limit allows: something of it waits, however long that takes.
    flooding = await depot.begin_flood(worker, 1_000)
    calm = depot.plan("gw-1", 50)
    await depot.publish(calm, "calm").finished()

    async def calm_is_stored() -> bool:
        return await depot.stored_of("gw-1") == len(calm)

    await until(calm_is_stored, "the calm gateway is stored")
    assert await depot.stored_of("gw-0") < flooding.confirmed_count
    assert await metric(worker, "depotgrid_waiting_gateways") == 1
    assert await metric(worker, "depotgrid_waiting_bytes") > 0
    assert await metric(worker, 'depotgrid_in_flight_packets{source="mqtt-waiting"}') <= 1_000

    async def much_was_diverted() -> bool:
        return await metric(worker, "depotgrid_diverted_packets_total") > 500

    await until(much_was_diverted, "much of it goes round")
    flood = await depot.end_flood(flooding)
    await depot.all_is_stored([*flood, *calm])


async def test_a_worker_without_the_limit_stores_what_a_worker_with_it_left_waiting(depot: Depot) -> None:
    # So slow that without the second worker it would take ten minutes.
    worker = await depot.worker(gateway_packets_per_s=2)
    flood = await depot.flood(worker)
    worker.child.terminate()
    assert await worker.exit_status() == 0, worker.log()
    after = depot.plan("gw-0", 50)
    publishing = depot.publish(after, "after")
    worker = await depot.worker(gateway_packets_per_s=0)
    await publishing.finished()
    await depot.all_is_stored([*flood, *after])
    await worker.says("gateway waits no more")

    async def is_forgotten() -> bool:
        return not await rows(depot.database_url, "SELECT FROM waiting_gateway")

    await until(is_forgotten, "its row is gone")


async def test_a_standby_that_takes_over_keeps_the_order_of_what_waits(depot: Depot) -> None:
    # So slow that everything waits until the other one has it.
    holder = await depot.worker(gateway_packets_per_s=2)
    made = WorkerProcess(depot.folder, depot.database_url, mqtt_url=depot.url("depotgrid"))
    standby = made.setting(**LIMIT).start()
    depot.workers.append(standby)
    await standby.says("configuration loaded")
    flood = await depot.flood(holder)
    holder.child.terminate()
    await standby.says("gateway still waits")
    await depot.all_is_stored(flood)


async def test_more_than_may_wait_is_stored_without_regard_to_the_limit(depot: Depot) -> None:
    allowed = 1024 * 1024
    worker = await depot.worker(gateway_packets_per_s=2, gateway_waiting_max_bytes=allowed)
    flood = await depot.flood(worker, packets=allowed // 300)

    async def most_was_diverted() -> bool:
        return await metric(worker, "depotgrid_diverted_packets_total") > allowed // 500

    await until(most_was_diverted, "more went round than may wait")

    async def is_below() -> bool:
        return 0 < await metric(worker, "depotgrid_waiting_bytes") <= allowed

    await until(is_below, "no more waits than may")
    assert await metric(worker, "depotgrid_waiting_gateways") == 1
    assert await depot.stored_of("gw-0") < len(flood)


class GuardedMosquitto(EmbeddedMosquitto):
    """A broker with an access list."""

    def __init__(self, folder: Path, access_list: str) -> None:
        super().__init__(folder)
        self._access_list = access_list

    def _write_configuration(self) -> Path:
        written = super()._write_configuration()
        access_list = written.with_name("acl")
        access_list.write_text(self._access_list)
        access_list.chmod(0o644)
        written.write_text(f"{written.read_text()}acl_file {access_list}\n")
        return written


SHIPPED = (Path(__file__).parents[2] / "deploy/mosquitto.acl").read_text()


async def publish_as(depot: Depot, user: str, packets: Sequence[NumberedPacket]) -> None:
    publisher = MqttOutgoing(depot.url(user), f"{user}-gateway")
    await publisher.publish(
        [
            Outgoing(mqtt_packet_topic(one.sender.gateway_id, one.sender.device_id), one.body, [("from", b"a test")])
            for one in packets
        ]
    )
    await publisher.close()


@pytest.mark.parametrize(
    ("access_list", "said"),
    [
        pytest.param(SHIPPED, "gateway is above its limit and waits", id="the one that is shipped"),
        pytest.param(
            "".join(line for line in SHIPPED.splitlines(keepends=True) if "detour" not in line),
            "gateway is above its limit, which can not be enforced",
            id="one from before there were limits",
        ),
    ],
)
async def test_packets_are_stored_whether_the_broker_lets_them_wait_or_not(
    database_url: str, service_folder: Path, access_list: str, said: str
) -> None:
    senders = await seed_fleet(database_url, 20)
    with GuardedMosquitto(service_folder / "mosquitto", access_list) as broker, ExitStack() as killed:
        depot = Depot(service_folder, database_url, broker, senders)
        worker = await depot.worker(gateway_packets_per_s=50)
        killed.callback(worker.kill9)
        packets = depot.plan("gw-0", 200)
        await publish_as(depot, "gw-0", packets)
        await worker.says(said)
        await depot.all_is_stored(packets)
        forged = MqttOutgoing(depot.url("gw-0"), "gw-0-forger")
        with pytest.raises(NotPublishedError, match="0x87"):
            await forged.publish([Outgoing(mqtt_detour_topic(mqtt_packet_topic("gw-0", "dev-0000")), b"{}", [("from", b"a test")])])
        await forged.close()
