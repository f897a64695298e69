"""A binding that is changed over HTTP while packets flow: every worker and the HTTP way follow it, and count as they must."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import uuid_utils
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.end_to_end.controller_site import Site, packet
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import NumberedPacket, Sender
from tests.real_services.sites import CONTROLLER, DEPOT_ID
from tests.real_services.waiting import until

from command_api.app import create_app
from event_store.database import open_pool
from service_runtime.access import Access

RIVAL = Sender(CONTROLLER.gateway_id, "ctrl-2")
WAYS = ("mqtt", "kafka", "http")
_numbers = itertools.count(1)


class Flow:
    """Packets of two controllers by every way: MQTT to one worker, Kafka to another, HTTP to the command API."""

    def __init__(self, site: Site, kafka: EmbeddedKafka, commands: httpx2.AsyncClient) -> None:
        self.site = site
        self._kafka = kafka
        self._commands = commands

    async def send(self, way: str, sender: Sender) -> str:
        """Send one packet with the flag and a measurement; gives back its id."""
        packet_id = f"{way}-{sender.device_id}-{next(_numbers)}"
        body = packet(sender, measurands=[{"key": "PEAK_SHAVING", "value": True}, {"key": "SOC", "value": 50}], packet_id=packet_id)
        if way == "mqtt":
            await self.site.publish(body, sender=sender)
        elif way == "kafka":
            await KafkaPublisher(self._kafka.bootstrap_servers, [NumberedPacket(1, sender, "", body)]).run()
        else:
            answered = await self._commands.post("/api/packet", content=body)
            assert answered.status_code == 200, answered.text
        return packet_id

    async def command(self, method: str, path: str, body: Any, expected: int) -> dict[str, Any]:
        """The answer to a command."""
        answered = await self._commands.request(method, path, json=body)
        assert answered.status_code == expected, answered.text
        return answered.json()

    async def knows(self, sender: Sender) -> None:
        """Wait until packets of a device that is new are taken, by each way."""
        of_device = "event_store WHERE payload ->> 'device_id' = $1 AND metadata ->> 'source' = $2"
        for way in WAYS:

            async def taken(way: str = way) -> bool:
                await self.send(way, sender)
                return await self.site.count(of_device, sender.device_id, way) > 0

            await until(taken, f"{sender.device_id} is known for {way}", timeout_s=30)

    async def follows(self, owner: Sender) -> None:
        """Wait until a packet of the owner that was sent just now counts, by each way."""
        for way in WAYS:

            async def counts(way: str = way) -> bool:
                return await self.outcomes_of([await self.send(way, owner)]) == Counter({"APPLIED": 1})

            await until(counts, f"{owner.device_id} owns peak shaving for {way}", timeout_s=30)

    async def outcomes(self, each: int = 3) -> dict[tuple[str, str], Counter[str]]:
        """By device and way, what the flag of some packets of both controllers comes to that are sent now."""
        sent = {
            (sender.device_id, way): [await self.send(way, sender) for _ in range(each)]
            for way in WAYS
            for sender in (CONTROLLER, RIVAL)
        }
        return {key: await self.outcomes_of(packet_ids) for key, packet_ids in sent.items()}

    async def outcomes_of(self, packet_ids: list[str]) -> Counter[str]:
        """What the flag of packets comes to; each is stored, for the measurement beside the flag is."""

        async def stored() -> bool:
            of_soc = "event_store WHERE source_event_ref = ANY ($1) AND event_type = 'MeasurementRecorded'"
            return await self.site.count(of_soc, packet_ids) == len(packet_ids)

        await until(stored, f"{packet_ids} are stored", timeout_s=30)
        of_flag = "event_store WHERE source_event_ref = ANY ($1) AND event_type = 'CapabilityStatusReported'"
        applied = await self.site.count(of_flag, packet_ids)
        letters = await self.site.rows("SELECT reason_code, body FROM dead_letter WHERE stage = 'ROUTE'")
        refused = Counter(one["reason_code"] for one in letters if json.loads(one["body"])["packet_id"] in packet_ids)
        return +Counter({"APPLIED": applied, "IGNORED": len(packet_ids) - applied - refused.total(), **refused})


@pytest.fixture
async def flow(site: Site, kafka: EmbeddedKafka) -> AsyncIterator[Flow]:
    """The site with a second worker, on Kafka, and the command API."""
    group = f"binding-changes-{uuid_utils.uuid7()}"
    await start_group_at_end(kafka.bootstrap_servers, group, 4)
    site.another_worker(kafka=kafka.bootstrap_servers, kafka_group_id=group)
    pool = await open_pool(site.database_url, "test")
    app = create_app(pool, lambda: datetime.now(UTC), lambda: str(uuid_utils.uuid7()), Access(None))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://depotgrid") as commands:
        yield Flow(site, kafka, commands)
    await pool.close()


async def test_a_take_over_is_followed_by_every_worker_and_every_way_without_a_second_source(flow: Flow) -> None:
    await flow.command("POST", "/api/device", {"device_id": "ctrl-2", "gateway_id": "gw-1"}, 201)
    recorded = {"device_id": "ctrl-2", "measurand": "SOC", "action": "RECORD_MEASUREMENT"}
    await flow.command("POST", "/api/sensor_action", recorded, 201)
    bound = {"device_id": "ctrl-2", "enabled": False, "capabilities": [{"capability": "PEAK_SHAVING", "measurand": "PEAK_SHAVING"}]}
    incoming = await flow.command("POST", f"/api/depot/{DEPOT_ID}/controller-binding", bound, 201)
    await flow.knows(RIVAL)
    await flow.follows(CONTROLLER)
    applied, ignored = Counter({"APPLIED": 3}), Counter({"IGNORED": 3})
    assert await flow.outcomes() == {
        (device_id, way): outcome for way in WAYS for device_id, outcome in (("ctrl-1", applied), ("ctrl-2", ignored))
    }
    path = f"/api/controller-binding/{incoming['controller_binding_id']}/take-over"
    await flow.command("POST", path, {"expected_device_id": "ctrl-1"}, 200)
    await flow.follows(RIVAL)
    assert await flow.outcomes() == {
        (device_id, way): outcome for way in WAYS for device_id, outcome in (("ctrl-1", ignored), ("ctrl-2", applied))
    }
    await flow.site.rows("UPDATE sensor_action SET enabled = true WHERE device_id = 'ctrl-1' AND measurand = 'PEAK_SHAVING'")

    async def refused() -> bool:
        sent = [await flow.send(way, CONTROLLER) for way in ("mqtt", "kafka")]
        return await flow.outcomes_of(sent) == Counter({"CAPABILITY_SOURCE_CONFLICT": 2})

    await until(refused, "who is enabled without owning is refused by both workers", timeout_s=30)
    conflict = Counter({"CAPABILITY_SOURCE_CONFLICT": 3})
    told = await flow.outcomes()
    assert [told["ctrl-1", way] for way in ("mqtt", "kafka")] == [conflict, conflict]
    assert [told["ctrl-2", way] for way in WAYS] == [applied] * 3
    assert await flow.site.schema_faults() == []
