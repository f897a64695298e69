"""A site with a controller, and what a test does with it: publish packets, look at what became of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from tests.contracts.event_schema import validate_event
from tests.real_services.packet_plan import NumberedPacket, Sender
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import CONTROLLER, rows
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from event_store.database import open_pool
from event_store.read import Position
from event_store.store import PostgresEventStore
from operator_cli.embedded_mosquitto import EmbeddedMosquitto

_numbers = itertools.count(1)


@dataclass
class Site:
    """A site with a worker on it: publish packets, look at what became of them."""

    database_url: str
    mqtt: EmbeddedMosquitto
    worker: WorkerProcess
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list[WorkerProcess])

    async def publish(self, *bodies: bytes, sender: Sender = CONTROLLER) -> None:
        """Publish in order; return when the broker has confirmed all."""
        packets = [NumberedPacket(number, sender, "", body) for number, body in enumerate(bodies, 1)]
        await MqttPublisher(self.mqtt.port, packets, name=f"publisher-{next(_numbers)}").start().finished()

    async def rows(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """One look at the database."""
        return await rows(self.database_url, query, *arguments)

    async def count(self, table_and_condition: str, *arguments: object) -> int:
        """How many rows there are."""
        return int((await self.rows(f"SELECT count(*) FROM {table_and_condition}", *arguments))[0][0])

    async def settle(self, *, sender: Sender = CONTROLLER) -> None:
        """Return when everything published before is stored: a marker behind it is."""
        marker = f"marker-{next(_numbers)}"
        await self.publish(packet(sender, measurands=[{"key": "SOC", "value": 50}], packet_id=marker), sender=sender)
        await self.arrives("event_store WHERE source_event_ref = $1", marker)

    async def arrives(self, table_and_condition: str, *arguments: object, timeout_s: float = 60) -> float:
        """Wait until there is such a row; gives back the seconds."""

        async def there() -> bool:
            return await self.count(table_and_condition, *arguments) > 0

        return await until(there, f"a row in {table_and_condition} {arguments}", timeout_s=timeout_s)

    async def schema_faults(self) -> list[str]:
        """What is wrong with the stored events by the schemas of the contract."""
        pool = await open_pool(self.database_url, "test")
        try:
            stored = await PostgresEventStore(pool).follow(Position(0, 0), 10_000)
        finally:
            pool.terminate()
        assert stored, "no event is stored"
        return [f"{one.event.event_type}: {fault}" for one in stored for fault in validate_event(one.event)]

    def another_worker(self, kafka: str | None = None, kafka_group_id: str | None = None) -> WorkerProcess:
        """Start one more worker on the same site, which ends with the test."""
        settings = {} if kafka_group_id is None else {"kafka_group_id": kafka_group_id}
        made = WorkerProcess(self.folder, self.database_url, mqtt_url=self.mqtt.url(), kafka=kafka, **settings)
        self.workers.append(made)
        return made.start()


def packet(
    sender: Sender = CONTROLLER,
    *,
    measurands: Sequence[object],
    sent_at: datetime | None = None,
    packet_id: str | None = None,
) -> bytes:
    """A packet of these measurands, sent now unless it says otherwise, under an id of its own."""
    return json.dumps(
        {
            "schema_version": "1.0",
            "packet_id": packet_id or f"packet-{next(_numbers)}",
            "gateway_id": sender.gateway_id,
            "device_id": sender.device_id,
            "sent_at": (sent_at or datetime.now(UTC)).isoformat(),
            "measurands": list(measurands),
        }
    ).encode()
